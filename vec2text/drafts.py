"""Drafts: what an inverter writes for training sentences before it learns from them, as hypotheses to correct.

Knows nothing of optimisers, or of when drafts are asked for.

A corrector must see the errors that the inverter makes on sentences that it does not know. So the sentences of
`examples` are kept apart for correction, and each draft is written just before it is learned from, a pool of sentences
at a time.

Shapes: N sentences, D vector dimension, T tokens of the longest draft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch.compiler import set_stance

from vec2text.batches import Examples
from vec2text.correction import Hypotheses, positions_of_prefix
from vec2text.decoders import in_bf16
from vec2text.decoding import Decoding, decode
from vec2text.encoders import Encoder, encode_checked
from vec2text.inverter import Inverter

TEMPERATURES = (0.0, 0.5, 0.8)
"""Each for a third of the drafts: greedy ones are what is corrected first, the others are wrong in more ways."""

_POOL = 4096  # sentences drafted at a time
_ROWS = 512  # decoded at a time
_LARGER = 8  # times as many of both keep a GPU busy
_TOP_K = 64  # of the sampled ones: rarer tokens make texts without end


class Drafts:
    """Batches of examples with drafts, without end; drafts that are right already are left out.

    Args:
        inverter: writes them; it is trained meanwhile.
        encoder: embeds them: one query a draft.
        examples: the sentences kept for correction.
        batch_tokens: positions (prefix, hypothesis, text and padding) a batch.
        seed: of the order of the sentences and of the sampling.
        part: which part of the examples is this process's, and of how many.
        autocast: makes the context in which drafts are written and embedded.
    """

    def __init__(
        self,
        inverter: Inverter,
        encoder: Encoder,
        examples: Examples,
        batch_tokens: int,
        seed: int,
        part: tuple[int, int],
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.inverter, self.encoder, self.examples, self.autocast = inverter, encoder, examples, autocast
        self.batch_tokens, self.seed, self.part = batch_tokens, seed, part
        self.pool = 0  # how many were drafted
        self.done = 0  # batches of the last one
        self.members = np.zeros(0, np.int64)
        self.hypotheses = Hypotheses.of([], np.zeros((0, inverter.fingerprint.dimension), np.float32))

    def __iter__(self) -> Iterator[tuple[np.ndarray, Hypotheses]]:
        """Places of examples, and a draft of each."""
        while True:
            batches = self._batches()
            while self.done < len(batches):
                rows = batches[self.done]
                self.done += 1
                width = int(self.examples.widths(self.hypotheses.lengths[rows].numpy()).max())
                yield self.members[rows], self.hypotheses.take(rows, width)
            self._draft()

    def state(self) -> dict[str, torch.Tensor]:
        """All that is needed to go on from here."""
        place = torch.tensor([self.pool, self.done])
        return {"place": place, "members": torch.from_numpy(self.members), **self.hypotheses._asdict()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from where the first process was when `state` was taken; the others go on with their next pool."""
        self.pool, self.done = state["place"].tolist()
        if self.part[0]:
            return
        self.members = state["members"].numpy()
        self.hypotheses = Hypotheses(state["ids"], state["lengths"], state["vectors"])

    def _batches(self) -> list[np.ndarray]:
        """The pool's batches, as rows of it: of about one length, in random order."""
        random = np.random.default_rng([self.seed, self.pool])
        texts = self.examples.widths(self.examples.lengths[self.members])
        lengths = self.examples.widths(self.hypotheses.lengths.numpy())
        order = np.lexsort((random.random(len(texts)), texts + lengths))
        prefix = self.inverter.projection.config.prefix_length
        batches: list[np.ndarray] = []
        start = 0
        while start < len(order):
            rows = order[start : start + self.batch_tokens]
            # Positions of the batch when it ends with each of the rows.
            sizes = positions_of_prefix(prefix, 0) + np.maximum.accumulate(texts[rows])
            sizes = (sizes + np.maximum.accumulate(lengths[rows])) * np.arange(1, len(rows) + 1)
            count = max(1, int(np.searchsorted(sizes, self.batch_tokens, side="right")))
            batches.append(rows[:count])
            start += count
        return [batches[i] for i in random.permutation(len(batches))]

    def _draft(self) -> None:
        """Draft the next pool."""
        rank, parts = self.part
        pool = _POOL if self.inverter.device.type == "cpu" else _POOL * _LARGER
        size = min(pool, max(1, len(self.examples) // parts))
        first = (self.pool * parts + rank) * size  # of an endless row of passes over the examples
        epochs, places = np.divmod(np.arange(first, first + size), len(self.examples))
        orders = {epoch: self._order(epoch) for epoch in set(epochs.tolist())}
        members = np.array([orders[epoch][place] for epoch, place in zip(epochs, places, strict=True)])
        batch = self.examples.batch(members)
        generator = torch.Generator().manual_seed(hash((self.seed, self.pool, rank)) % 2**63)
        with self.autocast(), set_stance("force_eager"):
            ids = write(self.inverter, batch.vectors, generator)
            found = encode_checked(self.encoder, self.inverter.texts(ids), batch.vectors.shape[1])
        right = [row[:n] for row, n in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]
        wrong = np.array([draft != text for draft, text in zip(ids, right, strict=True)])
        wrong |= not wrong.any()  # else there would be nothing to go on with
        self.members = members[wrong]
        self.hypotheses = Hypotheses.of([draft for draft, keep in zip(ids, wrong, strict=True) if keep], found[wrong])
        self.pool, self.done = self.pool + 1, 0

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))


def write(inverter: Inverter, vectors: torch.Tensor, generator: torch.Generator) -> list[list[int]]:
    """Drafts of vectors (N, D) as token ids, without the end token, at each of TEMPERATURES in turn."""
    drafts: list[list[int]] = [[] for _ in vectors]
    for number, temperature in enumerate(TEMPERATURES):
        rows = np.arange(number, len(vectors), len(TEMPERATURES))
        top_k = _TOP_K if temperature else None
        options = Decoding(temperature=temperature, top_k=top_k, max_tokens=inverter.max_tokens)
        for row, ids in zip(rows, write_as(inverter, vectors[rows], options, generator), strict=True):
            drafts[row] = ids
    return drafts


@torch.inference_mode()
def write_as(
    inverter: Inverter, vectors: torch.Tensor, options: Decoding, generator: torch.Generator
) -> list[list[int]]:
    """Texts for vectors (N, D), as token ids without the end token; in bf16 where the inverter is trained in it."""
    decoder, kind = inverter.decoder, inverter.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16 != decoder.dtype:
        decoder = in_bf16(decoder)  # weights cast once, not for every token
    was_training = decoder.training
    decoder.eval()
    written: list[list[int]] = []
    count = _ROWS if kind == "cpu" else _ROWS * _LARGER
    parts = max(1, -(-len(vectors) // count))
    with torch.autocast(kind, enabled=False), set_stance("force_eager"):
        for some in vectors.tensor_split(parts):
            prefixes = inverter.prefixes(some).to(decoder.dtype)
            written += decode(decoder, prefixes, inverter.end_id, options, generator)
    decoder.train(was_training)
    return written
