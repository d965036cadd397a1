"""The hardware: whether it multiplies in bf16, and its name for reports.

Knows nothing of models.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator


def bf16(precision: str, device: str) -> bool:
    """Whether to multiply in bf16.

    Args:
        precision: `bf16`, `fp32`, or `auto`: where that kind of device multiplies it fast.
        device: its kind, such as `cpu` or `cuda`.
    """
    if precision != "auto":
        return precision == "bf16"
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities == "AVX512" and torch.cpu._is_amx_tile_supported()


def describe(accelerator: Accelerator) -> str:
    """What a run is trained on."""
    count = accelerator.num_processes
    if accelerator.device.type == "cuda":
        return f"{count} x {torch.cuda.get_device_name()}, {accelerator.mixed_precision}"
    return f"{count} x CPU of {torch.get_num_threads()} threads, {accelerator.mixed_precision}"
