"""The fingerprint: what a vector space is called, and how to recognise it.

Knows nothing of projections, GPTs or files of vectors.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vec2text.config import EncoderConfig
from vec2text.encoders import Encoder, encode_checked, load_encoder

PROBES = ("The cat sat on the mat.", "Where will you be at nine tomorrow?", "Стоимость билета: 42 рубля!")
"""Three fixed sentences whose vectors tell one vector space from another."""


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
    """Vectors of PROBES, (3, D); none for vectors that were given without their encoder."""

    @classmethod
    def of(cls, encoder: Encoder) -> Fingerprint:
        """The fingerprint of an encoder: three sentences are encoded.

        Raises:
            ValueError: it gives something else than three vectors of its dimension.
        """
        vectors = encode_checked(encoder, list(PROBES), encoder.dimension)
        config: Any = getattr(encoder, "config", None)
        if not isinstance(config, EncoderConfig):
            config = EncoderConfig(encoder.name, kind="object")
        # Words may be all unknown to averaged word vectors: such a probe is of length 0 and says nothing of lengths.
        probes = tuple(tuple(float(x) for x in row) for row in vectors)
        return cls(config, encoder.dimension, *_lengths(vectors[vectors.any(1)]), probes)

    @classmethod
    def of_vectors(cls, config: EncoderConfig, vectors: np.ndarray) -> Fingerprint:
        """The fingerprint of given vectors, (N, D), whose encoder is not at hand: their dimension and lengths."""
        return cls(replace(config, vectors=[]), int(vectors.shape[1]), *_lengths(vectors), ())

    def measured(self, vectors: np.ndarray) -> Fingerprint:
        """The same space, its lengths measured on (N, D) vectors of real sentences instead of three probes."""
        normalized, norm = _lengths(vectors)
        return replace(self, normalized=normalized, norm=norm)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Fingerprint:
        """The inverse of `to_dict`."""
        probes = tuple(tuple(row) for row in values["probes"])
        return cls(**{**values, "encoder": EncoderConfig(**values["encoder"]), "probes": probes})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as inverter.json and the vector cache keep them."""
        return asdict(self)

    def open_encoder(self, name: str | None = None, device: str | None = None) -> Encoder:
        """The encoder of this space, or the one called `name` if it is of this space.

        Raises:
            ValueError: it cannot be loaded, or makes other vectors.
        """
        config = self.encoder if name is None else replace(self.encoder, name=name)
        if name is not None and config.kind in ("precomputed", "object"):
            config = EncoderConfig(name)
        encoder = load_encoder(config, device)
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
        cosines = np.ones(0)
        if len(a) and len(b):
            lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            alike = a.any(1) == b.any(1)  # of a probe that one of them does not know, or neither
            cosines = np.where(lengths > 0, (a * b).sum(1) / lengths.clip(1e-30), alike)
        if len(cosines) and cosines.min() < 0.999:
            raise ValueError(
                f"encoder {theirs!r} is not the one this was made for ({ours!r}, prompt {self.encoder.prompt!r}): "
                f"its vectors of the probe sentences differ (cosine {cosines.min():.3f}, expected > 0.999)"
            )
        # Lengths of the probes where there are any; else they are of other sentences and only unit ones must agree.
        norms = [float(np.linalg.norm(probes, axis=1).mean()) for probes in (a, b)] if len(cosines) else []
        mine, their = norms if all(norms) and norms else (self.norm, other.norm)
        slack = 1.01 if len(cosines) or self.normalized else 3
        if not 1 / slack < their / mine < slack:
            raise ValueError(
                f"encoder {theirs!r} makes vectors of length {their:.3g}, but {ours!r} made them of length "
                f"{mine:.3g}: check encoder.normalize"
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
        says = not self.probes or np.any(self.probes)  # probes of unknown words say nothing of lengths
        if says and not low <= norm <= high:
            warnings.warn(
                f"the vectors have length {norm:.3g} on average, but those of {self.encoder.name!r} have length "
                f"{self.norm:.3g}: check that they come from this encoder with all of its layers (pooling, Dense, "
                "Normalize), and that they were not scaled, averaged or quantised without rescaling",
                stacklevel=2,
            )


def _lengths(vectors: np.ndarray) -> tuple[bool, float]:
    """Whether all of (N, D) vectors have length 1, and their mean length (1 where there is none)."""
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
    unit = bool(len(norms)) and bool(np.allclose(norms, 1.0, atol=5e-3))  # half precision is off by 2e-3
    return unit, float(norms.mean()) if len(norms) else 1.0
