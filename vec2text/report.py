"""Reports: metrics of reconstructions with their intervals, by sentence length, as plain values and as a table.

Knows no inverter and no encoder.

Shapes: N sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from vec2text import metrics
from vec2text.intervals import Interval, Summed, bootstrap, mean, quotient

LENGTHS = ((1, 4), (5, 8), (9, 12), (13, 16), (17, 24), (25, None))
"""Bins of sentence lengths, in words: first and last."""

METRICS = {
    "exact_match": ("exact match, %", 100.0, 1),
    "exact_letters": ("exact but for case and punctuation, %", 100.0, 1),
    "bleu": ("BLEU, corpus", 1.0, 1),
    "sentence_bleu": ("BLEU, mean of sentences", 1.0, 1),
    "chrf": ("chrF", 1.0, 1),
    "rouge_l": ("ROUGE-L", 1.0, 3),
    "token_precision": ("token precision", 1.0, 3),
    "token_recall": ("token recall", 1.0, 3),
    "token_f1": ("token F1", 1.0, 3),
    "number_recall": ("numbers that came back, %", 100.0, 1),
    "name_recall": ("names, capitalised words, %", 100.0, 1),
    "similarity": ("similarity", 1.0, 3),
    "judge_similarity": ("similarity, other encoder", 1.0, 3),
    "confidence": ("confidence, mean, %", 100.0, 1),
}
"""What is measured: its name in words, the factor with which a table shows it, and digits."""


@dataclass(frozen=True)
class Measured:
    """What is measured of the reconstructions of some sentences."""

    sentences: int
    metrics: dict[str, Interval]
    """Of METRICS those that have a value: recall of numbers has none where there is no number."""
    by_length: dict[str, Measured] = field(default_factory=dict)
    """The same for each bin of LENGTHS that holds a sentence, as `5-8`."""
    reliability_error: float | None = None
    """Of the confidences (see `metrics.reliability_error`); without interval, since resampling makes it larger."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        figures = {name: found.to_dict() for name, found in self.metrics.items()}
        bins = {name: found.to_dict() for name, found in self.by_length.items()}
        error = {} if self.reliability_error is None else {"reliability_error": round(self.reliability_error, 4)}
        return {"sentences": self.sentences, **figures, **error, **({"by_length": bins} if bins else {})}


