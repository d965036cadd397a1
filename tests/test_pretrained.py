"""The inverter in the package: small files, open formats, loaded at once, and of some use."""

from pathlib import Path

import numpy as np
import pytest

from vec2text import Inverter
from vec2text.refinement import refine
from vec2text.storage import bundled

EXAMPLES = (Path(__file__).parent.parent / "data" / "examples.en.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def found():
    """What comes back of the examples, plain and refined."""
    inverter = Inverter.from_pretrained(device="cpu")
    encoder = inverter.fingerprint.open_encoder()  # refuses one that makes other vectors
    vectors = encoder.encode(EXAMPLES)
    return inverter, refine(inverter, encoder, vectors, rounds=0), refine(inverter, encoder, vectors)


def test_its_files_are_small_and_of_open_formats():
    files = [path for path in bundled().rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    sizes = [path.stat().st_size for path in files]
    assert max(sizes) <= 16 * 2**20
    assert sum(sizes) <= 48 * 2**20


def test_it_has_learned_to_correct_and_knows_how_sure_it_is(found):
    inverter, _, refined = found
    assert inverter.correction is not None
    assert inverter.calibration is not None
    assert all(0 < result.confidence < 1 for result in refined)


def test_its_card_names_sources_licences_figures_and_limits():
    card = (bundled() / "README.md").read_text(encoding="utf-8")
    for word in ("Tatoeba", "CC BY", "exact_match", "bleu", "steps", "hardware", "train.py", "not for"):
        assert word in card, word


def test_it_brings_back_what_it_never_saw(found):
    _, plain, refined = found
    near = [np.mean([result.similarity for result in results]) for results in (plain, refined)]
    assert near[0] > 0.6  # what any two of these sentences have is below 0.3
    assert near[1] > near[0]
    assert any(result.text == text for result, text in zip(refined, EXAMPLES, strict=True))
