"""What is saved is what is loaded, whole, in open formats; what is broken says so."""

import json
import shutil

import numpy as np
import pytest
import torch

from vec2text import Inverter
from vec2text.calibration import Calibration
from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.correction import Correction
from vec2text.decoders import load_decoder
from vec2text.fingerprint import Fingerprint

CALIBRATION = Calibration(closeness=1.5, case_odds=0.5, bias=-5.0, fitted_on=200)


def test_saved_and_loaded_is_bit_equal(inverter, batch, tmp_path):
    inverter.training_summary = {"steps": 3, "test": {"inverter": {"bleu": 1.0}}}
    inverter.save_pretrained(tmp_path / "saved")
    loaded = Inverter.from_pretrained(tmp_path / "saved", device="cpu")
    assert torch.equal(inverter(*batch), loaded(*batch))
    assert torch.equal(inverter._text_states(*batch[:2]), loaded._text_states(*batch[:2]))
    assert loaded.fingerprint == inverter.fingerprint
    assert loaded.training_summary == inverter.training_summary
    assert loaded.max_tokens == inverter.max_tokens
    assert "bleu" in (tmp_path / "saved" / "README.md").read_text()


def test_a_saved_inverter_holds_open_formats_only(inverter, tmp_path):
    inverter.save_pretrained(tmp_path / "saved")
    kinds = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".md"}
    from transformers import AutoModelForCausalLM, AutoTokenizer

    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "saved" / "decoder")
    assert alone.num_parameters() == inverter.decoder.num_parameters()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "saved" / "decoder")) == len(inverter.tokenizer)


def test_a_compact_one_is_rounded_in_small_files_and_multiplied_in_fp32(inverter, batch, tmp_path, monkeypatch):
    inverter.correction = Correction(3, 32)
    torch.nn.init.normal_(inverter.correction.token)
    monkeypatch.setattr("vec2text.compact.FILE_SIZE", 16_000)
    inverter.save_pretrained(tmp_path / "saved", compact=True, about="## Sources\n\nNobody.")
    loaded = Inverter.from_pretrained(tmp_path / "saved", device="cpu")
    assert (tmp_path / "saved" / "README.md").read_text().endswith("## Sources\n\nNobody.\n")
    files = list((tmp_path / "saved").rglob("*.safetensors"))
    assert len(files) > 3
    assert max(path.stat().st_size for path in files) < 20_000
    for name, weights in inverter.state_dict().items():
        kept = loaded.state_dict()[name]
        assert kept.dtype == torch.float32
        if name.startswith("decoder") and weights.ndim == 2:
            step = weights.abs().amax(1, keepdim=True) / 127
            assert ((kept - weights).abs() <= 0.501 * step).all()
            assert not torch.equal(kept, weights)
        else:
            assert torch.equal(kept, weights if name.startswith("decoder") else weights.bfloat16().float())
    assert inverter.decoder.dtype == torch.float32
    torch.testing.assert_close(loaded(*batch), inverter(*batch), rtol=0.02, atol=0)
    # Rounding again changes nothing, so that what was loaded can be saved as well as what was trained.
    loaded.save_pretrained(tmp_path / "again", compact=True)
    again = Inverter.from_pretrained(tmp_path / "again", device="cpu").state_dict()
    for name, weights in loaded.state_dict().items():
        torch.testing.assert_close(again[name], weights, rtol=1e-6, atol=1e-7)


def test_a_compact_one_of_which_a_file_is_missing_says_so(inverter, tmp_path, monkeypatch):
    monkeypatch.setattr("vec2text.compact.FILE_SIZE", 16_000)
    inverter.save_pretrained(tmp_path / "saved", compact=True)
    files = sorted((tmp_path / "saved" / "decoder").glob("int8-*"))
    files[-1].unlink()
    with pytest.raises(ValueError, match=rf"has {len(files) - 1} of {len(files)} files of weights: copy all"):
        Inverter.from_pretrained(tmp_path / "saved", device="cpu")


def test_the_one_in_the_package_is_what_is_loaded_where_none_is_named(inverter, batch, tmp_path, monkeypatch):
    monkeypatch.setattr("vec2text.storage._PRETRAINED", tmp_path)
    inverter.save_pretrained(tmp_path / "minilm-en")
    for names in ((), ("minilm-en",)):
        assert torch.equal(Inverter.from_pretrained(*names, device="cpu")(*batch), inverter(*batch))


