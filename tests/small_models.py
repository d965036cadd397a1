"""Small models of the kinds that people use, with random weights, in folders laid out as their hub repositories are.

Each has two layers, the tokenizer kind and the special tokens of the real one, with a vocabulary made of `sentences`.
The folders are loaded by the same code as a hub name, so each architecture is tested for real.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

HIDDEN, LAYERS, HEADS, POSITIONS = 32, 2, 2, 128
SPARE_ROWS = 7
"""Rows of the embedding table that no token uses, in those models whose table is padded to a round size."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_PUNCTUATION = ".,:;?!'\"()-"
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_INSTRUCT = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ ' [INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)

# -- encoders ----------------------------------------------------------------------------------------------------


def save_gtr(folder, sentences, dimension=32, seed=0):
    """A GTR (sentence-transformers/gtr-t5-base): T5 encoder, mean pooling, Dense without bias, Normalize."""
    folder, vocabulary = Path(folder), _pieces(sentences)
    config = T5Config(
        vocab_size=len(vocabulary) + SPARE_ROWS,
        d_model=HIDDEN,
        d_kv=16,
        d_ff=64,
        num_layers=LAYERS,
        num_heads=HEADS,
    )
    _save(T5EncoderModel, config, folder, seed)
    _save_t5_tokenizer(folder, vocabulary)
    _save_modules(folder, ["Transformer", "Pooling", "Dense", "Normalize"], HIDDEN, model_max_length=64)
    identity = "torch.nn.modules.linear.Identity"
    sizes = {"in_features": HIDDEN, "out_features": dimension, "bias": False, "activation_function": identity}
    _write(folder / "2_Dense/config.json", sizes)
    weight = torch.randn(dimension, HIDDEN, generator=torch.Generator().manual_seed(seed)) / HIDDEN**0.5
    save_file({"linear.weight": weight}, folder / "2_Dense/model.safetensors")
    return folder


def save_e5(folder, sentences, dimension=32, seed=0):
    """An E5 (intfloat/e5-base-v2): BERT, mean pooling, Normalize; with prompts, none of them by default."""
    folder = save_bert(folder, sentences, dimension, seed)
    prompts = {"query": "query: ", "passage": "passage: "}
    _save_modules(folder, ["Transformer", "Pooling", "Normalize"], dimension, prompts, model_max_length=64)
    return folder


def save_bert(folder, sentences, dimension=32, seed=0):
    """A BERT, as a plain Hugging Face folder: no pooling is published with it."""
    folder = Path(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    symbols = [*_LETTERS, *_PUNCTUATION]
    words = sorted({word for text in sentences for word in re.findall(r"\w+", text.lower())})
    entries = list(dict.fromkeys([*special, *symbols, *(f"##{symbol}" for symbol in symbols), *words]))
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dimension,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
    )
    _save(BertModel, config, folder, seed)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    _write(
        folder / "tokenizer_config.json",
        {"do_lower_case": True, "model_max_length": POSITIONS, "tokenizer_class": "BertTokenizer"}
        | dict(zip(names, special, strict=True)),
    )
    return folder


def _save_modules(folder, names, dimension, prompts=None, model_max_length=64):
    """What makes a transformer's folder one of sentence-transformers, in the words of the time of its hub models."""
    paths = ["" if name == "Transformer" else f"{i}_{name}" for i, name in enumerate(names)]
    types = [f"sentence_transformers.models.{name}" for name in names]
    rows = enumerate(zip(paths, types, strict=True))
    _write(
        folder / "modules.json", [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in rows]
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": model_max_length, "do_lower_case": False})
    versions = {"sentence_transformers": "2.2.2", "transformers": "4.30.2", "pytorch": "2.0.1"}
    asked = {"prompts": prompts, "default_prompt_name": None} if prompts else {}
    _write(folder / "config_sentence_transformers.json", {"__version__": versions, **asked})
    modes = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in ("cls_token", "mean_tokens", "max_tokens")}
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": dimension, **modes})


def _pieces(sentences):
    """Unigram pieces and their log probabilities, in the order of T5's: words, letters, then the sentinels."""
    words = Counter("▁" + word for text in sentences for word in text.split())
    total = sum(words.values())
    pieces = {word: math.log(count / total) for word, count in sorted(words.items())}
    letters = sorted({*"".join(sentences), *_LETTERS, *_LETTERS.upper(), *_PUNCTUATION, "▁"} - {" "})
    pieces |= {letter: -20.0 for letter in letters if letter not in pieces}
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    return [*special, *pieces.items(), *((f"<extra_id_{i}>", 0.0) for i in reversed(range(100)))]


def _save_t5_tokenizer(folder, vocabulary):
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.add_special_tokens([token for token, _ in [*vocabulary[:3], *vocabulary[-100:]]])
    spaces = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**spaces)]
    )
    tokenizer.decoder = decoders.Metaspace(**spaces)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)],
            "eos_token": "</s>",
            "extra_ids": 100,
            "model_max_length": 512,
            "pad_token": "<pad>",
            "tokenizer_class": "T5Tokenizer",
            "unk_token": "<unk>",
        },
    )


