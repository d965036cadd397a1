"""Small real models, made with random weights and saved, and sentences to train them on."""

import functools
import itertools
import json
import os

# Before any import that reads them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may wait for a network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small are slower on more threads, which wait for each other

import numpy as np
import pytest
import torch
from small_models import DECODERS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from vec2text.cache import encode_corpus
from vec2text.config import (
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    ProjectionConfig,
    RunConfig,
    TrainingConfig,
)
from vec2text.corpus import build_corpus
from vec2text.decoders import load_decoder
from vec2text.encoders import SentenceTransformerEncoder
from vec2text.fingerprint import Fingerprint
from vec2text.inverter import Inverter

WHO = ["Anna", "The baker", "My brother", "Our teacher", "A tall sailor", "The old cat"]
DOES = ["sees", "wants", "finds", "paints", "forgets"]
WHAT = ["a red boat", "the small house", "two green apples", "an empty box", "the morning train"]
WHERE = ["in the garden", "near the river", "on Monday", "at night"]


@pytest.fixture(scope="session")
def sentences():
    """600 distinct sentences of 5 to 8 words."""
    return [f"{a} {b} {c} {d}." for a, b, c, d in itertools.product(WHO, DOES, WHAT, WHERE)]


@functools.cache
def drawn(seed, dimension):
    """A random vector."""
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


class LetterEncoder:
    """A deterministic encoder that needs no model: normalised sums of random vectors of letter triples."""

    name = "letters"

    def __init__(self, dimension=32, seed=0):
        self.dimension, self.seed, self.queries = dimension, seed, 0

    def encode(self, texts):
        self.queries += len(texts)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            padded = f"^{text}$"
            for i in range(len(padded)):
                letters = padded[i : i + 3]
                code = sum(ord(c) * 257**k for k, c in enumerate(letters)) + self.seed
                vectors[row] += drawn(code, self.dimension)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def encoder():
    return LetterEncoder()


@pytest.fixture
def in_fp32(monkeypatch):
    """Searches that are rounded nowhere: what is in a batch changes nothing."""
    monkeypatch.setattr("vec2text.refinement.bf16", lambda precision, device: False)


def save_labse(folder, sentences, dimension=32, seed=0):
    """A LaBSE in small, as a sentence-transformers folder: BERT, cls pooling, Dense with tanh, Normalize."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(seed)
    words = sorted({word for text in sentences for word in text.lower().replace(".", " .").split()})
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz?!:,0123456789", *words]
    vocabulary = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=32,
    )
    bert = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=dimension,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            initializer_range=0.5,
        )
    )
    base = folder / "base"
    bert.save_pretrained(base)
    fast.save_pretrained(base)
    transformer = modules.Transformer(str(base), max_seq_length=32)
    pooling = modules.Pooling(dimension, pooling_mode="cls")
    dense = modules.Dense(dimension, dimension, activation_function=torch.nn.Tanh())
    SentenceTransformer(modules=[transformer, pooling, dense, modules.Normalize()], device="cpu").save(
        str(folder / "labse")
    )
    return folder / "labse"


@pytest.fixture(scope="session")
def labse(tmp_path_factory, sentences):
    """Folder of a small LaBSE with random weights."""
    return save_labse(tmp_path_factory.mktemp("encoders"), sentences)


@pytest.fixture(scope="session")
def other_labse(tmp_path_factory, sentences):
    """The same architecture and dimension with other weights: another vector space."""
    return save_labse(tmp_path_factory.mktemp("encoders"), sentences, seed=1)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory, sentences):
    """Folder of a two-layer GPT-2 with random weights and GPT-2's kind of tokenizer, pad being eos."""
    folder = tmp_path_factory.mktemp("decoders") / "gpt2"
    config = DecoderConfig("scratch", hidden_size=32, layers=2, heads=2, vocabulary_size=300, dropout=0.0)
    _, tokenizer = load_decoder(config, sentences, 64)
    tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=64,
            n_embd=32,
            n_layer=2,
            n_head=2,
            bos_token_id=end,
            eos_token_id=end,
            initializer_range=0.3,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def inverter(gpt2, encoder):
    """An untrained inverter of LetterEncoder's space: 3 prefix tokens into the small GPT-2."""
    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 40)
    torch.manual_seed(1)
    made = Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, Fingerprint.of(encoder), 24)
    return made.eval()


@pytest.fixture(scope="module", params=["gpt2", "qwen3", "llama"])
def other(request, tmp_path_factory, sentences):
    """An inverter with another tokenizer: byte-level BPE, one with another split and spare rows, SentencePiece."""
    folder = DECODERS[request.param](tmp_path_factory.mktemp("other") / request.param, sentences)
    decoder, tokenizer = load_decoder(DecoderConfig(str(folder)), [], 40)
    torch.manual_seed(2)
    return Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, Fingerprint.of(LetterEncoder()), 24).eval()


@pytest.fixture(scope="session")
def text_file(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("texts") / "sentences.txt"
    path.write_text("\n".join(sentences) + "\n")
    return path


@pytest.fixture
def corpus(tmp_path, text_file):
    """The sentences as a corpus with 10% validation and 10% test."""
    return build_corpus(DataConfig([str(text_file)], validation=0.1, test=0.1, cache=str(tmp_path / "cache")))


@pytest.fixture
def vectors(corpus, encoder, tmp_path):
    return encode_corpus(corpus, encoder, tmp_path / "cache", Fingerprint.of(encoder))


@pytest.fixture(scope="session")
def labse_encoder(labse):
    return SentenceTransformerEncoder(EncoderConfig(str(labse)), device="cpu")


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def tokenised(inverter, texts):
    found = inverter.tokenizer(texts, add_special_tokens=False)["input_ids"]
    lengths = torch.tensor([len(row) for row in found])
    ids = torch.zeros(len(found), int(lengths.max()), dtype=torch.long)
    for row, tokens in enumerate(found):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids, lengths


@pytest.fixture
def batch(inverter, encoder, sentences):
    texts = [sentences[0], sentences[77], sentences[431], sentences[599]]
    return torch.from_numpy(encoder.encode(texts)), *tokenised(inverter, texts)


@pytest.fixture
def config(labse, text_file, tmp_path):
    return RunConfig(
        name="a",
        encoder=EncoderConfig(str(labse)),
        data=DataConfig([str(text_file)], validation=0.1, test=0.1, cache=str(tmp_path / "cache")),
        decoder=DecoderConfig("scratch", hidden_size=32, layers=2, heads=2, vocabulary_size=300, dropout=0.0),
        projection=ProjectionConfig("linear", 2),
        training=TrainingConfig(steps=4, batch_tokens=400, precision="fp32", evaluate_sentences=8, test_sentences=20),
        runs=str(tmp_path / "runs"),
    )
