"""Steps: a decoder reads on from what it has read, and tells the logits of the token that comes next.

Knows nothing of how tokens are chosen.

`Steps` is for every Hugging Face causal LM. `GPT2Steps` is for our GPT-2: keys and values have their place before they
are known, and on a CPU the weights are laid out once as its products want them.

Shapes: B batch, T inputs, H GPT hidden size, V vocabulary, d width of a head.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from vec2text.gpt2 import GPT2, Block, Conv1D

_BLOCK = 32  # positions for which there is room at once
_MANY = 4  # rows from which on it pays to lay out weights in fp32
_FEW = 3  # rows from which on such weights are faster than those that are not laid out
_SEVERAL = 16  # rows from which on it pays to make keys and values fp32 for attention
_CACHED = 2**20  # numbers of keys, and as many of values, that are fp32 at once: 4 MiB each


def steps_of(decoder: Any) -> Steps | GPT2Steps:
    """What reads with a decoder.

    It is for inference: one that begins under `torch.inference_mode` goes on under it, and there are no gradients.

    Args:
        decoder: a causal LM in eval mode, our GPT-2 or a Hugging Face one; its weights stay as they are meanwhile.
    """
    return GPT2Steps(decoder) if isinstance(decoder, GPT2) else Steps(decoder)


class Steps:
    """Any decoder, with transformers' modules and cache."""

    def __init__(self, decoder: Any) -> None:
        from transformers import DynamicCache

        self.decoder, self.cache = decoder, DynamicCache(config=decoder.config)
        self.head = decoder.get_output_embeddings()

    def states(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states of `inputs` (B, T, H), of the same shape.

        Args:
            inputs: what is read after all that was read before.
            mask: of all that has been read with it, (B, all): 1, and 0 where there is padding; None: there is none.
        """
        padded = (
            {} if mask is None else {"attention_mask": mask, "position_ids": places_of(mask)[:, -inputs.shape[1] :]}
        )
        output = self.decoder.base_model(inputs_embeds=inputs, past_key_values=self.cache, use_cache=True, **padded)
        found: torch.Tensor = output.last_hidden_state
        return found

    def logits(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Of the token after `inputs` (B, T, H), as coarse as the decoder: (B, V)."""
        # The output layer on (B, H): of a slice (B, 1, H) a matrix product would copy the layer's weights B times.
        found: torch.Tensor = self.head(self.states(inputs, mask)[:, -1])
        return found

    def keep(self, rows: torch.Tensor, since: torch.Tensor | None = None) -> None:
        """Go on with these rows of the batch, in this order; one may come more than once.

        Args:
            rows: (B,).
            since: (B,) how many of all inputs the row that comes to a place shares with the one that was there; None:
                nobody knows.
        """
        self.cache.batch_select_indices(rows)

    def join(self, other: Any) -> None:
        """Take in the rows of another reader of the same decoder that has read as much, after the own ones."""
        pairs: Any = zip(self.cache.layers, other.cache.layers, strict=True)
        for own, more in pairs:
            own.keys, own.values = torch.cat([own.keys, more.keys]), torch.cat([own.values, more.values])

    def fork(self, rows: torch.Tensor, count: int) -> Steps:
        """Another reader, which has read the first `count` inputs of these rows and goes on by itself."""
        found = copy.copy(self)
        found.cache = copy.deepcopy(self.cache)
        if surplus := found.cache.get_seq_length() - count:
            found.cache.crop(-surplus)
        found.keep(rows)
        return found


class GPT2Steps:
    """Our GPT-2."""

    def __init__(self, decoder: GPT2) -> None:
        body, config = decoder.transformer, decoder.config
        self.read = self.batch = 0
        self.memory: list[torch.Tensor] = []  # of each layer keys and values, (2, B or more, room, heads, d)
        self.heads, self.eps = config.n_head, config.layer_norm_epsilon
        self.positions, self.last = body.wpe.weight, body.ln_f
        self.layers = [_Layer(block) for block in body.blocks]
        self.head = _Linear(decoder.lm_head.weight, None, transposed=False)
        self.linear = [self.head, *(one for layer in self.layers for one in layer.linear)]

    def states(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """As of `Steps`."""
        batch, count, width = inputs.shape
        start, stop = self.read, self.read + count
        coarser = torch.is_autocast_enabled(inputs.device.type)  # than the weights, and faster
        if inputs.dtype == torch.bfloat16 or (batch >= _MANY and not coarser):
            for linear in self.linear:
                linear.lay_out()
        if mask is None:
            hidden, allowed = inputs + self.positions[start:stop], None
        else:
            hidden = inputs + self.positions[places_of(mask)[:, -count:]]
            allowed = mask[:, None, None, :].bool()  # (B, 1, 1, read + T)
            if count > 1:
                allowed = allowed & torch.ones(count, stop, dtype=torch.bool, device=mask.device).tril(start)
        hidden = hidden.reshape(batch * count, width)
        causal = mask is None and count > 1
        if causal and start:  # after what was read; torch's own causal mask begins with it
            allowed = torch.ones(count, stop, dtype=torch.bool, device=inputs.device).tril(start)
            causal = False
        # With AMX fp32 takes longer: measured on both kinds of CPU.
        slow = inputs.dtype == torch.bfloat16 and inputs.device.type == "cpu" and not torch.cpu._is_amx_tile_supported()
        in_fp32 = slow and count == 1 and batch >= _SEVERAL and not coarser
        self.batch = batch
        for place, layer in enumerate(self.layers):
            normal = F.layer_norm(hidden, (width,), layer.norm_1.weight, layer.norm_1.bias, self.eps)
            parts = layer.attend(normal).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            query, (keys, values) = parts[0], self._remember(place, parts[1:])  # (B, heads, T or all, d)
            if in_fp32:
                mixed = _attend_in_fp32(query, keys, values, allowed, layer.scale)
            else:
                mixed = F.scaled_dot_product_attention(
                    query, keys, values, allowed, is_causal=causal, scale=layer.scale
                )
            mixed = mixed.transpose(1, 2).reshape(batch * count, width)
            hidden = hidden + layer.project(mixed)
            normal = F.layer_norm(hidden, (width,), layer.norm_2.weight, layer.norm_2.bias, self.eps)
            hidden = hidden + layer.narrow(layer.activate(layer.widen(normal)))
        self.read = stop
        last = F.layer_norm(hidden, (width,), self.last.weight, self.last.bias, self.eps)
        return last.view(batch, count, width)

    def logits(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """As of `Steps`."""
        return self.head(self.states(inputs, mask)[:, -1])

    def keep(self, rows: torch.Tensor, since: torch.Tensor | None = None) -> None:
        """As of `Steps`; what stays in its place costs nothing."""
        device = rows.device
        if len(rows) > self.batch:
            self.memory = self._of(rows, self.read)
        elif len(moved := (rows != torch.arange(len(rows), device=device)).nonzero().squeeze(-1)):
            begin = torch.zeros_like(moved) if since is None else since[moved]
            some, column = (torch.arange(self.read, device=device) >= begin.unsqueeze(1)).nonzero().unbind(1)  # (n,)
            _, most, room, heads, width = self.memory[0].shape
            part = torch.arange(2, device=device).view(2, 1)
            to, of = (
                ((part * most + row) * room + column).flatten()  # (2 * n,)
                for row in (moved[some], rows[moved][some])
            )
            for memory in self.memory:
                vectors = memory.view(-1, heads * width)
                vectors.index_copy_(0, to, vectors.index_select(0, of))
        self.batch = len(rows)

    def join(self, other: Any) -> None:
        """As of `Steps`."""
        batch = self.batch + other.batch
        for place, (memory, more) in enumerate(zip(self.memory, other.memory, strict=True)):
            if batch > memory.shape[1]:
                wider = memory.new_empty(2, max(batch, 2 * memory.shape[1]), *memory.shape[2:])
                wider[:, : self.batch, : self.read] = memory[:, : self.batch, : self.read]
                self.memory[place] = memory = wider
            memory[:, self.batch : batch, : self.read] = more[:, : other.batch, : self.read]
        self.batch = batch

    def fork(self, rows: torch.Tensor, count: int) -> GPT2Steps:
        """As of `Steps`."""
        found = copy.copy(self)
        found.read, found.batch, found.memory = count, len(rows), self._of(rows, count)
        return found

    def _of(self, rows: torch.Tensor, count: int) -> list[torch.Tensor]:
        """Of each layer the first `count` keys and values of these rows, with as much room as there was."""
        copies = []
        for memory in self.memory:
            copies.append(memory.new_empty(2, len(rows), *memory.shape[2:]))
            copies[-1][:, :, :count] = memory[:, :, :count].index_select(1, rows)
        return copies

    def _remember(self, place: int, fresh: torch.Tensor) -> torch.Tensor:
        """All keys and values of a layer, (2, B, heads, read + T, d), with fresh ones (2, B, heads, T, d).

        The heads of a position lie beside each other in memory, so that what a step adds to a row is in one piece.
        """
        fresh, stop = fresh.transpose(2, 3), self.read + fresh.shape[3]  # (2, B, T, heads, d)
        room = -(-stop // _BLOCK) * _BLOCK
        if place == len(self.memory):
            self.memory.append(fresh.new_empty(*fresh.shape[:2], room, *fresh.shape[3:]))
        memory = self.memory[place]
        if stop > memory.shape[2]:
            self.memory[place] = fresh.new_empty(*fresh.shape[:2], room, *fresh.shape[3:])
            self.memory[place][:, :, : self.read] = memory[:, : self.batch, : self.read]
            memory = self.memory[place]
        memory[:, : self.batch, self.read : stop] = fresh
        return memory[:, : self.batch, :stop].transpose(2, 3)


def _attend_in_fp32(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, allowed: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """Attention of bf16 of one query a row on a CPU: torch takes up to three times as long for it in bf16 as in fp32.

    To keep all keys and values in fp32 would be twice as much to read. So they become it a few rows at a time, which
    the processor's cache holds.

    Args:
        query: (B, heads, 1, d).
        keys: (B, heads, T, d), as values are.
        values: of the keys.
        allowed: (B, 1, 1, T) which of them count; None: all.
        scale: of the scores.
    """
    size, found = max(1, _CACHED // keys[0].numel()), []
    for start in range(0, len(query), size):
        some = slice(start, start + size)
        own_query, own_keys, own_values = (one[some].float() for one in (query, keys, values))
        mask = None if allowed is None else allowed[some]
        found.append(F.scaled_dot_product_attention(own_query, own_keys, own_values, mask, scale=scale))
    return torch.cat(found).to(query.dtype)


class _Layer:
    """What a layer of GPT-2 does."""

    def __init__(self, block: Block) -> None:
        self.norm_1, self.norm_2, self.scale = block.ln_1, block.ln_2, block.attn.scale
        self.attend, self.project = _linear(block.attn.c_attn), _linear(block.attn.c_proj)
        self.widen, self.activate, self.narrow = _linear(block.mlp.c_fc), block.mlp.act, _linear(block.mlp.c_proj)
        self.linear = [self.attend, self.project, self.widen, self.narrow]


_LAID_OUT = WeakTensorKeyDictionary()  # weights on a CPU: their mark, and they as its products want them


def _lays_out(dtype: torch.dtype) -> bool:
    """Whether this CPU and this torch have products of weights of this type that are laid out for them."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _mark(weight: torch.Tensor) -> tuple[int | None, float]:
    """What changes when a weight does."""
    if weight.is_inference():
        return None, float(weight.sum(dtype=torch.float32))
    # Optimisers may change a weight and not its version; one without gradient they leave alone.
    return weight._version, float(weight.sum(dtype=torch.float32)) if weight.requires_grad else 0.0


class _Linear:
    """A matrix product and a bias; on a CPU with weights that can be laid out for it once, not in each product."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, transposed: bool) -> None:
        self.given, self.weight, self.bias = weight, weight.t() if transposed else weight, bias
        self.laid_out: torch.Tensor | None = None
        self.least = _FEW if weight.dtype == torch.float32 else 0

    def lay_out(self) -> None:
        """Do so, unless it is done or cannot be."""
        weight = self.given
        if self.laid_out is not None or weight.device.type != "cpu" or not _lays_out(weight.dtype):
            return
        mark = _mark(weight)
        known, self.laid_out = _LAID_OUT.get(weight, (None, None))
        if known != mark:
            self.laid_out = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous())
            _LAID_OUT[weight] = (mark, self.laid_out)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.laid_out is None or len(inputs) < self.least:
            return F.linear(inputs, self.weight, self.bias)
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.laid_out, self.bias, "none", [], "")
        return found


def _linear(layer: Conv1D) -> _Linear:
    return _Linear(layer.weight, layer.bias, transposed=True)


def places_of(mask: torch.Tensor) -> torch.Tensor:
    """Where each input stands among those that count: (B, all), from a mask that is 0 where there is padding."""
    return (mask.cumsum(1) - 1).clamp(min=0)
