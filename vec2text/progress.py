"""Progress: how far a run is, as its checkpoint keeps it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Progress:
    """How far a run is: all of its state that is not a tensor."""

    step: int = 0
    """Optimiser steps done."""
    epoch: int = 0
    """Passes over the training sentences that are complete."""
    batch: int = 0
    """Batches of this epoch that are done, in each process."""
    seconds: float = 0.0
    """Time spent, over all starts of the run."""
    tokens: int = 0
    """Text tokens learned from, end tokens included; of own texts too."""
    spliced: bool = True
    """Whether splices, where there are any, are learned from still."""
    best_bleu: float = -1.0
    """Of the validation sentences, at the best evaluation so far."""
    finished: bool = False
    """Whether the budget is spent and the last evaluation done."""

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Progress:
        """What a checkpoint holds; what only an earlier version kept there is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in saved.items() if name in known})
