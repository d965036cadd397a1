"""Every file of conf/ composes, and contradictions are refused where they are made."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import train  # registers the schema
from vec2text import config as room
from vec2text.config import DataConfig, DecoderConfig, EncoderConfig, ProjectionConfig, RunConfig, TrainingConfig

CONF = Path(train.__file__).parent / "conf"
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
FILLED = {
    "hub": ["data.dataset=some/dataset"],
    "files": ["data.paths=[some.txt]"],
    "word_vectors": ["encoder.name=some.bin"],
    "python": ["encoder.name=some:thing"],
    "precomputed": ["data.paths=[pairs.npz]"],
}
for name in (
    "adapt",
    "everyday",
    "minilm_en",
    "minilm_en_on",
    "minilm_en_reward",
    "labse_gpt2",
    "koziev",
    "koziev_linear",
    "geia",
    "prefix16_mlp",
):
    FILLED[name] = ["data.paths=[some.txt]"]


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("train", list(overrides)))


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_composes(path):
    config = composed("name=x", f"{path.parent.name}={path.stem}", *FILLED.get(path.stem, []))
    assert isinstance(config, RunConfig)
    assert OmegaConf.load(path) is not None


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_the_inverter_in_the_package_is_trained_on_with_short_splices():
    config = composed("experiment=minilm_en_on", "data.paths=[some.txt]")
    assert (config.decoder.name, config.decoder.layers, config.projection.prefix_length) == ("bundled", None, 8)
    assert (config.data.splices, config.data.splice_words, config.data.max_words) == (1.6, 16, 28)


@pytest.mark.parametrize("projection", options("projection"))
@pytest.mark.parametrize("decoder", options("decoder"))
def test_every_decoder_takes_every_projection(decoder, projection):
    config = composed("name=x", f"decoder={decoder}", f"projection={projection}")
    assert config.projection.kind == {"bundled": "linear"}.get(projection, projection)


def test_the_original_vector2text_is_as_its_author_described_it():
    config = composed("experiment=koziev", "data.paths=[some.txt]")
    assert (config.encoder.name, config.projection.kind) == ("sentence-transformers/LaBSE", "zero_pad")
    assert "rugpt3large" in config.decoder.name
    assert (config.data.max_characters, config.data.test) == (59, 0.05)
    training = config.training
    assert (training.epochs, training.batch_sentences, training.learning_rate) == (2, 16, 1e-5)
    assert (training.sample_top_k, training.sample_top_p) == (50, 0.85)
    linear = composed("experiment=koziev_linear", "data.paths=[some.txt]")
    assert (linear.projection.kind, linear.projection.prefix_length) == ("linear", 1)
    assert linear.training == training


def test_what_only_the_user_knows_is_asked_for():
    with pytest.raises(Exception, match="name"):
        composed()
    with pytest.raises(Exception, match="paths"):
        composed("experiment=everyday")


def test_every_field_of_the_schema_is_explained():
    source = Path(room.__file__).read_text().splitlines()
    for kind in (EncoderConfig, DataConfig, DecoderConfig, ProjectionConfig, TrainingConfig):
        assert is_dataclass(kind)
        start = source.index(f"class {kind.__name__}:")
        for field in fields(kind):
            line = next(i for i in range(start, len(source)) if source[i].startswith(f"    {field.name}: "))
            assert source[line + 1].startswith('    """'), f"{kind.__name__}.{field.name} has no docstring"


SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocabulary_size": 300, "dropout": 0.0}
CONTRADICTIONS = [
    (lambda: TrainingConfig(optimizer="lion"), r"training\.optimizer is 'lion'"),
    (lambda: TrainingConfig(muon_learning_rate=1e-3), "muon_learning_rate has no effect with training.optimizer=adamw"),
    (lambda: TrainingConfig(optimizer="muon", muon_learning_rate=0.0), "muon_learning_rate is 0.0; expected > 0"),
    (lambda: TrainingConfig(correction_fraction=0.3, batch_sentences=8), r"batch_sentences has no effect on correct"),
    (lambda: TrainingConfig(reward_fraction=1.1), r"reward_fraction is 1\.1; expected 0 to 1, what"),
    (
        lambda: TrainingConfig(reward_fraction=0.8, correction_fraction=0.3),
        r"reward_fraction is 0\.8; .* 0 to 0\.7, .*\(0\.3\)",
    ),
    (lambda: TrainingConfig(reward_samples=4), r"reward_samples is 4, which has no effect without training\.reward_f"),
    (lambda: TrainingConfig(reward_fraction=0.5, reward_samples=1), r"reward_samples is 1; expected at least 2"),
    (lambda: TrainingConfig(correction_fraction=0.8), r"correction_fraction is 0\.8; expected 0 to 0\.7"),
    (lambda: TrainingConfig(steps=3, minutes=1), r"training\.steps and training\.minutes contradict"),
    (lambda: TrainingConfig(steps=0), r"training\.steps is 0"),
    (lambda: TrainingConfig(precision="fp16"), "fp16.*expected one of auto, bf16, fp32"),
    (lambda: TrainingConfig(warmup=1.0), r"training\.warmup"),
    (lambda: TrainingConfig(calibration_sentences=-1), r"calibration_sentences is -1; expected >= 0"),
    (lambda: TrainingConfig(noise=-0.1), r"training\.noise"),
    (lambda: TrainingConfig(batch_tokens=0), r"training\.batch_tokens"),
    (lambda: TrainingConfig(quantize=["int8"]), r"training\.quantize is given and training\.changed_share is None"),
    (lambda: TrainingConfig(truncate=[8], changed_share=0.0), r"training\.truncate is given .*changed_share is 0\.0"),
    (lambda: TrainingConfig(truncate=[8], changed_share=1.5), r"changed_share is 1\.5; expected .* up to 1"),
    (lambda: TrainingConfig(changed_share=0.5), r"has no effect without training\.quantize or training\.truncate"),
    (lambda: TrainingConfig(quantize=[], changed_share=0.5), r"training\.quantize is empty"),
    (lambda: TrainingConfig(quantize=["int4"], changed_share=0.5), "'int4'; expected one of int8, binary, fp16"),
    (lambda: TrainingConfig(truncate=[8, 0], changed_share=0.5), r"training\.truncate is 0; expected > 0"),
    (lambda: TrainingConfig(truncate=[8, 32], changed_share=1.0).check_dimension(32), "truncate is 32, but .* have 32"),
    (lambda: DataConfig(), r"data\.paths and data\.dataset"),
    (lambda: DataConfig(["a"], dataset="b"), r"data\.paths and data\.dataset"),
    (lambda: DataConfig(["a"], dataset_config="b"), "dataset_config has no effect"),
    (lambda: DataConfig(["a"], test=0.7), r"data\.test is 0\.7"),
    (lambda: DataConfig(["a"], min_words=5, max_words=4), "min_words is 5 and data.max_words is 4"),
    (lambda: DataConfig(["a"], splice_words=9), "splice_words is 9, but there are no splices"),
    (lambda: DataConfig(["a"], splices=1, splice_words=9, max_words=8), r"9; expected at most data\.max_words \(8\)$"),
    (
        lambda: DataConfig(["a"], splices=1, splice_words=2),
        "splice_words is 2; expected at least 3: a splice has a word",
    ),
    (lambda: DataConfig(["a"], splices=1, splice_words=4, min_words=5), "4; expected at least 5: .*min_words is 5$"),
    (lambda: DataConfig(["a"], splices=1, splice_words=0), "splice_words is 0; expected > 0"),
    (lambda: DataConfig(["a"], limit=0), r"data\.limit is 0"),
    (lambda: DecoderConfig("scratch"), r"decoder\.hidden_size is needed"),
    (lambda: DecoderConfig("gpt2", layers=3), r"decoder\.layers has no effect"),
    (lambda: DecoderConfig("gpt2", train="some"), r"decoder\.train is 'some'"),
    (lambda: DecoderConfig("scratch", train="projection_only", **SCRATCH), "random weights must be trained"),
    (lambda: DecoderConfig("scratch", **{**SCRATCH, "heads": 5}), "hidden_size 32 is no multiple of decoder.heads 5"),
    (lambda: DecoderConfig("scratch", **{**SCRATCH, "vocabulary_size": 100}), "at least 257"),
    (lambda: ProjectionConfig("zero_pad", 2), "zero_pad makes one token.*prefix_length is 2"),
    (lambda: ProjectionConfig("linear", 2, 7), "hidden_size has no effect with projection.kind=linear"),
    (lambda: ProjectionConfig("mlp", 65), "prefix_length is 65"),
    (lambda: ProjectionConfig("cubic"), "kind is 'cubic'"),
    (lambda: TrainingConfig(batch_tokens=9, batch_sentences=9), "batch_tokens and training.batch_sentences contradict"),
    (lambda: TrainingConfig(batch_sentences=0), r"training\.batch_sentences is 0"),
    (lambda: DecoderConfig("scratch", train="lora", **SCRATCH), "random weights must be trained"),
    (lambda: DecoderConfig("gpt2", precision="bf16"), "bf16 contradicts decoder.train=all"),
    (lambda: DecoderConfig("gpt2", precision="int8", train="lora"), r"decoder\.precision is 'int8'"),
    (lambda: DecoderConfig("gpt2", lora_rank=4), "lora_rank has no effect with decoder.train=all"),
    (lambda: DecoderConfig("gpt2", lora_targets=["c_attn"]), "lora_targets has no effect"),
    (lambda: DecoderConfig("gpt2", train="lora", lora_rank=0), r"decoder\.lora_rank is 0"),
    (lambda: EncoderConfig("x", batch_size=0), r"encoder\.batch_size"),
    (lambda: EncoderConfig("x", kind="magic"), "kind is 'magic'; expected one of sentence_transformer"),
    (lambda: EncoderConfig("x", kind="transformer"), "pooling is 'None'; expected one of mean, last, cls"),
    (lambda: EncoderConfig("x", kind="transformer", pooling="max"), "pooling is 'max'"),
    (lambda: EncoderConfig("x", pooling="mean"), "pooling has no effect with encoder.kind=sentence_transformer"),
    (lambda: EncoderConfig("x", base_url="http://h"), "base_url has no effect.* only with openai"),
    (lambda: EncoderConfig("x.bin", kind="word_vectors", prompt="a"), "prompt has no effect"),
    (lambda: EncoderConfig("x", prompt="a", prompt_name="b"), "prompt and encoder.prompt_name contradict"),
    (lambda: EncoderConfig("x", kind="python"), "expected module:name"),
    (lambda: EncoderConfig("x", truncate_dimension=0), r"encoder\.truncate_dimension is 0"),
    (lambda: EncoderConfig("x", max_length=-1), r"encoder\.max_length is -1"),
    (lambda: EncoderConfig("x", kind="openai", retries=-1), r"encoder\.retries is -1"),
    (lambda: EncoderConfig("x", precision="int8"), r"encoder\.precision is 'int8'"),
]


@pytest.mark.parametrize(("make", "message"), CONTRADICTIONS, ids=[message for _, message in CONTRADICTIONS])
def test_contradictions_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_of_changes_compose():
    words = ["training.quantize=[int8,binary]", "training.truncate=[256,128]", "training.changed_share=0.5"]
    training = composed("name=x", *words).training
    assert (training.quantize, training.truncate, training.changed_share) == (["int8", "binary"], [256, 128], 0.5)


def test_fractions_that_make_a_whole_are_allowed_whatever_the_rounding():
    for percent in range(1, 71):
        TrainingConfig(correction_fraction=percent / 100, reward_fraction=(100 - percent) / 100)


def test_differences_name_every_changed_value():
    from dataclasses import asdict, replace

    config = composed("name=x")
    assert config.differences(asdict(config)) == []
    other = replace(config, training=replace(config.training, seed=7))
    assert other.differences(asdict(config)) == ["training.seed: 0 -> 7"]
    before = asdict(config)
    for name in ("quantize", "truncate", "changed_share", "optimizer", "correction_fraction", "reward_fraction"):
        del before["training"][name]
    assert config.differences(before) == []  # a run that was started before there were such options can go on
