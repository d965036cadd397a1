"""Our GPT-2 is that of transformers: the same numbers, the same gradients, the same files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import as_transformers
from transformers import AutoModelForCausalLM, GPT2LMHeadModel
from transformers import GPT2Config as TheirConfig

from vec2text.decoders import open_decoder
from vec2text.gpt2 import GPT2, GPT2Config
from vec2text.steps import places_of
from vec2text.tokenizer import FastTokenizer

BOTH = ("lm_head.weight", "transformer.wte.weight")

SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64, "initializer_range": 0.2}
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [1, 0, 0, 1, 1]])


def gpt2(**options):
    torch.manual_seed(0)
    return GPT2(GPT2Config(**SIZES | {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0} | options))


def read(decoder, mask):
    """Logits where there is no padding, and the gradients of all weights."""
    inputs = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(1))
    masked = {} if mask is None else {"attention_mask": mask, "position_ids": places_of(mask)}
    logits = decoder(inputs_embeds=inputs, use_cache=False, **masked).logits
    found = logits[torch.ones(3, 5, dtype=torch.bool) if mask is None else mask.bool()]
    decoder.zero_grad()
    found.square().mean().backward()
    return found, {name: weight.grad for name, weight in decoder.named_parameters()}


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"},
        {"scale_attn_weights": False, "activation_function": "relu", "n_inner": 48},
        {"tie_word_embeddings": False, "activation_function": "silu"},
    ],
)
def test_logits_and_gradients_are_those_of_transformers(options, attention, mask):
    ours = gpt2(**options)
    theirs = as_transformers(ours)
    ours.set_attn_implementation(attention)
    found, gradients = read(ours, mask)
    expected, their_gradients = read(theirs, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        if name != "transformer.wte.weight" or not ours.config.tie_word_embeddings:
            torch.testing.assert_close(gradient, their_gradients[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_under_autocast_they_differ_by_the_rounding_of_bf16(attention):
    decoder = gpt2()
    exact, _ = read(decoder, MASK)
    decoder.set_attn_implementation(attention)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = read(decoder, MASK)
    torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.1)


def test_checkpointing_changes_no_gradient():
    plain, checkpointed = gpt2().train(), gpt2().train()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    kept = []
    checkpointed.transformer.h[0].register_forward_pre_hook(lambda *_: kept.append(None))
    for name, gradient in read(checkpointed, MASK)[1].items():
        torch.testing.assert_close(gradient, read(plain, MASK)[1][name])
    assert len(kept) == 2  # read again on the way back


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("place", ["attn_pdrop", "embd_pdrop", "resid_pdrop"])
def test_dropout_is_for_training(place, attention):
    decoder = gpt2(**{place: 0.5})
    decoder.set_attn_implementation(attention)
    torch.testing.assert_close(read(decoder.eval(), None)[0], read(gpt2(), None)[0], atol=1e-5, rtol=1e-4)
    decoder.train()
    assert not torch.allclose(read(decoder, None)[0], read(decoder, None)[0], atol=0.1)


def test_random_weights_are_spread_as_those_of_transformers():
    sizes = {"n_embd": 256, "n_layer": 3, "n_head": 4, "vocab_size": 500}
    ours, theirs = GPT2(GPT2Config(**sizes)), GPT2LMHeadModel(TheirConfig(**sizes))
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, weight in ours.state_dict().items():
        assert weight.shape == expected[name].shape
        torch.testing.assert_close(weight.std(), expected[name].std(), atol=1e-3, rtol=0.05)
        torch.testing.assert_close(weight.mean(), expected[name].mean(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_saved_it_is_read_by_transformers_and_by_us(tied, tmp_path):
    ours = gpt2(tie_word_embeddings=tied, more={"eos_token_id": 7, "summary_type": "last"})
    ours.save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(theirs) is GPT2LMHeadModel
    assert theirs.config.summary_type == "last"
    assert theirs.config.eos_token_id == 7
    again, missing = GPT2.from_pretrained(tmp_path, torch.float32)
    assert not missing
    assert not again.training
    assert (again.lm_head.weight is again.transformer.wte.weight) == tied
    for other in (theirs, again):
        assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in ours.state_dict().items())
    assert again.num_parameters() == theirs.num_parameters()
    assert again.config.to_dict() == ours.config.to_dict() | {"dtype": "float32"}


def test_files_of_transformers_are_read_in_one_piece_in_several_and_without_the_first_name(tmp_path):
    theirs = as_transformers(gpt2())
    expected = theirs.state_dict()
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "several", max_shard_size="20KB")
    theirs.save_pretrained(tmp_path / "bare")
    assert len(list((tmp_path / "several").glob("*.safetensors"))) > 2
    bare = {name.removeprefix("transformer."): weight for name, weight in expected.items() if "lm_head" not in name}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)  # a mask, in files of long ago
    save_file(bare, tmp_path / "bare" / "model.safetensors", metadata={"format": "pt"})
    for name in ("one", "several", "bare"):
        decoder, _ = open_decoder_of(tmp_path / name)
        assert all(torch.equal(weight, decoder.state_dict()[key]) for key, weight in expected.items())


def open_decoder_of(folder):
    assert GPT2.reads(folder)
    decoder, missing = GPT2.from_pretrained(folder, torch.float32)
    assert not missing
    return decoder, missing


def test_bf16_weights_stay_so(tmp_path):
    gpt2().bfloat16().save_pretrained(tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert GPT2.from_pretrained(tmp_path, torch.bfloat16)[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    "change",
    [
        {"add_cross_attention": True},
        {"reorder_and_upcast_attn": True},
        {"activation_function": "mish"},
        {"architectures": ["GPT2Model"]},
        {"model_type": "llama"},
        {"quantization_config": {"bits": 4}},
        {"num_attention_heads": 2},
    ],
)
def test_what_it_does_not_know_goes_to_transformers(change, tmp_path):
    gpt2().save_pretrained(tmp_path)
    assert GPT2.reads(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert not GPT2.reads(tmp_path)


@pytest.mark.parametrize("keep", ["both", "lm_head.weight", "transformer.wte.weight"])
def test_matrices_that_a_file_has_two_of_are_tied_only_where_they_are_the_same(keep, tmp_path):
    ours = gpt2(tie_word_embeddings=keep != "both")
    ours.save_pretrained(tmp_path)
    if keep == "both":
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    else:
        weights = {name: weight for name, weight in ours.state_dict().items() if name not in BOTH or name == keep}
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    decoder, missing = GPT2.from_pretrained(tmp_path, torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert not missing
    for name, weight in decoder.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name])
        assert torch.equal(weight, theirs[name])
    assert decoder.config.tie_word_embeddings == (keep != "both")


def test_one_file_is_read_before_what_several_left_behind(tmp_path):
    as_transformers(gpt2()).save_pretrained(tmp_path, max_shard_size="20KB")
    newer = gpt2(initializer_range=0.1)
    newer.save_pretrained(tmp_path)
    decoder, _ = GPT2.from_pretrained(tmp_path, torch.float32)
    assert torch.equal(decoder.lm_head.weight, newer.lm_head.weight)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_transformers_had_to_open_becomes_ours_where_it_can(gpt2, tmp_path, precision):
    """Files that are on their way from the hub, or of a kind that we do not read."""
    theirs = GPT2LMHeadModel.from_pretrained(gpt2)
    theirs.config.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    open_decoder(gpt2)[1].save_pretrained(tmp_path)
    decoder, tokenizer = open_decoder(tmp_path, precision)
    assert type(decoder) is GPT2
    assert type(tokenizer) is not FastTokenizer
    assert not decoder.training
    assert decoder.lm_head.weight is decoder.transformer.wte.weight
    assert {weight.requires_grad for weight in decoder.parameters()} == {precision == "fp32"}
    for name, weight in decoder.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name].to(decoder.dtype))
    assert type(open_decoder(gpt2, own=False)[0]) is GPT2LMHeadModel


def test_logits_of_the_last_positions_alone():
    decoder, inputs = gpt2().eval(), torch.randn(2, 5, 32)
    whole = decoder(inputs_embeds=inputs).logits
    torch.testing.assert_close(decoder(inputs_embeds=inputs, logits_to_keep=2).logits, whole[:, -2:])


def test_where_there_is_no_gpt2_it_reads_none(tmp_path):
    assert not GPT2.reads(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert not GPT2.reads(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert not GPT2.reads(tmp_path)
    gpt2().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert not GPT2.reads(tmp_path)


def test_weights_of_another_shape_are_refused(gpt2, tmp_path):
    decoder, tokenizer = open_decoder(gpt2)
    decoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_positions": 65}))
    with pytest.raises(ValueError, match=r"cannot be loaded: transformer.wpe.weight has the shape \(64, 32\); .*65"):
        open_decoder(tmp_path)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="n_embd is 32; expected a multiple of n_head 5"):
        gpt2(n_head=5)


@pytest.mark.parametrize("tied", [True, False])
def test_more_tokens_begin_as_the_mean_of_the_others(tied):
    decoder = gpt2(tie_word_embeddings=tied)
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    decoder.resize_token_embeddings(53)
    for name in ("transformer.wte.weight", "lm_head.weight"):
        after = decoder.state_dict()[name]
        assert torch.equal(after[:50], before[name])
        torch.testing.assert_close(after[50:], before[name].mean(0).expand(3, -1))
    assert (decoder.lm_head.weight is decoder.transformer.wte.weight) == tied
    assert decoder.config.vocab_size == decoder.get_input_embeddings().num_embeddings == 53
    assert decoder(inputs_embeds=torch.zeros(1, 2, 32)).logits.shape == (1, 2, 53)
