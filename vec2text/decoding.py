"""Decoding: prefixes in, token ids out. Batched, step by step; greedy, sampling and beams.

Knows no tokenizer and no text.

Prefixes of one length need no padding and no mask; those that differ are padded, and a mask says where.

Shapes: B batch, P prefix tokens, H GPT hidden size, V vocabulary, K beams, T text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vec2text.paths import Allowed, given_tokens, only
from vec2text.steps import steps_of
from vec2text.trunks import without

_COLDEST = 1e-30  # lower temperatures choose as this one does
_SORTED = 256  # likeliest tokens among which those of `top_p` are looked for first
_AT_ONCE = 2**20  # logits that are fp32 at once on a CPU: 4 MiB, which its cache holds


@dataclass(frozen=True)
class Decoding:
    """How text is chosen from the GPT's probabilities."""

    num_beams: int = 1
    """Hypotheses kept beside each other; 1: none."""
    temperature: float | None = None
    """Sampling: logits are divided by it; 0 is greedy. None: 1 when top_k or top_p is given, else greedy."""
    top_k: int | None = None
    """Sampling: only the k most probable tokens."""
    top_p: float | None = None
    """Sampling: only the most probable tokens that together have this probability."""
    min_tokens: int = 0
    """The end token is not chosen before this many tokens."""
    max_tokens: int = 64
    """Text is ended after this many tokens."""

    def __post_init__(self) -> None:
        for name, low in (("num_beams", 1), ("top_k", 1), ("min_tokens", 0), ("max_tokens", 1), ("temperature", 0)):
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise ValueError(f"{name} is {value}; expected at least {low}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; expected more than 0 and at most 1")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens is {self.min_tokens} but max_tokens is {self.max_tokens}")
        filters = [name for name in ("top_k", "top_p") if getattr(self, name) is not None]
        if self.temperature == 0 and filters:
            raise ValueError(f"{filters[0]} has no effect with temperature 0, which is greedy: leave one of them out")
        if self.num_beams > 1 and (filters or self.temperature is not None):
            chosen = filters[0] if filters else "temperature"
            raise ValueError(f"num_beams {self.num_beams} and {chosen} contradict: beams are not sampled; choose one")

    @property
    def sampled(self) -> bool:
        """Whether tokens are drawn at random."""
        return bool(self.temperature) or (self.temperature is None and bool(self.top_k or self.top_p))


@torch.inference_mode()
def decode(
    decoder: Any,
    prefixes: torch.Tensor,
    end_id: int,
    options: Decoding,
    generator: torch.Generator | None = None,
    *,
    begin: Sequence[Sequence[int]] | None = None,
    allowed: Allowed | None = None,
) -> list[list[int]]:
    """Write a text for each prefix.

    Sampling draws one number for each row and token, row by row: the same generator gives the same texts whatever the
    batch size.

    Args:
        decoder: a causal LM in eval mode.
        prefixes: (B, P, H).
        end_id: the token that ends a text; it is not returned.
        options: how tokens are chosen.
        generator: source of the random numbers, on the CPU.
        begin: the first tokens of each text, not with beams; None: none.
        allowed: says which tokens may come next; None: all.
    """
    if options.num_beams > 1:
        assert begin is None, "beams begin by themselves"
        rows = _beam_search(decoder, prefixes, end_id, options, allowed).tolist()
    else:
        rows = _one_by_one(decoder, prefixes, end_id, options, generator, begin, allowed).tolist()
    return [row[: row.index(end_id)] if end_id in row else row for row in rows]


