"""The command that judges an inverter, end to end, and one clear line for each kind of bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import sacrebleu

import evaluate
from vec2text import Inverter, runs
from vec2text.config import DataConfig, DecoderConfig, EncoderConfig, ProjectionConfig, RunConfig, TrainingConfig
from vec2text.fingerprint import Fingerprint
from vec2text.metrics import cosine
from vec2text.refinement import RefinementStopped

ROOT = Path(__file__).parent.parent
FRESH = [f"{who} {does} {what}." for who in ("Ivan", "Our tall baker") for does in ("sees", "has", "paints")
         for what in ("2 boats", "an empty house", "Anna", "the train at 10:30 in Dublin")]  # fmt: skip
"""24 sentences that no other test knows."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, labse, text_file, sentences):
    """A folder with a run of 20 steps, and files of sentences."""
    folder, here = tmp_path_factory.mktemp("evaluate"), os.getcwd()
    os.chdir(folder)
    try:
        runs.train(
            RunConfig(
                name="whole",
                encoder=EncoderConfig(str(labse)),
                data=DataConfig([str(text_file)], validation=0.1, test=0.1, max_tokens=30),
                decoder=DecoderConfig("scratch", hidden_size=64, layers=2, heads=2, vocabulary_size=300, dropout=0.0),
                projection=ProjectionConfig("mlp", 2),
                training=TrainingConfig(steps=20, batch_tokens=600, precision="fp32", evaluate_sentences=8),
            )
        )
    finally:
        os.chdir(here)
    (folder / "fresh.txt").write_text("\n".join([*FRESH, "", FRESH[0], f"  {FRESH[1]} "]) + "\n")
    (folder / "all.txt").write_text("\n".join(sentences))
    return folder


@pytest.fixture(scope="module")
def expected(place):
    """The test sentences that the run put aside, their vectors, its inverter, and what comes back."""
    run = place / "runs" / "whole"
    inverter = Inverter.from_pretrained(run / "inverter")
    vectors = np.load(run / "heldout.npy")
    return SimpleNamespace(
        references=(run / "heldout.txt").read_text().splitlines(),
        vectors=vectors,
        inverter=inverter,
        texts=inverter.invert(vectors),
    )


