"""Our fast tokenizer splits, joins and is saved as that of transformers."""

import json

import pytest
from small_models import save_endless, save_gpt2, save_llama, save_rugpt3
from transformers import AutoTokenizer

from vec2text.tokenizer import FastTokenizer

TEXTS = ["Hello there.", "", "  two  spaces, ünïcode 漢字 <|endoftext|> and more\n", "don't <|end|>"]


def folders(gpt2, tmp_path, sentences):
    """A tokenizer that we learned, and those of two small models, one of them named by its class."""
    AutoTokenizer.from_pretrained(save_gpt2(tmp_path / "first", sentences)).save_pretrained(tmp_path / "named")
    return [gpt2, tmp_path / "named", save_endless(tmp_path / "endless", sentences)]


def test_it_does_what_that_of_transformers_does(gpt2, tmp_path, sentences):
    for folder in folders(gpt2, tmp_path, sentences):
        assert FastTokenizer.reads(folder)
        ours, theirs = FastTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        for special in (True, False):
            ids = theirs(TEXTS, add_special_tokens=special)["input_ids"]
            assert ours(TEXTS, add_special_tokens=special)["input_ids"] == ids
            assert ours(TEXTS[0], add_special_tokens=special)["input_ids"] == ids[0]
        for skip in (True, False):
            options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": False}
            assert ours.batch_decode(ids, **options) == theirs.batch_decode(ids, **options)
            assert ours.decode(ids[2], **options) == theirs.decode(ids[2], **options)
        assert (ours.eos_token, ours.eos_token_id) == (theirs.eos_token, theirs.eos_token_id)
        assert (ours.pad_token, ours.bos_token) == (theirs.pad_token, theirs.bos_token)
        assert (len(ours), ours.get_vocab()) == (len(theirs), theirs.get_vocab())
        assert sorted(ours.all_special_ids) == sorted(theirs.all_special_ids)
        assert ours.added_tokens_decoder.keys() == theirs.added_tokens_decoder.keys()


def test_saved_it_is_read_by_transformers_and_by_us(gpt2, tmp_path):
    ours = FastTokenizer.from_pretrained(gpt2)
    ours.add_special_tokens({"eos_token": "<|new|>"})
    ours.pad_token = "<|pad|>"
    ours.save_pretrained(tmp_path)
    for again in (FastTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert (again.eos_token, again.pad_token) == ("<|new|>", "<|pad|>")
        assert again.eos_token_id == ours.eos_token_id == len(again) - 2
        assert again(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]
        assert again.decode(again("a<|new|>b")["input_ids"], skip_special_tokens=True) == "ab"


def test_an_end_token_may_be_written_with_its_settings(gpt2, tmp_path):
    FastTokenizer.from_pretrained(gpt2).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"eos_token": {"content": config["eos_token"], "special": True}}))
    assert FastTokenizer.from_pretrained(tmp_path).eos_token == config["eos_token"]


ADDED = {"300": {"content": "<|more|>", "special": True}}


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"add_prefix_space": True},
        {"new": "way"},
        {"added_tokens_decoder": ADDED},
        {"tokenizer_class": "GPT2Tokenizer", "eos_token": None},
    ],
)
def test_what_it_does_not_know_goes_to_transformers(gpt2, tmp_path, change):
    FastTokenizer.from_pretrained(gpt2).save_pretrained(tmp_path)
    assert FastTokenizer.reads(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert not FastTokenizer.reads(tmp_path)
    path.write_text("{")
    assert not FastTokenizer.reads(tmp_path)


@pytest.mark.parametrize("change", [{"normalizer": {"type": "NFC"}}, {"pre_tokenizer": {"add_prefix_space": True}}])
def test_the_class_of_gpt2_splits_as_gpt2_whatever_the_file_says(gpt2, tmp_path, change):
    FastTokenizer.from_pretrained(gpt2).save_pretrained(tmp_path)
    config, says = tmp_path / "tokenizer_config.json", tmp_path / "tokenizer.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "GPT2Tokenizer"}))
    assert FastTokenizer.reads(tmp_path)
    was = json.loads(says.read_text())
    parts = {name: (was[name] or {}) | part for name, part in change.items()}
    says.write_text(json.dumps(was | parts))
    assert not FastTokenizer.reads(tmp_path)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert FastTokenizer.reads(tmp_path)
    ours, theirs = FastTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json", "chat_template.jinja"])
def test_files_that_may_say_more_are_for_transformers(gpt2, tmp_path, name):
    FastTokenizer.from_pretrained(gpt2).save_pretrained(tmp_path)
    (tmp_path / name).write_text("{}")
    assert not FastTokenizer.reads(tmp_path)


def test_other_kinds_of_tokenizers_go_to_transformers(tmp_path, sentences):
    for save in (save_rugpt3, save_llama):
        assert not FastTokenizer.reads(save(tmp_path / save.__name__, sentences))


def test_what_is_no_token_has_no_id(gpt2):
    with pytest.raises(ValueError, match="'nothing of that kind' is not in the vocabulary"):
        FastTokenizer.from_pretrained(gpt2).convert_tokens_to_ids("nothing of that kind")
