"""The optimisers: AdamW with two learning rates, Muon beside it, and their schedule.

Knows nothing of data or of the loop that steps it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vec2text.config import TrainingConfig
from vec2text.hardware import bf16

MUON_LEARNING_RATE = 2e-3
"""Peak learning rate of Muon where none is given."""


def make_optimizers(inverter: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW with a learning rate each for projection and GPT; vectors and gains are not decayed.

    With `muon`, the matrices of the GPT's layers have an optimiser of their own (K. Jordan et al., Muon, 2024,
    https://kellerjordan.github.io/posts/muon/), with steps of AdamW's size (J. Liu et al., Muon is scalable for LLM
    training, 2025, https://arxiv.org/abs/2502.16982); embeddings and all else stay with AdamW.

    Raises:
        ValueError: nothing is to be trained.
    """
    rates: dict[str, float] = {
        "projection": config.projection_learning_rate,
        "correction": config.projection_learning_rate,
        "decoder": config.learning_rate,
    }
    matrices = _matrices(inverter.decoder) if config.optimizer == "muon" else []
    turned = {id(matrix) for matrix in matrices}
    groups: list[dict[str, Any]] = []
    for name, rate in rates.items():
        module = getattr(inverter, name)
        parameters = [] if module is None else [p for p in module.parameters() if p.requires_grad]
        parameters = [p for p in parameters if id(p) not in turned]
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "name": name, "peak": rate, "lr": rate, "weight_decay": decay})
    if not groups:
        raise ValueError("nothing to train: projection=zero_pad has no parameters and decoder.train=projection_only")
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)]
    if matrices:
        rate = MUON_LEARNING_RATE if config.muon_learning_rate is None else config.muon_learning_rate
        group = {"params": matrices, "name": "decoder matrices", "peak": rate, "lr": rate}
        optimizers.append(Muon([group], weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


class Muon(torch.optim.Muon):
    """torch's Muon with `adjust_lr_fn="match_rms_adamw"`, in fp32 where bf16 is slow; matrices of a shape together.

    torch's own multiplies in bf16 everywhere, which takes a CPU that does not know bf16 a hundred times as long.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step for all matrices that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            alike: dict[tuple[torch.Size, torch.device], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for matrix in (matrix for matrix in group["params"] if matrix.grad is not None):
                state = self.state[matrix]
                momentum = state.setdefault("momentum_buffer", torch.zeros_like(matrix.grad))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(momentum, group["momentum"])
                alike.setdefault((matrix.shape, matrix.device), []).append((matrix, update))
            for (shape, device), pairs in alike.items():
                dtype = torch.bfloat16 if bf16("auto", device.type) else torch.float32
                updates = torch.stack([update.to(dtype) for _, update in pairs])
                turned = _orthogonal(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
                for (matrix, _), update in zip(pairs, turned, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-0.2 * max(shape) ** 0.5 * group["lr"])


def _orthogonal(
    matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Each of (n, rows, columns) with all of its singular values near 1, by Newton-Schulz iteration."""
    a, b, c = coefficients
    upright = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if upright else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if upright else found


def _matrices(decoder: Any) -> list[nn.Parameter]:
    """Those of a GPT's layers: no embeddings, and not the output layer."""
    head = decoder.get_output_embeddings()
    modules = [module for module in decoder.modules() if module is not head and not isinstance(module, nn.Embedding)]
    own = [parameter for module in modules for parameter in module.parameters(recurse=False)]
    return [parameter for parameter in own if parameter.ndim == 2 and parameter.requires_grad]


def schedule(share: float, warmup: float) -> float:
    """Factor of the learning rate: up to 1 in `warmup` of the budget, then linearly to 0."""
    return min(1.0, (share + 1e-4) / warmup if warmup else 1.0, (1 - share) / (1 - warmup))
