"""Sentences: the form in which they are encoded and learned, and when two of them are the same.

Knows nothing of files, vectors or models.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np


def normalise(text: str) -> str:
    """NFC, with every run of white space made one space: the form in which a sentence is encoded and learned."""
    text = text.encode("utf-8", "replace").decode()  # lone surrogates, which JSON can hold, have no bytes
    return " ".join(unicodedata.normalize("NFC", text).split())


class _LettersAndDigits(dict[int, str | None]):
    """A table for str.translate that drops all but letters, digits and combining marks, filled as it is asked."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        self[code] = character if unicodedata.category(character)[0] in "LNM" else None
        return self[code]


_LETTERS_AND_DIGITS = _LettersAndDigits()


def letters(text: str) -> str:
    """What is left of a text without case, punctuation and spaces; a text of nothing else stays as it is."""
    folded = unicodedata.normalize("NFC", text.casefold())
    return folded.translate(_LETTERS_AND_DIGITS) or folded


def sentence_key(text: str) -> int:
    """A 64-bit hash under which sentences are the same that differ only in case, punctuation or spaces."""
    return int.from_bytes(hashlib.blake2b(letters(text).encode(), digest_size=8).digest(), "big")


def occurring(texts: Sequence[str], known: Iterable[str]) -> np.ndarray:
    """Which of N texts occur among `known`, whatever their case, punctuation and spaces: (N,) bool.

    Only the texts' own keys are held, so that `known` may be any number of sentences.
    """
    keys = {sentence_key(text) for text in texts}
    found = {key for key in map(sentence_key, known) if key in keys}
    return np.array([sentence_key(text) in found for text in texts], bool)


def space_variants(text: str) -> list[str]:
    """The text, then with one space less beside a punctuation mark, or one more after a mark between two letters.

    Distinct; many encoders give all of them one vector.
    """
    less = (found.span() for found in re.finditer(r"(?<=[^\w\s]) | (?=[^\w\s])", text))
    more = (found.end() for found in re.finditer(r"(?<=\w)[^\w\s](?=\w)", text))
    changed = [text[:start] + text[end:] for start, end in less] + [f"{text[:end]} {text[end:]}" for end in more]
    return list(dict.fromkeys([text, *changed]))


def case_variants(text: str) -> list[str]:
    """The text, then all of it in lower case, its first letter in the other case, and each capitalised word in lower.

    Distinct; many encoders give all of them one vector.
    """
    words = [found for found in re.finditer(r"\w+", text) if found[0][0].isupper()]
    lowered = [text[: found.start()] + found[0].lower() + text[found.end() :] for found in words]
    return list(dict.fromkeys([text, text.lower(), text[:1].swapcase() + text[1:], *lowered]))
