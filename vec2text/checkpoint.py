"""Checkpoints: everything a killed run needs to go on exactly where it was, in one safetensors file and one JSON.

Knows nothing of what the numbers mean; the inverter that users load is saved apart, by `Inverter.save_pretrained`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vec2text.storage import written_whole


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: dict[str, Any],
    drafts: dict[str, torch.Tensor],
) -> None:
    """Write trained weights, optimiser moments, random states, progress, drafts; the last one stays until all is there.

    Weights that are not trained are those that the model was loaded with: they are not written.

    Raises:
        OSError: the disk is full or cannot be written; the last checkpoint is untouched.
    """
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    tensors = {f"model.{name}": parameter.detach() for parameter, name in names.items()}
    tensors |= {f"model.{name}": buffer for name, buffer in model.named_buffers()}
    for parameter, state in chain.from_iterable(optimizer.state.items() for optimizer in optimizers):
        tensors |= {f"optimizer.{names[parameter]}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors |= {f"drafts.{name}": tensor for name, tensor in drafts.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    with written_whole(folder) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
        (partial / "progress.json").write_text(json.dumps(progress))


def load_checkpoint(
    folder: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Put back what `save_checkpoint` wrote; returns the progress and the drafts.

    Raises:
        ValueError: the checkpoint is broken.
    """
    try:
        tensors = load_file(folder / "state.safetensors")
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text())
        with torch.no_grad():
            learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
            for name, value in [*learned, *model.named_buffers()]:
                value.copy_(tensors[f"model.{name}"])
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"checkpoint {folder} is broken ({error}): delete it to start the run again") from error
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for parameter in chain.from_iterable(group["params"] for group in optimizer.param_groups):
            prefix = f"optimizer.{names[parameter]}."
            saved = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            if saved:
                optimizer.state[parameter] = {key: tensor.to(parameter.device) for key, tensor in saved.items()}
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    drafts = {key.removeprefix("drafts."): tensor for key, tensor in tensors.items() if key.startswith("drafts.")}
    return progress, drafts
