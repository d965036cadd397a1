"""Imports point one way, heavy packages stay in their rooms, and importing the package loads nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vec2text

PACKAGE = Path(vec2text.__file__).parent
ORDER = [
    {"loss", "ahead", "compact", "adaptation", "bars", "splices", "tokenizer", "progress"},
    {"gpt2", "tokens"},
    {"steps"},
    {"trunks"},
    {"paths"},
    {
        "commandline",
        "config",
        "correction",
        "storage",
        "vectors",
        "decoding",
        "edits",
        "extras",
        "hardware",
        "sentences",
        "signals",
        "intervals",
        "pieces",
    },
    {"word_vectors", "endpoint", "corpus", "runlog", "optimizer", "projection", "decoders", "checkpoint", "metrics"}
    | {"robustness", "exploration", "calibration", "constraints", "openings"},
    {"encoders", "masks", "search"},
    {"fingerprint", "sources", "report", "insertion", "reconstruction"},
    {"description", "cache", "figures", "rules"},
    {"assembly"},
    {"inverter"},
    {"batches", "writing"},
    {"refinement", "drafts"},
    {"evaluation", "rows", "rewards"},
    {"validation", "lessons"},
    {"training"},
    {"outcome", "start"},
    {"runs"},
]
"""Rooms from the ground up: each may import only from the floors below its own."""
ONLY_IN = {
    "sentence_transformers": {"encoders"},
    "datasets": {"corpus"},
    "hydra": set(),
    "omegaconf": set(),
    "tensorboard": {"runlog"},
    "torch.utils.tensorboard": {"runlog"},
    "accelerate": {"training", "lessons", "runs", "hardware"},
    "peft": {"decoders"},
    "transformers": {"decoders", "steps", "bars", "tokens", "batches", "assembly"},
    "gensim": {"word_vectors"},
    "openai": {"endpoint"},
    "matplotlib": {"figures"},
    "sacrebleu": {"metrics"},
}


def imported(source):
    """Every module that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(room, source):
    """What a room imports against the rules."""
    floor = next(i for i, rooms in enumerate(ORDER) if room in rooms)
    below = set().union(*ORDER[:floor])
    for name in imported(source):
        parts = name.split(".")
        if parts[0] == "vec2text" and len(parts) > 1 and parts[1] not in below and parts[1] != room:
            yield f"{room} imports {name}"
        for heavy, rooms in ONLY_IN.items():
            if (name == heavy or name.startswith(heavy + ".")) and room not in rooms:
                yield f"{room} imports {name}"


def test_every_room_has_a_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set().union(*ORDER)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    assert list(faults(path.stem, path.read_text())) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("inverter", "from vec2text.training import fit"),
        ("inverter", "def f():\n    import datasets"),
        ("decoding", "import vec2text.inverter"),
        ("corpus", "from hydra import main"),
        ("inverter", "from vec2text import runs"),
        ("training", "import torch.utils.tensorboard as t"),
    ],
)
def test_the_rule_can_be_broken(room, source):
    assert list(faults(room, source))


def loaded_by(statement):
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


HEAVY = {"torch", "transformers", "sentence_transformers", "datasets", "accelerate", "numpy"}


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import vec2text") & HEAVY


def test_inference_loads_no_training():
    loaded = loaded_by("from vec2text import Inverter")
    assert not {"vec2text.training", "vec2text.corpus", "datasets", "sentence_transformers"} & loaded
    assert "torch" in loaded  # the guard can fail


def test_inverting_with_the_inverter_in_the_package_loads_only_what_it_needs():
    code = "from vec2text import Inverter; assert Inverter.from_pretrained(device='cpu').invert([[1.0] * 384])"
    assert not {"transformers", "accelerate", "sympy", "torch._dynamo", "scipy.optimize"} & loaded_by(code)


def test_every_public_name_is_there_and_others_are_not():
    for name in vec2text.__all__:
        assert getattr(vec2text, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = vec2text.nothing_of_ours
