"""Reconstructions: what refinement found for a vector, also where the encoder failed half-way.

Knows nothing of how it was found.
"""

from __future__ import annotations

from dataclasses import dataclass

from vec2text.encoders import EncoderError


@dataclass(frozen=True)
class Hypothesis:
    """A text that was proposed, and how close it came."""

    text: str
    similarity: float
    """Cosine of its vector to the target."""


@dataclass(frozen=True)
class Reconstruction:
    """What refinement found for a vector."""

    text: str
    """The closest of all that was tried; where polish did not meet the vector, the likeliest of the closest."""
    similarity: float
    """Cosine of its vector to the target, -1 to 1."""
    confidence: float | None
    """Probability that it is the exact text; None where the inverter has not been calibrated."""
    hypotheses: tuple[Hypothesis, ...]
    """All that was tried: the text that is given, then the others, the closest first."""
    queries: int
    """Different texts that were compared; one that several vectors share is encoded once, and counts for each."""
    rounds: int
    """The last round that had something to propose: the one in which it was found, or mostly the last of all."""
    history: tuple[tuple[str, int], ...]
    """The closest text (at last what is given) and the queries so far, after each round; first plain inversion."""


class RefinementStopped(EncoderError):  # noqa: N818 - what was found before is not lost
    """The encoder failed half-way: that is the cause, and what was found before is kept here."""

    def __init__(self, reconstructions: list[Reconstruction | None], finished: int, cause: Exception) -> None:
        self.reconstructions = reconstructions
        """One for each vector, in order: the best so far; None where no text had been compared yet."""
        self.finished = finished
        """How many of the vectors were met (where that was in the last call, maybe in another case)."""
        self.begun = len(reconstructions) - reconstructions.count(None) - finished
        """How many had been refined in part."""
        super().__init__(
            f"refinement stopped with {finished:,} of {len(reconstructions):,} vectors done and {self.begun:,} done in "
            f"part: {str(cause) or type(cause).__name__}"
        )
