"""Robustness: vectors as vector stores keep them, for training and for judging, and what that costs in retrieval.

Knows nothing of texts, inverters or files.

Shapes: N vectors, D vector dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vec2text.config import QUANTIZATIONS
from vec2text.vectors import unit


@dataclass(frozen=True, eq=False)
class Ranges:
    """What quantization needs to know of the vectors that it is for."""

    low: np.ndarray
    """(D,) the least number of each dimension."""
    high: np.ndarray
    """(D,) the greatest."""
    length: float
    """Of the vectors, on average."""

    @classmethod
    def of(cls, vectors: np.ndarray) -> Ranges:
        """Those of (N, D) vectors."""
        return cls(vectors.min(0), vectors.max(0), float(np.linalg.norm(vectors, axis=1).mean()))


def noisy(vectors: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Vectors with Gaussian noise on every number: (N, D) float32.

    The defence that J. X. Morris et al. test in Text embeddings reveal (almost) as much as text, 2023,
    https://arxiv.org/abs/2310.06816; their lambda is `share` / sqrt(D) for vectors of length 1. As `training.noise`.

    Args:
        vectors: (N, D).
        share: the noise's length (root mean square) as a share of each vector's.
        seed: of the noise; the same seed gives the same directions whatever the share.
    """
    spread = share * np.linalg.norm(vectors, axis=1, keepdims=True) / np.sqrt(vectors.shape[1])
    noise = np.random.default_rng(seed).standard_normal(vectors.shape)
    return (vectors + spread * noise).astype(np.float32)


def quantized(vectors: np.ndarray, kind: str, ranges: Ranges | None = None) -> np.ndarray:
    """Vectors that were kept in fewer bits, as they are read back: (N, D) float32.

    `int8`: 256 even steps between the least and the greatest number of each dimension; what lies beyond goes to the
    end. `binary`: the sign of each number, at the mean length. Both as sentence-transformers' quantize_embeddings (A.
    Shakir et al., Binary and scalar embedding quantization, 2024,
    https://huggingface.co/blog/embedding-quantization), but that numbers go to the nearest step, not to the one below.
    `fp16`: half precision.

    Args:
        vectors: (N, D).
        kind: one of QUANTIZATIONS.
        ranges: of the vectors that the store was set up with; None: of these.

    Raises:
        ValueError: another kind.
    """
    if kind == "int8":
        known = ranges or Ranges.of(vectors)
        step = (known.high - known.low) / 255  # (D,)
        steps = np.round((vectors - known.low) / np.where(step > 0, step, 1)).clip(0, 255)
        return (known.low + step * steps).astype(np.float32)
    if kind == "binary":
        length = (ranges or Ranges.of(vectors)).length
        return (np.where(vectors > 0, 1, -1) * length / np.sqrt(vectors.shape[1])).astype(np.float32)
    if kind == "fp16":
        return vectors.astype(np.float16).astype(np.float32)
    raise ValueError(f"quantization {kind!r} is not known; expected {', '.join(QUANTIZATIONS)}")


