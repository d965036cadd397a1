"""A run from its configuration to a judged, saved inverter: folder, data, model, fit, final report.

Knows nothing of how the configuration was composed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from vec2text.adaptation import align
from vec2text.batches import Data, Examples
from vec2text.cache import Vectors, encode_corpus, stored_vectors
from vec2text.config import DataConfig, RunConfig, TrainingConfig
from vec2text.corpus import SPLITS, Corpus, build_corpus, open_corpus
from vec2text.correction import positions_of_prefix
from vec2text.decoders import check_padding, find_decoder, load_decoder, place_of
from vec2text.encoders import Encoder, encode_checked, load_encoder
from vec2text.evaluation import Evaluation, Known, baselines, calibrate, evaluate, reliability
from vec2text.fingerprint import Fingerprint
from vec2text.inverter import Inverter
from vec2text.refinement import refine
from vec2text.storage import locked, recover, write_text_whole
from vec2text.training import fit
from vec2text.vectors import check_rows

_REFINED = 128  # sentences, at most, that are refined at the end of a run, to calibrate confidence and to judge it
_MEASURED = 64  # sentences whose vectors tell how long the encoder's vectors are
_log = logging.getLogger(__name__)


def train(config: RunConfig, encoder: Encoder | None = None) -> dict[str, Any]:
    """Train the inverter that `config` describes, or go on with it, and judge it on test sentences.

    Args:
        config: the run.
        encoder: any object with name, dimension and encode, instead of the one that `config.encoder` names.

    Returns:
        The final report, as `results.json` in the run's folder keeps it.

    Raises:
        ValueError: the run's folder belongs to another configuration, or the data or a model cannot be read.
    """
    # Without an accelerator, several processes must be told to meet on the CPU; they wait while the first one encodes.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=1))
    with state.main_process_first():
        folder = _open_run(config)
    results = folder / "results.json"
    if results.exists():
        _log.info("%s is complete; another name=... starts a new run", folder)
        report: dict[str, Any] = json.loads(results.read_text())
        return report
    with locked(folder) if state.is_main_process else nullcontext():
        return _go_on(config, encoder, folder, state)


def _go_on(config: RunConfig, encoder: Encoder | None, folder: Path, state: PartialState) -> dict[str, Any]:
    """Train or adapt from where the run is."""
    for name in ("checkpoint", "inverter"):
        recover(folder / name)
    if config.decoder.name != "scratch" and config.adaptation.to is None:
        find_decoder(place_of(config.decoder.name))
    if encoder is None and config.encoder.kind != "precomputed":
        encoder = load_encoder(config.encoder)
    if encoder is None and config.training.correction_fraction:
        raise ValueError(
            f"training.correction_fraction is {config.training.correction_fraction}, but correction embeds what the "
            "inverter writes, and encoder.kind=precomputed cannot: name the encoder, or leave it at 0"
        )
    vectors: Vectors | None = None
    with state.main_process_first():
        corpus = build_corpus(config.data, getattr(encoder, "fault", lambda text: None))
        if encoder is None:
            vectors = stored_vectors(corpus, config.encoder.vectors, config.data.cache)
            first = vectors[np.arange(min(_MEASURED, len(vectors)))]
            fingerprint = Fingerprint.of_vectors(config.encoder, first)
        else:
            fingerprint = Fingerprint.of(encoder)
            first = encode_checked(encoder, corpus.texts[:_MEASURED], fingerprint.dimension)
            check_rows(first)
            fingerprint = fingerprint.measured(first)
        _same_data(folder, corpus, first)
    if config.adaptation.to is not None:
        return _adapt(config, encoder, corpus, fingerprint, vectors, folder)
    return _fit(config, encoder, corpus, fingerprint, vectors, folder, state)


def _fit(
    config: RunConfig,
    encoder: Encoder | None,
    corpus: Corpus,
    fingerprint: Fingerprint,
    vectors: Vectors | None,
    folder: Path,
    state: PartialState,
) -> dict[str, Any]:
    """Train an inverter for these sentences, whose vectors are given where there is no encoder."""
    config.training.check_dimension(fingerprint.dimension)
    # The inverter before the vectors of all sentences, which may take hours: what does not fit is said now.
    set_seed(config.training.seed)
    longest, corrects = config.data.max_tokens, bool(config.training.correction_fraction)
    positions = longest + positions_of_prefix(config.projection.prefix_length, longest if corrects else None)
    with state.main_process_first():
        vocabulary = _vocabulary_file(config, corpus)
        decoder, tokenizer = load_decoder(config.decoder, _texts(corpus, "train"), positions, vocabulary)
    if corrects:
        check_padding(decoder, config.decoder.name, positions)
    inverter = Inverter.build(config.projection, decoder, tokenizer, fingerprint, longest, corrects)
    _take_over(inverter, config.decoder.name)
    if vectors is None:
        assert encoder is not None
        with state.main_process_first():
            vectors = encode_corpus(corpus, encoder, config.data.cache, fingerprint)
    rows = {split: corpus.rows(split) for split in SPLITS}
    if corrects:
        fraction = config.training.correction_fraction
        kept = np.random.default_rng(config.training.seed).random(len(rows["train"])) < fraction
        if kept.all() or not kept.any():
            raise ValueError(
                f"training.correction_fraction is {fraction}, which leaves {(~kept).sum()} "
                f"of {len(kept)} training sentences for inversion and {kept.sum()} for correction: both need some"
            )
        rows |= {"train": rows["train"][~kept], "correction": rows["train"][kept]}
    examples = {name: Examples(corpus, some, vectors, tokenizer, longest) for name, some in rows.items()}
    known = [examples[name] for name in ("train", "correction") if name in examples]
    _log.info(
        "%s training sentences (%s of more than %s tokens dropped); %s parameters in the GPT, of which %s are trained; "
        "%s in the projection",
        f"{sum(map(len, known)):,}",
        f"{sum(some.too_long for some in known):,}",
        longest,
        f"{decoder.num_parameters():,}",
        f"{decoder.num_parameters(only_trainable=True):,}",
        f"{sum(p.numel() for p in inverter.projection.parameters()):,}",
    )
    data = Data(corpus, vectors, encoder=encoder, **examples)
    fit(inverter, data, config.training, folder)
    del inverter, decoder  # the judged one takes their place in memory
    return _judge(folder, data, config.training) if state.is_main_process else {}


def _adapt(
    config: RunConfig,
    encoder: Encoder | None,
    corpus: Corpus,
    fingerprint: Fingerprint,
    vectors: Vectors | None,
    folder: Path,
) -> dict[str, Any]:
    """Adapt an inverter to the encoder, or to the vectors that were given; judge it on test sentences and save it."""
    assert config.adaptation.to is not None
    base = Inverter.from_pretrained(config.adaptation.to)
    own_encoder = base.fingerprint.open_encoder()

    def some(split: str, count: int) -> tuple[list[str], np.ndarray]:
        """Sentences of a split, evenly spread, and their vectors."""
        rows = corpus.rows(split)
        rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        texts = [corpus.texts[row] for row in rows]
        if vectors is not None:
            return texts, vectors[rows]
        assert encoder is not None
        return texts, encode_checked(encoder, texts, fingerprint.dimension)

    texts, new = some("train", config.adaptation.pairs)
    if len(texts) < config.adaptation.pairs:
        _log.warning("adaptation.pairs is %s, but there are %s", f"{config.adaptation.pairs:,}", f"{len(texts):,}")
    own = encode_checked(own_encoder, texts, base.fingerprint.dimension)
    started = time.perf_counter()
    alignment, described = align(new, own, config.training.seed)
    seconds = time.perf_counter() - started
    _log.info("a map from %s pairs: %s (%.1f seconds)", f"{len(texts):,}", described, seconds)
    inverter = base.adapted(config.adaptation.to, alignment, fingerprint)
    references, held = some("test", config.training.test_sentences)
    known = Known(texts, np.arange(len(texts)), new)
    report = _report(inverter, encoder, references, held, known)[0]
    inverter.training_summary = {"pairs": len(texts), "map": described, "seconds": round(seconds, 1), "test": report}
    inverter.save_pretrained(folder / "inverter")
    _finish(folder, references, held, report)
    return report


def _take_over(inverter: Inverter, decoder: str) -> None:
    """Where the decoder is the bundled inverter's, start from what else of that one fits, and say what."""
    if decoder != "bundled":
        return
    other, also = Inverter.from_pretrained(device="cpu"), "and projection"
    try:
        other.fingerprint.check_encoder(inverter.fingerprint)
        if other.projection.config == inverter.projection.config:
            inverter.projection.load_state_dict(other.projection.state_dict())
            if inverter.correction is not None and other.correction is not None:
                inverter.correction.load_state_dict(other.correction.state_dict())
                also = "and projection and correction"
        else:
            also = "alone: its projection is of another kind or length"
    except ValueError:
        also = "alone: its projection is for another encoder"
    _log.info("starting from the inverter in the package: its GPT %s", also)


