"""GPT-2: its architecture, with the names and files that transformers gives it, but without importing transformers.

That import takes twice as long as torch's, which is most of what a first text costs. Only what this package asks of a
decoder is here; what `GPT2.reads` refuses goes to transformers. Radford et al., 2019, "Language models are unsupervised
multitask learners".

Knows nothing of prefixes, or of how tokens are chosen.

Shapes: B batch, T positions, H GPT hidden size, V vocabulary, d width of a head.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vec2text.compact import is_compact, load_compact

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}
_NOT_HERE = (
    *("add_cross_attention", "reorder_and_upcast_attn", "quantization_config", "auto_map"),
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"),  # other names of sizes
)
_CONFIG, _INDEX, _WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class GPT2Config:
    """The sizes, by the names that they have in config.json."""

    model_type: ClassVar[str] = "gpt2"
    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    """Width between the two matrices of a layer's perceptron; None: four times n_embd."""
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    more: dict[str, Any] = field(default_factory=dict)
    """What else the file says; it is kept."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What a config.json holds."""
        known = {one.name for one in fields(cls)} - {"more"}
        more = {name: value for name, value in values.items() if name not in known}
        return cls(**{name: value for name, value in values.items() if name in known}, more=more)

    def to_dict(self) -> dict[str, Any]:
        """What a config.json of it holds, for transformers too."""
        own = asdict(self)
        more = own.pop("more")
        return {"architectures": ["GPT2LMHeadModel"]} | more | {"model_type": self.model_type} | own

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        (Path(folder) / _CONFIG).write_text(text, encoding="utf-8")

    # By the names that other architectures use.
    @property
    def max_position_embeddings(self) -> int:
        """Prefix and text together, in tokens, at most."""
        return self.n_positions

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.n_embd

    @property
    def num_hidden_layers(self) -> int:
        """Layers."""
        return self.n_layer

    @property
    def num_attention_heads(self) -> int:
        """Heads of a layer."""
        return self.n_head


@dataclass(frozen=True)
class Output:
    """What the GPT makes of its inputs."""

    last_hidden_state: torch.Tensor
    """(B, T, H)."""
    logits: torch.Tensor | None = None
    """(B, T, V)."""


class Conv1D(nn.Module):
    """A matrix product and a bias; GPT-2 keeps the matrix the other way round than nn.Linear does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T, inputs) to (B, T, outputs)."""
        return F.linear(inputs, self.weight.t(), self.bias)


class Table(nn.Embedding):
    """Embeddings that are not given random numbers twice."""

    def reset_parameters(self) -> None:
        """`GPT2` does."""


class Head(nn.Linear):
    """An output layer that is not given random numbers twice."""

    def reset_parameters(self) -> None:
        """`GPT2` does."""


class Attention(nn.Module):
    """Each position reads those before it, and itself."""

    def __init__(self, config: GPT2Config, place: int) -> None:
        super().__init__()
        self.heads, self.attn_dropout = config.n_head, nn.Dropout(config.attn_pdrop)
        self.scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= place + 1
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None, plain: bool) -> torch.Tensor:
        """See `Body.forward`; the mask (1 or B, 1, T, T) is added to the scores where attention is plain."""
        batch, count, width = inputs.shape
        parts = self.c_attn(inputs).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, keys, values = parts.unbind()  # (B, heads, T, d)
        if plain:
            assert mask is not None
            scores = query @ keys.mT * self.scale + mask
            mixed = self.attn_dropout(scores.softmax(-1).to(values.dtype)) @ values
        else:
            causal, dropout = mask is None, self.attn_dropout.p if self.training else 0.0
            mixed = F.scaled_dot_product_attention(query, keys, values, mask, dropout, causal, scale=self.scale)
        found: torch.Tensor = self.c_proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return found


class Perceptron(nn.Module):
    """Widened, bent and narrowed."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.act = _ACTIVATIONS[config.activation_function]
        self.c_fc, self.c_proj = Conv1D(config.n_embd, inner), Conv1D(inner, config.n_embd)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T, H) to (B, T, H)."""
        found: torch.Tensor = self.c_proj(self.act(self.c_fc(inputs)))
        return found


