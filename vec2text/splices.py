"""Splices: new texts for training, each the beginning of one sentence and the end of another.

The two share two words in a row, and there one goes over into the other, so that most splices read like sentences.
An encoder gives a vector to any text: from splices an inverter learns more of the vector space than the sentences
at hand show. All words of the sentences are in memory, as numbers: some 30 bytes a word, while splices are made.

Knows nothing of files, vectors or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

_DRAWN = 200_000  # places where a splice could go over, drawn at a time
_IN_VAIN = 10  # such draws in a row without a new splice: there are no more


def splices(
    sentences: Iterable[str], count: int, seed: int = 0, min_words: int = 1, max_words: int | None = None
) -> Iterator[str]:
    """Up to `count` distinct splices, none of which is a sentence; fewer where the sentences share too little.

    Args:
        sentences: normalised ones, words separated by single spaces.
        count: how many.
        seed: of which ones.
        min_words: of the shortest.
        max_words: of the longest; None: no limit.
    """
    random = np.random.default_rng(seed)
    words, flat, starts = _numbered(sentences)
    lengths = np.diff(starts)
    owner = np.repeat(np.arange(len(lengths)), lengths)  # (all words,) the sentence of each
    inside = np.flatnonzero((np.arange(len(flat)) > starts[owner]) & (np.arange(len(flat)) + 1 < starts[owner + 1]))
    following = np.append(flat[1:], 0)
    pairs = flat[inside].astype(np.int64) * len(words) + following[inside]
    order = np.argsort(pairs, kind="stable")
    inside, pairs = inside[order], pairs[order]  # places of a pair of words lie beside each other
    first, last = np.searchsorted(pairs, pairs, "left"), np.searchsorted(pairs, pairs, "right")
    seen = {hash(flat[begin:end].tobytes()) for begin, end in pairwise(starts.tolist())}
    made = vain = 0
    while made < count and vain < _IN_VAIN and len(pairs):
        drawn = random.integers(len(pairs), size=min(_DRAWN, 4 * (count - made) + 64))
        other = first[drawn] + (random.random(len(drawn)) * (last[drawn] - first[drawn])).astype(np.int64)
        left, right = inside[drawn], inside[other]
        begun, ends = starts[owner[left]], starts[owner[right] + 1]
        size = left - begun + ends - right
        wanted = (owner[left] != owner[right]) & (size >= min_words)
        if max_words is not None:
            wanted &= size <= max_words
        wanted &= flat[left - 1] != flat[right - 1]  # else another place makes the same text
        vain += 1
        for begin, middle, on, end in zip(begun[wanted], left[wanted], right[wanted], ends[wanted], strict=True):
            numbers = np.concatenate([flat[begin:middle], flat[on:end]])
            key = hash(numbers.tobytes())
            if key not in seen and made < count:
                seen.add(key)
                made, vain = made + 1, 0
                yield " ".join([words[number] for number in numbers.tolist()])


def _numbered(sentences: Iterable[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """All different words; those of the sentences as numbers, one after the other; where sentences begin and end."""
    known: dict[str, int] = {}
    numbers, starts = [], [0]
    for sentence in sentences:
        row = [known.setdefault(word, len(known)) for word in sentence.split(" ")]
        numbers.append(np.array(row, np.int32))
        starts.append(starts[-1] + len(row))
    flat = np.concatenate(numbers) if numbers else np.zeros(0, np.int32)
    return list(known), flat, np.array(starts)