def known_sentences(folder: Path, encoder: Encoder, fingerprint: Fingerprint) -> Known:
    """The sentences that the run in `folder` was trained on, and their vectors, from what it keeps of them.

    Args:
        folder: the run's, as training made it, beside its cache.
        encoder: of the run; makes the vectors that the cache no longer has.
        fingerprint: of the run's inverter.

    Raises:
        ValueError: `folder` is no run, or its sentences are no longer there.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        digest = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["digest"]
        place = Path(config["runs"]) / config["name"]
        data = DataConfig(**config["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no run that says what it was trained on ({error})") from error
    # Relative paths are those of the folder from which the run was started.
    start = Path() if place.is_absolute() else folder.resolve().parents[len(place.parts) - 1]
    cache = start / data.cache
    corpus = open_corpus(replace(data, cache=str(cache)), digest)
    return Known(corpus.texts, corpus.rows("train"), encode_corpus(corpus, encoder, cache, fingerprint))


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


def _open_run(config: RunConfig) -> Path:
    """The run's folder; refused when training was started in it with another configuration."""
    folder = Path(config.runs) / config.name
    record = folder / "config.json"
    settings = json.dumps(asdict(config), indent=2, ensure_ascii=False)
    if record.exists():
        changed = config.differences(json.loads(record.read_text(encoding="utf-8")))
        begun = any((folder / name).exists() for name in ("checkpoint", "inverter", "metrics.jsonl"))
        if changed and not begun:  # a misspelt name, mended: there is nothing to lose
            with locked(folder):
                (folder / "corpus.json").unlink(missing_ok=True)
                write_text_whole(record, settings)
        elif changed:
            raise ValueError(
                f"{folder} was started with another configuration ({'; '.join(changed[:3])}): give another name=..., "
                "or delete that folder"
            )
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run: give another name=..., or delete that folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text_whole(record, settings)
    return folder


