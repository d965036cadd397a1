"""Between vectors: interpolation, signed sums, the nearest of many, and how well an encoder separates pairs of texts.

Knows nothing of inverters, files or kinds of encoders.

Shapes: N vectors, D vector dimension.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vec2text.vectors import unit

_VANISHED = 1e-5  # of the terms' lengths: what is left of a text minus itself, encoded in two batches
_OPPOSITE = 1e-4  # radians short of pi: float32 no longer tells in which plane the arc lies
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_END = r"(?=\s+[+-](?:\s|$)|\s*$)"  # an operand ends before a sign between spaces, or with the expression
_TERM = re.compile(
    rf"""(?:(?P<sign>[+-])(?:\s+|$))?
    (?:(?P<factor>{_NUMBER})\s*\*\s*)?
    (?:(?P<quote>["'])(?P<quoted>.*?)(?P=quote){_END} | (?P<plain>(?![+-](?:\s|$))[^"'\s].*?){_END})?
    \s*""",
    re.VERBOSE | re.DOTALL,
)


def interpolate(a: np.ndarray, b: np.ndarray, points: int, *, spherical: bool = True) -> np.ndarray:
    """Vectors at equal steps from one to another.

    Spherical: the direction turns evenly along the arc (slerp: K. Shoemake, Animating rotation with quaternion curves,
    SIGGRAPH 1985, https://doi.org/10.1145/325165.325242), while the length goes linearly. Linear: the straight line,
    which between two vectors of one length leads through shorter ones.

    Args:
        a: the first, (D,).
        b: the last, (D,).
        points: how many, both ends counted.
        spherical: along the arc, not the straight line.

    Returns:
        (points, D) float32; the first row is `a` and the last `b`, to the bit.

    Raises:
        ValueError: fewer than 2 points, different dimensions, NaN or infinity; on the arc, a vector of zeros or two
            that are opposite.
    """
    if points < 2:
        raise ValueError(f"points is {points}; expected at least 2, the two ends")
    ends = _stacked([a, b])  # (2, D)
    steps = np.linspace(0, 1, points)[:, None]  # (points, 1)
    rows = (1 - steps) * ends[0] + steps * ends[1]  # (points, D)
    if spherical:
        lengths = np.linalg.norm(ends, axis=1)  # (2,)
        if not lengths.all():
            raise ValueError(
                f"vector {int(np.argmin(lengths))} of the two is all zeros and has no direction: leave it out"
            )
        u, v = ends / lengths[:, None]
        # Exact for small angles too, where the arc cosine is not.
        angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
        if np.pi - angle < _OPPOSITE:
            raise ValueError(
                "the two vectors are opposite, and no arc between them is the shortest: interpolate linearly instead "
                "(spherical=False; --linear)"
            )
        # sin(step * angle) / sin(angle), written with sin(x) / x so that it also holds at angle 0.
        back, forth = (s * np.sinc(s * angle / np.pi) / np.sinc(angle / np.pi) for s in (1 - steps, steps))
        rows = (back * u + forth * v) * ((1 - steps) * lengths[0] + steps * lengths[1])
    rows[[0, -1]] = ends
    return rows.astype(np.float32)


def parse_sum(expression: str) -> list[tuple[float, str]]:
    """The terms of a signed sum, as `king - man + woman` or `0.5 * "a - b" + 'c'`.

    A sign stands between spaces, so that hyphens need no care. A factor, a number and `*`, may stand before an operand.
    An operand is in quotes of either kind, and may then hold anything, or is whatever stands up to the next sign.

    Returns:
        (weight, operand) for each term, in order.

    Raises:
        ValueError: nothing in it, a missing operand, a quote that is not closed, or a sign whose meaning is not clear.
    """
    text, terms = expression.strip(), []
    if not text:
        raise ValueError("the sum is empty; expected texts between signs, as king - man + woman")
    place = 0
    while place < len(text):
        found = _TERM.match(text, place)
        assert found  # each part of it may be missing
        rest, operand = text[found.end() :], found["plain"] or found["quoted"] or ""
        if found["quoted"] is None and rest[:1] in ('"', "'"):
            raise ValueError(
                f"the quote that {rest!r:.60} begins with is not closed before a sign or the end: close it, or put "
                "the text between quotes of the other kind"
            )
        if not operand.strip():
            raise ValueError(
                f"in the sum {text!r:.80} a text is missing {f'before {rest!r:.40}' if rest else 'at the end'}; "
                "expected one after each sign and each factor"
            )
        if unclear := re.search(r"(?<!\S)(?:[+-]\S+|\*(?!\S)|\"\S*)", found["plain"] or ""):
            raise ValueError(
                f"{unclear[0]!r} in {operand!r:.60} is not clear: put spaces round a sign, a factor before its text "
                "(0.5 * text), and quotes round a text that holds such"
            )
        terms.append((float(found["factor"] or 1) * (-1 if found["sign"] == "-" else 1), operand))
        place = found.end()
    return terms


def weighted_sum(
    weights: Sequence[float], vectors: Sequence[np.ndarray] | np.ndarray, *, length: float | None = None
) -> np.ndarray:
    """The sum of weighted vectors: (D,) float32.

    Args:
        weights: N numbers.
        vectors: N of (D,).
        length: what the sum is rescaled to; None: it stays as it is.

    Raises:
        ValueError: another number of weights than of vectors, none, different dimensions, or terms that cancel out.
    """
    if len(weights) != len(vectors) or not len(weights):
        raise ValueError(f"{len(weights)} weights for {len(vectors)} vectors; expected as many, and at least one")
    terms = np.asarray(weights, np.float64)[:, None] * _stacked(vectors)  # (N, D)
    return _settled(terms.sum(0), float(np.linalg.norm(terms, axis=1).sum()), length)


def mean(pieces: Iterable[np.ndarray], *, length: float | None = None) -> np.ndarray:
    """The mean of all rows of (n, D) arrays, of which one at a time is held: (D,) float32; of one row, that row.

    Args:
        pieces: the arrays.
        length: what the mean of several rows is rescaled to; None: it stays as it is.

    Raises:
        ValueError: there is no row, or the rows cancel out.
    """
    total, lengths, count = np.zeros(1), 0.0, 0
    for piece in pieces:
        total, count = total + piece.sum(0, dtype=np.float64), count + len(piece)
        lengths += float(np.linalg.norm(piece, axis=1).sum())
    if not count:
        raise ValueError("there is nothing to take the mean of; expected at least one row")
    return _settled(total / count, lengths / count, None if count == 1 else length)


def nearest(vectors: np.ndarray, chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For each vector the most similar row of many, of which one chunk at a time is held.

    Args:
        vectors: (N, D).
        chunks: what is searched, in arrays (n, D); N x n cosines are held at a time.

    Returns:
        The place among all rows of the chunks, (N,) int64, and the cosine, (N,) float32. Of rows that are equally
        similar the first; a row of zeros has cosine 0.

    Raises:
        ValueError: there is nothing to search, or it has another dimension.
    """
    asked = unit(vectors.astype(np.float64))
    best, places, start = np.full(len(asked), -np.inf, np.float32), np.zeros(len(asked), np.int64), 0
    for chunk in chunks:
        if chunk.shape[1] != asked.shape[1]:
            raise ValueError(
                f"the vectors have dimension {asked.shape[1]}, what is searched has {chunk.shape[1]}; expected the same"
            )
        if len(chunk):
            # Rounded from float64: float32 products differ with the size of the chunk, so that equal rows do not tie.
            cosines = (asked @ unit(chunk.astype(np.float64)).T).astype(np.float32)  # (N, n)
            place = cosines.argmax(1)
            value = cosines[np.arange(len(asked)), place]
            better = value > best
            best[better], places[better] = value[better], start + place[better]
        start += len(chunk)
    if not start:
        raise ValueError("there is nothing to search; expected at least one row")
    return places, best


class _Encodes(Protocol):
    """All that is asked of an encoder here."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D)."""
        ...


@dataclass(frozen=True, eq=False)
class Similarities:
    """How well an encoder separates related from unrelated pairs; `print` shows it as a table."""

    a: list[str]
    """N texts."""
    b: list[str]
    """N texts, each related to that of `a` at the same place."""
    related: np.ndarray
    """(N,) cosines of the pairs."""
    unrelated: np.ndarray
    """(N * (N - 1),) cosines of each text of `a`, in order, with all of `b` but its own partner."""
    auc: float
    """Probability that a related pair is more similar than an unrelated one, ties counted half: 0.5 is chance."""

    def __str__(self) -> str:
        """Each pair beside its most similar wrong partner, then both groups."""
        count = len(self.a)
        others = self.unrelated.reshape(count, count - 1)
        wrong = others.argmax(1)
        wrong += wrong >= np.arange(count)  # the right partner is left out of each row
        lines = [f"{'text':32}  {'related':32}  cosine  {'most similar wrong partner':32}  cosine"]
        for row, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            lines.append(
                f"{_short(a)}  {_short(b)}  {self.related[row]:6.3f}  {_short(self.b[wrong[row]])}  "
                f"{others[row].max():6.3f}"
            )
        for name, group in (("related", self.related), ("unrelated", self.unrelated)):
            lines.append(f"{name + ':':10} mean {group.mean():6.3f}, spread {group.std():.3f}, {len(group)} pairs")
        lines.append(f"a related pair is the more similar one with probability {self.auc:.3f} (AUC; chance is 0.5)")
        return "\n".join(lines)


def similarities(encoder: _Encodes, a: Sequence[str], b: Sequence[str]) -> Similarities:
    """How well an encoder separates related pairs of texts, as paraphrases or translations, from unrelated ones.

    Args:
        encoder: encodes each list once, in one call.
        a: N texts.
        b: N texts, each related to that of `a` at the same place and to no other.

    Raises:
        ValueError: different numbers of texts, fewer than 2, or an encoder that gives no vector for each.
    """
    a, b = list(a), list(b)
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} texts and {len(b)} partners; expected as many, and at least 2 pairs")
    vectors = [np.asarray(encoder.encode(texts), np.float32) for texts in (a, b)]
    if vectors[0].shape != vectors[1].shape or vectors[0].ndim != 2 or len(vectors[0]) != len(a):
        raise ValueError(
            f"the encoder gave arrays of shape {vectors[0].shape} and {vectors[1].shape} for {len(a)} texts each; "
            f"expected ({len(a)}, D)"
        )
    ours, theirs = (unit(some.astype(np.float64)) for some in vectors)
    cosines = (ours @ theirs.T).astype(np.float32)  # (N, N)
    related, unrelated = cosines.diagonal().copy(), cosines[~np.eye(len(a), dtype=bool)]
    ranked = np.sort(unrelated)
    below = (np.searchsorted(ranked, related, "left") + np.searchsorted(ranked, related, "right")) / 2  # ties half
    return Similarities(a, b, related, unrelated, float(below.mean() / len(unrelated)))


def _short(text: str, width: int = 32) -> str:
    """A text on one line of exactly `width` characters."""
    line = " ".join(text.split())
    return line.ljust(width) if len(line) <= width else line[: width - 3] + "..."


def _settled(total: np.ndarray, lengths: float, length: float | None) -> np.ndarray:
    """A sum (D,) of vectors whose lengths add up to `lengths`, rescaled to `length`, in float32."""
    size = np.linalg.norm(total)
    if size <= _VANISHED * lengths:
        raise ValueError("the vectors cancel out, and what is left has no direction: leave one out or change a factor")
    return (total if length is None else total * (length / size)).astype(np.float32)


def _stacked(vectors: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Vectors of one dimension as (N, D) float64."""
    arrays = [np.asarray(vector, np.float64) for vector in vectors]
    for place, array in enumerate(arrays):
        if array.ndim != 1 or array.shape != arrays[0].shape:
            raise ValueError(
                f"vector {place} has shape {array.shape} and vector 0 has {arrays[0].shape}; expected (D,) of one D"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"vector {place} holds NaN or infinity; expected finite numbers")
    return np.stack(arrays)
