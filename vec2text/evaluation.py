"""Evaluation: decode held-out sentences and compare, with baselines beside the result.

Knows nothing of training or of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vec2text import metrics
from vec2text.cache import Vectors
from vec2text.corpus import Corpus
from vec2text.encoders import Encoder, encode_checked
from vec2text.exploration import nearest
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
    """Mean cosine between the vector of the reconstruction and the vector that was inverted; NaN without encoder."""

    def rounded(self) -> dict[str, float]:
        """The scores with the digits that mean something; without those that could not be measured."""
        digits = {"bleu": 1}
        measured = {name: value for name, value in asdict(self).items() if not np.isnan(value)}
        return {name: round(value, digits.get(name, 3)) for name, value in measured.items()}


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
    """(N,) cosine of each reconstruction's vector to the target vector; NaN without encoder."""
    scores: Scores


def evaluate(
    inverter: Inverter, encoder: Encoder | None, references: Sequence[str], vectors: np.ndarray, **options: Any
) -> Evaluation:
    """Invert the vectors of held-out sentences and compare.

    Args:
        inverter: what is judged.
        encoder: re-embeds what came back: one query a sentence, for the similarity only. None: it is not measured.
        references: N sentences.
        vectors: theirs, (N, D).
        **options: of `Inverter.invert`; greedy without.
    """
    texts = inverter.invert(vectors, **options)
    similarities = _similarities(encoder, texts, vectors)
    return Evaluation(list(references), texts, similarities, score(references, texts, similarities))


def _similarities(encoder: Encoder | None, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Cosine of each text's vector (or of the only one's) to each of (N, D) vectors: (N,)."""
    if encoder is None:
        return np.full(len(vectors), np.nan, np.float32)
    found = encode_checked(encoder, texts, vectors.shape[1])
    return metrics.cosine(np.broadcast_to(found, vectors.shape), vectors)


def baselines(
    inverter: Inverter,
    encoder: Encoder | None,
    references: Sequence[str],
    vectors: np.ndarray,
    corpus: Corpus,
    known: Vectors,
) -> dict[str, Scores]:
    """What one gets without inverting: the nearest training sentence, and the GPT's guess for a vector of zeros.

    Args:
        inverter: its GPT guesses.
        encoder: embeds that guess; None: its similarity is not measured.
        references: N held-out sentences.
        vectors: theirs, (N, D).
        corpus: its training sentences are searched.
        known: the vectors of the corpus.
    """
    rows = corpus.rows("train")
    places, similarities = nearest(vectors, (known[rows[start : start + 8192]] for start in range(0, len(rows), 8192)))
    guess = inverter.unaided()
    alike = _similarities(encoder, [guess], vectors)
    return {
        "nearest training sentence": score(references, [corpus.texts[row] for row in rows[places]], similarities),
        "zero vector": score(references, [guess] * len(references), alike),
    }
