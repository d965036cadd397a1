"""Lessons: what each step of a run learns from: sentences, drafts to correct, or own texts that are compared.

Knows nothing of losses or optimisers.

Shapes: B batch, D vector dimension.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator

from vec2text.ahead import ahead
from vec2text.batches import Batch, Data, Examples
from vec2text.config import CORRECTION_STARTS, DEFAULT_BATCH_TOKENS, SPLICES_END, TrainingConfig
from vec2text.correction import Hypotheses
from vec2text.drafts import Drafts
from vec2text.inverter import Inverter
from vec2text.progress import Progress
from vec2text.rewards import rewarded
from vec2text.robustness import Ranges, partly_changed

_KEPT = 0.2  # share of a GPU's free memory that the tokens and vectors of a split may take
_RANGED = 10_000
"""Training vectors that tell the ranges for quantization."""
_REWARD_SAMPLES = 6  # where it was not said how many
_GOLDEN = (5**0.5 - 1) / 2  # what its multiples have after the point falls evenly between 0 and 1

PLAIN, CORRECTION, REWARD = "loss/train", "loss/correction", "reward"
"""Kinds of steps, by the names under which the log has their losses or rewards."""


class Lesson(NamedTuple):
    """What `Inverter.forward` takes, on its device (but for lengths, which are always on the CPU)."""

    batch: Batch
    hypotheses: Hypotheses | None = None
    shares: torch.Tensor | None = None


class Lessons:
    """Lessons without end, from where a run is; `progress` moves on with them.

    Args:
        inverter: learns, and writes drafts and own texts.
        data: sentences and vectors.
        config: which kinds of steps there are, their batches, and what happens to vectors.
        accelerator: of this process.
        progress: how far the run is.
    """

    def __init__(
        self,
        inverter: Inverter,
        data: Data,
        config: TrainingConfig,
        accelerator: Accelerator,
        progress: Progress,
    ) -> None:
        self.inverter, self.data, self.config, self.accelerator = inverter, data, config, accelerator
        self.progress, self._share = progress, 0.0
        if accelerator.device.type == "cuda":
            room = int(_KEPT * torch.cuda.mem_get_info()[0])
            for examples in filter(None, (data.spliced if progress.spliced else None, data.train, data.correction)):
                examples.keep_on(accelerator.device, room)
        few_shapes = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
        for examples in filter(None, (data.spliced, data.train, data.correction)):
            examples.few_shapes = few_shapes
        self.drafts = self._drafts() if config.correction_fraction else None
        self._plain, self._corrections = self._batches(), self._corrected()
        self._ranges = Ranges.of(data.train.sample(_RANGED)) if config.changed_share else None

    def kind(self, share: float) -> str:
        """What the next step is, when so much of the budget is spent, 0 to 1.

        Each kind has its share of the steps, evenly spread; correction begins once there is something worth correcting.
        """
        self._share = share
        config, place = self.config, self.progress.step * _GOLDEN % 1
        corrected = config.correction_fraction / (1 - CORRECTION_STARTS) if share >= CORRECTION_STARTS else 0.0
        own_texts = config.reward_fraction * (1 - corrected) / (1 - config.correction_fraction)
        if place < corrected:
            return CORRECTION
        return REWARD if place < corrected + own_texts else PLAIN

    def take(self, kind: str, number: int) -> tuple[list[Lesson], float | None]:
        """The lessons of one of a step's `accumulation` batches, and where they are own texts their mean reward.

        Raises:
            ValueError: batch_tokens is too small.
            EncoderError: drafts could not be embedded.
        """
        if kind == CORRECTION:
            batch, hypotheses = next(self._corrections)
            return [Lesson(self._made_ready(batch, number), hypotheses.to(self.accelerator.device))], None
        batch = self._made_ready(next(self._plain), number)
        if kind == PLAIN:
            return [Lesson(batch)], None
        config, progress = self.config, self.progress
        place = (config.seed, progress.step, number, self.accelerator.process_index)
        generator = torch.Generator().manual_seed(hash(place) % 2**63)  # the same when the run is gone on with
        with self.accelerator.autocast():
            parts, reward = rewarded(
                self.inverter, batch, config.reward_samples or _REWARD_SAMPLES, generator, self._examples().widths
            )
        return [Lesson(part, shares=shares) for part, shares in parts], reward

    def close(self) -> None:
        """No more lessons: what prepares them ends, and nothing holds the inverter any longer."""
        self._plain.close()
        self._corrections.close()

    def plan(self, epoch: int) -> list[np.ndarray]:
        """This process's batches of an epoch, as places of the examples that are learned from now.

        Raises:
            ValueError: batch_tokens is too small.
        """
        config, world = self.config, self.accelerator.num_processes
        prefix = self.inverter.projection.config.prefix_length
        tokens = config.batch_tokens or DEFAULT_BATCH_TOKENS
        plan = self._examples().plan(prefix, tokens, config.seed, epoch, config.batch_sentences)
        plan = plan[: len(plan) // world * world] or plan * world  # every process gets as many
        return plan[self.accelerator.process_index :: world]

    def _batches(self) -> Generator[Batch]:
        """Batches of plain inversion from where the run is, epoch after epoch."""
        progress = self.progress
        while True:
            plan, examples = self.plan(progress.epoch), self._examples()
            for batch in ahead(partial(self._batch, examples), plan[progress.batch :]):
                progress.batch += 1
                if progress.batch == len(plan):
                    progress.epoch, progress.batch = progress.epoch + 1, 0
                yield batch
                if examples is self.data.spliced and self._share >= SPLICES_END:
                    progress.epoch, progress.batch, progress.spliced = progress.epoch + 1, 0, False
                    break

    def _examples(self) -> Examples:
        """What is learned from now."""
        return self.data.spliced if self.progress.spliced and self.data.spliced is not None else self.data.train

    def _batch(self, examples: Examples, members: np.ndarray) -> Batch:
        batch = examples.batch(members)
        return batch.pinned() if self.accelerator.device.type == "cuda" else batch

    def _corrected(self) -> Generator[tuple[Batch, Hypotheses]]:
        """Batches of hypotheses to correct, from where the run is."""
        assert self.drafts is not None
        assert self.data.correction is not None
        for members, hypotheses in self.drafts:
            yield self.data.correction.batch(members), hypotheses

    def _drafts(self) -> Drafts:
        assert self.data.correction is not None
        assert self.data.encoder is not None
        accelerator, config = self.accelerator, self.config
        part = (accelerator.process_index, accelerator.num_processes)
        tokens = config.batch_tokens or DEFAULT_BATCH_TOKENS
        return Drafts(
            self.inverter, self.data.encoder, self.data.correction, tokens, config.seed, part, accelerator.autocast
        )

    def _made_ready(self, batch: Batch, number: int) -> Batch:
        """A step's batch where it is learned from, its vectors changed and with noise as was asked."""
        device, config = self.accelerator.device, self.config
        vectors = self._changed(batch.vectors, number).to(device, non_blocking=True)
        if config.noise:
            spread = config.noise * vectors.norm(dim=1, keepdim=True) / vectors.shape[1] ** 0.5
            vectors = vectors + spread * torch.randn_like(vectors)
        return Batch(vectors, batch.ids.to(device, non_blocking=True), batch.lengths)

    def _changed(self, vectors: torch.Tensor, number: int) -> torch.Tensor:
        """The vectors (B, D) of a step's batch, of which some are as vector stores keep them."""
        config, progress = self.config, self.progress
        if not self._ranges or not config.changed_share:
            return vectors
        # Of the batch alone, so that a run that is gone on with draws the same; the third number is not that of `plan`.
        random = np.random.default_rng([config.seed, progress.step, 1 + number, self.accelerator.process_index])
        found = partly_changed(
            vectors.cpu().numpy(),
            config.changed_share,
            self._ranges,
            random,
            quantize=config.quantize or (),
            truncate=config.truncate or (),
            normalized=self.inverter.fingerprint.normalized,
        )
        return torch.from_numpy(found)
