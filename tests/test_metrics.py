"""Metrics: known answers, from an outside implementation or by hand."""

import random
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from vec2text.metrics import (
    bleu_counts,
    bleu_of,
    chrf_counts,
    chrf_of,
    corpus_bleu,
    corpus_chrf,
    cosine,
    exact_match,
    exact_matches,
    letter_matches,
    name_counts,
    number_counts,
    reliability_error,
    rouge_l,
    sentence_bleu,
    signatures,
    token_f1,
    word_overlaps,
)

REFERENCES = ["the cat sat on the mat .", "A dog runs through the wide green park!", "Where is it?"]
CLOSE = ["the cat sat on a mat .", "A dog runs in the wide green garden!", "where is it?"]
TEXT_METRICS = (corpus_bleu, corpus_chrf, exact_match, token_f1)
PER_SENTENCE = (
    exact_matches,
    letter_matches,
    word_overlaps,
    rouge_l,
    number_counts,
    name_counts,
    bleu_counts,
    chrf_counts,
)


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


@pytest.mark.parametrize("metric", TEXT_METRICS + PER_SENTENCE)
@pytest.mark.parametrize(("references", "found"), [(["a", "b"], ["a"]), (["a"], ["a", "b"]), ([], ["a"])])
def test_texts_of_unequal_number_are_refused_with_both_numbers(metric, references, found):
    with pytest.raises(ValueError, match=f"{len(references)} references and {len(found)} reconstructions"):
        metric(references, found)


@pytest.mark.parametrize("metric", TEXT_METRICS + PER_SENTENCE)
def test_a_metric_of_nothing_is_refused_and_not_zero(metric):
    with pytest.raises(ValueError, match="0 references"):
        metric([], [])


def test_vectors_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="n"):
        cosine(np.ones((2, 3)), np.ones((3, 3)))


# -- against outside implementations, on many pairs ------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(sentences):
    """200 sentences, and versions of them with words dropped, doubled, swapped and changed in case; some are empty."""
    chance = random.Random(0)
    changed = []
    for text in sentences[::3]:
        words = [word for word in text.split() for _ in range(chance.choice([0, 1, 1, 1, 1, 2]))]
        if chance.random() < 0.3:
            chance.shuffle(words)
        if chance.random() < 0.2:
            words = [word.upper() for word in words]
        changed.append(" ".join(words))
    changed[:3] = ["", sentences[3], "no word in common"]
    return sentences[::3], changed


def test_chrf_is_that_of_sacrebleu(pairs):
    references, found = pairs
    assert corpus_chrf(references, found) == sacrebleu.CHRF().corpus_score(found, [references]).score


def test_sums_of_counts_give_the_corpus_score_of_any_sentences(pairs):
    references, found = pairs
    for counts, of, score in ((bleu_counts, bleu_of, sacrebleu.BLEU()), (chrf_counts, chrf_of, sacrebleu.CHRF())):
        rows = counts(references, found)
        groups = [range(200), range(7), [3], [3, 3, 3, 50], [0]]
        sums = np.stack([rows[list(group)].sum(0) for group in groups])
        expected = [
            score.corpus_score([found[place] for place in group], [[references[place] for place in group]]).score
            for group in groups
        ]
        np.testing.assert_allclose(of(sums), expected, rtol=1e-12)
        np.testing.assert_allclose(of(sums.astype(float)), expected, rtol=1e-12)


def test_sentence_bleu_is_that_of_sacrebleu(pairs):
    references, found = pairs
    expected = [sacrebleu.sentence_bleu(b, [a]).score for a, b in zip(references, found, strict=True)]
    np.testing.assert_allclose(sentence_bleu(bleu_counts(references, found)), expected, rtol=1e-12)
    assert sentence_bleu(bleu_counts(["Yes."], ["Yes."])) == pytest.approx(100)  # two tokens have no 4-grams


def test_signatures_are_those_of_sacrebleu():
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    for metric in (bleu, chrf):
        metric.corpus_score(["a b c"], [["a b d"]])
    found = signatures()
    assert found["bleu"] == str(bleu.get_signature())
    assert found["chrf"] == str(chrf.get_signature())
    assert "tok:13a" in found["bleu"]
    assert "eff:yes" in found["sentence_bleu"]


def test_rouge_l_is_that_of_rouge_score(pairs):
    references, found = pairs
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(a, b)["rougeL"].fmeasure for a, b in zip(references, found, strict=True)]
    np.testing.assert_allclose(rouge_l(references, found), expected, rtol=1e-12)
    assert 0.3 < np.mean(expected) < 0.95


def test_rouge_l_by_hand():
    # police killed the gunman / police kill the gunman: 3 of 4 words in order, of both (Lin 2004, section 3.1).
    assert rouge_l(["police killed the gunman"], ["police kill the gunman"]) == pytest.approx(3 / 4)
    assert rouge_l(["police killed the gunman"], ["the gunman kill police"]) == pytest.approx(2 / 4)
    assert rouge_l(["a b c d"], ["d"]) == pytest.approx(2 * 1 / 5)


def test_rouge_l_knows_words_of_every_script():
    assert rouge_l(["Это мой ёж."], ["это, мой ёж"]) == 1  # rouge-score finds no word in either
    assert RougeScorer(["rougeL"]).score("Это мой ёж.", "это, мой ёж")["rougeL"].fmeasure == 0


