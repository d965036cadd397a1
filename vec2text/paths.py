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
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vec2text.loss import chunked_log_probabilities
from vec2text.steps import steps_of

Allowed = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Which tokens may come next, (B, V) bool, after those so far, (B, t), which have these logits, (B, V)."""

_READ_TOGETHER = 512  # texts after one prefix, whose keys and values they hold once each


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
    given = given_tokens(begin or (), batch, max_tokens).to(device)
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
        open_scores = scores if allowed is None else only(allowed, scores, ids[alive, :step])
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


def given_tokens(begin: Sequence[Sequence[int]], batch: int, max_tokens: int) -> torch.Tensor:
    """First tokens as (B, max_tokens), -1 where none is given."""
    given = torch.full((batch, max_tokens), -1)
    for row, tokens in enumerate(begin):
        given[row, : len(tokens)] = torch.tensor(tokens[:max_tokens], dtype=torch.long)
    return given


def only(allowed: Allowed, scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Scores (B, V) with those of tokens that may not come next at minus infinity."""
    return scores.masked_fill(~allowed(ids, scores), -torch.inf)
