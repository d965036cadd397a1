"""Insertion: words that a text must contain are put into what the decoder writes, where they are likeliest.

Knows nothing of how texts begin; it is given that.

Shapes: B batch, P prefix tokens, H GPT hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from vec2text.constraints import Constraints
from vec2text.masks import TokenMask
from vec2text.paths import explore
from vec2text.pieces import Pieces

_KEPT = 3  # texts that the next word is put into
_CHUNK = 256  # proposals that are written at a time


@dataclass(frozen=True)
class Draft:
    """A text that was written after given tokens."""

    ids: tuple[int, ...]
    """The end token included where it ended."""
    text: str
    score: float
    """Its log-probability."""


class Insertion:
    """The search for texts that contain words.

    Args:
        constraints: what is asked; the words one after another fit into `max_tokens`, so that there is such a text.
        pieces: what the tokens write.
        mask: says which tokens may come next, and is told where words end.
        end_id: the token that ends a text.
        max_tokens: longest text.
    """

    def __init__(self, constraints: Constraints, pieces: Pieces, mask: TokenMask, end_id: int, max_tokens: int) -> None:
        self.constraints, self.pieces, self.mask = constraints, pieces, mask
        self.end_id, self.max_tokens = end_id, max_tokens

    @torch.inference_mode()
    def texts(
        self, decoder: Any, prefixes: torch.Tensor, firsts: list[tuple[int, ...]], count: int
    ) -> list[list[tuple[int, ...]]]:
        """Texts for each of B vectors that obey, as tokens, the likeliest first.

        The words that the greedy text lacks are put in at each of its places: some tens of texts are written for each
        vector.

        Args:
            decoder: a causal LM in eval mode.
            prefixes: (B, P, H).
            firsts: the tokens by which each text begins.
            count: how many for each at most.
        """
        self.mask.closed.clear()
        drafts = self._write(decoder, prefixes, list(enumerate(firsts)))
        fine = [[draft for draft in row if self.constraints.obeyed_by(draft.text)] for row in drafts]
        open_rows = [row for row, found in enumerate(fine) if not found]
        for turn, _ in enumerate(self.constraints.words):
            jobs: list[tuple[int, tuple[int, ...]]] = []
            for row in open_rows:
                best = sorted(drafts[row], key=lambda draft: -draft.score)[:_KEPT]
                texts = [self.constraints.line_up(self.constraints.words[-1])] if turn == 0 else []
                texts += [
                    text
                    for draft in best
                    for word in self.constraints.missing(draft.text)
                    for text in self._with_word(draft.text, word)
                ]
                begun = map(tuple, self.pieces.all_ids(list(dict.fromkeys(texts))))
                jobs += [(row, begin) for begin in dict.fromkeys(begun) if len(begin) <= self.max_tokens]
            self.mask.closed.update(begin for _, begin in jobs)
            drafts = self._write(decoder, prefixes, jobs)
            for row in open_rows:
                fine[row] += [draft for draft in drafts[row] if self.constraints.obeyed_by(draft.text)]
                drafts[row] = [draft for draft in drafts[row] if not self.constraints.obeyed_by(draft.text)]
        assert all(fine), "the words one after another do not obey"
        # All of their tokens are given, so that they come out again whatever the mask is told of other rows.
        best_ids = [[draft.ids for draft in sorted(row, key=lambda draft: -draft.score)] for row in fine]
        return [list(dict.fromkeys(row))[:count] for row in best_ids]

    def _with_word(self, text: str, word: str) -> Iterator[str]:
        """The beginnings of a text, each with the word after it, as far as they obey."""
        words = text.split()
        for place in range(len(words) + 1):
            whole = " ".join(words[:place])
            for before in dict.fromkeys([whole, whole.rstrip(".,;:!?")]):
                upper = not before or before[-1] in ".!?"
                for form in dict.fromkeys([word, word[0].upper() + word[1:] if upper else word]):
                    longer = f"{before} {form}".strip()
                    limit = self.constraints.max_words
                    if longer.startswith(self.constraints.opening) and (limit is None or len(longer.split()) <= limit):
                        yield longer

    def _write(
        self, decoder: Any, prefixes: torch.Tensor, jobs: list[tuple[int, tuple[int, ...]]]
    ) -> list[list[Draft]]:
        """What greedy decoding makes of rows and first tokens, by row."""
        drafts: list[list[Draft]] = [[] for _ in range(len(prefixes))]
        for start in range(0, len(jobs), _CHUNK):
            rows, begin = zip(*jobs[start : start + _CHUNK], strict=True)
            paths = explore(decoder, prefixes[list(rows)], self.end_id, self.max_tokens, begin=begin, allowed=self.mask)
            for row, path in zip(rows, paths, strict=True):
                score = float(path.log_probabilities.sum())
                drafts[row].append(Draft(tuple(path.ids), self.pieces.shown(path.ids), score))
        return drafts
