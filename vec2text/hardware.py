"""The hardware: which of it to use, whether it multiplies in bf16, how it keeps memory, and its name for reports.

Knows nothing of models.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

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
    return capabilities == "AVX512" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


_TRIM, _MMAP = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes, with what it makes of them by itself:
_GLIBC = {_TRIM: 2**26, _MMAP: 2**25}
_KEPT = {_TRIM: 2**31 - 1, _MMAP: 2**30}


@contextmanager
def kept_memory(device: str) -> Iterator[Callable[[], Any]]:
    """Meanwhile the process keeps the memory of tensors that are freed, until what this yields is called.

    From the system a large tensor's pages come zeroed, one at a time: a tenth to a fifth of a training step. And since
    steps differ in size, memory has holes that would not be given back either way. Only glibc can be told so, and only
    tensors on a CPU gain by it; elsewhere nothing happens.

    Args:
        device: the kind of it that tensors are on.
    """
    library: Any = None
    with suppress(OSError, TypeError):
        library = ctypes.CDLL(None) if device == "cpu" else None
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield lambda: None
        return
    mallopt, trim = library.mallopt, library.malloc_trim
    try:
        for name, size in _KEPT.items():
            mallopt(name, size)
        yield lambda: trim(0)
    finally:
        for name, size in _GLIBC.items():
            mallopt(name, size)
        trim(0)


def describe(accelerator: Accelerator) -> str:
    """What a run is trained on."""
    count = accelerator.num_processes
    if accelerator.device.type == "cuda":
        return f"{count} x {torch.cuda.get_device_name()}, {accelerator.mixed_precision}"
    return f"{count} x CPU of {torch.get_num_threads()} threads, {accelerator.mixed_precision}"
