"""Calibration: what is known of a reconstruction -> the probability that it is the exact text.

Knows nothing of inverters, encoders or how a text was found.

Shapes: N reconstructions, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import numpy as np

_RESOLUTION = 1e-6
"""Cosines of one text, encoded in two batches, differ by about this much: closer than that says nothing."""
_CASE = 5.0  # nats: where the GPT is surer than that of a text's case, it need not be right as often
_RIDGE = 1.0
_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """P(exact) = 1 / (1 + exp(-score)), the score being a weighted sum of the features below and a bias.

    A similarity of 1 does not mean that the text is exact: many encoders read no case, and then only the GPT can tell
    `march` from `March`. Tried and left out, since they added nothing: the text's whole log-probability, the mean over
    its tokens, their number. It holds for vectors and texts like those that it was fitted on: a vector that a store
    has rounded, or noise was added to, is no longer met to the last digit, and its text gets too little confidence.
    """

    closeness: float
    """Weight of -log10(1 - similarity + 1e-6), -0.3 to 6: never below 0."""
    case: float
    """Weight of the log-odds of the text among its case variants, under plain inversion, -5 to 5: never below 0."""
    bias: float
    fitted_on: int
    """Reconstructions that it was fitted on."""
    prospect_closeness: float = 0.0
    """Weight of the closeness in prospects: never below 0."""
    prospect_bias: float = 0.0

    def confidences(self, similarities: np.ndarray, cases: np.ndarray) -> np.ndarray:
        """The probability of each of N texts to be exact: (N,), 0 to 1.

        Args:
            similarities: (N,) cosine of each text's vector to the target.
            cases: (N,) probability of each text among its case variants, 0 to 1.
        """
        return _sigmoid(_features(similarities, cases) @ np.array([self.closeness, self.case]) + self.bias)

    def prospects(self, similarities: np.ndarray) -> np.ndarray:
        """The probability that refinement goes on to find the exact text: (N,), 0 to 1; 0.5 where none were fitted.

        Args:
            similarities: (N,) cosine of the closest text so far to the target.
        """
        return _sigmoid(_closeness(similarities) * self.prospect_closeness + self.prospect_bias)

    def with_prospects(self, similarities: np.ndarray, found: np.ndarray) -> Calibration:
        """With prospects fitted, by the same logistic regression, to N searches; as it is where there are none.

        Args:
            similarities: (N,) cosine of the closest text after the first round.
            found: (N,) whether a later round found a text that the encoder cannot tell from the exact one.
        """
        if not len(found):
            return self
        (closeness,), bias = _fitted(_closeness(similarities)[:, None], found)
        return replace(self, prospect_closeness=float(closeness), prospect_bias=bias)

    @classmethod
    def fit(cls, similarities: np.ndarray, cases: np.ndarray, exact: np.ndarray) -> Calibration:
        """Fit to N reconstructions of which it is known whether they are `exact`, (N,) bool.

        Logistic regression with a small ridge; its targets are those of J. Platt, Probabilistic outputs for support
        vector machines, 1999, section 2.2, a little inside of 0 and 1: so it ends, and claims no certainty, also
        where all are exact, or none, or a line tells them apart. What would make closer or likelier texts less sure
        is chance, and gets no weight.

        Raises:
            ValueError: nothing to fit on.
        """
        if not len(exact):
            raise ValueError("there is no reconstruction to calibrate confidence on; expected some hundreds")
        (closeness, case), bias = _fitted(_features(similarities, cases), exact)
        return cls(float(closeness), float(case), bias, len(exact))

    def to_dict(self) -> dict[str, float]:
        """Plain values, for inverter.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """What `to_dict` gave.

        Raises:
            ValueError: something is missing, unknown or no finite number.
        """
        names = {item.name: item.default is MISSING for item in fields(cls)}
        needed = {name for name, required in names.items() if required}
        if not isinstance(values, Mapping) or not needed <= set(values) <= set(names):
            raise ValueError(f"calibration is {str(values)!r:.80}; expected the numbers {', '.join(sorted(names))}")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"calibration.{name} is {value!r:.40}; expected a finite number")
        return cls(**values)


def _features(similarities: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """(N, F): closeness and the log-odds of the case."""
    inside = np.clip(cases, *_sigmoid(np.array([-_CASE, _CASE])))
    return np.stack([_closeness(similarities), np.log(inside / (1 - inside))], 1)


def _closeness(similarities: np.ndarray) -> np.ndarray:
    gaps = np.maximum(1.0 - np.asarray(similarities, np.float64), 0.0)  # rounding may bring a cosine above 1
    found: np.ndarray = -np.log10(gaps + _RESOLUTION)
    return found


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * scores))  # for any score without overflow


def _fitted(features: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (F,), none below 0, and bias that tell from (N, F) which of N are `right`, bool."""
    used = np.ptp(features, axis=0) > 1e-9  # what is the same everywhere says nothing
    hits, misses = int(right.sum()), int((~right).sum())
    targets = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    while True:
        weights, bias = _logistic(features * used, targets)
        wrong = (weights < 0) & used
        if not wrong.any():
            return np.where(used, weights, 0.0), bias
        used = used & ~wrong


def _logistic(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (F,) and bias of logistic regression on (N, F) and targets in 0 to 1, by Newton's method.

    The ridge pulls on the weights and not on the bias, as scikit-learn's does with C = 1 / _RIDGE.
    """
    design = np.column_stack([features, np.ones(len(features))])  # (N, F + 1)
    ridge = np.diag([_RIDGE] * features.shape[1] + [0.0])

    def loss(found: np.ndarray) -> float:
        scores = design @ found
        return float((np.logaddexp(0, scores) - targets * scores).sum() + 0.5 * found @ ridge @ found)

    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        probabilities = _sigmoid(design @ found)
        gradient = design.T @ (probabilities - targets) + ridge @ found
        curvature = (design.T * (probabilities * (1 - probabilities))) @ design + ridge
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(found)), gradient)
        while np.abs(step).max() > 1e-10 and loss(found - step) > loss(found):  # too far: the curvature changes
            step /= 2
        found = found - step
        if np.abs(step).max() <= 1e-10:
            break
    return found[:-1], float(found[-1])
