"""Decoding: prefixes in, token ids out. Batched, step by step; greedy, sampling and beams.

Knows no tokenizer and no text.

Prefixes of one length need no padding and no mask; those that differ are padded, and a mask says where.

Shapes: B batch, P prefix tokens, H GPT hidden size, V vocabulary, K beams or alternatives, T text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vec2text.loss import chunked_log_probabilities
from vec2text.steps import steps_of

Allowed = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Which tokens may come next, (B, V) bool, after those so far, (B, t), which have these logits, (B, V)."""


_READ_TOGETHER = 512  # texts after one prefix, whose keys and values they hold once each


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
        decoder: a Hugging Face causal LM in eval mode.
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
    alternatives: int = 4,
    allowed: Allowed | None = None,
) -> list[Path]:
    """Write texts, greedily after given first tokens, and note the tokens that were not taken.

    Args:
        decoder: a Hugging Face causal LM in eval mode.
        prefixes: (R, P, H), each of which is read once.
        end_id: the token that ends a text.
        max_tokens: longest text.
        mask: (R, P) 1 where there is a prefix token, 0 where there is padding; None: there is none.
        after: the prefix of each of B texts; None: one text for each prefix.
        begin: the first tokens of each text; None: none.
        alternatives: K.
        allowed: says which tokens may come after the given ones; None: all. Others are no alternatives.
    """
    device, width = prefixes.device, alternatives + 1
    follows = torch.tensor(range(len(prefixes)) if after is None else after, device=device)  # (B,)
    batch = len(follows)
    given = _given(begin or (), batch, max_tokens).to(device)
    ids = torch.full((batch, max_tokens), end_id, device=device)
    chosen_scores = torch.zeros(batch, max_tokens, device=device)
    best_ids = torch.zeros(batch, max_tokens, width, dtype=torch.long, device=device)
    best_scores = torch.full((batch, max_tokens, width), -torch.inf, device=device)
    lengths = torch.full((batch,), max_tokens, device=device)
    alive = torch.arange(batch, device=device)
    steps, inputs = steps_of(decoder, prefixes.shape[1] + max_tokens), prefixes
    for step in range(max_tokens):
        scores = steps.logits(inputs, mask).log_softmax(-1)  # (alive, V); of the prefixes (R, V)
        if step == 0 and after is not None:
            scores, mask = scores[follows], None if mask is None else mask[follows]
            steps.keep(follows)
        open_scores = scores if allowed is None else _only(allowed, scores, ids[alive, :step])
        best_scores[alive, step], best_ids[alive, step] = open_scores.topk(min(width, scores.shape[-1]))
        wanted = given[alive, step]
        chosen = torch.where(wanted < 0, best_ids[alive, step, 0], wanted)
        ids[alive, step] = chosen
        chosen_scores[alive, step] = scores.gather(1, chosen.unsqueeze(1)).squeeze(1)
        ended = chosen == end_id
        lengths[alive[ended]] = step + 1
        if bool(ended.all()):
            break
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        if bool(ended.any()):
            kept = (~ended).nonzero().squeeze(-1)
            alive, chosen = alive[kept], chosen[kept]
            mask = None if mask is None else mask[kept]
            steps.keep(kept)
        inputs = decoder.get_input_embeddings()(chosen).unsqueeze(1)  # (alive, 1, H)
    taken = best_ids == ids.unsqueeze(-1)
    # Where the text follows the likeliest tokens, the first is the one taken; given tokens may be none of the best.
    order = (taken.int() * 2 * width + torch.arange(width, device=device)).argsort(-1)[..., :alternatives]
    others, other_scores = best_ids.gather(-1, order).cpu().numpy(), best_scores.gather(-1, order).cpu().numpy()
    rows = zip(ids.tolist(), lengths.tolist(), chosen_scores.cpu().numpy(), others, other_scores, strict=True)
    return [Path(row[:n], scores[:n], tokens[:n], logs[:n]) for row, n, scores, tokens, logs in rows]


