"""Calibration: what is known of a reconstruction -> the probability that it is the exact text.

Knows nothing of inverters, encoders or how a text was found.

Shapes: N reconstructions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, logit

_RESOLUTION = 1e-6
"""Cosines of one text, encoded in two batches, differ by about this much: closer than that says nothing."""
_CASE = 5.0  # nats: where the GPT is surer than that of a text's case, it need not be right as often
_RIDGE = 1.0


@dataclass(frozen=True)
class Calibration:
    """P(exact) = P(the vector is met | similarity) P(case | GPT), each a logistic function with weights of its own.

    A similarity of 1 does not mean that the text is exact: many encoders read no case, and then only the GPT can tell
    `march` from `March`. How sure it is of the case is tempered, as C. Guo et al., On calibration of modern neural
    networks, 2017, https://arxiv.org/abs/1706.04599, do it. Tried and left out, since they added nothing: the text's
    whole log-probability, the mean over its tokens, their number. It holds for vectors and texts like those that it
    was fitted on: a vector that a store has rounded, or noise was added to, is no longer met to the last digit, and
    its text gets too little confidence.
    """

    closeness: float
    """Weight of -log10(1 - similarity + 1e-6), -0.3 to 6: never below 0."""
    case_odds: float
    """Weight of the log-odds of the text among its case variants, under plain inversion, -5 to 5: never below 0."""
    bias: float
    """Of the first of the two."""
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
        met = expit(self.closeness * _closeness(similarities) + self.bias)
        found: np.ndarray = met * expit(self.case_odds * _case_odds(cases))
        return found

    def prospects(self, similarities: np.ndarray) -> np.ndarray:
        """The probability that refinement goes on to find the exact text: (N,), 0 to 1; 0.5 where none were fitted.

        Args:
            similarities: (N,) cosine of the closest text so far to the target.
        """
        found: np.ndarray = expit(_closeness(similarities) * self.prospect_closeness + self.prospect_bias)
        return found

    def with_prospects(self, similarities: np.ndarray, found: np.ndarray) -> Calibration:
        """With prospects fitted, in the same way, to N searches; as it is where there are none.

        Args:
            similarities: (N,) cosine of the closest text after the first round.
            found: (N,) whether a later round found a text that the encoder cannot tell from the exact one.
        """
        if not len(found):
            return self
        near = _closeness(similarities)
        closeness, bias = _fitted(lambda closeness, bias: log_expit(closeness * near + bias), found, [0.0])
        return replace(self, prospect_closeness=closeness, prospect_bias=bias)

    @classmethod
    def fit(cls, similarities: np.ndarray, cases: np.ndarray, exact: np.ndarray) -> Calibration:
        """Fit to N reconstructions of which it is known whether they are `exact`, (N,) bool.

        The likeliest weights, with a small ridge: that of the closeness is pulled to 0, that of the case to 1, which
        is to believe the GPT. The targets are those of J. Platt, Probabilistic outputs for support vector machines,
        1999, section 2.2, a little inside of 0 and 1: so it ends, and claims no certainty, also where all are exact, or
        none, or a line tells them apart.

        Raises:
            ValueError: nothing to fit on.
        """
        if not len(exact):
            raise ValueError("there is no reconstruction to calibrate confidence on; expected some hundreds")
        near, odds = _closeness(similarities), _case_odds(cases)
        closeness, case_odds, bias = _fitted(
            lambda closeness, case_odds, bias: log_expit(closeness * near + bias) + log_expit(case_odds * odds),
            exact,
            [0.0, 1.0],
        )
        return cls(closeness, case_odds, bias, len(exact))

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
            raise ValueError(
                f"calibration is {str(values)!r:.80}; expected the numbers {', '.join(sorted(names))}. One of an older "
                "version: take it out of inverter.json, and calibrate again (vec2text.evaluation.calibrate)"
            )
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"calibration.{name} is {value!r:.40}; expected a finite number")
        return cls(**values)


def _closeness(similarities: np.ndarray) -> np.ndarray:
    gaps = np.maximum(1.0 - np.asarray(similarities, np.float64), 0.0)  # rounding may bring a cosine above 1
    found: np.ndarray = -np.log10(gaps + _RESOLUTION)
    return found


def _case_odds(cases: np.ndarray) -> np.ndarray:
    found: np.ndarray = logit(np.clip(cases, *expit([-_CASE, _CASE])))
    return found


def _fitted(log_probability: Callable[..., np.ndarray], right: np.ndarray, expected: list[float]) -> tuple[float, ...]:
    """The weights, none below 0, and at last a bias under which it is likeliest that these of N are `right`, (N,) bool.

    Args:
        log_probability: of being right, (N,), under weights and bias.
        right: which are.
        expected: the weights that the ridge pulls to.
    """
    from scipy.optimize import minimize  # half a second of import, wanted only here

    hits, misses = int(right.sum()), int((~right).sum())
    targets = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))

    def loss(found: np.ndarray) -> float:
        logs = np.minimum(log_probability(*found), -1e-12)
        surprise = -(targets * logs + (1 - targets) * np.log(-np.expm1(logs))).sum()
        return float(surprise + 0.5 * _RIDGE * np.square(found[:-1] - expected).sum())

    bounds = [*[(0.0, None)] * len(expected), (None, None)]
    best = minimize(loss, [1.0] * len(expected) + [0.0], bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-15})
    return tuple(map(float, best.x))
