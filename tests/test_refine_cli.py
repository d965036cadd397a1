"""`generate.py --refine`: the real command line on a small inverter."""

import json

import numpy as np
import pytest

import generate
from vec2text import Constraints, Inverter
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
    found = refine(inverter, labse_encoder, np.load(place / "vectors.npy"), rounds=2, candidates=3, batch_size=3)
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


class Failing:
    """An encoder that is gone after some calls."""

    def __init__(self, encoder, calls):
        self.encoder, self.left = encoder, calls
        self.name, self.dimension = encoder.name, encoder.dimension

    def encode(self, texts):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("nobody answers")
        return self.encoder.encode(texts)


@pytest.fixture
def failing(monkeypatch, labse_encoder):
    """Makes the inverter's encoder one that is gone after some calls."""
    from vec2text.fingerprint import Fingerprint

    def make(calls):
        monkeypatch.setattr(Fingerprint, "open_encoder", lambda *rest: Failing(labse_encoder, calls))

    return make


@pytest.mark.parametrize(
    ("calls", "done", "begun"), [(0, 0, 0), (1, 0, 3), (3, 3, 0), (4, 3, 3), (7, 6, 1)]
)  # batches of 3, 3 and 1 vectors, and three calls for each
def test_when_the_encoder_fails_what_was_found_is_written(
    place, monkeypatch, capsys, tmp_path, labse_encoder, failing, calls, done, begun
):
    # No edits: how often they ask is not known before.
    monkeypatch.setattr("vec2text.refinement._STEPS", 0)
    monkeypatch.setattr("vec2text.refinement._POLISHES", 0)
    words = ["--vector", str(place / "vectors.npy"), "--refine", "2", "--candidates", "3", "--batch-size", "3"]
    out = tmp_path / "out.jsonl"
    failing(calls)
    assert called(place, monkeypatch, *words, "--format", "jsonl", "--output", str(out)) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("generate.py: ")]
    assert len(lines) == 1
    assert f"of 7 vectors {done} were done and {begun} done in part" in lines[0]
    assert "ConnectionError: nobody answers" in lines[0]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    inverter, vectors = Inverter.from_pretrained(place / "inverter", device="cpu"), np.load(place / "vectors.npy")
    whole = refine(inverter, labse_encoder, vectors, rounds=2, candidates=3, batch_size=3)
    plain = inverter.invert(vectors)
    assert [row["index"] for row in rows] == list(range(7))
    for row, result in zip(rows[:done], whole, strict=False):
        assert (row["text"], row["queries"], row["rounds"]) == (result.text, result.queries, result.rounds)
    for row, result in zip(rows[done : done + begun], whole[done:], strict=False):
        assert (row["text"], row["queries"]) == result.history[0]
        assert (row["similarity"], row["rounds"]) == (pytest.approx(row["hypotheses"][0]["similarity"]), 0)
    for row, text in zip(rows[done + begun :], plain[done + begun :], strict=True):
        assert (row["text"], row["similarity"], row["queries"], row["hypotheses"]) == (text, None, 0, [])
        assert set(row) == set(rows[0])
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_when_the_encoder_fails_standard_output_has_all_lines_too(place, monkeypatch, capsys, failing):
    assert called(place, monkeypatch, "--vector", str(place / "vectors.npy")) == 0
    plain = capsys.readouterr().out
    failing(0)
    assert called(place, monkeypatch, "--vector", str(place / "vectors.npy"), "--refine", "2") == 3
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--starts-with", "The o"], Constraints("The o")),
        (["--max-words", "2"], Constraints(max_words=2)),
        (["--must-contain", "cat", "--must-contain", "on"], Constraints(must_contain=["cat", "on"])),
        (["--starts-with", "A ", "--must-contain", "boat", "--max-words", "3"], Constraints("A ", ["boat"], 3)),
    ],
)
@pytest.mark.parametrize(
    "manner", [[], ["--refine", "2", "--n-best", "9"], ["--num-beams", "3"], ["--temperature", "1"]]
)
def test_constraints_hold_for_every_text(place, monkeypatch, tmp_path, words, asked, manner):
    if asked.must_contain:  # words are put into greedy texts only
        manner = [word for word in manner if word not in ("--num-beams", "3", "--temperature", "1")]
    out = tmp_path / "out.jsonl"
    to = ["--vector", str(place / "vectors.npy"), "--format", "jsonl", "--output", str(out)]
    assert called(place, monkeypatch, *to, *words, *manner) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    texts = [text for row in rows for text in (row["text"], *(it["text"] for it in row.get("hypotheses", ())))]
    assert len(rows) == 7
    assert all(map(asked.obeyed_by, texts)), texts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--refine", "-1"], "--refine is -1; expected at least 0"),
        (["--refine", "2", "--candidates", "-3"], "--candidates is -3; expected at least 1"),
        (["--refine", "2", "--candidates", "0"], "--candidates is 0; expected at least 1"),
        (["--candidates", "3"], "--candidates has no effect without --refine"),
        (["--n-best", "3"], "--n-best has no effect without --refine"),
        (["--no-polish"], "--no-polish has no effect without --refine"),
        (["--refine", "1", "--no-polish"], "--no-polish has no effect with --refine 1: only the last of several"),
        (["--refine", "1", "--n-best", "3"], "--n-best is 3 with --format text"),
        (["--refine", "1", "--n-best", "0", "--format", "jsonl"], "--n-best is 0"),
        (["--refine", "1", "--num-beams", "1"], "--num-beams has no effect with --refine"),
        (["--refine", "1", "--temperature", "0.5"], "--temperature has no effect with --refine"),
        (["--refine", "1", "--max-new-tokens", "0"], "max_tokens is 0; expected at least 1"),
        (["--refine", "1", "--max-new-tokens", "400"], "has room for"),
        (["--refine", "1", "--encoder", "nobody/has-this"], "encoder 'nobody/has-this' cannot be loaded"),
        (["--starts-with", " "], "starts_with is empty"),
        (["--must-contain", ""], "must_contain has an empty word"),
        (["--max-words", "0", "--refine", "1"], "max_words is 0; expected at least 1"),
        (["--starts-with", "a b c", "--max-words", "2"], "starts_with 'a b c' and max_words 2 contradict"),
        (["--must-contain", "red boat", "--max-words", "1"], "must_contain 'red boat' and max_words 1 contradict"),
        (["--must-contain", "a", "--num-beams", "2"], "must_contain and num_beams 2 contradict"),
        (["--must-contain", "a", "--top-k", "5"], "must_contain and sampling contradict"),
        (["--starts-with", "The old cat sees a boat", "--max-new-tokens", "2"], "but max_tokens is 2"),
        (["--must-contain", "Zyxwvutsrq", "--max-new-tokens", "2", "--refine", "1"], "but max_tokens is 2"),
        (["--starts-with", "Zyx", "--must-contain", "qqqq", "--max-new-tokens", "5"], "no text of at most 5 tokens"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(place, monkeypatch, capsys, words, message):
    assert called(place, monkeypatch, "--vector", str(place / "vectors.npy"), *words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert len([line for line in said.err.splitlines() if not line.startswith(("inverter:", "Loading", "\r"))]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--starts-with", "Zyx", "--must-contain", "qqqq", "--max-new-tokens", "5"], "no text of at most 5 tokens"),
        (["--starts-with", "Zyx", "--must-contain", "q", "--max-new-tokens", "4", "--refine", "1"], "at most 4 tokens"),
        (["--must-contain", "a", "--num-beams", "2"], "must_contain and num_beams 2 contradict"),
        (["--starts-with", "The old cat sees a boat", "--max-new-tokens", "2"], "but max_tokens is 2"),
    ],
)
def test_what_no_vector_allows_is_refused_before_anything_is_embedded(place, monkeypatch, capsys, words, message):
    def open_encoder(*_):
        raise AssertionError("the encoder was opened")

    monkeypatch.setattr("vec2text.fingerprint.Fingerprint.open_encoder", open_encoder)
    assert called(place, monkeypatch, "--text", "Anna sees a red boat.", *words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