class Block(nn.Module):
    """A layer."""

    def __init__(self, config: GPT2Config, place: int) -> None:
        super().__init__()
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, place)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = Perceptron(config)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None, plain: bool) -> torch.Tensor:
        """See `Body.forward`."""
        hidden = hidden + self.resid_dropout(self.attn(self.ln_1(hidden), mask, plain))
        added: torch.Tensor = self.resid_dropout(self.mlp(self.ln_2(hidden)))
        return hidden + added


class Body(nn.Module):
    """All but the output layer."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.plain = self.checkpointed = False
        self.drop = nn.Dropout(config.embd_pdrop)
        self.wte = Table(config.vocab_size, config.n_embd)
        self.wpe = Table(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, place) for place in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    @property
    def blocks(self) -> Iterator[Block]:
        """The layers, in order."""
        for block in self.h:
            assert isinstance(block, Block)
            yield block

    def forward(
        self,
        *,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        use_cache: bool = False,
    ) -> Output:
        """Read all inputs at once; step by step: `steps`.

        Args:
            inputs_embeds: (B, T, H).
            attention_mask: (B, T) 1, and 0 where there is padding; None: there is none.
            position_ids: (B, T) the place of each input; None: one after another.
            use_cache: nothing is kept.
        """
        assert not use_cache
        count, device = inputs_embeds.shape[1], inputs_embeds.device
        places = self.wpe.weight[:count] if position_ids is None else self.wpe(position_ids)
        hidden = self.drop(inputs_embeds + places)
        mask = None
        if self.plain or attention_mask is not None:
            mask = torch.ones(count, count, dtype=torch.bool, device=device).tril()[None, None]  # (1, 1, T, T)
            if attention_mask is not None:
                mask = mask & attention_mask[:, None, None, :].bool()  # (B, 1, T, T)
        if mask is not None and self.plain:
            lowest = torch.finfo(torch.bfloat16).min  # of every type that scores can have
            mask = torch.zeros(mask.shape, device=device).masked_fill_(~mask, lowest)
            mask = mask.to(
                torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else hidden.dtype
            )
        for block in self.blocks:
            if self.checkpointed and self.training:
                hidden = checkpoint(block, hidden, mask, self.plain, use_reentrant=False)
            else:
                hidden = block(hidden, mask, self.plain)
        return Output(self.ln_f(hidden))


class GPT2(nn.Module):
    """GPT-2 with its output layer; with random weights, until others are loaded."""

    _supports_sdpa = True

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        if config.n_embd % config.n_head:
            raise ValueError(f"n_embd is {config.n_embd}; expected a multiple of n_head {config.n_head}")
        self.config, self.transformer = config, Body(config)
        self.lm_head = Head(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        if self.device.type != "meta":
            self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Normal weights; those that end a layer smaller, the deeper the GPT, as what they add to grows."""
        spread = self.config.initializer_range
        for name, module in self.named_modules():
            if isinstance(module, (nn.Embedding, nn.Linear, Conv1D)):
                narrow = 1 / math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj") else 1.0
                module.weight.normal_(std=spread * narrow)
            if isinstance(module, Conv1D):
                module.bias.zero_()

    def forward(self, *, logits_to_keep: int = 0, **inputs: Any) -> Output:
        """Logits too, of the last so many positions, 0 being all; the other arguments are those of `Body.forward`."""
        hidden = self.transformer(**inputs).last_hidden_state
        return Output(hidden, self.lm_head(hidden[:, -logits_to_keep:]))

    # -- what is asked of every decoder, under the names that transformers gives it ----------------------------------

    @property
    def base_model(self) -> Body:
        """All but the output layer."""
        return self.transformer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.wte.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.transformer.wte.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """Of the tokens."""
        return self.transformer.wte

    def get_output_embeddings(self) -> nn.Linear:
        """The output layer."""
        return self.lm_head

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers it has learned, or is to learn."""
        return sum(one.numel() for one in self.parameters() if one.requires_grad or not only_trainable)

    def set_attn_implementation(self, name: str) -> None:
        """`eager`: attention as plain products, or `sdpa`: torch's own."""
        assert name in ("eager", "sdpa")
        self.transformer.plain = name == "eager"

    def gradient_checkpointing_enable(self, _: Any = None) -> None:
        """Keep one tensor a layer for the backward pass and make the others again."""
        self.transformer.checkpointed = True

    @torch.no_grad()
    def resize_token_embeddings(self, count: int) -> None:
        """Have embeddings and logits of so many tokens; new ones begin as the mean of the others."""
        self.config = GPT2Config.from_dict(self.config.to_dict() | {"vocab_size": count})
        tables: list[Any] = [self.transformer.wte, self.lm_head]
        wider = {}
        for weight in {id(table.weight): table.weight for table in tables}.values():
            mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
            rows = torch.cat([weight, mean.expand(max(0, count - len(weight)), -1)])[:count].clone()
            wider[id(weight)] = nn.Parameter(rows, requires_grad=weight.requires_grad)
        for table in tables:
            table.weight = wider[id(table.weight)]
        self.transformer.wte.num_embeddings = self.lm_head.out_features = count

    # -- files ---------------------------------------------------------------------------------------------------

    @staticmethod
    def reads(folder: Path) -> bool:
        """Whether a folder holds a GPT-2 as this module knows it."""
        try:
            values = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(values, dict) or (folder / "adapter_config.json").exists():
            return False
        weights = is_compact(folder) or any((folder / name).exists() for name in (_INDEX, _WEIGHTS))
        return weights and GPT2.knows(values)

    @staticmethod
    def knows(config: dict[str, Any]) -> bool:
        """Whether a config.json is of a GPT-2 as this module knows it."""
        plain = config.get("model_type") == "gpt2" and config.get("architectures") == ["GPT2LMHeadModel"]
        activation = config.get("activation_function", "gelu_new")
        return plain and activation in _ACTIVATIONS and not any(map(config.get, _NOT_HERE))

    @classmethod
    def of(cls, theirs: Any) -> Self:
        """Transformers' module, whose config `knows` says yes to, as ours, with the same weights."""
        with torch.device("meta"):
            found = cls(GPT2Config.from_dict(theirs.config.to_dict()))
        found._load(theirs.state_dict())
        return found.train(theirs.training)

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype) -> tuple[Self, list[str]]:
        """The GPT-2 in a folder, and the names of the weights that are missing there; if any are, it holds none at all.

        Args:
            folder: such that `reads` says yes.
            dtype: of the weights.

        Raises:
            Exception: files are broken, or weights of another shape than config.json says.
        """
        config = GPT2Config.from_dict(json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
        found = {}
        for name, weight in _weights(folder).items():
            whole = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
            found[whole] = weight.to(dtype)
        head, words = "lm_head.weight", "transformer.wte.weight"
        if config.tie_word_embeddings and (head in found or words in found):
            found.setdefault(words, found.get(head, torch.empty(0)))
            found.setdefault(head, found[words])
            if not torch.equal(found[head], found[words]):  # whatever the config says
                config = replace(config, tie_word_embeddings=False)
        with torch.device("meta"):
            decoder = cls(config)
        wanted = {name: weight.shape for name, weight in decoder.state_dict().items()}
        for name, shape in wanted.items():
            if name in found and found[name].shape != shape:
                raise ValueError(f"{name} has the shape {tuple(found[name].shape)}; expected {tuple(shape)}")
        missing = sorted(wanted.keys() - found.keys())
        if not missing:
            decoder._load({name: found[name] for name in wanted})
        return decoder.eval(), missing

    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take these for the weights, which are on no device yet."""
        self.load_state_dict(weights, assign=True)
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        self.requires_grad_(True)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and the weights, as transformers reads them too."""
        dtype = str(self.dtype).removeprefix("torch.")
        GPT2Config.from_dict(self.config.to_dict() | {"dtype": dtype}).save_pretrained(folder)
        weights = {name: weight.contiguous() for name, weight in self.state_dict().items()}
        if self.lm_head.weight is self.transformer.wte.weight:
            del weights["lm_head.weight"]
        save_file(weights, Path(folder) / _WEIGHTS, metadata={"format": "pt"})


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    """All that are in a folder, by name."""
    if is_compact(folder):
        return load_compact(folder)
    names = [_WEIGHTS]
    if not (folder / _WEIGHTS).exists():
        names = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    return {name: weight for file in names for name, weight in load_file(folder / file).items()}
