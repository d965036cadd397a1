"""Splices: the beginning of one sentence, the end of another, and two words that both have where they meet."""

from pathlib import Path

import pytest

from vec2text.splices import splices

PAIR = ["we went to the shop yesterday", "they drove to the old harbour", "nothing of all this"]


@pytest.fixture(scope="module")
def sentences():
    """Some of those that come with the repository."""
    return (Path(__file__).parent.parent / "data" / "sentences.en.txt").read_text(encoding="utf-8").splitlines()[:1500]


def origins(text, sentences):
    """Pairs of sentences that a splice can be made of."""
    words = text.split()
    for place in range(1, len(words) - 1):
        begun = [s for s in sentences if s.split()[: place + 2] == words[: place + 2]]
        ended = [s for s in sentences if s.split()[-(len(words) - place) :] == words[place:]]
        yield from ((a, b) for a in begun for b in ended if a != b)


def test_two_sentences_that_share_two_words_make_two_splices():
    assert set(splices(PAIR, 10)) == {"we went to the old harbour", "they drove to the shop yesterday"}


def test_every_splice_is_of_two_sentences_and_new_and_none_comes_twice(sentences):
    found = list(splices(sentences, 200, seed=3))
    assert len(found) == len(set(found)) == 200
    for text in found:
        assert next(origins(text, sentences), None), text
    assert not set(found) & set(sentences)


def test_the_seed_says_which(sentences):
    first, again, other = (list(splices(sentences, 50, seed)) for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)


@pytest.mark.parametrize(("least", "most"), [(1, 6), (7, 9), (12, None)])
def test_lengths_are_kept_to(sentences, least, most):
    found = [len(text.split()) for text in splices(sentences, 60, min_words=least, max_words=most)]
    assert found
    assert min(found) >= least
    assert most is None or max(found) <= most


@pytest.mark.parametrize("texts", [[], ["one"], ["one two", "one two"], ["a b c", "d e f"], ["a b c d"]])
def test_where_nothing_is_shared_there_are_none(texts):
    assert list(splices(texts, 5)) == []


def test_none_are_none(sentences):
    assert list(splices(sentences, 0)) == []