# -- decoders ----------------------------------------------------------------------------------------------------


def save_gpt2(folder, sentences, seed=0):
    """GPT-2: one special token, <|endoftext|>, begins and ends; there is none to pad with."""
    folder, size = Path(folder), _save_gpt2_tokenizer(folder, sentences, {"model_max_length": POSITIONS})
    return _save(GPT2LMHeadModel, _gpt2_config(size, bos_token_id=size - 1, eos_token_id=size - 1), folder, seed)


def save_gpt_neo(folder, sentences, seed=0):
    """GPT-Neo: GPT-2's tokenizer; every other layer sees only the last few tokens, fewer here than in a sentence."""
    settings = {"model_max_length": POSITIONS, "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    size = _save_gpt2_tokenizer(folder, sentences, settings)
    config = GPTNeoConfig(
        vocab_size=size,
        max_position_embeddings=POSITIONS,
        hidden_size=HIDDEN,
        num_layers=LAYERS,
        num_heads=HEADS,
        attention_types=[[["global", "local"], 1]],
        window_size=6,
        bos_token_id=size - 1,
        eos_token_id=size - 1,
        initializer_range=0.3,
    )
    return _save(GPTNeoForCausalLM, config, folder, seed)


def save_gpt_j(folder, sentences, seed=0):
    """GPT-J: rotary positions, an output layer of its own with a bias, and more rows than tokens."""
    settings = {"model_max_length": POSITIONS, "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    size = _save_gpt2_tokenizer(folder, sentences, settings)
    config = GPTJConfig(
        vocab_size=size + SPARE_ROWS,
        n_positions=POSITIONS,
        n_embd=HIDDEN,
        n_layer=LAYERS,
        n_head=HEADS,
        rotary_dim=8,
        bos_token_id=size - 1,
        eos_token_id=size - 1,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    return _save(GPTJForCausalLM, config, folder, seed)


def save_rugpt3(folder, sentences, seed=0):
    """ruGPT-3: a GPT-2 with separate special tokens, published as vocab.json and merges.txt without tokenizer.json."""
    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    vocabulary, merges = _learn(sentences, pre_tokenizers.ByteLevel(add_prefix_space=False), special)
    _save_vocabulary(folder, vocabulary, merges)
    names = ("pad_token", "bos_token", "eos_token", "unk_token", "mask_token")
    tokens = dict(zip(names, special, strict=True))
    _write(Path(folder) / "special_tokens_map.json", tokens)
    _write(Path(folder) / "tokenizer_config.json", tokens | {"add_prefix_space": False, "model_max_length": POSITIONS})
    config = _gpt2_config(len(vocabulary), pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return _save(GPT2LMHeadModel, config, folder, seed)


def save_endless(folder, sentences, seed=0):
    """A GPT-2 without any special token, in its tokenizer or its config."""
    vocabulary, merges = _learn(sentences, pre_tokenizers.ByteLevel(add_prefix_space=False))
    _byte_level(vocabulary, merges).save(_file(folder, "tokenizer.json"))
    # GPT-2's own tokenizer class would bring <|endoftext|> back.
    settings = {"model_max_length": POSITIONS, "tokenizer_class": "PreTrainedTokenizerFast"}
    _write(Path(folder) / "tokenizer_config.json", settings)
    config = _gpt2_config(len(vocabulary), bos_token_id=None, eos_token_id=None)
    return _save(GPT2LMHeadModel, config, folder, seed)


def save_qwen3(folder, sentences, seed=0):
    """Qwen3 after its chat training: <|im_end|> ends, <|endoftext|> pads, nothing begins; and a chat template."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocabulary, merges = _learn(sentences, split)
    tokenizer = _byte_level(vocabulary, merges)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFC(), split
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.save(_file(folder, "tokenizer.json"))
    _save_vocabulary(folder, vocabulary, merges)
    _write(
        Path(folder) / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "additional_special_tokens": special[1:],
            "bos_token": None,
            "chat_template": _CHATML,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": POSITIONS,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size() + SPARE_ROWS,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2 * HEADS,  # times head_dim more than the hidden size, as in the real one
        num_key_value_heads=HEADS,
        head_dim=16,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=len(vocabulary),
        eos_token_id=len(vocabulary) + 2,
        initializer_range=0.3,
    )
    return _save(Qwen3ForCausalLM, config, folder, seed)


def save_llama(folder, sentences, seed=0):
    """Llama 2: a SentencePiece kind of BPE that falls back to bytes; <s> begins every text, nothing pads."""
    settings = {"add_bos_token": True, "add_eos_token": False, "legacy": False, "padding_side": "right"}
    size = _save_llama_tokenizer(folder, sentences, settings)
    return _save(LlamaForCausalLM, LlamaConfig(vocab_size=size, num_key_value_heads=HEADS, **_LLAMA), folder, seed)


def save_mistral(folder, sentences, seed=0):
    """Mistral 7B Instruct: Llama's tokenizer with a chat template; grouped queries and a sliding window."""
    settings = {"add_bos_token": True, "add_eos_token": False, "legacy": True, "chat_template": _INSTRUCT}
    size = _save_llama_tokenizer(folder, sentences, settings)
    config = MistralConfig(vocab_size=size, num_key_value_heads=1, sliding_window=4096, **_LLAMA)
    return _save(MistralForCausalLM, config, folder, seed)


DECODERS = {
    "gpt2": save_gpt2,
    "gpt_neo": save_gpt_neo,
    "gpt_j": save_gpt_j,
    "rugpt3": save_rugpt3,
    "endless": save_endless,
    "qwen3": save_qwen3,
    "llama": save_llama,
    "mistral": save_mistral,
}
"""Kind of causal LM -> what saves a small one to a folder: `DECODERS[kind](folder, sentences)`, which it returns."""

_LLAMA = {
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}


def _gpt2_config(vocab_size, **tokens):
    sizes = {"n_positions": POSITIONS, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}
    return GPT2Config(vocab_size=vocab_size, initializer_range=0.3, **sizes, **tokens)


def _learn(sentences, split, special=(), alphabet=None, size=400):
    """A BPE vocabulary, `special` first, and its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet is None else alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    return learned["vocab"], [tuple(merge) for merge in learned["merges"]]


def _byte_level(vocabulary, merges):
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)  # adds no token
    return tokenizer


def _save_gpt2_tokenizer(folder, sentences, settings):
    """GPT-2's tokenizer, <|endoftext|> being its last token; returns how many tokens it has."""
    vocabulary, merges = _learn(sentences, pre_tokenizers.ByteLevel(add_prefix_space=False))
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tokenizer = _byte_level(vocabulary, merges)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(_file(folder, "tokenizer.json"))
    _save_vocabulary(folder, vocabulary, merges)
    _write(Path(folder) / "tokenizer_config.json", settings)
    return len(vocabulary)


def _save_llama_tokenizer(folder, sentences, settings):
    special = ["<unk>", "<s>", "</s>"]
    in_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary, merges = _learn(sentences, pre_tokenizers.Metaspace(), [*special, *in_bytes], [], size=600)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0", pair="<s>:0 $A:0 <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(_file(folder, "tokenizer.json"))
    names = dict(zip(("unk_token", "bos_token", "eos_token"), special, strict=True))
    _write(Path(folder) / "special_tokens_map.json", names)
    common = {"model_max_length": POSITIONS, "pad_token": None, "tokenizer_class": "LlamaTokenizer"}
    _write(Path(folder) / "tokenizer_config.json", names | common | {"clean_up_tokenization_spaces": False} | settings)
    return len(vocabulary)


def as_transformers(decoder):
    """Our GPT-2 as transformers' module, with the same weights."""
    theirs = GPT2LMHeadModel(GPT2Config.from_dict(decoder.config.to_dict())).to(decoder.dtype)
    theirs.load_state_dict(decoder.state_dict())
    return theirs.train(decoder.training)


# -- word vectors ------------------------------------------------------------------------------------------------


def save_word_vectors(path, sentences, dimension=16, seed=0, header=True):
    """Random vectors of the sentences' words in lower case, in the format that the suffix names.

    `.txt` and `.vec`: word2vec's text, or without `header` GloVe's; `.bin`: word2vec's binary; `.kv`: gensim's own.
    """
    from gensim.models import KeyedVectors

    path, words = Path(path), sorted({word for text in sentences for word in re.findall(r"\w+", text.lower())})
    vectors = KeyedVectors(dimension)
    vectors.add_vectors(words, np.random.default_rng(seed).standard_normal((len(words), dimension)).astype(np.float32))
    if path.suffix == ".kv":
        vectors.save(str(path))
    else:
        vectors.save_word2vec_format(str(path), binary=path.suffix == ".bin", write_header=header)
    return path


def save_fasttext(path, sentences, dimension=16, seed=0):
    """A fastText model in Facebook's own format, which also knows vectors for words that it never saw."""
    from gensim.models.fasttext import FastText, save_facebook_model

    words = [re.findall(r"\w+", text.lower()) for text in sentences]
    settings = {"vector_size": dimension, "min_count": 1, "bucket": 500, "epochs": 1, "workers": 1, "seed": seed}
    save_facebook_model(FastText(words, **settings), str(path))
    return Path(path)


# -- files -------------------------------------------------------------------------------------------------------


def _save(kind, config, folder, seed):
    """A model with weights of that seed, its biases and norms too, so that none could be lost unnoticed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    return Path(folder)


def _save_vocabulary(folder, vocabulary, merges):
    _write(Path(folder) / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _file(folder, name):
    Path(folder).mkdir(parents=True, exist_ok=True)
    return str(Path(folder) / name)


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
