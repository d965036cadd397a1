import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import LetterEncoder

from vec2text.config import EncoderConfig
from vec2text.encoders import load_encoder
from vec2text.evaluation import Decoded, Examiner, Known, baselines, evaluate, held_out, independent, make_report
from vec2text.fingerprint import Fingerprint
from vec2text.metrics import cosine
from vec2text.robustness import changed


def test_an_inverter_that_is_always_right_scores_full(inverter, encoder, sentences, monkeypatch):
    vectors = encoder.encode(sentences[:20])
    monkeypatch.setattr(type(inverter), "invert", lambda self, vectors, **options: list(sentences[:20]))
    scores = evaluate(inverter, encoder, sentences[:20], vectors).scores
    assert scores.exact_match == 1
    assert scores.token_f1 == 1
    assert scores.bleu > 99.99
    assert scores.similarity > 0.9999


def test_the_similarity_is_that_of_what_came_back(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[:5])
    found = evaluate(inverter, encoder, sentences[:5], vectors)
    assert found.reconstructions == inverter.invert(vectors)
    assert np.allclose(found.similarities, cosine(encoder.encode(found.reconstructions), vectors))
    assert found.scores.exact_match == 0


def test_the_nearest_training_sentence_is_found_by_brute_force(inverter, encoder, corpus, vectors, monkeypatch):
    rows = corpus.rows("test")
    references = [corpus.texts[row] for row in rows]
    train = corpus.rows("train")
    everything = vectors[train]
    expected = [corpus.texts[train[(everything @ vector).argmax()]] for vector in vectors[rows]]
    seen = {}

    def spy(references, reconstructions, similarities):
        seen[tuple(reconstructions)] = similarities
        return original(references, reconstructions, similarities)

    import vec2text.evaluation as room

    original = room.score
    monkeypatch.setattr(room, "score", spy)
    found = baselines(inverter, encoder, references, vectors[rows], Known(corpus.texts, train, vectors))
    assert set(found) == {"nearest training sentence", "zero vector"}
    assert tuple(expected) in seen
    assert found["nearest training sentence"].exact_match == 0  # test sentences are not in training
    guess = inverter.unaided()
    assert (guess,) * len(references) in seen


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(sentences, encoder):
    """Every second sentence was for training."""
    return Known(sentences, np.arange(0, 600, 2), encoder.encode(sentences))


def test_known_sentences_are_those_of_its_rows(known, sentences, encoder):
    assert list(known) == sentences[::2]
    asked = encoder.encode(sentences[1:40:2])
    found, cosines = known.nearest(asked)
    everything = encoder.encode(sentences[::2])
    assert found == [sentences[2 * place] for place in (asked @ everything.T).argmax(1)]
    np.testing.assert_allclose(cosines, (asked @ everything.T).max(1), rtol=1e-5)


def test_held_out_sentences_are_not_among_those_of_training(known, sentences):
    given = [text.upper() for text in sentences[:10]] + ["A new one.", "And another.", "And a third."]
    with pytest.warns(UserWarning, match="5 of 13 sentences occur in the training set"):
        texts, left_out = held_out(given, known, None)
    assert texts == [*given[1:10:2], *given[10:]]
    assert left_out == {"in training": 5, "by limit": 0}


def test_a_limit_spreads_over_all_sentences(sentences):
    texts, left_out = held_out(sentences, None, 7)
    assert len(texts) == 7
    assert (texts[0], texts[-1]) == (sentences[0], sentences[-1])
    places = [sentences.index(text) for text in texts]
    assert {b - a for a, b in itertools.pairwise(places)} <= {99, 100}
    assert left_out == {"in training": 0, "by limit": 593}
    assert held_out(sentences[:3], None, 7)[0] == sentences[:3]


def test_nothing_left_is_an_error(known, sentences):
    with pytest.raises(ValueError, match="all 3 sentences occur in the training set"):
        held_out(sentences[0:6:2], known, None)


