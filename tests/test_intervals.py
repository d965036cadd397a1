"""Intervals: the bootstrap does what its theory says."""

import numpy as np
import pytest

from vec2text import intervals
from vec2text.intervals import Interval, Summed, bootstrap, mean, quotient


def draws(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count) + 3


def width(interval):
    return interval.high - interval.low


def test_the_value_is_the_mean_and_lies_in_its_interval():
    for seed in range(20):
        values = draws(50, seed)
        found = bootstrap({"x": mean(values)})["x"]
        assert found.value == pytest.approx(values.mean())
        assert found.low < found.value < found.high


def test_the_interval_is_as_wide_as_that_of_the_normal_distribution():
    values = draws(400)
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert width(bootstrap({"x": mean(values)}, resamples=4000)["x"]) == pytest.approx(expected, rel=0.05)


def test_the_interval_shrinks_with_the_root_of_the_number_of_sentences():
    widths = [width(bootstrap({"x": mean(np.tile([0.0, 1.0], half))}, resamples=4000)["x"]) for half in (50, 200, 800)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.1)


def test_it_holds_the_truth_about_95_times_in_a_hundred():
    held = [
        found.low <= 3 <= found.high
        for seed in range(400)
        for found in [bootstrap({"x": mean(draws(60, seed))}, resamples=200, seed=seed)["x"]]
    ]
    assert 0.90 < np.mean(held) < 0.98  # 0.94 for 60 draws; four standard errors of 400 are 0.045


def test_the_same_seed_gives_the_same_interval_and_another_one_a_little_different():
    metrics = {"x": mean(draws(40))}
    assert bootstrap(metrics) == bootstrap(metrics, seed=0)
    other = bootstrap(metrics, seed=1)["x"]
    assert other != bootstrap(metrics)["x"]
    assert width(other) == pytest.approx(width(bootstrap(metrics)["x"]), rel=0.2)


def test_all_metrics_see_the_same_draws():
    values = draws(30)
    found = bootstrap({"x": mean(values), "twice": mean(2 * values), "minus": mean(-values)})
    for bound in ("value", "low", "high"):
        assert getattr(found["twice"], bound) == pytest.approx(2 * getattr(found["x"], bound))
    assert found["minus"].low == pytest.approx(-found["x"].high)


def test_memory_is_bounded_and_does_not_change_the_draws(monkeypatch):
    metrics = {"x": mean(draws(30))}
    whole = bootstrap(metrics, resamples=101)
    monkeypatch.setattr(intervals, "_HELD", 300)
    assert bootstrap(metrics, resamples=101) == whole


def test_sentences_that_agree_have_an_interval_without_width():
    assert bootstrap({"x": mean(np.ones(20, bool))})["x"] == Interval(1, 1, 1)


def test_a_quotient_is_of_the_sums_and_not_the_mean_of_quotients():
    counts = np.array([[1, 1], [0, 9]])
    assert bootstrap({"x": quotient(counts)})["x"].value == pytest.approx(1 / 10)


def test_a_quotient_by_zero_has_no_value_and_draws_without_one_are_left_out():
    assert bootstrap({"x": quotient(np.zeros((5, 2))), "y": mean(np.ones(5))}).keys() == {"y"}
    found = bootstrap({"x": quotient(np.array([[1, 1], [0, 0], [0, 0], [0, 0]]))})["x"]  # a third of the draws: 0 / 0
    assert found == Interval(1, 1, 1)


def test_any_function_of_sums_has_an_interval():
    values = draws(200)
    rows = np.stack([values, values**2, np.ones(200)], 1)
    spread = Summed(rows, lambda sums: np.sqrt(sums[:, 1] / sums[:, 2] - (sums[:, 0] / sums[:, 2]) ** 2))
    found = bootstrap({"spread": spread})["spread"]
    assert found.value == pytest.approx(values.std())
    assert found.low < 1 < found.high


def test_plain_values():
    assert Interval(1 / 3, 0.1, 0.5).to_dict() == {"value": 0.3333, "low": 0.1, "high": 0.5}
