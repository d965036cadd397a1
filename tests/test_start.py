"""What a run begins from: the package's inverter, or one that a map has adapted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vec2text import Inverter, outcome, runs
from vec2text.config import (
    AdaptationConfig,
    DecoderConfig,
    EncoderConfig,
    ProjectionConfig,
)
from vec2text.encoders import load_encoder


@pytest.mark.parametrize(
    ("changes", "same", "said"),
    [
        ({}, ["projection", "correction"], "and projection and correction"),
        ({"projection": ProjectionConfig("linear", 1)}, [], "alone: its projection is of another kind or length"),
        ({"encoder": None}, [], "alone: its projection is for another encoder"),
        ({"training": {"correction_fraction": 0.0}}, ["projection"], "and projection"),
    ],
)
def test_a_run_starts_from_the_inverter_in_the_package(
    config, other_labse, tmp_path, monkeypatch, caplog, changes, same, said
):
    monkeypatch.setattr("vec2text.storage._PRETRAINED", tmp_path)
    started = []
    monkeypatch.setattr(runs, "fit", lambda inverter, *rest: started.append(inverter) or rest[2].mkdir(exist_ok=True))
    monkeypatch.setattr(runs, "judge", lambda *arguments: {})
    training = replace(config.training, correction_fraction=0.4)
    runs.train(replace(config, name="base", training=training))
    base = started.pop()
    for module in (base.projection, base.correction):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
    base.save_pretrained(tmp_path / "minilm-en")
    if "encoder" in changes:
        changes = {"encoder": EncoderConfig(str(other_labse))}
    changes = {**changes, "training": replace(training, **changes.get("training", {}))}
    caplog.set_level("INFO", logger="vec2text")
    runs.train(replace(config, name="mine", decoder=DecoderConfig("bundled"), **changes))
    (mine,) = started
    for name, weights in mine.decoder.state_dict().items():
        assert torch.equal(weights, base.decoder.state_dict()[name])
    for part in ("projection", "correction"):
        if getattr(mine, part) is not None:
            ours, theirs = ((getattr(one, part).state_dict()) for one in (mine, base))
            alike = all(
                ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name]) for name in ours
            )
            assert alike == (part in same)
    assert caplog.messages.count(f"starting from the inverter in the package: its GPT {said}") == 1


@pytest.mark.parametrize("given", [False, True])
def test_a_run_adapts_an_inverter_to_another_encoder(config, labse, other_labse, sentences, tmp_path, given, capsys):
    runs.train(config)
    base = tmp_path / "runs" / "a" / "inverter"
    encoder = EncoderConfig(str(other_labse))
    other = load_encoder(encoder)
    data = config.data
    if given:
        np.savez(tmp_path / "pairs.npz", text=np.array(sentences), vector=other.encode(sentences))
        pairs = [str(tmp_path / "pairs.npz")]
        data, encoder = replace(data, paths=pairs), EncoderConfig("them", kind="precomputed", vectors=pairs)
    adaptation = AdaptationConfig(str(base), pairs=60)
    run = replace(config, name="adapted", encoder=encoder, data=data, adaptation=adaptation)
    report = runs.train(run)
    assert runs.train(run) == report
    adapted = Inverter.from_pretrained(tmp_path / "runs" / "adapted" / "inverter", device="cpu")
    assert adapted.adapts == str(base)
    assert adapted.training_summary["pairs"] == 60
    assert adapted.training_summary["test"]["sentences"] == report["sentences"]
    held = np.load(tmp_path / "runs" / "adapted" / "heldout.npy")
    assert len(adapted.invert(held)) == report["sentences"]
    assert "nearest training sentence" in outcome.describe(report, run)


def test_an_adaptation_from_fewer_pairs_than_asked_for_says_so(config, other_labse, tmp_path, caplog):
    runs.train(config)
    adaptation = AdaptationConfig(str(tmp_path / "runs" / "a" / "inverter"), pairs=10_000)
    runs.train(replace(config, name="adapted", encoder=EncoderConfig(str(other_labse)), adaptation=adaptation))
    assert any("adaptation.pairs is 10,000, but there are" in message for message in caplog.messages)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_an_adapted_inverter_is_trained_on(config, other_labse, tmp_path, kind, caplog):
    caplog.set_level("INFO")
    projection = ProjectionConfig(kind, prefix_length=3)
    runs.train(replace(config, projection=projection))
    base = tmp_path / "runs" / "a" / "inverter"
    adaptation = AdaptationConfig(str(base), pairs=300, fine_tune=True)
    training = replace(config.training, steps=12, evaluate_every=12, learning_rate=1e-3)
    run = replace(
        config, name="tuned", encoder=EncoderConfig(str(other_labse)), adaptation=adaptation, training=training
    )
    report = runs.train(run)
    assert runs.train(run) == report
    assert any(
        f"starting from the inverter {base}, adapted: its GPT and projection" in text for text in caplog.messages
    )
    tuned = Inverter.from_pretrained(tmp_path / "runs" / "tuned" / "inverter", device="cpu")
    assert (tuned.adapts, tuned.alignment) == (None, None)
    width = load_encoder(config.encoder).dimension
    assert tuned.projection.config == replace(projection, hidden_size=width if kind == "mlp" else None)
    before, after = (
        Inverter.from_pretrained(place, device="cpu").decoder for place in (base, base.parents[1] / "tuned/inverter")
    )
    assert not torch.equal(before.transformer.h[0].mlp.c_fc.weight, after.transformer.h[0].mlp.c_fc.weight)
    assert not (tmp_path / "runs" / "tuned" / "inverter" / "alignment.safetensors").exists()