def rebuilt(text, queries, *history):
    return SimpleNamespace(text=text, queries=queries, history=history)


def test_confidences_are_those_of_all_texts_or_none():
    def found(*known):
        return [SimpleNamespace(text="a", queries=1, confidence=sure) for sure in known]

    assert Decoded.of(found(0.25, 0.75)).confidences == (0.25, 0.75)
    assert Decoded.of(found(None, None)).confidences == ()


def test_confidences_are_measured_beside_the_rest(inverter, encoder, fresh):
    texts, vectors = fresh
    found = Decoded([*texts[:30], *["no"] * 30], confidences=(0.9,) * 30 + (0.2,) * 30)
    measuring, kept = examiner(texts, vectors, encoder), {"same": vectors}
    report = make_report(inverter, measuring, vectors, lambda rows: found, changed=kept, **ABOUT)
    for measured in (report.results["inverter"], report.robustness["same"].measured):
        assert measured.metrics["confidence"].value == pytest.approx(0.55)
        assert measured.reliability_error == pytest.approx(0.15)
    assert "confidence" not in report.results["zero vector"].metrics


def test_what_stopped_early_keeps_what_it_had():
    found = Decoded.of(
        [rebuilt("b", 5, ("a", 1), ("b", 5)), rebuilt("c", 1, ("c", 1)), rebuilt("f", 9, ("d", 1), ("e", 5), ("f", 9))]
    )
    assert found.texts == ["b", "c", "f"]
    assert found.queries == 5
    assert found.history == ((["a", "c", "d"], 1), (["b", "c", "e"], 11 / 3), (["b", "c", "f"], 5))


def test_refinement_without_a_history_has_no_rounds():
    assert Decoded.of([SimpleNamespace(text="a", queries=2), SimpleNamespace(text="b", queries=4)]) == Decoded(
        ["a", "b"], 3
    )


ABOUT = {
    "model": "here", "encoder": "letters", "judge": None, "left_out": {}, "decoding": "perfect", "rounds": 0,
    "candidates": 1,
}  # fmt: skip


@pytest.fixture
def fresh(sentences, encoder):
    texts = sentences[1:120:2]
    return texts, encoder.encode(texts)


def examiner(texts, vectors, encoder, **spaces):
    return Examiner(texts, {"similarity": (encoder, vectors), **spaces})


def test_a_perfect_decoder_scores_full_beside_baselines_that_do_not(inverter, encoder, fresh, known):
    texts, vectors = fresh
    report = make_report(
        inverter, examiner(texts, vectors, encoder), vectors, lambda rows: Decoded(texts), known=known, **ABOUT
    )
    assert list(report.results) == ["inverter", "nearest training sentence", "zero vector"]
    for name in ("exact_match", "exact_letters", "rouge_l", "token_f1"):
        assert report.results["inverter"].metrics[name].value == 1, name
    for name in ("bleu", "sentence_bleu", "chrf"):
        assert report.results["inverter"].metrics[name].value == pytest.approx(100), name
    assert report.results["inverter"].metrics["similarity"].value == pytest.approx(1)
    assert report.results["nearest training sentence"].metrics["exact_match"].value == 0
    expected = cosine(encoder.encode(known.nearest(vectors)[0]), vectors).mean()
    assert report.results["nearest training sentence"].metrics["similarity"].value == pytest.approx(expected)
    assert report.results["zero vector"].metrics["token_f1"].value < 0.5
    assert (report.sentences, report.prefix_length, report.queries) == (60, 3, 0)
    assert report.not_measured == {
        "numbers that came back, %": "no sentence holds a number in digits",
        "names, capitalised words, %": "no sentence holds a capitalised word but the first",
    }


def test_without_training_sentences_their_nearest_is_not_measured(inverter, encoder, fresh):
    texts, vectors = fresh
    why = {"nearest training sentence": "nobody knows"}
    measuring = examiner(texts, vectors, encoder)
    report = make_report(inverter, measuring, vectors, lambda rows: Decoded(texts), not_measured=why, **ABOUT)
    assert list(report.results) == ["inverter", "zero vector"]
    assert report.not_measured["nearest training sentence"] == "nobody knows"


