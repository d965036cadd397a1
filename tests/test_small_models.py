"""The small models are what they claim to be, and the embedding server what the official client expects."""

import json
import threading

import numpy as np
import openai
import pytest
import torch
from embedding_server import EmbeddingServer
from gensim.models import KeyedVectors
from gensim.models.fasttext import load_facebook_vectors
from sentence_transformers import SentenceTransformer
from small_models import DECODERS, POSITIONS, save_bert, save_e5, save_fasttext, save_gtr, save_word_vectors
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

STRANGE = ["Ünïcode, кириллица и 漢字!", "tabs\tand  spaces", "don 't . stop , 12,345 [x]"]
SPECIAL = {  # begin, end, pad
    "gpt2": ("<|endoftext|>", "<|endoftext|>", None),
    "gpt_neo": ("<|endoftext|>", "<|endoftext|>", None),
    "gpt_j": ("<|endoftext|>", "<|endoftext|>", None),
    "rugpt3": ("<s>", "</s>", "<pad>"),
    "endless": (None, None, None),
    "qwen3": (None, "<|im_end|>", "<|endoftext|>"),
    "llama": ("<s>", "</s>", None),
    "mistral": ("<s>", "</s>", None),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, sentences):
    """Kind -> folder, of all of them."""
    place = tmp_path_factory.mktemp("small")
    encoders = {"gtr": save_gtr, "e5": save_e5, "bert": save_bert}
    return {kind: save(place / kind, sentences) for kind, save in (DECODERS | encoders).items()}


