"""Validation: an inverter in training, judged again and again on sentences that it does not learn from.

Knows nothing of the loop, of logs or of checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from vec2text.batches import Data
from vec2text.config import TrainingConfig
from vec2text.evaluation import Evaluation, Scores, evaluate, score
from vec2text.inverter import Inverter
from vec2text.refinement import refine


@dataclass(frozen=True)
class Judgement:
    """What an inverter makes of the validation sentences at some step."""

    loss: float
    """Cross-entropy, in nats a token."""
    found: Evaluation
    """Of plain inversion."""
    refined: Scores | None
    """After the least refinement; None where it does not learn to correct."""

    @property
    def bleu(self) -> float:
        """By which the best inverter is chosen: after refinement, where there is any."""
        return (self.refined or self.found.scores).bleu

    def metrics(self) -> dict[str, float]:
        """For the log: loss and scores, by tag."""
        scores = self.found.scores.rounded()
        if self.refined is not None:
            scores |= {f"refined_{name}": value for name, value in self.refined.rounded().items()}
        return {"loss/validation": self.loss, **{f"validation/{name}": value for name, value in scores.items()}}

    def __str__(self) -> str:
        scores, refined = self.found.scores.rounded(), ""
        if self.refined is not None:
            once = self.refined.rounded()
            refined = f"; after a round of refinement {once['exact_match']:.1%}, {once['bleu']:.1f}"
        return (
            f"validation loss {self.loss:.3f}, exact match {scores['exact_match']:.1%}, BLEU {scores['bleu']:.1f}, "
            f"similarity {scores.get('similarity', '-')}{refined}"
        )


class Validation:
    """The same validation sentences throughout a run.

    Args:
        inverter: what is judged.
        data: the sentences, and the encoder that re-embeds what came back.
        config: how many sentences, how samples are drawn, whether correction is learned.
        autocast: makes the context in which the loss is computed.
    """

    def __init__(
        self,
        inverter: Inverter,
        data: Data,
        config: TrainingConfig,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.inverter, self.data, self.config, self.autocast = inverter, data, config, autocast
        self.references, self.vectors = data.held_out("validation", config.evaluate_sentences)

    def judge(self) -> Judgement:
        """Loss and decoded metrics; leaves the inverter in evaluation mode."""
        found = evaluate(self.inverter, self.data.encoder, self.references, self.vectors)
        return Judgement(self._loss(), found, self._refined() if self.config.correction_fraction else None)

    def sample(self) -> Evaluation:
        """A few of the sentences, always the same ones, and what comes back by sampling."""
        config = self.config
        places = np.linspace(0, len(self.references) - 1, min(config.samples, len(self.references))).astype(int)
        return evaluate(
            self.inverter,
            self.data.encoder,
            [self.references[place] for place in places],
            self.vectors[places],
            temperature=config.sample_temperature,
            top_k=config.sample_top_k,
            top_p=config.sample_top_p,
            seed=config.seed,
        )

    def _refined(self) -> Scores:
        """Of validation sentences after the least refinement: a few more encoder queries each."""
        assert self.data.encoder is not None
        found = refine(self.inverter, self.data.encoder, self.vectors, rounds=1, candidates=1)
        similarities = np.array([item.similarity for item in found])
        return score(self.references, [item.text for item in found], similarities)

    def _loss(self) -> float:
        examples, device = self.data.validation, self.inverter.device
        members = np.linspace(0, len(examples) - 1, min(len(examples), self.config.evaluate_sentences)).astype(int)
        losses, weights = [], []
        self.inverter.eval()
        with torch.inference_mode(), self.autocast():
            for part in np.array_split(members, max(1, len(members) // 64)):
                batch = examples.batch(part)
                tensors = (batch.vectors, batch.ids, batch.lengths)
                losses.append(float(self.inverter(*(tensor.to(device) for tensor in tensors))))
                weights.append(int(batch.lengths.sum()) + len(part))
        return float(np.average(losses, weights=weights))
