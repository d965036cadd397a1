"""Encoders: the published vectors and no others; and a fingerprint that knows its vector space again."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import LetterEncoder
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

import vec2text.encoders
from vec2text.config import EncoderConfig
from vec2text.encoders import load_encoder
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
        encode = encoder.model.encode
        monkeypatch.setattr(encoder.model, "encode", lambda *a, **k: used.append(k["batch_size"]) or encode(*a, **k))
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


def refusal(name):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        load(name)
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


# -- the fingerprint ---------------------------------------------------------------------------------------------


class Scaled(LetterEncoder):
    """Letters whose vectors have another length."""

    def __init__(self, length, **options):
        super().__init__(**options)
        self.length = length

    def encode(self, texts):
        return super().encode(texts) * np.float32(self.length)


def test_a_fingerprint_describes_its_encoder(labse_encoder):
    made = Fingerprint.of(labse_encoder)
    assert made.encoder == labse_encoder.config
    assert made.dimension == 32
    assert made.normalized
    assert made.norm == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(np.float32(made.probes), labse_encoder.encode(list(PROBES)))


def test_a_fingerprint_of_vectors_that_are_not_normalised_says_so():
    made = Fingerprint.of(Scaled(2.5))
    assert not made.normalized
    assert made.norm == pytest.approx(2.5, rel=1e-4)


def test_a_fingerprint_survives_json_unchanged(labse, encoder):
    for made in (Fingerprint.of(encoder), Fingerprint.of(load(labse, prompt="a ", batch_size=3))):
        assert Fingerprint.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_an_encoder_is_known_again_under_another_name_and_batch_size(tmp_path, labse, labse_encoder):
    shutil.copytree(labse, tmp_path / "copy")
    Fingerprint.of(labse_encoder).check_encoder(Fingerprint.of(load(tmp_path / "copy", batch_size=2)))


def test_the_small_errors_of_other_hardware_are_accepted(encoder):
    made = Fingerprint.of(encoder)
    noisy = np.array(made.probes) + np.random.default_rng(0).normal(0, 1e-3, (3, 32))
    made.check_encoder(dataclasses.replace(made, probes=tuple(map(tuple, noisy)), norm=made.norm * 1.002))


def refused_encoder(ours, theirs):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        Fingerprint.of(ours).check_encoder(Fingerprint.of(theirs))
    return str(refused.value)


def test_other_weights_of_the_same_shape_are_refused_with_both_names(labse_encoder, other_labse):
    other = load(other_labse)
    message = refused_encoder(labse_encoder, other)
    assert f"{other.name!r} is not the one this was made for ({labse_encoder.name!r}" in message
    assert "cosine" in message


def test_another_dimension_is_refused_with_both_names_and_numbers(labse_encoder):
    message = refused_encoder(labse_encoder, LetterEncoder(dimension=16))
    for part in ("'letters'", "dimension 16", repr(labse_encoder.name), "dimension 32"):
        assert part in message


@pytest.mark.parametrize(("ours", "theirs"), [("the morning ", ""), ("", "the morning "), ("one ", "two ")])
def test_another_prompt_is_refused_and_the_right_one_named(labse, ours, theirs):
    assert f"prompt {ours!r}" in refused_encoder(load(labse, prompt=ours), load(labse, prompt=theirs))


@pytest.mark.parametrize("length", [0.5, 0.98, 1.02, 3.0])
def test_scaled_vectors_are_refused_with_both_lengths(encoder, length):
    message = refused_encoder(encoder, Scaled(length))
    assert f"length {length:.3g}" in message
    assert "length 1:" in message


def test_one_probe_that_differs_is_enough(encoder):
    made = Fingerprint.of(encoder)
    for row in range(3):
        probes = [list(probe) for probe in made.probes]
        probes[row] = [-x for x in probes[row]]
        with pytest.raises(ValueError, match=r"cosine -1\.000"):
            made.check_encoder(dataclasses.replace(made, probes=tuple(map(tuple, probes))))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_right_vectors_pass_in_silence(encoder, sentences, dtype):
    Fingerprint.of(encoder).check_vectors(encoder.encode(sentences[:20]).astype(dtype))


def test_vectors_of_another_dimension_are_refused_with_both_numbers_and_the_encoder(encoder):
    with pytest.raises(ValueError, match=r"dimension 31,.*dimension 32 from 'letters'"):
        Fingerprint.of(encoder).check_vectors(np.ones((2, 31)))


@pytest.mark.parametrize("length", [0.5, 0.97, 1.03, 100.0])
def test_lengths_that_contradict_a_normalised_space_are_a_warning_that_says_what_to_check(encoder, sentences, length):
    with pytest.warns(
        UserWarning, match=rf"length {length:.3g} on average.*'letters' have length 1: check .*Normalize"
    ):
        Fingerprint.of(encoder).check_vectors(encoder.encode(sentences[:5]) * length)


@pytest.mark.parametrize("length", [2.0, 5.0, 12.0])
def test_lengths_may_vary_in_a_space_that_is_not_normalised(sentences, length):
    Fingerprint.of(Scaled(5.0)).check_vectors(LetterEncoder().encode(sentences[:5]) * length)


@pytest.mark.parametrize("length", [1.0, 20.0])
def test_lengths_beyond_all_reason_are_a_warning_there_too(sentences, length):
    with pytest.warns(UserWarning, match="have length 5"):
        Fingerprint.of(Scaled(5.0)).check_vectors(LetterEncoder().encode(sentences[:5]) * length)


def test_anything_with_a_name_a_dimension_and_encode_is_an_encoder(encoder):
    made = Fingerprint.of(encoder)
    assert made.encoder == EncoderConfig("letters", kind="object")
    made.check_encoder(Fingerprint.of(LetterEncoder()))
