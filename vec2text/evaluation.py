"""Evaluation: decode held-out sentences and compare, with baselines beside the result.

Knows nothing of training or of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vec2text import metrics
from vec2text.corpus import Corpus, Vectors
from vec2text.encoders import Encoder
from vec2text.inverter import Inverter


@dataclass(frozen=True)
class Scores:
    """How well reconstructions match their references."""

    exact_match: float
    """Share that comes back to the letter, 0 to 1."""
    bleu: float
    """Corpus BLEU, 0 to 100."""
    token_f1: float
    """Mean F1 of words, 0 to 1."""
    similarity: float
    """Mean cosine between the vector of the reconstruction and the vector that was inverted."""

    def rounded(self) -> dict[str, float]:
        """The scores with the digits that mean something."""
        digits = {"bleu": 1}
        return {name: round(value, digits.get(name, 3)) for name, value in asdict(self).items()}


def score(references: Sequence[str], reconstructions: Sequence[str], similarities: np.ndarray) -> Scores:
    """Scores of reconstructions, given the cosine of each to its vector."""
    return Scores(
        exact_match=metrics.exact_match(references, reconstructions),
        bleu=metrics.corpus_bleu(references, reconstructions),
        token_f1=metrics.token_f1(references, reconstructions),
        similarity=float(similarities.mean()),
    )


@dataclass(frozen=True)
class Evaluation:
    """Held-out sentences, what came back, and the scores."""

    references: list[str]
    reconstructions: list[str]
    similarities: np.ndarray
    """(N,) cosine of each reconstruction's vector to the target vector."""
    scores: Scores


def evaluate(
    inverter: Inverter, encoder: Encoder, references: Sequence[str], vectors: np.ndarray, **options: Any
) -> Evaluation:
    """Invert the vectors of held-out sentences and compare.

    Args:
        inverter: what is judged.
        encoder: re-embeds what came back: one query a sentence, for the similarity only.
        references: N sentences.
        vectors: theirs, (N, D).
        **options: of `Inverter.invert`; greedy without.
    """
    texts = inverter.invert(vectors, **options)
    similarities = metrics.cosine(encoder.encode(texts), vectors)
    return Evaluation(list(references), texts, similarities, score(references, texts, similarities))


def baselines(
    inverter: Inverter, encoder: Encoder, references: Sequence[str], vectors: np.ndarray, corpus: Corpus, known: Vectors
) -> dict[str, Scores]:
    """What one gets without inverting: the nearest training sentence, and the GPT's guess for a vector of zeros.

    Args:
        inverter: its GPT guesses.
        encoder: embeds that guess.
        references: N held-out sentences.
        vectors: theirs, (N, D).
        corpus: its training sentences are searched.
        known: the vectors of the corpus.
    """
    nearest, similarities = _nearest(vectors, known, corpus.rows("train"))
    guess = inverter.unaided()
    alike = metrics.cosine(np.repeat(encoder.encode([guess]), len(vectors), 0), vectors)
    return {
        "nearest training sentence": score(references, [corpus.texts[row] for row in nearest], similarities),
        "zero vector": score(references, [guess] * len(references), alike),
    }


def _nearest(vectors: np.ndarray, known: Vectors, rows: np.ndarray, chunk: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """For each vector the row of the most similar known one, and that cosine."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best, found = np.full(len(unit), -np.inf, np.float32), np.zeros(len(unit), np.int64)
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        others = known[part]
        cosines = unit @ (others / np.linalg.norm(others, axis=1, keepdims=True).clip(1e-12)).T  # (N, chunk)
        place = cosines.argmax(1)
        value = cosines[np.arange(len(unit)), place]
        better = value > best
        best[better], found[better] = value[better], part[place[better]]
    return found, best