@pytest.fixture
def call(place, monkeypatch, capsys):
    """Run evaluate.py in this process, in the place: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        try:
            code = evaluate.main()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if not line.startswith(("encoding", "Loading", "\r"))]
        return code, captured.out, [line for line in errors if line.strip()]

    return run


@pytest.fixture
def judged(call, tmp_path):
    """Run evaluate.py: (the report that it wrote, stdout, stderr)."""

    def run(*arguments):
        code, out, errors = call("--output", tmp_path / "report.json", *arguments)
        assert code == 0, errors
        return (
            json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name)),
            out,
            errors,
        )

    return run


def values(measured):
    return {name: found["value"] for name, found in measured.items() if isinstance(found, dict) and "value" in found}


def test_the_real_command_judges_the_newest_run_on_its_test_sentences(place, expected, tmp_path):
    line = [sys.executable, str(ROOT / "evaluate.py"), "--output", str(tmp_path / "r.json")]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"r.json", "r.png"}
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["model"] == "runs/whole/inverter"
    found = values(report["results"]["inverter"])
    scores = {
        "bleu": sacrebleu.corpus_bleu(expected.texts, [expected.references]).score,
        "chrf": sacrebleu.corpus_chrf(expected.texts, [expected.references]).score,
        "exact_match": np.mean([a == b for a, b in zip(expected.texts, expected.references, strict=True)]),
    }
    for name, score in scores.items():
        assert found[name] == pytest.approx(score, abs=1e-4), name
    kept = json.loads((place / "runs" / "whole" / "results.json").read_text())
    for system in ("inverter", "nearest training sentence", "zero vector"):  # as training itself judged it
        again = values(report["results"][system])
        for name, digits in (("bleu", 0.06), ("token_f1", 6e-4), ("similarity", 6e-4), ("exact_match", 6e-4)):
            assert again[name] == pytest.approx(kept[system][name], abs=digits), (system, name)
    assert report["left_out"] == {"repeated": 0, "in training": 0, "by limit": 0}
    assert (report["decoding"], report["rounds"], report["candidates"], report["queries"]) == ("greedy", 0, 1, 0)
    assert "nearest training sentence" in done.stdout
    assert report["signatures"]["bleu"] in done.stdout


def test_sentences_of_a_file_are_distinct_and_not_empty(judged):
    report, _, errors = judged("--texts", "fresh.txt")
    assert report["sentences"] == 24
    assert "number_recall" in report["results"]["inverter"]
    assert list(report["results"]["inverter"]["by_length"]) == ["1-4", "5-8", "9-12"]
    assert errors == []


@pytest.mark.filterwarnings("default:.*occur in the training set")
def test_sentences_of_the_run_s_own_training_are_warned_about_counted_and_left_out(judged, place, tmp_path, sentences):
    corpus = json.loads((place / "runs" / "whole" / "corpus.json").read_text())["counts"]
    (tmp_path / "mixed.txt").write_text("\n".join([*FRESH, *(text.upper().rstrip(".") for text in sentences)]))
    report, out, errors = judged("--texts", tmp_path / "mixed.txt")
    assert report["left_out"] == {"repeated": 0, "in training": corpus["train"], "by limit": 0}
    assert report["sentences"] == 24 + corpus["validation"] + corpus["test"]
    assert len(errors) == 1
    assert f"{corpus['train']} of 624 sentences occur in the training set" in errors[0]
    assert f"left out: {corpus['train']} in training" in out


@pytest.mark.filterwarnings("default:.*occur in the training set")
def test_training_sentences_can_be_given(judged, expected, tmp_path):
    encoder = expected.inverter.fingerprint.open_encoder()
    (tmp_path / "train.txt").write_text("\n".join([*FRESH[6:], "Quite another sentence."]))
    report, _, errors = judged("--texts", "fresh.txt", "--train-texts", tmp_path / "train.txt")
    assert (report["sentences"], report["left_out"]["in training"]) == (6, 18)
    assert "18 of 24 sentences" in errors[0]
    asked, known = encoder.encode(FRESH[:6]), [*FRESH[6:], "Quite another sentence."]
    nearest = [known[place] for place in (asked @ encoder.encode(known).T).argmax(1)]
    found = values(report["results"]["nearest training sentence"])
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(nearest, [FRESH[:6]]).score, abs=1e-4)
    assert found["similarity"] == pytest.approx(cosine(encoder.encode(nearest), asked).mean(), abs=1e-4)


def test_repeated_sentences_are_counted_once(judged, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join([*FRESH[:3], "", FRESH[0], f"  {FRESH[1]}", FRESH[0]]))
    report, out, _ = judged("--texts", tmp_path / "texts.txt")
    assert (report["sentences"], report["left_out"]["repeated"]) == (3, 3)
    assert "(left out: 3 repeated)" in out


def test_an_inverter_away_from_its_run_says_what_it_cannot_measure(judged, place, tmp_path):
    shutil.copytree(place / "runs" / "whole" / "inverter", tmp_path / "alone" / "inverter")
    report, out, _ = judged("--model", tmp_path / "alone" / "inverter", "--texts", "fresh.txt")
    assert list(report["results"]) == ["inverter", "zero vector"]
    for name in ("nearest training sentence", "sentences that were in training"):
        assert "holds no run that says what it was trained on" in report["not_measured"][name]
        assert "give --train-texts FILE" in report["not_measured"][name]
        assert f"not measured: {name}: " in out


def test_a_limit_and_beams(judged, expected):
    report, _, _ = judged("--limit", 5, "--num-beams", 3)
    places = np.linspace(0, len(expected.references) - 1, 5).astype(int)
    texts = expected.inverter.invert(expected.vectors[places], num_beams=3)
    references = [expected.references[place] for place in places]
    bleu = sacrebleu.corpus_bleu(texts, [references]).score
    assert values(report["results"]["inverter"])["bleu"] == pytest.approx(bleu, abs=1e-4)
    assert report["decoding"] == "3 beams"
    assert report["left_out"]["by limit"] == len(expected.references) - 5


def test_vectors_as_stores_keep_them(judged, expected):
    flags = ("--noise", "0.01,5", "--quantize", "int8, binary,fp16", "--truncate", "8")
    report, out, errors = judged(*flags)
    assert list(report["robustness"]) == ["noise 0.01", "noise 5", "int8", "binary", "fp16", "first 8 dimensions"]
    recall = {name: row["recall_at_10"]["value"] for name, row in report["robustness"].items()}
    assert recall["fp16"] > recall["int8"] - 1e-9 > recall["binary"] > recall["noise 5"]
    assert recall["fp16"] > 0.99
    kept = expected.vectors.astype(np.float16).astype(np.float32)
    bleu = sacrebleu.corpus_bleu(expected.inverter.invert(kept), [expected.references]).score
    assert values(report["robustness"]["fp16"])["bleu"] == pytest.approx(bleu, abs=1e-4)
    assert "recall@10" in out
    assert errors == []  # of length 1 again: the fingerprint has nothing to warn of


def test_an_independent_judge_measures_its_own_similarity(judged, expected, other_labse):
    from vec2text import load_encoder

    report, _, _ = judged("--judge", other_labse)
    judge = load_encoder(EncoderConfig(str(other_labse)), "cpu")
    similarity = cosine(judge.encode(expected.texts), judge.encode(expected.references)).mean()
    found = values(report["results"]["inverter"])
    assert found["judge_similarity"] == pytest.approx(similarity, abs=1e-4)
    assert abs(found["similarity"] - similarity) > 1e-3
    assert report["judge"] == str(other_labse)
    assert "similarity, other encoder" not in report["not_measured"]


def refinement(refine):
    room = ModuleType("vec2text.refinement")
    room.refine, room.RefinementStopped = refine, RefinementStopped
    return room


def test_refinement_is_reported_round_by_round(judged, expected, monkeypatch):
    seen = []

    def refine(inverter, encoder, vectors, *, rounds=5, candidates=4, polish=True, show=None):
        show(1.0)
        seen.append((inverter.fingerprint.dimension, encoder.dimension, vectors.shape, rounds, candidates, polish))
        found = []
        for number, (text, first) in enumerate(zip(expected.references, expected.texts, strict=True)):
            history = ((first, 1), (text, 9)) if number % 2 else ((text, 1),)  # every second one stops at once
            found.append(SimpleNamespace(text=text, queries=history[-1][1], history=history))
        return found

    monkeypatch.setitem(sys.modules, "vec2text.refinement", refinement(refine))
    report, out, _ = judged("--refine", 2, "--candidates", 6)
    assert seen == [(32, 32, expected.vectors.shape, 2, 6, True)]
    assert values(report["results"]["inverter"])["exact_match"] == 1
    assert (report["decoding"], report["rounds"], report["candidates"]) == ("refined", 2, 6)
    count = len(expected.references)
    assert report["queries"] == pytest.approx((count // 2 * 9 + (count - count // 2)) / count, abs=0.01)
    first, last = report["after_rounds"]
    assert first["exact_match"]["value"] == pytest.approx((count - count // 2) / count, abs=1e-4)
    assert (first["queries"], last["queries"]) == (1, report["queries"])
    assert last["exact_match"]["value"] == 1
    assert "after round" in out


def test_refinement_is_reported_as_it_is(judged, expected):
    from vec2text.refinement import refine

    report, _, _ = judged("--refine", 2, "--candidates", 3, "--limit", 8)
    places = np.linspace(0, len(expected.references) - 1, 8).astype(int)
    encoder = expected.inverter.fingerprint.open_encoder()
    found = refine(expected.inverter, encoder, expected.vectors[places], rounds=2, candidates=3)
    assert report["queries"] == pytest.approx(np.mean([item.queries for item in found]), abs=0.01)
    greedy, *_, last = report["after_rounds"]
    assert 1 == greedy["queries"] < last["queries"] == report["queries"]
    assert report["decoding"] == "refined"
    less, _, _ = judged("--refine", 2, "--candidates", 3, "--limit", 8, "--no-polish")
    assert less["decoding"] == "refined without polish"
    assert less["queries"] < report["queries"]
    similarity = np.mean([item.similarity for item in found])
    sure = np.mean([item.confidence for item in found])
    assert values(report["results"]["inverter"])["confidence"] == pytest.approx(sure, abs=1e-3)
    # None of these eight is exact, so all confidence is too much.
    assert values(report["results"]["inverter"])["exact_match"] == 0
    assert report["results"]["inverter"]["reliability_error"] == pytest.approx(sure, abs=1e-3)
    assert values(report["results"]["inverter"])["similarity"] == pytest.approx(similarity, abs=1e-3)


def test_half_refined_texts_are_not_judged(call, expected, labse_encoder, monkeypatch, tmp_path):
    class Failing:
        name, dimension, asked = labse_encoder.name, labse_encoder.dimension, 0

        def encode(self, texts):
            self.asked += not set(texts) <= set(expected.references)
            if self.asked > 2:  # plain texts and one round
                raise ConnectionError("nobody answers")
            return labse_encoder.encode(texts)

    monkeypatch.setattr(Fingerprint, "open_encoder", lambda *rest: Failing())
    code, out, errors = call("--refine", 4, "--limit", 8, "--output", tmp_path / "report.json")
    assert (code, out, len(errors)) == (2, "", 1)
    assert "of 8 vectors done" in errors[0]
    assert "ConnectionError: nobody answers" in errors[0]
    assert "half-refined texts are not judged" in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_an_inverter_that_is_not_calibrated_has_no_confidence(judged, place):
    run, old = place / "runs" / "whole", place / "old"
    shutil.copytree(run / "inverter", old / "inverter", dirs_exist_ok=True)
    kept = json.loads((old / "inverter" / "inverter.json").read_text())
    assert kept.pop("calibration")["fitted_on"] == 16
    (old / "inverter" / "inverter.json").write_text(json.dumps(kept))
    known = ("--model", old / "inverter", "--texts", "fresh.txt", "--train-texts", "all.txt", "--limit", 4)
    report, out, _ = judged(*known, "--refine", 1)
    assert "confidence" not in report["results"]["inverter"]
    assert "has not been calibrated" in report["not_measured"]["confidence"]
    assert "reliability error" not in out
    assert "confidence" not in judged(*known)[0]["not_measured"]  # nobody refined anything


BAD = {
    "no such model": (["--model", "runs/nowhere", "--texts", "fresh.txt"], "there is no folder runs/nowhere"),
    "a model that is none": (["--model", "cache", "--texts", "fresh.txt"], "it has no inverter.json"),
    "no such texts": (["--texts", "nowhere.txt"], "nowhere.txt"),
    "empty texts": (["--texts", "empty.txt"], "empty.txt: there is no sentence in it"),
    "texts that are none": (["--texts", "bytes.txt"], "bytes.txt is no UTF-8 text"),
    "a folder as texts": (["--texts", "runs"], "Is a directory"),
    "no such training texts": (["--texts", "fresh.txt", "--train-texts", "nowhere.txt"], "nowhere.txt"),
    "all known": (["--texts", "fresh.txt", "--train-texts", "fresh.txt"], "all 24 sentences occur in the training set"),
    "no test sentences": (["--model", "moved/inverter"], "there is no moved/heldout.txt"),
    "test sentences of what comes with the package": (["--model", "minilm-en"], "pretrained/heldout.txt, a run's own"),
    "no such inverter": (["--model", "nowhere/inverter"], "nowhere/inverter"),
    "another encoder": (["--encoder", "OTHER"], "is not the one this was made for"),
    "no such encoder": (["--encoder", "no/such-encoder"], "no/such-encoder"),
    "no such judge": (["--judge", "no/such-judge"], "no/such-judge"),
    "a judge that is not independent": (["--judge", "SAME"], "no independent judge"),
    "no such device": (["--device", "abacus"], "device 'abacus'"),
    "limit": (["--limit", "0"], "--limit is 0; expected at least 1"),
    "rounds": (["--refine", "-1"], "--refine is -1; expected at least 0"),
    "candidates": (["--refine", "1", "--candidates", "-2"], "--candidates is -2; expected at least 1"),
    "candidates of nothing": (["--candidates", "4"], "--candidates has no effect without --refine"),
    "candidates of no rounds": (["--refine", "0", "--candidates", "4"], "--candidates has no effect with --refine 0"),
    "no polish of nothing": (["--no-polish"], "--no-polish has no effect without --refine"),
    "no polish of one round": (["--refine", "1", "--no-polish"], "--no-polish has no effect with --refine 1: only"),
    "beams of refinement": (["--refine", "2", "--num-beams", "4"], "--num-beams has no effect with --refine"),
    "beams": (["--num-beams", "0"], "--num-beams is 0; expected at least 1"),
    "noise of nothing": (["--noise", "0"], "--noise is 0.0; expected shares above 0"),
    "noise without end": (["--noise", "0.1,inf"], "expected shares above 0"),
    "noise that is no number": (["--noise", "loud"], "invalid list of float values value: 'loud'"),
    "quantization": (["--quantize", "int8,int4"], "quantization 'int4' is not known; expected int8, binary, fp16"),
    "truncation": (["--truncate", "32"], "truncation to 32 of 32 dimensions"),
    "output of another kind": (["--output", "report.png"], "expected the name of a .json file"),
    "a folder as output": (["--output", "taken.json"], "--output is taken.json, but taken.json is a folder"),
    "a folder as figure": (["--output", "figure.json"], "--output is figure.json, but figure.png is a folder"),
    "seed": (["--seed", "-1"], "--seed is -1; expected at least 0"),
    "output nowhere": (["--output", "nowhere/report.json"], "in a folder that can be written"),
    "unknown flag": (["--beams", "3"], "unrecognized arguments"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(call, place, labse, other_labse, case):
    arguments, message = BAD[case]
    (place / "empty.txt").write_text("\n \n")
    (place / "bytes.txt").write_bytes(b"caf\xe9\n")
    (place / "heldout.txt").write_text("Of no run at all.\n")
    for name in ("taken.json", "figure.png"):
        (place / name).mkdir(exist_ok=True)
    if not (place / "moved").exists():
        shutil.copytree(place / "runs" / "whole" / "inverter", place / "moved" / "inverter")
    arguments = [{"OTHER": other_labse, "SAME": labse}.get(word, word) for word in arguments]
    before = sorted(place.rglob("*"))
    code, out, errors = call(*([] if "--output" in arguments else ["--output", "bad.json"]), *arguments)
    assert (code, out) == (2, "")
    assert len(errors) == 1, errors
    assert errors[0].startswith("evaluate.py: ")
    assert message in errors[0]
    assert sorted(place.rglob("*")) == before


def test_bad_input_of_the_real_command_is_one_line(place):
    line = [sys.executable, str(ROOT / "evaluate.py"), "--texts", "nowhere.txt"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere.txt" in done.stderr


def test_no_run_at_all(call, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    monkeypatch.chdir(tmp_path)
    assert evaluate.main() == 2


@pytest.mark.parametrize(("failure", "expected_code"), [(OSError("disk full"), 2), (KeyboardInterrupt(), 130)])
def test_no_file_is_seen_unless_it_is_whole(call, tmp_path, monkeypatch, failure, expected_code):
    import vec2text.figures

    def fail(report):
        raise failure

    monkeypatch.setattr(vec2text.figures, "figure", fail)
    code, out, errors = call("--limit", 3, "--output", tmp_path / "report.json")
    assert (code, out, len(errors)) == (expected_code, "", 1)
    assert list(tmp_path.iterdir()) == []


def test_the_help_teaches_and_needs_no_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "evaluate.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for word in (
        "--refine 5 --candidates 4",
        "--noise 0.01,0.05,0.1",
        "nearest training sentence",
        "left out and counted",
    ):
        assert word in done.stdout
    assert "torch" not in done.stderr
