"""Pieces: the bytes that each token of a tokenizer writes, what they add to a text, and how it splits one.

Knows nothing of models, or of what a text is to say.

Shapes: V tokens of the model, of which some may not be the tokenizer's.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

EFFECTS_KEPT = 128
"""States of a text whose effects are kept, the last used: of each one 4 bytes a token."""

_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
_REST = [byte for byte in range(256) if byte not in _PRINTED]
_BYTES = {chr(code): byte for code, byte in [*zip(_PRINTED, _PRINTED, strict=True), *enumerate(_REST, 256)]}
"""Characters by which byte-level BPE (GPT-2's, Radford et al., 2019) names the bytes."""

_CLOSING = r"[.!?…。！？][.!?…\"'”’»)\]}]*"


def read(data: bytes) -> tuple[str, bytes] | None:
    """The whole characters of UTF-8, and the bytes of a last one that is not whole yet; None: it is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text, tail = decoder.decode(data), decoder.getstate()[0]
    except UnicodeDecodeError:
        return None
    # The decoder waits for the third byte of a surrogate, which is no character.
    return None if tail[:1] == b"\xed" and tail[1:2] >= b"\xa0" else (text, tail)


def missing(tail: bytes) -> int:
    """How many bytes the character that begins with `tail` still lacks."""
    return 0 if not tail else (2 if tail[0] < 0xE0 else 3 if tail[0] < 0xF0 else 4) - len(tail)


def is_whole(data: bytes) -> bool:
    """Whether bytes are UTF-8 with nothing missing."""
    known = read(data)
    return known is not None and not known[1]


class Pieces:
    """What each token writes, and what a text becomes by it.

    Args:
        tokenizer: byte-level BPE (GPT-2, Qwen, ...) or of SentencePiece's kind (Llama, ...).
        size: V.

    Raises:
        ValueError: a tokenizer of another kind.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        special = {*tokenizer.all_special_ids, *(index for index, token in added.items() if token.special)}
        vocabulary = {index: token for token, index in tokenizer.get_vocab().items() if index < size}
        in_bytes = all(set(token) <= _BYTES.keys() for index, token in vocabulary.items() if index not in added)
        write = _byte_level if in_bytes else _sentence_piece
        self.written = [b""] * size
        """The bytes of each token; none of those that do not show in a text."""
        for index, token in vocabulary.items():
            if index not in special:
                self.written[index] = write(token)
        whole = [index for index, data in enumerate(self.written) if data and is_whole(data)]
        shown = tokenizer.decode(whole, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if shown.split() != self.join(whole).decode().split():
            raise ValueError(
                f"texts of this inverter cannot be constrained: its tokenizer ({type(tokenizer).__name__}) is neither "
                "byte-level BPE nor of SentencePiece's kind"
            )
        self._effects = lru_cache(EFFECTS_KEPT)(partial(Effect, self.written))

    def join(self, ids: Any) -> bytes:
        """What token ids write, one after another."""
        return b"".join(self.written[index] for index in ids)

    def shown(self, ids: Sequence[int]) -> str:
        """The text of token ids, with single spaces."""
        return " ".join(self.join(ids).decode("utf-8", "replace").split())

    def all_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """How the tokenizer splits texts."""
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return found

    def ids(self, text: str) -> list[int]:
        """How it splits one."""
        return self.all_ids([text])[0]

    def starting(self, data: bytes) -> list[int]:
        """The tokens that begin with `data`."""
        return [index for index, written in enumerate(self.written) if written and written.startswith(data)]

    def effect(self, tail: bytes, inside: bool) -> Effect:
        """What each token does to a text that ends in the unfinished character `tail`, and before it inside a word."""
        return self._effects(tail, inside)

    @cached_property
    def most_words(self) -> int:
        """How many words one token can begin."""
        return max(len(data.decode("utf-8", "replace").split()) for data in self.written)

    @cached_property
    def closing(self) -> np.ndarray:
        """(V,) whether a token is nothing but the punctuation that ends a sentence."""
        return np.array([is_whole(data) and bool(re.fullmatch(_CLOSING, data.decode())) for data in self.written])

    @cached_property
    def parts(self) -> np.ndarray:
        """(V,) whether a token ends any word before it: it begins with neither letter nor digit."""
        texts = [(read(data) or ("", b""))[0] for data in self.written]
        return np.array([bool(text) and not re.match(r"\w", text) for text in texts])


class Effect:
    """What each token does to a text in one state.

    Attributes:
        lacks: (V,) bytes that the last character lacks after it; -1 where the token does not fit.
        words: (V,) words that it begins, an unfinished character counting as a letter.
        spaced: (V,) whether the text then ends in white space.
    """

    def __init__(self, written: Sequence[bytes], tail: bytes, inside: bool) -> None:
        size = len(written)
        self.lacks, self.words = np.full(size, -1, np.int8), np.zeros(size, np.int16)
        self.spaced = np.zeros(size, bool)
        for index, data in enumerate(written):
            after = read(tail + data) if data else None
            if after is not None:
                text = after[0] + ("x" if after[1] else "")
                self.lacks[index] = missing(after[1])
                self.words[index] = len((("x" if inside else "") + text).split()) - inside
                self.spaced[index] = text[-1].isspace()


def _byte_level(token: str) -> bytes:
    known = [_BYTES.get(letter) for letter in token]
    return token.encode() if None in known else bytes(byte for byte in known if byte is not None)


def _sentence_piece(token: str) -> bytes:
    byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
    return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()
