"""What a saved inverter says of itself comes back as it was, from earlier versions too, or is refused in one line."""

import json
from dataclasses import replace

import pytest

from vec2text.calibration import Calibration
from vec2text.config import ProjectionConfig
from vec2text.description import FORMAT_VERSION, Description
from vec2text.fingerprint import Fingerprint


@pytest.fixture
def description(encoder):
    """A plain one, without what only some inverters have."""
    return Description(ProjectionConfig("mlp", 3), Fingerprint.of(encoder), 24, {"steps": 3, "test": {"bleu": 1.5}})


def values(folder):
    return json.loads((folder / "inverter.json").read_text())


def test_what_is_written_is_read(description, tmp_path):
    calibration = Calibration(closeness=1.5, case_odds=0.5, bias=-5.0, fitted_on=200)
    more = replace(description, precision="bf16", corrects=True, calibration=calibration, base=[0.5, 0.25])
    for written in (description, more):
        written.write(tmp_path)
        assert Description.read(tmp_path) == written
        assert values(tmp_path)["format_version"] == FORMAT_VERSION


def test_what_an_earlier_version_wrote_is_read(description, tmp_path):
    description.write(tmp_path)
    old = {key: value for key, value in values(tmp_path).items() if key not in ("precision", "corrects")}
    (tmp_path / "inverter.json").write_text(json.dumps(old))
    assert Description.read(tmp_path) == description


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_tokens": "many"}, "broken: .*'many'"),
        ({"max_tokens": None}, "broken: .*NoneType"),
        ({"projection": {"kind": "mlp", "depth": 3}}, "broken: .*depth"),
        ({"fingerprint": {}}, "broken: KeyError"),
        ({"format_version": FORMAT_VERSION + 1}, "upgrade vec2text"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_folder(description, tmp_path, change, reason):
    description.write(tmp_path)
    (tmp_path / "inverter.json").write_text(json.dumps({**values(tmp_path), **change}))
    with pytest.raises(ValueError, match=rf"^{tmp_path}[^\n]*$") as refused:
        Description.read(tmp_path)
    refused.match(reason)


def test_the_card_says_what_it_inverts_how_it_was_made_and_what_was_measured(description, tmp_path):
    description.write_card(tmp_path, "gpt2, 1,234 parameters")
    card = (tmp_path / "README.md").read_text()
    for words in (
        "`letters` (dimension 32)",
        "up to 24 tokens",
        "mlp, 3 prefix tokens",
        "GPT: gpt2, 1,234 parameters.",
    ):
        assert words in card
    assert "- steps: 3" in card
    assert "- bleu: 1.5" in card
    assert "- test" not in card
    replace(description, training={}).write_card(tmp_path, "gpt2")
    card = (tmp_path / "README.md").read_text()
    assert "- not trained" in card
    assert "- nothing yet" in card
