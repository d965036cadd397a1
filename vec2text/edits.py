"""Edits: the texts that a text becomes when its words change places, or one of them goes.

Knows nothing of models, or of which edits are worth making.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

_LONGEST = 3  # words of the shorter one of two neighbouring runs that change places, or of each of two that are apart
_MOVES = 1024  # of runs, the nearest to each other; a long sentence has thousands


def edits(text: str) -> Iterator[str]:
    """Each text once: without one of the words, then with two runs of words in each other's place.

    The runs are neighbours, or words stand between them, which stay; of a long text only near words change places.
    Punctuation at the end stays there. Where another word comes first it gets the capital letter that the first one
    had, and the former first word is given both with and without it: `Only hand wash?` becomes `Hand wash only?` and
    `Hand wash Only?`.
    """
    body, end = re.fullmatch(r"(.*?)(\W*)", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    words = body.split()
    count, known = len(words), {text.strip()}
    for order in _orders(count):
        for capital in (False, True) if order[0] and 0 in order else (False,):
            chosen = [words[place] for place in order]
            if order[0] and words[0][:1].isupper():
                chosen[0] = chosen[0][:1].upper() + chosen[0][1:]
                if 0 in order and not capital:
                    first = order.index(0)
                    chosen[first] = chosen[first][:1].lower() + chosen[first][1:]
            edited = " ".join(chosen) + end
            if edited not in known:
                known.add(edited)
                yield edited


def _orders(count: int) -> Iterator[list[int]]:
    """The places of `count` words, edited: never none of them."""
    places = list(range(count))
    if count > 1:
        yield from ([*places[:gone], *places[gone + 1 :]] for gone in places)
    nearest = islice(_exchanges(count), _MOVES)
    for start, end, begin, stop in sorted(nearest):
        yield [*places[:start], *places[begin:stop], *places[end:begin], *places[start:end], *places[stop:]]


def _exchanges(count: int) -> Iterator[tuple[int, int, int, int]]:
    """Where two runs among `count` words start and end, the nearest to each other first."""
    for span in range(2, count + 1):
        for start, stop in ((start, start + span) for start in range(count - span + 1)):
            for end in range(start + 1, stop):
                if min(end - start, stop - end) <= _LONGEST:
                    yield start, end, end, stop
                if end - start <= _LONGEST:
                    yield from ((start, end, begin, stop) for begin in range(max(end + 1, stop - _LONGEST), stop))
