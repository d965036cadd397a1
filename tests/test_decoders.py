import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2LMHeadModel

from vec2text.config import DecoderConfig
from vec2text.decoders import END, load_decoder, open_decoder

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
