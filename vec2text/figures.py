"""Figures: a report as a picture.

Knows no inverter and no file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vec2text.intervals import Interval
from vec2text.report import EvaluationReport

_MEASURES = {"exact_match": ("exact match, %", 100.0, "tab:blue"), "bleu": ("BLEU, corpus", 1.0, "tab:orange")}


def figure(report: EvaluationReport) -> bytes:
    """A PNG: exact match and BLEU by sentence length and, where measured, by encoder queries and against recall@10.

    Whiskers are 95% intervals.
    """
    panels: list[Callable[[EvaluationReport, Axes], None]] = [_by_length("exact_match"), _by_length("bleu")]
    panels += [_by_queries] if report.after_rounds else []
    panels += [_leak] if any(found.recall_at_10 for found in report.robustness.values()) else []
    picture = Figure(figsize=(5 * len(panels), 4), layout="constrained")  # without pyplot: no window, no global state
    for panel, axes in zip(panels, picture.subplots(1, len(panels)), strict=True):
        panel(report, axes)
        axes.set_ylim(-3, 103)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    picture.suptitle(f"{report.sentences:,} sentences, {report.encoder}, {report.decoding}", fontsize="medium")
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _by_length(name: str) -> Callable[[EvaluationReport, Axes], None]:
    """A panel of one metric, the inverter and the baselines beside each other in each bin of lengths."""

    def panel(report: EvaluationReport, axes: Axes) -> None:
        label, factor, _ = _MEASURES[name]
        bins = report.results["inverter"].by_length
        for shift, (system, measured) in enumerate(report.results.items()):
            places = [place + 0.15 * shift for place in range(len(bins))]
            _points(axes, places, [measured.by_length[words].metrics[name] for words in bins], factor, label=system)
        axes.set_xticks(range(len(bins)), [f"{words}\n({found.sentences:,})" for words, found in bins.items()])
        axes.set_xlabel("words (sentences)")
        axes.set_ylabel(label)

    return panel


def _by_queries(report: EvaluationReport, axes: Axes) -> None:
    """What refinement brings for what it costs."""
    queries = [found.queries for found in report.after_rounds]
    for name, (label, factor, colour) in _MEASURES.items():
        intervals = [getattr(found, name) for found in report.after_rounds]
        _points(axes, queries, intervals, factor, label=label, color=colour, linestyle="-")
    axes.set_xlabel("encoder queries a sentence")


def _leak(report: EvaluationReport, axes: Axes) -> None:
    """What comes back from changed vectors, against what is left of retrieval."""
    whole = report.results["inverter"]
    rows = [("as they are", Interval(1, 1, 1), whole)]
    rows += [(name, row.recall_at_10, row.measured) for name, row in report.robustness.items() if row.recall_at_10]
    for number, (name, recall, found) in enumerate(rows):
        style = {"color": f"C{number % 10}", "capsize": 0}
        _points(axes, [100 * recall.value], [found.metrics["bleu"]], 1.0, label=name, **style)
        _points(
            axes, [100 * recall.value], [found.metrics["exact_match"]], 100.0, fmt="x", **{**style, "markersize": 7}
        )
    axes.set_xlabel("recall@10 of a search among the vectors, %")
    axes.set_ylabel("BLEU (dots), exact match, % (crosses)")


def _points(axes: Axes, places: Sequence[float], intervals: Sequence[Interval], factor: float, **style: Any) -> None:
    """Values with whiskers."""
    values = [factor * found.value for found in intervals]
    below = [factor * max(0.0, found.value - found.low) for found in intervals]
    above = [factor * max(0.0, found.high - found.value) for found in intervals]
    axes.errorbar(places, values, (below, above), **{"fmt": "o", "markersize": 4, "capsize": 2, **style})
