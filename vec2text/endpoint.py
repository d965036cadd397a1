"""Endpoints: vectors from a server with OpenAI's embeddings API, and what its faults ask of the user.

Knows nothing of other kinds of encoders.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from vec2text.config import EncoderConfig
from vec2text.extras import extra
from vec2text.vectors import unit


class OpenAIEncoder:
    """An OpenAI-compatible embeddings endpoint, through the official client: OpenAI's own, vLLM, TEI, Ollama, ...

    The key is read from the environment variable OPENAI_API_KEY, and nowhere else. Answers of 429 and 5xx and lost
    connections are tried again, after growing pauses or as the server asks. API:
    https://platform.openai.com/docs/api-reference/embeddings

    Args:
        config: the model's name, `base_url` of a server that is not OpenAI's, `truncate_dimension`, `batch_size`.
        device: not heeded.

    Raises:
        ValueError: no key, no such server or model.
    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        self._openai = extra("openai", "openai")
        self.config, self.name, self.tokens = config, config.name, 0
        key = os.environ.get("OPENAI_API_KEY")
        if not key and config.base_url is None:
            raise ValueError("encoder.kind=openai needs a key: set the environment variable OPENAI_API_KEY")
        self._client = self._openai.OpenAI(
            api_key=key or "none", base_url=config.base_url, max_retries=config.retries, timeout=60
        )
        self.dimension = config.truncate_dimension or 0
        self.dimension = self._ask(["a"]).shape[1]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D) float32, asked for in batches.

        Raises:
            ValueError: the server refuses, stays silent, or answers with something else than these vectors.
        """
        size = self.config.batch_size or 128
        pieces = [self._ask(list(texts[start : start + size])) for start in range(0, len(texts), size)]
        vectors = np.concatenate(pieces) if pieces else np.zeros((0, self.dimension), np.float32)
        return unit(vectors) if self.config.normalize else vectors

    def usage(self) -> str:
        """What it has cost so far."""
        return f"{self.tokens:,} tokens billed"

    def _ask(self, texts: list[str]) -> np.ndarray:
        """One request."""
        place, config = self._client.base_url, self.config
        wanted = {"dimensions": config.truncate_dimension} if config.truncate_dimension else {}
        try:
            # An empty text is refused by some servers; a space stands for it.
            inputs = [config.prompt + text or " " for text in texts]
            answer = self._client.embeddings.create(model=config.name, input=inputs, **wanted)
            rows = answer.data
            if all(row.index is not None for row in rows):
                rows = sorted(rows, key=lambda row: row.index)
            vectors = np.array([row.embedding for row in rows], np.float32)
            self.tokens += (answer.usage and answer.usage.total_tokens) or 0
        except self._openai.AuthenticationError as error:
            raise ValueError(f"{place} refuses the key (401): set OPENAI_API_KEY to one that it accepts") from error
        except self._openai.APIConnectionError as error:
            raise ValueError(
                f"{place} cannot be reached ({error}): check encoder.base_url, and that the server runs"
            ) from error
        except self._openai.APIStatusError as error:
            reason = " ".join(str(error.message).split())[:200]
            advice = {
                400: "; a smaller encoder.batch_size may help",
                404: "; check encoder.name and encoder.base_url",
                413: "; a smaller encoder.batch_size may help",
            }.get(error.status_code, "")
            raise ValueError(
                f"{place} answers {error.status_code} for model {config.name!r}, {len(texts)} texts: {reason}{advice}"
            ) from error
        except Exception as error:  # what the client makes of an answer that is none
            raise ValueError(
                f"{place} gives a broken answer ({error!r:.150}): is it an embeddings endpoint?"
            ) from error
        if len(vectors) != len(texts) or vectors.ndim != 2 or (self.dimension and vectors.shape[1] != self.dimension):
            raise ValueError(
                f"{place} gave vectors of shape {vectors.shape} for {len(texts)} texts; "
                f"expected ({len(texts)}, {self.dimension or 'D'})"
            )
        if not np.isfinite(vectors).all():
            raise ValueError(f"{place} gave NaN or infinity in a vector; expected finite numbers")
        return vectors
