"""The loss: cross-entropy over a vocabulary, in chunks, so that the logits of a whole batch never exist at once.

Knows nothing of models: it is given hidden states and the weights of an output layer.

torch's own `linear_cross_entropy` does the same, but its loss from bf16 states is bf16 too: too coarse to follow.

Shapes: N predicted tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

_LOGITS = 2**25  # bytes of them at once on a CPU; for more glibc would ask the system, page by page, each time
_LOGITS_ELSEWHERE = 2**28  # a GPU is kept busy by more
_SUMMED = 2**19  # probabilities summed at once on a CPU: torch copies them as float32, which its cache holds
_ROWS = 256  # the last chunk's are rounded up to a multiple where a CPU compiles products for every number of rows


def chunked_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of `hidden @ weight.T + bias` against `targets`, a float32 scalar.

    Matrix products are in the autocast type where autocast is on, and logits and their gradients are kept in it; what
    is computed of them, and every sum, is float32.

    Args:
        hidden: (N, H).
        weight: (V, H).
        bias: (V,), or None.
        targets: (N,) token ids.
        shares: (N,) float32, by which each token's cross-entropy is multiplied before the mean over N; they may be
            negative. None: 1.
    """
    loss: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, shares)
    return loss


@torch.inference_mode()
def chunked_log_probabilities(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Log-probability of each of `targets` under `hidden @ weight.T + bias`: (N,) float32, at least -87.3.

    Without gradient.
    """
    found, chunk = [], _chunk(weight, _computed_in(hidden))
    for start in range(0, len(targets), chunk):
        logits = F.linear(hidden[start : start + chunk], weight, bias)  # (chunk, V)
        found.append(_split(logits, targets[start : start + chunk])[2])
    return torch.cat(found)


def _computed_in(hidden: torch.Tensor) -> torch.dtype:
    """The type of the logits of hidden states."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _chunk(weight: torch.Tensor, dtype: torch.dtype) -> int:
    """Tokens whose logits of a type, under an output layer (V, H), exist at once."""
    size = _LOGITS if weight.device.type == "cpu" else _LOGITS_ELSEWHERE
    return max(1, size // (len(weight) * dtype.itemsize))


def _split(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities with 0 for the targets, in the place of the logits (N, V); their sum, and the targets' logarithm.

    They are computed in float32 and kept in the type of the logits, which is as fine as those are. A probability near
    1 it could not tell from 1: there the sum of the others says how far from it the target's is.
    """
    with torch.autocast(logits.device.type, enabled=False):
        others = torch.softmax(logits, 1, out=logits)
    place = (torch.arange(len(targets), device=targets.device), targets)
    right = others[place].float()
    # scatter_ would copy all of it on a CPU, and for a number from Python a GPU would be waited for.
    others[place] = torch.zeros_like(others[:, 0])
    rest = _sums(others)
    log = right.clamp_min(torch.finfo(torch.float32).tiny).log()
    return others, rest, torch.where(right > 0.5, torch.log1p(-rest.clamp_max(0.5)), log)


def _sums(numbers: torch.Tensor) -> torch.Tensor:
    """Of each row (N, V), in float32: (N,)."""
    rows = max(1, _SUMMED // numbers.shape[1]) if numbers.device.type == "cpu" else len(numbers)
    return torch.cat([part.sum(1, dtype=torch.float32) for part in numbers.split(rows)])


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient is computed beside the loss, chunk by chunk, while the probabilities are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        shares: torch.Tensor | None,
    ) -> torch.Tensor:
        device, dtype = hidden.device.type, _computed_in(hidden)
        states, matrix, count = hidden.to(dtype), weight.to(dtype), len(targets)
        wanted = ctx.needs_input_grad
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        loss = torch.zeros((), device=hidden.device)
        chunk = _chunk(weight, dtype)
        if device == "cpu" and dtype == torch.bfloat16:
            last = count % chunk
            more = min(-last % _ROWS, chunk - last)
            states, targets = F.pad(states, (0, 0, 0, more)), F.pad(targets, (0, more))
            shares = None if shares is None else F.pad(shares, (0, more))
        d_hidden = torch.empty_like(states) if wanted[0] else None
        for start in range(0, count, chunk):
            part, rows = targets[start : start + chunk], states[start : start + chunk]
            logits = F.linear(rows, matrix, None if bias is None else bias.to(dtype))  # (chunk, V)
            gradient, rest, log = _split(logits, part)
            share = None if shares is None else shares[start : start + chunk]  # (chunk,)
            loss -= (log if share is None else log * share)[: count - start].sum()
            if any(wanted):
                # Probabilities less the truth are the gradient of the logits.
                gradient[torch.arange(len(part), device=part.device), part] = -rest.to(dtype)
                gradient[count - start :] = 0  # what was added to the last chunk
                if share is not None:  # of the states, which are fewer numbers than the logits
                    share = share.to(dtype).unsqueeze(1)
                    rows = rows * share
                if d_hidden is not None:
                    d_part = torch.mm(gradient, matrix, out=d_hidden[start : start + chunk])
                    if share is not None:
                        d_part *= share
                if d_weight is not None:
                    d_weight += gradient.T @ rows
                if d_bias is not None:
                    d_bias += (gradient if share is None else gradient * share).sum(0, dtype=torch.float32)
        ctx.gradients = (None if d_hidden is None else d_hidden[:count], d_weight, d_bias)
        ctx.count, ctx.dtypes = count, (hidden.dtype, weight.dtype)
        return loss / count

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale = upstream[0] / ctx.count
        d_hidden, d_weight, d_bias = ctx.gradients
        return (
            None if d_hidden is None else d_hidden.to(ctx.dtypes[0]) * scale,
            None if d_weight is None else d_weight.to(ctx.dtypes[1]) * scale,
            None if d_bias is None else d_bias.to(ctx.dtypes[1]) * scale,
            None,
            None,
        )
