"""Word vectors: the mean over a sentence's words is its vector. word2vec, GloVe and fastText, read by gensim.

Knows nothing of other kinds of encoders.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vec2text.config import EncoderConfig
from vec2text.extras import extra
from vec2text.vectors import unit


class WordVectorEncoder:
    """The mean of the vectors of a sentence's words: word2vec, GloVe or fastText, from a file that gensim reads.

    A word is looked up as it stands, then in lower case; words (and punctuation) that the file lacks are left out.

    Args:
        config: `name` is the file: `.txt` or `.vec` (a word and its numbers a line, with or without a first line of
            sizes), `.bin` (word2vec's, or Facebook's fastText), `.kv` (gensim's own, which is a pickle: open only what
            you trust).
        device: not heeded.

    Raises:
        ValueError: there is no such file, or it cannot be read.
    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        self.config, self.name = config, config.name
        path = Path(config.name)
        if not path.is_file():
            raise ValueError(f"encoder.name: there is no file {path}; expected word vectors (.txt .vec .bin .kv)")
        try:
            self.words = _read_word_vectors(path)
        except Exception as error:  # gensim's readers raise whatever they stumble over
            raise ValueError(f"{path} cannot be read as word vectors: {' '.join(str(error).split())[:200]}") from error
        self.dimension = int(self.words.vector_size)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D) float32; zeros for a text of which no word is known (see `fault`)."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            if found := [vector for word in _words(text) if (vector := self._lookup(word)) is not None]:
                vectors[row] = np.mean(found, 0)
        return unit(vectors) if self.config.normalize else vectors

    def fault(self, text: str) -> str | None:
        """`unknown_words` when no word of `text` is in the file."""
        return None if any(self._lookup(word) is not None for word in _words(text)) else "unknown_words"

    def _lookup(self, word: str) -> np.ndarray | None:
        known = [form for form in (word, word.lower()) if form in self.words.key_to_index]
        form = known[0] if known else word
        # fastText also makes vectors for words that it never saw, of their parts; zeros where they have none
        if form not in self.words:
            return None
        vector: np.ndarray = self.words[form]
        return vector if vector.any() else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)?|[^\w\s]", text)


def _read_word_vectors(path: Path) -> Any:
    models = extra("gensim.models", "word-vectors")
    if path.suffix == ".kv":
        return models.KeyedVectors.load(str(path))
    if path.suffix == ".bin":
        with path.open("rb") as file:
            facebook = file.read(4) == b"\xba\x16\x4f\x2f"  # fastText's mark, little-endian
        if facebook:
            return extra("gensim.models.fasttext", "word-vectors").load_facebook_vectors(str(path))
        return models.KeyedVectors.load_word2vec_format(str(path), binary=True)
    with path.open(encoding="utf-8", errors="replace") as file:
        sizes = len(file.readline().split()) == 2
    with warnings.catch_warnings():  # gensim leaves a file without sizes open
        warnings.simplefilter("ignore", ResourceWarning)
        return models.KeyedVectors.load_word2vec_format(str(path), no_header=not sizes)
