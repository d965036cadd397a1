"""Outcome: what a run ends with: calibration, the report on test sentences, held-out files, and a table to read.

Knows nothing of how the inverter was made.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from vec2text.bars import bar
from vec2text.batches import Data
from vec2text.config import RunConfig, TrainingConfig
from vec2text.encoders import Encoder
from vec2text.evaluation import Evaluation, Known, baselines, calibrate, evaluate, reliability
from vec2text.inverter import Inverter
from vec2text.refinement import refine
from vec2text.storage import write_text_whole

_log = logging.getLogger(__name__)


def judge(folder: Path, data: Data, config: TrainingConfig) -> dict[str, Any]:
    """Calibrate the best inverter, and judge it on test sentences, which nothing so far has seen; save all with it."""
    inverter = Inverter.from_pretrained(folder / "inverter")
    refined_by = data.encoder if config.calibration_sentences else None
    if refined_by is not None:
        _log.info("calibrating confidence on validation sentences")
        validation = data.held_out("validation", min(config.evaluate_sentences, config.calibration_sentences))
        with bar("calibrating") as show:
            inverter.calibration = calibrate(inverter, refined_by, *validation, show)
    references, vectors = data.held_out("test", config.test_sentences)
    known = Known(data.corpus.texts, data.corpus.rows("train"), data.vectors)
    report, found = report_on(inverter, data.encoder, references, vectors, known, data.test.too_long)
    if refined_by is not None:
        report["confidence"] = _reliability(inverter, data, found, config)
    inverter.training_summary = {**inverter.training_summary, "test": report}
    inverter.save_pretrained(folder / "inverter")
    finish(folder, references, vectors, report)
    return report


def report_on(
    inverter: Inverter,
    encoder: Encoder | None,
    references: list[str],
    vectors: np.ndarray,
    known: Known,
    too_long: int = 0,
) -> tuple[dict[str, Any], Evaluation]:
    """What comes back of test sentences in one greedy pass, beside the baselines."""
    found = evaluate(inverter, encoder, references, vectors)
    beside = baselines(inverter, encoder, references, vectors, known)
    report = {
        "sentences": len(references),
        "too long, left out": too_long,
        "mean words": round(float(np.mean([len(text.split()) for text in references])), 1),
        "prefix length": inverter.projection.config.prefix_length,
        "decoding": "greedy, 1 candidate, 0 rounds, 0 encoder queries",
        **{name: scores.rounded() for name, scores in {"inverter": found.scores, **beside}.items()},
    }
    return report, found


def finish(folder: Path, references: list[str], vectors: np.ndarray, report: dict[str, Any]) -> None:
    """Write what a run ends with."""
    np.save(folder / "heldout.npy", vectors)
    write_text_whole(folder / "heldout.txt", "".join(text + "\n" for text in references))
    write_text_whole(folder / "results.json", json.dumps(report, indent=2) + "\n")  # last: the run is complete


def _reliability(inverter: Inverter, data: Data, plain: Evaluation, config: TrainingConfig) -> dict[str, Any]:
    """How reliable confidence is on test sentences, in plain texts and in refined ones."""
    assert data.encoder is not None
    _, vectors = data.held_out("test", config.test_sentences)
    sure = inverter.confidences(inverter.rows(vectors), plain.reconstructions, plain.similarities)
    assert sure is not None  # it has just been calibrated
    count = min(config.evaluate_sentences, config.test_sentences, config.calibration_sentences)
    references, vectors = data.held_out("test", count)
    with bar("refining test sentences") as show:
        found = refine(inverter, data.encoder, vectors, polish=False, show=show)  # as it was calibrated
    refined = np.array([result.confidence for result in found])
    return {
        "greedy": reliability(plain.references, plain.reconstructions, sure),
        "refined": reliability(references, [result.text for result in found], refined),
    }


def describe(report: dict[str, Any], config: RunConfig) -> str:
    """The final report as a table of text, and how to use what was trained."""
    lines = [
        f"{report['sentences']:,} test sentences of {report['mean words']} words on average; prefix length "
        f"{report['prefix length']}; {report['decoding']}",
        f"{'':26}{'exact match':>12}{'BLEU':>8}{'token F1':>10}{'similarity':>12}",
    ]
    for name, scores in report.items():
        if isinstance(scores, dict) and "bleu" in scores:
            similarity = f"{scores['similarity']:.3f}" if "similarity" in scores else "-"
            lines.append(
                f"{name:26}{scores['exact_match']:>12.1%}{scores['bleu']:>8.1f}{scores['token_f1']:>10.3f}{similarity:>12}"
            )
    for name, figures in report.get("confidence", {}).items():
        lines.append(
            f"confidence, {name}: mean {figures['confidence']:.1%} where {figures['exact_match']:.1%} of "
            f"{figures['sentences']:,} are exact; reliability error {figures['reliability_error']:.3f}"
        )
    saved = f"{config.runs}/{config.name}/inverter"
    lines += ["", f"saved in {saved}; to use it:"]
    source = "--vector FILE" if config.encoder.kind == "precomputed" else '--text "A sentence of yours."'
    lines += [f"  python generate.py --model {saved} {source}"]
    return "\n".join(lines)
