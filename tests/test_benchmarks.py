"""The benchmark suite: every row runs, its JSON holds ratios, and the rivals do what ours does, only in another way."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import peaks
import rivals
import turns

from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.decoders import load_decoder
from vec2text.fingerprint import Fingerprint
from vec2text.inverter import Inverter
from vec2text.vectors import unit

ROOT = Path(__file__).parent.parent


def run(program, *arguments):
    """A benchmark as its users start it, on the CPU; what it printed."""
    command = [sys.executable, str(ROOT / "benchmarks" / program), *map(str, arguments)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def texts(inverter, sentences):
    """Token ids of some sentences, of different lengths."""
    found = inverter.tokenizer(sentences[::37])["input_ids"]
    return [np.array(ids) for ids in found if len(ids) < inverter.max_tokens]


@pytest.fixture
def some_vectors(texts):
    return unit(np.random.default_rng(0).standard_normal((len(texts), 32)).astype(np.float32))


def padded(texts):
    lengths = torch.tensor([len(text) for text in texts])
    ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(text) for text in texts], batch_first=True)
    return ids, lengths


def test_every_row_runs_and_holds_ratios(tmp_path):
    printed = run("speed.py", "--quick", "--output", tmp_path / "deep" / "bench")
    report = json.loads((tmp_path / "deep" / "bench.json").read_text())
    (section,) = report["sections"]
    assert section["device"].startswith("cpu, ")
    assert "TFLOP/s" in section["device"]
    assert "--model" in section["skipped"]["refinement"]
    assert {line["row"] for line in section["rows"]} == {"training", "decoding", "embedding", "startup"}
    for line in section["rows"]:
        assert 0 < line["low"] <= line["ratio"] <= line["high"]
        assert line["ours"] > 0
        assert line["theirs"] > 0
        assert line["what"] in printed
    against = {line["against"] for line in section["rows"]}
    rivals = {
        "original loop",
        "Trainer, batches as large",
        "Trainer, its batches of 8",
        "generate",
        "SentenceTransformer.encode",
        "import torch",
        "bare python",
    }
    assert against == rivals | {"floor", "peak of the model's shapes", "peak of a square product"}
    same = next(line for line in section["rows"] if line["unit"] == "same texts")
    assert same["ratio"] == 1


def test_a_trained_inverter_is_refined(tmp_path, gpt2, labse_encoder, text_file):
    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 40)
    space = Fingerprint.of(labse_encoder)
    Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, space, 8).save_pretrained(tmp_path / "inverter")
    given = ("--model", tmp_path / "inverter", "--heldout", text_file, "--output", tmp_path / "bench")
    run("speed.py", "refinement", "--quick", *given)
    (line,) = json.loads((tmp_path / "bench.json").read_text())["sections"][0]["rows"]
    assert line["against"] == "one greedy pass"
    assert "queries a sentence" in line["remark"]


def test_an_inverter_is_adapted_to_other_spaces(tmp_path, gpt2, labse_encoder, text_file):
    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 40)
    space = Fingerprint.of(labse_encoder)
    Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, space, 8).save_pretrained(tmp_path / "inverter")
    given = ("--model", tmp_path / "inverter", "--texts", text_file, "--test", 20, "--output", tmp_path / "table.json")
    printed = run("adaptation.py", *given)
    rows = json.loads((tmp_path / "table.json").read_text())
    assert len({row["space"] for row in rows}) == 5
    assert {row["pairs"] for row in rows} == {0, 100, 300}
    own, turned = rows[0], next(row for row in rows if row["space"] == "rotated" and row["pairs"] == 300)
    assert turned["rouge_l"] == pytest.approx(own["rouge_l"], abs=0.05)  # a rotation loses nothing
    assert "mean token embedding" in printed


def test_methods_of_refinement_are_compared(tmp_path, gpt2, labse_encoder, text_file):
    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 60)
    space = Fingerprint.of(labse_encoder)
    made = Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, space, 8, corrects=True)
    made.save_pretrained(tmp_path / "inverter")
    given = ("--model", tmp_path / "inverter", "--texts", text_file, "--limit", 3, "--rounds", 2, "--candidates", 2)
    printed = run("refinement.py", *given, "--large", 1, 3, "--output", tmp_path / "methods")
    report = json.loads((tmp_path / "methods.json").read_text())
    by_method = {point["method"] for point in report["points"]}
    assert {f"branches and edits, {count} a round" for count in (2, 3, 8)} < by_method
    assert {f"with learned correction, {count} a round" for count in (2, 3, 8)} < by_method
    assert report["sentences"] == 3
    early = report["early_stop"]  # an inverter without training finds nothing, so nothing stops
    assert 1 < early["queries"] == early["without"]
    assert early["same_text"] == 1
    assert f"{early['queries']:.1f} queries a vector instead of" in printed
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_sizes_and_projections_are_compared(tmp_path, labse, text_file):
    given = [
        "--texts",
        text_file,
        "--limit",
        200,
        "--encoder",
        labse,
        "--cache",
        tmp_path / "cache",
        "--runs",
        tmp_path,
    ]
    given += ["--steps", 2, "--batch-sentences", 4]
    first, second = rows_of(run("ablation.py", "sizes", *given, "--only", "width 256"))
    assert first[0] == "width 256"
    assert second[0] == "width 256, twice the sentences"
    assert (first[2], second[2]) == ("8", "16")
    assert first[1] == second[1]
    assert re.fullmatch(r"\d+\.\d", first[3])
    assert re.fullmatch(r"\d+\.\d%", first[4])
    (row,) = rows_of(run("ablation.py", *given, "--only", "zero_pad", "--seeds", 1))
    assert row[:2] == ["zero_pad, prefix 1", "1"]
    assert len(row) == 7
    assert all("±" in cell for cell in row[2:])
    assert (tmp_path / "zero_pad-prefix1-seed0" / "noise.json").exists()
    assert rows_of(run("ablation.py", *given, "--only", "zero_pad", "--seeds", 1)) == [row]  # nothing is run again


def rows_of(printed):
    """The cells of a printed table's rows, without its heading."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_scaling_counts_sentences_and_vectors(tmp_path):
    printed = run("scaling.py", "--sentences", 400, "--vectors", 20, 40, "--output", tmp_path / "scaling")
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert [row["count"] for row in report["sentences"]] == [400]
    assert [row["count"] for row in report["vectors"]] == [20, 40]
    assert all(row["peak MiB"] > 0 and row["rate"] > 0 for rows in report.values() for row in rows)
    assert report["vectors"][0]["slope"] is None
    assert "slope" in printed


