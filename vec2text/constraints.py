"""Constraints: how a text must begin, which words it must contain, how many it may have.

Knows nothing of vectors or encoders.

All is said of the text that the user sees: in NFC, with single spaces and without special tokens. A text begins by
tokens that the tokenizer itself would choose for some text that begins so ("token healing"): the end of what is asked
for may be inside a token, and of the ways to split it the likeliest is taken.

Shapes: B batch, P prefix tokens, H GPT hidden size, t tokens so far, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch

from vec2text.decoding import Path, explore, rate
from vec2text.pieces import Pieces, is_whole, read
from vec2text.sentences import normalise

MASKS_KEPT = 256
"""States of a text whose masks are kept, the last used: of each one a byte a token."""

_KEPT = 3  # texts that the next word is put into
_CHUNK = 256  # proposals that are written at a time


@dataclass(frozen=True)
class Constraints:
    """What every text must be like.

    Raises:
        ValueError: values that nothing can obey, or that contradict each other.
    """

    starts_with: str | None = None
    """It begins with this, case and all; a space at the end: and a new word follows."""
    must_contain: Sequence[str] = ()
    """Each of these occurs as a whole word, or whole words, whatever its case."""
    max_words: int | None = None
    """Most words, which white space divides."""

    def __post_init__(self) -> None:
        if isinstance(self.must_contain, str):
            raise ValueError(f"must_contain is the text {self.must_contain!r}; expected a list of words")
        if self.starts_with is not None and not self.opening:
            raise ValueError("starts_with is empty; expected the text's beginning")
        if not all(self.words):
            raise ValueError("must_contain has an empty word; expected letters")
        if self.max_words is not None:
            self._check_words(self.max_words)

    def _check_words(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"max_words is {limit}; expected at least 1")
        asked = f"starts_with {self.opening!r}" if self.opening else ""
        for word in ["", *self.words]:
            asked += f"{' and ' if asked and word else ''}{f'must_contain {word!r}' if word else ''}"
            needed = len(self.line_up(upto=word or None).split())
            needed += word == "" and self.opening.endswith(" ")
            if needed > limit:
                raise ValueError(f"{asked} and max_words {limit} contradict: that takes {needed} words")

    def __bool__(self) -> bool:
        return bool(self.opening or self.words or self.max_words)

    @property
    def opening(self) -> str:
        """What the text begins with, as it will be written."""
        text = self.starts_with or ""
        return normalise(text) + (" " if text.strip() and text[-1].isspace() else "")

    @property
    def words(self) -> list[str]:
        """What must occur, as it will be written, the longest first: it may hold a shorter one."""
        return sorted(dict.fromkeys(map(normalise, self.must_contain)), key=len, reverse=True)

    def missing(self, text: str) -> list[str]:
        """Those words that do not occur in a text."""
        return [word for word in self.words if not _occurs(word, text)]

    def obeyed_by(self, text: str) -> bool:
        """Whether a text is as asked."""
        short = self.max_words is None or len(text.split()) <= self.max_words
        return short and text.startswith(self.opening) and not self.missing(text)

    def line_up(self, upto: str | None = None) -> str:
        """The beginning and then the words one after another, up to one of them: bad style, but as short as can be."""
        text = self.opening.strip()
        for word in self.words[: self.words.index(upto) + 1] if upto else []:
            if _occurs(word, text):
                continue
            *before, last = text.split() or [""]
            goes_on = bool(last) and not self.opening.endswith(" ") and text == self.opening
            goes_on = goes_on and word.startswith(last)  # the beginning ended inside this word
            text = " ".join([*(before if goes_on else text.split()), word])
        return text


def _occurs(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class _Draft:
    """A text that was written after given tokens."""

    ids: tuple[int, ...]
    """The end token included where it ended."""
    text: str
    score: float
    """Its log-probability."""


class _State(NamedTuple):
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


def _mask(
    pieces: Pieces, end_id: int, after: Mapping[tuple[int, ...], Iterable[int]], spaced: bool, state: _State | None
) -> torch.Tensor:
    """(V,) which tokens may come next; only the end where there is no state.

    Args:
        pieces: what they write.
        end_id: the token that ends a text.
        after: which may come after first tokens that do not cover the opening yet.
        spaced: the opening ends in white space.
        state: of the text.
    """
    open_ = np.zeros(len(pieces.written), bool)
    if state is not None:
        effect = pieces.effect(state.tail, state.inside)
        in_time = effect.lacks <= state.left
        if state.node is not None:  # where the opening goes on it is known to fit
            in_time[[token for token in after[state.node] if (*state.node, token) in after]] = True
        open_ = (effect.lacks >= 0) & in_time
        if state.room is not None:
            # A space after the last word leads nowhere.
            open_ &= (effect.words < state.room) | ((effect.words == state.room) & ~effect.spaced)
        if state.node is not None:
            chosen = np.zeros_like(open_)
            chosen[list(after[state.node])] = True
            if state.left == 0 and spaced:
                chosen &= ~effect.spaced
            open_ &= chosen
        elif not state.begun:  # all but the word after the opening is there
            open_ &= effect.words > 0
        elif state.closed:
            open_ &= pieces.parts
        open_[end_id] = state.node is None and not state.tail and state.begun
    if not open_.any():
        open_[end_id] = True
    return torch.from_numpy(open_)


class Rules:
    """Constraints for one model: which tokens may come next (see `decoding.Allowed`), and how texts begin.

    A text stays one that can still be ended in time: its last character is whole, and its beginning complete. And where
    words must be contained, they fit one after another. So there is a text that obeys for every vector, or for none.

    Args:
        constraints: what is asked.
        tokenizer: the model's.
        pieces: what its tokens write.
        end_id: the token that ends a text.
        max_tokens: longest text.

    Raises:
        ValueError: the tokenizer cannot write it, or not in `max_tokens`.
    """

    def __init__(self, constraints: Constraints, tokenizer: Any, pieces: Pieces, end_id: int, max_tokens: int) -> None:
        self.constraints, self.tokenizer, self.pieces = constraints, tokenizer, pieces
        self.end_id, self.max_tokens = end_id, max_tokens
        for word in constraints.words:
            self._check_fits("must_contain", word, len(self._ids(word)))
            if self._shown(self._ids(word)) != word:
                raise ValueError(f"this inverter's tokenizer cannot write {word!r} (must_contain)")
        self._after: dict[tuple[int, ...], set[int]] = {}  # first tokens that do not yet cover the opening -> the next
        self._openings: list[tuple[int, ...]] = []  # those of them after which one token more covers it
        self._find_openings(constraints.opening)
        whole = constraints.line_up(constraints.words[-1] if constraints.words else None)
        if len(self._ids(whole)) > max_tokens or self._shown(self._ids(whole)) != whole:
            raise self.refusal()
        self._closed: set[tuple[int, ...]] = set()  # first tokens that end with a word to be contained
        spaced = constraints.opening.endswith(" ")
        # Not of a method: what refers to itself is freed late.
        self._masks = lru_cache(MASKS_KEPT)(partial(_mask, pieces, end_id, self._after, spaced))

    # -- which tokens may come next ------------------------------------------------------------------------------

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Which tokens may come next: (B, V) bool, after ids (B, t), where their scores are (B, V) logits.

        In the last word that there is room for, if the model would rather begin another word than go on with this one,
        only closing punctuation and the end are left: a word made longer because no other may follow is none.
        """
        texts = [tuple(row) for row in ids.tolist()]
        masks = torch.stack([self._row(text) for text in texts]).to(ids.device)
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
        known = None if self.constraints.max_words is None else read(self.pieces.join(ids))
        if known is None or known[1] or not self._begun(known[0]):
            return False
        return len(known[0].split()) == self.constraints.max_words

    def _row(self, ids: tuple[int, ...]) -> torch.Tensor:
        known = None if self.end_id in ids else read(self.pieces.join(ids))
        if known is None:  # it has ended, or is none of ours
            return self._masks(None)
        text, tail = known
        limit = self.constraints.max_words
        state = _State(
            node=ids if ids in self._after else None,
            inside=bool(text) and not text[-1].isspace(),
            tail=tail,
            room=None if limit is None else min(limit - len(text.split()), self.pieces.most_words + 1),
            left=min(self.max_tokens - len(ids) - 1, 4),
            closed=ids in self._closed,
            begun=self._begun(text),
        )
        return self._masks(state)

    def _begun(self, text: str) -> bool:
        return " ".join(text.split()).startswith(self.constraints.opening)

    # -- how texts begin -----------------------------------------------------------------------------------------

    def _find_openings(self, opening: str) -> None:
        """All first tokens after which one token more covers the opening, as the tokenizer splits some text."""
        if not opening:
            return
        stem = opening.strip()
        written = self.pieces.join(self._ids(stem))
        if self._shown(self._ids(stem)) != stem:
            raise ValueError(f"this inverter's tokenizer cannot write {stem!r} (starts_with)")
        goal = written + b" " * opening.endswith(" ")
        self._check_fits("starts_with", opening, len(self._ids(stem)) + (goal != written))
        word = len(stem) - len(stem.split()[-1])  # where its last word begins
        cuts = {opening[:place].rstrip() for place in range(max(word - 1, 0), len(opening) + 1)}
        firsts = {tuple(ids[:n]) for ids in map(self._ids, sorted(cuts)) for n in range(len(ids) + 1)}
        base = max(goal.rstrip().rfind(b" "), 0) if goal == written else len(written)
        for first in sorted(firsts):
            data = self.pieces.join(first)
            if len(data) < base or not goal.startswith(data) or data == goal:
                continue
            nexts = self.pieces.starting(goal[len(data) :])
            nexts = nexts if len(data) == base else self._kept_apart(first, nexts)
            if nexts and len(first) + self._needed(data, nexts, goal != written) <= self.max_tokens:
                self._openings.append(first)
                for place, token in enumerate(first):
                    self._after.setdefault(first[:place], set()).add(token)
                self._after.setdefault(first, set()).update(nexts)
        if not self._openings:
            raise ValueError(f"this inverter's tokenizer cannot begin a text with {opening!r} (starts_with)")

    def _needed(self, data: bytes, nexts: Sequence[int], spaced: bool) -> int:
        """How many tokens, the first of them one of `nexts`, complete the opening that `data` begins."""
        written = [self.pieces.written[token] for token in nexts]
        fine = (piece for piece in written if is_whole(data + piece) and (piece.strip() or not spaced))
        if next(fine, None) is not None:
            return 1
        return 2 if spaced and any(is_whole(data + piece) for piece in written) else 5

    def _kept_apart(self, first: tuple[int, ...], nexts: list[int]) -> list[int]:
        """Those tokens that the tokenizer, too, would write after `first`, rather than split the text elsewhere."""
        texts = [self._shown([*first, token]) for token in nexts]
        split = [tuple(ids) for ids in self._all_ids(texts)]
        return [
            token
            for token, text, ids in zip(nexts, texts, split, strict=True)
            if "\ufffd" in text or ids == (*first, token)
        ]

    def _check_fits(self, name: str, text: str, needed: int) -> None:
        if needed > self.max_tokens:
            raise ValueError(f"{name} {text!r} takes {needed} tokens or more, but max_tokens is {self.max_tokens}")

    @torch.inference_mode()
    def beginnings(self, decoder: Any, prefixes: torch.Tensor, count: int = 1) -> list[list[tuple[int, ...]]]:
        """First tokens for each of B vectors, from which greedy decoding under these rules writes a text that obeys.

        Where words must be contained that the greedy text lacks, they are put in at each of its places, and the
        likeliest texts are chosen: some tens of texts are written for each vector.

        Args:
            decoder: a Hugging Face causal LM in eval mode.
            prefixes: (B, P, H).
            count: how many for each at most, the likeliest first.
        """
        self._closed.clear()
        firsts: list[tuple[int, ...]] = [()] * len(prefixes)
        if self._openings:
            firsts = [self._openings[best] for best in self._likeliest(decoder, prefixes)]
        if not self.constraints.words:
            return [[first] for first in firsts]
        return self._containing(decoder, prefixes, firsts, count)

    def _likeliest(self, decoder: Any, prefixes: torch.Tensor) -> list[int]:
        """Which opening a text for each prefix most probably takes."""
        if len(self._openings) == 1:
            return [0] * len(prefixes)
        shared = 0
        while shared < min(map(len, self._openings)) and len({first[shared] for first in self._openings}) == 1:
            shared += 1
        scores = []
        for first in self._openings:
            goal = [token for token in self._after[first] if (*first, token) not in self._after]
            scores.append(rate(decoder, prefixes, first, goal, shared))
        best: list[int] = torch.stack(scores).argmax(0).tolist()
        return best

    def _containing(
        self, decoder: Any, prefixes: torch.Tensor, firsts: list[tuple[int, ...]], count: int
    ) -> list[list[tuple[int, ...]]]:
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
                jobs += [(row, begin) for begin in dict.fromkeys(map(tuple, self._all_ids(list(dict.fromkeys(texts)))))]
            jobs = [(row, begin) for row, begin in jobs if len(begin) <= self.max_tokens]
            self._closed.update(begin for _, begin in jobs)
            drafts = self._write(decoder, prefixes, jobs)
            for row in open_rows:
                fine[row] += [draft for draft in drafts[row] if self.constraints.obeyed_by(draft.text)]
                drafts[row] = [draft for draft in drafts[row] if not self.constraints.obeyed_by(draft.text)]
        assert all(fine), "the words one after another do not obey"
        # All of their tokens are given, so that they come out again whatever the rules are told of other rows.
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
    ) -> list[list[_Draft]]:
        """What greedy decoding makes of rows and first tokens, by row."""
        drafts: list[list[_Draft]] = [[] for _ in range(len(prefixes))]
        for start in range(0, len(jobs), _CHUNK):
            rows, begin = zip(*jobs[start : start + _CHUNK], strict=True)
            paths: list[Path] = explore(
                decoder, prefixes[list(rows)], self.end_id, self.max_tokens, begin=begin, allowed=self
            )
            for row, path in zip(rows, paths, strict=True):
                score = float(path.log_probabilities.sum())
                drafts[row].append(_Draft(tuple(path.ids), self._shown(path.ids), score))
        return drafts

    def refusal(self) -> ValueError:
        """That there is no such text."""
        asked = [f"begins with {self.constraints.opening!r}"] if self.constraints.opening else []
        asked += [f"contains {word!r}" for word in self.constraints.words]
        asked += [] if self.constraints.max_words is None else [f"has at most {self.constraints.max_words} words"]
        return ValueError(
            f"no text of at most {self.max_tokens} tokens was found that {' and '.join(asked)}: allow more tokens "
            "(max_tokens) or ask for less"
        )

    # -- texts and tokens ----------------------------------------------------------------------------------------

    def _all_ids(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return found

    def _ids(self, text: str) -> list[int]:
        return self._all_ids([text])[0]

    def _shown(self, ids: Sequence[int]) -> str:
        return " ".join(self.pieces.join(ids).decode("utf-8", "replace").split())
