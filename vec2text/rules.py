"""Rules: constraints as one model obeys them. What they ask of its tokens is checked here, once.

Knows nothing of vectors or encoders.

A text begins by `openings`, goes on under `masks`, and gets the words that it lacks by `insertion`.

Shapes: B batch, P prefix tokens, H GPT hidden size, t tokens so far, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

from vec2text.constraints import Constraints
from vec2text.insertion import Insertion
from vec2text.masks import TokenMask
from vec2text.openings import Openings
from vec2text.pieces import Pieces


class Rules:
    """Constraints for one model: which tokens may come next (see `decoding.Allowed`), and how texts begin.

    Where words must be contained, they fit one after another: so there is a text that obeys for every vector.

    Args:
        constraints: what is asked.
        pieces: what the model's tokens write.
        end_id: the token that ends a text.
        max_tokens: longest text.

    Raises:
        ValueError: the tokenizer cannot write it, or not in `max_tokens`.
    """

    def __init__(self, constraints: Constraints, pieces: Pieces, end_id: int, max_tokens: int) -> None:
        self.constraints, self.max_tokens = constraints, max_tokens
        for word in constraints.words:
            ids = pieces.ids(word)
            if len(ids) > max_tokens:
                raise ValueError(
                    f"must_contain {word!r} takes {len(ids)} tokens or more, but max_tokens is {max_tokens}"
                )
            if pieces.shown(ids) != word:
                raise ValueError(f"this inverter's tokenizer cannot write {word!r} (must_contain)")
        self.openings = Openings(constraints.opening, pieces, max_tokens)
        if constraints.words:
            whole = constraints.line_up(constraints.words[-1])
            ids = pieces.ids(whole)
            if len(ids) > max_tokens or pieces.shown(ids) != whole:
                raise self.refusal()
        self.mask = TokenMask(self.openings, constraints.max_words, pieces, end_id, max_tokens)
        self.insertion = Insertion(constraints, pieces, self.mask, end_id, max_tokens)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Which tokens may come next: (B, V) bool, after ids (B, t), where their scores are (B, V) logits."""
        return self.mask(ids, scores)

    def beginnings(self, decoder: Any, prefixes: torch.Tensor, count: int = 1) -> list[list[tuple[int, ...]]]:
        """First tokens for each of B vectors, from which greedy decoding under these rules writes a text that obeys.

        Where words must be contained, these are whole texts.

        Args:
            decoder: a causal LM in eval mode.
            prefixes: (B, P, H).
            count: how many for each at most, the likeliest first.
        """
        firsts = self.openings.likeliest(decoder, prefixes)
        if not self.constraints.words:
            return [[first] for first in firsts]
        return self.insertion.texts(decoder, prefixes, firsts, count)

    def refusal(self) -> ValueError:
        """That there is no such text."""
        asked = [f"begins with {self.constraints.opening!r}"] if self.constraints.opening else []
        asked += [f"contains {word!r}" for word in self.constraints.words]
        asked += [] if self.constraints.max_words is None else [f"has at most {self.constraints.max_words} words"]
        return ValueError(
            f"no text of at most {self.max_tokens} tokens was found that {' and '.join(asked)}: allow more tokens "
            "(max_tokens) or ask for less"
        )
