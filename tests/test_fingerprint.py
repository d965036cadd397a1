"""The fingerprint: a vector space is known again, and the wrong vectors are refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import LetterEncoder

from vec2text import Inverter, runs
from vec2text.config import DataConfig, DecoderConfig, EncoderConfig, ProjectionConfig, RunConfig, TrainingConfig
from vec2text.encoders import load_encoder
from vec2text.fingerprint import PROBES, Fingerprint


def load(folder, **config):
    return load_encoder(EncoderConfig(str(folder), **config), device="cpu")


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


# -- vectors without their encoder -------------------------------------------------------------------------------


class Uneven(LetterEncoder):
    """Letters whose vectors have lengths of their own, the probes' being the shortest."""

    def encode(self, texts):
        lengths = [[2.0 if text in PROBES else 3.0 + len(text) / 20] for text in texts]
        return super().encode(texts) * np.float32(lengths)


@pytest.mark.parametrize("kind", [LetterEncoder, Uneven])
def test_given_vectors_say_how_long_they_are_and_nothing_of_probes(sentences, kind):
    vectors = kind().encode(sentences[:50])
    config = EncoderConfig("theirs", kind="precomputed", vectors=["a.npy"])
    made = Fingerprint.of_vectors(config, vectors)
    assert (made.dimension, made.normalized, made.probes) == (32, kind is LetterEncoder, ())
    assert made.norm == pytest.approx(np.linalg.norm(vectors, axis=1).mean())
    assert made.encoder == EncoderConfig("theirs", kind="precomputed")  # an inverter does not say where files lay
    assert Fingerprint.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("kind", [LetterEncoder, Uneven])
def test_the_encoder_that_made_given_vectors_is_accepted(sentences, kind):
    made = Fingerprint.of_vectors(EncoderConfig("theirs", kind="precomputed"), kind().encode(sentences[:50]))
    made.check_encoder(Fingerprint.of(kind()))
    made.check_vectors(kind().encode(sentences[50:90]))


def test_an_encoder_of_another_dimension_or_length_cannot_have_made_given_vectors(encoder, sentences):
    made = Fingerprint.of_vectors(EncoderConfig("theirs", kind="precomputed"), encoder.encode(sentences[:50]))
    with pytest.raises(ValueError, match=r"'letters' makes vectors of dimension 31, [^\n]*'theirs' with dimension 32"):
        made.check_encoder(Fingerprint.of(LetterEncoder(dimension=31)))
    with pytest.raises(ValueError, match=r"'letters' makes vectors of length 5, [^\n]*check encoder.normalize"):
        made.check_encoder(Fingerprint.of(Scaled(5.0)))


def test_an_encoder_that_made_given_vectors_can_be_named_later(labse, labse_encoder, gpt2, sentences):
    made = Fingerprint.of_vectors(EncoderConfig("theirs", kind="precomputed"), labse_encoder.encode(sentences[:50]))
    opened = made.open_encoder(str(labse), device="cpu")
    np.testing.assert_array_equal(opened.encode(sentences[:5]), labse_encoder.encode(sentences[:5]))
    with pytest.raises(ValueError, match=r"^vectors of 'theirs' were given, not made here[^\n]*--encoder NAME[^\n]*$"):
        made.open_encoder()
    with pytest.raises(ValueError, match=r"^encoder 'all-MiniLM-L6-v2' makes vectors of dimension 384[^\n]*$"):
        made.open_encoder("all-MiniLM-L6-v2")


class Deaf(LetterEncoder):
    """An encoder that knows no word of some texts, and gives zeros for them."""

    def __init__(self, length, *unknown):
        super().__init__()
        self.length, self.unknown = length, unknown

    def encode(self, texts):
        known = np.float32([[text not in self.unknown] for text in texts])
        return super().encode(texts) * known * self.length


@pytest.mark.parametrize("length", [1.0, 7.0])
@pytest.mark.parametrize("unknown", [PROBES[:1], PROBES[1:], PROBES])
def test_probes_without_a_known_word_say_nothing_of_the_vectors(sentences, length, unknown):
    made = Fingerprint.of(Deaf(length, *unknown))
    made.check_encoder(Fingerprint.of(Deaf(length, *unknown)))
    made.check_vectors(Deaf(length).encode(sentences[:20]))


@pytest.mark.parametrize("unknown", [PROBES[:1], PROBES[1:], PROBES])
def test_knowing_a_probe_and_not_knowing_it_are_two_spaces(encoder, unknown):
    for one, other in ((encoder, Deaf(1.0, *unknown)), (Deaf(1.0, *unknown), encoder)):
        assert "vectors of the probe sentences differ" in refused_encoder(one, other)


# -- an encoder that is an object --------------------------------------------------------------------------------


def test_an_object_given_to_a_run_trains_and_is_not_looked_for_later(tmp_path, text_file, gpt2, encoder):
    config = RunConfig(
        name="a",
        encoder=EncoderConfig("any"),
        data=DataConfig([str(text_file)], validation=0.1, test=0.1, max_tokens=40, cache=str(tmp_path / "cache")),
        decoder=DecoderConfig(str(gpt2)),
        projection=ProjectionConfig("linear", 2),
        training=TrainingConfig(steps=2, batch_tokens=400, precision="fp32", evaluate_sentences=4, test_sentences=4),
        runs=str(tmp_path / "runs"),
    )
    assert "similarity" in runs.train(config, encoder=encoder)["inverter"]
    made = Inverter.from_pretrained(tmp_path / "runs/a/inverter").fingerprint
    assert made == Fingerprint.of(encoder)
    with pytest.raises(ValueError, match=r"^vectors of 'letters' were given, not made here[^\n]*$"):
        made.open_encoder()
    made.check_encoder(Fingerprint.of(LetterEncoder()))  # who still has the object can compare
    with pytest.raises(ValueError, match="vectors of the probe sentences differ"):
        made.check_encoder(Fingerprint.of(LetterEncoder(seed=1)))


# -- fingerprints of before --------------------------------------------------------------------------------------


def test_a_fingerprint_of_before_there_were_kinds_is_read(labse_encoder):
    values = json.loads(json.dumps(Fingerprint.of(labse_encoder).to_dict()))
    old = {"name": labse_encoder.name, "prompt": "", "normalize": False, "batch_size": None}
    made = Fingerprint.from_dict({**values, "encoder": old})
    assert made == Fingerprint.of(labse_encoder)
    made.check_encoder(Fingerprint.of(made.open_encoder(device="cpu")))


def test_an_inverter_of_before_there_were_kinds_is_loaded(tmp_path, inverter, encoder, sentences):
    inverter.save_pretrained(tmp_path / "old")
    path = tmp_path / "old/inverter.json"
    values = json.loads(path.read_text())
    kept = ("name", "prompt", "normalize", "batch_size")
    values["fingerprint"]["encoder"] = {key: values["fingerprint"]["encoder"][key] for key in kept}
    path.write_text(json.dumps(values))
    vectors = encoder.encode(sentences[:3])
    assert Inverter.from_pretrained(tmp_path / "old").invert(vectors) == inverter.invert(vectors)
