"""`generate.py --refine`: the real command line on a small inverter."""

import json

import numpy as np
import pytest

import generate
from vec2text import Inverter
from vec2text.calibration import Calibration
from vec2text.refinement import refine


@pytest.fixture(scope="module")
def place(tmp_path_factory, labse, gpt2, labse_encoder, sentences):
    """An untrained inverter of the small LaBSE's space, and a file of its vectors."""
    from vec2text.config import DecoderConfig, ProjectionConfig
    from vec2text.decoders import load_decoder
    from vec2text.fingerprint import Fingerprint

    folder = tmp_path_factory.mktemp("refine")
    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 40)
    made = Inverter.build(ProjectionConfig("linear", 2), decoder, tokenizer, Fingerprint.of(labse_encoder), 12)
    made.save_pretrained(folder / "inverter")
    made.calibration = Calibration(1.0, 0.5, 0.0, 10)
    made.save_pretrained(folder / "calibrated")
    np.save(folder / "vectors.npy", labse_encoder.encode(sentences[:7]))
    return folder


def called(place, monkeypatch, *words, model="inverter"):
    base = ["generate.py", "--model", str(place / model), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", [*base, *words])
    try:
        return generate.main()
    except SystemExit as error:
        return error.code


def test_the_rows_are_those_of_refine(place, monkeypatch, labse_encoder, tmp_path):
    words = ["--vector", str(place / "vectors.npy"), "--refine", "2", "--candidates", "3", "--n-best", "2"]
    out = tmp_path / "out.jsonl"
    assert called(place, monkeypatch, *words, "--format", "jsonl", "--output", str(out), "--batch-size", "3") == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    inverter = Inverter.from_pretrained(place / "inverter", device="cpu")
    found = refine(inverter, labse_encoder, np.load(place / "vectors.npy"), rounds=2, candidates=3)
    assert [row["index"] for row in rows] == list(range(7))
    for row, result in zip(rows, found, strict=True):
        assert (row["text"], row["queries"], row["rounds"]) == (result.text, result.queries, result.rounds)
        assert row["similarity"] == pytest.approx(result.similarity, abs=1e-5)
        assert [entry["text"] for entry in row["hypotheses"]] == [entry.text for entry in result.hypotheses[:2]]
    assert max(row["queries"] for row in rows) > 1
    assert {row["confidence"] for row in rows} == {None}


def test_a_calibrated_inverter_says_how_sure_it_is(place, monkeypatch, labse_encoder, tmp_path):
    words = ["--vector", str(place / "vectors.npy"), "--refine", "1", "--candidates", "2", "--format", "jsonl"]
    out = tmp_path / "out.jsonl"
    assert called(place, monkeypatch, *words, "--output", str(out), model="calibrated") == 0
    inverter = Inverter.from_pretrained(place / "calibrated", device="cpu")
    found = refine(inverter, labse_encoder, np.load(place / "vectors.npy"), rounds=1, candidates=2)
    sure = [json.loads(line)["confidence"] for line in out.read_text().splitlines()]
    assert sure == pytest.approx([result.confidence for result in found], abs=1e-3)
    assert all(0 < value < 1 for value in sure)


def test_no_rounds_give_the_plain_texts(place, monkeypatch, capsys):
    words = ["--vector", str(place / "vectors.npy")]
    assert called(place, monkeypatch, *words) == 0
    plain = capsys.readouterr().out
    assert called(place, monkeypatch, *words, "--refine", "0") == 0
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--refine", "-1"], "rounds is -1; expected at least 0"),
        (["--refine", "2", "--candidates", "-3"], "candidates is -3; expected at least 0"),
        (["--candidates", "3"], "--candidates has no effect without --refine"),
        (["--n-best", "3"], "--n-best has no effect without --refine"),
        (["--refine", "1", "--n-best", "3"], "--n-best is 3 with --format text"),
        (["--refine", "1", "--n-best", "0", "--format", "jsonl"], "--n-best is 0"),
        (["--refine", "1", "--num-beams", "3"], "--num-beams has no effect with --refine"),
        (["--refine", "1", "--temperature", "0.5"], "--temperature has no effect with --refine"),
        (["--refine", "1", "--max-new-tokens", "0"], "max_tokens is 0; expected at least 1"),
        (["--refine", "1", "--max-new-tokens", "400"], "has room for"),
        (["--refine", "1", "--encoder", "nobody/has-this"], "encoder 'nobody/has-this' cannot be loaded"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(place, monkeypatch, capsys, words, message):
    assert called(place, monkeypatch, "--vector", str(place / "vectors.npy"), *words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert len([line for line in said.err.splitlines() if not line.startswith(("inverter:", "Loading", "\r"))]) == 1
