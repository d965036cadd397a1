"""Metrics between references and reconstructions: pure functions, all at the level of text.

Knows no model and no encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def corpus_bleu(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Corpus BLEU of sacrebleu with its defaults (13a tokens, mixed case), 0 to 100."""
    import sacrebleu  # wanted only here: it reads files on import

    _check_pairs(references, reconstructions)
    return float(sacrebleu.corpus_bleu(list(reconstructions), [list(references)]).score)


def exact_match(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Share of reconstructions that are the reference to the letter, 0 to 1."""
    _check_pairs(references, reconstructions)
    return float(np.mean([a == b for a, b in zip(references, reconstructions, strict=True)]))


def token_f1(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Mean over sentences of the F1 of lower-cased words, each counted as often as it occurs, 0 to 1."""
    _check_pairs(references, reconstructions)
    return float(np.mean([_f1(a, b) for a, b in zip(references, reconstructions, strict=True)]))


def _f1(reference: str, reconstruction: str) -> float:
    expected, found = Counter(reference.lower().split()), Counter(reconstruction.lower().split())
    common = (expected & found).total()
    return 2 * common / (expected.total() + found.total()) if common else 0.0


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows of (N, D) arrays: (N,); 0 where a row is all zeros."""
    products = np.einsum("nd,nd->n", a, b)
    return products / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def _check_pairs(references: Sequence[str], reconstructions: Sequence[str]) -> None:
    if len(references) != len(reconstructions) or not references:
        raise ValueError(f"{len(references)} references and {len(reconstructions)} reconstructions: expected as many")
