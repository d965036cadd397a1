"""Merging: two texts that differ from a third in different places become one that differs from it in both.

Knows nothing of models. What an encoder will say of such a text it foretells from what it said of the three: where
words act on a vector independently of each other, their effects add up.

Shapes: N texts, D vector dimension.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import pairwise

import numpy as np

_Change = tuple[int, int, tuple[str, ...]]
"""The first and the last but one of some words, and those that take their place."""


def merges(base: int, texts: Sequence[str], vectors: np.ndarray, target: np.ndarray) -> Iterator[tuple[str, float]]:
    """Merged texts and their foretold cosine to the target, the closest first, while that beats all that is known.

    With unit vectors a and b of two texts and c of the third, that of the merged one is taken to point to a + b - c.

    Args:
        base: place of the third text; the other two are any that differ from it in different places.
        texts: N.
        vectors: theirs, (N, D) of length 1.
        target: (D,) of length 1.
    """
    near, alike = vectors @ target, vectors @ vectors.T  # (N,), (N, N)
    own = alike[base]
    squares = 3 + 2 * (alike - own[:, None] - own[None, :])  # of the lengths of a + b - c
    foretold = (near[:, None] + near[None, :] - near[base]) / np.sqrt(squares.clip(min=1e-6))
    first, second = np.triu_indices(len(texts), 1)
    scores = foretold[first, second]
    scores[(first == base) | (second == base)] = -np.inf
    better = np.flatnonzero(scores > near.max())
    words = _words(texts[base])

    @cache
    def changes(place: int) -> list[_Change]:
        return _changes(words, _words(texts[place]))

    for pair in better[np.argsort(-scores[better], kind="stable")]:
        both = sorted(changes(int(first[pair])) + changes(int(second[pair])))
        if _apart(both):
            yield _changed(words, both), float(scores[pair])


def _words(text: str) -> list[str]:
    """Words and punctuation marks, each with the space before it: together they are the text."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+$", text)


def _changes(words: list[str], others: list[str]) -> list[_Change]:
    """What makes `others` of `words`."""
    found = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    return [(start, stop, tuple(others[a:b])) for kind, start, stop, a, b in found if kind != "equal"]


def _apart(changes: list[_Change]) -> bool:
    """Whether changes, in order, are of different words; at one place only one thing may be put in."""
    both = pairwise(changes)
    return all(stop <= start and (begin, stop) != (start, end) for (begin, stop, _), (start, end, _) in both)


def _changed(words: list[str], changes: list[_Change]) -> str:
    """Words after changes, which are in order."""
    parts, done = [], 0
    for start, stop, new in changes:
        parts += [*words[done:start], *new]
        done = stop
    return "".join([*parts, *words[done:]])
