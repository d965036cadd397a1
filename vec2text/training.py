"""Training: fit() teaches an inverter to write the sentences behind vectors, within a budget, and survives a kill.

Knows nothing of Hydra, of where sentences come from, or of how an inverter is judged.

Shapes: B batch, D vector dimension.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch.compiler import set_stance

from vec2text.ahead import ahead
from vec2text.batches import Batch, Data, Examples
from vec2text.checkpoint import load_checkpoint, save_checkpoint
from vec2text.config import CORRECTION_STARTS, DEFAULT_BATCH_TOKENS, DEFAULT_MINUTES, SPLICES_END, TrainingConfig
from vec2text.correction import Hypotheses
from vec2text.decoders import layers_of
from vec2text.drafts import Drafts
from vec2text.encoders import EncoderError
from vec2text.evaluation import Scores
from vec2text.hardware import bf16, describe, kept_memory
from vec2text.inverter import Inverter
from vec2text.optimizer import make_optimizers, schedule
from vec2text.rewards import rewarded
from vec2text.robustness import Ranges, partly_changed
from vec2text.runlog import RunLog
from vec2text.signals import collected_signals
from vec2text.validation import Validation

_KEPT = 0.2  # share of a GPU's free memory that the tokens and vectors of a split may take
_GIVEN_BACK = 20  # steps, each time, after which memory that was freed goes back to the system
_REWARD_SAMPLES = 6  # where it was not said how many
_GOLDEN = (5**0.5 - 1) / 2  # its multiples fall evenly between 0 and 1
_RANGED = 10_000
"""Training vectors that tell the ranges for quantization."""
_PREPARED = ("forward", "_original_forward", "_is_accelerate_prepared")
"""What accelerate leaves in a module; one that bears the last of them it does not prepare again, not even for bf16."""


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """Ctrl-C or SIGTERM: the checkpoint is saved and the run can go on."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped at step {step:,}; saved. Run the same command again to go on")
        self.exit_code = 128 + signal_number


class DivergedError(Exception):
    """The loss is no number; the last good checkpoint is kept."""

    exit_code = 1


@dataclass
class Progress:
    """How far a run is: all of its state that is not a tensor."""

    step: int = 0
    """Optimiser steps done."""
    epoch: int = 0
    """Passes over the training sentences that are complete."""
    batch: int = 0
    """Batches of this epoch that are done, in each process."""
    seconds: float = 0.0
    """Time spent, over all starts of the run."""
    tokens: int = 0
    """Text tokens learned from, end tokens included."""
    spliced: bool = True
    """Whether splices, where there are any, are learned from still."""
    best_bleu: float = -1.0
    """Of the validation sentences, at the best evaluation so far."""
    finished: bool = False
    """Whether the budget is spent and the last evaluation done."""

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Progress:
        """What a checkpoint holds; what only an earlier version kept there is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in saved.items() if name in known})


def _compiles(config: TrainingConfig, device: str) -> bool:
    """Whether the GPT's layers are compiled: where it was not said, on a GPU."""
    return device == "cuda" if config.compile is None else config.compile


