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
    "everyday": ["data.paths=[some.txt]"],
    "files": ["data.paths=[some.txt]"],
}


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


@pytest.mark.parametrize("projection", options("projection"))
@pytest.mark.parametrize("decoder", options("decoder"))
@pytest.mark.parametrize("encoder", options("encoder"))
def test_every_pair_of_models_composes(encoder, decoder, projection):
    config = composed("name=x", f"encoder={encoder}", f"decoder={decoder}", f"projection={projection}")
    assert config.projection.kind == projection


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
    (lambda: TrainingConfig(steps=3, minutes=1), r"training\.steps and training\.minutes contradict"),
    (lambda: TrainingConfig(steps=0), r"training\.steps is 0"),
    (lambda: TrainingConfig(precision="fp16"), "fp16.*expected one of auto, bf16, fp32"),
    (lambda: TrainingConfig(warmup=1.0), r"training\.warmup"),
    (lambda: TrainingConfig(noise=-0.1), r"training\.noise"),
    (lambda: TrainingConfig(batch_tokens=0), r"training\.batch_tokens"),
    (lambda: DataConfig(), r"data\.paths and data\.dataset"),
    (lambda: DataConfig(["a"], dataset="b"), r"data\.paths and data\.dataset"),
    (lambda: DataConfig(["a"], dataset_config="b"), "dataset_config has no effect"),
    (lambda: DataConfig(["a"], test=0.7), r"data\.test is 0\.7"),
    (lambda: DataConfig(["a"], min_words=5, max_words=4), "min_words is 5 and data.max_words is 4"),
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
    (lambda: EncoderConfig("x", batch_size=0), r"encoder\.batch_size"),
]


@pytest.mark.parametrize(("make", "message"), CONTRADICTIONS, ids=[message for _, message in CONTRADICTIONS])
def test_contradictions_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_differences_name_every_changed_value():
    from dataclasses import asdict, replace

    config = composed("name=x")
    assert config.differences(asdict(config)) == []
    other = replace(config, training=replace(config.training, seed=7))
    assert other.differences(asdict(config)) == ["training.seed: 0 -> 7"]
