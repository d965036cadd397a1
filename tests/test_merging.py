"""Merged texts hold the changes of both, and what is foretold of them holds where effects add up."""

import numpy as np
import pytest

from vec2text.merging import merges

BASE = "Anna sees a red boat at night."


def counted(texts):
    """Vectors of word counts: in them the effects of words add up, but for the length."""
    words = sorted({word for text in texts for word in text.rstrip(".").split()})
    return np.array([[text.rstrip(".").split().count(word) for word in words] for text in texts], float)


def merged(texts, aim):
    raw = counted([*texts, aim])
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return list(merges(0, texts, vectors[:-1], vectors[-1]))


def test_changes_of_different_words_are_both_made():
    texts = [
        BASE,
        "Maria sees a red boat at night.",
        "Anna sees a red boat in Dublin at night.",
        "Anna hears a red boat.",
    ]
    found = merged(texts, "Maria sees a red boat in Dublin at night.")
    assert found[0][0] == "Maria sees a red boat in Dublin at night."
    assert len({text for text, _ in found}) == len(found)


def test_what_is_foretold_is_the_cosine_where_effects_add_up():
    texts = [BASE, "Maria sees a red boat at night.", "Anna sees a green boat at night."]
    aim = "Maria sees a green boat at night."
    raw = counted([*texts, aim])  # all of one length: the same number of different words
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    ((text, cosine),) = merges(0, texts, vectors[:-1], vectors[-1])
    assert text == aim
    assert cosine == pytest.approx(1)


def test_the_closest_comes_first_and_none_that_is_no_closer_than_what_is_known():
    texts = [
        BASE,
        "Maria sees a red boat at night.",
        "Anna sees a green boat at night.",
        "Anna sees a red boat at noon.",
    ]
    found = merged(texts, "Maria sees a green boat at noon.")
    assert len(found) == 3
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert merged(texts, BASE) == []


@pytest.mark.parametrize("other", ["Paula sees a red boat at night.", "Tom and Paula see a red boat at night."])
def test_changes_of_the_same_words_are_not_merged(other):
    texts = [BASE, "Maria sees a red boat at night.", other]
    vectors = np.eye(3)
    target = np.array([-1.0, 1.0, 1.0]) / 3**0.5  # whatever they say
    assert list(merges(0, texts, vectors, target)) == []


@pytest.mark.parametrize("base", ["word", "a  b", "Über, den!", "猫が好き。", "x\ty\nz"])
def test_spaces_and_marks_stay_as_they_are(base):
    texts = [base, f"one: {base}", f"{base} (two)"]
    target = np.array([-1.0, 1.0, 1.0]) / 3**0.5
    assert [text for text, _ in merges(0, texts, np.eye(3), target)] == [f"one: {base} (two)"]
