"""The optimiser: AdamW with two learning rates, their schedule, and whether to multiply in bf16.

Knows nothing of data or of the loop that steps it.
"""

from __future__ import annotations

import torch
from torch import nn

from vec2text.config import TrainingConfig


def make_optimizer(inverter: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW with a learning rate each for projection and GPT; vectors and gains are not decayed."""
    groups = []
    rates = {"projection": config.projection_learning_rate, "decoder": config.learning_rate}
    for name, rate in rates.items():
        parameters = [p for p in getattr(inverter, name).parameters() if p.requires_grad]
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "name": name, "peak": rate, "lr": rate, "weight_decay": decay})
    if not groups:
        raise ValueError("nothing to train: projection=zero_pad has no parameters and decoder.train=projection_only")
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def schedule(share: float, warmup: float) -> float:
    """Factor of the learning rate: up to 1 in `warmup` of the budget, then linearly to 0."""
    return min((share + 1e-4) / warmup if warmup else 1.0, (1 - share) / (1 - warmup))


def bf16(precision: str) -> bool:
    """Whether to multiply in bf16."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities == "AVX512" and torch.cpu._is_amx_tile_supported()
