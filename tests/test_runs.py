"""A run from its configuration to its report, and what it refuses to go on with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import read_jsonl

from vec2text import Inverter, runs
from vec2text.batches import Examples
from vec2text.config import (
    DecoderConfig,
    EncoderConfig,
)
from vec2text.corpus import build_corpus
from vec2text.encoders import load_encoder
from vec2text.fingerprint import Fingerprint
from vec2text.storage import locked


def test_a_run_with_correction_keeps_sentences_for_it_and_ends_with_an_inverter_that_corrects(config, labse, tmp_path):
    training = replace(config.training, steps=8, optimizer="muon", correction_fraction=0.4, evaluate_every=8)
    runs.train(replace(config, training=training))
    folder = tmp_path / "runs" / "a"
    inverter = Inverter.from_pretrained(folder / "inverter")
    assert inverter.correction is not None
    assert any(parameter.any() for parameter in inverter.correction.parameters())  # zeros before they were trained
    assert inverter.decoder.config.n_positions == 3 * 2 + 2 * config.data.max_tokens + 1
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if "loss/validation" in row]
    assert {"validation/bleu", "validation/refined_bleu", "validation/refined_similarity"} <= set(rows[-1])
    encoder = inverter.fingerprint.open_encoder()
    known = runs.known_sentences(folder, encoder, inverter.fingerprint)
    corpus = build_corpus(config.data, lambda text: None)
    assert sorted(known) == sorted(corpus.texts[row] for row in corpus.rows("train"))
    assert inverter.training_summary["training sentences"] == len(corpus.rows("train"))


def test_too_few_sentences_for_both_kinds_are_refused(config):
    training = replace(config.training, correction_fraction=0.0001)
    with pytest.raises(ValueError, match=r"correction_fraction is 0\.0001, which leaves \d+ of \d+ .* and 0 for corr"):
        runs.train(replace(config, training=training))


def test_correction_without_an_encoder_is_refused_before_the_work(config, sentences, labse, tmp_path):
    vectors = load_encoder(EncoderConfig(str(labse))).encode(sentences)
    np.savez(tmp_path / "pairs.npz", text=np.array(sentences), vector=vectors)
    pairs = [str(tmp_path / "pairs.npz")]
    data, encoder = replace(config.data, paths=pairs), EncoderConfig("them", kind="precomputed", vectors=pairs)
    given = replace(config, encoder=encoder, data=data)
    with pytest.raises(ValueError, match=r"correction_fraction is 0\.4.*encoder\.kind=precomputed"):
        runs.train(replace(given, training=replace(config.training, correction_fraction=0.4)))


def test_splices_without_an_encoder_are_refused_before_the_work(config, tmp_path):
    data, encoder = replace(config.data, splices=0.5), EncoderConfig("them", kind="precomputed", vectors=["none.npz"])
    with pytest.raises(ValueError, match=r"data\.splices is 0\.5.*encoder\.kind=precomputed"):
        runs.train(replace(config, encoder=encoder, data=data))


def test_a_run_learns_from_splices_until_its_last_fifth(config, monkeypatch, tmp_path):
    seen = []
    lines = (Path(__file__).parent.parent / "data" / "sentences.en.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "real.txt").write_text("\n".join(lines[:400]), encoding="utf-8")
    original = Examples.batch

    def watched(self, members):
        seen.append((len(self), int(members.max())))
        return original(self, members)

    monkeypatch.setattr(Examples, "batch", watched)
    data = replace(config.data, paths=[str(tmp_path / "real.txt")], splices=0.5)
    runs.train(replace(config, data=data, training=replace(config.training, steps=10, evaluate_every=10)))
    sizes = [size for size, _ in seen]
    both, alone = sorted(set(sizes), reverse=True)[:2]
    assert 1.2 * alone < both < 1.6 * alone
    assert set(sizes[:8]) == {both}
    assert sizes.index(alone) >= 8
    assert sizes.count(alone) >= 2
    assert max(place for size, place in seen if size == both) >= alone


def test_splices_that_changed_under_a_run_are_refused(config, tmp_path):
    lines = (Path(__file__).parent.parent / "data" / "sentences.en.txt").read_text(encoding="utf-8").splitlines()[:400]
    longer = [line for line in lines if len(line.split()) > 9]
    texts = tmp_path / "some.txt"
    texts.write_text("\n".join(lines), encoding="utf-8")
    given = replace(config, data=replace(config.data, paths=[str(texts)], splices=0.5, max_words=9))
    runs.train(given)
    (tmp_path / "runs" / "a" / "results.json").unlink()
    runs.train(given)
    (tmp_path / "runs" / "a" / "results.json").unlink()
    texts.write_text("\n".join(line for line in lines if line not in longer), encoding="utf-8")
    with pytest.raises(ValueError, match=r"the splices have changed since .*a was started[^\n]*$"):
        runs.train(given)


def test_a_loaded_gpt2_with_a_frozen_decoder_trains(config, gpt2):
    data = replace(config.data, max_tokens=40)
    report = runs.train(replace(config, data=data, decoder=DecoderConfig(str(gpt2), "projection_only")))
    assert set(report["inverter"]) == {"exact_match", "bleu", "token_f1", "similarity"}


def test_a_truncation_that_keeps_all_is_refused_before_the_work(config, monkeypatch):
    monkeypatch.setattr(runs, "encode_corpus", None)
    training = replace(config.training, truncate=[16, 40], changed_share=0.5)
    with pytest.raises(ValueError, match=r"training\.truncate is 40, but the encoder's vectors have 32 dimensions"):
        runs.train(replace(config, training=training))


def test_sentences_that_changed_under_a_run_are_refused(config, text_file, tmp_path):
    runs.train(config)
    (tmp_path / "runs" / "a" / "results.json").unlink()
    more = tmp_path / "more.txt"
    more.write_text(text_file.read_text())
    text_file_config = replace(config, name="b", data=replace(config.data, paths=[str(more)]))
    runs.train(text_file_config)
    (tmp_path / "runs" / "b" / "results.json").unlink()
    more.write_text(text_file.read_text() + "One more sentence that was not there.\n")
    with pytest.raises(ValueError, match=r"the sentences have changed since .*b was started"):
        runs.train(text_file_config)


def test_another_configuration_or_a_foreign_folder_is_refused(config, tmp_path):
    runs.train(config)
    with pytest.raises(ValueError, match=r"another configuration \(training\.steps: 4 -> 5\).*another name"):
        runs.train(replace(config, training=replace(config.training, steps=5)))
    (tmp_path / "runs" / "mine").mkdir()
    (tmp_path / "runs" / "mine" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds no run"):
        runs.train(replace(config, name="mine"))


def test_a_corpus_that_is_too_small_for_the_splits_is_refused(config, tmp_path):
    (tmp_path / "few.txt").write_text("Only one sentence.\n")
    few = replace(config, data=replace(config.data, paths=[str(tmp_path / "few.txt")]))
    with pytest.raises(ValueError, match=r"1 usable sentences.*too few"):
        runs.train(few)


def test_a_run_that_is_at_work_elsewhere_is_refused(config, tmp_path):
    folder = tmp_path / "runs" / "a"
    runs._open_run(config)
    with locked(folder), pytest.raises(ValueError, match="at work in another process"):
        runs.train(config)
    assert runs.train(config)["sentences"] == 20


def test_a_run_that_never_trained_takes_another_configuration(config):
    wrong = replace(config, decoder=DecoderConfig("nobody/has-this"))
    with pytest.raises(ValueError, match="nobody/has-this"):
        runs.train(wrong)
    assert runs.train(config)["sentences"] == 20
    with pytest.raises(ValueError, match="started with another configuration"):
        runs.train(wrong)


def test_a_run_tells_what_it_was_trained_on(config, tmp_path, labse_encoder, monkeypatch):
    runs.train(config)
    folder = tmp_path / "runs" / "a"
    fingerprint = Inverter.from_pretrained(folder / "inverter").fingerprint
    monkeypatch.setattr(labse_encoder, "encode", None)  # the vectors are those of the cache
    known = runs.known_sentences(folder, labse_encoder, fingerprint)
    corpus = build_corpus(config.data)
    assert list(known) == [corpus.texts[row] for row in corpus.rows("train")]
    assert not set(known) & set((folder / "heldout.txt").read_text().splitlines())
    texts, cosines = known.nearest(known.vectors[known.rows[:5]])
    np.testing.assert_allclose(cosines, 1, rtol=1e-5)
    assert texts == list(known)[:5]


def test_a_run_with_relative_paths_is_found_from_elsewhere(config, tmp_path, labse_encoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.train(replace(config, runs="some/runs", data=replace(config.data, cache="kept")))
    fingerprint = Inverter.from_pretrained("some/runs/a/inverter").fingerprint
    (tmp_path / "elsewhere").mkdir()
    for place, folder in (("some/runs", "a"), ("elsewhere", "../some/runs/a")):
        monkeypatch.chdir(tmp_path / place)
        assert len(list(runs.known_sentences(Path(folder), labse_encoder, fingerprint))) > 400
        assert not Path("kept").exists()


def test_where_nothing_is_known_it_says_so(config, tmp_path, labse_encoder):
    fingerprint = Fingerprint.of(labse_encoder)
    with pytest.raises(ValueError, match=r"holds no run that says what it was trained on \(there is no config\.json\)"):
        runs.known_sentences(tmp_path, labse_encoder, fingerprint)
    runs.train(config)
    for path in (tmp_path / "cache").glob("texts-*.txt"):
        path.unlink()
    with pytest.raises(ValueError, match=r"there is no file .* where its sentences were kept"):
        runs.known_sentences(tmp_path / "runs" / "a", labse_encoder, fingerprint)
