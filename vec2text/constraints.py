"""Constraints: how a text must begin, which words it must contain, how many it may have.

Knows nothing of tokens: how a model comes to obey is in `rules`.

All is said of the text that the user sees: in NFC, with single spaces and without special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vec2text.sentences import normalise


@dataclass(frozen=True)
class Constraints:
    """What every text must be like.

    Raises:
        ValueError: values that nothing can obey, or that contradict each other.
    """

    starts_with: str | None = None
    """It begins with this, case and all; a space at the end: and a new word follows."""
    must_contain: Sequence[str] = ()
    """Each of these occurs as a whole word, or whole words, whatever its case."""
    max_words: int | None = None
    """Most words, which white space divides."""

    def __post_init__(self) -> None:
        if isinstance(self.must_contain, str):
            raise ValueError(f"must_contain is the text {self.must_contain!r}; expected a list of words")
        if self.starts_with is not None and not self.opening:
            raise ValueError("starts_with is empty; expected the text's beginning")
        if not all(self.words):
            raise ValueError("must_contain has an empty word; expected letters")
        if self.max_words is not None:
            self._check_words(self.max_words)

    def _check_words(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"max_words is {limit}; expected at least 1")
        asked = f"starts_with {self.opening!r}" if self.opening else ""
        for word in ["", *self.words]:
            asked += f"{' and ' if asked and word else ''}{f'must_contain {word!r}' if word else ''}"
            needed = len(self.line_up(upto=word or None).split())
            needed += word == "" and self.opening.endswith(" ")
            if needed > limit:
                raise ValueError(f"{asked} and max_words {limit} contradict: that takes {needed} words")

    def __bool__(self) -> bool:
        return bool(self.opening or self.words or self.max_words)

    @property
    def opening(self) -> str:
        """What the text begins with, as it will be written."""
        text = self.starts_with or ""
        return normalise(text) + (" " if text.strip() and text[-1].isspace() else "")

    @property
    def words(self) -> list[str]:
        """What must occur, as it will be written, the longest first: it may hold a shorter one."""
        return sorted(dict.fromkeys(map(normalise, self.must_contain)), key=len, reverse=True)

    def missing(self, text: str) -> list[str]:
        """Those words that do not occur in a text."""
        return [word for word in self.words if not _occurs(word, text)]

    def obeyed_by(self, text: str) -> bool:
        """Whether a text is as asked."""
        short = self.max_words is None or len(text.split()) <= self.max_words
        return short and text.startswith(self.opening) and not self.missing(text)

    def line_up(self, upto: str | None = None) -> str:
        """The beginning and then the words one after another, up to one of them: bad style, but as short as can be."""
        text = self.opening.strip()
        for word in self.words[: self.words.index(upto) + 1] if upto else []:
            if _occurs(word, text):
                continue
            *before, last = text.split() or [""]
            goes_on = bool(last) and not self.opening.endswith(" ") and text == self.opening
            goes_on = goes_on and word.startswith(last)  # the beginning ended inside this word
            text = " ".join([*(before if goes_on else text.split()), word])
        return text


def _occurs(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None
