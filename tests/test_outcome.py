"""What a run ends with: a judged, calibrated inverter."""

from dataclasses import replace

from vec2text import Inverter, outcome, runs
from vec2text.corpus import build_corpus


def test_a_run_ends_with_a_judged_inverter_and_is_reused(config, tmp_path):
    report = runs.train(config)
    inverter = Inverter.from_pretrained(tmp_path / "runs" / "a" / "inverter")
    assert inverter.training_summary["test"] == report
    assert report["sentences"] == 20
    assert report["inverter"]["bleu"] < report["nearest training sentence"]["bleu"]  # four steps teach nothing
    table = outcome.describe(report, config)
    for word in ("exact match", "BLEU", "nearest training sentence", "zero vector", "prefix length 2", "greedy"):
        assert word in table
    assert runs.train(config) == report


def test_a_run_ends_with_a_calibrated_inverter(config, tmp_path, monkeypatch):
    seen, original = [], outcome.calibrate

    def spy(inverter, encoder, references, vectors, show):
        seen.extend(references)
        return original(inverter, encoder, references, vectors, show)

    monkeypatch.setattr(outcome, "calibrate", spy)
    report = runs.train(config)
    corpus = build_corpus(config.data)
    assert len(seen) == config.training.evaluate_sentences
    assert set(seen) <= {corpus.texts[row] for row in corpus.rows("validation")}
    inverter = Inverter.from_pretrained(tmp_path / "runs" / "a" / "inverter")
    assert inverter.calibration.fitted_on == 2 * len(seen)
    found = report["confidence"]
    assert [figures["sentences"] for figures in found.values()] == [20, 8]
    for figures in found.values():
        assert figures["exact_match"] == 0
        # Nothing comes back after four steps, and that is what it expects.
        assert 0 < figures["confidence"] == figures["reliability_error"] < 0.1
    assert "confidence, refined: mean" in outcome.describe(report, config)
    assert "reliability_error" in (tmp_path / "runs" / "a" / "inverter" / "README.md").read_text()


def test_a_run_may_end_without_confidence(config, tmp_path):
    config = replace(config, training=replace(config.training, calibration_sentences=0))
    report = runs.train(config)
    assert "confidence" not in report
    assert "confidence" not in outcome.describe(report, config)
    inverter = Inverter.from_pretrained(tmp_path / "runs" / "a" / "inverter")
    assert inverter.calibration is None
    assert inverter.training_summary["test"] == report
