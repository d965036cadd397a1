"""Tokens: what transformers' own call gives, for every kind of tokenizer."""

import numpy as np
import pytest
import torch
from small_models import DECODERS
from transformers import AutoTokenizer

from vec2text.tokens import padded, token_ids, tokenise

TEXTS = ["the cat sat on a mat", "", "a", "an émigré, naïve: 12 <tags> and  spaces", "the " * 40]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory, labse, sentences):
    folder = tmp_path_factory.mktemp("tokenizers")
    found = {"bert": AutoTokenizer.from_pretrained(str(labse))}
    for name in ("gpt2", "qwen3", "mistral"):
        found[name] = AutoTokenizer.from_pretrained(str(DECODERS[name](folder / name, sentences)))
        found[name].pad_token = found[name].pad_token or found[name].eos_token
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "qwen3", "mistral"])
def test_batches_are_those_of_transformers(tokenizers, name, side):
    tokenizer = tokenizers[name]
    tokenizer.padding_side = side
    expected = tokenizer(TEXTS, padding=True, truncation=True, max_length=20, return_tensors="pt")
    found = padded(tokenizer, tokenise(tokenizer, TEXTS, 20))
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert torch.equal(found[key], values), key


@pytest.mark.parametrize("name", ["bert", "gpt2", "qwen3", "mistral"])
def test_ids_are_those_of_transformers_also_after_batches_were_cut(tokenizers, name):
    tokenizer = tokenizers[name]
    tokenise(tokenizer, TEXTS, 3)
    expected = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    tokenise(tokenizer, TEXTS, 3)
    assert token_ids(tokenizer, TEXTS) == expected


def test_a_tokenizer_in_python_is_asked_itself():
    class Slow:
        is_fast = False

        def __call__(self, texts, **options):
            assert options["add_special_tokens"] is False
            return {"input_ids": [[len(text)] for text in texts]}

    assert token_ids(Slow(), ["a", "bc"]) == [[1], [2]]


def test_without_a_limit_nothing_is_cut(tokenizers):
    rows = tokenise(tokenizers["gpt2"], ["the " * 400], None)
    assert np.array(rows[0].ids).size > 300
