"""Assembly: what an inverter is made of, put together, saved as a folder in open formats, loaded, and adapted.

Knows nothing of how an inverter learns or inverts.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vec2text.adaptation import Alignment
from vec2text.bars import only_downloads
from vec2text.calibration import Calibration
from vec2text.compact import save_compact
from vec2text.config import ProjectionConfig
from vec2text.correction import Correction, positions_of_prefix
from vec2text.decoders import open_decoder
from vec2text.description import Description
from vec2text.fingerprint import Fingerprint
from vec2text.gpt2 import GPT2
from vec2text.hardware import best_device
from vec2text.projection import Projection
from vec2text.storage import BUNDLED, find_folder, written_whole
from vec2text.tokenizer import FastTokenizer

if TYPE_CHECKING:  # seconds of import
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Assembly(nn.Module):
    """Projection, GPT and tokenizer, and what is known of them.

    Args:
        projection: vectors to prefixes.
        decoder: our GPT-2, or a Hugging Face causal LM.
        tokenizer: the decoder's, with an end token.
        fingerprint: the vector space that it is for.
        max_tokens: the longest text, in tokens, that it is trained on.
        training: summary of how it was made, kept in inverter.json.
        correction: of an inverter that learns to correct hypotheses, or has learned it.
        calibration: how sure a reconstruction is; None: nobody has measured it.
    """

    def __init__(
        self,
        projection: Projection,
        decoder: GPT2 | PreTrainedModel,
        tokenizer: FastTokenizer | PreTrainedTokenizerBase,
        fingerprint: Fingerprint,
        max_tokens: int,
        training: dict[str, Any] | None = None,
        correction: Correction | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.projection, self.tokenizer, self.correction = projection, tokenizer, correction
        self.decoder: Any = decoder  # each architecture has a type of its own
        self.fingerprint, self.max_tokens, self.training_summary = fingerprint, max_tokens, training or {}
        self.calibration = calibration
        self.alignment: Alignment | None = None  # of an adapted inverter, from the vectors' space to its own
        self.adapts: str | None = None
        assert tokenizer.eos_token_id is not None
        self.end_id = int(tokenizer.eos_token_id)

    @classmethod
    def build(
        cls,
        config: ProjectionConfig,
        decoder: GPT2 | PreTrainedModel,
        tokenizer: FastTokenizer | PreTrainedTokenizerBase,
        fingerprint: Fingerprint,
        max_tokens: int,
        corrects: bool = False,
    ) -> Self:
        """A new inverter, with an untrained projection fitted to the GPT's width and embedding size.

        Raises:
            ValueError: it is to correct hypotheses, for which the GPT has too few positions.
        """
        embed: Any = decoder.get_input_embeddings()
        some = torch.arange(min(embed.num_embeddings, 4096), device=embed.weight.device)
        with torch.no_grad():  # through the module, since some scale what their table holds
            tokens = embed(some).detach().float()  # (4096, H)
        projection = Projection(
            config,
            fingerprint.dimension,
            tokens.shape[1],
            vector_norm=fingerprint.norm,
            token_rms=float(tokens.square().mean().sqrt()),
        )
        correction = Correction(config.prefix_length, tokens.shape[1]) if corrects else None
        inverter = cls(projection, decoder, tokenizer, fingerprint, max_tokens, correction=correction)
        if corrects:
            inverter.check_length(max_tokens, max_tokens)
        return inverter

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.decoder.get_input_embeddings().weight.device
        return device

    def check_length(self, max_tokens: int, hypothesis: int | None = None) -> None:
        """Refuse texts for which the GPT has no positions.

        Args:
            max_tokens: of the text.
            hypothesis: tokens of the hypothesis that it is written from; None: plain inversion.

        Raises:
            ValueError: that is more than there is room for.
        """
        room = self._room(hypothesis)
        if room is not None and max_tokens > room:
            fits, beside = room, ""
            if hypothesis is not None:
                fits, beside = (room + hypothesis) // 2, " and a hypothesis as long, which it corrects"
            raise ValueError(f"max_tokens is {max_tokens}, but this inverter's GPT has room for {max(0, fits)}{beside}")

    def _room(self, hypothesis: int | None = None) -> int | None:
        """Text tokens for which the GPT has positions, beside a hypothesis of so many; None: any number."""
        positions = getattr(self.decoder.config, "max_position_embeddings", None)
        taken = positions_of_prefix(self.projection.config.prefix_length, hypothesis)
        return None if positions is None else int(positions) - taken

    def save_pretrained(self, folder: str | Path, *, compact: bool = False, about: str = "") -> None:
        """Write the inverter to `folder`, in open formats; whatever was there is replaced only when all is written.

        Args:
            folder: a new one, or one that is replaced.
            compact: the GPT's matrices rounded to int8, projection and correction to bf16, in files of at most 15 MB;
                all are multiplied as precisely as these are. transformers alone cannot read such a GPT.
            about: Markdown that stands at the end of the model card.

        Raises:
            OSError: the folder cannot be written, or the disk is full; what was there before is untouched.
            ValueError: a compact one whose decoder is an adapter.
        """
        if compact and getattr(self.decoder, "peft_config", None):
            raise ValueError("this inverter's decoder is an adapter, which is small already: save it without compact")
        with written_whole(folder) as partial:
            if self.alignment is not None:
                save_file(self.alignment.state_dict(), partial / "alignment.safetensors")
                self._description().write(partial)
                self._description().write_card(partial, f"that of the inverter {self.adapts}, which it adapts", about)
                return
            if compact:
                self.decoder.config.save_pretrained(partial / "decoder")
                save_compact(self.decoder.state_dict(), partial / "decoder")
            else:
                with contextlib.nullcontext() if isinstance(self.decoder, GPT2) else only_downloads():
                    self.decoder.save_pretrained(partial / "decoder")
            self.tokenizer.save_pretrained(partial / "decoder")
            for name, module in (("projection", self.projection), ("correction", self.correction)):
                if module is not None:
                    weights = module.state_dict()
                    kept = {key: value.bfloat16() for key, value in weights.items()} if compact else weights
                    save_file(kept, partial / f"{name}.safetensors")
            description = self._description()
            description.write(partial)
            gpt = f"{self.decoder.config.model_type}, {self.decoder.num_parameters():,} parameters"
            description.write_card(partial, gpt, about)

    @classmethod
    def from_pretrained(
        cls, name: str | Path = BUNDLED, *, device: str | torch.device | None = None, precision: str | None = None
    ) -> Self:
        """Load a saved inverter.

        Args:
            name: a folder, or the id of a Hugging Face hub repository; `minilm-en` comes with the package.
            device: where to put it; None: a GPU if there is one.
            precision: of the decoder's weights: `fp32` or `bf16`; None: that in which they were saved.

        Raises:
            ValueError: there is none, it is of a newer format, or its weights are broken.
        """
        folder = find_folder(name)
        description = Description.read(folder)
        precision = precision or description.precision
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {precision!r}; expected fp32 or bf16")
        if description.adapts is not None:
            return cls._adapted(folder, description, device, precision)
        decoder, tokenizer = open_decoder(folder / "decoder", precision)
        inverter = cls.build(
            description.projection,
            decoder,
            tokenizer,
            description.fingerprint,
            description.max_tokens,
            description.corrects,
        )
        inverter.training_summary, inverter.calibration = description.training, description.calibration
        if description.base and not np.allclose(inverter._base_mark(), description.base, rtol=0.02, atol=1e-3):
            raise ValueError(
                f"{folder}/decoder is an adapter, and the model that it was trained on top of is another one than that "
                "which adapter_config.json names now (base_model_name_or_path): bring the former back"
            )
        for part, module in (("projection", inverter.projection), ("correction", inverter.correction)):
            if module is not None:
                _load(module, folder / f"{part}.safetensors", "save the inverter again")
        device = device or best_device()
        inverter.eval()
        try:
            return inverter.to(device)
        except (AssertionError, RuntimeError) as error:  # torch's ways to say that there is no such device
            raise ValueError(f"device {str(device)!r}: {str(error).splitlines()[0]}") from error

    def adapted(self, name: str, alignment: Alignment, fingerprint: Fingerprint) -> Self:
        """This inverter for vectors of another space.

        Saved, it is a small folder that refers to this one. Confidence has to be calibrated anew.

        Args:
            name: under which it can be loaded again: a folder, a hub id, `minilm-en`.
            alignment: leads from that space to this inverter's.
            fingerprint: of that space.

        Raises:
            ValueError: it is an adapted one itself.
        """
        if self.alignment is not None:
            raise ValueError(f"{name} is itself adapted, to {self.adapts}: adapt that one")
        found = copy.copy(self)
        found._modules = dict(self._modules)
        found.alignment, found.adapts = alignment.to(self.device), name
        found.fingerprint, found.calibration, found.training_summary = fingerprint, None, {}
        return found.eval()

    def merged(self, vectors: np.ndarray) -> Self:
        """An adapted inverter as one of its own: its map becomes a part of its projection, nearly, to be trained on.

        Args:
            vectors: (N, D), some of its space.

        Raises:
            ValueError: it is no adapted one, or its projection has no weights.
        """
        if self.alignment is None:
            raise ValueError("this inverter is not adapted: there is no map that could become a part of its projection")
        found = copy.copy(self)
        found._modules = dict(self._modules)
        matrix, offset = self.alignment.affine(torch.from_numpy(vectors))
        found.projection = self.projection.after(matrix, offset, self.fingerprint.norm)
        found.alignment = found.adapts = None
        return found

    @classmethod
    def _adapted(
        cls, folder: Path, description: Description, device: str | torch.device | None, precision: str
    ) -> Self:
        """An adapted inverter, and what it refers to."""
        try:
            base = cls.from_pretrained(str(description.adapts), device=device, precision=precision)
        except ValueError as error:
            raise ValueError(
                f"{folder} adapts the inverter {description.adapts}, which cannot be had: {error}"
            ) from error
        if not np.allclose(base._base_mark(), description.base or [], rtol=0.02, atol=1e-3):
            raise ValueError(
                f"{folder} adapts the inverter {description.adapts}, which is another one now: adapt it again, or "
                "bring the former one back"
            )
        alignment = Alignment(description.fingerprint.dimension, base.projection.dimension)
        _load(alignment, folder / "alignment.safetensors", "adapt the inverter again")
        found = base.adapted(str(description.adapts), alignment, description.fingerprint)
        found.training_summary, found.calibration = description.training, description.calibration
        return found

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the inverter to the Hugging Face hub; returns the address of the commit.

        Args:
            repository: `user/name`; made when it does not exist.
            private: whether a new repository is private.
            token: access token; None: the one that `hf auth login` keeps.
        """
        from huggingface_hub import HfApi

        if self.adapts is not None and Path(self.adapts).is_dir():
            raise ValueError(f"this inverter adapts the inverter {self.adapts}, which is on this machine alone")
        for adapter in getattr(self.decoder, "peft_config", {}).values():
            if Path(adapter.base_model_name_or_path).is_dir():
                raise ValueError(
                    f"this inverter's decoder is an adapter to the folder {adapter.base_model_name_or_path}, which "
                    "nobody else has: train it on a model named as on the hub"
                )
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as place:
            self.save_pretrained(Path(place) / "inverter")
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=Path(place) / "inverter"))

    def _base_mark(self) -> list[float]:
        """By which the weights under an adapter are recognised: the sizes of their first token embeddings."""
        sizes: list[float] = self.decoder.get_input_embeddings().weight[:8].detach().float().norm(dim=1).tolist()
        return sizes

    def _description(self) -> Description:
        weights = self.decoder.get_input_embeddings().weight
        return Description(
            self.projection.config,
            self.fingerprint,
            self.max_tokens,
            self.training_summary,
            precision="bf16" if weights.dtype == torch.bfloat16 else "fp32",
            corrects=self.correction is not None,
            calibration=self.calibration,
            base=self._base_mark() if getattr(self.decoder, "peft_config", None) or self.adapts else None,
            adapts=self.adapts,
        )


def _load(module: nn.Module, path: Path, mend: str) -> None:
    """Read weights; `mend` says what to do where they are broken."""
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is broken: {' '.join(str(error).split())}; {mend}") from error