@pytest.mark.parametrize("kind", ["zero_pad", "linear", "mlp"])
def test_every_projection_saves_and_loads(gpt2, encoder, kind, tmp_path):
    decoder, tokenizer = load_decoder(DecoderConfig(str(gpt2)), [], 30)
    config = ProjectionConfig(kind, 1)
    made = Inverter.build(config, decoder, tokenizer, Fingerprint.of(encoder), 12).eval()
    made.save_pretrained(tmp_path / "saved")
    vectors = encoder.encode(["Anna finds the morning train."])
    assert Inverter.from_pretrained(tmp_path / "saved").invert(vectors) == made.invert(vectors)


def test_bf16_weights_load(inverter, encoder, tmp_path):
    inverter.save_pretrained(tmp_path / "saved")
    loaded = Inverter.from_pretrained(tmp_path / "saved", precision="bf16")
    assert loaded.decoder.dtype == torch.bfloat16
    assert len(loaded.invert(encoder.encode(["Anna."]))) == 1
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        Inverter.from_pretrained(tmp_path / "saved", precision="fp8")


def test_a_calibration_is_kept_and_is_missing_in_older_inverters(inverter, batch, tmp_path):
    inverter.save_pretrained(tmp_path / "old")
    assert "calibration" not in json.loads((tmp_path / "old" / "inverter.json").read_text())
    old = Inverter.from_pretrained(tmp_path / "old", device="cpu")
    rows, texts, similarities = batch[0], ["Anna."] * 4, np.linspace(0.7, 1, 4)
    assert old.calibration is None
    assert old.confidences(rows, texts, similarities) is None
    old.calibration = CALIBRATION
    old.save_pretrained(tmp_path / "new")
    new = Inverter.from_pretrained(tmp_path / "new", device="cpu")
    assert new.calibration == CALIBRATION
    sure = new.confidences(rows, texts, similarities)
    np.testing.assert_array_equal(sure, old.confidences(rows, texts, similarities))
    expected = CALIBRATION.confidences(similarities, new.case_probabilities(rows, texts))
    np.testing.assert_array_equal(sure, expected)


def edited(folder, **changes):
    path = folder / "inverter.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


BREAKS = {
    "newer format": (lambda f: edited(f, format_version=99), "format version 99.*upgrade"),
    "no description": (lambda f: (f / "inverter.json").unlink(), "is no inverter"),
    "broken description": (lambda f: (f / "inverter.json").write_text("{"), "inverter.json is broken"),
    "description of a list": (lambda f: (f / "inverter.json").write_text("[]"), "inverter.json is broken"),
    "calibration of another kind": (lambda f: edited(f, calibration=[0.5]), "inverter.json is broken: calibration is"),
    "calibration of no number": (
        lambda f: edited(f, calibration={**CALIBRATION.to_dict(), "bias": None}),
        "inverter.json is broken: calibration.bias is None; expected a finite number; save the inverter again",
    ),
    "missing key": (lambda f: (f / "inverter.json").write_text('{"format_version": 1}'), "lacks fingerprint"),
    "wrong projection": (lambda f: edited(f, projection={"kind": "linear", "prefix_length": 3}), "projection.safetens"),
    "no projection": (lambda f: (f / "projection.safetensors").unlink(), "projection.safetensors is broken"),
    "cut projection": (lambda f: cut(f / "projection.safetensors"), "projection.safetensors is broken"),
    "cut decoder": (lambda f: cut(f / "decoder" / "model.safetensors"), "decoder.*cannot be loaded"),
    "no decoder": (lambda f: shutil.rmtree(f / "decoder"), "decoder.*cannot be loaded"),
}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_folder_is_one_clear_error(inverter, tmp_path, kind):
    damage, message = BREAKS[kind]
    inverter.save_pretrained(tmp_path / "saved")
    damage(tmp_path / "saved")
    with pytest.raises(ValueError, match=message):
        Inverter.from_pretrained(tmp_path / "saved")


def test_push_to_hub_uploads_what_save_pretrained_writes(inverter, monkeypatch, tmp_path):
    calls = []

    class Hub:
        def __init__(self, token):
            calls.append(("token", token))

        def create_repo(self, name, **options):
            calls.append(("create", name, options))

        def upload_folder(self, repo_id, folder_path):
            shutil.copytree(folder_path, tmp_path / "uploaded")
            return f"commit of {repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert inverter.push_to_hub("me/mine", private=True, token="t") == "commit of me/mine"
    assert calls == [("token", "t"), ("create", "me/mine", {"private": True, "exist_ok": True})]
    assert Inverter.from_pretrained(tmp_path / "uploaded").fingerprint == inverter.fingerprint
