"""Edits: the texts that a text becomes when its words change places, or one of them goes.

Knows nothing of models, or of which edits are worth making.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LONGEST = 3  # words of the shorter one of two runs that change places
_MOVES = 256  # of runs, the nearest to each other; a long sentence has thousands


def edits(text: str) -> Iterator[str]:
    """Each text once: without one of the words, then with two neighbouring runs of words in each other's place.

    Of a long text only near words change places. Punctuation at the end stays there. Where another word comes first it
    gets the capital letter that the first one had, and the former first word is given both with and without it: `Only
    hand wash?` becomes `Hand wash only?` and `Hand wash Only?`.
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
    runs = [
        (start, middle, stop)
        for span in range(2, count + 1)
        for start in range(count - span + 1)
        for middle, stop in ((middle, start + span) for middle in range(start + 1, start + span))
        if min(middle - start, stop - middle) <= _LONGEST
    ]
    for start, middle, stop in sorted(runs[:_MOVES]):
        yield [*places[:start], *places[middle:stop], *places[start:middle], *places[stop:]]
