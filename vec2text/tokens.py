"""Tokens: texts as a fast tokenizer's ids, and batches of them as a transformer reads them.

Knows nothing of models. transformers' own call does the same with a loop of Python over every token.

Shapes: N texts, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Encoding

from vec2text.tokenizer import FastTokenizer

if TYPE_CHECKING:  # seconds of import
    from transformers import PreTrainedTokenizerBase


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int | None) -> list[Encoding]:
    """Each text with the special tokens that the tokenizer adds.

    Args:
        tokenizer: a fast one.
        texts: N.
        limit: longer ones are cut to this many tokens; None: none is.
    """
    backend: Any = tokenizer.backend_tokenizer
    backend.no_padding()
    if limit is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(limit, direction=tokenizer.truncation_side)
    found: list[Encoding] = backend.encode_batch_fast(list(texts))
    return found


def token_ids(tokenizer: FastTokenizer | PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, without special ones and however many they are."""
    if not getattr(tokenizer, "is_fast", False):
        found: Any = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return list(found["input_ids"])
    backend: Any = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return [row.ids for row in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def padded(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoding]) -> dict[str, torch.Tensor]:
    """Texts as inputs of the tokenizer's model, each (N, T), filled up with padding on the tokenizer's side."""
    ids = [row.ids for row in rows]
    lengths = np.fromiter(map(len, ids), int, len(ids))[:, None]
    places, shift = np.arange(lengths.max()), lengths.max() - lengths if tokenizer.padding_side == "left" else 0
    mask = (places >= shift) & (places < shift + lengths)
    found = {"attention_mask": torch.from_numpy(mask.astype(np.int64))}
    parts = {"input_ids": (ids, tokenizer.pad_token_id or 0)}
    if "token_type_ids" in tokenizer.model_input_names:
        parts["token_type_ids"] = ([row.type_ids for row in rows], tokenizer.pad_token_type_id)
    for name, (values, filler) in parts.items():
        inputs = np.full(mask.shape, filler, np.int64)
        inputs[mask] = np.fromiter(chain.from_iterable(values), np.int64)
        found[name] = torch.from_numpy(inputs)
    return found
