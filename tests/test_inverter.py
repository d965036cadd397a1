import json
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vec2text import Inverter
from vec2text.calibration import Calibration
from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.correction import Correction
from vec2text.decoders import load_decoder
from vec2text.fingerprint import Fingerprint
from vec2text.paths import explore

CALIBRATION = Calibration(closeness=1.5, case=0.5, bias=-5.0, fitted_on=200)


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


def test_loss_is_the_shifted_cross_entropy_written_by_hand(inverter, batch):
    vectors, ids, lengths = batch
    total, count = 0.0, 0
    for row in range(len(ids)):
        tokens = ids[row, : lengths[row]]
        prefix = inverter.projection(vectors[row : row + 1])
        inputs = torch.cat([prefix, inverter.decoder.get_input_embeddings()(tokens)[None]], 1)
        logits = inverter.decoder(inputs_embeds=inputs).logits[0]
        for place, target in enumerate([*tokens.tolist(), inverter.end_id]):
            total -= logits[prefix.shape[1] - 1 + place].log_softmax(-1)[target].item()
            count += 1
    assert inverter(vectors, ids, lengths).item() == pytest.approx(total / count, rel=1e-5)


def test_padding_and_batch_size_do_not_change_the_loss(inverter, batch):
    vectors, ids, lengths = batch
    whole = inverter(vectors, ids, lengths).item()
    garbage = torch.randint(0, 200, (len(ids), 5))
    places = torch.arange(ids.shape[1] + 5)
    padded = torch.where(places < lengths[:, None], F.pad(ids, (0, 5)), torch.cat([ids, garbage], 1))
    assert inverter(vectors, padded, lengths).item() == pytest.approx(whole, rel=1e-5)
    singles = [inverter(vectors[i : i + 1], ids[i : i + 1, : lengths[i]], lengths[i : i + 1]).item() for i in range(4)]
    assert np.average(singles, weights=lengths + 1) == pytest.approx(whole, rel=1e-5)


def test_no_logit_sees_a_later_token(inverter, batch):
    vectors, ids, _ = batch
    states = inverter._text_states(vectors, ids)
    for place in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % 200
        others = inverter._text_states(vectors, changed)
        assert torch.allclose(states[:, : place + 1], others[:, : place + 1], atol=1e-5)
        assert not torch.allclose(states[:, place + 1], others[:, place + 1], atol=1e-3)


def test_the_gradient_reaches_every_weight_of_the_projection(inverter, batch):
    inverter(*batch).backward()
    for name, parameter in inverter.projection.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_log_probability_of_a_text_is_the_loss_that_it_had_in_training(inverter, batch, sentences):
    vectors, ids, lengths = batch
    texts = [sentences[place] for place in (0, 77, 431, 599)]
    inverter.train()
    found = inverter.log_probabilities(vectors, texts)
    assert inverter.training
    inverter.eval()
    for row, mean in enumerate(found / (lengths + 1).numpy()):
        loss = inverter(vectors[row : row + 1], ids[row : row + 1, : lengths[row]], lengths[row : row + 1]).item()
        assert mean == pytest.approx(-loss, rel=1e-4)
    np.testing.assert_allclose(inverter.log_probabilities(vectors, texts, batch_size=3), found, rtol=1e-4)


def test_a_text_is_as_likely_as_when_it_is_written_token_by_token(inverter, encoder, sentences):
    rows = inverter.rows(encoder.encode(sentences[:90:9]))
    texts = sentences[200:300:10]
    tokens = inverter.tokenizer(texts, add_special_tokens=False)["input_ids"]
    begin = [[*ids, inverter.end_id] for ids in tokens]
    paths = explore(inverter.decoder, inverter.prefixes(rows), inverter.end_id, 60, begin=begin)
    assert [path.ids for path in paths] == begin
    expected = [path.log_probabilities.sum() for path in paths]
    np.testing.assert_allclose(inverter.log_probabilities(rows, texts), expected, rtol=1e-3)


