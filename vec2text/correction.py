"""Correction: what the GPT reads to mend a hypothesis: target, hypothesis, their difference, the hypothesis's tokens.

Knows nothing of where hypotheses come from, or of which are worth mending.

The same GPT learns it beside plain inversion. That a second model can learn to correct from these four is the finding
of J. X. Morris et al., Text embeddings reveal (almost) as much as text, 2023, https://arxiv.org/abs/2310.06816.

Shapes: B batch, D vector dimension, P prefix tokens, T tokens of the longest hypothesis, H GPT hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Hypotheses(NamedTuple):
    """Texts that may be wrong, and the vectors that the encoder gives them."""

    ids: torch.Tensor
    """(B, T) tokens, without the end token; anything beyond a row's length."""
    lengths: torch.Tensor
    """(B,) tokens of each."""
    vectors: torch.Tensor
    """(B, D)."""

    @classmethod
    def of(cls, ids: Sequence[Sequence[int]], vectors: np.ndarray) -> Hypotheses:
        """From B lists of tokens, and vectors (B, D)."""
        padded = torch.zeros(len(ids), max(map(len, ids), default=0), dtype=torch.long)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        return cls(padded, torch.tensor([len(tokens) for tokens in ids]), torch.from_numpy(vectors))

    def take(self, rows: np.ndarray | slice, width: int = 0) -> Hypotheses:
        """Some of them, with no more padding than they need, or up to a width where there is as much."""
        lengths = self.lengths[rows]
        return Hypotheses(self.ids[rows][:, : max(int(lengths.max()), width)], lengths, self.vectors[rows])

    def to(self, device: torch.device) -> Hypotheses:
        """The same, elsewhere."""
        pins = device.type == "cuda" and self.ids.device.type == "cpu"
        pinned = [tensor.pin_memory() for tensor in self] if pins else list(self)
        return Hypotheses(*(tensor.to(device, non_blocking=True) for tensor in pinned))


class Correction(nn.Module):
    """Makes the prefixes of corrections; its own parameters tell the GPT which part is which.

    Hypothesis and difference go through the projection that the target goes through: they live in the same space.

    Args:
        prefix_length: P.
        hidden_size: H.
    """

    def __init__(self, prefix_length: int, hidden_size: int) -> None:
        super().__init__()
        self.hypothesis = nn.Parameter(torch.zeros(prefix_length, hidden_size))
        self.difference = nn.Parameter(torch.zeros(prefix_length, hidden_size))
        self.token = nn.Parameter(torch.zeros(hidden_size))

    def forward(
        self,
        project: Callable[[torch.Tensor], torch.Tensor],
        embed: Callable[[torch.Tensor], torch.Tensor],
        targets: torch.Tensor,
        hypotheses: Hypotheses,
        end_id: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prefixes (B, 3 * P + T + 1, H) and the mask (B, 3 * P + T + 1) that tells tokens (1) from padding (0).

        Padding stands before the hypothesis's tokens, so that the text follows directly on the end token.

        Args:
            project: vectors (B, D) to prefixes (B, P, H).
            embed: token ids to embeddings.
            targets: (B, D).
            hypotheses: one for each target.
            end_id: stands between hypothesis and text.
        """
        ids, lengths, vectors = hypotheses
        length = targets.norm(dim=1, keepdim=True)  # all three get that of the target, whatever the encoder's is
        vectors = F.normalize(vectors, dim=1) * length
        # Only where the difference points: near the end its length is a small part of the vectors'.
        difference = F.normalize(targets - vectors, dim=1, eps=1e-12) * length
        places = torch.arange(ids.shape[1], device=ids.device)
        shift = ids.shape[1] - lengths.unsqueeze(1)  # (B, 1): to the right
        ids = ids.gather(1, (places - shift).clamp(min=0).expand_as(ids))
        shown = places >= shift  # (B, T)
        ids = F.pad(ids.masked_fill(~shown, end_id), (0, 1), value=end_id)  # (B, T + 1)
        tokens = embed(ids)
        parts = [
            project(targets),
            project(vectors) + self.hypothesis,
            project(difference) + self.difference,
            tokens + self.token.to(tokens.dtype),
        ]
        prefixes = torch.cat([part.to(tokens.dtype) for part in parts], 1)
        before = shown.new_ones(len(ids), prefixes.shape[1] - ids.shape[1])
        return prefixes, torch.cat([before, F.pad(shown, (0, 1), value=True)], 1).long()


def positions_of_prefix(prefix_length: int, hypothesis: int | None) -> int:
    """Positions that stand before a text: in plain inversion, or where a hypothesis of so many tokens is corrected."""
    return prefix_length if hypothesis is None else 3 * prefix_length + hypothesis + 1
