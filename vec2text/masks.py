"""Masks: which tokens may come next, so that a text begins as it must and has no more words than it may.

Knows nothing of how the words that a text must contain come into it; it is told where one ends.

Shapes: B batch, t tokens so far, V vocabulary.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch

from vec2text.openings import Openings
from vec2text.pieces import Pieces, read

MASKS_KEPT = 256
"""States of a text whose masks are kept, the last used: of each one a byte a token."""


class State(NamedTuple):
    """All of a text that says which tokens may come next."""

    node: tuple[int, ...] | None
    """Its tokens, where they do not cover the opening yet."""
    inside: bool
    """It ends inside a word."""
    tail: bytes
    """Of a last character that is not whole."""
    room: int | None
    """Words that it may still begin; None: no limit. More than any token begins are all one."""
    left: int
    """Tokens after the next; from 4 on they are all one, since no character lacks more than 3."""
    closed: bool
    """It ends with a word to be contained, which is not to grow."""
    begun: bool
    """It begins as asked."""


class TokenMask:
    """Which tokens may come next: see `decoding.Allowed`.

    A text stays one that can still be ended in time: its last character is whole, and its beginning complete.

    Args:
        openings: by which tokens a text begins.
        max_words: most words; None: any number.
        pieces: what the tokens write.
        end_id: the token that ends a text.
        max_tokens: longest text.
    """

    def __init__(self, openings: Openings, max_words: int | None, pieces: Pieces, end_id: int, max_tokens: int) -> None:
        self.openings, self.max_words = openings, max_words
        self.pieces, self.end_id, self.max_tokens = pieces, end_id, max_tokens
        self.closed: set[tuple[int, ...]] = set()
        """First tokens that end with a word to be contained: whoever chooses them says so."""
        # Not of a method: what refers to itself is freed late.
        self._kept = lru_cache(MASKS_KEPT)(partial(mask, openings, pieces, end_id))

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Which tokens may come next: (B, V) bool, after ids (B, t), where their scores are (B, V) logits.

        In the last word that there is room for, if the model would rather begin another word than go on with this one,
        only closing punctuation and the end are left: a word made longer because no other may follow is none.
        """
        texts = [tuple(row) for row in ids.tolist()]
        masks = torch.stack([self._kept(self._state(text)) for text in texts]).to(ids.device)
        full = [row for row, text in enumerate(texts) if self._is_full(text)]
        if full:
            ends = torch.from_numpy(self.pieces.closing).to(ids.device)
            ends[self.end_id] = True
            going_on = (scores[full].softmax(-1) * (masks[full] & ~ends)).sum(-1, keepdim=True)  # (full, 1)
            closed = masks[full] & (ends | (going_on >= 0.5))
            masks[full] = torch.where(closed.any(-1, keepdim=True), closed, masks[full])
        return masks

    def _is_full(self, ids: tuple[int, ...]) -> bool:
        """Whether as many words are there as there may be, and the text could end."""
        known = None if self.max_words is None else read(self.pieces.join(ids))
        if known is None or known[1] or not self._begun(known[0]):
            return False
        return len(known[0].split()) == self.max_words

    def _state(self, ids: tuple[int, ...]) -> State | None:
        """Of a text; None: it has ended, or is none of ours."""
        known = None if self.end_id in ids else read(self.pieces.join(ids))
        if known is None:
            return None
        text, tail = known
        room = None if self.max_words is None else self.max_words - len(text.split())
        return State(
            node=ids if ids in self.openings.after else None,
            inside=bool(text) and not text[-1].isspace(),
            tail=tail,
            room=None if room is None else min(room, self.pieces.most_words + 1),
            left=min(self.max_tokens - len(ids) - 1, 4),
            closed=ids in self.closed,
            begun=self._begun(text),
        )

    def _begun(self, text: str) -> bool:
        return " ".join(text.split()).startswith(self.openings.text)


def mask(openings: Openings, pieces: Pieces, end_id: int, state: State | None) -> torch.Tensor:
    """(V,) which tokens may come next; only the end where there is no state.

    Args:
        openings: by which tokens a text begins.
        pieces: what the tokens write.
        end_id: the token that ends a text.
        state: of the text.
    """
    open_ = np.zeros(len(pieces.written), bool)
    if state is not None:
        effect = pieces.effect(state.tail, state.inside)
        open_ = (effect.lacks >= 0) & (effect.lacks <= state.left)
        if state.node is not None:
            nexts = openings.after[state.node]
            # To the end of the opening there is a way that fits, whatever its characters lack on it.
            open_[[token for token in nexts if (*state.node, token) in openings.after]] = True
            chosen = np.zeros_like(open_)
            chosen[list(nexts)] = True
            if state.left == 0 and openings.text.endswith(" "):
                chosen &= ~effect.spaced
            open_ &= chosen
        elif not state.begun:  # all but the word after the opening is there
            open_ &= effect.words > 0
        elif state.closed:
            open_ &= pieces.parts
        if state.room is not None:
            # A space after the last word leads nowhere.
            open_ &= (effect.words < state.room) | ((effect.words == state.room) & ~effect.spaced)
        open_[end_id] = state.node is None and not state.tail and state.begun
    if not open_.any():
        open_[end_id] = True
    return torch.from_numpy(open_)
