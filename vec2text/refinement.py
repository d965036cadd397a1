"""Refinement: propose texts, re-embed them, keep the closest, go on from there; each vector stops by itself.

Knows nothing of files or of how an inverter is trained.

Proposals are of three kinds. A correction is what the GPT finds likeliest when it reads a kept hypothesis and how its
vector differs from the target (where the inverter has learned that). A branch is a text up to some token, then the
likeliest token that was not taken there, then whatever the GPT finds likeliest, reading what it read when it wrote that
text. An edit is the closest text with words moved, left out, put in or exchanged, and all else as it was.

Each round compares the corrections of the kept hypotheses that are new. From what is closest by then it goes on with
branches of the kept hypotheses and of plain inversion, of several times as many as are asked for the likeliest, and at
last with edits of the closest text, again and again while they bring it closer. After a round that brought nothing a
search gets no edits, and beside a correction and branches of plain inversion one other, until that brings it closer. So
do searches of poor prospects: a calibrated inverter knows how often one that came so close went on to find the text.
The more candidates are asked for, the poorer they may be.

Polish ends the last round: many edits, the likeliest first, and then edits of what came closer by them. What is found
in this way need not be a sentence. So where the vector is not met the text that is given is the likeliest, weighed
against how close it is, of those that are at least as close as what polish began with.

Shapes: N vectors, D vector dimension, P prefix tokens, H GPT hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from vec2text.constraints import Constraints
from vec2text.decoders import in_bf16
from vec2text.encoders import Encoder, EncoderError, encode_checked
from vec2text.hardware import bf16
from vec2text.inverter import Inverter
from vec2text.paths import Path
from vec2text.reconstruction import Hypothesis, Reconstruction, RefinementStopped
from vec2text.rules import Rules
from vec2text.search import Proposal, Search
from vec2text.sentences import case_variants, space_variants
from vec2text.vectors import unit
from vec2text.writing import Writer

_PROMISING = 0.24  # prospects times candidates from which on a search gets its whole share of the effort
_STEPS = 3  # of edits in a round, while they bring the text closer
_POLISHES = 8  # steps of edits in the last round, also where some brought nothing
_POLISHED = 16  # edits of a text that are compared in each of these, for one candidate
_ENCODED = 4096  # texts that are encoded at a time; what an encoder that fails then has given is kept
_CONSIDERED = 40  # texts, the closest and what polish began with, among which the likeliest is chosen
_CLOSENESS = 20.0  # nats that a text may be less likely which lies e times as close (1 - cosine)


def refine(
    inverter: Inverter,
    encoder: Encoder,
    vectors: np.ndarray | torch.Tensor | Sequence[Any],
    *,
    rounds: int = 5,
    candidates: int = 4,
    beams: int = 3,
    max_tokens: int | None = None,
    batch_size: int = 256,
    constraints: Constraints | None = None,
    early_stop: bool = True,
    polish: bool = True,
    show: Callable[[float], None] | None = None,
) -> list[Reconstruction]:
    """Turn vectors back into text, and search on from there with the encoder as the judge.

    The similarity never falls from round to round. A vector whose text is exact takes no more queries; a text is
    encoded once in a batch of vectors, however often it is proposed. Where the hardware multiplies bf16 fast, proposals
    are written in it: of two that are equally likely to its precision, what else is in the batch may decide.

    Args:
        inverter: proposes.
        encoder: the one that made the vectors, as `inverter.fingerprint.open_encoder()` makes sure; only its dimension
            is checked here.
        vectors: (N, D), or one vector (D,).
        rounds: of proposals, after plain inversion; 0: none.
        candidates: branches that are compared a round: for each kept hypothesis that is read, beside its correction,
            and for plain inversion; or for all together where the inverter has not learned to correct. From the
            second round on also twice as many edits of the closest text, up to three times if they bring it closer.
            0: nothing is refined.
        beams: hypotheses, the closest so far, that proposals start from.
        max_tokens: longest text; None: the longest that the inverter was trained on.
        batch_size: vectors that are worked on at a time.
        constraints: what every text must be like. Where words must be contained, the first text of a vector is the
            closest of up to `candidates` + 1 that contain them.
        early_stop: False: all rounds are spent also on vectors whose text is exact, on more hypotheses beside it.
        polish: whether the last of several rounds goes on with up to 8 times 16 edits a candidate, where prospects are
            not poor; it takes more queries than all that was before. What is given is then
            at least as close as before, but need not be the closest.
        show: is told after each round what share of all the work is done, 0 to 1.

    Raises:
        RefinementStopped: the encoder failed half-way; it holds what was found before.
        ValueError: rounds or candidates below 0, beams or batch_size below 1, vectors that `Inverter.invert` refuses,
            or constraints that cannot be obeyed.
    """
    limit = inverter.max_tokens if max_tokens is None else max_tokens
    for name, value, least in (
        ("rounds", rounds, 0),
        ("candidates", candidates, 0),
        ("beams", beams, 1),
        ("max_tokens", limit, 1),
        ("batch_size", batch_size, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; expected at least {least}")
    inverter.check_length(limit, limit if inverter.correction is not None and rounds else None)
    rules = inverter.rules(constraints, limit)
    rows = inverter.rows(vectors)
    was_training = inverter.training
    inverter.eval()
    found: list[Reconstruction] = []

    @cache  # made when it is first needed, and once
    def writer() -> Any:
        decoder = inverter.decoder
        fast = decoder.dtype != torch.bfloat16 and bf16("auto", decoder.device.type)
        return in_bf16(decoder) if fast else decoder

    def tell(start: int, size: int, share: float) -> None:
        if show is not None:
            show((start + size * share) / len(rows))

    try:
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            searches = [
                Search(place, target, beams, inverter.correction is not None, early_stop)
                for place, target in enumerate(unit(part.numpy()))
            ]
            batch = _Batch(inverter, encoder, part, searches, limit, rules, writer)
            try:
                batch.refine(rounds, candidates, polish, partial(tell, start, len(part)))
            except (EncoderError, MemoryError) as error:
                so_far = batch.results()
                rest: list[None] = [None] * (len(rows) - start - len(so_far))
                finished = start + sum(bool(search.seen) and search.found for search in batch.searches)
                raise RefinementStopped([*found, *so_far, *rest], finished, error) from error
            found += [result for result in batch.results() if result is not None]
            tell(start, len(part), 1.0)
    finally:
        inverter.train(was_training)
    return found


class _Batch:
    """The searches for some vectors, which share their encoder calls."""

    def __init__(
        self,
        inverter: Inverter,
        encoder: Encoder,
        rows: torch.Tensor,
        searches: list[Search],
        max_tokens: int,
        rules: Rules | None,
        decoder: Callable[[], Any],
    ) -> None:
        self.inverter, self.encoder, self.rows, self.rules = inverter, encoder, rows, rules
        self.searches = searches
        self.memo: dict[str, np.ndarray] = {}  # vectors of length 1
        self.writer = Writer(inverter, rows, searches, self.memo, max_tokens, rules, decoder)

    def refine(self, rounds: int, candidates: int, polish: bool, tell: Callable[[float], None]) -> None:
        """Search for as many rounds, each vector until it is done; `tell` is told the share that is.

        Raises:
            EncoderError: the encoder failed.
        """
        # Plain inversion, to the last bit.
        self._propose(self.writer.beginnings(candidates), decoder=self.inverter.decoder)
        self._note()
        for step in range(1, rounds + 1 if candidates else 1):
            searches = [search for search in self.searches if not search.done]
            if not searches:
                break
            missed = [search for search in searches if not search.found]
            if step > 1:
                self._weigh(searches, candidates)
            # Corrections first: the rest of the round goes on from what is closest then.
            corrections = [proposal for search in searches for proposal in search.corrections()]
            self._propose(corrections)
            searches = [search for search in searches if not search.done]
            branches = [proposal for search in searches for proposal in search.branches(candidates)]
            self._propose(branches, candidates)
            self._settle([search for search in missed if search.found])
            edits = self._climb([one for one in searches if one.promising and step > 1], candidates, _STEPS)
            proposals = [*corrections, *branches, *edits]
            if polish and 1 < step == rounds:
                far = 1 - sum(not search.done for search in self.searches) / len(self.searches) / rounds

                def further(share: float, far: float = far) -> None:
                    tell(far + (1 - far) * share)

                proposals += self._polish([search for search in searches if search.hopeful], candidates, further)
            for place in {proposal.place for proposal in proposals}:
                self.searches[place].rounds = step
            self._note()
            left = sum(not search.done for search in self.searches) / len(self.searches)
            tell(1 - left * (1 - step / rounds))

    def _climb(
        self,
        searches: Sequence[Search],
        candidates: int,
        steps: int,
        patience: int = 0,
        tell: Callable[[float], None] = lambda _: None,
    ) -> list[Proposal]:
        """Edit the closest texts, and what comes closer by it again; returns what was proposed.

        Args:
            searches: whose texts are edited.
            candidates: as asked for; a text gets so many times as many edits at a time as `Search.edits` says.
            steps: at most.
            patience: 0: a text that no edit came closer than is left at that; else the number of edits at a time for
                a candidate, and such a text gets the next as many, until there are none.
            tell: is told after each step what share of them is done.
        """
        proposed: list[Proposal] = []
        for step in range(1, steps + 1):
            searches = [search for search in searches if not search.done]
            missed = [search for search in searches if not search.found]
            self.writer.edit([search for search in searches if search.best not in search.edited])
            before = [search.best for search in searches]
            edits = [search.edits(candidates, patience) for search in searches]
            new = [proposal for some in edits for proposal in some]
            self._propose(new, branched=not patience)
            self._settle([search for search in missed if search.found])
            proposed += new
            searches = [
                search
                for search, text, some in zip(searches, before, edits, strict=True)
                if search.best != text or (patience and some)
            ]
            tell(step / steps)
        return proposed

    def _polish(self, searches: Sequence[Search], candidates: int, tell: Callable[[float], None]) -> list[Proposal]:
        """Edit the closest texts as long as it helps, and choose what is given where the vector is not met."""
        searches = [search for search in searches if not search.done]
        before = [search.best for search in searches]
        proposed = self._climb(searches, candidates, _POLISHES, _POLISHED, tell)
        left = [(search, begun) for search, begun in zip(searches, before, strict=True) if not search.found]
        texts = [(search, text) for search, begun in left for text in search.closest(_CONSIDERED, begun)]
        if texts:
            rows = self.rows[[search.place for search, _ in texts]]
            likelihoods = self.inverter.log_probabilities(rows, [text for _, text in texts])
            closeness = -np.log(1 - np.array([search.seen[text] for search, text in texts]))
            best: dict[int, float] = {}
            for (search, text), score in zip(texts, likelihoods + _CLOSENESS * closeness, strict=True):
                if score > best.get(search.place, -np.inf):
                    best[search.place], search.chosen = score, text
        return proposed

    def _note(self) -> None:
        """Put down where all searches are."""
        assert all(search.seen for search in self.searches), "a vector has no text"
        for search in self.searches:
            search.history.append((search.text, len(search.seen)))

    def _weigh(self, searches: Sequence[Search], candidates: int) -> None:
        """Tell which searches are worth their effort, where calibrated."""
        calibration = self.inverter.calibration
        if calibration is not None and searches:
            nearest = np.array([search.seen[search.best] for search in searches])
            for search, prospect in zip(searches, calibration.prospects(nearest), strict=True):
                search.hopeful = bool(prospect * candidates >= _PROMISING)

    def results(self) -> list[Reconstruction | None]:
        """The best so far and the confidence in it; None for a vector for which no text has been compared yet."""
        found: list[Reconstruction | None] = [_result(search) if search.seen else None for search in self.searches]
        known = {place: result for place, result in enumerate(found) if result is not None}
        if known:
            texts = [result.text for result in known.values()]
            similarities = np.array([result.similarity for result in known.values()])
            confidences = self.inverter.confidences(self.rows[list(known)], texts, similarities)
            if confidences is None:  # the inverter has not been calibrated
                return found
            for (place, result), sure in zip(known.items(), confidences, strict=True):
                found[place] = replace(result, confidence=float(sure))
        return found

    def _propose(
        self, proposals: Sequence[Proposal], count: int | None = None, decoder: Any = None, branched: bool = True
    ) -> None:
        """Write the proposals, encode the likeliest, together, and note how close they came.

        Args:
            proposals: what is written.
            count: candidates, of which each vector and hypothesis that is read gets its share; None: all are encoded.
            decoder: the one that writes them; None: the one in bf16, which is fine enough.
            branched: whether later rounds may branch from them.
        """
        fresh: dict[tuple[int, str | None], dict[str, tuple[Proposal, Path]]] = {}
        for proposal, path, text in self.writer.write(proposals, decoder, branched):
            search = self.searches[proposal.place]
            if proposal.source is not None and not proposal.begin:
                search.corrected[proposal.source] = path
            if text in search.seen:
                if proposal.source is None:
                    search.plain.append(path)
            elif self.rules is None or self.rules.constraints.obeyed_by(text):
                group = fresh.setdefault(proposal.reading, {})
                group.setdefault(text, (proposal, path))
        chosen: dict[tuple[int, str], tuple[Proposal, Path]] = {}
        for (place, source), found in fresh.items():
            ranked = sorted(found.items(), key=lambda item: -item[1][1].log_probabilities.sum())
            limit = len(ranked) if count is None else self.searches[place].share(count, source)
            chosen |= {(place, text): written for text, written in ranked[:limit]}
            self.searches[place].plain += [path for _, (_, path) in ranked[:limit] if source is None]
            # The others may be proposed again.
            self.searches[place].tried -= {proposal for _, (proposal, _) in ranked[limit:]}
        self._compare(list(chosen))
        for (place, text), written in chosen.items():
            self.searches[place].written[text] = written

    def _compare(self, texts: Sequence[tuple[int, str]]) -> None:
        """Encode texts for the searches at some places, and note how close they came."""
        # The same text may be proposed for several vectors: it is encoded once.
        unknown = list(dict.fromkeys(text for _, text in texts if text not in self.memo))
        try:
            for start in range(0, len(unknown), _ENCODED):
                part = unknown[start : start + _ENCODED]
                vectors = encode_checked(self.encoder, part, self.rows.shape[1])  # (n, D)
                self.memo.update(zip(part, unit(vectors), strict=True))
        finally:  # what the encoder gave before it failed counts
            for place, text in texts:
                if text in self.memo:
                    search = self.searches[place]
                    # Rounded: of texts that the encoder cannot tell apart the first stays, whatever was beside them.
                    search.seen[text] = round(float(self.memo[text] @ search.target), 6)

    def _settle(self, searches: Sequence[Search]) -> None:
        """Of what was found keep the likeliest case, then spaces, of which many encoders read none."""
        for ways in (case_variants, space_variants) if searches else ():
            self._settle_among(searches, [ways(search.best) for search in searches])

    def _settle_among(self, searches: Sequence[Search], variants: list[list[str]]) -> None:
        """Let the likeliest variants be the best, where the encoder cannot tell them from what is."""
        if self.rules is not None:
            obeyed_by = self.rules.constraints.obeyed_by
            variants = [[text for text in some if obeyed_by(text)] for some in variants]
        owners = [search.place for search, some in zip(searches, variants, strict=True) for _ in some]
        scores = self.inverter.log_probabilities(self.rows[owners], [text for some in variants for text in some])
        parts = np.split(scores, np.cumsum([len(some) for some in variants])[:-1])
        likeliest = [some[int(own.argmax())] for some, own in zip(variants, parts, strict=True)]
        pairs = list(zip(searches, likeliest, strict=True))
        self._compare([(search.place, text) for search, text in pairs if text not in search.seen])
        for search, text in pairs:
            search.prefer(text)
            if text not in search.written:  # where nothing stops early it is gone on from
                search.written[text] = self.writer.as_written(search.place, text)


def _result(search: Search) -> Reconstruction:
    # What is given, then the others; sorting is stable: of equally close ones the first stays.
    ranked = sorted(search.seen.items(), key=lambda item: (item[0] != search.text, -item[1]))
    hypotheses = tuple(Hypothesis(text, similarity) for text, similarity in ranked)
    best = hypotheses[0]
    now = (best.text, len(search.seen))  # a round in which the encoder failed may have come so far
    history = tuple(search.history) if search.history[-1:] == [now] else (*search.history, now)
    return Reconstruction(best.text, best.similarity, None, hypotheses, len(search.seen), search.rounds, history)
