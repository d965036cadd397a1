"""Peaks: what the hardware reaches at its best, measured, and how much of it a piece of work needs.

Operations are those that cannot be left out: two for each weight and position (six with the gradients), attention over
whole sequences, the output layer only where a token is predicted. Padding is no work.

Shapes: S sentences, P prefix tokens, H GPT hidden size, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from turns import rate

from vec2text.inverter import Inverter


class Products:
    """Matrix products one after the other, as a measure of what the hardware multiplies.

    Args:
        pairs: of matrices, and how often each is multiplied.
    """

    def __init__(self, pairs: list[tuple[torch.Tensor, torch.Tensor, int]]) -> None:
        self._work = [(a, b, torch.mm(a, b), count) for a, b, count in pairs]
        self.operations = sum(2 * result.numel() * a.shape[1] * count for a, _, result, count in self._work)

    def __call__(self) -> None:
        """All of them once."""
        for a, b, result, count in self._work:
            for _ in range(count):
                torch.mm(a, b, out=result)

    def rate(self, least: float) -> float:
        """Operations a second, over at least so many seconds."""
        return rate(self, self.operations, self._work[0][0].device.type, least)


def square(size: int, dtype: torch.dtype, device: str) -> Products:
    """One large square product."""
    matrix = torch.randn(size, size, device=device).to(dtype)
    return Products([(matrix, matrix, 1)])


def step_products(inverter: Inverter, lengths: Sequence[np.ndarray], dtype: torch.dtype, device: str) -> Products:
    """The matrix products of a training step on a batch of middling size, attention left out.

    Args:
        inverter: gives the shapes.
        lengths: of the texts of each batch.
        dtype: of the matrices.
        device: where they are.
    """
    prefix = inverter.projection.config.prefix_length
    sentences = round(np.mean([len(batch) for batch in lengths]))
    predicted = round(np.mean([batch.sum() + len(batch) for batch in lengths]))
    positions = predicted + (prefix - 1) * sentences
    head = inverter.decoder.get_output_embeddings().weight
    parts = ((_matrices(inverter.decoder.base_model), positions), (_matrices(inverter.projection), sentences))
    shapes = Counter((rows, *matrix.shape) for part, rows in (*parts, ([head], predicted)) for matrix in part)
    pairs = []
    for (rows, outputs, inputs), count in shapes.items():
        weight, into, out = (
            torch.randn(size, device=device).to(dtype) for size in ((outputs, inputs), (rows, inputs), (rows, outputs))
        )
        # Forward, the gradient of the inputs, the gradient of the weights.
        pairs += [(into, weight.T, count), (out, weight, count), (out.T, into, count)]
    return Products(pairs)


def training_operations(inverter: Inverter, lengths: np.ndarray) -> float:
    """Operations of a training step on texts of these lengths, (S,)."""
    prefix, predicted = inverter.projection.config.prefix_length, lengths + 1
    sequences = prefix + lengths  # the end is predicted, not read
    projected, inner, head = _counts(inverter)
    config = inverter.decoder.config
    read = float((sequences * (sequences + 1) / 2).sum())  # each place reads those before it, and itself
    attention = 4 * config.num_hidden_layers * config.hidden_size * read
    return 3.0 * (
        2 * (inner * sequences.sum() + head * predicted.sum() + projected * len(lengths)) + attention
    )  # forward, and twice as much backward


class Floor:
    """The least time in which texts can be written: what must be multiplied, and what must be read for each token.

    Args:
        inverter: on its device, in its precision.
        lengths: tokens of each text, its end included, (S,).
        beams: of the search.
    """

    def __init__(self, inverter: Inverter, lengths: np.ndarray, beams: int) -> None:
        prefix, config = inverter.projection.config.prefix_length, inverter.decoder.config
        projected, inner, head = _counts(inverter)
        layers, width = config.num_hidden_layers, config.hidden_size
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        kept = 2 * layers * (getattr(config, "head_dim", None) or width // config.num_attention_heads) * heads
        size = inverter.decoder.get_input_embeddings().weight.element_size()
        self.operations, self.bytes = 2.0 * len(lengths) * (projected + inner * (prefix - 1)), 0.0
        for step in range(int(lengths.max())):
            rows = float((lengths > step).sum()) * (beams if step else 1)
            self.operations += rows * (2 * (inner + head) + 4 * layers * width * (prefix + step))
            self.bytes += size * ((inner + head) + rows * kept * (prefix + step))

    def seconds(self, peak: float, bandwidth: float) -> float:
        """At so many operations and bytes a second."""
        return max(self.operations / peak, self.bytes / bandwidth)


class Reading:
    """Reading much memory, as a measure of its bandwidth: far more than any cache holds.

    Args:
        size: in bytes.
        device: whose memory.
    """

    def __init__(self, size: int, device: str) -> None:
        self.device = device
        self._buffer = torch.ones(size // 4, device=device)
        self._copy = torch.empty_like(self._buffer[: len(self._buffer) // 2])

    def rate(self, least: float) -> float:
        """Bytes a second: the better one of summing and copying."""
        size, half = self._buffer.nbytes, self._buffer[: len(self._copy)]
        summing = rate(lambda: self._buffer.sum(), size, self.device, least / 2)
        return max(summing, rate(lambda: self._copy.copy_(half), size, self.device, least / 2))


def _matrices(module: nn.Module) -> list[torch.Tensor]:
    """The matrices that inputs are multiplied with."""
    modules: list[Any] = [part for part in module.modules() if not isinstance(part, nn.Embedding)]
    return [own for part in modules for own in part.parameters(recurse=False) if own.ndim == 2]


def _counts(inverter: Inverter) -> tuple[int, int, int]:
    """Weights in the matrices of the projection, of the GPT's layers, and of its output layer."""
    parts = (_matrices(inverter.projection), _matrices(inverter.decoder.base_model))
    projected, inner = (sum(matrix.numel() for matrix in part) for part in parts)
    return projected, inner, inverter.decoder.get_output_embeddings().weight.numel()
