"""Adaptation: a linear map from a new encoder's space into that of a trained inverter, learned from a few pairs.

Knows nothing of encoders, GPTs or runs: it is given the vectors that two encoders make of the same texts.

That some thousand texts align two embedding spaces well enough to invert one through the other is the finding of
Y. Chen et al., ALGEN: few-shot inversion attacks on textual embeddings via cross-model alignment and generation, 2025,
https://arxiv.org/abs/2502.11308.

Shapes: N texts, D dimension of the new space, E dimension of the inverter's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LEAST = 10
"""Pairs that an alignment needs."""

_HELD_OUT = 0.2  # of the pairs, by which the kind of map is chosen
_RIDGES = 10.0 ** np.arange(-4, 3)  # as a share of the mean square of the singular values


class Alignment(nn.Module):
    """Maps vectors (N, D) to where the inverter's own encoder would have put the texts: (N, E).

    Only where a mapped vector points is learned; its length is the typical one of the inverter's own space.

    Args:
        dimension: D.
        own_dimension: E.
    """

    matrix: torch.Tensor
    """(E, D)."""
    center: torch.Tensor
    """(D,), the mean of the new space."""
    own_center: torch.Tensor
    """(E,), the mean of the inverter's own."""
    length: torch.Tensor

    def __init__(self, dimension: int, own_dimension: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.zeros(own_dimension, dimension))
        self.register_buffer("center", torch.zeros(dimension))
        self.register_buffer("own_center", torch.zeros(own_dimension))
        self.register_buffer("length", torch.ones(()))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The mapped vectors."""
        with torch.autocast(vectors.device.type, enabled=False):
            mapped = (vectors.to(self.center.dtype) - self.center) @ self.matrix.T + self.own_center  # (N, E)
            return F.normalize(mapped, dim=-1) * self.length

    def affine(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A matrix (E, D) and an offset (E,) that map nearly so, without a norm of each vector's own.

        Args:
            vectors: (N, D) of the new space, by which the mean length before normalisation is known.
        """
        offset = self.own_center - self.matrix @ self.center
        rate = self.length / (vectors.to(self.center) @ self.matrix.T + offset).norm(dim=-1).mean()
        return self.matrix * rate, offset * rate


def align(vectors: np.ndarray, own: np.ndarray, seed: int = 0) -> tuple[Alignment, str]:
    """The map that fits pairs best, and what it is in words.

    Ridge regression of several strengths and an orthogonal map (Procrustes: P. Schönemann, 1966) are fitted to four
    fifths of the pairs; the one whose vectors of the others point closest is fitted again to all.

    Args:
        vectors: of N texts in the new space, (N, D).
        own: of the same texts in the inverter's, (N, E).
        seed: of which pairs are held out.

    Raises:
        ValueError: fewer than 10 pairs, or not as many vectors of one kind as of the other.
    """
    if len(vectors) != len(own):
        raise ValueError(f"got {len(vectors)} vectors of one space and {len(own)} of the other; expected pairs")
    if len(vectors) < LEAST:
        raise ValueError(f"got {len(vectors)} pairs; an alignment needs at least {LEAST}, and some hundreds to be good")
    x, y = vectors.astype(np.float64), own.astype(np.float64)
    order = np.random.default_rng(seed).permutation(len(x))
    held, kept = np.split(order, [max(2, int(_HELD_OUT * len(x)))])
    scores = {}
    for name, found in _maps(x[kept], y[kept]).items():
        mapped = (x[held] - x[kept].mean(0)) @ found.T + y[kept].mean(0)
        lengths = np.linalg.norm(mapped, axis=1) * np.linalg.norm(y[held], axis=1)
        scores[name] = float(((mapped * y[held]).sum(1) / lengths.clip(1e-12)).mean())
    best = max(scores, key=lambda name: scores[name])
    alignment = Alignment(x.shape[1], y.shape[1])
    alignment.matrix.copy_(torch.from_numpy(_maps(x, y)[best]))
    alignment.center.copy_(torch.from_numpy(x.mean(0)))
    alignment.own_center.copy_(torch.from_numpy(y.mean(0)))
    alignment.length.fill_(float(np.linalg.norm(y, axis=1).mean()))
    return alignment, f"{best}; mean cosine {scores[best]:.3f} on {len(held):,} pairs held out to choose it"


def _maps(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Matrices (E, D) from centred x (N, D) to centred y (N, E), by name."""
    x, y = x - x.mean(0), y - y.mean(0)
    left, sizes, right = np.linalg.svd(x, full_matrices=False)  # (N, r), (r,), (r, D)
    known = left.T @ y  # (r, E)
    found = {}
    for share in _RIDGES:
        weights = sizes / (sizes**2 + share * (sizes**2).mean() + 1e-12)
        found[f"ridge {share:g}"] = (right.T @ (weights[:, None] * known)).T
    a, spread, b = np.linalg.svd(y.T @ x, full_matrices=False)  # (E, r), (r,), (r, D)
    known_turns = spread > 1e-10 * spread[0]  # in other directions, where pairs are few, any turn would fit as well
    turned = a[:, known_turns] @ b[known_turns]
    found["Procrustes"] = turned * (spread.sum() / max((x**2).sum(), 1e-12))  # scaled: the center counts beside it
    return found