def test_rounds_are_measured_one_by_one(inverter, encoder, fresh):
    texts, vectors = fresh
    history = tuple((texts[:number] + ["no"] * (60 - number), 4.0 * step) for step, number in enumerate((15, 30, 60)))
    report = make_report(
        inverter, examiner(texts, vectors, encoder), vectors, lambda rows: Decoded(texts, 8.0, history), **ABOUT
    )
    assert [found.exact_match.value for found in report.after_rounds] == [0.25, 0.5, 1]
    assert [found.queries for found in report.after_rounds] == [0, 4, 8]
    assert report.after_rounds[-1].bleu == report.results["inverter"].metrics["bleu"]
    assert report.queries == 8


def test_changed_vectors_are_decoded_and_compared_with_what_they_were(inverter, encoder, fresh):
    texts, vectors = fresh
    seen = []

    def decode(rows):
        seen.append(rows)
        return Decoded(texts if len(seen) == 1 else ["a"] * 60, 2.0)

    kept = changed(vectors, noise=[0.3], quantize=["binary"], normalized=True)
    measuring = examiner(texts, vectors, encoder)
    report = make_report(inverter, measuring, vectors, decode, changed=kept, **ABOUT)
    assert all(np.array_equal(a, b) for a, b in zip(seen, [vectors, *kept.values()], strict=True))
    assert list(report.robustness) == ["noise 0.3", "binary"]
    for found in report.robustness.values():
        assert found.measured.metrics["exact_match"].value == 0
        similarity = cosine(np.repeat(encoder.encode(["a"]), 60, 0), vectors).mean()
        assert found.measured.metrics["similarity"].value == pytest.approx(similarity)
        assert 0 < found.recall_at_10.value < 1
        assert found.queries == 2


def test_recall_at_10_needs_more_than_10_sentences(inverter, encoder, fresh):
    texts, vectors = fresh[0][:10], fresh[1][:10]
    measuring, kept = examiner(texts, vectors, encoder), {"same": vectors}
    report = make_report(inverter, measuring, vectors, lambda rows: Decoded(texts), changed=kept, **ABOUT)
    assert report.robustness["same"].recall_at_10 is None
    assert report.not_measured["recall@10"] == "10 sentences; expected more than 10"


def test_a_text_is_embedded_once_however_often_it_came_back(fresh):
    texts, vectors = fresh
    counting, other = LetterEncoder(), LetterEncoder(dimension=16, seed=5)
    measuring = examiner(texts, vectors, counting, judge_similarity=(other, other.encode(texts)))
    found = measuring.measure(["a", "b"] * 30)
    assert counting.queries == 2
    for name, encoder in (("similarity", counting), ("judge_similarity", other)):
        expected = cosine(encoder.encode(["a", "b"] * 30), encoder.encode(texts)).mean()
        assert found.metrics[name].value == pytest.approx(expected)


def test_evaluating_while_training_draws_no_resamples(inverter, encoder, sentences, monkeypatch):
    import vec2text.evaluation as room

    monkeypatch.setattr(room, "bootstrap", None)
    monkeypatch.setattr(room, "measure", None)
    assert evaluate(inverter, encoder, sentences[:3], encoder.encode(sentences[:3])).scores.exact_match == 0


def test_an_independent_judge_is_of_another_space(labse, other_labse):
    fingerprint = Fingerprint.of(load_encoder(EncoderConfig(str(labse)), "cpu"))
    assert independent(str(other_labse), fingerprint, "cpu").dimension == 32
    with pytest.raises(ValueError, match="no independent judge: name another"):
        independent(str(labse), fingerprint, "cpu")
    with pytest.raises(ValueError, match="no/such-judge"):
        independent("no/such-judge", fingerprint, "cpu")
