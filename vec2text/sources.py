"""Sources: what a person names (texts, files of vectors, sums, the way between two) as vectors.

Knows nothing of inverters or of a command line.

Shapes: N vectors, D vector dimension.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from vec2text.encoders import Encoder, encode_checked
from vec2text.exploration import interpolate, mean, weighted_sum
from vec2text.sentences import normalise
from vec2text.vectors import SUFFIXES, read_vectors

_PIECE = 2048  # texts encoded at a time


def read_lines(path: str) -> list[str]:
    """The lines of a UTF-8 text file.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error


def read_sentences(path: str) -> list[str]:
    """The distinct sentences of a text file, one a line, in the form in which they are encoded and learned.

    Raises:
        ValueError: it is no UTF-8 text, or there is no sentence in it.
    """
    return distinct_sentences(path)[0]


def distinct_sentences(path: str) -> tuple[list[str], int]:
    """As `read_sentences`, and how many others stand there that repeat one of them."""
    lines = [line for line in map(normalise, read_lines(path)) if line]
    texts = list(dict.fromkeys(lines))
    if not texts:
        raise ValueError(f"{path}: there is no sentence in it; expected one a line")
    return texts, len(lines) - len(texts)


def is_file(operand: str) -> bool:
    """Whether an operand is an inline list or an existing file of vectors; warns where it only looks like a file."""
    if operand.lstrip().startswith("["):
        return True
    named = Path(operand).suffix.lower() in SUFFIXES
    if named and " " not in operand and not Path(operand).exists():
        warnings.warn(f"there is no file {operand}: it is embedded as a text", stacklevel=1)
    return named and Path(operand).is_file()


def embed(encoder: Encoder, texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Vectors of texts, in pieces (n, D), once all of them are known to have one.

    Raises:
        ValueError: a text is empty, or the encoder knows no word of it.
    """
    fault = getattr(encoder, "fault", lambda text: None)
    for place, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"text {place} is empty; expected a sentence")
        found = fault(text)
        if found == "unknown_words":
            raise ValueError(
                f"text {place} ({text!r:.60}) has no word that encoder {encoder.name!r} knows: leave it out, or use "
                "other words"
            )
        if found == "too_long":
            warnings.warn(
                f"text {place} is longer than the encoder reads: its vector is of its beginning", stacklevel=1
            )
    for start in range(0, len(texts), _PIECE):
        yield encode_checked(encoder, texts[start : start + _PIECE], encoder.dimension)


def embed_all(encoder: Encoder, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
    """Vectors of texts as one array (N, D), with a progress bar: in `progress`, or one of its own on a terminal."""
    if progress is None:
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            return embed_all(encoder, texts, progress)
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    starts = progress.track(range(0, len(texts), _PIECE), description="encoding")
    for start, piece in zip(starts, embed(encoder, texts), strict=True):
        vectors[start : start + _PIECE] = piece
    return vectors


def in_pieces(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """An array (N, D) in arrays of at most 2048 rows."""
    return (vectors[start : start + _PIECE] for start in range(0, len(vectors), _PIECE))


def operands(
    names: Sequence[str], pieces: Iterator[np.ndarray], *, length_of_mean: float | None = None
) -> list[np.ndarray]:
    """The vectors (D,) of operands: a file's one vector, the mean of its several, or the next of the texts' vectors.

    Args:
        names: texts and files.
        pieces: vectors of those that are texts, in their order.
        length_of_mean: what a mean is rescaled to; None: it stays as it is.
    """
    texts = itertools.chain.from_iterable(pieces)
    return [mean(read_vectors(name), length=length_of_mean) if is_file(name) else next(texts) for name in names]


def way(
    ends: Sequence[str], pieces: Iterator[np.ndarray], points: int, *, spherical: bool, normalized: bool
) -> np.ndarray:
    """Vectors (points, D) on the way between two operands; in a normalised space a mean is brought to length 1."""
    a, b = operands(ends, pieces, length_of_mean=1.0 if normalized else None)
    return interpolate(a, b, points, spherical=spherical)


def total(terms: Sequence[tuple[float, str]], pieces: Iterator[np.ndarray], *, normalized: bool) -> np.ndarray:
    """The sum (D,) of weighted operands; in a normalised space it is brought to length 1."""
    vectors = operands([name for _, name in terms], pieces)
    return weighted_sum([weight for weight, _ in terms], vectors, length=1.0 if normalized else None)
