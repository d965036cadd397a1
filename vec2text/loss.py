"""The loss: cross-entropy over a vocabulary, in chunks, so that the logits of a whole batch never exist at once.

Knows nothing of models: it is given hidden states and the weights of an output layer.

torch's own `linear_cross_entropy` does the same, but its loss from bf16 states is bf16 too: too coarse to follow.

Shapes: N predicted tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

_CHUNK = 512


def chunked_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy of `hidden @ weight.T + bias` against `targets`, a float32 scalar.

    Matrix products are in the autocast type where autocast is on; everything else is float32.

    Args:
        hidden: (N, H).
        weight: (V, H).
        bias: (V,), or None.
        targets: (N,) token ids.
    """
    loss: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets)
    return loss


@torch.inference_mode()
def chunked_log_probabilities(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Log-probability of each of `targets` under `hidden @ weight.T + bias`: (N,) float32. Without gradient."""
    found = []
    for start in range(0, len(targets), _CHUNK):
        logits = F.linear(hidden[start : start + _CHUNK], weight, bias).float()  # (chunk, V)
        found.append(logits.log_softmax(1).gather(1, targets[start : start + _CHUNK, None]).squeeze(1))
    return torch.cat(found)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient is computed beside the loss, chunk by chunk, while the probabilities are at hand."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        states, matrix, count = hidden.to(dtype), weight.to(dtype), len(targets)
        wanted = ctx.needs_input_grad
        d_hidden = torch.empty_like(states) if wanted[0] else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        loss = torch.zeros((), device=hidden.device)
        for start in range(0, count, _CHUNK):
            part, rows = targets[start : start + _CHUNK, None], states[start : start + _CHUNK]
            logits = (rows @ matrix.T).float()  # (chunk, V)
            if bias is not None:
                logits += bias.float()
            logits -= logits.amax(1, keepdim=True)
            right = logits.gather(1, part)
            logits.exp_()
            totals = logits.sum(1, keepdim=True)
            loss += (totals.log() - right).sum()
            if any(wanted):
                logits /= totals  # probabilities, then their difference to the truth: the gradient of the logits
                logits.scatter_add_(1, part, torch.full_like(right, -1.0))
                gradient = logits.to(dtype)
                if d_hidden is not None:
                    d_hidden[start : start + _CHUNK] = gradient @ matrix
                if d_weight is not None:
                    d_weight += gradient.T @ rows
                if d_bias is not None:
                    d_bias += logits.sum(0)
        ctx.gradients = (d_hidden, d_weight, d_bias)
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
        )