def test_word_overlaps_are_those_of_scikit_learn(pairs):
    references, found = pairs

    def labels(text):  # a word that occurs twice is two labels
        seen = Counter()
        for word in text.lower().split():
            yield f"{word} {seen[word]}"
            seen[word] += 1

    binary = MultiLabelBinarizer().fit([[*labels(text)] for text in references + found])
    true, given = (binary.transform([[*labels(text)] for text in texts]) for texts in (references, found))
    expected = [
        precision_recall_fscore_support(a[None], b[None], average="samples", zero_division=0)[:3]
        for a, b in zip(true, given, strict=True)
    ]
    np.testing.assert_allclose(word_overlaps(references, found), expected, rtol=1e-12)


def test_word_overlaps_by_hand():
    np.testing.assert_allclose(word_overlaps(["a b c d"], ["a b x"]), [[2 / 3, 2 / 4, 4 / 7]])
    np.testing.assert_allclose(word_overlaps(["a", "", "a"], ["b", "", ""]), np.zeros((3, 3)))


# -- what a sentence says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "found", "same"),
    [
        ("It's 5 o'clock.", "its 5 OCLOCK", True),
        ("Straße!", "STRASSE", True),
        ("It is 5.", "It is 6.", False),
        ("The cat sat.", "The cats sat.", False),
        ("...", "?!", False),
        ("a", "", False),
    ],
)
def test_a_match_but_for_case_and_punctuation(reference, found, same):
    assert letter_matches([reference], [found]) == same
    assert letter_matches([reference], [reference]) == 1


@pytest.mark.parametrize(
    ("reference", "found", "counts"),
    [
        ("At 10:30 for $3.50 or 1,000.", "It was 10:30, not 1,000", (2, 3)),
        ("At 10:30.", "At 10.", (0, 1)),
        ("7 and 7", "7", (1, 2)),
        ("7", "7 and 7", (1, 1)),
        ("Seven.", "7", (0, 0)),
        ("Ticket: 42.", "42!", (1, 1)),
        ("7", "", (0, 1)),
    ],
)
def test_numbers_that_came_back(reference, found, counts):
    np.testing.assert_array_equal(number_counts([reference], [found]), [counts])


@pytest.mark.parametrize(
    ("reference", "found", "counts"),
    [
        ("We met Tom in Dublin.", "We met Ann in Dublin.", (1, 2)),
        ("Tom is here.", "Ann is here.", (0, 0)),  # whether the first word is a name cannot be told
        ("NASA called.", "The NASA called.", (1, 1)),
        ("She saw Tom.", "Tom saw her.", (1, 1)),
        ("She saw Tom.", "She saw tom.", (0, 1)),
        ("You know that I am and I'm.", "You know.", (0, 0)),
        ("Tom told NASA that I'm in O'Hare.", "O Hare, NASA", (3, 3)),
        ("Mit Öl und Ärger.", "Mit Öl.", (1, 2)),
        ("Он видел Анну и Анну.", "Анну", (1, 2)),
        ("He bought an iPhone 15.", "He bought an iphone 15.", (0, 1)),
        ("", "Tom", (0, 0)),
    ],
)
def test_names_and_capitalised_words_that_came_back(reference, found, counts):
    np.testing.assert_array_equal(name_counts([reference], [found]), [counts])


@pytest.mark.parametrize("metric", PER_SENTENCE)
def test_metrics_of_single_sentences_do_not_depend_on_the_others(metric, pairs):
    references, found = pairs
    whole = metric(references, found)
    assert len(whole) == len(references)
    np.testing.assert_array_equal(metric(references[::-1], found[::-1]), whole[::-1])
    np.testing.assert_array_equal(metric(references[40:43], found[40:43]), whole[40:43])


def test_the_means_of_single_sentences_are_the_corpus_metrics(pairs):
    references, found = pairs
    assert exact_match(references, found) == exact_matches(references, found).mean() > 0
    assert token_f1(references, found) == word_overlaps(references, found)[:, 2].mean()


# -- confidences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidences", "exact", "error"),
    [
        ([1.0, 1.0, 0.0], [1, 1, 0], 0.0),
        ([1.0, 1.0, 0.0], [0, 0, 1], 1.0),
        ([0.75] * 4, [1, 1, 1, 0], 0.0),  # right as often as it says
        ([0.75] * 4, [1, 0, 0, 0], 0.5),
        ([0.71, 0.79], [1, 0], 0.25),  # one bin: mean confidence 0.75, half of them right
        ([0.69, 0.71], [1, 0], 0.51),  # two bins: (0.31 + 0.71) / 2
        ([0.2, 0.2, 0.2, 0.9], [0, 0, 1, 1], (3 * (1 / 3 - 0.2) + 0.1) / 4),
    ],
)
def test_the_reliability_error_by_hand(confidences, exact, error):
    assert reliability_error(np.array(confidences), np.array(exact, bool)) == pytest.approx(error)


def test_the_reliability_error_is_the_weighted_distance_of_scikit_learns_reliability_diagram():
    random = np.random.default_rng(0)
    confidences = random.random(500)
    exact = random.random(500) < confidences**2
    share, mean = calibration_curve(exact, confidences, n_bins=10)
    weights = np.histogram(confidences, np.linspace(0, 1, 11))[0] / 500
    assert reliability_error(confidences, exact) == pytest.approx((weights * np.abs(share - mean)).sum())
    assert reliability_error(confidences, exact) > 0.1


def test_the_reliability_error_of_nothing_or_of_unequal_numbers_is_refused():
    for confidences, exact in (([], []), ([0.5], [True, False])):
        with pytest.raises(ValueError, match=f"{len(confidences)} confidences for {len(exact)} sentences"):
            reliability_error(np.array(confidences), np.array(exact, bool))
