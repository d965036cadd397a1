"""Evaluation: decode held-out sentences and compare, with baselines beside the result.

Knows nothing of training or of files.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from vec2text import metrics
from vec2text.calibration import Calibration
from vec2text.config import EncoderConfig
from vec2text.encoders import Encoder, encode_checked, load_encoder
from vec2text.exploration import nearest
from vec2text.fingerprint import Fingerprint
from vec2text.intervals import Summed, bootstrap, mean
from vec2text.inverter import Inverter
from vec2text.reconstruction import Reconstruction
from vec2text.refinement import refine
from vec2text.report import METRICS, Changed, EvaluationReport, Measured, Round, measure
from vec2text.robustness import recall_at
from vec2text.search import EXACT
from vec2text.sentences import occurring

_NEIGHBOURS = 10


@dataclass(frozen=True)
class Scores:
    """How well reconstructions match their references."""

    exact_match: float
    """Share that comes back to the letter, 0 to 1."""
    bleu: float
    """Corpus BLEU, 0 to 100."""
    token_f1: float
    """Mean F1 of words, 0 to 1."""
    similarity: float
    """Mean cosine between the vector of the reconstruction and the vector that was inverted; NaN without encoder."""

    def rounded(self) -> dict[str, float]:
        """The scores with the digits that mean something; without those that could not be measured."""
        digits = {"bleu": 1}
        measured = {name: value for name, value in asdict(self).items() if not np.isnan(value)}
        return {name: round(value, digits.get(name, 3)) for name, value in measured.items()}


def score(references: Sequence[str], reconstructions: Sequence[str], similarities: np.ndarray) -> Scores:
    """Scores of reconstructions, given the cosine of each to its vector."""
    return Scores(
        exact_match=metrics.exact_match(references, reconstructions),
        bleu=metrics.corpus_bleu(references, reconstructions),
        token_f1=metrics.token_f1(references, reconstructions),
        similarity=float(similarities.mean()),
    )


@dataclass(frozen=True)
class Evaluation:
    """Held-out sentences, what came back, and the scores."""

    references: list[str]
    reconstructions: list[str]
    similarities: np.ndarray
    """(N,) cosine of each reconstruction's vector to the target vector; NaN without encoder."""
    scores: Scores


def evaluate(
    inverter: Inverter, encoder: Encoder | None, references: Sequence[str], vectors: np.ndarray, **options: Any
) -> Evaluation:
    """Invert the vectors of held-out sentences and compare.

    Args:
        inverter: what is judged.
        encoder: re-embeds what came back: one query a sentence, for the similarity only. None: it is not measured.
        references: N sentences.
        vectors: theirs, (N, D).
        **options: of `Inverter.invert`; greedy without.
    """
    texts = inverter.invert(vectors, **options)
    similarities = _similarities(encoder, texts, vectors)
    return Evaluation(list(references), texts, similarities, score(references, texts, similarities))