# -- decoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_loads_whole_and_every_token_tells(kind, folders, sentences):
    model, report = AutoModelForCausalLM.from_pretrained(folders[kind], output_loading_info=True)
    assert not any(report.values())
    assert model.config.max_position_embeddings == POSITIONS
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)
    ids = torch.tensor([tokenizer(sentences[0])["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
        for place in range(ids.shape[1]):
            other = ids.clone()
            other[0, place] = 40 + place
            assert (model(other).logits[0, -1] - logits).abs().max() > 0.01


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoders_tokenizer_writes_texts_back(kind, folders, sentences):
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    for text in sentences + STRANGE:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == SPECIAL[kind]
    assert tokenizer.eos_token_id == AutoConfig.from_pretrained(folders[kind]).eos_token_id


@pytest.mark.parametrize("kind", DECODERS)
def test_a_seed_makes_the_same_decoder_again(kind, folders, sentences, tmp_path):
    state = torch.get_rng_state()
    same, other = DECODERS[kind](tmp_path / "same", sentences), DECODERS[kind](tmp_path / "other", sentences, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    for file in folders[kind].iterdir():
        assert file.read_bytes() == (same / file.name).read_bytes()
    weights = [(folder / "model.safetensors").read_bytes() for folder in (folders[kind], other)]
    assert weights[0] != weights[1]


def test_decoders_have_the_particulars_of_the_real_ones(folders):
    models = {kind: AutoModelForCausalLM.from_pretrained(folders[kind]) for kind in DECODERS}
    tokenizers = {kind: AutoTokenizer.from_pretrained(folders[kind]) for kind in DECODERS}
    tied = {
        kind for kind, it in models.items() if it.get_input_embeddings().weight is it.get_output_embeddings().weight
    }
    assert tied == {"gpt2", "gpt_neo", "rugpt3", "endless", "qwen3"}
    assert models["gpt_neo"].config.attention_layers == ["global", "local"]
    assert models["gpt_j"].get_output_embeddings().bias.abs().min() > 0
    spare = {kind: it.config.vocab_size - len(tokenizers[kind]) for kind, it in models.items()}
    assert {kind for kind, rows in spare.items() if rows} == {"gpt_j", "qwen3"}
    qwen3 = models["qwen3"].config
    assert (qwen3.head_dim, qwen3.num_attention_heads, qwen3.num_key_value_heads) == (16, 4, 2)
    assert models["mistral"].config.sliding_window == 4096
    assert not (folders["rugpt3"] / "tokenizer.json").exists()
    assert tokenizers["endless"].all_special_tokens == []
    begins = {kind for kind, it in tokenizers.items() if it("Anna")["input_ids"][0] == it.bos_token_id}
    assert begins == {"llama", "mistral"}
    assert {kind for kind, it in tokenizers.items() if it.chat_template} == {"qwen3", "mistral"}
    assert "<0xE6>" in tokenizers["llama"].tokenize("漢")
    assert tokenizers["qwen3"]("e\u0301")["input_ids"] == tokenizers["qwen3"]("é")["input_ids"]  # NFC


# -- encoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gtr", "e5"])
def test_an_encoder_tells_sentences_apart(kind, folders, sentences):
    vectors = SentenceTransformer(str(folders[kind]), device="cpu").encode(sentences[::10])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarities = vectors @ vectors.T - np.eye(len(vectors))
    assert similarities.max() < 0.9999


def test_gtr_has_the_modules_and_the_tokenizer_of_the_real_one(folders, sentences, tmp_path):
    model = SentenceTransformer(str(save_gtr(tmp_path / "gtr", sentences, dimension=48)), device="cpu")
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert model.get_embedding_dimension() == 48
    assert model[2].linear.bias is None
    assert isinstance(model[2].activation_function, torch.nn.Identity)
    tokenizer = model.tokenizer
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    ids = tokenizer("Anna zigzags.", add_special_tokens=True)["input_ids"]
    assert ids[-1] == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Anna zigzags."
    assert sorted(path.name for path in folders["gtr"].iterdir() if path.is_dir()) == ["1_Pooling", "2_Dense"]


def test_e5_has_prompts_that_change_its_vectors(folders, sentences):
    model = SentenceTransformer(str(folders["e5"]), device="cpu")
    assert {name: model.prompts[name] for name in ("query", "passage")} == {"query": "query: ", "passage": "passage: "}
    assert model.default_prompt_name is None
    plain, asked = model.encode(sentences[:4]), model.encode(sentences[:4], prompt_name="query")
    assert np.abs(plain - asked).max() > 0.01
    np.testing.assert_allclose(asked, model.encode([f"query: {text}" for text in sentences[:4]]), atol=1e-6)


def test_bert_is_a_plain_transformer(folders):
    model, tokenizer = AutoModel.from_pretrained(folders["bert"]), AutoTokenizer.from_pretrained(folders["bert"])
    assert not (folders["bert"] / "modules.json").exists()
    assert model.config.hidden_size == 32
    expected = ["[CLS]", "anna", "z", "##i", "##g", ".", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("Anna zig.")["input_ids"]) == expected


# -- word vectors ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # gensim's, of a file without header
def test_word_vectors_are_the_same_in_every_format(sentences, tmp_path):
    kept = KeyedVectors.load(str(save_word_vectors(tmp_path / "a.kv", sentences)))
    glove = save_word_vectors(tmp_path / "glove.txt", sentences, header=False)
    read = [KeyedVectors.load_word2vec_format(glove, no_header=True)]
    for name in ("a.txt", "a.vec", "a.bin"):
        path = save_word_vectors(tmp_path / name, sentences)
        read.append(KeyedVectors.load_word2vec_format(path, binary=name == "a.bin"))
    assert "anna" in kept
    assert "Anna" not in kept
    for vectors in read:
        assert vectors.index_to_key == kept.index_to_key
        np.testing.assert_allclose(vectors.vectors, kept.vectors, rtol=1e-5)


def test_fasttext_knows_words_that_it_never_saw(sentences, tmp_path):
    path = save_fasttext(tmp_path / "fasttext.bin", sentences)
    assert path.stat().st_size < 100_000
    vectors = load_facebook_vectors(str(path))
    assert "annabel" not in vectors.key_to_index
    assert np.abs(vectors["annabel"]).max() > 0


# -- the server --------------------------------------------------------------------------------------------------


def letters(texts):
    """(N, 4): how many letters there are, and of which some."""
    return np.array([[len(text), text.count("a"), text.count("b"), 0.5] for text in texts])


@pytest.fixture
def ask():
    """Ask a server with these faults for vectors, as often as given, with the official client."""

    def _ask(texts=("ab", "aab", "b"), times=1, key="x", retries=0, timeout=10, options=None, **faults):
        with (
            EmbeddingServer(letters, **faults) as server,
            openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=retries, timeout=timeout) as client,
        ):
            for _ in range(times):
                answer = client.embeddings.create(model="small", input=texts, **(options or {}))
        return answer, server.requests

    return _ask


def rows(answer):
    return np.array([item.embedding for item in sorted(answer.data, key=lambda item: item.index)], np.float32)


def test_the_server_answers_in_base64_and_in_numbers(ask):
    coded, requests = ask()
    assert requests[0].authorization == "Bearer x"
    assert requests[0].body["encoding_format"] == "base64"  # what the client asks for by itself
    np.testing.assert_array_equal(rows(coded), letters(["ab", "aab", "b"]).astype(np.float32))
    np.testing.assert_array_equal(rows(ask(options={"encoding_format": "float"})[0]), rows(coded))
    assert (coded.model, coded.usage.prompt_tokens, coded.usage.total_tokens) == ("small", 3, 3)
    np.testing.assert_array_equal(rows(ask("ab")[0]), rows(coded)[:1])


def test_the_server_cuts_vectors_to_the_dimension_that_is_asked_for(ask):
    short = rows(ask(options={"dimensions": 2})[0])
    np.testing.assert_allclose(short, [[2 / 5**0.5, 1 / 5**0.5], [3 / 13**0.5, 2 / 13**0.5], [1, 0]], rtol=1e-6)
    assert rows(ask(dimension=3)[0]).shape == (3, 3)
    with pytest.raises(openai.BadRequestError, match="at most 4"):
        ask(options={"dimensions": 5})


@pytest.mark.parametrize(
    ("faults", "error", "reason"),
    [
        ({"rate_limited": 1}, openai.RateLimitError, "Rate limit"),
        ({"failing": 1}, openai.InternalServerError, "had an error"),
        ({"unauthorised": True}, openai.AuthenticationError, "Incorrect API key"),
        ({"unknown_model": True}, openai.NotFoundError, "`small` does not exist"),
        ({"max_batch": 2}, openai.BadRequestError, "at most 2 texts, got 3"),
        ({"texts": ["a", ""]}, openai.BadRequestError, "none of them empty"),
        ({"slow": 30, "timeout": 0.1}, openai.APITimeoutError, "timed out"),
        ({"broken": "json"}, json.JSONDecodeError, "Unterminated"),
        ({"broken": "html"}, AttributeError, "no attribute .data"),
        ({"broken": "empty"}, ValueError, "No embedding"),
    ],
)
def test_a_fault_reaches_the_client_and_only_when_it_should(ask, faults, error, reason):
    with pytest.raises(error, match=reason):
        ask(**faults)
    if "texts" not in faults:
        ask(times=2, after=2, **faults)


def test_faults_that_pass_are_survived(ask):
    answer, requests = ask(rate_limited=2, failing=1, retries=3)
    assert (len(answer.data), len(requests)) == (3, 4)
    assert len(ask(unauthorised=True, key="right-key")[0].data) == 3
    assert len(ask(max_batch=3)[0].data) == 3


def test_answers_that_are_wrong_without_saying_so(ask):
    assert rows(ask(broken="short")[0]).shape == (2, 4)
    assert rows(ask(broken="dimension")[0]).shape == (3, 4)
    assert rows(ask(broken="dimension", times=2)[0]).shape == (3, 3)
    assert np.isnan(rows(ask(broken="nan")[0])).all()
    shuffled = ask(broken="shuffled")[0]
    assert [item.index for item in shuffled.data] == [1, 2, 0]
    np.testing.assert_array_equal(rows(shuffled), letters(["ab", "aab", "b"]).astype(np.float32))


def test_the_server_leaves_nothing_behind(ask, capfd):
    before = threading.active_count()
    ask()
    with pytest.raises(openai.APITimeoutError):
        ask(slow=30, timeout=0.1)
    assert threading.active_count() == before
    assert capfd.readouterr() == ("", "")