def _same_data(folder: Path, corpus: Corpus, first: np.ndarray) -> None:
    """Refuse to go on with a run whose sentences or vectors have changed; `first` are vectors of the first ones."""
    record = folder / "corpus.json"
    sample = first[:8, :64].astype(float)
    if record.exists():
        before = json.loads(record.read_text(encoding="utf-8"))
        if before["digest"] != corpus.digest:
            raise ValueError(
                f"the sentences have changed since {folder} was started ({before['counts']['train']:,} training "
                f"sentences then, {corpus.counts['train']:,} now): give another name=..., or bring the old ones back"
            )
        known = np.array(before.get("vectors", sample))
        if known.shape != sample.shape or not np.allclose(known, sample, atol=0.01 * float(np.abs(sample).max())):
            raise ValueError(
                f"the vectors of the sentences have changed since {folder} was started: give another name=..., or "
                "bring the old encoder or the old vectors back"
            )
        return
    kept = {"digest": corpus.digest, "counts": corpus.counts, "vectors": sample.round(6).tolist()}
    write_text_whole(record, json.dumps(kept))


def _vocabulary_file(config: RunConfig, corpus: Corpus) -> Path:
    """Where the vocabulary that a scratch GPT learns from these training sentences is kept."""
    learned_from = [corpus.digest, config.data.validation, config.data.test, config.decoder.vocabulary_size]
    name = hashlib.blake2b(json.dumps(learned_from).encode(), digest_size=8).hexdigest()
    return Path(config.data.cache) / f"vocabulary-{name}.json"


def _texts(corpus: Corpus, split: str) -> Iterator[str]:
    for row in corpus.rows(split):
        yield corpus.texts[row]


def _judge(folder: Path, data: Data, config: TrainingConfig) -> dict[str, Any]:
    """Calibrate the best inverter, and judge it on test sentences, which nothing so far has seen; save all with it."""
    inverter = Inverter.from_pretrained(folder / "inverter")
    if data.encoder is not None:
        _log.info("calibrating confidence on validation sentences")
        validation = data.held_out("validation", min(config.evaluate_sentences, _REFINED))
        inverter.calibration = calibrate(inverter, data.encoder, *validation)
    references, vectors = data.held_out("test", config.test_sentences)
    known = Known(data.corpus.texts, data.corpus.rows("train"), data.vectors)
    report, found = _report(inverter, data.encoder, references, vectors, known, data.test.too_long)
    if data.encoder is not None:
        report["confidence"] = _reliability(inverter, data, found, config)
    inverter.training_summary = {**inverter.training_summary, "test": report}
    inverter.save_pretrained(folder / "inverter")
    _finish(folder, references, vectors, report)
    return report


def _report(
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


def _finish(folder: Path, references: list[str], vectors: np.ndarray, report: dict[str, Any]) -> None:
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
    references, vectors = data.held_out("test", min(config.evaluate_sentences, config.test_sentences, _REFINED))
    found = refine(inverter, data.encoder, vectors)
    refined = np.array([result.confidence for result in found])
    return {
        "greedy": reliability(plain.references, plain.reconstructions, sure),
        "refined": reliability(references, [result.text for result in found], refined),
    }
