"""Metrics: known answers, from an outside implementation or by hand."""

import numpy as np
import pytest
import sacrebleu

from vec2text.metrics import corpus_bleu, cosine, exact_match, token_f1

REFERENCES = ["the cat sat on the mat .", "A dog runs through the wide green park!", "Where is it?"]
CLOSE = ["the cat sat on a mat .", "A dog runs in the wide green garden!", "where is it?"]
TEXT_METRICS = (corpus_bleu, exact_match, token_f1)


@pytest.mark.parametrize("found", [CLOSE, REFERENCES, CLOSE[::-1]])
def test_bleu_is_that_of_sacrebleu(found):
    assert corpus_bleu(REFERENCES, found) == sacrebleu.BLEU().corpus_score(found, [REFERENCES]).score


def test_bleu_is_of_the_whole_corpus_and_not_a_mean_of_sentences():
    mean = np.mean([corpus_bleu([a], [b]) for a, b in zip(REFERENCES, CLOSE, strict=True)])
    assert abs(corpus_bleu(REFERENCES, CLOSE) - mean) > 1


def test_bleu_by_hand():
    # 5 tokens each: 4 of 5 words match, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; lengths are the same.
    expected = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert corpus_bleu(["one two three four five"], ["one two three four six"]) == pytest.approx(expected)


def test_a_reconstruction_that_is_too_short_is_punished_and_one_that_is_too_long_is_less_precise():
    reference, half = ["one two three four five six seven eight"], ["one two three four"]
    assert corpus_bleu(reference, half) == pytest.approx(100 * np.exp(1 - 8 / 4))  # the brevity penalty alone
    assert corpus_bleu(half, reference) == pytest.approx(100 * (4 / 8 * 3 / 7 * 2 / 6 * 1 / 5) ** 0.25)


@pytest.mark.parametrize(("metric", "best"), [(corpus_bleu, 100), (exact_match, 1), (token_f1, 1)])
def test_the_same_texts_are_best_and_texts_without_a_common_word_worst(metric, best):
    assert metric(REFERENCES, REFERENCES) == pytest.approx(best)
    assert metric(["one two three four"], ["five six seven eight nine"]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", TEXT_METRICS)
def test_an_empty_reconstruction_is_worst(metric):
    assert metric(["one two"], [""]) == 0


@pytest.mark.parametrize(
    ("found", "share"), [(["a", "b", "c", "d"], 1), (["a", "b", "c", "x"], 0.75), (["A", "b.", " c", "dd"], 0)]
)
def test_exact_match_is_the_share_that_is_right_to_the_letter(found, share):
    assert exact_match(["a", "b", "c", "d"], found) == share


@pytest.mark.parametrize(
    ("reference", "found", "expected"),
    [
        ("a b c d", "a b x", 2 * 2 / (4 + 3)),  # precision 2/3, recall 2/4
        ("a b x", "a b c d", 2 * 2 / (3 + 4)),
        ("a a b", "a b b b", 2 * 2 / (3 + 4)),  # a once and b once: as often as both have it
        ("a", "a a a a", 2 * 1 / (1 + 4)),
        ("b a", "A B", 1),  # neither case nor order matters
        ("a b", "c d", 0),
        ("cat.", "cat", 0),
        ("", "", 0),
    ],
)
def test_token_f1_by_hand(reference, found, expected):
    assert token_f1([reference], [found]) == pytest.approx(expected)


def test_token_f1_is_the_mean_of_the_sentences():
    assert token_f1(["a b", "c d", "e f"], ["a b", "c x", "y z"]) == pytest.approx((1 + 0.5 + 0) / 3)


def test_cosine_by_hand():
    a = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    b = np.array([[4.0, 3.0], [0.0, 5.0], [-2.0, -2.0], [2.0, 2.0]])
    np.testing.assert_allclose(cosine(a, b), [24 / 25, 0, -1, 1 / np.sqrt(2)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosine_is_that_of_each_pair_of_rows_whatever_their_lengths(dtype):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 20, 7)).astype(dtype)
    expected = [x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    lengths = np.geomspace(1e-3, 1e3, 20, dtype=dtype)[:, None]
    np.testing.assert_allclose(cosine(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(cosine(a * lengths, b / lengths), expected, rtol=1e-5)


def test_cosine_of_a_zero_row_is_zero_and_not_nan():
    np.testing.assert_array_equal(cosine(np.zeros((2, 3)), np.array([[1.0, 2, 3], [0, 0, 0]])), [0, 0])


@pytest.mark.parametrize("metric", TEXT_METRICS)
@pytest.mark.parametrize(("references", "found"), [(["a", "b"], ["a"]), (["a"], ["a", "b"]), ([], ["a"])])
def test_texts_of_unequal_number_are_refused_with_both_numbers(metric, references, found):
    with pytest.raises(ValueError, match=f"{len(references)} references and {len(found)} reconstructions"):
        metric(references, found)


@pytest.mark.parametrize("metric", TEXT_METRICS)
def test_a_metric_of_nothing_is_refused_and_not_zero(metric):
    with pytest.raises(ValueError, match="0 references"):
        metric([], [])


def test_vectors_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="n"):
        cosine(np.ones((2, 3)), np.ones((3, 3)))