@torch.inference_mode()
def read(
    decoder: Any,
    prefix: torch.Tensor,
    texts: Sequence[Sequence[int]],
    like: Sequence[int] = (),
    *,
    mask: torch.Tensor | None = None,
) -> np.ndarray:
    """The log-probability of each of N texts after one prefix: (N,), in nats.

    Args:
        decoder: a Hugging Face causal LM in eval mode.
        prefix: (1, P, H).
        texts: tokens of each, at least one, the end token included where it counts.
        like: a text that many of them begin as: what they share with it is read once.
        mask: (1, P) 1 where there is a prefix token, 0 where there is padding; None: there is none.
    """
    device, embed, head = prefix.device, decoder.get_input_embeddings(), decoder.get_output_embeddings()
    trunk = torch.tensor([*like], dtype=torch.long, device=device)  # (t,)
    room = prefix.shape[1] + max(map(len, texts))
    steps = steps_of(decoder, max(room, prefix.shape[1] + len(trunk)))
    inputs = torch.cat([prefix, embed(trunk).unsqueeze(0).to(prefix.dtype)], 1)  # (1, P + t, H)
    known = None if mask is None else torch.cat([mask, mask.new_ones(1, len(trunk))], 1)
    hidden = steps.states(inputs, known)[0, prefix.shape[1] - 1 :]  # (t + 1, H)
    next_scores = head(hidden).float().log_softmax(-1)  # (t + 1, V)
    before = F.pad(next_scores[:-1].gather(1, trunk.unsqueeze(1)).squeeze(1).cumsum(0), (1, 0))  # (t + 1,)
    shared = np.array([_shared(text, like) for text in texts])
    sums = torch.empty(len(texts), device=device)
    for count in np.unique(shared):
        group = np.flatnonzero(shared == count)
        for members in np.split(group, range(_READ_TOGETHER, len(group), _READ_TOGETHER)):
            rests = [torch.tensor(texts[member][count:], device=device) for member in members]
            lengths = torch.tensor([len(rest) for rest in rests], device=device)
            ids = pad_sequence(rests, batch_first=True)  # (n, T)
            scores = before[count] + next_scores[count, ids[:, 0]]  # (n,)
            if ids.shape[1] > 1:
                forked = steps.fork(
                    torch.zeros(len(ids), dtype=torch.long, device=device), prefix.shape[1] + int(count)
                )
                own = None if known is None else known[:, : prefix.shape[1] + int(count)].expand(len(ids), -1)
                own = None if own is None else torch.cat([own, own.new_ones(ids[:, 1:].shape)], 1)
                states = forked.states(embed(ids[:, :-1]).to(prefix.dtype), own)  # (n, T - 1, H)
                counted = torch.arange(1, ids.shape[1], device=device) < lengths.unsqueeze(1)  # (n, T - 1)
                found = chunked_log_probabilities(states[counted], head.weight, head.bias, ids[:, 1:][counted])
                scores = scores + scores.new_zeros(counted.shape).masked_scatter(counted, found).sum(1)
            sums[torch.from_numpy(members).to(device)] = scores
    summed: np.ndarray = sums.cpu().numpy()
    return summed


def _shared(text: Sequence[int], like: Sequence[int]) -> int:
    """How many tokens a text begins with as another does, its last one left out."""
    pairs = zip(text[:-1], like, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(text) - 1, len(like)))


@torch.inference_mode()
def rate(
    decoder: Any, prefixes: torch.Tensor, tokens: Sequence[int], then: Sequence[int], shared: int = 0
) -> torch.Tensor:
    """Log-probability of a text for each prefix that begins with `tokens` and goes on with any one of `then`: (B,).

    Args:
        decoder: a Hugging Face causal LM in eval mode.
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


def _given(begin: Sequence[Sequence[int]], batch: int, max_tokens: int) -> torch.Tensor:
    """First tokens as (B, max_tokens), -1 where none is given."""
    given = torch.full((batch, max_tokens), -1)
    for row, tokens in enumerate(begin):
        given[row, : len(tokens)] = torch.tensor(tokens[:max_tokens], dtype=torch.long)
    return given


def _only(allowed: Allowed, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Scores (B, V) with those of tokens that may not come next at minus infinity."""
    return scores.masked_fill(~allowed(ids, scores), -torch.inf)


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
    given = None if begin is None else _given(begin, batch, options.max_tokens).to(device)
    ids = torch.full((batch, options.max_tokens), end_id, device=device)
    alive = torch.arange(batch, device=device)  # rows of `ids` that the decoder still works on
    ended = torch.zeros(batch, dtype=torch.bool, device=device)  # of those, which have met their end
    steps, inputs = steps_of(decoder, prefixes.shape[1] + options.max_tokens), prefixes
    for step in range(options.max_tokens):
        logits = steps.logits(inputs)  # (alive, V)
        if allowed is not None:
            logits = _only(allowed, logits, ids[alive, :step])
        if step < options.min_tokens:
            logits[:, end_id] = -torch.inf
        chosen = logits.max(-1).indices if draws is None else _sample(logits, draws[alive, step], options)
        if given is not None:
            chosen = torch.where(given[alive, step] < 0, chosen, given[alive, step])
        chosen = chosen.masked_fill(ended, end_id)
        ids[alive, step] = chosen
        ended = chosen == end_id
        left = int((~ended).sum())
        if left == 0:
            break
        if left <= 0.75 * len(alive):  # finished rows leave; not one by one, since that copies the cache
            kept = (~ended).nonzero().squeeze(-1)
            alive, ended, chosen = alive[kept], ended[kept], chosen[kept]
            steps.keep(kept)
        inputs = decoder.get_input_embeddings()(chosen).unsqueeze(1)  # (alive, 1, H)
    return ids


