"""The hardware: which of it to use, whether it multiplies in bf16, and its name for reports.

Knows nothing of models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # a second of import
    from accelerate import Accelerator

# cuDNN's attention plans anew for every shape, a tenth of a second each time, and here almost every batch, and every
# token of decoding, has a shape of its own: on an H200 nine tenths of refinement's time. The other kernels do not.
torch.backends.cuda.enable_cudnn_sdp(False)


def best_device() -> str:
    """Where an inverter goes when nobody says where."""
    return "cuda" if torch.cuda.is_available() else "cpu"


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
