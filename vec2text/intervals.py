"""Intervals: how far a figure may be off because it comes from these sentences and not from others.

Knows nothing of texts or models.

Shapes: N sentences, R resamples, K numbers that a metric sums over sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

_HELD = 10_000_000  # weights in memory at a time


@dataclass(frozen=True)
class Interval:
    """A figure, and the bounds of its 95% interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain values, with the digits that mean something."""
        return {bound: round(value, 4) for bound, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Summed:
    """A metric that is a function of sums over sentences: a mean, a quotient of sums, BLEU."""

    rows: np.ndarray
    """(N, K): what each sentence adds."""
    of: Callable[[np.ndarray], np.ndarray]
    """The metric of sums, (R, K) -> (R,); NaN where it has no value."""


def mean(values: np.ndarray) -> Summed:
    """The mean of a value for each sentence, (N,)."""
    return Summed(np.stack([values, np.ones(len(values))], 1), _quotient)


def quotient(counts: np.ndarray) -> Summed:
    """The quotient of two sums, (N, 2); it has no value where the second one is 0."""
    return Summed(counts, _quotient)


def _quotient(sums: np.ndarray) -> np.ndarray:
    above, below = sums.astype(np.float64).T
    return np.divide(above, below, out=np.full(len(sums), np.nan), where=below > 0)


def bootstrap(metrics: Mapping[str, Summed], *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """95% intervals by the percentile bootstrap over sentences.

    B. Efron and R. Tibshirani, An introduction to the bootstrap, 1993, chapter 13; for BLEU: P. Koehn, Statistical
    significance tests for machine translation evaluation, 2004, https://aclanthology.org/W04-3250. The same seed draws
    the same sentences whatever the metric, so that figures of the same sentences can be compared. Where all sentences
    agree, as when none comes back, no resample differs and the interval has no width, though other sentences might: of
    N without a hit the true share may still be 3 / N.

    Args:
        metrics: each with its rows for the same N sentences.
        resamples: how often N sentences are drawn, with replacement.
        seed: of the drawing.

    Returns:
        The interval of each metric that has a value for these sentences.
    """
    count = len(next(iter(metrics.values())).rows)
    found: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    random = np.random.default_rng(seed)
    for drawn in _parts(resamples, max(1, _HELD // count)):
        weights = random.multinomial(count, np.full(count, 1 / count), size=drawn).astype(np.float64)  # (R, N)
        for name, metric in metrics.items():
            found[name].append(metric.of(weights @ metric.rows))  # exact: whole numbers, or few of them
    intervals = {}
    for name, metric in metrics.items():
        value = float(metric.of(metric.rows.sum(0, keepdims=True))[0])
        if not np.isnan(value):
            low, high = np.nanpercentile(np.concatenate(found[name]), [2.5, 97.5])
            intervals[name] = Interval(value, float(low), float(high))
    return intervals


def _parts(total: int, size: int) -> list[int]:
    """`total` in parts of at most `size`."""
    return [min(size, total - start) for start in range(0, total, size)]
