"""Refinement: propose texts, re-embed them, keep the closest, go on from there; each vector stops by itself.

Knows nothing of files or of how an inverter is trained.

A proposal is a branch: the text of a kept hypothesis up to some token, then the likeliest token that was not taken
there, then whatever the GPT finds likeliest. Branches are tried in the order of their probability.

Shapes: N vectors, D vector dimension, P prefix tokens, H GPT hidden size.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vec2text.constraints import Constraints, Rules
from vec2text.decoding import Path, explore
from vec2text.encoders import Encoder, encode_checked
from vec2text.inverter import Inverter

EXACT = 0.9999
"""Cosine from which on a text counts as found: the same text, encoded in another batch, differs by less."""

_KEPT = 3  # hypotheses that proposals start from
_RANK_COST = 0.5  # nats that a proposal loses for each better hypothesis than its own


@dataclass(frozen=True)
class Hypothesis:
    """A text that was proposed, and how close it came."""

    text: str
    similarity: float
    """Cosine of its vector to the target."""


@dataclass(frozen=True)
class Reconstruction:
    """What refinement found for a vector."""

    text: str
    """The closest of all that was tried."""
    similarity: float
    """Cosine of its vector to the target, -1 to 1."""
    confidence: float | None
    """Probability that it is the exact text; None where the inverter has not been calibrated."""
    hypotheses: tuple[Hypothesis, ...]
    """All that was tried, the closest first."""
    queries: int
    """Different texts that were compared; one that several vectors share is encoded once, and counts for each."""
    rounds: int
    """Rounds until it was found, or the budget was spent."""
    history: tuple[tuple[str, int], ...]
    """The best text and the queries so far, after each round; the first is plain inversion."""


@dataclass
class _Search:
    """The search for one vector."""

    target: np.ndarray
    """(D,) of length 1."""
    seen: dict[str, float] = field(default_factory=dict)
    """Texts and their cosine to the target."""
    paths: dict[str, Path] = field(default_factory=dict)
    """How each text was written."""
    tried: set[tuple[int, ...]] = field(default_factory=set)
    """First tokens of the branches that were proposed."""
    history: list[tuple[str, int]] = field(default_factory=list)

    @property
    def best(self) -> str:
        """The closest text; of equally close ones the first."""
        return max(self.seen, key=self.seen.__getitem__)

    @property
    def found(self) -> bool:
        """Whether the best text is exact, as far as the encoder can tell."""
        return self.seen[self.best] >= EXACT

    def branches(self, count: int) -> list[tuple[int, ...]]:
        """The `count` likeliest branches of the closest texts that were not tried yet."""
        kept = heapq.nlargest(_KEPT, self.seen, key=self.seen.__getitem__)
        ranked = (branch for rank, text in enumerate(kept) for branch in self._branches_of(self.paths[text], rank))
        best = dict.fromkeys(tokens for _, tokens in heapq.nlargest(2 * count, ranked))  # two texts may share a branch
        chosen = list(best)[:count]
        self.tried.update(chosen)
        return chosen

    def _branches_of(self, path: Path, rank: int) -> Iterator[tuple[float, tuple[int, ...]]]:
        before = np.concatenate([[0.0], path.log_probabilities.cumsum()[:-1]])
        for place, (tokens, scores) in enumerate(zip(path.other_ids, path.other_log_probabilities, strict=True)):
            for token, score in zip(tokens.tolist(), scores.tolist(), strict=True):
                branch = (*path.ids[:place], token)
                if branch not in self.tried and np.isfinite(score):
                    yield before[place] + score - _RANK_COST * rank, branch


def refine(
    inverter: Inverter,
    encoder: Encoder,
    vectors: np.ndarray | torch.Tensor | Sequence[Any],
    *,
    rounds: int = 5,
    candidates: int = 4,
    max_tokens: int | None = None,
    batch_size: int = 256,
    constraints: Constraints | None = None,
) -> list[Reconstruction]:
    """Turn vectors back into text, and search on from there with the encoder as the judge.

    The similarity never falls from round to round. A vector whose text is exact takes no more queries; a text is
    encoded once, however often it is proposed.

    Args:
        inverter: proposes.
        encoder: the one that made the vectors.
        vectors: (N, D), or one vector (D,).
        rounds: of proposals, after plain inversion; 0: none.
        candidates: proposals a round for each vector.
        max_tokens: longest text; None: the longest that the inverter was trained on.
        batch_size: vectors that are worked on at a time.
        constraints: what every text must be like. Where words must be contained, the first text of a vector is the
            closest of up to `candidates` + 1 that contain them.

    Raises:
        ValueError: rounds or candidates below 0, vectors that `Inverter.invert` refuses, constraints that
            cannot be obeyed, or an encoder that fails.
    """
    limit = inverter.max_tokens if max_tokens is None else max_tokens
    for name, value, least in (("rounds", rounds, 0), ("candidates", candidates, 0), ("max_tokens", limit, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}; expected at least {least}")
    inverter.check_length(limit)
    rules = inverter.rules(constraints, limit)
    rows = inverter.rows(vectors)
    was_training = inverter.training
    inverter.eval()
    found: list[Reconstruction] = []
    for start in range(0, len(rows), batch_size):
        found += _refine_batch(inverter, encoder, rows[start : start + batch_size], rounds, candidates, limit, rules)
    inverter.train(was_training)
    return found


def _refine_batch(
    inverter: Inverter,
    encoder: Encoder,
    rows: torch.Tensor,
    rounds: int,
    candidates: int,
    max_tokens: int,
    rules: Rules | None,
) -> list[Reconstruction]:
    units = rows.numpy() / np.linalg.norm(rows.numpy(), axis=1, keepdims=True)
    searches = [_Search(unit) for unit in units]
    prefixes = inverter.prefixes(rows)  # (N, P, H)
    first: list[list[tuple[int, ...]]] = [[()]] * len(searches)
    if rules:
        first = rules.beginnings(inverter.decoder, prefixes, 1 + candidates)
    memo: dict[str, np.ndarray] = {}
    spent = [0] * len(searches)
    for step in range(rounds + 1):
        places: list[int] = []
        begin: list[Sequence[int]] = []
        for place, search in enumerate(searches):
            if step == 0:
                places += [place] * len(first[place])
                begin += first[place]
            elif candidates and not search.found:
                branches = search.branches(candidates)
                places += [place] * len(branches)
                begin += branches
                spent[place] = step if branches else spent[place]
        if not places:
            break
        _propose(inverter, encoder, searches, prefixes, places, begin, memo, max_tokens, rules)
        for search in searches:
            search.history.append((search.best, len(search.seen)))
    return [_result(search, rounds_done) for search, rounds_done in zip(searches, spent, strict=True)]


def _propose(
    inverter: Inverter,
    encoder: Encoder,
    searches: Sequence[_Search],
    prefixes: torch.Tensor,
    places: Sequence[int],
    begin: Sequence[Sequence[int]],
    memo: dict[str, np.ndarray],
    max_tokens: int,
    rules: Rules | None,
    chunk: int = 256,
) -> None:
    """Write the proposals, encode those that no vector had before, together, and note how close they came."""
    fresh: dict[tuple[int, str], Path] = {}
    for start in range(0, len(places), chunk):
        part = list(places[start : start + chunk])
        some = begin[start : start + chunk]
        paths = explore(inverter.decoder, prefixes[part], inverter.end_id, max_tokens, begin=some, allowed=rules)
        for place, path, text in zip(part, paths, inverter.texts([path.ids for path in paths]), strict=True):
            if text not in searches[place].seen and (rules is None or rules.constraints.obeyed_by(text)):
                fresh.setdefault((place, text), path)
    # The same text may be proposed for several vectors: it is encoded once.
    unknown = list(dict.fromkeys(text for _, text in fresh if text not in memo))
    if unknown:
        vectors = encode_checked(encoder, unknown, len(searches[0].target))  # (n, D)
        memo.update(zip(unknown, vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12), strict=True))
    for (place, text), path in fresh.items():
        searches[place].seen[text] = float(memo[text] @ searches[place].target)
        searches[place].paths[text] = path


def _result(search: _Search, rounds: int) -> Reconstruction:
    ranked = sorted(search.seen.items(), key=lambda item: -item[1])  # stable: of equally close ones the first stays
    hypotheses = tuple(Hypothesis(text, similarity) for text, similarity in ranked)
    best = hypotheses[0]
    history = tuple(search.history)
    return Reconstruction(best.text, best.similarity, None, hypotheses, len(search.seen), rounds, history)
