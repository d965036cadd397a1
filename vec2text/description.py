"""Description: what a saved inverter says of itself, to the program in inverter.json and to people on the model card.

Knows nothing of weights, or of how an inverter works.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vec2text.calibration import Calibration
from vec2text.config import ProjectionConfig
from vec2text.fingerprint import Fingerprint

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Description:
    """All of an inverter that is not its weights or its tokenizer."""

    projection: ProjectionConfig
    fingerprint: Fingerprint
    max_tokens: int
    """The longest text that it is trained on."""
    training: dict[str, Any]
    """How it was made, and what was measured."""
    precision: str = "fp32"
    """Of the decoder's weights: `fp32` or `bf16`."""
    corrects: bool = False
    """Whether it has learned to correct, or learns it."""
    calibration: Calibration | None = None
    base: list[float] | None = None
    """By which the model under an adapter, or the adapted inverter, is recognised; None: the decoder is no adapter."""
    adapts: str | None = None
    """The inverter that this one leads vectors of another space to; all but the way there is in its folder."""

    @classmethod
    def read(cls, folder: Path) -> Description:
        """That of a saved inverter.

        Raises:
            ValueError: there is none, it is broken, or of a newer format.
        """
        values = _read(folder)
        try:
            known = values.get("calibration")  # not in older inverters
            return cls(
                ProjectionConfig(**values["projection"]),
                Fingerprint.from_dict(values["fingerprint"]),
                int(values["max_tokens"]),
                values["training"],
                values.get("precision", "fp32"),
                bool(values.get("corrects")),  # not in what was saved before there was correction
                None if known is None else Calibration.from_dict(known),
                values.get("base"),
                values.get("adapts"),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(f"{folder}/inverter.json is broken: {reason}; save the inverter again") from error

    def write(self, folder: Path) -> None:
        """Write inverter.json."""
        values = {
            "precision": self.precision,
            **({} if self.base is None else {"base": self.base}),
            **({} if self.adapts is None else {"adapts": self.adapts}),
            "format_version": FORMAT_VERSION,
            "projection": asdict(self.projection),
            "fingerprint": self.fingerprint.to_dict(),
            "max_tokens": self.max_tokens,
            "corrects": self.corrects,
            "training": self.training,
            **({} if self.calibration is None else {"calibration": self.calibration.to_dict()}),
        }
        (folder / "inverter.json").write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")

    def write_card(self, folder: Path, decoder: str, about: str = "") -> None:
        """Write the model card, README.md: what it inverts, how it was made, what was measured.

        Args:
            folder: of the inverter.
            decoder: the GPT in words.
            about: what else there is to say, as Markdown.
        """
        encoder, summary = self.fingerprint.encoder.name, self.training
        made = {key: value for key, value in summary.items() if not isinstance(value, dict)}
        lines = [
            "---\nlibrary_name: vec2text-gpt\ntags: [embedding-inversion]\n---",
            f"# Inverter for {encoder}",
            f"Turns vectors of `{encoder}` (dimension {self.fingerprint.dimension}) back into text of up to "
            f"{self.max_tokens} tokens. Projection: {self.projection.kind}, {self.projection.prefix_length} prefix "
            f"tokens. GPT: {decoder}.",
            "```python\nfrom vec2text import Inverter\n\ninverter = Inverter.from_pretrained(FOLDER)\n"
            "inverter.invert(vectors)\n```",
            "## How it was made",
            "\n".join(f"- {key}: {value}" for key, value in made.items()) or "- not trained",
            "## Measured on held-out sentences",
            "\n".join(f"- {key}: {value}" for key, value in summary.get("test", {}).items()) or "- nothing yet",
            "## Limits",
            "It writes the sentence that its GPT finds likeliest for a vector: fluent text is no proof that it is the "
            "right one. Vectors of another encoder, or of longer or quite different texts, give wrong text. Do not use "
            "it to reveal what people wrote without their consent.",
            *([about.strip()] if about.strip() else []),
        ]
        (folder / "README.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    """The values of inverter.json, none of those missing that every version has."""
    try:
        values: dict[str, Any] = json.loads((folder / "inverter.json").read_text(encoding="utf-8"))
        version = int(values["format_version"])
    except FileNotFoundError:
        raise ValueError(f"{folder} is no inverter: it has no inverter.json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/inverter.json is broken: {error}; save the inverter again") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {version}, but this vec2text reads up to {FORMAT_VERSION}: upgrade vec2text"
        )
    missing = {"projection", "fingerprint", "max_tokens", "training"} - set(values)
    if missing:
        raise ValueError(f"{folder}/inverter.json is broken: it lacks {', '.join(sorted(missing))}")
    return values
