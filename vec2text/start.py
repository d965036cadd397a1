"""The start of a run: its sentences and their vectors, and the inverter that is trained or adapted for them.

An inverter begins from random weights, from a GPT by name, from the inverter in the package, or from one that a linear
map has adapted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vec2text.adaptation import align
from vec2text.cache import Vectors
from vec2text.config import SIZES, RunConfig
from vec2text.corpus import Corpus
from vec2text.correction import positions_of_prefix
from vec2text.decoders import check_padding, load_decoder
from vec2text.encoders import Encoder, encode_checked
from vec2text.evaluation import Known
from vec2text.fingerprint import Fingerprint
from vec2text.inverter import Inverter
from vec2text.storage import find_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What a run works with."""

    config: RunConfig
    encoder: Encoder | None
    """None: vectors are given."""
    corpus: Corpus
    fingerprint: Fingerprint
    """Of the vectors."""
    vectors: Vectors | None
    """Those that are given; None: the encoder makes them."""

    def some(self, split: str, count: int) -> tuple[list[str], np.ndarray]:
        """So many sentences of a split at most, evenly spread, and their vectors (n, D)."""
        rows = self.corpus.rows(split)
        rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        texts = [self.corpus.texts[row] for row in rows]
        if self.vectors is not None:
            return texts, self.vectors[rows]
        assert self.encoder is not None
        return texts, encode_checked(self.encoder, texts, self.fingerprint.dimension)


def adapted(material: Material) -> tuple[Inverter, Known]:
    """The inverter that `adaptation.to` names, adapted to these vectors, and the pairs that it was adapted by.

    Raises:
        ValueError: there is no such inverter, its encoder cannot be had, or there are too few pairs.
    """
    config = material.config.adaptation
    assert config.to is not None
    base = Inverter.from_pretrained(config.to)
    own_encoder = base.fingerprint.open_encoder()
    texts, new = material.some("train", config.pairs)
    if len(texts) < config.pairs:
        _log.warning("adaptation.pairs is %s, but there are %s", f"{config.pairs:,}", f"{len(texts):,}")
    own = encode_checked(own_encoder, texts, base.fingerprint.dimension)
    started = time.perf_counter()
    alignment, described = align(new, own, material.config.training.seed)
    seconds = time.perf_counter() - started
    _log.info("a map from %s pairs: %s (%.1f seconds)", f"{len(texts):,}", described, seconds)
    inverter = base.adapted(config.to, alignment, material.fingerprint)
    inverter.training_summary = {"pairs": len(texts), "map": described, "seconds": round(seconds, 1)}
    return inverter, Known(texts, np.arange(len(texts)), new)


def begin(material: Material, merged: Inverter | None = None) -> Inverter:
    """An inverter to be trained.

    Args:
        material: the configuration, and the sentences that a scratch GPT's vocabulary is learned from.
        merged: an adapted one that training goes on from, its map made a part of its projection; None: there is none.

    Raises:
        ValueError: a model cannot be had, or what is asked of it does not fit it.
    """
    config = material.config
    projection, gpt = config.projection, config.decoder
    if merged is not None:
        projection = merged.projection.config
        sizes: dict[str, Any] = dict.fromkeys(SIZES)  # are the inverter's
        gpt = replace(gpt, name=str(find_folder(str(config.adaptation.to)) / "decoder"), **sizes)
    longest, corrects = config.data.max_tokens, bool(config.training.correction_fraction)
    positions = longest + positions_of_prefix(projection.prefix_length, longest if corrects else None)
    vocabulary = _vocabulary_file(config, material.corpus)
    decoder, tokenizer = load_decoder(gpt, _texts(material.corpus, "train"), positions, vocabulary)
    if corrects:
        check_padding(decoder, gpt.name, positions)
    inverter = Inverter.build(projection, decoder, tokenizer, material.fingerprint, longest, corrects)
    if merged is not None:
        _log.info("starting from the inverter %s, adapted: its GPT %s", config.adaptation.to, _take(inverter, merged))
    elif gpt.name == "bundled":
        _log.info("starting from the inverter in the package: its GPT %s", _take_over(inverter))
    return inverter


def _take_over(inverter: Inverter) -> str:
    """Start from what fits of the inverter in the package, beside its GPT, and say what."""
    other = Inverter.from_pretrained(device="cpu")
    try:
        other.fingerprint.check_encoder(inverter.fingerprint)
    except ValueError:
        return "alone: its projection is for another encoder"
    if other.projection.config != inverter.projection.config:
        return "alone: its projection is of another kind or length"
    return _take(inverter, other)


def _take(inverter: Inverter, other: Inverter) -> str:
    """Start from the projection of another, and where both have learned it from its correction; say what."""
    inverter.projection.load_state_dict(other.projection.state_dict())
    if inverter.correction is None or other.correction is None:
        return "and projection"
    inverter.correction.load_state_dict(other.correction.state_dict())
    return "and projection and correction"


def _vocabulary_file(config: RunConfig, corpus: Corpus) -> Path:
    """Where the vocabulary that a scratch GPT learns from these training sentences is kept."""
    learned_from = [corpus.digest, config.data.validation, config.data.test, config.decoder.vocabulary_size]
    name = hashlib.blake2b(json.dumps(learned_from).encode(), digest_size=8).hexdigest()
    return Path(config.data.cache) / f"vocabulary-{name}.json"


def _texts(corpus: Corpus, split: str) -> Iterator[str]:
    for row in corpus.rows(split):
        yield corpus.texts[row]