def _one_by_one(
    decoder: Any,
    prefixes: torch.Tensor,
    end_id: int,
    options: Decoding,
    generator: torch.Generator | None,
    begin: Sequence[Sequence[int]] | None,
    allowed: Allowed | None,
) -> torch.Tensor:
    """Greedy or sampled ids, (B, max_tokens), filled up with the end token."""
    batch, device = len(prefixes), prefixes.device
    draws = None
    if options.sampled:
        draws = torch.rand(batch, options.max_tokens, generator=generator, dtype=torch.float64)
        draws = draws.to(device, _widest(device))
    given = None if begin is None else given_tokens(begin, batch, options.max_tokens).to(device)
    ids = torch.full((batch, options.max_tokens), end_id, device=device)
    alive = torch.arange(batch, device=device)  # rows of `ids` that the decoder still works on
    ended = torch.zeros(batch, dtype=torch.bool, device=device)  # of those, which have met their end
    steps, inputs = steps_of(decoder), prefixes
    for step in range(options.max_tokens):
        logits = steps.logits(inputs)  # (alive, V)
        if allowed is not None:
            logits = only(allowed, logits.float(), ids[alive, :step])
        if step < options.min_tokens:
            logits[:, end_id] = -torch.inf
        if draws is None:
            chosen = _likeliest_one(logits)
        else:
            parts = zip(_parts(logits), _parts(logits, draws[alive, step]), strict=True)
            chosen = torch.cat([_sample(some.float(), drawn, options) for some, drawn in parts])
        if given is not None:
            chosen = torch.where(given[alive, step] < 0, chosen, given[alive, step])
        chosen = chosen.masked_fill(ended, end_id)
        ids[alive, step] = chosen
        ended = chosen == end_id
        left = int((~ended).sum())
        if left == 0:
            break
        if left <= 0.9 * len(alive):  # finished rows leave; not one by one, since each shape costs something anew
            kept = without(ended)
            alive, ended, chosen = alive[kept], ended[kept], chosen[kept]
            steps.keep(kept)
        inputs = decoder.get_input_embeddings()(chosen).unsqueeze(1)  # (alive, 1, H)
    return ids


def _likeliest_one(logits: torch.Tensor) -> torch.Tensor:
    """Of each row (B, V) the place of the greatest, the first where there are several: (B,)."""
    if logits.device.type != "cpu":
        return logits.max(-1).indices
    if logits.dtype == torch.bfloat16:  # above 0 its bits, as a number, grow as it does
        bits = logits.view(torch.int16).numpy()
        places = bits.argmax(-1)
        if (np.take_along_axis(bits, places[:, None], -1) > 0).all():
            return torch.from_numpy(places)
    return torch.from_numpy(logits.float().numpy().argmax(-1))  # numpy looks at many at a time, torch at one