def _similarities(encoder: Encoder | None, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Cosine of each text's vector (or of the only one's) to each of (N, D) vectors: (N,)."""
    if encoder is None:
        return np.full(len(vectors), np.nan, np.float32)
    found = encode_checked(encoder, texts, vectors.shape[1])
    return metrics.cosine(np.broadcast_to(found, vectors.shape), vectors)


def calibrate(
    inverter: Inverter,
    encoder: Encoder,
    references: Sequence[str],
    vectors: np.ndarray,
    show: Callable[[float], None] | None = None,
) -> Calibration:
    """How sure an inverter may be of its texts: fitted on what it makes of held-out sentences, plain and refined.

    Args:
        inverter: what is calibrated; set its `calibration` to what this returns.
        encoder: the one that made the vectors.
        references: N sentences that it was not trained on and is not judged by; some hundreds.
        vectors: theirs, (N, D).
        show: is told now and then what share of the work is done, 0 to 1.
    """
    rows, known = inverter.rows(vectors), []
    before, inverter.calibration = inverter.calibration, None  # all searches get the same effort
    try:
        plain = refine(inverter, encoder, vectors, rounds=0)
        refined = refine(inverter, encoder, vectors, polish=False, show=show)  # a run is not to end with hours
    finally:
        inverter.calibration = before
    for found in (plain, refined):
        texts = [result.text for result in found]
        similarities = np.array([result.similarity for result in found])
        exact = metrics.exact_matches(references, texts)
        known.append((similarities, inverter.case_probabilities(rows, texts), exact))
    calibration = Calibration.fit(*(np.concatenate(column) for column in zip(*known, strict=True)))
    early = np.array([_similarity_after(result, 1) for result in refined])
    late = np.array([result.similarity for result in refined])
    return calibration.with_prospects(early[early < EXACT], late[early < EXACT] >= EXACT)


def _similarity_after(result: Reconstruction, number: int) -> float:
    """The similarity of what was the closest text after some rounds."""
    text = result.history[min(number, len(result.history) - 1)][0]
    return next(hypothesis.similarity for hypothesis in result.hypotheses if hypothesis.text == text)


def reliability(references: Sequence[str], texts: Sequence[str], confidences: np.ndarray) -> dict[str, float]:
    """How well confidences tell which of N texts are exact, for the final report."""
    exact = metrics.exact_matches(references, texts)
    figures = {"exact_match": exact.mean(), "confidence": confidences.mean()}
    figures["reliability_error"] = metrics.reliability_error(confidences, exact)
    return {"sentences": len(texts), **{name: round(float(value), 3) for name, value in figures.items()}}


class _ByRow(Protocol):
    """Vectors that are read with `vectors[rows]`: those of a cache, or an array."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Known:
    """The sentences that an inverter was trained on, and their vectors."""

    texts: Sequence[str]
    rows: np.ndarray
    """(n,) which of the texts these are."""
    vectors: _ByRow
    """Of all texts."""

    def __iter__(self) -> Iterator[str]:
        return (self.texts[row] for row in self.rows)

    def nearest(self, vectors: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The sentence nearest to each of (N, D) vectors, and its cosine (N,)."""
        rows, size = self.rows, 8192
        places, cosines = nearest(vectors, (self.vectors[rows[i : i + size]] for i in range(0, len(rows), size)))
        return [self.texts[row] for row in rows[places]], cosines


def baselines(
    inverter: Inverter, encoder: Encoder | None, references: Sequence[str], vectors: np.ndarray, known: Known
) -> dict[str, Scores]:
    """What one gets without inverting: the nearest training sentence, and the GPT's guess for a vector of zeros.

    Args:
        inverter: its GPT guesses.
        encoder: embeds that guess; None: its similarity is not measured.
        references: N held-out sentences.
        vectors: theirs, (N, D).
        known: the training sentences, which are searched.
    """
    texts, similarities = known.nearest(vectors)
    guess = inverter.unaided()
    alike = _similarities(encoder, [guess], vectors)
    return {
        "nearest training sentence": score(references, texts, similarities),
        "zero vector": score(references, [guess] * len(references), alike),
    }


def held_out(texts: Sequence[str], known: Known | None, limit: int | None) -> tuple[list[str], dict[str, int]]:
    """The sentences that an inverter may be judged on, and how many are left out; warns where it was trained on some.

    Args:
        texts: sentences.
        known: what it was trained on; those that occur there, whatever their case and punctuation, are left out.
        limit: at most this many, evenly spread; None: all.

    Raises:
        ValueError: none is left.
    """
    seen = occurring(texts, known) if known is not None else np.zeros(len(texts), bool)
    fresh = [text for text, found in zip(texts, seen, strict=True) if not found]
    if not fresh:
        raise ValueError(f"all {len(texts):,} sentences occur in the training set: give others, which it has not seen")
    if seen.any():
        warnings.warn(
            f"{seen.sum():,} of {len(texts):,} sentences occur in the training set, whatever their case and "
            "punctuation: they are left out",
            stacklevel=2,
        )
    chosen = np.linspace(0, len(fresh) - 1, min(limit or len(fresh), len(fresh))).astype(int)
    return [fresh[place] for place in chosen], {"in training": int(seen.sum()), "by limit": len(fresh) - len(chosen)}


def independent(name: str, fingerprint: Fingerprint, device: str | None = None) -> Encoder:
    """Another sentence-transformers model than that of a space, to measure similarity with.

    Raises:
        ValueError: it cannot be loaded, or makes vectors of that space.
    """
    encoder = load_encoder(EncoderConfig(name), device)
    try:
        fingerprint.check_encoder(Fingerprint.of(encoder))
    except ValueError:
        return encoder
    raise ValueError(
        f"{name!r} makes the vectors that the inverter inverts, so it is no independent judge: name another"
    )


@dataclass(frozen=True)
class Decoded:
    """What came back for N vectors, and what it took."""

    texts: list[str]
    queries: float = 0.0
    """Encoder queries a vector."""
    history: tuple[tuple[list[str], float], ...] = ()
    """Of refinement: texts, and queries a vector so far, before it and after each round."""
    confidences: tuple[float, ...] = ()
    """Of refinement by a calibrated inverter: the probability of each text to be exact."""

    @classmethod
    def of(cls, found: Sequence[Any]) -> Decoded:
        """What refinement found for N vectors: objects with `text`, `queries` and perhaps `history`.

        A history is (text, queries so far) before the first round and after each; a vector that stopped early keeps
        what it had.
        """
        histories = [getattr(item, "history", ()) for item in found]
        history = []
        if all(histories):
            for number in range(max(map(len, histories))):
                texts, queries = zip(*(rounds[min(number, len(rounds) - 1)] for rounds in histories), strict=True)
                history.append((list(texts), float(np.mean(queries))))
        known = [sure for item in found if (sure := getattr(item, "confidence", None)) is not None]
        sure = tuple(known) if len(known) == len(found) else ()
        total = float(np.mean([item.queries for item in found]))
        return cls([item.text for item in found], total, tuple(history), sure)


@dataclass(frozen=True, eq=False)
class Examiner:
    """Measures what came back for the same N sentences, again and again."""

    references: list[str]
    spaces: dict[str, tuple[Encoder, np.ndarray]]
    """`similarity` and `judge_similarity`: who measures each, and its vectors of the references (N, D)."""
    seed: int = 0
    """Of the bootstrap."""

    def measure(self, texts: Sequence[str], confidences: Sequence[float] = ()) -> Measured:
        """All metrics of N reconstructions; each distinct text is embedded once by each encoder."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        rows = [places[text] for text in texts]
        similarities = {
            name: metrics.cosine(encode_checked(encoder, list(places), vectors.shape[1])[rows], vectors)
            for name, (encoder, vectors) in self.spaces.items()
        }
        sure = np.array(confidences) if len(confidences) else None
        return measure(self.references, texts, similarities, sure, seed=self.seed)

    def after_round(self, texts: Sequence[str], queries: float) -> Round:
        """Exact match and BLEU after a round, at so many queries a sentence."""
        bleu = Summed(metrics.bleu_counts(self.references, texts), metrics.bleu_of)
        exact = mean(metrics.exact_matches(self.references, texts))
        return Round(queries, **bootstrap({"exact_match": exact, "bleu": bleu}, seed=self.seed))


def make_report(
    inverter: Inverter,
    examiner: Examiner,
    vectors: np.ndarray,
    decode: Callable[[np.ndarray], Decoded],
    *,
    known: Known | None = None,
    changed: Mapping[str, np.ndarray] | None = None,
    not_measured: Mapping[str, str] | None = None,
    **about: Any,
) -> EvaluationReport:
    """Decode, measure with intervals, and put the baselines beside it: for reports, not for training.

    Args:
        inverter: what is judged.
        examiner: the held-out sentences, and what measures.
        vectors: theirs, (N, D).
        decode: brings texts back from such vectors.
        known: the training sentences. None: the nearest of them is not measured.
        changed: the same vectors as a vector store keeps them (see `robustness`), by what was done to them.
        not_measured: what else is not measured, and why.
        **about: the other fields of `EvaluationReport`: model, encoder, judge, decoding, ...
    """
    found, seconds = _timed(decode, vectors)
    results = {"inverter": examiner.measure(found.texts, found.confidences)}
    if known is not None:
        results["nearest training sentence"] = examiner.measure(known.nearest(vectors)[0])
    results["zero vector"] = examiner.measure([inverter.unaided()] * len(vectors))
    missing = dict(not_measured or {})
    for name, what in (("number_recall", "number in digits"), ("name_recall", "capitalised word but the first")):
        if name not in results["inverter"].metrics:
            missing[METRICS[name][0]] = f"no sentence holds a {what}"
    if changed and len(vectors) <= _NEIGHBOURS:
        missing["recall@10"] = f"{len(vectors)} sentences; expected more than {_NEIGHBOURS}"
    robustness = {}
    for name, kept in (changed or {}).items():
        again, took = _timed(decode, kept)
        recall = None
        if len(vectors) > _NEIGHBOURS:
            recall = bootstrap({"": mean(recall_at(_NEIGHBOURS, vectors, kept))}, seed=examiner.seed)[""]
        robustness[name] = Changed(examiner.measure(again.texts, again.confidences), recall, again.queries, took)
    return EvaluationReport(
        sentences=len(examiner.references),
        mean_words=float(np.mean([len(text.split()) for text in examiner.references])),
        prefix_length=inverter.projection.config.prefix_length,
        queries=found.queries,
        seconds=seconds,
        results=results,
        after_rounds=tuple(examiner.after_round(texts, queries) for texts, queries in found.history),
        robustness=robustness,
        not_measured=missing,
        **about,
    )


def _timed(decode: Callable[[np.ndarray], Decoded], vectors: np.ndarray) -> tuple[Decoded, float]:
    """What came back, and the seconds it took for each of (N, D) vectors."""
    start = time.monotonic()
    found = decode(vectors)
    return found, (time.monotonic() - start) / len(vectors)
