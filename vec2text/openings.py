"""Openings: the tokens by which a text may begin as it must.

Knows nothing of what else a text is to be like.

A text begins by tokens that the tokenizer itself would choose for some text that begins so ("token healing"): the end
of what is asked for may be inside a token, and of the ways to split it the likeliest is taken.

Shapes: B batch, P prefix tokens, H GPT hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vec2text.paths import rate
from vec2text.pieces import Pieces, is_whole


class Openings:
    """All first tokens after which one token more covers the opening, as the tokenizer splits some text.

    Args:
        opening: what the text begins with, as `Constraints.opening` gives it; empty: anything.
        pieces: what the tokens write.
        max_tokens: longest text.

    Raises:
        ValueError: the tokenizer cannot write it, or not in `max_tokens`.
    """

    def __init__(self, opening: str, pieces: Pieces, max_tokens: int) -> None:
        self.text, self.pieces, self.max_tokens = opening, pieces, max_tokens
        self.firsts: list[tuple[int, ...]] = []
        """Those first tokens; none where there is no opening."""
        self.after: dict[tuple[int, ...], set[int]] = {}
        """For them, and for what they begin with, the tokens that may come next."""
        if opening:
            self._find(opening)

    @torch.inference_mode()
    def likeliest(self, decoder: Any, prefixes: torch.Tensor) -> list[tuple[int, ...]]:
        """The first tokens that a text for each of B vectors most probably has; none where there is no opening.

        Args:
            decoder: a causal LM in eval mode.
            prefixes: (B, P, H).
        """
        if len(self.firsts) < 2:
            return (self.firsts or [()]) * len(prefixes)
        shared = 0
        while shared < min(map(len, self.firsts)) and len({first[shared] for first in self.firsts}) == 1:
            shared += 1
        scores = []
        for first in self.firsts:
            goal = [token for token in self.after[first] if (*first, token) not in self.after]
            scores.append(rate(decoder, prefixes, first, goal, shared))
        best: list[int] = torch.stack(scores).argmax(0).tolist()
        return [self.firsts[place] for place in best]

    def _find(self, opening: str) -> None:
        stem = opening.strip()
        ids = self.pieces.ids(stem)
        if self.pieces.shown(ids) != stem:
            raise ValueError(f"this inverter's tokenizer cannot write {stem!r} (starts_with)")
        written = self.pieces.join(ids)
        goal = written + b" " * opening.endswith(" ")
        needed = len(ids) + (goal != written)
        if needed > self.max_tokens:
            raise ValueError(
                f"starts_with {opening!r} takes {needed} tokens or more, but max_tokens is {self.max_tokens}"
            )
        word = len(stem) - len(stem.split()[-1])  # where its last word begins
        cuts = {opening[:place].rstrip() for place in range(max(word - 1, 0), len(opening) + 1)}
        firsts = {tuple(cut[:n]) for cut in map(self.pieces.ids, sorted(cuts)) for n in range(len(cut) + 1)}
        base = max(goal.rstrip().rfind(b" "), 0) if goal == written else len(written)
        for first in sorted(firsts):
            data = self.pieces.join(first)
            if len(data) < base or not goal.startswith(data) or data == goal:
                continue
            nexts = self.pieces.starting(goal[len(data) :])
            nexts = nexts if len(data) == base else self._kept_apart(first, nexts)
            if nexts and len(first) + self._needed(data, nexts, goal != written) <= self.max_tokens:
                self.firsts.append(first)
                for place, token in enumerate(first):
                    self.after.setdefault(first[:place], set()).add(token)
                self.after.setdefault(first, set()).update(nexts)
        if not self.firsts:  # no token ends where its last word begins
            raise ValueError(f"this inverter's tokenizer cannot begin a text with {opening!r} (starts_with)")

    def _kept_apart(self, first: tuple[int, ...], nexts: list[int]) -> list[int]:
        """Those tokens that the tokenizer, too, would write after `first`, rather than split the text elsewhere."""
        texts = [self.pieces.shown([*first, token]) for token in nexts]
        split = [tuple(ids) for ids in self.pieces.all_ids(texts)]
        return [
            token
            for token, text, ids in zip(nexts, texts, split, strict=True)
            if "\ufffd" in text or ids == (*first, token)
        ]

    def _needed(self, data: bytes, nexts: Sequence[int], spaced: bool) -> int:
        """How many tokens complete the opening that `data` begins, and a word after it where it ends in a space.

        Args:
            data: what was written before.
            nexts: the first of those tokens is one of them.
            spaced: the opening ends in a space.
        """
        whole = [piece for piece in (self.pieces.written[token] for token in nexts) if is_whole(data + piece)]
        if not whole:  # a character lacks up to 3 bytes
            return 4 + spaced
        return 1 + (spaced and not any(piece.strip() for piece in whole))
