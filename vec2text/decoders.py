"""Decoders: the GPT and its tokenizer, made from scratch or loaded by name.

Knows nothing of vectors or prefixes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from vec2text.bars import only_downloads
from vec2text.compact import is_compact, load_compact
from vec2text.config import DecoderConfig
from vec2text.gpt2 import GPT2, GPT2Config
from vec2text.steps import places_of
from vec2text.storage import bundled, find_model, write_text_whole
from vec2text.tokenizer import FastTokenizer

if TYPE_CHECKING:  # most of what a first text would cost
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END = "<|end|>"
"""The end token of a scratch GPT, and of a loaded one that has no special token at all."""


def load_decoder(
    config: DecoderConfig, texts: Iterable[str], positions: int, vocabulary: Path | None = None
) -> tuple[GPT2 | PreTrainedModel, FastTokenizer | PreTrainedTokenizerBase]:
    """The GPT and tokenizer that `config` names; what of it is to be trained requires gradients.

    Args:
        config: name, the sizes of a scratch GPT, what is trained and how.
        texts: training sentences, from which a scratch GPT's vocabulary is learned; else not read.
        positions: the longest prefix and text together, in tokens.
        vocabulary: a file in which a scratch GPT's is kept; where it is there, the texts are not read.

    Raises:
        ValueError: no such model, it reads fewer positions, or it has no module for the low-rank additions.
    """
    decoder: Any
    if config.name == "scratch":
        decoder, tokenizer = _scratch(config, texts, positions, vocabulary)
    else:
        decoder, tokenizer = _named(replace(config, name=place_of(config.name)), positions)
    if config.train == "projection_only":
        decoder.requires_grad_(False)
    elif config.train == "lora":
        _add_lora(decoder, config)
    if config.gradient_checkpointing:
        older = decoder.gradient_checkpointing_enable  # its only name in earlier versions of transformers 5
        getattr(decoder, "activation_checkpointing_enable", older)({"use_reentrant": False})
    return decoder, tokenizer


def place_of(name: str) -> str:
    """Where a decoder is that a configuration names: `bundled` is that of the inverter in the package."""
    return str(bundled() / "decoder") if name == "bundled" else name


def find_decoder(name: str | Path) -> Path:
    """The folder of a model: a quick question, before minutes of other work or the library's many retries.

    Raises:
        ValueError: there is not, or what an adapter adds to is missing.
    """
    folder = find_model(name)
    record = folder / "adapter_config.json"
    if not record.exists():
        return folder
    if find_spec("peft") is None:
        raise ValueError(f"{folder} is an adapter (LoRA): install `pip install 'vec2text-gpt[lora]'` to read it")
    base = json.loads(record.read_text(encoding="utf-8")).get("base_model_name_or_path")
    try:
        find_model(base)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the adapter {folder} adds to the model {base}, which is not there: bring it back, or write where it is "
            f"into {record} (base_model_name_or_path)"
        ) from error
    return folder


def _named(
    config: DecoderConfig, positions: int
) -> tuple[GPT2 | PreTrainedModel, FastTokenizer | PreTrainedTokenizerBase]:
    """A loaded GPT with room for `positions`, and its tokenizer with an end token."""
    decoder: Any
    decoder, tokenizer = open_decoder(config.name, config.precision, own=config.train != "lora")
    if getattr(decoder, "peft_config", None):
        raise ValueError(
            f"decoder.name={config.name} is an adapter (LoRA), not a whole model: give the model that it adds to"
        )
    if not isinstance(decoder, GPT2):
        _check_decoder(decoder, config.name)
    limit = getattr(decoder.config, "max_position_embeddings", None)
    if limit is not None and positions > limit:
        raise ValueError(
            f"decoder {config.name!r} reads {limit} positions, but projection.prefix_length and data.max_tokens "
            f"together need {positions} (with training.correction_fraction the prefix three times and a hypothesis "
            "before the text): lower one of them"
        )
    rows = decoder.get_input_embeddings().weight.shape[0]
    if tokenizer.eos_token is None or tokenizer.eos_token_id >= rows:  # any other special token can learn to end a text
        others = (tokenizer.sep_token, tokenizer.pad_token, tokenizer.bos_token)
        known = [token for token in others if token and tokenizer.convert_tokens_to_ids(token) < rows]
        tokenizer.eos_token = known[0] if known else None
    if tokenizer.eos_token is None:
        if config.train != "all":
            raise ValueError(
                f"the tokenizer of decoder {config.name!r} has no end token, and decoder.train={config.train} cannot "
                "learn a new one: use decoder.train=all"
            )
        tokenizer.add_special_tokens({"eos_token": END})
        decoder.resize_token_embeddings(max(len(tokenizer), rows))
    return decoder, tokenizer


@torch.no_grad()
def _check_decoder(decoder: Any, name: str) -> None:
    """Refuse a model that is no plain autoregressive LM, on a few random inputs.

    Raises:
        ValueError: its logits are not those of its output layer on its last hidden states, a token sees later ones, or
            its cache changes what comes out.
    """
    from transformers import DynamicCache

    embed, head = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    inputs = embed(torch.arange(6, device=embed.weight.device).unsqueeze(0))  # (1, 6, H)
    try:
        hidden = decoder.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        logits, cache = decoder(inputs_embeds=inputs, use_cache=False).logits, DynamicCache(config=decoder.config)
        first = decoder(inputs_embeds=inputs[:, :4], past_key_values=cache, use_cache=True).logits
        rest = decoder(inputs_embeds=inputs[:, 4:], past_key_values=cache, use_cache=True).logits
    except Exception as error:  # each architecture fails in its own way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"decoder {name!r} cannot be used as one: {reason:.200}; expected a causal LM") from error
    slack = 1e-3 * float(logits.abs().max()) * (30 if logits.dtype == torch.bfloat16 else 1)
    for other, fault in (
        (head(hidden), "its logits are not its output layer on its last hidden states"),
        (torch.cat([first, rest], 1), "a token sees later ones, or its cache changes what it writes"),
    ):
        if float((other - logits).abs().max()) > slack:
            raise ValueError(f"decoder {name!r} cannot be used: {fault}; expected an autoregressive LM, as GPT-2 is")


@torch.no_grad()
def check_padding(decoder: Any, name: str, positions: int) -> None:
    """Refuse a model in which padding before a text changes how it goes on: it cannot correct hypotheses in batches.

    Args:
        decoder: a causal LM.
        name: its name.
        positions: of the longest correction.

    Raises:
        ValueError: padding shows.
    """
    decoder.eval()
    embed = decoder.get_input_embeddings()
    ids = torch.arange(positions, device=embed.weight.device).unsqueeze(0) % embed.num_embeddings  # (1, positions)
    padded = torch.cat([ids[:, :4], ids[:, :2], ids[:, 4:-2]], 1)  # two of no meaning, where a hypothesis is shorter
    mask = torch.ones_like(padded)
    mask[:, 4:6] = 0
    places = places_of(mask)
    plain = decoder.base_model(inputs_embeds=embed(ids[:, :-2]), use_cache=False).last_hidden_state[:, -1]
    masked = {"attention_mask": mask, "position_ids": places}
    try:
        shifted = decoder.base_model(inputs_embeds=embed(padded), use_cache=False, **masked).last_hidden_state[:, -1]
    except Exception as error:  # each architecture fails in its own way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"decoder {name!r} cannot learn correction: {reason:.200}") from error
    slack = 1e-3 * float(plain.abs().max()) * (30 if plain.dtype == torch.bfloat16 else 1)
    if float((plain - shifted).abs().max()) > slack:
        raise ValueError(
            f"decoder {name!r} cannot learn correction: padding before a text changes how it goes on; leave "
            "training.correction_fraction at 0"
        )


def _add_lora(decoder: Any, config: DecoderConfig) -> None:
    """Low-rank additions to the weights, in fp32; they alone are trained (Hu et al., 2021, arXiv:2106.09685)."""
    try:
        from peft import LoraConfig
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN
    except ImportError as error:
        raise ValueError(f"decoder.train=lora: {error}; install it with `pip install 'vec2text-gpt[lora]'`") from error
    ends = (decoder.get_input_embeddings(), decoder.get_output_embeddings())
    names = {name.rpartition(".")[2] for name, module in decoder.named_modules() if module in ends}
    if names & set(config.lora_targets or ()):
        raise ValueError(
            f"decoder.lora_targets {config.lora_targets} holds the token embeddings or the output layer, which stay as "
            "they are: name modules between them"
        )
    rank, model_type = config.lora_rank or 16, decoder.config.model_type
    settings = LoraConfig(
        r=rank,
        lora_alpha=config.lora_alpha or 2 * rank,
        lora_dropout=config.lora_dropout or 0.0,
        target_modules=config.lora_targets or (None if model_type in KNOWN else "all-linear"),
        fan_in_fan_out=model_type == "gpt2",  # its matrices are stored the other way round
        task_type="CAUSAL_LM",
    )
    try:
        decoder.add_adapter(settings)
    except ValueError as error:
        modules = {name.rpartition(".")[2] for name, module in decoder.named_modules() if hasattr(module, "weight")}
        raise ValueError(
            f"decoder.lora_targets {config.lora_targets} do not fit {config.name!r}; it has "
            f"{', '.join(sorted(modules))}"
        ) from error
    # The adapter alone is saved: this is how it finds the weights that it adds to.
    if Path(config.name).is_dir():
        decoder.peft_config["default"].base_model_name_or_path = str(Path(config.name).resolve())
    for parameter in decoder.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def layers_of(decoder: Any) -> list[nn.Module]:
    """The GPT's layers, in order: the longest list of modules in it."""
    lists = [list(module) for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


@torch.inference_mode(False)
def in_bf16(decoder: Any) -> Any:
    """A copy of a decoder, to write with, that has its weights in bf16; what is no weight stays as fine as it was."""
    weights = {id(w): nn.Parameter(w.detach().to(torch.bfloat16), requires_grad=False) for w in decoder.parameters()}
    return copy.deepcopy(decoder, dict(weights)).eval()


def open_decoder(
    name: str | Path, precision: str = "fp32", *, own: bool = True
) -> tuple[GPT2 | PreTrainedModel, FastTokenizer | PreTrainedTokenizerBase]:
    """A causal LM and its tokenizer, from a Hugging Face folder or the hub; an adapter with what it adds to.

    Args:
        name: folder or hub name.
        precision: of the weights: `fp32`, or `bf16`, which are not trained: small steps would be lost in rounding.
        own: GPT-2 as our module, where it is one; otherwise everything as transformers' modules.

    Raises:
        ValueError: it cannot be loaded, or weights are missing in it.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    try:
        folder = find_decoder(name)
        ours = own and GPT2.reads(folder)
        fast = ours and FastTokenizer.reads(folder)
        tokenizer = FastTokenizer.from_pretrained(folder) if fast else _their_tokenizer(name)
        decoder: Any
        decoder, missing = GPT2.from_pretrained(folder, dtype) if ours else _their_decoder(name, folder, dtype)
        if own and not missing and _is_gpt2(decoder):  # on its way from the hub, or in files of long ago
            decoder = GPT2.of(decoder)
    except Exception as error:  # each backend of each architecture raises its own kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"decoder {str(name)!r} cannot be loaded: {reason}; expected a Hugging Face causal LM, by folder or name"
        ) from error
    if missing:
        raise ValueError(f"decoder {str(name)!r} lacks {len(missing)} weights, among them {missing[0]}")
    if precision == "bf16":
        decoder.requires_grad_(False)
    return decoder, tokenizer


def _is_gpt2(decoder: Any) -> bool:
    """Whether transformers' module is one that we have too, without any additions."""
    plain = type(decoder).__name__ == "GPT2LMHeadModel" and not getattr(decoder, "peft_config", None)
    return plain and GPT2.knows(decoder.config.to_dict())


def _their_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """As transformers reads it."""
    from transformers import AutoTokenizer

    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(name))
    return found


