"""Trunks: prefixes and the first tokens that several texts share are read once, and each text leaves where it differs.

Knows nothing of how tokens are chosen.

Shapes: R prefixes, B texts, P prefix tokens, T tokens of the longest trunk, n inputs, H GPT hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from vec2text.steps import GPT2Steps, Steps, steps_of


class Trunks:
    """Each prefix with a trunk, all of them read.

    Args:
        decoder: a causal LM in eval mode.
        prefixes: (R, P, H).
        tokens: the trunk of each, as many tokens as are worth reading.
        mask: (R, P) 1 where there is a prefix token, 0 where there is padding; None: there is none.
    """

    def __init__(
        self,
        decoder: Any,
        prefixes: torch.Tensor,
        tokens: Sequence[Sequence[int]],
        mask: torch.Tensor | None,
    ) -> None:
        rows = [torch.tensor(row, dtype=torch.long, device=prefixes.device) for row in tokens]
        self.ids = pad_sequence(
            rows, batch_first=True
        )  # (R, T); padding stands after what is read, and disturbs nobody
        self.embed, self.head = decoder.get_input_embeddings(), decoder.get_output_embeddings()
        self.mask = None if mask is None else torch.cat([mask, mask.new_ones(self.ids.shape)], 1)
        self.width = prefixes.shape[1]
        self.steps = steps_of(decoder)
        inputs = torch.cat([prefixes, self.embed(self.ids).to(prefixes.dtype)], 1)  # (R, P + T, H)
        self.states = self.steps.states(inputs, self.mask)[:, self.width - 1 :]  # (R, T + 1, H)

    def scores(self, place: int) -> torch.Tensor:
        """Log-probabilities of the token that follows so many tokens of each trunk: (R, V) fp32."""
        found: torch.Tensor = self.steps.head(self.states[:, place]).float().log_softmax(-1)
        return found

    def leave(self, rows: torch.Tensor, place: int) -> Branches:
        """Texts that leave these trunks (B,) after so many tokens, and have read no other token yet."""
        known = self.width + place
        return Branches(
            self.steps.fork(rows, known), self.embed, None if self.mask is None else self.mask[rows, :known]
        )


class Branches:
    """Texts that have left their trunks, each reading on by itself."""

    def __init__(self, steps: Steps | GPT2Steps, embed: Any, mask: torch.Tensor | None) -> None:
        self.steps, self.embed, self.mask = steps, embed, mask

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states of the next tokens (B, n): (B, n, H)."""
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(ids.shape)], 1)
        inputs = self.embed(ids)
        return self.steps.states(inputs, self.mask)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Of the token after the next tokens (B, n), in fp32: (B, V)."""
        found: torch.Tensor = self.steps.head(self.states(ids)[:, -1])
        return found.float()

    def join(self, others: Branches) -> Branches:
        """Take others in, after the own ones; they have read as many tokens."""
        self.steps.join(others.steps)
        if self.mask is not None and others.mask is not None:
            self.mask = torch.cat([self.mask, others.mask])
        return self

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these, in this order."""
        self.steps.keep(rows)
        self.mask = None if self.mask is None else self.mask[rows]


def shared(text: Sequence[int], trunk: Sequence[int]) -> int:
    """How many tokens a text begins with as a trunk does, its last one left out."""
    count = max(min(len(text) - 1, len(trunk)), 0)
    return next((place for place in range(count) if text[place] != trunk[place]), count)


def without(gone: torch.Tensor) -> torch.Tensor:
    """The rows that are left of (B,) bool, most of them where they were: what goes is filled up from the end."""
    kept = (~gone).nonzero().squeeze(-1)
    order = torch.arange(len(kept), device=gone.device)
    order[gone[: len(kept)]] = kept[kept >= len(kept)]
    return order
