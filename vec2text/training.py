"""Training: fit() teaches an inverter to write the sentences behind vectors, within a budget, and survives a kill.

Knows nothing of Hydra, of where sentences come from, or of how an inverter is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch.compiler import set_stance

from vec2text.batches import Data
from vec2text.checkpoint import load_checkpoint, save_checkpoint
from vec2text.config import DEFAULT_MINUTES, TrainingConfig
from vec2text.decoders import layers_of
from vec2text.encoders import EncoderError
from vec2text.evaluation import Scores
from vec2text.hardware import bf16, describe, kept_memory
from vec2text.inverter import Inverter
from vec2text.lessons import REWARD, Lessons
from vec2text.optimizer import make_optimizers, schedule
from vec2text.progress import Progress
from vec2text.runlog import RunLog
from vec2text.signals import collected_signals
from vec2text.validation import Validation

_GIVEN_BACK = 20  # steps, each time, after which memory that was freed goes back to the system
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
        if run.lessons.drafts is not None and drafts:
            run.lessons.drafts.restore(drafts)
        memory = kept_memory(accelerator.device.type)
        with closing(run.lessons), collected_signals() as received, memory as give_back:
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
        self.validation = Validation(inverter, data, config, accelerator.autocast)
        # Of steps since `_read`: kind, loss (or the reward of own texts) and the gradient's norm.
        self.unread: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        self.window: dict[str, list[float]] = {}  # the same, by kind, since the last line of the log
        config.check_dimension(inverter.fingerprint.dimension)
        self.lessons = Lessons(inverter, data, config, accelerator, progress)
        self.total_steps = config.steps
        if config.epochs is not None:
            plain = config.epochs * (len(self.lessons.plan(0)) // config.accumulation)
            self.total_steps = max(1, int(plain / (1 - config.correction_fraction)))

    def train(self, received: list[int], give_back: Callable[[], Any]) -> None:
        """Step until the budget is spent; now and then, give back the memory that was freed."""
        config, progress = self.config, self.progress
        self.model.train()
        started, spent = time.monotonic(), progress.seconds
        while (share := self._share()) < 1:
            kind = self.lessons.kind(share)
            loss, norm = self._step(kind, share)
            self.unread.append((kind, loss, norm))
            progress.step += 1
            progress.seconds = spent + time.monotonic() - started
            if progress.step % 10 == 0:
                self._read()
                means = {kind: float(np.mean(values)) for kind, values in self.window.items()}
                self.window = {}
                self.log.progress(share, self._line(means))
                rates = {f"learning rate/{group['name']}": group["lr"] for group in self.groups}
                self.log.metrics(progress.step, {**means, **rates})
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

    def _step(self, kind: str, share: float) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimiser step over `accumulation` batches; returns the mean loss, or reward, and the gradient's norm.

        Nothing here waits for a GPU but the writing of own texts, so that it always has the next step's work before it.
        """
        config, accelerator = self.config, self.accelerator
        for group in self.groups:
            group["lr"] = group["peak"] * schedule(share, config.warmup)
        found = []
        for number in range(config.accumulation):
            lessons, reward = self.lessons.take(kind, number)
            for batch, hypotheses, shares in lessons:
                loss = self.model(batch.vectors, batch.ids, batch.lengths, hypotheses, shares)
                accelerator.backward(loss / config.accumulation)
                self.progress.tokens += int(batch.lengths.sum()) + len(batch.lengths)
            found.append(loss.detach() if reward is None else torch.tensor(reward))
        norm = accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return torch.stack(found).mean(), norm

    def _read(self) -> None:
        """Look at the losses of the last steps: before they are shown, and before weights are judged or saved."""
        unread, self.unread = self.unread, []
        first, config = self.progress.step - len(unread) + 1, self.config
        for step, (kind, loss, norm) in enumerate(unread, first):
            if not (np.isfinite(float(loss)) and np.isfinite(float(norm))):
                what = "reward" if kind == REWARD else "loss"
                raise DivergedError(
                    f"the {what} is {float(loss)} and the gradient's norm {float(norm)} at step {step:,}. "
                    f"Stopped; the last checkpoint and the best inverter in {self.folder} are kept. "
                    f"Lower training.learning_rate "
                    f"({config.learning_rate}) or training.projection_learning_rate "
                    f"({config.projection_learning_rate}) and give the new run another name"
                )
            self.window.setdefault(kind, []).append(float(loss))

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
            drafts = {} if self.lessons.drafts is None else self.lessons.drafts.state()
            progress = asdict(self.progress)
            save_checkpoint(self.folder / "checkpoint", self.inverter, self.optimizers, progress, drafts)
        self.accelerator.wait_for_everyone()

    def _line(self, means: dict[str, float]) -> str:
        progress = self.progress
        rate = progress.tokens / max(progress.seconds, 1e-9) * self.accelerator.num_processes
        shown = ", ".join(f"{name.replace('/train', '').replace('/', ' of ')} {v:.3f}" for name, v in means.items())
        return f"step {progress.step:,}, epoch {progress.epoch + 1}, {shown}, {rate:,.0f} text tokens/s"

    def _summary(self, scores: Scores) -> dict[str, Any]:
        """How the inverter was made, for inverter.json and the model card."""
        progress, counts = self.progress, self.data.corpus.counts
        return {
            "training sentences": len(self.data.train) + len(self.data.correction or ()),
            "sentences dropped": {k: counts[k] for k in ("empty", "repeated", "too_short", "too_long", "unknown_words")}
            | {"too_many_tokens": self.data.train.too_long},
            "steps": progress.step,
            "epochs": round(progress.epoch + progress.batch / len(self.lessons.plan(progress.epoch)), 2),
            "text tokens": progress.tokens * self.accelerator.num_processes,
            "minutes": round(progress.seconds / 60, 1),
            "hardware": describe(self.accelerator),
            "training": asdict(self.config),
            "validation": scores.rounded(),
        }
