"""Batches: training sentences as tokens, gathered into batches of one length under a budget of positions.

Knows nothing of models.

Shapes: N sentences, B batch, D vector dimension, T text tokens, P prefix tokens.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from vec2text.cache import Vectors
from vec2text.corpus import Corpus
from vec2text.encoders import Encoder
from vec2text.tokenizer import FastTokenizer
from vec2text.tokens import token_ids

if TYPE_CHECKING:  # seconds of import
    from transformers import PreTrainedTokenizerBase

_CHUNK = 10_000


@dataclass(frozen=True)
class Batch:
    """What `Inverter.forward` takes."""

    vectors: torch.Tensor
    """(B, D) float32."""
    ids: torch.Tensor
    """(B, T) text tokens, padded with zeros."""
    lengths: torch.Tensor
    """(B,) tokens of each text; always on the CPU."""

    def pinned(self) -> Batch:
        """The same in memory from which a GPU fetches while it and the CPU go on."""
        if self.ids.device.type != "cpu":
            return self
        return Batch(self.vectors.pin_memory(), self.ids.pin_memory(), self.lengths)


class Examples:
    """The sentences of a split as token ids, beside their vectors.

    Args:
        corpus: the sentences.
        rows: which of them, (N,).
        vectors: those of the corpus.
        tokenizer: the decoder's.
        max_tokens: longer sentences are dropped and counted in `too_long`.
    """

    _kept: tuple[torch.Tensor, ...] | None = None
    _first: Examples | None = None  # what these begin with
    few_shapes = False
    """Whether the widths of batches are rounded up to a few; see `widths`."""

    def __init__(
        self,
        corpus: Corpus,
        rows: np.ndarray,
        vectors: Vectors,
        tokenizer: FastTokenizer | PreTrainedTokenizerBase,
        max_tokens: int,
    ) -> None:
        ids, lengths = [], []
        for start in range(0, len(rows), _CHUNK):
            texts = [corpus.texts[row] for row in rows[start : start + _CHUNK]]
            found = token_ids(tokenizer, texts)
            lengths.append(np.fromiter((len(row) for row in found), np.int64, len(found)))
            short = [row for row in found if len(row) <= max_tokens]
            ids.append(np.fromiter(chain.from_iterable(short), np.int32))
        every = np.concatenate(lengths)
        kept = every <= max_tokens
        self.vectors, self.rows, self.lengths = vectors, rows[kept], every[kept]
        self.too_long = int((~kept).sum())
        self._ids = np.concatenate(ids)
        self._ends = np.cumsum(self.lengths)
        if not len(self.rows):
            raise ValueError(f"all {len(rows)} sentences of a split have more than data.max_tokens={max_tokens} tokens")

    def __len__(self) -> int:
        return len(self.rows)

    def followed_by(self, others: Examples) -> Examples:
        """These examples, and then the others."""
        both = copy(self)
        both._kept, both._first = None, self
        both.vectors = self.vectors.followed_by(others.vectors)
        both.rows = np.concatenate([self.rows, len(self.vectors) + others.rows])
        both.lengths = np.concatenate([self.lengths, others.lengths])
        both.too_long = self.too_long + others.too_long
        both._ids, both._ends = np.concatenate([self._ids, others._ids]), np.cumsum(both.lengths)
        return both

    def keep_on(self, device: torch.device, room: int) -> None:
        """Make batches on a GPU from now on, of tokens and vectors that lie there, where they fit in `room` bytes.

        The examples that these begin with do so too, from the same memory.
        """
        size = len(self._ids) * self._ids.itemsize + len(self) * (4 * self.vectors.dimension + 16)
        if self._kept is not None or size > room:
            return
        vectors = torch.empty(len(self), self.vectors.dimension, device=device)
        for start in range(0, len(self), _CHUNK):
            rows = self.rows[start : start + _CHUNK]
            vectors[start : start + len(rows)] = torch.from_numpy(self.vectors[rows])
        starts, lengths = self._ends - self.lengths, self.lengths
        ids, begins, every = (torch.from_numpy(array).to(device) for array in (self._ids, starts, lengths))
        self._kept = vectors, ids, begins, every
        if self._first is not None:
            self._first._kept = self._kept

    def widths(self, lengths: np.ndarray) -> np.ndarray:
        """What texts of these lengths are padded to, where batches are to have few shapes.

        For every new shape oneDNN compiles a bf16 matrix product anew on a CPU, which takes longer than multiplying
        some thousand rows, and it keeps a thousand products.
        """
        if not self.few_shapes:
            return lengths
        step = np.select([lengths <= 24, lengths <= 48], [2, 4], 8)
        return np.minimum(-(-lengths // step) * step, max(int(self.lengths.max()), int(lengths.max(initial=0))))

    def batch(self, members: np.ndarray) -> Batch:
        """The examples at places `members`, on the device that they are kept on."""
        lengths = self.lengths[members]
        if self._kept is not None:  # without waiting for the GPU
            vectors, every_id, begins, every_length = self._kept
            places = torch.from_numpy(members)
            if vectors.device.type == "cuda":
                places = places.pin_memory().to(vectors.device, non_blocking=True)
            columns = torch.arange(int(self.widths(lengths).max()), device=vectors.device)
            found = every_id[(begins[places].unsqueeze(1) + columns).clamp_max(len(every_id) - 1)].long()  # (B, T)
            found = found.masked_fill(columns >= every_length[places].unsqueeze(1), 0)
            return Batch(vectors[places], found, torch.from_numpy(lengths))
        ids = np.zeros((len(members), int(self.widths(lengths).max())), np.int64)  # (B, T)
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        starts = self._ends[members] - lengths
        ids[inside] = self._ids[(starts[:, None] + np.arange(ids.shape[1]))[inside]]
        return Batch(
            torch.from_numpy(self.vectors[self.rows[members]]), torch.from_numpy(ids), torch.from_numpy(lengths)
        )

    def sample(self, count: int) -> np.ndarray:
        """Vectors of `count` examples, or of all where there are fewer, evenly spread: (n, D)."""
        return self.vectors[self.rows[np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)]]

    def plan(
        self, prefix_length: int, batch_tokens: int, seed: int, epoch: int, batch_sentences: int | None = None
    ) -> list[np.ndarray]:
        """The batches of an epoch, as places: all of (nearly) one length, in random order.

        A batch of B sentences of up to T tokens takes B * (P + T) <= batch_tokens positions; where batch_sentences is
        given, batch_tokens is not heeded and every batch but one has that many sentences.

        Raises:
            ValueError: the longest sentence alone does not fit.
        """
        random = np.random.default_rng([seed, epoch])
        order = np.lexsort((random.random(len(self)), self.lengths))
        if batch_sentences is not None:
            batches = np.split(order, range(batch_sentences, len(order), batch_sentences))
            return [batches[i] for i in random.permutation(len(batches))]
        longest = prefix_length + int(self.lengths.max())
        if longest > batch_tokens:
            raise ValueError(
                f"training.batch_tokens is {batch_tokens}, but a prefix and the longest sentence take {longest} "
                "positions: raise it, or lower data.max_tokens"
            )
        sizes = prefix_length + self.widths(self.lengths[order])
        batches, start = [], 0
        while start < len(order):
            reach = min(start + batch_tokens // int(sizes[start]), len(order))
            stop = min(start + batch_tokens // int(sizes[reach - 1]), len(order))
            batches.append(order[start:stop])
            start = stop
        return [batches[i] for i in random.permutation(len(batches))]


@dataclass(frozen=True)
class Data:
    """What fit() learns from and is judged by."""

    corpus: Corpus
    vectors: Vectors
    train: Examples
    validation: Examples
    test: Examples
    encoder: Encoder | None = field(repr=False)
    """None where vectors were given without it: then no similarity can be measured."""
    correction: Examples | None = None
    """Training sentences that are kept for learning to correct; the others are `train`."""
    spliced: Examples | None = None
    """Those of `train` and then splices, for all but the last part of a run; None: there are no splices."""

    def held_out(self, split: str, count: int) -> tuple[list[str], np.ndarray]:
        """`count` sentences of a split, evenly spread over the corpus, and their vectors (count, D)."""
        rows = getattr(self, split).rows  # those of up to max_tokens: a longer one could not come back
        rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        return [self.corpus.texts[row] for row in rows], self.vectors[rows]
