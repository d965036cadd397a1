"""Compact weights: matrices as int8 with a scale for each row, in small safetensors files.

Knows nothing of what the weights are for. Weights near a normal distribution lose less than 1% of their size in
rounding (each row's largest is kept), which a trained GPT hardly notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FILE_SIZE = 15_000_000
"""Bytes of a file at most; only a larger matrix makes a larger one."""

_SCALE = ".scale"


def save_compact(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write weights by name; of two names for the same one, the first."""
    known: set[int] = set()
    files: list[dict[str, torch.Tensor]] = [{}]
    room = FILE_SIZE
    for name, weight in weights.items():
        if weight.data_ptr() in known:
            continue
        known.add(weight.data_ptr())
        kept = {name: weight.detach().contiguous()}
        if weight.ndim == 2 and weight.is_floating_point():
            rows = weight.detach().float()
            scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny * 128) / 127  # (rows,)
            kept = {name: (rows / scale[:, None]).round().to(torch.int8), name + _SCALE: scale}
        size = sum(tensor.nbytes for tensor in kept.values())
        if size > room and files[-1]:
            files.append({})
            room = FILE_SIZE
        files[-1] |= kept
        room -= size
    for number, tensors in enumerate(files, 1):
        save_file(tensors, folder / f"int8-{number:05}-of-{len(files):05}.safetensors")


def is_compact(folder: Path) -> bool:
    """Whether there are such weights in a folder."""
    return any(folder.glob("int8-*.safetensors"))


def load_compact(folder: Path) -> dict[str, torch.Tensor]:
    """Weights by name, those that were matrices in fp32.

    Raises:
        ValueError: a file is missing.
        SafetensorError: one is broken.
    """
    files = sorted(folder.glob("int8-*.safetensors"))
    expected = int(files[0].stem.rpartition("-")[2])
    if len(files) != expected:
        raise ValueError(f"{folder} has {len(files)} of {expected} files of weights: copy all of them")
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    scales = {name: found.pop(name) for name in list(found) if name.endswith(_SCALE)}
    for name, scale in scales.items():
        matrix = name.removesuffix(_SCALE)
        found[matrix] = found[matrix].float().mul_(scale[:, None])
    return found
