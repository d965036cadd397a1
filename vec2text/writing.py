"""Writing: what the GPT makes of proposals, and the edits of what is closest.

Knows nothing of encoders, or of which texts are worth comparing.

Shapes: B vectors of a batch, D vector dimension, R readings, P prefix tokens, T tokens, H GPT hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vec2text.correction import Hypotheses
from vec2text.edits import edits
from vec2text.inverter import Inverter
from vec2text.paths import Path, explore, read
from vec2text.rules import Rules
from vec2text.search import Proposal, Reading, Search

_EDITED = 64  # hypotheses that are edited at a time, each of which may have a thousand edits
_READ = 128  # edits of a hypothesis, the likeliest where they are made, that are read to their end


class Writer:
    """Writes for the searches of a batch.

    Args:
        inverter: what writes.
        rows: the vectors, (B, D).
        searches: one for each of them.
        known: the vectors, of length 1, of all texts that have been compared.
        max_tokens: longest text.
        rules: what every text must be like.
        decoder: gives the decoder that writes all but plain inversion.
    """

    def __init__(
        self,
        inverter: Inverter,
        rows: torch.Tensor,
        searches: Sequence[Search],
        known: Mapping[str, np.ndarray],
        max_tokens: int,
        rules: Rules | None,
        decoder: Callable[[], Any],
    ) -> None:
        self.inverter, self.rows, self.searches, self.known = inverter, rows, searches, known
        self.max_tokens, self.rules, self.decoder = max_tokens, rules, decoder

    def beginnings(self, candidates: int) -> list[Proposal]:
        """The first proposals: plain inversion, or where words must be contained several texts that do."""
        if self.rules is None:
            return [Proposal(search.place, None) for search in self.searches]
        prefixes = self.inverter.prefixes(self.rows)  # (B, P, H)
        begun = self.rules.beginnings(self.inverter.decoder, prefixes, 1 + candidates)
        return [Proposal(place, None, begin) for place, some in enumerate(begun) for begin in some]

    def write(
        self, proposals: Sequence[Proposal], decoder: Any = None, branched: bool = True
    ) -> Iterator[tuple[Proposal, Path, str]]:
        """Proposals, in some order, and what is written of each.

        Args:
            proposals: what is written.
            decoder: what writes; None: the one that writes mostly.
            branched: whether what is written is to tell where to branch.
        """
        whole = [one for one in proposals if one.whole]
        if whole and not (branched and self.inverter.correction is None):
            for one, text in zip(whole, self.inverter.texts([list(one.begin) for one in whole]), strict=True):
                yield one, Path.unread(one.begin), text  # if anything, its own correction tells where to branch
            proposals = [one for one in proposals if not one.whole]
        for part in _parts(proposals):
            decoder = decoder or self.decoder()
            readings = {reading: row for row, reading in enumerate(dict.fromkeys(one.reading for one in part))}
            prefixes, mask = self._read(list(readings))
            paths = explore(
                decoder,
                prefixes.to(decoder.dtype),
                self.inverter.end_id,
                self.max_tokens,
                mask=mask,
                after=[readings[proposal.reading] for proposal in part],
                begin=[proposal.begin for proposal in part],
                allowed=self.rules,
            )
            yield from zip(part, paths, self.inverter.texts([path.ids for path in paths]), strict=True)

    def as_written(self, place: int, text: str) -> tuple[Proposal, Path]:
        """A text that nobody wrote, as if it had been proposed for a search."""
        ids = self.inverter.tokenizer(text, add_special_tokens=False)["input_ids"]
        path = Path.unread([*ids, self.inverter.end_id][: self.max_tokens])
        return Proposal(place, None, tuple(path.ids), whole=True), path

    def edit(self, searches: Sequence[Search]) -> None:
        """Find the likeliest edits of the closest texts, to the GPT that reads how their vectors miss the targets.

        Beside those of `edits` these are: a token more at some place, another one, or none, and all else as it was.
        """
        end_id = self.inverter.end_id
        readings = [(search.place, search.best if search.corrects else None) for search in searches]
        for part in _parts([Proposal(*reading) for reading in readings], _EDITED):
            decoder = self.decoder()
            prefixes, mask = self._read([proposal.reading for proposal in part])
            prefixes = prefixes.to(decoder.dtype)
            texts = [self.searches[proposal.place].best for proposal in part]
            own = [
                _without(self.searches[proposal.place].written[text][1].ids, end_id)
                for proposal, text in zip(part, texts, strict=True)
            ]
            begin = [[*ids, end_id][: self.max_tokens] for ids in own]
            paths = explore(decoder, prefixes, end_id, self.max_tokens, mask=mask, begin=begin)
            found = [self._edited(path, text) for path, text in zip(paths, texts, strict=True)]
            rows = [
                (row, tokens)
                for row, (proposal, some) in enumerate(zip(part, found, strict=True))
                for edited, tokens in some.items()
                if edited not in self.searches[proposal.place].seen
            ]
            after, ids = [row for row, _ in rows], [tokens for _, tokens in rows]
            like = [path.ids for path in paths]
            likelihoods = read(decoder, prefixes, ids, after=after, like=like, most=_READ, mask=mask)
            for row, (proposal, text) in enumerate(zip(part, texts, strict=True)):
                members = np.flatnonzero(np.array(after) == row)
                best = members[np.argsort(-likelihoods[members], kind="stable")[:_READ]]
                self.searches[proposal.place].edited[text] = [
                    replace(proposal, begin=tuple(ids[place]), whole=True) for place in best
                ]

    def _edited(self, path: Path, text: str) -> dict[str, list[int]]:
        """The edits of a text, and their tokens, with the end token where there is room for it."""
        tokenizer, end_id = self.inverter.tokenizer, self.inverter.end_id
        rows = list(_changes(path, end_id))
        if moved := list(edits(text)):
            rows += tokenizer(moved, add_special_tokens=False)["input_ids"]
        rows = [row for row in rows if len(row) <= self.max_tokens]
        found = zip(self.inverter.texts(rows), rows, strict=True)
        obeys = (lambda _: True) if self.rules is None else self.rules.constraints.obeyed_by
        return {edited: [*row, end_id][: self.max_tokens] for edited, row in found if obeys(edited)}

    def _read(self, readings: Sequence[Reading]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the GPT reads before it writes: prefixes (R, P', H) and their mask. All are corrections, or none is."""
        inverter, rows = self.inverter, self.rows[[place for place, _ in readings]]
        if readings[0][1] is None:
            return inverter.prefixes(rows), None  # (R, P, H)
        sources = [(self.searches[place], str(source)) for place, source in readings]
        ids = [_without(search.written[text][1].ids, inverter.end_id) for search, text in sources]
        hypotheses = Hypotheses.of(ids, np.stack([self.known[text] for _, text in sources]))
        return inverter.correction_prefixes(rows, hypotheses)  # (R, 3P + T + 1, H)


def _parts(proposals: Sequence[Proposal], size: int = 256) -> Iterator[list[Proposal]]:
    """Proposals that are written together: their prefixes are alike."""
    for corrections in (False, True):
        kind = [proposal for proposal in proposals if (proposal.source is not None) == corrections]
        for start in range(0, len(kind), size):
            yield kind[start : start + size]


def _changes(path: Path, end_id: int) -> Iterator[list[int]]:
    """The tokens of a path, without its end, with one more, with another one, or without one."""
    ids = _without(path.ids, end_id)
    for place, tokens in enumerate(path.other_ids.tolist()):
        before, after = ids[:place], ids[place:]
        for token in tokens:
            if token != end_id:
                yield [*before, token, *after]
                if after:
                    yield [*before, token, *after[1:]]
        if after and len(ids) > 1:  # some text is left
            yield [*before, *after[1:]]


def _without(ids: list[int], end_id: int) -> list[int]:
    return ids[:-1] if ids[-1] == end_id else ids
