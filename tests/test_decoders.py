import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from vec2text import Fingerprint, Inverter, decoders
from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.decoders import END, in_bf16, layers_of, load_decoder, open_decoder

SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary_size": 400, "dropout": 0.0}


def test_a_scratch_tokenizer_writes_every_text_back_to_the_letter(sentences):
    _, tokenizer = load_decoder(DecoderConfig("scratch", **SCRATCH), sentences, 40)
    for text in [sentences[5], "Ünïcode, кириллица и 漢字!", "tabs\tand  spaces ", "don 't . stop"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_scratch_gpt_has_the_sizes_that_were_asked_for(sentences):
    decoder, tokenizer = load_decoder(DecoderConfig("scratch", **SCRATCH), sentences, 40)
    assert (decoder.config.n_embd, decoder.config.n_layer, decoder.config.n_head) == (32, 2, 2)
    assert decoder.config.n_positions == 40
    assert decoder.get_input_embeddings().num_embeddings == len(tokenizer) <= 400
    assert tokenizer.eos_token == END


def test_a_saved_gpt2_loads_with_its_own_weights(gpt2):
    decoder, _ = load_decoder(DecoderConfig(str(gpt2)), [], 40)
    saved = GPT2LMHeadModel.from_pretrained(gpt2)
    assert all(torch.equal(a, b) for a, b in zip(decoder.parameters(), saved.parameters(), strict=True))


def test_too_few_positions_are_refused_with_both_numbers(gpt2):
    with pytest.raises(ValueError, match=r"reads 64 positions.*need 65"):
        load_decoder(DecoderConfig(str(gpt2)), [], 65)


def test_a_tokenizer_without_an_end_token_gets_one(gpt2, tmp_path):
    decoder, tokenizer = open_decoder(gpt2)
    tokenizer.eos_token = None
    decoder.save_pretrained(tmp_path / "endless")
    tokenizer.save_pretrained(tmp_path / "endless")
    assert AutoTokenizer.from_pretrained(tmp_path / "endless").eos_token is None
    decoder, tokenizer = load_decoder(DecoderConfig(str(tmp_path / "endless")), [], 40)
    assert tokenizer.eos_token_id < decoder.get_input_embeddings().num_embeddings


def test_missing_weights_and_missing_models_are_refused(gpt2, tmp_path):
    decoder, tokenizer = open_decoder(gpt2)
    decoder.save_pretrained(tmp_path / "holey")
    tokenizer.save_pretrained(tmp_path / "holey")
    path = tmp_path / "holey" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "mlp" in name)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, among them .*mlp"):
        open_decoder(tmp_path / "holey")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_decoder(DecoderConfig("nobody/has-this-model"), [], 40)


