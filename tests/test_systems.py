"""Every encoder with every decoder family: configured by name, trained, saved, loaded and inverted, in small.

The models have random weights and the layout, tokenizers and special tokens of the hub's; the names of conf/ are kept
and only `encoder.name` and `decoder.name` point to folders, so everything takes the path that a hub name takes.
"""

import json

import numpy as np
import pytest
import torch
from conftest import LetterEncoder, read_jsonl
from embedding_server import EmbeddingServer
from small_models import DECODERS, save_bert, save_e5, save_gtr, save_word_vectors
from test_conf import composed

from vec2text import Inverter, runs
from vec2text.config import DecoderConfig
from vec2text.decoders import load_decoder

make_letters = LetterEncoder  # what `encoder=python encoder.name=test_systems:make_letters` names

ENCODERS = ["labse", "gtr", "e5", "bert", "gpt_mean", "gpt_last", "e5_mistral", "word_vectors", "openai", "python"]
FAMILIES = {
    "gpt2": ["decoder=gpt2"],
    "gpt_neo": ["decoder=gpt-neo-125m"],
    "gpt_j": ["decoder=gpt-j-6b"],  # with low-rank additions to bf16 weights, as its conf says
    "rugpt3": ["decoder=rugpt3small"],
    "qwen3": ["decoder=qwen3-0.6b"],
    "llama": ["decoder=llama"],
    "mistral": ["decoder=llama", "decoder.train=all", "decoder.precision=fp32"],
    "endless": ["decoder=gpt2"],
}
SCRATCH = ["decoder=scratch", "decoder.hidden_size=32", "decoder.layers=2", "decoder.heads=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("systems")


@pytest.fixture(scope="module")
def encoders(place, sentences, labse):
    """Encoder of conf/ -> the overrides that point it to a small model."""
    mistral = DECODERS["mistral"](place / "mistral-encoder", sentences)
    letters = LetterEncoder()
    rows = [
        {"text": text, "vector": vector.tolist()}
        for text, vector in zip(sentences, letters.encode(sentences), strict=True)
    ]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with EmbeddingServer(letters.encode, dimension=letters.dimension) as server:
        yield {
            "labse": [f"encoder.name={labse}"],
            "gtr": [f"encoder.name={save_gtr(place / 'gtr', sentences)}"],
            "e5": [f"encoder.name={save_e5(place / 'e5', sentences)}"],
            "bert": [f"encoder.name={save_bert(place / 'bert', sentences)}"],
            "gpt_mean": [f"encoder.name={DECODERS['gpt2'](place / 'gpt2-encoder', sentences)}"],
            "gpt_last": [f"encoder.name={mistral}", "encoder.precision=fp32"],
            "e5_mistral": [f"encoder.name={mistral}"],
            "word_vectors": [f"encoder.name={save_word_vectors(place / 'words.bin', sentences)}"],
            "openai": [f"encoder.base_url={server.base_url}", "encoder.name=letters"],
            "python": ["encoder.name=test_systems:make_letters"],
            "precomputed": [f"data.paths=[{place / 'pairs.jsonl'}]"],
        }


@pytest.fixture(autouse=True)
def without_edits():
    """Edits of what hardly trained models write take most of a run's time, and are tested in rooms of their own."""
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo what it patched itself
        patch.setattr("vec2text.refinement._STEPS", 0)
        patch.setattr("vec2text.refinement._POLISHES", 0)
        yield


@pytest.fixture(scope="module")
def decoders(place, sentences):
    """Family -> the overrides that point its conf to a small model."""
    found = {
        family: [*overrides, f"decoder.name={DECODERS[family](place / family, sentences)}"]
        for family, overrides in FAMILIES.items()
    }
    return {**found, "scratch": ["decoder=scratch", *SCRATCH, "decoder.vocabulary_size=300"]}


def config(place, text_file, name, *overrides):
    """A run of 20 steps."""
    small = [
        "data=files", f"data.paths=[{text_file}]", "data.max_tokens=40", "data.validation=0.05", "data.test=0.05",
        f"data.cache={place / 'cache'}", f"runs={place / 'runs'}", "projection=linear", "training.steps=20",
        "training.batch_sentences=16", "training.precision=fp32", "training.learning_rate=3e-3",
        "training.projection_learning_rate=1e-2", "training.evaluate_sentences=6", "training.test_sentences=6",
        "training.samples=2", "training.evaluate_every=20", "training.sample_every=20", "training.checkpoint_every=20",
    ]  # fmt: skip
    return composed(f"name={name}", *small, *overrides)


def losses(folder):
    return [row["loss/train"] for row in read_jsonl(folder / "metrics.jsonl") if "loss/train" in row]


@pytest.mark.parametrize("decoder", [*FAMILIES, "scratch"])
@pytest.mark.parametrize("encoder", [*ENCODERS, "precomputed"])
def test_every_encoder_and_every_decoder_family_train_save_load_and_invert(
    place, text_file, encoders, decoders, encoder, decoder
):
    name = f"{encoder}-{decoder}"
    run = config(place, text_file, name, f"encoder={encoder}", *encoders[encoder], *decoders[decoder])
    report = runs.train(run)
    assert report["sentences"] == 6
    assert ("similarity" in report["inverter"]) == ("confidence" in report) == (encoder != "precomputed")
    first, second = losses(place / "runs" / name)  # means over ten steps each
    assert second < first
    folder = place / "runs" / name / "inverter"
    inverter = Inverter.from_pretrained(folder, device="cpu")
    vectors = np.load(place / "runs" / name / "heldout.npy")
    texts = inverter.invert(vectors, max_tokens=12)
    assert len(texts) == 6
    assert any(texts)
    inverter.save_pretrained(place / "again")
    assert Inverter.from_pretrained(place / "again", device="cpu").invert(vectors, max_tokens=12) == texts
    if encoder != "precomputed":
        heldout = (place / "runs" / name / "heldout.txt").read_text().splitlines()
        again = inverter.fingerprint.open_encoder().encode(heldout)
        np.testing.assert_allclose(again, vectors, atol=1e-5 if encoder != "e5_mistral" else 2e-2)  # bf16


@pytest.mark.parametrize("train", ["all", "lora", "projection_only"])
@pytest.mark.parametrize("decoder", [family for family in FAMILIES if family != "endless"])
def test_every_way_of_training_changes_what_it_says_and_nothing_else(
    place, text_file, encoders, decoders, decoder, train
):
    name = f"{train}-{decoder}"
    modes = [f"decoder.train={train}", "decoder.precision=fp32", "decoder.gradient_checkpointing=true"]
    run = config(place, text_file, name, "encoder=labse", *encoders["labse"], *decoders[decoder], *modes)
    before = load_decoder(DecoderConfig(run.decoder.name), [], 60)[0].state_dict()
    runs.train(run)
    inverter = Inverter.from_pretrained(place / "runs" / name / "inverter", device="cpu")
    after = inverter.decoder.state_dict()
    base = {key.replace(".base_layer", ""): value for key, value in after.items() if "lora_" not in key}
    changed = {key for key, value in before.items() if not torch.equal(base[key], value)}
    added = {key for key in after if "lora_" in key}
    assert bool(changed) == (train == "all")
    assert bool(added) == (train == "lora")
    assert all(after[key].any() for key in added if "lora_B" in key)  # it starts at zero
    saved = {path.name for path in (place / "runs" / name / "inverter" / "decoder").iterdir()}
    assert ("adapter_model.safetensors" in saved) == (train == "lora")
    assert ("model.safetensors" in saved) == (train != "lora")


@pytest.mark.parametrize("projection", [["zero_pad", 1], ["linear", 1], ["linear", 16], ["mlp", 1], ["mlp", 64]])
@pytest.mark.parametrize("decoder", ["gpt2", "gpt_j", "qwen3"])
def test_every_projection_goes_with_every_pair(place, text_file, encoders, decoders, decoder, projection):
    kind, length = projection
    wanted = [f"projection={kind}", f"projection.prefix_length={length}", "training.steps=2"]
    run = config(
        place, text_file, f"{kind}{length}-{decoder}", "encoder=gtr", *encoders["gtr"], *decoders[decoder], *wanted
    )
    assert runs.train(run)["prefix length"] == length


def test_a_killed_lora_run_goes_on_with_its_adapter(place, text_file, encoders, decoders, monkeypatch):
    from vec2text import training

    parts = [
        "encoder=labse",
        *encoders["labse"],
        *decoders["gpt2"],
        "decoder.train=lora",
        "training.checkpoint_every=5",
    ]
    whole = runs.train(config(place, text_file, "lora-whole", *parts))
    step, count = training._Run._step, iter(range(100))

    def killed(run, *rest):
        if next(count) == 12:
            raise RuntimeError("killed")
        return step(run, *rest)

    monkeypatch.setattr(training._Run, "_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        runs.train(config(place, text_file, "lora-killed", *parts))
    monkeypatch.undo()
    assert runs.train(config(place, text_file, "lora-killed", *parts)) == whole
    names = ["lora-whole", "lora-killed"]
    one, other = (Inverter.from_pretrained(place / "runs" / name / "inverter", device="cpu") for name in names)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_original_vector2text_runs_by_name(place, text_file, encoders, decoders):
    parts = [*encoders["labse"], *decoders["rugpt3"][1:], "data.max_tokens=40", "training.epochs=0.2"]
    for experiment in ("koziev", "koziev_linear"):
        cache = [f"data.paths=[{text_file}]", f"data.cache={place / 'cache'}", f"runs={place / 'runs'}"]
        report = runs.train(composed(f"experiment={experiment}", *cache, *parts, "training.precision=fp32"))
        assert report["prefix length"] == 1
        samples = read_jsonl(place / "runs" / experiment / "samples.jsonl")[-1]["samples"]
        assert len({row["reconstruction"] for row in samples}) > 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoder.train=lora", "decoder.lora_targets=[nowhere]"], r"lora_targets \['nowhere'\] do not fit .* c_attn"),
        (["projection=zero_pad"], "vectors have dimension 48, more than the GPT's hidden size 32"),
        (["encoder.name=nobody/has-this"], "no folder nobody/has-this here.*hf download nobody/has-this"),
        (["decoder.name=nobody/has-this"], "no folder nobody/has-this here.*hf download nobody/has-this"),
        (["encoder=precomputed", "encoder.vectors=[{place}/few.npy]"], "only 599 vectors for 600 sentences"),
        (["encoder=precomputed", "encoder.vectors=[{place}/many.npy]"], "more than 600 vectors for 600 sentences"),
        (["encoder=precomputed"], "holds text, not vectors"),
        (["encoder=word_vectors", "encoder.name={place}/none.bin"], "there is no file .*none.bin"),
        (["encoder=word_vectors", "encoder.name={place}/few.npy"], "cannot be read as word vectors"),
        (["encoder=python", "encoder.name=test_systems:nothing"], "'test_systems:nothing' cannot be made: Attribute"),
        (["encoder=python", "encoder.name=json:dumps"], "cannot be made: TypeError"),
        (["encoder=python", "encoder.name=pathlib:Path"], "has no dimension and no encode"),
        (["encoder=e5", "encoder.prompt=''", "encoder.prompt_name=title"], "has query.*, passage: choose one of these"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(place, text_file, sentences, decoders, overrides, message):
    if not (place / "few.npy").exists():
        np.save(place / "few.npy", np.ones((len(sentences) - 1, 8), np.float32))
        np.save(place / "many.npy", np.ones((len(sentences) + 1, 8), np.float32))
        save_gtr(place / "wide", sentences, dimension=48)
        save_e5(place / "e5", sentences)
    chosen = {"encoder=e5": f"encoder.name={place / 'e5'}"}
    own = [override.format(place=place) for override in overrides]
    names = [f"encoder.name={place / 'wide'}"] if not any("encoder" in override for override in own) else []
    names += [chosen[override] for override in own if override in chosen]
    with pytest.raises(ValueError, match=message) as refused:
        runs.train(config(place, text_file, "wrong", *decoders["gpt2"], *names, *own))
    assert "\n" not in str(refused.value)


def test_an_endless_tokenizer_needs_a_trained_embedding(place, text_file, encoders, decoders):
    parts = ["encoder=labse", *encoders["labse"], *decoders["endless"], "decoder.train=lora"]
    with pytest.raises(ValueError, match=r"no end token.*use decoder.train=all"):
        runs.train(config(place, text_file, "endless-lora", *parts))
