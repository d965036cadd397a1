"""Paths: texts as a decoder writes or reads them after prefixes, token by token, and what else it found likely.

Knows no tokenizer and no text.

Shapes: R prefixes, B texts, P prefix tokens, H GPT hidden size, V vocabulary, K alternatives, T text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from vec2text.loss import chunked_log_probabilities
from vec2text.trunks import Branches, Trunks, shared, without

Allowed = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Which tokens may come next, (B, V) bool, after those so far, (B, t), which have these logits, (B, V)."""

_READ_TOGETHER = 512  # texts, each of which holds the keys and values of its prefix


@dataclass(frozen=True)
class Path:
    """A text as the decoder wrote it, and what else it found likely on the way."""

    ids: list[int]
    """T tokens, the end token included where the text ended."""
    log_probabilities: np.ndarray
    """(T,) of each token, given those before it."""
    other_ids: np.ndarray
    """(T, K) the likeliest tokens that were not taken at each place."""
    other_log_probabilities: np.ndarray
    """(T, K) of those."""

    @classmethod
    def unread(cls, ids: Sequence[int]) -> Path:
        """A text of which no more than its tokens is known: each of them as if it were certain."""
        nothing = np.zeros((len(ids), 0), np.float32)
        return cls(list(ids), np.zeros(len(ids), np.float32), nothing.astype(np.int64), nothing)


@torch.inference_mode()
def explore(
    decoder: Any,
    prefixes: torch.Tensor,
    end_id: int,
    max_tokens: int,
    *,
    mask: torch.Tensor | None = None,
    after: Sequence[int] | None = None,
    begin: Sequence[Sequence[int]] | None = None,
    alternatives: int = 8,
    allowed: Allowed | None = None,
) -> list[Path]:
    """Write texts, greedily after given first tokens, and note the tokens that were not taken.

    Args:
        decoder: a causal LM in eval mode.
        prefixes: (R, P, H), each of which is read once.
        end_id: the token that ends a text.
        max_tokens: longest text.
        mask: (R, P) 1 where there is a prefix token, 0 where there is padding; None: there is none.
        after: the prefix of each of B texts; None: one text for each prefix.
        begin: the first tokens of each text; None: none.
        alternatives: K.
        allowed: says which tokens may come after the given ones; None: all. Others are no alternatives.
    """
    device = prefixes.device
    readings = list(range(len(prefixes)) if after is None else after)
    first = [tuple(tokens[:max_tokens]) for tokens in begin] if begin else [()] * len(readings)
    trunks: list[tuple[int, ...]] = [()] * len(prefixes)
    for reading, tokens in zip(readings, first, strict=True):
        trunks[reading] = max(trunks[reading], tokens[:-1], key=len)
    counts = [shared(tokens, trunks[reading]) for reading, tokens in zip(readings, first, strict=True)]
    trunk = Trunks(decoder, prefixes, trunks, mask)
    notes = _Notes(given_tokens(first, len(readings), max_tokens).to(device), end_id, alternatives, allowed)
    follows = torch.tensor(readings, device=device)  # (B,)
    leaves = torch.tensor(counts, device=device)  # (B,) after how many tokens each leaves its trunk
    alive = torch.empty(0, dtype=torch.long, device=device)  # texts that have left, and have not ended
    branches: Branches | None = None
    for step in range(max_tokens):
        if branches is not None:
            scores = branches.logits(notes.ids[alive, step - 1].unsqueeze(1)).log_softmax(-1)  # (alive, V)
            ended = notes.take(step, alive, scores, notes.ids[alive, :step])
            if bool(ended.any()):
                kept = without(ended)
                alive = alive[kept]
                branches.keep(kept)
        if step <= max(counts):
            waiting = (leaves >= step).nonzero().squeeze(-1)
            ended = notes.take(step, waiting, trunk.scores(step), trunk.ids[:, :step], follows[waiting])
            leaving = waiting[(leaves[waiting] == step) & ~ended]
            if len(leaving):
                alive = torch.cat([alive, leaving])
                others = trunk.leave(follows[leaving], step)
                branches = others if branches is None else branches.join(others)
        if not len(alive):
            branches = None
            if step >= max(counts):
                break
    return notes.paths()


