"""Search: for the text of one vector, what has been compared so far and what is worth trying next.

Knows nothing of models: how a text was written and how close it came is noted down here by `refinement`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from vec2text.paths import Path

EXACT = 0.9999
"""Cosine from which on a text counts as found: the same text, encoded in another batch, differs by less."""

_RESOLUTION = 1e-5
"""Cosines of one text, encoded in two batches, differ by less than this."""

_EDITS = 2  # that are compared for one candidate
_WRITTEN = 2  # texts that are written for one that is compared: comparing is what counts


Reading = tuple[int, str | None]
"""The place of a search, and the hypothesis that is read and corrected; None: plain inversion."""


@dataclass(frozen=True)
class Proposal:
    """A text that is to be written."""

    place: int
    """Of the search that it is for."""
    source: str | None
    """The hypothesis that is read and corrected; None: plain inversion."""
    begin: tuple[int, ...] = ()
    """Its first tokens."""
    whole: bool = False
    """Whether the first tokens are all of them: an edit, or a text in another case."""

    @property
    def reading(self) -> Reading:
        """What the GPT reads before it writes."""
        return self.place, self.source


@dataclass
class Search:
    """The search for one vector."""

    place: int
    target: np.ndarray
    """(D,) of length 1."""
    beams: int
    corrects: bool
    early_stop: bool
    """Whether nothing more is tried once it is found."""
    seen: dict[str, float] = field(default_factory=dict)
    """Texts and their cosine to the target."""
    written: dict[str, tuple[Proposal, Path]] = field(default_factory=dict)
    """How each text was written."""
    plain: list[Path] = field(default_factory=list)
    """What plain inversion wrote, also where something else had written the same text before."""
    corrected: dict[str, Path] = field(default_factory=dict)
    """How the correction of each hypothesis was written."""
    edited: dict[str, list[Proposal]] = field(default_factory=dict)
    """The likeliest edits of each hypothesis that was edited, in that order."""
    hopeful: bool = True
    """Whether its prospects are not poor."""
    chosen: str | None = None
    """The text that is given though it need not be the closest; None: the closest."""
    tried: set[Proposal] = field(default_factory=set)
    history: list[tuple[str, int]] = field(default_factory=list)
    rounds: int = 0
    """The last one in which something was proposed."""

    @property
    def best(self) -> str:
        """The closest text; of equally close ones the first."""
        return max(self.seen, key=self.seen.__getitem__)

    @property
    def text(self) -> str:
        """What is given."""
        return self.best if self.chosen is None else self.chosen

    @property
    def found(self) -> bool:
        """Whether the best text is exact, as far as the encoder can tell."""
        return self.seen[self.best] >= EXACT

    @property
    def barren(self) -> bool:
        """Whether the last round brought nothing closer; the first one, which edits nothing, does not count."""
        return len(self.history) > 2 and self.history[-1][0] == self.history[-2][0]

    @property
    def promising(self) -> bool:
        """Whether it gets its whole share of the effort."""
        return self.hopeful and not self.barren

    @property
    def done(self) -> bool:
        """Whether nothing more is tried."""
        return self.early_stop and self.found

    def prefer(self, text: str) -> None:
        """Let a text that was compared be the best, if the encoder cannot tell it from the one that is."""
        near = self.seen[self.best]
        if self.seen[text] > near - _RESOLUTION:
            self.seen = {text: near, **{other: score for other, score in self.seen.items() if other != text}}

    @property
    def kept(self) -> list[str]:
        """The closest texts, from which the search goes on."""
        count = self.beams if self.promising else 1
        return heapq.nlargest(count, self.seen, key=self.seen.__getitem__)

    def share(self, candidates: int, source: str | None) -> int:
        """How many new texts are compared that are written when a hypothesis is read, or none (None)."""
        whole = self.promising or (self.corrects and source is None)
        return candidates if whole else min(1, candidates)

    def corrections(self) -> list[Proposal]:
        """For each kept hypothesis its correction, if that is new."""
        proposals = [Proposal(self.place, text) for text in self.kept] if self.corrects else []
        chosen = [proposal for proposal in proposals if proposal not in self.tried]
        self.tried.update(chosen)
        return chosen

    def branches(self, candidates: int) -> list[Proposal]:
        """The most promising branches: of each kept hypothesis and, where correction is read, of plain inversion too.

        Args:
            candidates: how many of each are to be compared, as `share` tells.
        """
        chosen: list[Proposal] = []
        begun: set[tuple[int, ...]] = set()  # two texts may share a branch
        for text in self.kept:
            source, path = self.reading(text)
            count = _WRITTEN * self.share(candidates, source)
            own = [one for one in self._likeliest(source, [path], 2 * count) if one.begin not in begun][:count]
            begun |= {proposal.begin for proposal in own}
            chosen += own
        if self.corrects:  # a correction that errs would lead all others astray
            chosen += self._likeliest(None, self.plain, _WRITTEN * self.share(candidates, None))
        self.tried.update(chosen)
        return chosen

    def closest(self, count: int, least: str) -> list[str]:
        """So many texts: the closest of those that are at least as close as `least`, and it."""
        near = [text for text, score in self.seen.items() if score >= self.seen[least] and text != least]
        return [*heapq.nlargest(count - 1, near, key=self.seen.__getitem__), least]

    def edits(self, candidates: int, each: int = 0) -> list[Proposal]:
        """The likeliest edits of the closest text that are new, `each` for a candidate; 0: as many as usually."""
        untried = (edit for edit in self.edited.get(self.best, ()) if edit not in self.tried)
        chosen = list(islice(untried, (each or _EDITS) * candidates))
        self.tried.update(chosen)
        return chosen

    def reading(self, text: str) -> tuple[str | None, Path]:
        """What the GPT reads, and what it would write then, where texts near `text` are looked for."""
        if text in self.corrected:  # what is known of its faults tells best where to branch
            return text, self.corrected[text]
        proposal, path = self.written[text]
        return proposal.source, path

    def _likeliest(self, source: str | None, paths: Sequence[Path], count: int) -> list[Proposal]:
        """New branches of texts written when `source` was read: so many, those whose beginnings are the likeliest."""
        found: dict[Proposal, float] = {}
        for path in paths:
            before = np.concatenate([[0.0], path.log_probabilities.cumsum()[:-1]])
            for place, (tokens, scores) in enumerate(zip(path.other_ids, path.other_log_probabilities, strict=True)):
                begin = tuple(path.ids[:place])
                for token, score in zip(tokens.tolist(), scores.tolist(), strict=True):
                    branch = Proposal(self.place, source, (*begin, token))
                    if np.isfinite(score) and branch not in self.tried:
                        found[branch] = before[place] + score
        return heapq.nlargest(count, found, key=found.__getitem__)
