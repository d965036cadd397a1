"""Robustness: vectors as vector stores keep them, and what keeping them so costs in retrieval.

Knows nothing of texts, inverters or files.

Shapes: N vectors, D vector dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTIZATIONS = ("int8", "binary", "fp16")


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


def quantized(vectors: np.ndarray, kind: str) -> np.ndarray:
    """Vectors that were kept in fewer bits, as they are read back: (N, D) float32.

    `int8`: 256 even steps between the least and the greatest number of each dimension in this set. `binary`: the sign
    of each number, at the mean length of the set. Both as sentence-transformers' quantize_embeddings (A. Shakir et
    al., Binary and scalar embedding quantization, 2024, https://huggingface.co/blog/embedding-quantization), but that
    numbers go to the nearest step, not to the one below. `fp16`: half precision.

    Raises:
        ValueError: another kind.
    """
    if kind == "int8":
        low, high = vectors.min(0), vectors.max(0)  # (D,)
        step = np.where(high > low, (high - low) / 255, 1)
        return (low + step * np.round((vectors - low) / step)).astype(np.float32)
    if kind == "binary":
        length = np.linalg.norm(vectors, axis=1).mean()
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
    found |= {kind: quantized(vectors, kind) for kind in quantize}
    found |= {f"first {dimensions} dimensions": truncated(vectors, dimensions) for dimensions in truncate}
    return {name: _of_length(kept, 1.0) for name, kept in found.items()} if normalized else found


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
    before, after = _unit(queries), _unit(kept)
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


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The directions of (N, D) vectors, float64; a vector of zeros stays one."""
    wide = vectors.astype(np.float64)
    unit: np.ndarray = wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12)
    return unit


def _of_length(vectors: np.ndarray, lengths: np.ndarray | float) -> np.ndarray:
    """The directions of (N, D) vectors, at the given lengths (N, 1)."""
    return (_unit(vectors) * lengths).astype(np.float32)