def truncated(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """Vectors of which only the first dimensions were kept: (N, D) float32, zeros after them, of the former lengths.

    A. Kusupati et al., Matryoshka representation learning, 2022, https://arxiv.org/abs/2205.13147.

    Raises:
        ValueError: as many dimensions as there are or more, or fewer than 1.
    """
    if not 0 < dimensions < vectors.shape[1]:
        raise ValueError(f"truncation to {dimensions} of {vectors.shape[1]} dimensions; expected 1 to one fewer")
    kept = np.where(np.arange(vectors.shape[1]) < dimensions, vectors, 0)
    return _of_length(kept, np.linalg.norm(vectors, axis=1, keepdims=True))


def changed(
    vectors: np.ndarray,
    *,
    noise: Sequence[float] = (),
    quantize: Sequence[str] = (),
    truncate: Sequence[int] = (),
    normalized: bool = False,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Each change alone, by its name.

    Args:
        vectors: (N, D).
        noise: shares, see `noisy`.
        quantize: kinds, see `quantized`.
        truncate: numbers of dimensions, see `truncated`.
        normalized: bring what comes out to length 1, as who knows that the vectors had it would do before inverting.
        seed: of the noise.
    """
    found = {f"noise {share:g}": noisy(vectors, share, seed) for share in noise}
    found |= {name: change(vectors) for name, change in _changes(quantize, truncate, None).items()}
    return {name: _of_length(kept, 1.0) for name, kept in found.items()} if normalized else found


def partly_changed(
    vectors: np.ndarray,
    share: float,
    ranges: Ranges,
    random: np.random.Generator,
    *,
    quantize: Sequence[str] = (),
    truncate: Sequence[int] = (),
    normalized: bool = False,
) -> np.ndarray:
    """Vectors of which some are as vector stores keep them, for an inverter to learn both from: (N, D) float32.

    Args:
        vectors: (N, D); they stay as they are.
        share: the probability with which each vector is changed, in one of the ways, all of which are as likely.
        ranges: of all vectors, of which these are a few.
        random: draws.
        quantize: kinds, see `quantized`.
        truncate: numbers of dimensions, see `truncated`.
        normalized: bring what is changed to length 1, as in `changed`.
    """
    changes = list(_changes(quantize, truncate, ranges).values())
    drawn = np.where(random.random(len(vectors)) < share, random.integers(len(changes), size=len(vectors)), -1)
    found = vectors.astype(np.float32)  # a copy
    for number, change in enumerate(changes):
        kept = change(vectors[drawn == number])
        found[drawn == number] = _of_length(kept, 1.0) if normalized else kept
    return found


def _changes(
    quantize: Sequence[str], truncate: Sequence[int], ranges: Ranges | None
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What quantizes and truncates, each by its name."""
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        kind: partial(quantized, kind=kind, ranges=ranges) for kind in quantize
    }
    return found | {f"first {count} dimensions": partial(truncated, dimensions=count) for count in truncate}


def recall_at(k: int, queries: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """For each vector the share of its k nearest neighbours that are still among its k nearest as they are kept.

    What a search loses when the store's vectors are changed and the queries are not. Nearest is by cosine; a vector
    itself is no neighbour of its own. N cosines are held for 1024 vectors at a time.

    Args:
        k: how many.
        queries: the vectors as they were, (N, D).
        kept: the same as they are kept, (N, D).

    Returns:
        (N,), each 0 to 1.

    Raises:
        ValueError: not more than k vectors, or arrays of different shapes.
    """
    if queries.shape != kept.shape or not 1 <= k < len(queries):
        raise ValueError(
            f"recall at {k} of vectors of shape {queries.shape}, kept as {kept.shape}; expected the same shape, and "
            "more than k vectors, at least 1"
        )
    before, after = (unit(some.astype(np.float64)) for some in (queries, kept))
    shares = []
    for start in range(0, len(queries), 1024):
        asked = before[start : start + 1024]
        true, found = _nearest(k, asked, before, start), _nearest(k, asked, after, start)  # (n, k)
        shares.append((true[:, :, None] == found[:, None, :]).any(2).mean(1))
    return np.concatenate(shares)


def _nearest(k: int, asked: np.ndarray, among: np.ndarray, first: int) -> np.ndarray:
    """Places of the k most similar of (N, D) unit vectors for each of (n, D), whose own places start at `first`."""
    cosines = (asked @ among.T).astype(np.float32)  # rounded from float64, so that equal vectors tie
    rows = np.arange(len(asked))
    cosines[rows, first + rows] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def _of_length(vectors: np.ndarray, lengths: np.ndarray | float) -> np.ndarray:
    """The directions of (N, D) vectors, at the given lengths (N, 1)."""
    return (unit(vectors.astype(np.float64)) * lengths).astype(np.float32)