def _parts(logits: torch.Tensor, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """These (B, V), or what belongs to their rows, a few rows at a time on a CPU, so that its cache holds them."""
    size = max(1, _AT_ONCE // logits.shape[-1]) if logits.device.type == "cpu" else len(logits)
    return (logits if rows is None else rows).split(size)


def _widest(device: torch.device) -> torch.dtype:
    """The finest type that it calculates in."""
    return torch.float32 if device.type == "mps" else torch.float64


def _sample(logits: torch.Tensor, draws: torch.Tensor, options: Decoding) -> torch.Tensor:
    """One token a row, (B,), where the summed, filtered probabilities (B, V) first exceed the draw."""
    temperature = 1.0 if options.temperature is None else max(options.temperature, _COLDEST)
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # so that none makes the best one infinite
    order = None
    if options.top_k is not None and options.top_k < logits.shape[-1]:
        logits, order = logits.topk(options.top_k)
    total = logits.logsumexp(-1, keepdim=True)
    if options.top_p is not None and order is None:
        logits, order = _likeliest(logits, total, options.top_p)
    summed = (logits - total).exp().cumsum(-1, dtype=_widest(logits.device))
    last = torch.full_like(draws, logits.shape[-1] - 1, dtype=torch.long).unsqueeze(-1)  # (B, 1)
    if options.top_p is not None:  # the most probable token always stays
        last = torch.minimum(last, (summed < options.top_p).sum(-1, keepdim=True))
    place = torch.searchsorted(summed, draws.unsqueeze(-1) * summed.gather(-1, last), right=True)
    place = torch.minimum(place, last)
    return (place if order is None else order.gather(-1, place)).squeeze(-1)


def _likeliest(logits: torch.Tensor, total: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, V) and their places, the greatest first: some that together have this share, if these do, else all."""
    if logits.shape[-1] > _SORTED:  # to sort all would take most of the time
        best, order = logits.topk(_SORTED)
        if bool(((best - total).exp().sum(-1) > share).all()):
            return best, order
    return logits.sort(dim=-1, descending=True)


def _beam_search(
    decoder: Any, prefixes: torch.Tensor, end_id: int, options: Decoding, allowed: Allowed | None
) -> torch.Tensor:
    """The text of highest mean log-probability per token among those that K beams find, (B, max_tokens).

    A text that ends, and was among the K best continuations, competes by its mean; the K best that go on are kept. A
    row stops when none of its beams, at its present mean, could still beat the worst of its K ended texts.
    """
    batch, beams, device = len(prefixes), options.num_beams, prefixes.device
    found = torch.full((batch, options.max_tokens), end_id, device=device)
    alive = torch.arange(batch, device=device)  # rows of `found` that are still searched, A of them
    ids = found.unsqueeze(1).clone()  # (A, k, T): of the k beams so far, which is one until the first token
    scores = torch.zeros(batch, 1, device=device)  # (A, k)
    ended_ids = found.unsqueeze(1).repeat(1, beams, 1)
    ended_means = torch.full((batch, beams), -torch.inf, device=device)
    steps, inputs = steps_of(decoder), prefixes
    for step in range(options.max_tokens):
        logits = steps.logits(inputs)  # (A * k, V)
        if step < options.min_tokens:
            logits[:, end_id] = -torch.inf
        read = ids[:, :, :step]  # (A, k, step)
        parts = zip(_parts(logits), _parts(logits, read.flatten(0, 1)), strict=True)
        continued = zip(*(_continued(*part, 2 * beams, allowed) for part in parts), strict=True)
        likeliest, tokens = (torch.cat(one).unflatten(0, scores.shape) for one in continued)  # (A, k, 2K)
        totals = (scores.unsqueeze(-1) + likeliest).flatten(1)  # (A, k * 2K)
        # Among 2K candidates at least K go on, however many of them end.
        best, places = totals.topk(min(2 * beams, totals.shape[1]))  # (A, 2K)
        parents, tokens = places // likeliest.shape[-1], tokens.flatten(1).gather(1, places)
        grown = _of_each(ids, parents)  # (A, 2K, T)
        grown[:, :, step] = tokens
        last = step + 1 == options.max_tokens
        ends = (tokens == end_id) | last
        ranked = torch.arange(best.shape[1], device=device) < beams
        means = torch.where(ends & ranked, best / (step + 1), -torch.inf)
        ended_means, kept = torch.cat([ended_means, means], 1).topk(beams)
        ended_ids = _of_each(torch.cat([ended_ids, grown], 1), kept)
        scores, going = torch.where(ends, -torch.inf, best).topk(min(beams, best.shape[1]))  # (A, K)
        done = scores[:, 0] / (step + 1) <= ended_means[:, -1]
        found[alive[done]] = ended_ids[done, 0]
        if last or bool(done.all()):
            break
        first = torch.arange(len(alive), device=device).unsqueeze(1) * ids.shape[1]  # (A, 1)
        rows, chosen, ids = first + parents.gather(1, going), tokens.gather(1, going), _of_each(grown, going)
        if bool(done.any()):  # their beams leave
            left = without(done)
            alive, rows, chosen, ids, scores, ended_means, ended_ids = (
                one[left] for one in (alive, rows, chosen, ids, scores, ended_means, ended_ids)
            )
        steps.keep(rows.flatten(), _shared(read, rows, prefixes.shape[1]))
        inputs = decoder.get_input_embeddings()(chosen.flatten()).unsqueeze(1)
    return found


def _continued(
    logits: torch.Tensor, read: torch.Tensor, count: int, allowed: Allowed | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens after `read` (B, t), from logits (B, V): log-probabilities and ids, both (B, count or V)."""
    found = logits.float().log_softmax(-1)
    if allowed is not None:  # after the softmax: what may not come next keeps its share of the probability
        found = only(allowed, found, read)
    likeliest = found.topk(min(count, found.shape[-1]))
    return likeliest.values, likeliest.indices


def _shared(read: torch.Tensor, rows: torch.Tensor, prefix: int) -> torch.Tensor | None:
    """How many inputs each of the beams (A, K) has in common with that in whose place it comes: (A * K,).

    Args:
        read: (A', k, t) tokens that the former beams have read, after a prefix of so many inputs.
        rows: the former beam that each goes on from.
        prefix: inputs.
    """
    beams = read.shape[1]
    if beams != rows.shape[1]:
        return None
    former, now = rows.flatten(), torch.arange(rows.numel(), device=rows.device)
    texts = read.flatten(0, 1)
    same = (texts[former] == texts[now]).long().cumprod(1).sum(1)
    return torch.where(former // beams == now // beams, prefix + same, 0)


def _of_each(texts: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Of each row's texts (A, n, T) those that are chosen, (A, k): (A, k, T)."""
    return texts.gather(1, chosen.unsqueeze(-1).expand(-1, -1, texts.shape[-1]))
