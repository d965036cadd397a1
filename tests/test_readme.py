"""Every command and every snippet of README.md runs, on small data and for a few steps."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import LetterEncoder
from embedding_server import EmbeddingServer
from small_models import DECODERS, save_word_vectors

import evaluate
import generate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SMALL = [
    "training.steps=2", "training.minutes=null", "training.epochs=null", "training.batch_tokens=1000",
    "training.evaluate_sentences=4", "training.test_sentences=4", "training.samples=2", "data.limit=400",
    "data.validation=0.1", "data.test=0.1",
]  # fmt: skip


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory, sentences, labse, gpt2):
    """A folder with what the README's commands name, and the demo's inverter after two steps."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "my.txt").write_text("\n".join(sentences))
    (folder / "my.csv").write_text("id,body\n" + "\n".join(f"{i},{text}" for i, text in enumerate(sentences)))
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "sentence-transformer").symlink_to(labse)
    vectors = np.random.default_rng(0).standard_normal((5, 384)).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(folder / "vectors.npy", vectors)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"vector": vectors.tolist()}), folder / "vectors.parquet")
    pairs = {"text": sentences, "vector": LetterEncoder().encode(sentences).tolist()}
    pq.write_table(pa.table(pairs), folder / "pairs.parquet")
    (folder / "my_encoder.py").write_text("from conftest import LetterEncoder as make\n")
    save_word_vectors(folder / "vectors.bin", ["the cat sat on a mat", *sentences])
    DECODERS["qwen3"](folder / "qwen3", sentences)
    (folder / "labse").symlink_to(labse)
    (folder / "gpt2").symlink_to(gpt2)
    train(folder, ["experiment=demo", *SMALL])
    return folder


STAND_INS = {
    "encoder=labse": ["encoder.name=labse"],
    "encoder=gpt_mean": ["encoder.name=gpt2"],
    "decoder=gpt2": ["decoder.name=gpt2", "data.max_tokens=40"],
    "decoder=qwen3-0.6b": ["decoder.name=qwen3"],
}
"""The models of the hub are stood in for by small ones of the same kind, in the folder `place`."""


def train(folder, overrides):
    """train.py in this process."""
    names = [name for override in overrides for name in STAND_INS.get(override, [])]
    groups = {override.split("=")[0] for override in overrides}
    if "encoder" in groups and not groups & {"decoder", "experiment"}:  # with MiniLM it is that of the package
        names += ["decoder=scratch", "decoder.hidden_size=64", "decoder.heads=2", "decoder.vocabulary_size=300"]
    here, arguments = os.getcwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["train.py", *overrides, *names]
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    finally:
        os.chdir(here)
        sys.argv = arguments


@pytest.fixture(autouse=True)
def little_polish(monkeypatch):
    """Edits of what an inverter writes after two steps take long, and are tested in rooms of their own."""
    monkeypatch.setattr("vec2text.refinement._POLISHES", 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(command, place, monkeypatch, capsys):
    program, *words = shlex.split(command)
    if program == "make":
        done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    assert program == "python"
    if words[0] == "train.py":
        letters = LetterEncoder()
        with EmbeddingServer(letters.encode, letters.dimension) as server:
            address = f"encoder.base_url={server.base_url}"
            words = [address if word.startswith("encoder.base_url") else word for word in words]
            train(place, [*words[1:], *SMALL])
        assert "nearest training sentence" in capsys.readouterr().out
        return
    monkeypatch.chdir(place)
    if words[0] == "evaluate.py":
        monkeypatch.setattr(sys, "argv", [*words, "--model", "runs/demo/inverter", "--limit", "12"])
        assert evaluate.main() == 0
        assert "zero vector" in capsys.readouterr().out
        return
    assert words[0] == "generate.py"
    monkeypatch.setattr(sys, "argv", [*words, "--model", "runs/demo/inverter", "--max-new-tokens", "5"])
    assert generate.main() == 0


@pytest.mark.parametrize("snippet", blocks("python"))
def test_every_snippet_runs(snippet, place, monkeypatch):
    monkeypatch.chdir(place)
    exec(compile(snippet, "README.md", "exec"), {})


def test_the_file_tree_is_the_one_there_is():
    tree = README.split("```\ntrain.py")[1].split("```")[0]
    named = set(re.findall(r"^  (\w+\.py)", tree, re.MULTILINE))
    assert named == {path.name for path in (ROOT / "vec2text").glob("[!_]*.py")}