def _their_decoder(name: str | Path, folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, list[str]]:
    """As transformers reads it, and the weights that it lacks."""
    from transformers import AutoConfig, AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if is_compact(folder):
        config = AutoConfig.from_pretrained(folder)
        kind: Any = AutoModelForCausalLM._model_mapping[type(config)]
        load = partial(kind.from_pretrained, None, config=config, state_dict=load_compact(folder), **options)
    else:
        load = partial(AutoModelForCausalLM.from_pretrained, str(name), **options)
    with only_downloads():
        decoder, report = load()
    return decoder, sorted(report["missing_keys"])


def _scratch(
    config: DecoderConfig, texts: Iterable[str], positions: int, vocabulary: Path | None
) -> tuple[GPT2 | PreTrainedModel, FastTokenizer | PreTrainedTokenizerBase]:
    if vocabulary is not None and vocabulary.exists():
        learned = Tokenizer.from_file(str(vocabulary))
    else:
        learned = _learn_vocabulary(texts, config.vocabulary_size or 0)
        if vocabulary is not None:
            write_text_whole(vocabulary, learned.to_str())
    tokenizer = FastTokenizer(learned, eos_token=END)
    width, layers, heads, dropout = config.hidden_size, config.layers, config.heads, config.dropout
    assert width is not None and layers is not None and heads is not None and dropout is not None  # noqa: PT018
    settings = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        activation_function="gelu",  # exact, and on a CPU several times faster than GPT-2's approximation of it
        # GPT-2's 0.02 is meant for widths of 768 and more; narrow ones learn faster from larger weights.
        initializer_range=width**-0.5,
        more={"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id},
    )
    return GPT2(settings), tokenizer


def _learn_vocabulary(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
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
    return tokenizer
