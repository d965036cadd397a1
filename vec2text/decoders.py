"""Decoders: the GPT and its tokenizer, made from scratch or loaded by name.

Knows nothing of vectors or prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from vec2text.config import DecoderConfig
from vec2text.storage import find_folder

END = "<|end|>"
"""The end token of a scratch GPT, and of a loaded one that has none."""


def load_decoder(
    config: DecoderConfig, texts: Iterable[str], positions: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The GPT and tokenizer that `config` names.

    Args:
        config: name, and the sizes of a scratch GPT.
        texts: training sentences, from which a scratch GPT's vocabulary is learned; else not read.
        positions: the longest prefix and text together, in tokens.

    Raises:
        ValueError: no such model, or it reads fewer positions.
    """
    if config.name == "scratch":
        return _scratch(config, texts, positions)
    decoder: Any
    decoder, tokenizer = open_decoder(config.name)
    limit = getattr(decoder.config, "max_position_embeddings", None)
    if limit is not None and positions > limit:
        raise ValueError(
            f"decoder {config.name!r} reads {limit} positions, but projection.prefix_length and data.max_tokens "
            f"together need {positions}: lower one of them"
        )
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": END})
        decoder.resize_token_embeddings(max(len(tokenizer), decoder.get_input_embeddings().num_embeddings))
    return decoder, tokenizer


def quiet() -> None:
    """Keep transformers' own progress bars, one for each model that is opened, out of the terminal."""
    disable_progress_bar()


def open_decoder(name: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A Hugging Face causal LM and its tokenizer, in fp32, from a folder or the hub.

    Raises:
        ValueError: it cannot be loaded, or weights are missing in it.
    """
    try:
        if "/" in str(name):  # a quick question, before the library asks for file after file, each with its retries
            find_folder(name, only=["config.json"])
        tokenizer = AutoTokenizer.from_pretrained(str(name))
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(name), dtype="float32", output_loading_info=True)
    except Exception as error:  # each backend of each architecture raises its own kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"decoder {str(name)!r} cannot be loaded: {reason}; expected a Hugging Face causal LM, by folder or name"
        ) from error
    decoder, report = loaded
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"decoder {str(name)!r} lacks {len(missing)} weights, among them {missing[0]}")
    return decoder, tokenizer


def _scratch(
    config: DecoderConfig, texts: Iterable[str], positions: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = _learn_tokenizer(texts, config.vocabulary_size or 0)
    sizes: dict[str, Any] = {  # DecoderConfig has seen to it that all are there
        "n_embd": config.hidden_size,
        "n_layer": config.layers,
        "n_head": config.heads,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
    }
    settings = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        activation_function="gelu",  # exact, and on a CPU several times faster than GPT-2's approximation of it
        # GPT-2's 0.02 is meant for widths of 768 and more; narrow ones learn faster from larger weights.
        initializer_range=(config.hidden_size or 1) ** -0.5,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
    )
    return GPT2LMHeadModel(settings), tokenizer


def _learn_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2's: every text can be written, and comes back to the letter."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)
