"""Rows: what generate.py says of each vector, as a dictionary, a line of text or a line of JSON.

Knows nothing of flags, of files, or of where vectors come from.

Shapes: n vectors of a batch, N sentences of the user's own, D vector dimension.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vec2text.exploration import nearest
from vec2text.reconstruction import Reconstruction, RefinementStopped
from vec2text.sources import in_pieces


class Refining:
    """Refinement of batch after batch; once the encoder has failed, the rest is inverted without it.

    Args:
        refine: refines vectors (n, D).
        invert: writes their plain texts.
        count: of hypotheses that jsonl shows.
    """

    def __init__(
        self,
        refine: Callable[[np.ndarray], Sequence[Reconstruction | None]],
        invert: Callable[[np.ndarray], list[str]],
        count: int,
    ) -> None:
        self.refine, self.invert, self.count = refine, invert, count
        self.total = self.finished = self.begun = 0
        self.cause: BaseException | None = None

    def texts(self, batch: np.ndarray) -> list[dict[str, Any]]:
        """What is said where nothing is refined."""
        return [{"text": text} for text in self.invert(batch)]

    def rows(self, batch: np.ndarray) -> list[dict[str, Any]]:
        """What is said of the texts of vectors (n, D)."""
        self.total += len(batch)
        if self.cause is not None:
            return self._plain(batch)
        try:
            results = self.refine(batch)
            self.finished += len(batch)
        except RefinementStopped as stop:
            results, self.cause = stop.reconstructions, stop.__cause__
            self.finished, self.begun = self.finished + stop.finished, stop.begun
        missing = [place for place, result in enumerate(results) if result is None]
        others = iter(self._plain(batch[missing]) if missing else [])
        return [next(others) if result is None else _refined(result, self.count) for result in results]

    def failure(self) -> str | None:
        """What went wrong, and what it left undone; None where nothing did."""
        if self.cause is None:
            return None
        return (
            f"refinement stopped: of {self.total:,} vectors {self.finished:,} were done and {self.begun:,} done in "
            f"part, the others have their plain texts: {str(self.cause) or type(self.cause).__name__}"
        )

    def _plain(self, batch: np.ndarray) -> list[dict[str, Any]]:
        unknown: dict[str, Any] = {"similarity": None, "confidence": None, "queries": 0, "rounds": 0, "hypotheses": []}
        return [{"text": text, **unknown} for text in self.invert(batch)]


def _refined(result: Reconstruction, count: int) -> dict[str, Any]:
    best = [{"text": it.text, "similarity": round(it.similarity, 6)} for it in result.hypotheses[:count]]
    return {
        "text": result.text,
        "similarity": round(result.similarity, 6),
        "confidence": None if result.confidence is None else round(result.confidence, 4),
        "queries": result.queries,
        "rounds": result.rounds,
        "hypotheses": best,
    }


def add_nearest(rows: list[dict[str, Any]], batch: np.ndarray, sentences: Sequence[str], known: np.ndarray) -> None:
    """Put into each row the sentence nearest to its vector.

    Args:
        rows: n.
        batch: their vectors, (n, D).
        sentences: N.
        known: their vectors, (N, D).
    """
    for row, place, cosine in zip(rows, *nearest(batch, in_pieces(known)), strict=True):
        row |= {"nearest": sentences[place], "nearest_similarity": round(float(cosine), 6)}


def line(row: dict[str, Any], kind: str) -> str:
    """A row as a line, of kind `text` or `jsonl`."""
    if kind == "jsonl":
        return json.dumps(row, ensure_ascii=False) + "\n"
    near = [f"{row['nearest_similarity']:.3f}", " ".join(row["nearest"].split())] if "nearest" in row else []
    return "\t".join([row["text"], *near]) + "\n"