def save_with_gpt2_tokenizer(model, gpt2, folder):
    """`model` beside the small GPT-2's tokenizer."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gpt2).save_pretrained(folder)
    return folder


def test_a_decoder_that_changes_its_logits_is_refused(gpt2, tmp_path):
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    config = Gemma2Config(num_attention_heads=2, num_key_value_heads=2, final_logit_softcapping=0.1, **sizes)
    folder = save_with_gpt2_tokenizer(Gemma2ForCausalLM(config), gpt2, tmp_path / "capped")
    with pytest.raises(ValueError, match="logits are not its output layer on its last hidden states"):
        load_decoder(DecoderConfig(str(folder)), [], 40)


def test_a_model_that_sees_later_tokens_is_refused(gpt2, tmp_path):
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = BertConfig(num_attention_heads=2, is_decoder=False, initializer_range=0.5, **sizes)
    folder = save_with_gpt2_tokenizer(BertLMHeadModel(config), gpt2, tmp_path / "bert")
    with pytest.raises(ValueError, match="cannot be used"):
        load_decoder(DecoderConfig(str(folder)), [], 40)


@pytest.mark.parametrize("target", ["lm_head", "wte"])
def test_additions_to_the_embeddings_are_refused(gpt2, target):
    with pytest.raises(ValueError, match="token embeddings or the output layer, which stay"):
        load_decoder(DecoderConfig(str(gpt2), "lora", lora_targets=[target, "c_attn"]), [], 40)


def test_an_end_token_beyond_the_embeddings_is_replaced(gpt2, tmp_path):
    model, tokenizer = open_decoder(gpt2)
    tokenizer.add_special_tokens({"eos_token": "<|new|>"})
    assert tokenizer.eos_token_id >= model.get_input_embeddings().num_embeddings
    model.save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    model, tokenizer = load_decoder(DecoderConfig(str(tmp_path / "short")), [], 40)
    assert tokenizer.eos_token_id < model.get_input_embeddings().num_embeddings


@pytest.fixture
def adapted(gpt2, tmp_path, encoder):
    """An inverter with low-rank additions to a copy of the small GPT-2: saved, and the copy."""
    model, tokenizer = open_decoder(gpt2)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    model, tokenizer = load_decoder(DecoderConfig(str(tmp_path / "base"), "lora"), [], 40)
    inverter = Inverter.build(ProjectionConfig("linear", 2), model, tokenizer, Fingerprint.of(encoder), 24)
    inverter.save_pretrained(tmp_path / "inverter")
    return tmp_path / "inverter", tmp_path / "base", inverter


def test_an_adapter_says_what_it_needs(adapted, tmp_path, monkeypatch):
    saved, base, inverter = adapted
    assert Inverter.from_pretrained(saved, device="cpu").decoder.peft_config
    with pytest.raises(ValueError, match=r"is an adapter.*give the model that it adds to"):
        load_decoder(DecoderConfig(str(saved / "decoder")), [], 40)
    with pytest.raises(ValueError, match="which nobody else has"):
        inverter.push_to_hub("nobody/nothing")
    other = GPT2LMHeadModel.from_pretrained(base)
    torch.nn.init.normal_(other.transformer.wte.weight)
    other.save_pretrained(base)
    with pytest.raises(ValueError, match="is another one than that"):
        Inverter.from_pretrained(saved, device="cpu")
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"adds to the model .*base, which is not there.*adapter_config.json"):
        Inverter.from_pretrained(saved, device="cpu")
    monkeypatch.setattr(decoders, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"is an adapter \(LoRA\): install"):
        Inverter.from_pretrained(saved, device="cpu")


def test_a_decoder_keeps_the_precision_in_which_it_was_saved(gpt2, tmp_path, encoder):
    model, tokenizer = load_decoder(DecoderConfig(str(gpt2), "projection_only", precision="bf16"), [], 40)
    inverter = Inverter.build(ProjectionConfig("linear", 2), model, tokenizer, Fingerprint.of(encoder), 24)
    inverter.save_pretrained(tmp_path / "half")
    found = {precision: Inverter.from_pretrained(tmp_path / "half", device="cpu", precision=precision)
             for precision in (None, "fp32")}  # fmt: skip
    assert [next(i.decoder.parameters()).dtype for i in found.values()] == [torch.bfloat16, torch.float32]


def test_in_bf16_weights_are_rounded_and_nothing_else():
    """Llama's frequencies are no weights: rounded, they would turn far positions by the wrong angle."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50, tie_word_embeddings=True))
    with torch.inference_mode():
        rounded = in_bf16(llama)
    assert {weight.dtype for weight in rounded.parameters()} == {torch.bfloat16}
    assert not any(weight.requires_grad or weight.is_inference() for weight in rounded.parameters())
    assert rounded.lm_head.weight is rounded.get_input_embeddings().weight
    for ours, theirs in zip(rounded.buffers(), llama.buffers(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype == torch.float32
    assert {weight.dtype for weight in llama.parameters()} == {torch.float32}
    assert llama.training
    assert not rounded.training


def test_a_learned_vocabulary_is_kept_and_then_read(sentences, tmp_path):
    config, place = DecoderConfig("scratch", **SCRATCH), tmp_path / "vocabulary.json"
    _, learned = load_decoder(config, sentences, 40, place)
    _, known = load_decoder(config, ["never read"], 40, place)
    assert known.get_vocab() == learned.get_vocab()
    assert known.eos_token_id == learned.eos_token_id
    assert known("the cat sat")["input_ids"] == learned("the cat sat")["input_ids"]


def test_the_layers_are_found(gpt2):
    decoder, _ = load_decoder(DecoderConfig(str(gpt2)), [], 40)
    assert layers_of(decoder) == list(decoder.transformer.h)