def fit(inverter: Inverter, data: Data, config: TrainingConfig, folder: Path) -> None:
    """Train what of the inverter requires gradients; log and checkpoint in `folder`.

    The best inverter ends up in `folder/inverter`.

    A folder that holds a checkpoint of the same run is gone on with. With a budget in steps or epochs, in one process
    on a CPU, a run that was killed and started again ends with the same weights as one that never was (with correction
    as far as the encoder's vectors are the same in batches of other sizes); with a budget in minutes it goes on from
    the time it had spent.

    Args:
        inverter: what is trained, in place.
        data: sentences and vectors.
        config: budget, optimiser, logging.
        folder: the run's.

    Raises:
        TrainingStopped: Ctrl-C or SIGTERM; a checkpoint is saved.
        DivergedError: the loss is no number; the last good checkpoint stays.
        ValueError: the checkpoint is broken, batch_tokens is too small, or truncate keeps all of a vector.
    """
    AcceleratorState._reset_state()  # of an earlier fit in this process, perhaps of another precision
    kind = str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"
    accelerator = Accelerator(cpu=kind == "cpu", mixed_precision="bf16" if bf16(config.precision, kind) else "no")
    set_seed(config.seed + accelerator.process_index)
    # Plain attention: in bf16 its backward is faster on a CPU than the fused one for sentences this short.
    plain = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
    plain = plain or not inverter.decoder._supports_sdpa
    inverter.decoder.set_attn_implementation("eager" if plain else "sdpa")
    layers = layers_of(inverter.decoder) if _compiles(config, kind) else []
    for layer in layers:  # not the whole, which depends on the data; one compilation is for all of them
        layer.compile(dynamic=True)
    optimizers = make_optimizers(inverter, config)
    inverter.to(accelerator.device)
    checkpoint = folder / "checkpoint"
    progress = Progress()
    drafts: dict[str, torch.Tensor] = {}
    if checkpoint.exists():
        saved, drafts = load_checkpoint(checkpoint, inverter, optimizers)
        progress = Progress.from_dict(saved)
    log = RunLog(folder, progress.step, silent=not accelerator.is_main_process)
    if progress.step:
        log.say(f"going on from step {progress.step:,} ({progress.seconds / 60:.1f} minutes so far)")
    try:
        model = accelerator.prepare(inverter)
        run = _Run(inverter, model, optimizers, accelerator, data, config, folder, log, progress)
        if run.drafts is not None and drafts:
            run.drafts.restore(drafts)
        with collected_signals() as received, kept_memory(accelerator.device.type) as give_back:
            try:
                run.train(received, give_back)
            except EncoderError as error:  # an endpoint, say, that is gone for a while
                run.checkpoint()
                place = f"saved at step {progress.step:,}; run the same command again to go on"
                raise EncoderError(f"{error}; {place}") from error
    finally:
        log.close()
        for layer in layers:
            layer._compiled_call_impl = None
        for name in _PREPARED:
            vars(inverter).pop(name, None)
        accelerator.end_training()