class _Notes:
    """What was chosen for B texts, token by token, and what else was likely.

    Args:
        given: (B, T) the first tokens of each, then -1.
        end_id: the token that ends a text.
        alternatives: K.
        allowed: says which tokens may come next; None: all.
    """

    def __init__(self, given: torch.Tensor, end_id: int, alternatives: int, allowed: Allowed | None) -> None:
        (batch, room), width = given.shape, alternatives + 1
        self.given, self.end_id, self.allowed = given, end_id, allowed
        self.ids = torch.full_like(given, end_id)
        self.scores = torch.zeros(given.shape, device=given.device)
        self.best_ids = given.new_zeros(batch, room, width)
        self.best_scores = torch.full((batch, room, width), -torch.inf, device=given.device)
        self.lengths = given.new_full((batch,), room)

    def take(
        self, step: int, rows: torch.Tensor, scores: torch.Tensor, so_far: torch.Tensor, own: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Choose the next token of some texts, and tell which of them end: (n,).

        Args:
            step: how many tokens they have.
            rows: the texts, (n,).
            scores: (m, V) log-probabilities of what comes next.
            so_far: (m, step) the tokens that these follow.
            own: (n,) which of the m is each text's; None: they are in the same order.
        """
        open_scores = scores if self.allowed is None else only(self.allowed, scores, so_far)
        best, tokens = open_scores.topk(min(self.best_ids.shape[2], scores.shape[1]))
        if own is not None:
            best, tokens, scores = best[own], tokens[own], scores[own]
        self.best_scores[rows, step], self.best_ids[rows, step] = best, tokens
        wanted = self.given[rows, step]
        chosen = torch.where(wanted < 0, tokens[:, 0], wanted)
        self.ids[rows, step] = chosen
        self.scores[rows, step] = scores.gather(1, chosen.unsqueeze(1)).squeeze(1)
        ended = chosen == self.end_id
        self.lengths[rows[ended]] = step + 1
        return ended

    def paths(self) -> list[Path]:
        """All of it."""
        width = self.best_ids.shape[2]
        taken = self.best_ids == self.ids.unsqueeze(-1)
        # Where the text follows the likeliest tokens, the first is the one taken; given tokens may be none of the best.
        order = (taken.int() * 2 * width + torch.arange(width, device=taken.device)).argsort(-1)[..., : width - 1]
        others, other_scores = (best.gather(-1, order).cpu().numpy() for best in (self.best_ids, self.best_scores))
        rows = zip(
            self.ids.tolist(), self.lengths.tolist(), self.scores.cpu().numpy(), others, other_scores, strict=True
        )
        return [Path(row[:n], scores[:n], tokens[:n], logs[:n]) for row, n, scores, tokens, logs in rows]


@torch.inference_mode()
def read(
    decoder: Any,
    prefixes: torch.Tensor,
    texts: Sequence[Sequence[int]],
    *,
    after: Sequence[int] | None = None,
    like: Sequence[Sequence[int]] | None = None,
    most: int | None = None,
    mask: torch.Tensor | None = None,
) -> np.ndarray:
    """The log-probability of each of B texts after its prefix: (B,), in nats.

    Args:
        decoder: a causal LM in eval mode.
        prefixes: (R, P, H).
        texts: tokens of each, at least one, the end token included where it counts.
        after: the prefix of each text; None: one text for each prefix.
        like: for each prefix a text that many of its texts begin as: what they share with it is read once.
        most: of the texts of a prefix only so many are read, those whose first token that is not `like`'s is the
            likeliest, by itself where a text is longer, and else compared with the one that stands there; the others
            get minus infinity. None: all.
        mask: (R, P) 1 where there is a prefix token, 0 where there is padding; None: there is none.
    """
    if not texts:
        return np.zeros(0, np.float32)
    device = prefixes.device
    readings = list(range(len(prefixes)) if after is None else after)
    owners = np.array(readings)  # (B,)
    like = [()] * len(prefixes) if like is None else like
    trunks = Trunks(decoder, prefixes, like, mask)
    places = np.array([shared(text, like[reading]) for text, reading in zip(texts, readings, strict=True)])
    sums, promise = torch.empty(len(texts), device=device), np.empty(len(texts), np.float32)
    before = torch.zeros(len(prefixes), device=device)  # of the trunks so far
    longer = np.array([len(text) > len(like[reading]) for text, reading in zip(texts, readings, strict=True)])
    for place in range(places.max() + 1):
        scores = trunks.scores(place)  # (R, V)
        group = np.flatnonzero(places == place)
        own = torch.from_numpy(owners[group]).to(device)
        first = scores[
            own, torch.tensor([texts[int(member)][place] for member in group], dtype=torch.long, device=device)
        ]
        sums[torch.from_numpy(group).to(device)] = before[own] + first
        promise[group] = first.cpu().numpy()
        if place < trunks.ids.shape[1]:
            there = scores.gather(1, trunks.ids[:, place : place + 1]).squeeze(1)  # (R,)
            before = before + there
            promise[group] -= np.where(longer[group], 0, there[own].cpu().numpy())
    chosen = np.ones(len(texts), bool)
    for owner in range(len(prefixes)) if most is not None else ():
        members = np.flatnonzero(owners == owner)
        chosen[members[np.argsort(-promise[members], kind="stable")[most:]]] = False
    sums[torch.from_numpy(~chosen).to(device)] = -torch.inf
    rests = np.array([len(text) for text in texts]) - places
    for place in np.unique(places[chosen]):
        group = np.flatnonzero(chosen & (places == place) & (rests > 1))
        for members in np.split(group, range(_READ_TOGETHER, len(group), _READ_TOGETHER)):
            if not len(members):
                continue
            lengths = torch.from_numpy(rests[members]).to(device)
            ids = pad_sequence([torch.tensor(texts[int(member)][place:], device=device) for member in members], True)
            states = trunks.leave(torch.from_numpy(owners[members]).to(device), int(place)).states(ids[:, :-1])
            counted = torch.arange(1, ids.shape[1], device=device) < lengths.unsqueeze(1)  # (n, T - 1)
            head = trunks.head
            found = chunked_log_probabilities(states[counted], head.weight, head.bias, ids[:, 1:][counted])
            rest = found.new_zeros(counted.shape).masked_scatter(counted, found).sum(1)
            sums[torch.from_numpy(members).to(device)] += rest
    summed: np.ndarray = sums.cpu().numpy()
    return summed


@torch.inference_mode()
def rate(
    decoder: Any, prefixes: torch.Tensor, tokens: Sequence[int], then: Sequence[int], shared: int = 0
) -> torch.Tensor:
    """Log-probability of a text for each prefix that begins with `tokens` and goes on with any one of `then`: (B,).

    Args:
        decoder: a causal LM in eval mode.
        prefixes: (B, P, H).
        tokens: the first tokens, the same for all.
        then: tokens, at least one.
        shared: first tokens whose probability does not count.
    """
    device, counted = prefixes.device, len(tokens) - shared
    first = decoder.get_input_embeddings()(torch.tensor(tokens, dtype=torch.long, device=device))  # (t, H)
    inputs = torch.cat([prefixes, first.expand(len(prefixes), -1, -1)], 1)  # (B, P + t, H)
    logits = decoder(inputs_embeds=inputs, use_cache=False, logits_to_keep=counted + 1).logits
    scores = logits[:, -counted - 1 :].float().log_softmax(-1)  # (B, counted + 1, V)
    tail = torch.tensor(tokens[shared:], dtype=torch.long, device=device).expand(len(prefixes), -1)  # (B, counted)
    written = scores[:, :-1].gather(-1, tail.unsqueeze(-1)).squeeze(-1).sum(-1)
    return written + scores[:, -1, torch.tensor(then, device=device)].logsumexp(-1)


def given_tokens(begin: Sequence[Sequence[int]], batch: int, max_tokens: int) -> torch.Tensor:
    """First tokens as (B, max_tokens), -1 where none is given."""
    given = torch.full((batch, max_tokens), -1)
    for row, tokens in enumerate(begin):
        given[row, : len(tokens)] = torch.tensor(tokens[:max_tokens], dtype=torch.long)
    return given


def only(allowed: Allowed, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Scores (B, V) with those of tokens that may not come next at minus infinity."""
    return scores.masked_fill(~allowed(ids, scores), -torch.inf)