def measure(
    references: Sequence[str],
    reconstructions: Sequence[str],
    similarities: Mapping[str, np.ndarray],
    confidences: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Measured:
    """All metrics of reconstructions, over all sentences and by the references' length.

    Args:
        references: N sentences.
        reconstructions: what came back for each.
        similarities: `similarity` and `judge_similarity`, (N,) each; what is not measured is left out.
        confidences: (N,) probability of each reconstruction to be exact, where it is known.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    bleu, words = metrics.bleu_counts(references, reconstructions), metrics.word_overlaps(references, reconstructions)
    exact = metrics.exact_matches(references, reconstructions)
    found = {
        "exact_match": mean(exact),
        "exact_letters": mean(metrics.letter_matches(references, reconstructions)),
        "bleu": Summed(bleu, metrics.bleu_of),
        "sentence_bleu": mean(metrics.sentence_bleu(bleu)),
        "chrf": Summed(metrics.chrf_counts(references, reconstructions), metrics.chrf_of),
        "rouge_l": mean(metrics.rouge_l(references, reconstructions)),
        "token_precision": mean(words[:, 0]),
        "token_recall": mean(words[:, 1]),
        "token_f1": mean(words[:, 2]),
        "number_recall": quotient(metrics.number_counts(references, reconstructions)),
        "name_recall": quotient(metrics.name_counts(references, reconstructions)),
        **{name: mean(values) for name, values in similarities.items()},
        **({} if confidences is None else {"confidence": mean(confidences)}),
    }
    lengths = np.array([len(text.split()) for text in references])
    bins = {}
    for first, last in LENGTHS:
        inside = (lengths >= first) & (lengths <= (last or lengths.max()))
        if inside.any():
            part = {name: Summed(metric.rows[inside], metric.of) for name, metric in found.items()}
            bins[f"{first}-{last}" if last else f"{first}+"] = Measured(
                int(inside.sum()), bootstrap(part, resamples=resamples, seed=seed)
            )
    error = None if confidences is None else metrics.reliability_error(confidences, exact)
    return Measured(len(references), bootstrap(found, resamples=resamples, seed=seed), bins, error)


@dataclass(frozen=True)
class Round:
    """How far refinement was after a round."""

    queries: float
    """Encoder queries so far, a sentence."""
    exact_match: Interval
    bleu: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "queries": round(self.queries, 2),
            "exact_match": self.exact_match.to_dict(),
            "bleu": self.bleu.to_dict(),
        }


@dataclass(frozen=True)
class Changed:
    """What came back from vectors as a vector store keeps them, and what keeping them so costs."""

    measured: Measured
    """Similarity is that to the vector as it was before it was changed."""
    recall_at_10: Interval | None
    """Share of the ten nearest test vectors that a search still finds; None with too few of them."""
    queries: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        recall = self.recall_at_10.to_dict() if self.recall_at_10 else None
        took = {"queries": round(self.queries, 2), "seconds": round(self.seconds, 4)}
        return {"recall_at_10": recall, **took, **self.measured.to_dict()}


@dataclass(frozen=True)
class EvaluationReport:
    """How well an inverter brings sentences back, and what it took; `print` shows it as tables."""

    model: str
    encoder: str
    judge: str | None
    """Another encoder, which measures `judge_similarity`."""
    sentences: int
    mean_words: float
    left_out: dict[str, int]
    """Sentences that were given but are not measured, and why."""
    prefix_length: int
    decoding: str
    """In words."""
    rounds: int
    """Of refinement."""
    candidates: int
    """A round."""
    queries: float
    """Encoder queries a sentence, without those that only measure."""
    seconds: float
    """A sentence, to decode and refine."""
    results: dict[str, Measured]
    """`inverter`, and the baselines `nearest training sentence` and `zero vector`."""
    not_measured: dict[str, str]
    """What is not, and why."""
    after_rounds: tuple[Round, ...] = ()
    """Of refinement; the first is before it."""
    robustness: dict[str, Changed] = field(default_factory=dict)
    """By what was done to the vectors."""
    resamples: int = 1000
    """Of the bootstrap over sentences that gives the 95% intervals."""
    signatures: dict[str, str] = field(default_factory=metrics.signatures)
    """How sacrebleu computes."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: no NaN, no infinity."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        plain |= {"mean_words": round(self.mean_words, 1), "queries": round(self.queries, 2)}
        plain |= {"seconds": round(self.seconds, 4), "after_rounds": [found.to_dict() for found in self.after_rounds]}
        for group in ("results", "robustness"):
            plain[group] = {name: found.to_dict() for name, found in plain[group].items()}
        return plain

    def __str__(self) -> str:
        """Head, metrics beside the baselines, lengths, rounds, changed vectors, and what was not measured."""
        left_out = ", ".join(f"{count:,} {why}" for why, count in self.left_out.items() if count)
        head = [
            f"{self.sentences:,} sentences of {self.mean_words:.1f} words on average"
            + (f" (left out: {left_out})" if left_out else ""),
            f"{self.model}; encoder {self.encoder}; prefix length {self.prefix_length}; {self.decoding}, "
            f"{_count(self.candidates, 'candidate')}, {_count(self.rounds, 'refinement round')}, "
            f"{self.queries:.4g} encoder queries and {self.seconds:.2g} seconds a sentence",
            f"in brackets: 95% interval, bootstrap over sentences, {self.resamples:,} resamples; it has no width where "
            "all sentences agree",
        ]
        names = [name for name in METRICS if any(name in found.metrics for found in self.results.values())]
        rows = [["", *self.results]]
        rows += [[METRICS[name][0], *(_cell(found, name) for found in self.results.values())] for name in names]
        errors = [found.reliability_error for found in self.results.values()]
        if any(error is not None for error in errors):
            rows.append(["reliability error", *("-" if error is None else f"{error:.3f}" for error in errors)])
        parts = [*head, "", *_table(rows), "", *self._by_length()]
        if self.after_rounds:
            rows = [["after round", "queries", "exact match, %", "BLEU, corpus"]]
            for number, found in enumerate(self.after_rounds):
                cells = (_shown(found.exact_match, "exact_match"), _shown(found.bleu, "bleu"))
                rows.append([str(number), f"{found.queries:.1f}", *cells])
            parts += ["", *_table(rows)]
        if self.robustness:
            parts += ["", *self._robustness()]
        parts += ["", *(f"not measured: {name}: {why}" for name, why in self.not_measured.items())]
        parts += [f"{name}: {signature}" for name, signature in self.signatures.items()]
        return "\n".join(parts)

    def _by_length(self) -> list[str]:
        """The inverter's exact match and BLEU by sentence length."""
        names = ("exact_match", "bleu", "token_f1")
        rows = [["words", "sentences", *(METRICS[name][0] for name in names)]]
        for words, found in self.results["inverter"].by_length.items():
            rows.append([words, f"{found.sentences:,}", *(_cell(found, name) for name in names)])
        return _table(rows)

    def _robustness(self) -> list[str]:
        """What leaks from changed vectors, beside what the change costs."""
        names = ("exact_match", "bleu", "token_f1", "similarity")
        rows = [["vectors", *(METRICS[name][0] for name in names), f"recall@10 of {self.sentences:,}, %"]]
        rows.append(["as they are", *(_cell(self.results["inverter"], name) for name in names), "100.0"])
        for name, found in self.robustness.items():
            recall = "-" if found.recall_at_10 is None else _shown(found.recall_at_10, "exact_match")
            rows.append([name, *(_cell(found.measured, metric) for metric in names), recall])
        return [*_table(rows), "what leaks at least: an inverter trained on vectors kept so may bring back more"]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cell(found: Measured, name: str) -> str:
    return _shown(found.metrics[name], name) if name in found.metrics else "-"


def _shown(interval: Interval, name: str) -> str:
    """A figure with its interval, in the unit of a metric."""
    _, factor, digits = METRICS[name]
    value, low, high = (f"{factor * bound:.{digits}f}" for bound in asdict(interval).values())
    return f"{value} [{low}, {high}]"


def _table(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