class _Run:
    """One start of a run: the loop and what it does now and then."""

    def __init__(
        self,
        inverter: Inverter,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        accelerator: Accelerator,
        data: Data,
        config: TrainingConfig,
        folder: Path,
        log: RunLog,
        progress: Progress,
    ) -> None:
        self.inverter, self.model, self.optimizers, self.accelerator = inverter, model, optimizers, accelerator
        self.data, self.config, self.folder, self.log, self.progress = data, config, folder, log, progress
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        if accelerator.device.type == "cuda":
            room = int(_KEPT * torch.cuda.mem_get_info()[0])
            for examples in filter(None, (data.spliced if progress.spliced else None, data.train, data.correction)):
                examples.keep_on(accelerator.device, room)
        few_shapes = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
        for examples in filter(None, (data.spliced, data.train, data.correction)):
            examples.few_shapes = few_shapes
        self.drafts = self._drafts() if config.correction_fraction else None
        self.validation = Validation(inverter, data, config, accelerator.autocast)
        # Of steps since `_read`: kind, loss (or the reward of own texts) and the gradient's norm.
        self.unread: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        self.window: dict[str, list[float]] = {}  # the same, by kind, since the last line of the log
        config.check_dimension(inverter.fingerprint.dimension)
        self.ranges = Ranges.of(data.train.sample(_RANGED)) if config.changed_share else None
        self.total_steps = config.steps
        if config.epochs is not None:
            plain = config.epochs * (len(self._plan(0)) // config.accumulation)
            self.total_steps = max(1, int(plain / (1 - config.correction_fraction)))

    def train(self, received: list[int], give_back: Callable[[], Any]) -> None:
        """Step until the budget is spent; now and then, give back the memory that was freed."""
        config, progress = self.config, self.progress
        self.model.train()
        batches, corrections = self._batches(), self._corrections()
        started, spent = time.monotonic(), progress.seconds
        while (share := self._share()) < 1:
            kind = self._kind(share)
            loss, norm = self._step(corrections if kind == "loss/correction" else batches, share, kind)
            self.unread.append((kind, loss, norm))
            progress.step += 1
            progress.seconds = spent + time.monotonic() - started
            if progress.step % 10 == 0:
                self._read()
                losses = {kind: float(np.mean(values)) for kind, values in self.window.items()}
                self.window = {}
                self.log.progress(share, self._line(losses))
                rates = {f"learning rate/{group['name']}": group["lr"] for group in self.groups}
                self.log.metrics(progress.step, {**losses, **rates})
            if progress.step % _GIVEN_BACK == 0:
                give_back()
            if progress.step % config.evaluate_every == 0:
                self._evaluate()
            if progress.step % config.sample_every == 0:
                self._sample()
            progress.seconds = spent + time.monotonic() - started
            stopped = self._stopped(received)
            if progress.step % config.checkpoint_every == 0 or stopped:
                self.checkpoint()
            if stopped:
                raise TrainingStopped(stopped, progress.step)
        if not progress.finished:  # else this start only found that all is done
            self._finish(received)

    def _finish(self, received: list[int]) -> None:
        """The last evaluation, sample table and checkpoint, where the last step was not due for them."""
        progress = self.progress
        if progress.step % self.config.evaluate_every:
            self._evaluate()
        if progress.step % self.config.sample_every:
            self._sample()
        progress.finished = True
        self.checkpoint()
        if stopped := self._stopped(received):
            raise TrainingStopped(stopped, progress.step)

    def _step(
        self, batches: Iterator[tuple[Batch, Hypotheses | None]], share: float, kind: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimiser step over `accumulation` batches; returns the mean loss, or reward, and the gradient's norm.

        Nothing here waits for a GPU but the writing of own texts, so that it always has the next step's work before it.
        """
        config, accelerator = self.config, self.accelerator
        for group in self.groups:
            group["lr"] = group["peak"] * schedule(share, config.warmup)
        losses = []
        for number in range(config.accumulation):
            batch, hypotheses = next(batches)
            vectors = self._changed(batch.vectors, number).to(accelerator.device, non_blocking=True)
            if config.noise:
                spread = config.noise * vectors.norm(dim=1, keepdim=True) / vectors.shape[1] ** 0.5
                vectors = vectors + spread * torch.randn_like(vectors)
            if kind == "reward":
                losses.append(self._reward(replace(batch, vectors=vectors), number))
                continue
            if hypotheses is not None:
                hypotheses = hypotheses.to(accelerator.device)
            losses.append(self._learn(replace(batch, vectors=vectors), hypotheses))
        norm = accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return torch.stack(losses).mean(), norm

    def _learn(
        self, batch: Batch, hypotheses: Hypotheses | None = None, shares: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Add the gradient of a batch; its loss."""
        device = self.accelerator.device
        loss = self.model(batch.vectors, batch.ids.to(device, non_blocking=True), batch.lengths, hypotheses, shares)
        self.accelerator.backward(loss / self.config.accumulation)
        self.progress.tokens += int(batch.lengths.sum()) + len(batch.lengths)
        found: torch.Tensor = loss.detach()
        return found

    def _reward(self, batch: Batch, number: int) -> torch.Tensor:
        """Add the gradient of own texts for the vectors of a step's batch; their mean reward."""
        config, progress = self.config, self.progress
        place = (config.seed, progress.step, number, self.accelerator.process_index)
        generator = torch.Generator().manual_seed(hash(place) % 2**63)  # the same when the run is gone on with
        with self.accelerator.autocast():
            parts, reward = rewarded(
                self.inverter, batch, config.reward_samples or _REWARD_SAMPLES, generator, self._examples().widths
            )
        for part, shares in parts:
            self._learn(part, shares=shares)
        return torch.tensor(reward)

    def _read(self) -> None:
        """Look at the losses of the last steps: before they are shown, and before weights are judged or saved."""
        unread, self.unread = self.unread, []
        first, config = self.progress.step - len(unread) + 1, self.config
        for step, (kind, loss, norm) in enumerate(unread, first):
            if not (np.isfinite(float(loss)) and np.isfinite(float(norm))):
                raise DivergedError(
                    f"the loss is {float(loss)} and the gradient's norm {float(norm)} at step {step:,}. "
                    f"Stopped; the last checkpoint and the best inverter in {self.folder} are kept. "
                    f"Lower training.learning_rate "
                    f"({config.learning_rate}) or training.projection_learning_rate "
                    f"({config.projection_learning_rate}) and give the new run another name"
                )
            self.window.setdefault(kind, []).append(float(loss))

    def _changed(self, vectors: torch.Tensor, number: int) -> torch.Tensor:
        """The vectors (B, D) of a step's batch, of which some are as vector stores keep them."""
        config, progress = self.config, self.progress
        if not self.ranges or not config.changed_share:
            return vectors
        # Of the batch alone, so that a run that is gone on with draws the same; the third number is not that of _plan.
        random = np.random.default_rng([config.seed, progress.step, 1 + number, self.accelerator.process_index])
        found = partly_changed(
            vectors.cpu().numpy(),
            config.changed_share,
            self.ranges,
            random,
            quantize=config.quantize or (),
            truncate=config.truncate or (),
            normalized=self.inverter.fingerprint.normalized,
        )
        return torch.from_numpy(found)

    def _share(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        if self.total_steps is not None:
            return self.progress.step / self.total_steps
        minutes = DEFAULT_MINUTES if self.config.minutes is None else self.config.minutes
        share = self.progress.seconds / 60 / minutes
        if self.accelerator.num_processes > 1:  # all processes stop at the same step
            share = float(self.accelerator.reduce(torch.tensor(share, device=self.accelerator.device), "mean"))
        return min(1.0, share)

    def _stopped(self, received: list[int]) -> int:
        """The signal that any process has received, or 0: all of them stop at the same step."""
        number = received[0] if received else 0
        if self.accelerator.num_processes == 1:
            return number
        return int(self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).max())

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """This process's batches of an epoch, as places in `_examples`."""
        config, world = self.config, self.accelerator.num_processes
        prefix = self.inverter.projection.config.prefix_length
        tokens = config.batch_tokens or DEFAULT_BATCH_TOKENS
        plan = self._examples().plan(prefix, tokens, config.seed, epoch, config.batch_sentences)
        plan = plan[: len(plan) // world * world] or plan * world  # every process gets as many
        return plan[self.accelerator.process_index :: world]

    def _batches(self) -> Iterator[tuple[Batch, None]]:
        """Batches of plain inversion from where the run is, epoch after epoch."""
        progress = self.progress
        while True:
            plan, examples = self._plan(progress.epoch), self._examples()
            for batch in ahead(partial(self._batch, examples), plan[progress.batch :]):
                progress.batch += 1
                if progress.batch == len(plan):
                    progress.epoch, progress.batch = progress.epoch + 1, 0
                yield batch, None
                if examples is self.data.spliced and self._share() >= SPLICES_END:
                    progress.epoch, progress.batch, progress.spliced = progress.epoch + 1, 0, False
                    break

    def _examples(self) -> Examples:
        """What is learned from now."""
        return self.data.spliced if self.progress.spliced and self.data.spliced is not None else self.data.train

    def _batch(self, examples: Examples, members: np.ndarray) -> Batch:
        batch = examples.batch(members)
        return batch.pinned() if self.accelerator.device.type == "cuda" else batch

    def _corrections(self) -> Iterator[tuple[Batch, Hypotheses]]:
        """Batches of hypotheses to correct, from where the run is."""
        assert self.drafts is not None
        assert self.data.correction is not None
        for members, hypotheses in self.drafts:
            yield self.data.correction.batch(members), hypotheses

    def _kind(self, share: float) -> str:
        """What the next step is, by the name under which the log has its loss or reward.

        Correction begins once there is something worth correcting; steps of each kind come evenly often.
        """
        config, place = self.config, self.progress.step * _GOLDEN % 1
        corrected = config.correction_fraction / (1 - CORRECTION_STARTS) if share >= CORRECTION_STARTS else 0.0
        own_texts = config.reward_fraction * (1 - corrected) / (1 - config.correction_fraction)
        if place < corrected:
            return "loss/correction"
        return "reward" if place < corrected + own_texts else "loss/train"

    def _drafts(self) -> Drafts:
        assert self.data.correction is not None
        assert self.data.encoder is not None
        accelerator, config = self.accelerator, self.config
        part = (accelerator.process_index, accelerator.num_processes)
        tokens = config.batch_tokens or DEFAULT_BATCH_TOKENS
        return Drafts(
            self.inverter, self.data.encoder, self.data.correction, tokens, config.seed, part, accelerator.autocast
        )

    def _evaluate(self) -> None:
        """Judge the inverter on validation sentences; that of the best BLEU so far is saved."""
        self._read()
        if self.accelerator.is_main_process:
            with set_stance("force_eager"):
                progress, judged = self.progress, self.validation.judge()
            self.log.metrics(progress.step, judged.metrics())
            better = judged.bleu > progress.best_bleu
            self.log.say(f"step {progress.step:,}: {judged}{' (best so far)' if better else ''}")
            if better:
                progress.best_bleu, found = judged.bleu, judged.found
                self.inverter.training_summary = self._summary(found.scores)
                self.inverter.save_pretrained(self.folder / "inverter")
                self.log.projector(progress.step, self.validation.vectors, found.references, found.reconstructions)
        self.accelerator.wait_for_everyone()
        self.model.train()

    def _sample(self) -> None:
        self._read()
        if self.accelerator.is_main_process:
            with set_stance("force_eager"):
                found = self.validation.sample()
            self.log.samples(self.progress.step, found.references, found.reconstructions, found.similarities)
        self.model.train()

    def checkpoint(self) -> None:
        """Save what the run goes on from."""
        self._read()
        if self.accelerator.is_main_process:
            drafts = {} if self.drafts is None else self.drafts.state()
            progress = asdict(self.progress)
            save_checkpoint(self.folder / "checkpoint", self.inverter, self.optimizers, progress, drafts)
        self.accelerator.wait_for_everyone()

    def _line(self, losses: dict[str, float]) -> str:
        progress = self.progress
        rate = progress.tokens / max(progress.seconds, 1e-9) * self.accelerator.num_processes
        shown = ", ".join(f"{name.replace('/train', '').replace('/', ' of ')} {v:.3f}" for name, v in losses.items())
        return f"step {progress.step:,}, epoch {progress.epoch + 1}, {shown}, {rate:,.0f} text tokens/s"

    def _summary(self, scores: Scores) -> dict[str, Any]:
        """How the inverter was made, for inverter.json and the model card."""
        progress, counts = self.progress, self.data.corpus.counts
        return {
            "training sentences": len(self.data.train) + len(self.data.correction or ()),
            "sentences dropped": {k: counts[k] for k in ("empty", "repeated", "too_short", "too_long", "unknown_words")}
            | {"too_many_tokens": self.data.train.too_long},
            "steps": progress.step,
            "epochs": round(progress.epoch + progress.batch / len(self._plan(progress.epoch)), 2),
            "text tokens": progress.tokens * self.accelerator.num_processes,
            "minutes": round(progress.seconds / 60, 1),
            "hardware": describe(self.accelerator),
            "training": asdict(self.config),
            "validation": scores.rounded(),
        }
