"""Sentences: their form, and when two of them are the same."""

import unicodedata

import numpy as np
import pytest

from vec2text.sentences import case_variants, letters, normalise, occurring, sentence_key

COMPOSED, DECOMPOSED = "Это мой ёж, café", unicodedata.normalize("NFD", "Это мой ёж, café")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a\tb \n c\u00a0d\u2028e\u3000f\x85g ", "a b c d e f g"),
        (DECOMPOSED, COMPOSED),
        ("", ""),
        (" \t\n", ""),
        ("Is it so? Yes.", "Is it so? Yes."),
        ("ﬁ ² Ａ", "ﬁ ² Ａ"),  # what only looks alike stays (NFC, not NFKC)
    ],
)
def test_normalise_composes_and_makes_every_run_of_white_space_one_space(text, expected):
    assert normalise(text) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The cat sat.", "the CAT sat"),
        ("The cat sat.", "«The cat», sat?!"),
        ("The cat sat.", " The\tcat  sat . "),
        ("It's 5 o'clock", "its 5 oclock"),
        ("Стоимость билета: 42 рубля!", "стоимость БИЛЕТА 42 рубля"),
        (COMPOSED, DECOMPOSED),
        ("Straße", "STRASSE"),
        ("नमस्ते!", "नमस्ते"),
        ("Ёж", unicodedata.normalize("NFD", "ёж")),
    ],
)
def test_sentences_that_differ_in_case_punctuation_spaces_or_composition_have_one_key(one, other):
    assert sentence_key(one) == sentence_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The cat sat.", "The cats sat."),
        ("a b", "b a"),
        ("It is 4.", "It is 5."),
        ("мой", "мои"),  # й is и with a combining mark
        ("ёж", "еж"),
        ("cafe", "café"),
        ("नमस्ते", "नमसते"),  # a mark alone makes the difference
        ("...", "?!"),
        ("", "."),
    ],
)
def test_sentences_of_different_words_have_different_keys(one, other):
    assert sentence_key(one) != sentence_key(other)


def test_keys_of_many_sentences_do_not_collide_and_fill_64_bits(sentences):
    keys = {sentence_key(text) for text in sentences}
    assert len(keys) == len(sentences)
    assert max(keys) < 2**64
    assert max(keys) > 2**63 > min(keys)


@pytest.mark.parametrize(("text", "left"), [("It's 5 o'clock!", "its5oclock"), ("Straße", "strasse"), ("?!", "?!")])
def test_letters_are_what_is_left_without_case_punctuation_and_spaces(text, left):
    assert letters(text) == left


def test_texts_occur_among_known_ones_whatever_their_case_and_punctuation():
    known = ["The cat sat.", "Where is it?", "..."]
    texts = ["the cat, SAT!", "The cat sits.", "Where is it?", "?!", "..."]
    np.testing.assert_array_equal(occurring(texts, iter(known)), [True, False, True, False, True])
    np.testing.assert_array_equal(occurring(texts, []), [False] * 5)
    assert occurring([], known).shape == (0,)


def test_it_can_be_told_among_many_that_are_read_once(sentences):
    assert occurring(sentences[::7], (text.upper() for text in sentences)).all()
    assert not occurring(sentences[::7], (f"{text} Yes." for text in sentences)).any()


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("Tom met Ann.", {"tom met ann.", "tom met Ann.", "Tom met ann."}),
        ("On March 11th", {"on march 11th", "on March 11th", "On march 11th"}),
        ("hello you", {"Hello you"}),
        ("TV is on", {"tv is on", "tV is on"}),
        ("Ёлка", {"ёлка"}),
        ("東京 7", set()),
        ("", set()),
    ],
)
def test_the_ways_to_write_a_text_in_another_case(text, others):
    first, *rest = case_variants(text)
    assert first == text
    assert (set(rest), len(rest)) == (others, len(others))