def test_the_original_loop_learns_from_the_same_loss(inverter, texts, some_vectors):
    loop = rivals.OriginalTraining(rivals.as_others_open_it(inverter), texts, some_vectors)
    ours = inverter(torch.from_numpy(some_vectors), *padded(texts))
    torch.testing.assert_close(loop.loss(np.arange(len(texts))), ours)
    assert loop.run(1) > rivals.SAMPLES_A_BATCH


def test_trainer_learns_from_the_same_loss(inverter, texts, some_vectors):
    samples = rivals.Samples(texts, some_vectors, inverter.end_id)
    module = rivals.Labelled(rivals.as_others_open_it(inverter))
    theirs = module(**rivals.padded([samples[place] for place in range(len(samples))]))["loss"]
    torch.testing.assert_close(theirs, inverter(torch.from_numpy(some_vectors), *padded(texts)))


def test_rivals_write_the_same_texts(inverter, some_vectors):
    ours = inverter.invert(some_vectors, max_tokens=9)
    other, vectors = rivals.as_others_open_it(inverter), torch.from_numpy(some_vectors)
    assert rivals.original_decoding(other, vectors, 9) == ours
    assert rivals.generate(other, vectors, 9, 4, do_sample=False) == ours
    assert any(ours)


def test_ratios_are_those_of_each_round():
    line = turns.compare("row", "what", "other", "things/s", [2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    assert (line.ours, line.theirs, line.ratio, line.low, line.high) == (4.0, 1.0, 3.0, 2.0, 4.0)
    assert "2..4" in turns.table([line])


def test_each_has_its_turn_after_a_round_to_warm_up():
    order = []
    found = turns.in_turn({name: lambda name=name: order.append(name) or 1.0 for name in "ab"}, 2)
    assert order == list("ababab")
    assert found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_the_operations_of_a_step_are_those_of_its_matrices(inverter):
    """Two layers of width 32 and a vocabulary of V, on one text of 5 tokens after 3 prefix tokens."""
    layers, head = 2 * 12 * 32 * 32, inverter.decoder.get_output_embeddings().weight.numel()
    projection = 32 * 32 + 32 * 3 * 32
    wanted = 6 * (8 * layers + 6 * head + projection) + 3 * 2 * 4 * 32 * (8 * 9 // 2)
    assert peaks.training_operations(inverter, np.array([5])) == wanted


def test_the_floor_counts_weights_once_a_token(inverter):
    one, many = (peaks.Floor(inverter, np.full(count, 6), 1) for count in (1, 64))
    assert one.bytes < many.bytes < 64 * one.bytes
    assert many.operations == pytest.approx(64 * one.operations)
    assert one.seconds(peak=1e12, bandwidth=1.0) == one.bytes
    assert one.seconds(peak=1.0, bandwidth=1e12) == one.operations