def test_the_probability_of_a_case_is_that_among_its_variants(inverter, batch):
    texts = ["Anna met Tom.", "anna met tom.", "", "7"]
    cases = inverter.case_probabilities(batch[0], texts)
    variants = {
        "Anna met Tom.": ["anna met tom.", "anna met Tom.", "Anna met tom."],
        "anna met tom.": ["Anna met tom."],
    }
    for row, text in enumerate(texts):
        some = [text, *variants.get(text, [])]
        sums = inverter.log_probabilities(batch[0][[row] * len(some)], some)
        assert cases[row] == pytest.approx(np.exp(sums[0]) / np.exp(sums).sum(), rel=1e-2)
    assert 0 < cases[0] < 1
    assert cases[2:].tolist() == [1, 1]  # there is but one way to write these
    assert inverter.case_probabilities(batch[0][:0], []).shape == (0,)


def test_an_empty_text_and_one_that_is_too_long_have_a_log_probability(inverter, batch):
    texts = ["", "", "long " * 200, "\ufffd" * 200]
    found = inverter.log_probabilities(batch[0], texts)  # of the GPT's 64 positions none is left
    assert np.isfinite(found).all()
    logits = inverter.decoder(inputs_embeds=inverter.prefixes(batch[0])).logits[:, -1].log_softmax(-1)
    np.testing.assert_allclose(found[:2], logits[:2, inverter.end_id].detach(), rtol=1e-4)
    assert inverter.log_probabilities(batch[0][:0], []).shape == (0,)


@pytest.mark.parametrize("kind", ["numpy", "torch", "list"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_any_float_input_gives_the_same_text(inverter, encoder, sentences, kind, dtype):
    vectors = encoder.encode(sentences[:3]).astype("float16").astype(dtype)
    expected = inverter.invert(vectors.astype("float32"))
    given = {"numpy": vectors, "torch": torch.from_numpy(vectors), "list": vectors.tolist()}[kind]
    assert inverter.invert(given) == expected
    assert inverter.invert(given[1]) == expected[1:2]


def test_bfloat16_input_and_no_input(inverter, encoder, sentences):
    vectors = torch.from_numpy(encoder.encode(sentences[:2])).bfloat16()
    assert inverter.invert(vectors) == inverter.invert(vectors.float())
    assert inverter.invert(np.zeros((0, 32))) == []


def test_the_vectors_given_are_not_changed(inverter, encoder, sentences):
    vectors = torch.from_numpy(encoder.encode(sentences[:2]))
    before = vectors.clone()
    inverter.invert(vectors)
    assert torch.equal(vectors, before)


def test_order_and_text_do_not_depend_on_the_batch_size(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[::40])
    for options in ({}, {"num_beams": 3}, {"temperature": 1.0, "seed": 3}):
        expected = inverter.invert(vectors, batch_size=1, **options)
        assert inverter.invert(vectors, batch_size=4, **options) == expected
        assert inverter.invert(vectors, **options) == expected


def test_a_generator_goes_on_from_call_to_call(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[:6])
    generator = torch.Generator().manual_seed(5)
    halves = [inverter.invert(part, temperature=1.0, seed=generator) for part in (vectors[:3], vectors[3:])]
    assert halves[0] + halves[1] == inverter.invert(vectors, temperature=1.0, seed=5)
    assert inverter.invert(vectors, temperature=1.0) != inverter.invert(vectors, temperature=1.0)


def test_every_text_is_one_line(inverter, encoder, sentences):
    for text in inverter.invert(encoder.encode(sentences[:50]), temperature=1.5, seed=0):
        assert len(text.splitlines()) <= 1


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 31)), "dimension 31.*dimension 32"),
        (np.full((1, 32), np.nan), "row 0 holds NaN"),
        (np.concatenate([np.ones((2, 32)), np.zeros((1, 32))]) / 32**0.5, "row 2 is all zeros"),
        (np.ones((2, 2, 32)), "shape"),
    ],
)
def test_vectors_that_no_encoder_makes_are_refused(inverter, vectors, message):
    with pytest.raises(ValueError, match=message):
        inverter.invert(vectors)


def test_a_norm_that_contradicts_the_encoder_warns(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[:2])
    with pytest.warns(UserWarning, match="check that they come from"):
        inverter.invert(7 * vectors)


def test_more_tokens_than_the_gpt_has_room_for_are_refused(inverter, encoder):
    with pytest.raises(ValueError, match=r"max_tokens is 62.*room for 61"):
        inverter.invert(encoder.encode(["Anna."]), max_tokens=62)


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
