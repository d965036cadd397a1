"""Encoders: the published vectors and no others, whatever the kind of model and whatever stands beside a text."""

import json
import shutil
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import LetterEncoder
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from small_models import DECODERS, POSITIONS, save_bert, save_e5, save_gtr
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoTokenizer, T5EncoderModel

import vec2text.encoders
from vec2text.config import EncoderConfig
from vec2text.encoders import encode_checked, load_encoder
from vec2text.fingerprint import PROBES, Fingerprint
from vec2text.metrics import cosine


def load(folder, **config):
    return load_encoder(EncoderConfig(str(folder), **config), device="cpu")


@pytest.fixture(scope="session")
def texts(sentences):
    return sentences[40:100]


@pytest.fixture(scope="session")
def unnormalised(tmp_path_factory, labse):
    """The small LaBSE without its last module, Normalize."""
    folder = tmp_path_factory.mktemp("encoders") / "unnormalised"
    model = SentenceTransformer(str(labse), device="cpu")
    model.pop(len(model) - 1)
    model.save(str(folder))
    return folder


# -- the vectors -------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_sentence_transformers(labse, labse_encoder, texts):
    vectors = labse_encoder.encode(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (60, labse_encoder.dimension)
    expected = SentenceTransformer(str(labse), device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_all_modules_of_the_published_model_take_part(labse, labse_encoder, texts):
    transformer, tokenizer = AutoModel.from_pretrained(labse).eval(), AutoTokenizer.from_pretrained(labse)
    with torch.no_grad():
        states = transformer(**tokenizer(texts[:20], padding=True, return_tensors="pt")).last_hidden_state
        dense = labse_encoder.model[2].linear(states[:, 0]).tanh()
    cls, mean, dense = states[:, 0].numpy(), states.mean(1).numpy(), dense.numpy()
    vectors = labse_encoder.encode(texts[:20])
    np.testing.assert_allclose(vectors, dense / np.linalg.norm(dense, axis=1, keepdims=True), atol=1e-5)
    assert cosine(cls, vectors).max() < 0.9  # without Dense
    assert cosine(mean, vectors).max() < 0.9  # with another pooling
    assert np.linalg.norm(dense, axis=1).min() > 1.1  # without Normalize


def test_vectors_are_in_the_order_of_the_texts_however_long_these_are(labse_encoder, texts):
    mixed = ["a", " ".join(texts[:3]), texts[0], "b c", texts[0]]
    one_by_one = np.concatenate([labse_encoder.encode([text]) for text in mixed])
    np.testing.assert_allclose(labse_encoder.encode(mixed), one_by_one, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_does_not_change_the_vectors(labse, labse_encoder, texts, batch_size):
    mixed = [*texts[:20], "a", " ".join(texts[:3])]
    encoder = load(labse, batch_size=batch_size)
    np.testing.assert_allclose(encoder.encode(mixed), labse_encoder.encode(mixed), atol=1e-5)


def test_the_prompt_stands_before_every_sentence(labse, labse_encoder, texts):
    prompted = load(labse, prompt="the morning ")
    expected = labse_encoder.encode([f"the morning {text}" for text in texts[:10]])
    np.testing.assert_allclose(prompted.encode(texts[:10]), expected, atol=1e-5)
    assert cosine(expected, labse_encoder.encode(texts[:10])).max() < 0.999


def test_normalize_divides_each_vector_by_its_length_and_only_when_asked_for(unnormalised, texts):
    plain = load(unnormalised).encode(texts[:10])
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert abs(lengths - 1).min() > 0.1
    np.testing.assert_allclose(load(unnormalised, normalize=True).encode(texts[:10]), plain / lengths, atol=1e-5)


def test_no_texts_give_no_vectors(labse_encoder):
    assert labse_encoder.encode([]).shape == (0, labse_encoder.dimension)


# -- the batch size ----------------------------------------------------------------------------------------------

SIZES, PIECE = (2, 4, 8, 16), 10


@pytest.fixture
def timed(labse, monkeypatch):
    """timed(seconds): an encoder whose pieces take so long, and the batch sizes that it has been given."""

    def made(seconds, **config):
        encoder, used = load(labse, **config), []
        encode = encoder._encode
        monkeypatch.setattr(encoder, "_encode", lambda some, size: (some and used.append(size)) or encode(some, size))
        monkeypatch.setattr(vec2text.encoders, "_TIMED_SENTENCES", PIECE)
        monkeypatch.setattr(vec2text.encoders, "_BATCH_SIZES", SIZES)
        ticks = iter([tick for i, took in enumerate(seconds) for tick in (100 * i, 100 * i + took)])
        monkeypatch.setattr(vec2text.encoders, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
        return encoder, used

    return made


@pytest.mark.parametrize("fastest", range(4))
def test_an_open_batch_size_becomes_the_one_that_encodes_fastest(timed, labse_encoder, texts, fastest):
    expected = labse_encoder.encode(texts)
    encoder, used = timed([1 if i == fastest else 2 for i in range(4)])
    np.testing.assert_allclose(encoder.encode(texts[: 5 * PIECE + 1]), expected[: 5 * PIECE + 1], atol=1e-5)
    assert encoder.batch_size == SIZES[fastest]
    assert used == [*SIZES, SIZES[fastest]]


def test_batch_sizes_are_timed_on_pieces_of_one_size_from_call_to_call(timed, labse_encoder, texts):
    expected = labse_encoder.encode(texts)
    encoder, used = timed([4, 3, 1, 2])
    # too few to be timed, one piece, two and a rest, the fourth, and then all at the fastest size
    for count in (PIECE - 1, PIECE, 2 * PIECE + 3, PIECE, 5 * PIECE):
        np.testing.assert_allclose(encoder.encode(texts[:count]), expected[:count], atol=1e-5)
    assert encoder.batch_size == SIZES[2]
    assert used == [SIZES[0], SIZES[0], SIZES[1], SIZES[2], SIZES[0], SIZES[3], SIZES[2]]


def test_a_batch_size_that_was_given_is_kept_and_nothing_is_timed(timed, texts):
    encoder, used = timed([], batch_size=5)
    encoder.encode(texts[: 5 * PIECE])
    assert set(used) == {encoder.batch_size} == {5}


# -- what an encoder reads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", range(26, 36))
@pytest.mark.parametrize("prompt", ["", "the small house: "])
def test_a_text_fits_exactly_when_its_last_word_changes_the_vector(labse, words, prompt):
    encoder = load(labse, prompt=prompt)
    text = "a b c d e f " * 6
    one, other = (" ".join([*text.split()[: words - 1], last]) for last in ("river", "boat"))
    a, b = encoder.encode([one, other])
    assert (encoder.fault(one) is None) == (encoder.fault(other) is None) == (not np.allclose(a, b, atol=1e-6))


def test_the_limit_lies_within_the_lengths_that_are_tried_above(labse_encoder):
    assert labse_encoder.fault(" ".join("a" * 26)) is None
    assert labse_encoder.fault(" ".join("a" * 35)) == "too_long"


@pytest.mark.parametrize("text", ["", "a", "слово", "?" * 30, "word" * 100])
def test_texts_of_few_tokens_fit_however_many_letters_they_have(labse_encoder, text):
    assert labse_encoder.fault(text) is None


# -- names -------------------------------------------------------------------------------------------------------


def refusal(name, **config):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        load(name, **config)
    message = str(refused.value)
    assert message.startswith(f"encoder {str(name)!r} cannot be loaded: ")
    return message


@pytest.mark.parametrize("name", ["no_such_user/no_such_encoder", "no_such_encoder", "./no_such_folder", "a/b/c", ""])
def test_an_unknown_encoder_is_refused_by_name_with_what_is_expected(name):
    assert "expected a sentence-transformers folder" in refusal(name)


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    refusal(tmp_path / "empty")


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json", "modules.json", "tokenizer.json"])
def test_a_folder_with_a_truncated_file_is_refused(tmp_path, labse, damaged):
    shutil.copytree(labse, tmp_path / "copy")
    path = tmp_path / "copy" / damaged
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refusal(tmp_path / "copy")


@pytest.fixture(scope="module")
def bundled():
    return load("all-MiniLM-L6-v2")


def test_the_bundled_encoder_loads_without_a_network_and_knows_what_sentences_mean(bundled):
    assert bundled.dimension == 384
    cat, same, prices = bundled.encode(["A cat sits on the mat.", "The cat is on a rug.", "Stock prices fell."])
    np.testing.assert_allclose(np.linalg.norm([cat, same, prices], axis=1), 1, atol=1e-5)
    assert cat @ same > 0.6 > 0.3 > cat @ prices


def test_the_bundled_encoder_has_two_names(bundled):
    other = load("sentence-transformers/all-MiniLM-L6-v2")
    np.testing.assert_array_equal(other.encode(list(PROBES)), bundled.encode(list(PROBES)))


def test_a_folder_of_the_bundled_encoders_name_comes_first(tmp_path, monkeypatch, labse):
    shutil.copytree(labse, tmp_path / "all-MiniLM-L6-v2")
    monkeypatch.chdir(tmp_path)
    assert load("all-MiniLM-L6-v2").dimension == 32


# -- a bare transformer and a pooling ----------------------------------------------------------------------------

BARE = [
    "gpt2",
    "mistral",
    "qwen3",
    "bert",
]  # no pad token; no pad token; a pad token, and no first one; [CLS] and [SEP]
ENDED = [(kind, True) for kind in ("gpt2", "mistral", "qwen3", "rugpt3")]  # those that have an end token


@pytest.fixture(scope="module")
def folders(tmp_path_factory, sentences, labse):
    """Kind -> folder of a small model."""
    place = tmp_path_factory.mktemp("encoders")
    saved = {**DECODERS, "bert": save_bert, "e5": save_e5, "gtr": save_gtr}
    made = {kind: saved[kind](place / kind, sentences) for kind in (*BARE, "rugpt3", "endless", "e5", "gtr")}
    return {**made, "labse": labse}


@pytest.fixture(scope="module")
def mixed(texts):
    """Texts of very different lengths."""
    return [texts[0], "a", " ".join(texts[1:5]), "Ünïcode, кириллица!", texts[5], "b c"]


def bare(folder, pooling, **config):
    return load(folder, kind="transformer", pooling=pooling, **config)


def by_hand(folder, texts, pooling, end=False, cut=None):
    """The pooled last hidden states of each text alone, where nothing is padded.

    Args:
        end: the end token follows each text.
        cut: tokens, the end token included, beyond which a text is cut.
    """
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        ids = tokenizer(text)["input_ids"][: cut and cut - end] + [tokenizer.eos_token_id] * end
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]  # (tokens, D)
        rows.append({"mean": states.mean(0), "last": states[-1], "cls": states[0]}[pooling])
    return torch.stack(rows).numpy()


def edited(folder, place, file, **values):
    """A copy of a model's folder with other values in one of its JSON files."""
    shutil.copytree(folder, place)
    content = json.loads((place / file).read_text())
    (place / file).write_text(json.dumps(content | values))
    return place


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("kind", [*BARE, "rugpt3", "endless"])
def test_a_bare_transformer_gives_the_pooled_states_of_each_text_alone(folders, mixed, kind, pooling):
    expected = by_hand(folders[kind], mixed, pooling)
    np.testing.assert_allclose(bare(folders[kind], pooling).encode(mixed), expected, atol=1e-5)
    for other in {"mean", "last", "cls"} - {pooling}:
        assert np.abs(expected - by_hand(folders[kind], mixed, other)).max() > 0.1


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("kind", BARE)
def test_neither_the_batch_size_nor_the_other_texts_change_a_vector(folders, mixed, texts, kind, pooling):
    encoder = bare(folders[kind], pooling)
    alone = np.concatenate([encoder.encode([text]) for text in mixed])
    for size in (1, 2, 64):
        encoder = bare(folders[kind], pooling, batch_size=size)
        np.testing.assert_allclose(encoder.encode([*mixed, *texts])[: len(mixed)], alone, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("kind", BARE)
def test_a_tokenizer_that_pads_on_the_left_gives_the_same_vectors(tmp_path, folders, mixed, kind, pooling):
    left = edited(folders[kind], tmp_path / kind, "tokenizer_config.json", padding_side="left")
    assert AutoTokenizer.from_pretrained(left).padding_side == "left"
    expected = bare(folders[kind], pooling).encode(mixed)
    np.testing.assert_allclose(bare(left, pooling).encode(mixed), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize(("kind", "end_token"), ENDED)
def test_an_end_token_ends_every_text_once_also_one_that_is_cut(folders, mixed, kind, end_token, pooling):
    encoder = bare(folders[kind], pooling, end_token=end_token, max_length=12)
    expected = by_hand(folders[kind], mixed, pooling, end=True, cut=12)
    np.testing.assert_allclose(encoder.encode(mixed), expected, atol=1e-5)
    assert np.abs(expected - by_hand(folders[kind], mixed, pooling, end=True)).max() > 0.1  # some are cut
    assert np.abs(expected - by_hand(folders[kind], mixed, pooling, cut=12)).max() > 0.1


def test_a_tokenizer_that_ends_its_texts_by_itself_ends_them_once(tmp_path, folders, mixed):
    shutil.copytree(folders["mistral"], tmp_path / "ending")
    tokenizer = Tokenizer.from_file(str(tmp_path / "ending/tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.save(str(tmp_path / "ending/tokenizer.json"))
    assert AutoTokenizer.from_pretrained(tmp_path / "ending")("a")["input_ids"][-1] == 2
    expected = by_hand(folders["mistral"], mixed, "last", end=True)
    for end_token in (True, False):
        encoder = bare(tmp_path / "ending", "last", end_token=end_token)
        np.testing.assert_allclose(encoder.encode(mixed), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "endless"])
def test_an_end_token_where_there_is_none_is_refused(folders, kind):
    assert "set encoder.end_token=false" in refusal(folders[kind], kind="transformer", pooling="last", end_token=True)


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize(("kind", "end_token"), [*ENDED, *((kind, False) for kind in (*BARE, "endless"))])
def test_an_empty_text_has_a_vector_like_any_other(folders, mixed, kind, end_token, pooling):
    encoder = bare(folders[kind], pooling, end_token=end_token)
    alone, beside = encoder.encode([""]), encoder.encode([mixed[2], "", mixed[0]])
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(alone[0], beside[1], atol=1e-5)
    assert encoder.fault("") is None
    if AutoTokenizer.from_pretrained(folders[kind])("")["input_ids"]:
        np.testing.assert_allclose(alone, by_hand(folders[kind], [""], pooling, end=end_token), atol=1e-5)
    elif kind != "endless":  # nothing is read as the end token, and once
        np.testing.assert_allclose(alone, by_hand(folders[kind], [""], pooling, end=True), atol=1e-5)


@pytest.mark.parametrize(("kind", "end_token"), [*ENDED, *((kind, False) for kind in BARE)])
def test_a_prompt_is_read_as_if_it_were_part_of_the_text(folders, mixed, kind, end_token):
    prompt = "Instruct: find it\nQuery: "
    asked = bare(folders[kind], "mean", prompt=prompt, end_token=end_token).encode([*mixed, ""])
    plain = bare(folders[kind], "mean", end_token=end_token).encode([prompt + text for text in (*mixed, "")])
    np.testing.assert_allclose(asked, plain, atol=1e-5)
    assert cosine(asked, bare(folders[kind], "mean", end_token=end_token).encode([*mixed, ""])).max() < 0.999


@pytest.mark.parametrize("kind", BARE)
def test_a_bare_transformer_of_another_precision_or_normalised(folders, mixed, kind):
    exact = bare(folders[kind], "mean").encode(mixed)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(bare(folders[kind], "mean", normalize=True).encode(mixed), unit, atol=1e-5)
    rough = bare(folders[kind], "mean", precision="bf16", normalize=True).encode(mixed)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-5)
    assert cosine(rough, unit).min() > 0.98
    assert np.abs(rough - unit).max() > 1e-4


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_bare_transformer_reads_as_far_as_it_has_positions(folders, kind):
    encoder = bare(folders[kind], "mean")
    assert encoder.fault("a " * (POSITIONS // 2 - 2)) is None
    assert encoder.fault("a " * POSITIONS) == "too_long"
    assert np.isfinite(encoder.encode(["a " * 2 * POSITIONS])).all()


@pytest.mark.parametrize(
    ("kind", "positions", "config"),
    [
        ("gpt2", POSITIONS, {"kind": "transformer", "pooling": "mean"}),
        ("bert", POSITIONS, {"kind": "transformer", "pooling": "cls"}),
        ("e5", POSITIONS, {}),
        ("labse", 32, {}),
    ],
)
def test_more_tokens_than_a_model_has_positions_cannot_be_asked_for(folders, kind, positions, config):
    encoder = load(folders[kind], max_length=positions, **config)
    assert np.isfinite(encoder.encode(["a " * 2 * positions])).all()
    with pytest.raises(ValueError, match=rf"^[^\n]*max_length[^\n]*{positions}[^\n]*$"):
        load(folders[kind], max_length=positions + 1, **config)


def test_a_model_of_relative_positions_has_no_last_one(folders):
    encoder = load(folders["gtr"], max_length=1000)
    one, other = encoder.encode([" ".join([*["boat"] * 900, word]) for word in ("boat", "river")])
    assert np.abs(one - other).max() > 1e-5
    assert encoder.fault("boat " * 900) is None
    assert encoder.fault("boat " * 1000) == "too_long"


# -- what a sentence-transformers model is published with --------------------------------------------------------

PUBLISHED = ["labse", "gtr", "e5"]


def gtr_by_hand(folder, texts):
    """Vectors of a GTR and, beside them, the means that it makes them of."""
    model, tokenizer = T5EncoderModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    means = torch.stack([state.mean(0) for state in states])
    dense = means @ load_file(folder / "2_Dense/model.safetensors")["linear.weight"].T
    return (dense / dense.norm(dim=1, keepdim=True)).numpy(), means.numpy()


def test_gtr_keeps_its_dense_layer_and_its_normalisation(folders, mixed):
    vectors = load(folders["gtr"]).encode(mixed)
    expected, means = gtr_by_hand(folders["gtr"], mixed)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(cosine(means, vectors)).max() < 0.9  # without Dense
    assert abs(np.linalg.norm(means, axis=1) - 1).min() > 0.1  # without Normalize


def unit_means(folder, texts):
    means = by_hand(folder, texts, "mean")
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["query", "passage"])
def test_a_prompt_by_name_is_the_one_that_the_model_brings(folders, mixed, name):
    expected = unit_means(folders["e5"], [f"{name}: {text}" for text in mixed])
    for config in ({"prompt_name": name}, {"prompt": f"{name}: "}):
        np.testing.assert_allclose(load(folders["e5"], **config).encode(mixed), expected, atol=1e-5)
    assert cosine(expected, load(folders["e5"]).encode(mixed)).max() < 0.999


@pytest.mark.parametrize(("kind", "name"), [("e5", "title"), ("e5", "document"), ("labse", "query")])
def test_a_prompt_that_the_model_does_not_bring_is_refused(folders, kind, name):
    with pytest.raises(ValueError, match=rf"^encoder.prompt_name is {name!r}, but [^\n]*$"):
        load(folders[kind], prompt_name=name)


@pytest.fixture
def asking(tmp_path, folders):
    """An E5 with a default prompt."""
    file = "config_sentence_transformers.json"
    return edited(folders["e5"], tmp_path / "asking", file, default_prompt_name="passage")


def test_a_models_default_prompt_is_heeded_unless_another_is_given(folders, asking, mixed):
    for config, prompt in (({}, "passage: "), ({"prompt_name": "query"}, "query: "), ({"prompt": "the "}, "the ")):
        expected = unit_means(folders["e5"], [prompt + text for text in mixed])
        np.testing.assert_allclose(load(asking, **config).encode(mixed), expected, atol=1e-5)


def test_a_default_prompt_counts_where_a_text_may_be_too_long(folders, asking):
    added = len(AutoTokenizer.from_pretrained(asking)("passage: ")["input_ids"]) - 2
    plain, asked = load(folders["e5"], max_length=20), load(asking, max_length=20)
    for words in range(1, 30):
        text = "boat " * words
        assert (plain.fault(text) is None) == (words + 2 <= 20)
        assert (asked.fault(text) is None) == (words + 2 + added <= 20)


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("size", [1, 2, 64])
def test_padding_does_not_change_a_published_vector(folders, mixed, kind, size):
    encoder = load(folders[kind], batch_size=size)
    alone = np.concatenate([encoder.encode([text]) for text in mixed])
    np.testing.assert_allclose(encoder.encode(mixed), alone, atol=1e-5)
    backwards = encoder.encode(mixed[::-1])[::-1]
    np.testing.assert_allclose(backwards, alone, atol=1e-5)


def test_padding_on_the_left_does_not_change_a_published_vector(tmp_path, folders, mixed):
    left = edited(folders["e5"], tmp_path / "left", "tokenizer_config.json", padding_side="left")
    np.testing.assert_allclose(load(left).encode(mixed), unit_means(folders["e5"], mixed), atol=1e-5)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_truncated_vector_is_the_beginning_of_the_whole_one(folders, mixed, kind):
    whole = load(folders[kind]).encode(mixed)
    encoder = load(folders[kind], truncate_dimension=8)
    assert encoder.dimension == Fingerprint.of(encoder).dimension == 8
    np.testing.assert_allclose(encoder.encode(mixed), whole[:, :8], atol=1e-6)
    unit = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(load(folders[kind], truncate_dimension=8, normalize=True).encode(mixed), unit, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("e5", {}),
        ("gtr", {"prompt": "the house: "}),
        ("gpt2", {"kind": "transformer", "pooling": "mean"}),
        ("mistral", {"kind": "transformer", "pooling": "last", "end_token": True, "prompt": "find: "}),
        ("qwen3", {"kind": "transformer", "pooling": "last", "end_token": True}),
    ],
)
def test_a_text_is_too_long_exactly_from_the_first_token_that_does_not_fit(folders, kind, config):
    encoder, tokenizer = load(folders[kind], max_length=16, **config), AutoTokenizer.from_pretrained(folders[kind])
    fits = []
    for words in range(30):
        text = " ".join(["boat"] * words)
        tokens = len(tokenizer(config.get("prompt", "") + text)["input_ids"]) + config.get("end_token", False)
        fits.append(tokens <= 16)
        assert encoder.fault(text) == (None if fits[-1] else "too_long")
    assert fits[0]
    assert not fits[-1]
    changed = encoder.encode([" ".join([*["boat"] * (sum(fits) - 2), word]) for word in ("boat", "river")])
    assert np.abs(changed[0] - changed[1]).max() > 1e-3  # the last word that fits is read


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_lower_precision_changes_the_vectors_a_little_and_is_on_record(folders, mixed, precision):
    exact, encoder = load(folders["gtr"]), load(folders["gtr"], precision=precision)
    vectors = encoder.encode(mixed)
    assert vectors.dtype == np.float32
    assert cosine(vectors, exact.encode(mixed)).min() > 0.99
    assert np.abs(vectors - exact.encode(mixed)).max() > 1e-4
    made = Fingerprint.from_dict(json.loads(json.dumps(Fingerprint.of(encoder).to_dict())))
    assert made.encoder.precision == precision
    np.testing.assert_array_equal(made.open_encoder(device="cpu").encode(mixed), vectors)


# -- a model with code of its own --------------------------------------------------------------------------------

# As jina-embeddings-v3 is published: written for an older sentence-transformers, its forward takes the task.
CODE = """
import json, os
from pathlib import Path
import torch
from transformers import AutoModel, AutoTokenizer

Path(__file__).with_name("ran").touch()

class Transformer(torch.nn.Module):
    save_in_root = True

    def __init__(self, model_name_or_path, max_seq_length=None, model_args=None, tokenizer_args=None, config_args=None,
                 cache_dir=None, do_lower_case=False, tokenizer_name_or_path=None, **kwargs):
        super().__init__()
        self.auto_model = AutoModel.from_pretrained(model_name_or_path, **(model_args or {}))
        self.tokenizer = AutoTokenizer.from_pretrained(model_name_or_path, **(tokenizer_args or {}))
        self.max_seq_length = max_seq_length

    def tokenize(self, texts, padding=True):
        return self.tokenizer(
            texts, padding=padding, truncation=True, return_tensors="pt", max_length=self.max_seq_length
        )

    def forward(self, features, task=None):
        features.pop("prompt_length", None)
        states = self.auto_model(**features).last_hidden_state
        shift = {None: 0.0, "separation": 1.0, "retrieval.query": -2.0}[task]
        return features | {"token_embeddings": states + shift}

    @classmethod
    def load(cls, input_path):
        return cls(input_path)
"""
TASKS = {None: 0.0, "separation": 1.0, "retrieval.query": -2.0}


@pytest.fixture
def coded(tmp_path, monkeypatch, folders):
    """Folder of a small BERT with prompts and with code that shifts its states by the task."""
    folder = tmp_path / "coded"
    shutil.copytree(folders["e5"], folder)
    (folder / "custom_st.py").write_text(f"{CODE}\n# {folder}\n")  # code that was never imported before
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"type": "custom_st.Transformer", "kwargs": ["task"]}
    (folder / "modules.json").write_text(json.dumps(modules))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "code"))
    return folder


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("prompt_name", [None, "query"])
def test_the_task_reaches_a_model_with_code_of_its_own(folders, coded, mixed, task, prompt_name):
    encoder = load(coded, trust_remote_code=True, task=task, prompt_name=prompt_name)
    asked = [f"{prompt_name}: {text}" if prompt_name else text for text in mixed]
    shifted = by_hand(folders["e5"], asked, "mean") + TASKS[task]
    expected = shifted / np.linalg.norm(shifted, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(mixed), expected, atol=1e-5)
    assert encoder.fault("boat " * 100) == "too_long"


def test_the_vectors_of_another_task_are_another_space(coded):
    tasks = [load(coded, trust_remote_code=True, task=task) for task in ("separation", "retrieval.query")]
    one, other = map(Fingerprint.of, tasks)
    assert one.encoder.task == "separation"
    with pytest.raises(ValueError, match="vectors of the probe sentences differ"):
        one.check_encoder(other)


def test_code_that_comes_with_a_model_is_run_only_when_that_is_allowed(tmp_path, coded):
    message = refusal(coded)
    assert not list(tmp_path.rglob("ran"))
    assert load(coded, trust_remote_code=True).dimension == 32
    assert list(tmp_path.rglob("ran"))
    assert "trust_remote_code" in message


@pytest.mark.parametrize("kind", ["labse", "e5"])
def test_a_task_is_refused_by_a_model_that_knows_none(folders, kind):
    with pytest.raises(ValueError, match=r"^[^\n]*encoder\.task[^\n]*$"):
        load(folders[kind], task="separation")


# -- encoders of one's own ---------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, monkeypatch):
    """written(name, code): a module in the current folder, as users write theirs."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield lambda name, code: (tmp_path / f"{name}.py").write_text(code)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) == str(tmp_path / f"{name}.py"):
            del sys.modules[name]


MINE = """
from conftest import LetterEncoder as Kind

class Wide(Kind):
    def __init__(self):
        super().__init__(dimension=48)

def make():
    return Kind(dimension=48)

ready = Kind(dimension=48)
"""


@pytest.mark.parametrize("attribute", ["ready", "Wide", "make"])
def test_an_encoder_of_ones_own_is_an_object_a_class_or_a_function(written, texts, attribute):
    written("my_encoder", MINE)
    path = list(sys.path)
    encoder = load(f"my_encoder:{attribute}", kind="python")
    assert sys.path == path
    np.testing.assert_array_equal(encoder.encode(texts), LetterEncoder(dimension=48).encode(texts))
    made = Fingerprint.from_dict(json.loads(json.dumps(Fingerprint.of(encoder).to_dict())))
    assert made.encoder == encoder.config == EncoderConfig(f"my_encoder:{attribute}", kind="python")
    assert (made.dimension, made.normalized) == (48, True)
    np.testing.assert_array_equal(made.open_encoder().encode(texts), encoder.encode(texts))


FROZEN = """
from dataclasses import dataclass
from conftest import LetterEncoder

@dataclass(frozen=True)
class Frozen:
    name: str = "frozen"
    dimension: int = 32

    def encode(self, texts):
        return LetterEncoder().encode(texts)

class Slots:
    __slots__ = ()
    name, dimension, encode = "slots", 32, LetterEncoder().encode
"""


@pytest.mark.parametrize("attribute", ["Frozen", "Slots"])
def test_an_object_that_takes_no_new_attribute_is_an_encoder_too(written, texts, attribute):
    written("my_frozen", FROZEN)
    encoder = load(f"my_frozen:{attribute}", kind="python")
    np.testing.assert_array_equal(encoder.encode(texts), LetterEncoder().encode(texts))
    assert Fingerprint.of(encoder).encoder == EncoderConfig(f"my_frozen:{attribute}", kind="python")


FAULTY = """
def fails(): raise RuntimeError("first line\\nsecond line")
def nothing(): return None
class Lacks:
    name = "lacks"
    def encode(self, texts): return texts
def asks(argument): return argument
text = "text"
number = 3
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my_faulty:fails", "RuntimeError: first line"),
        ("my_faulty:nothing", "has no name and no dimension and no encode"),
        ("my_faulty:Lacks", "has no dimension;"),
        ("my_faulty:asks", "TypeError"),
        ("my_faulty:text", "has no name and no dimension;"),
        ("my_faulty:number", "TypeError"),
        ("my_faulty:absent", "AttributeError"),
        ("my_faulty:", "AttributeError"),
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("my_broken:make", "SyntaxError"),
        (":make", "ValueError"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line_with_its_name(written, name, reason):
    written("my_faulty", FAULTY)
    written("my_broken", "def make(:\n")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        load(name, kind="python")
    assert reason in str(refused.value)
    assert repr(name) in str(refused.value)


@dataclass
class Growing:
    """An encoder that adds a dimension with every call after the first ones."""

    name: str = "growing"
    dimension: int = 8
    calls_left: int = 1

    def encode(self, texts):
        self.calls_left -= 1
        return np.ones((len(texts), self.dimension - min(self.calls_left, 0)))


def test_a_dimension_that_changes_from_call_to_call_is_refused(texts):
    encoder = Growing()
    assert encode_checked(encoder, texts, Fingerprint.of(Growing()).dimension).shape == (60, 8)
    with pytest.raises(ValueError, match=r"^encoder 'growing' gave [^\n]*\(60, 9\)[^\n]*stay the same[^\n]*$"):
        encode_checked(encoder, texts, 8)


def test_a_dimension_that_is_not_the_one_it_claims_is_refused():
    with pytest.raises(ValueError, match=r"^encoder 'growing' gave [^\n]*\(3, 9\)[^\n]*$"):
        Fingerprint.of(Growing(calls_left=0))


@pytest.mark.parametrize("kind", ["object", "precomputed"])
def test_vectors_that_were_given_name_no_encoder_to_load(kind):
    with pytest.raises(ValueError, match=r"^vectors of 'theirs' were given, not made here[^\n]*$"):
        load("theirs", kind=kind)


def test_a_bare_transformer_is_not_given_a_pooling_that_nobody_chose(tmp_path, sentences):
    with pytest.raises(ValueError, match=r"no modules.json.*give encoder.kind=transformer and encoder.pooling"):
        load_encoder(EncoderConfig(str(save_bert(tmp_path / "bert", sentences))))
