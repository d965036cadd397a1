"""Adaptation: a map from pairs, an inverter behind it, and its small folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import LetterEncoder

from vec2text import Inverter
from vec2text.adaptation import align
from vec2text.correction import Correction
from vec2text.fingerprint import Fingerprint
from vec2text.refinement import refine


def drawn(count, dimension, seed=0):
    found = np.random.default_rng(seed).standard_normal((count, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def turned(dimension):
    return np.linalg.qr(np.random.default_rng(1).standard_normal((dimension, dimension)))[0].astype(np.float32)


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


class Turned(LetterEncoder):
    """The letters, in a space that was rotated and moved."""

    def encode(self, texts):
        return 3 * super().encode(texts) @ turned(self.dimension) + 0.5


@pytest.mark.parametrize("dimension", [16, 24])
def test_a_linear_map_is_found(dimension):
    own = drawn(400, 16)
    new = own @ np.random.default_rng(2).standard_normal((16, dimension)).astype(np.float32) + 0.7
    alignment, how = align(new[:300], own[:300])
    mapped = alignment(torch.from_numpy(new[300:])).numpy()
    assert cosines(mapped, own[300:]).min() > 0.999
    assert np.linalg.norm(mapped, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert "ridge" in how
    assert "60 pairs held out" in how


def test_from_few_pairs_a_rotation_is_found_better_than_by_regression():
    own = drawn(60, 40)
    new = own @ turned(40) + np.random.default_rng(3).normal(0, 0.02, (60, 40)).astype(np.float32)
    alignment, how = align(new[:44], own[:44])
    assert how.startswith("Procrustes")
    assert cosines(alignment(torch.from_numpy(new[44:])).numpy(), own[44:]).mean() > 0.9


@pytest.mark.parametrize("count", [12, 30])
def test_of_directions_that_no_pair_shows_nothing_is_made_up(count):
    own = drawn(400, 40)
    new = own @ turned(40)
    alignment, how = align(new[:count], own[:count])
    assert how.startswith("Procrustes")
    unseen = np.linalg.svd(new[:count] - new[:count].mean(0))[2][count - 1 :].astype(np.float32)  # (40 - count + 1, 40)
    assert np.abs(unseen @ alignment.matrix.numpy().T).max() < 1e-4


def test_more_pairs_map_better():
    own = drawn(2000, 32)
    noise = np.random.default_rng(4).normal(0, 0.05, own.shape)
    new = (own @ turned(32) * np.linspace(0.2, 2, 32) + noise).astype(np.float32)
    near = [
        cosines(align(new[:n], own[:n])[0](torch.from_numpy(new[1500:])).numpy(), own[1500:]).mean() for n in (20, 1500)
    ]
    assert near[1] > near[0]


@pytest.mark.parametrize(
    ("counts", "message"), [((9, 9), "got 9 pairs; an alignment needs at least 10"), ((20, 19), "got 20 .* and 19 of")]
)
def test_what_makes_no_map_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        align(drawn(counts[0], 8), drawn(counts[1], 8))


@pytest.fixture
def pair(inverter, encoder, sentences):
    """An inverter that corrects, and the same for the turned letters."""
    inverter.correction = Correction(inverter.projection.config.prefix_length, 32)
    other = Turned()
    pairs = sentences[::7]  # of all kinds, so that they show all directions
    alignment, _ = align(other.encode(pairs), encoder.encode(pairs))
    return inverter, alignment, other


def test_an_adapted_inverter_writes_what_the_inverter_writes(pair, encoder, sentences, tmp_path):
    inverter, alignment, other = pair
    inverter.save_pretrained(tmp_path / "base")
    some = sentences[400:420]
    adapted = inverter.adapted(str(tmp_path / "base"), alignment, Fingerprint.of(other))
    expected, written = inverter.invert(encoder.encode(some)), adapted.invert(other.encode(some))
    mapped = alignment(torch.from_numpy(other.encode(some))).numpy()
    assert cosines(mapped, encoder.encode(some)).min() > 0.9999
    assert written == expected
    assert inverter.alignment is None
    found = refine(adapted, other, other.encode(some[:4]), rounds=2, candidates=2)
    assert all(result.similarity <= 1.0001 for result in found)
    adapted.save_pretrained(tmp_path / "small")
    assert {path.name for path in (tmp_path / "small").iterdir()} == {
        "inverter.json", "alignment.safetensors", "README.md"
    }  # fmt: skip
    loaded = Inverter.from_pretrained(tmp_path / "small", device="cpu")
    assert loaded.invert(other.encode(some)) == written
    assert loaded.fingerprint.dimension == other.dimension
    assert loaded.correction is not None
    with pytest.raises(ValueError, match=r"is itself adapted, to .*base: adapt that one"):
        loaded.adapted(str(tmp_path / "small"), alignment, Fingerprint.of(other))
    with pytest.raises(ValueError, match=r"adapts the inverter .*base, which is on this machine alone"):
        loaded.push_to_hub("somebody/something")


def test_a_base_that_changed_or_is_gone_and_a_broken_map_are_refused(pair, tmp_path):
    inverter, alignment, other = pair
    inverter.save_pretrained(tmp_path / "base")
    inverter.adapted(str(tmp_path / "base"), alignment, Fingerprint.of(other)).save_pretrained(tmp_path / "small")
    with torch.no_grad():
        inverter.decoder.get_input_embeddings().weight.mul_(2)
    inverter.save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="which is another one now: adapt it again"):
        Inverter.from_pretrained(tmp_path / "small", device="cpu")
    described = json.loads((tmp_path / "small" / "inverter.json").read_text())
    described["adapts"] = str(tmp_path / "gone")
    (tmp_path / "small" / "inverter.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="gone, which cannot be had: there is no folder"):
        Inverter.from_pretrained(tmp_path / "small", device="cpu")
    described["adapts"], described["base"] = str(tmp_path / "base"), inverter._base_mark()
    (tmp_path / "small" / "inverter.json").write_text(json.dumps(described))
    (tmp_path / "small" / "alignment.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"alignment\.safetensors is broken: .*; adapt the inverter again"):
        Inverter.from_pretrained(tmp_path / "small", device="cpu")


def test_vectors_of_the_former_space_are_refused_where_the_dimension_tells(inverter, encoder, sentences):
    own = encoder.encode(sentences[:100])
    new = np.concatenate([own, own], 1) / np.sqrt(2, dtype=np.float32)
    alignment, _ = align(new, own)
    space = replace(Fingerprint.of(encoder), dimension=new.shape[1], probes=())
    adapted = inverter.adapted("minilm-en", alignment, space)
    assert adapted.invert(new[:3]) == inverter.invert(own[:3])
    with pytest.raises(ValueError, match="the vectors have dimension"):
        adapted.invert(own)


def test_a_merged_inverter_needs_no_map(pair, encoder, sentences, tmp_path):
    inverter, alignment, other = pair
    adapted = inverter.adapted("somewhere", alignment, Fingerprint.of(other))
    some = other.encode(sentences[:300])
    merged = adapted.merged(some)
    assert (merged.alignment, merged.adapts) == (None, None)
    assert adapted.alignment is not None
    # The map is a rotation: the mapped vectors have one length, so that nothing is lost.
    assert merged.invert(some[:40]) == adapted.invert(some[:40]) == inverter.invert(encoder.encode(sentences[:40]))
    merged.save_pretrained(tmp_path / "merged")
    assert Inverter.from_pretrained(tmp_path / "merged", device="cpu").invert(some[:40]) == merged.invert(some[:40])
    with pytest.raises(ValueError, match="this inverter is not adapted"):
        merged.merged(some)
