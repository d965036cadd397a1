"""A run from its configuration to a judged, saved inverter: folder, data, start, fit, outcome.

Knows nothing of how the configuration was composed.
"""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import set_seed
from torch import accelerator

from vec2text.batches import Data, Examples
from vec2text.cache import Vectors, encode_corpus, stored_vectors
from vec2text.config import DataConfig, RunConfig
from vec2text.corpus import SPLITS, Corpus, build_corpus, open_corpus, splice_corpus
from vec2text.decoders import find_decoder, place_of
from vec2text.encoders import Encoder, encode_checked, load_encoder
from vec2text.evaluation import Known
from vec2text.fingerprint import Fingerprint
from vec2text.inverter import Inverter
from vec2text.outcome import finish, judge, report_on
from vec2text.start import Material, adapted, begin
from vec2text.storage import locked, recover, write_text_whole
from vec2text.training import fit
from vec2text.vectors import check_rows

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
    state = PartialState(cpu=not accelerator.is_available(), timeout=timedelta(days=1))
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
    if encoder is None and config.data.splices:
        raise ValueError(
            f"data.splices is {config.data.splices:g}, but splices are new texts, and encoder.kind=precomputed cannot "
            "embed them: name the encoder, or leave it at 0"
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
    material = Material(config, encoder, corpus, fingerprint, vectors)
    if config.adaptation.to is None:
        return _fit(material, folder, state)
    inverter, pairs = adapted(material)
    if config.adaptation.fine_tune:
        return _fit(material, folder, state, inverter.merged(pairs.vectors[pairs.rows]))
    if not state.is_main_process:
        return {}
    references, held = material.some("test", config.training.test_sentences)
    report = report_on(inverter, encoder, references, held, pairs)[0]
    inverter.training_summary |= {"test": report}
    inverter.save_pretrained(folder / "inverter")
    finish(folder, references, held, report)
    return report


def _fit(material: Material, folder: Path, state: PartialState, merged: Inverter | None = None) -> dict[str, Any]:
    """Train an inverter for these sentences, from an adapted one where there is one."""
    config, corpus, vectors = material.config, material.corpus, material.vectors
    config.training.check_dimension(material.fingerprint.dimension)
    # The inverter before the vectors of all sentences, which may take hours: what does not fit is said now.
    set_seed(config.training.seed)
    with state.main_process_first():
        inverter = begin(material, merged)
    if vectors is None:
        assert material.encoder is not None
        with state.main_process_first():
            vectors = encode_corpus(corpus, material.encoder, config.data.cache, material.fingerprint)
    rows = {split: corpus.rows(split) for split in SPLITS}
    if fraction := config.training.correction_fraction:
        kept = np.random.default_rng(config.training.seed).random(len(rows["train"])) < fraction
        if kept.all() or not kept.any():
            raise ValueError(
                f"training.correction_fraction is {fraction}, which leaves {(~kept).sum()} "
                f"of {len(kept)} training sentences for inversion and {kept.sum()} for correction: both need some"
            )
        rows |= {"train": rows["train"][~kept], "correction": rows["train"][kept]}
    spliced: tuple[Corpus, Vectors] | None = None
    if config.data.splices:
        assert material.encoder is not None
        with state.main_process_first():
            made = splice_corpus(corpus, rows["train"], config.data, getattr(material.encoder, "fault", None))
            _same_splices(folder, made)
            spliced = made, encode_corpus(made, material.encoder, config.data.cache, material.fingerprint)
    longest = config.data.max_tokens
    examples = {name: Examples(corpus, some, vectors, inverter.tokenizer, longest) for name, some in rows.items()}
    known = [examples[name] for name in ("train", "correction") if name in examples]
    _log.info(
        "%s training sentences (%s of more than %s tokens dropped); %s parameters in the GPT, of which %s are trained; "
        "%s in the projection",
        f"{sum(map(len, known)):,}",
        f"{sum(some.too_long for some in known):,}",
        longest,
        f"{inverter.decoder.num_parameters():,}",
        f"{inverter.decoder.num_parameters(only_trainable=True):,}",
        f"{sum(p.numel() for p in inverter.projection.parameters()):,}",
    )
    data = Data(corpus, vectors, encoder=material.encoder, **examples)
    if spliced is not None:
        more = Examples(spliced[0], spliced[0].rows("train"), spliced[1], inverter.tokenizer, longest)
        _log.info("%s splices", f"{len(more):,}")
        data = replace(data, spliced=data.train.followed_by(more))
    fit(inverter, data, config.training, folder)
    del inverter  # the judged one takes its place in memory
    return judge(folder, data, config.training) if state.is_main_process else {}


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
        why = f"there is no {Path(error.filename).name}" if isinstance(error, FileNotFoundError) else error
        raise ValueError(f"{folder} holds no run that says what it was trained on ({why})") from error
    # Relative paths are those of the folder from which the run was started.
    start = Path() if place.is_absolute() else folder.resolve().parents[len(place.parts) - 1]
    cache = start / data.cache
    corpus = open_corpus(replace(data, cache=str(cache)), digest)
    return Known(corpus.texts, corpus.rows("train"), encode_corpus(corpus, encoder, cache, fingerprint))


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


def _same_splices(folder: Path, splices: Corpus) -> None:
    """Refuse to go on with a run whose splices have changed, as they do with sentences that are not in the corpus."""
    record = folder / "corpus.json"
    known = json.loads(record.read_text(encoding="utf-8"))
    if "splices" not in known:
        write_text_whole(record, json.dumps({**known, "splices": splices.digest}))
    elif known["splices"] != splices.digest:
        raise ValueError(
            f"the splices have changed since {folder} was started, and so have sentences that are too long to be "
            "learned from but are spliced: give another name=..., or bring the old ones back"
        )