def _widest(device: torch.device) -> torch.dtype:
    """The finest type that it calculates in."""
    return torch.float32 if device.type == "mps" else torch.float64


def _sample(logits: torch.Tensor, draws: torch.Tensor, options: Decoding) -> torch.Tensor:
    """One token a row, (B,), where the summed, filtered probabilities (B, V) first exceed the draw."""
    order = torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    if options.top_k is not None and options.top_k < logits.shape[-1]:
        logits, order = logits.topk(options.top_k)
    elif options.top_p is not None:
        logits, order = logits.sort(dim=-1, descending=True)
    logits = logits.to(_widest(logits.device)) - logits.amax(
        -1, keepdim=True
    )  # so that no temperature makes the best one infinite
    probabilities = (logits / (1.0 if options.temperature is None else options.temperature)).softmax(-1)
    summed = probabilities.cumsum(-1)
    if options.top_p is not None:
        inside = summed - probabilities < options.top_p  # the most probable token always stays
        summed = (probabilities * inside).cumsum(-1)
    place = torch.searchsorted(summed, draws.unsqueeze(-1) * summed[:, -1:], right=True)
    return order.gather(-1, place.clamp(max=order.shape[-1] - 1)).squeeze(-1)


def _beam_search(
    decoder: Any, prefixes: torch.Tensor, end_id: int, options: Decoding, allowed: Allowed | None
) -> torch.Tensor:
    """The text of highest mean log-probability per token among those that K beams find, (B, max_tokens).

    A text that ends, and was among the K best continuations, competes by its mean; the K best that go on are kept. A
    row stops when none of its beams, at its present mean, could still beat the worst of its K ended texts.
    """
    batch, beams, device = len(prefixes), options.num_beams, prefixes.device
    prefixes = prefixes.repeat_interleave(beams, 0)  # (B * K, P, H)
    first_beam = torch.arange(batch, device=device).unsqueeze(1) * beams  # (B, 1)
    ids = torch.full((batch, beams, options.max_tokens), end_id, device=device)
    scores = torch.full((batch, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all beams start alike: only one of them counts
    ended_ids = ids.clone()
    ended_means = torch.full((batch, beams), -torch.inf, device=device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    steps, inputs = steps_of(decoder, prefixes.shape[1] + options.max_tokens), prefixes
    for step in range(options.max_tokens):
        logits = steps.logits(inputs)  # (B * K, V)
        if step < options.min_tokens:
            logits[:, end_id] = -torch.inf
        logits = logits.log_softmax(-1)
        if allowed is not None:  # after the softmax: what may not come next keeps its share of the probability
            logits = _only(allowed, logits, ids[:, :, :step].flatten(0, 1))
        totals = scores.unsqueeze(-1) + logits.unflatten(0, (batch, beams))  # (B, K, V)
        # Among 2K candidates at least K go on, however many of them end.
        best, places = totals.flatten(1).topk(min(2 * beams, totals[0].numel()))  # (B, 2K)
        parents, tokens = places // totals.shape[-1], places % totals.shape[-1]
        grown = ids.gather(1, parents.unsqueeze(-1).expand(-1, -1, ids.shape[-1]))  # (B, 2K, T)
        grown[:, :, step] = tokens
        last = step + 1 == options.max_tokens
        ends = (tokens == end_id) | last
        ranked = torch.arange(best.shape[1], device=device) < beams
        means = torch.where(ends & ranked & ~done.unsqueeze(1), best / (step + 1), -torch.inf)
        pool = torch.cat([ended_means, means], 1)
        ended_means, kept = pool.topk(beams)
        pool_ids = torch.cat([ended_ids, grown], 1)
        ended_ids = pool_ids.gather(1, kept.unsqueeze(-1).expand(-1, -1, ids.shape[-1]))
        scores, going = torch.where(ends, -torch.inf, best).topk(beams)  # (B, K)
        done |= scores[:, 0] / (step + 1) <= ended_means[:, -1]
        if last or bool(done.all()):
            break
        ids = grown.gather(1, going.unsqueeze(-1).expand(-1, -1, ids.shape[-1]))
        steps.keep((first_beam + parents.gather(1, going)).flatten())
        inputs = decoder.get_input_embeddings()(tokens.gather(1, going).flatten()).unsqueeze(1)
    return ended_ids[:, 0]
