"""The real commands, end to end, and one clear line for each kind of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import read_jsonl
from safetensors.torch import load_file

import generate
from vec2text import Inverter, metrics, sources
from vec2text.exploration import interpolate, weighted_sum

ROOT = Path(__file__).parent.parent
SIZES = ["decoder.hidden_size=64", "decoder.layers=2", "decoder.heads=2", "decoder.vocabulary_size=300"]
LOG = ["training.evaluate_every=5", "training.sample_every=10", "training.checkpoint_every=5"]


def command(script, *arguments, **options):
    environment = {**os.environ, "PYTHONWARNINGS": "default", "HYDRA_FULL_ERROR": "1"}
    line = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300, **options)


@pytest.fixture(scope="module")
def training(labse, text_file):
    """The arguments of a run of 20 steps."""
    data = [f"data.paths=[{text_file}]", "data.validation=0.1", "data.test=0.1", f"encoder.name={labse}"]
    models = ["decoder=scratch", "projection=mlp"]
    limits = ["training.steps=20", "training.batch_tokens=600", "training.precision=fp32", "projection.prefix_length=2"]
    return [*data, *models, *SIZES, *LOG, *limits]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, training):
    """A folder in which one run, `whole`, has been trained by the real command."""
    place = tmp_path_factory.mktemp("work")
    done = command("train.py", "name=whole", *training, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "held-out sentences at step 20" in done.stdout
    assert "nearest training sentence" in done.stdout
    return place


def test_training_writes_what_it_says(workplace):
    run = workplace / "runs" / "whole"
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        "config.json", "corpus.json", "checkpoint", "inverter", "tensorboard", "metrics.jsonl", "samples.jsonl",
        "results.json", "heldout.npy", "heldout.txt",
    }  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert {"inverter", "nearest training sentence", "zero vector", "prefix length", "decoding"} <= set(results)
    assert [entry["step"] for entry in read_jsonl(run / "samples.jsonl")] == [10, 20]
    assert len((run / "heldout.txt").read_text().splitlines()) == len(np.load(run / "heldout.npy"))
    card = (run / "inverter" / "README.md").read_text()
    assert "nearest training sentence" in card
    assert not list(workplace.glob("outputs*")), "Hydra wrote a folder of its own"


def test_the_same_command_again_reuses_the_run(workplace, training):
    before = (workplace / "runs" / "whole" / "inverter" / "projection.safetensors").stat().st_mtime_ns
    done = command("train.py", "name=whole", *training, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "nearest training sentence" in done.stdout
    assert (workplace / "runs" / "whole" / "inverter" / "projection.safetensors").stat().st_mtime_ns == before


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(workplace, training):
    run = workplace / "runs" / "killed"
    line = [sys.executable, str(ROOT / "train.py"), "name=killed", *training]
    process = subprocess.Popen(line, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (run / "checkpoint").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = command("train.py", "name=killed", *training, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    for name in (
        "checkpoint/state.safetensors",
        "inverter/projection.safetensors",
        "inverter/decoder/model.safetensors",
    ):
        whole, killed = load_file(workplace / "runs" / "whole" / name), load_file(run / name)
        assert all(np.array_equal(whole[key].numpy(), killed[key].numpy()) for key in whole), name
    samples = [(workplace / "runs" / name / "samples.jsonl").read_text() for name in ("whole", "killed")]
    assert samples[0] == samples[1]


def test_sigterm_saves_and_says_how_to_go_on(workplace, training):
    line = [sys.executable, str(ROOT / "train.py"), "name=ended", *training, "training.steps=100000"]
    process = subprocess.Popen(line, cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (workplace / "runs" / "ended" / "checkpoint").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Run the same command again to go on" in errors.splitlines()[-1]
    assert "Traceback" not in errors


FULL_DISK = """
mount -t tmpfs -o size="$1" none runs && shift && {
    "$@" name=full; echo "first: $?" >&2
    ls runs/full/checkpoint/progress.json >&2
    mount -o remount,size=200M runs
    "$@" name=full; echo "second: $?" >&2
}
"""


def test_on_a_full_disk_the_last_checkpoint_survives_and_the_run_goes_on(workplace, training, tmp_path):
    if subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("no small disk can be mounted here")
    (tmp_path / "runs").mkdir()
    shutil.copytree(workplace / "cache", tmp_path / "cache")
    size = sum(
        path.stat().st_size
        for name in ("checkpoint", "inverter")
        for path in (workplace / "runs" / "whole" / name).rglob("*")
    )
    room = str(size + 400_000)  # for one checkpoint and one inverter, but not for their successors beside them
    train = [sys.executable, str(ROOT / "train.py"), *training]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", room, *train], cwd=tmp_path, capture_output=True, text=True
    )
    lines = done.stderr.splitlines()
    assert "first: 2" in lines, done.stderr
    failure = lines[lines.index("first: 2") - 1]
    assert failure.startswith("train.py: ")
    assert "No space left on device" in failure
    assert "runs/full/checkpoint/progress.json" in lines
    assert "second: 0" in lines, done.stderr
    assert "going on from step 5" in done.stdout


BAD_TRAINING = {
    "unknown key": (["training.foo=1"], "training.foo"),
    "wrong type": (["training.steps=many"], "training.steps"),
    "contradiction": (["training.minutes=3"], "training.steps and training.minutes contradict"),
    "unknown option": (["decoder=nope"], "decoder/nope"),
    "no override": (["training"], "training"),
    "missing file": (["data.paths=[nowhere.txt]"], "there is no file nowhere.txt"),
    "unknown encoder": (["encoder.name=no/such-encoder"], "no/such-encoder"),
    "too small a batch": (["training.batch_tokens=5"], "training.batch_tokens is 5"),
    "another configuration": (["name=whole", "training.seed=1"], "training.seed: 0 -> 1"),
    "runs cannot be written": (["runs=/proc/nowhere"], "/proc/nowhere"),
}


@pytest.mark.parametrize("case", ["unknown key", "missing file"])
def test_bad_training_input_is_one_line_and_exit_code_2(workplace, training, case):
    overrides, message = BAD_TRAINING[case]
    done = command("train.py", "name=bad", *training, *overrides, cwd=workplace)
    complain_once(done.returncode, done.stdout, done.stderr, "train.py: ", message)


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_bad_training_input_in_process(workplace, training, case, monkeypatch, capfd):
    """The same entry point without the seconds of start-up, so that every kind can be tried."""
    import runpy

    overrides, message = BAD_TRAINING[case]
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["train.py", "name=bad", *training, *overrides])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    shutil.rmtree(workplace / "runs" / "bad", ignore_errors=True)
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith(("encoding", "corpus"))]
    complain_once(end.value.code, captured.out, "\n".join(lines), "train.py: ", message)


def complain_once(code, out, err, start, message):
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith(start)
    assert message in lines[0]


def test_train_help_teaches(workplace):
    done = command("train.py", "--help", cwd=workplace)
    assert done.returncode == 0
    for word in ("experiment=demo", "data.paths=[my.txt]", "runs/NAME", "experiment: ", "batch_tokens"):
        assert word in done.stdout


# -- generate.py -----------------------------------------------------------------------------------------------------


@pytest.fixture
def call(workplace, monkeypatch, capsys):
    """Run generate.py in this process, in the workplace: (exit code, stdout, stderr)."""

    def run(*arguments, stdin=""):
        import io

        monkeypatch.chdir(workplace)
        monkeypatch.setattr(sys, "argv", ["generate.py", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            code = generate.main()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def expected(workplace):
    """Held-out vectors of the run and what its inverter makes of them."""
    vectors = np.load(workplace / "runs" / "whole" / "heldout.npy")
    return vectors, Inverter.from_pretrained(workplace / "runs" / "whole" / "inverter").invert(vectors)


WHOLE = ("--model", "runs/whole/inverter")


def test_the_real_command_prints_one_line_a_row_and_nothing_else(workplace, expected):
    done = command("generate.py", *WHOLE, "--vector", "runs/whole/heldout.npy", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected[1]


@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "safetensors", "json", "jsonl", "csv", "parquet", "-", "inline"])
def test_every_kind_of_input_gives_the_same_lines(call, expected, tmp_path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq
    import safetensors.numpy
    import torch

    vectors, texts = expected
    path, lines = tmp_path / f"v.{kind}", "\n".join(json.dumps(row) for row in vectors.tolist())
    write = {
        "npy": lambda: np.save(path, vectors),
        "npz": lambda: np.savez(path, vectors=vectors),
        "pt": lambda: torch.save(torch.from_numpy(vectors), path),
        "safetensors": lambda: safetensors.numpy.save_file({"vectors": vectors}, path),
        "json": lambda: path.write_text(json.dumps(vectors.tolist())),
        "jsonl": lambda: path.write_text(lines),
        "csv": lambda: path.write_text("\n".join(",".join(map(repr, row)) for row in vectors.tolist())),
        "parquet": lambda: pq.write_table(pa.table({"vector": vectors.tolist()}), path),
    }
    write.get(kind, lambda: None)()
    source = {"-": "-", "inline": json.dumps(vectors.tolist())}.get(kind, path)
    code, out, err = call(*WHOLE, "--vector", source, stdin=lines if kind == "-" else "")
    assert code == 0, err
    assert out.splitlines() == texts


def test_texts_are_embedded_first(call, expected, workplace, tmp_path):
    references = (workplace / "runs" / "whole" / "heldout.txt").read_text().splitlines()
    code, out, _ = call(*WHOLE, "--text", references[0], "--text", references[1])
    assert (code, out.splitlines()) == (0, expected[1][:2])
    (tmp_path / "texts.txt").write_text("\n".join(references[:3]))
    code, out, _ = call(*WHOLE, "--text-file", tmp_path / "texts.txt")
    assert (code, out.splitlines()) == (0, expected[1][:3])


def test_the_default_model_is_the_newest(call, expected, workplace):
    time.sleep(0.01)
    (workplace / "runs" / "whole" / "inverter" / "inverter.json").touch()
    code, out, err = call("--vector", "runs/whole/heldout.npy")
    assert (code, out.splitlines()) == (0, expected[1])
    assert "runs/whole/inverter" in err


def test_jsonl_rows_and_an_output_file(call, expected, tmp_path):
    path = tmp_path / "out.jsonl"
    code, out, _ = call(*WHOLE, "--vector", "runs/whole/heldout.npy", "--format", "jsonl", "--output", path)
    assert (code, out) == (0, "")
    rows = read_jsonl(path)
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert [row["text"] for row in rows] == expected[1]
    assert [item.name for item in tmp_path.iterdir()] == ["out.jsonl"]


def test_decoding_options_reach_the_inverter(call, expected, workplace):
    vectors, _ = expected
    inverter = Inverter.from_pretrained(workplace / "runs" / "whole" / "inverter")
    cases = {
        ("--num-beams", 3): {"num_beams": 3},
        ("--temperature", 0.9, "--top-k", 7, "--top-p", 0.8, "--seed", 4): {
            "temperature": 0.9, "top_k": 7, "top_p": 0.8, "seed": 4,
        },
        ("--max-new-tokens", 3): {"max_tokens": 3},
        ("--min-new-tokens", 20): {"min_tokens": 20},
        ("--temperature", 1, "--seed", 4, "--batch-size", 5): {"temperature": 1.0, "seed": 4},
    }  # fmt: skip
    for flags, options in cases.items():
        code, out, err = call(*WHOLE, "--vector", "runs/whole/heldout.npy", "--device", "cpu", *flags)
        assert code == 0, err
        assert out.splitlines() == inverter.invert(vectors, **options)


def test_a_model_that_learned_nothing_still_scores_what_results_say(expected, workplace):
    references = (workplace / "runs" / "whole" / "heldout.txt").read_text().splitlines()
    results = json.loads((workplace / "runs" / "whole" / "results.json").read_text())
    assert results["inverter"]["bleu"] == round(metrics.corpus_bleu(references, expected[1]), 1)


@pytest.mark.filterwarnings("default:the vectors have length")
def test_vectors_of_the_wrong_length_warn_in_one_line(call, expected, tmp_path):
    np.save(tmp_path / "long.npy", 9 * expected[0])
    code, out, err = call(*WHOLE, "--vector", tmp_path / "long.npy")
    assert (code, len(out.splitlines())) == (0, len(expected[0]))
    warned = [line for line in err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert "check that they come from" in warned[0]


def write_vectors(path, array):
    np.save(path, array)
    return path


GOOD = np.eye(32, dtype=np.float32)[:3]
BAD_INPUT = {
    "missing file": (lambda p: ["--vector", p / "no.npy"], "there is no such file"),
    "empty file": (lambda p: ["--vector", touched(p / "a.npy")], "the file is empty"),
    "integers": (lambda p: ["--vector", write_vectors(p / "a.npy", GOOD.astype(int))], "floating-point"),
    "wrong dimension": (lambda p: ["--vector", write_vectors(p / "a.npy", GOOD[:, :31])], "dimension 31"),
    "nan": (lambda p: ["--vector", write_vectors(p / "a.npy", GOOD * np.nan)], "NaN or infinity"),
    "infinity": (lambda p: ["--vector", write_vectors(p / "a.npy", GOOD + np.inf)], "NaN or infinity"),
    "zero row": (lambda p: ["--vector", write_vectors(p / "a.npy", GOOD * [[1], [0], [1]])], "row 1 is all zeros"),
    "truncated npy": (lambda p: ["--vector", cut(write_vectors(p / "a.npy", GOOD))], "a.npy"),
    "truncated parquet": (lambda p: ["--vector", cut(parquet(p / "a.parquet"))], "broken .parquet"),
    "json that is no vector": (lambda p: ["--vector", written(p / "a.json", '{"a": 1}')], "expected a key `vector`"),
    "broken json": (lambda p: ["--vector", written(p / "a.json", "[1.0, ")], "a.json"),
    "uneven lists": (lambda p: ["--vector", "[[0.1, 0.2], [0.3]]"], "different lengths"),
    "unknown folder": (lambda p: ["--model", p / "none", *VECTOR], "there is no folder"),
    "unknown id": (lambda p: ["--model", "no-such-user/no-such-model", *VECTOR], "no-such-user/no-such-model"),
    "no inverter": (lambda p: ["--model", p, *VECTOR], "is no inverter"),
    "newer format": (lambda p: ["--model", damaged(p, "version"), *VECTOR], "upgrade"),
    "corrupt weights": (lambda p: ["--model", damaged(p, "weights"), *VECTOR], "cannot be loaded"),
    "unknown option": (lambda p: ["--vectors", "a.npy"], "--help"),
    "no input": (lambda p: [], "required"),
    "two inputs": (lambda p: ["--text", "a", *VECTOR], "not allowed with"),
    "contradiction": (lambda p: [*VECTOR, "--num-beams", 2, "--temperature", 1], "contradict"),
    "no effect": (lambda p: [*VECTOR, "--temperature", 0, "--top-k", 4], "top_k has no effect"),
    "encoder without text": (lambda p: [*VECTOR, "--encoder", "x"], "--encoder has no effect"),
    "batch size": (lambda p: [*VECTOR, "--batch-size", 0], "--batch-size is 0"),
    "bad output": (lambda p: [*VECTOR, "--output", p / "no" / "folder" / "out"], "folder"),
    "output is a folder": (lambda p: [*VECTOR, "--output", p], "irectory"),
    "bad device": (lambda p: [*VECTOR, "--device", "abacus"], "abacus"),
    "no such device": (lambda p: [*VECTOR, "--device", "cuda:7"], "cuda:7"),
    "empty vector": (lambda p: ["--vector", ""], "unknown kind"),
    "broken description": (lambda p: ["--model", damaged(p, "probes"), *VECTOR], "inverter.json is broken"),
    "empty text": (lambda p: ["--text", "  "], "text 0 is empty"),
    "missing text file": (lambda p: ["--text-file", p / "no.txt"], "no.txt"),
    "one end": (lambda p: ["--interpolate", "a"], "expected 2 arguments"),
    "three ends": (lambda p: ["--interpolate", "a", "b", "c"], "unrecognized arguments: c"),
    "empty end": (lambda p: ["--interpolate", "a", " "], "text 1 is empty"),
    "one point": (lambda p: ["--interpolate", "a", "b", "--points", 1], "--points is 1; expected at least 2"),
    "points of nothing": (lambda p: ["--text", "a", "--points", 3], "--points has no effect without --interpolate"),
    "linear sum": (lambda p: ["--arithmetic", "a", "--linear"], "--linear has no effect without --interpolate"),
    "opposite ends": (lambda p: ["--interpolate", *opposite(p)], "opposite"),
    "ends of another dimension": (lambda p: ["--interpolate", *narrow(p)], "dimension 31"),
    "ends of two dimensions": (lambda p: ["--interpolate", "a", narrow(p)[0]], "vector 1 has shape (31,)"),
    "broken end": (lambda p: ["--interpolate", "a", touched(p / "a.npy")], "a.npy: the file is empty"),
    "two explorations": (lambda p: ["--interpolate", "a", "b", "--arithmetic", "a"], "not allowed with"),
    "empty sum": (lambda p: ["--arithmetic", " "], "the sum is empty"),
    "missing operand": (lambda p: ["--arithmetic", "a - - b"], "a text is missing before '- b'"),
    "open quote": (lambda p: ["--arithmetic", "a - 'b"], "is not closed"),
    "vanishing sum": (lambda p: ["--arithmetic", "a + b - a - b"], "cancel out"),
    "vanishing mean": (lambda p: ["--arithmetic", both(p)], "cancel out"),
    "encoder without text to sum": (
        lambda p: ["--arithmetic", write_vectors(p / "a.npy", GOOD), "--encoder", "x"],
        "--encoder has no effect",
    ),
    "nothing to be near": (
        lambda p: [*VECTOR, "--nearest", written(p / "a.txt", "\n \n")],
        "there is no sentence in it",
    ),
    "missing neighbours": (lambda p: [*VECTOR, "--nearest", p / "no.txt"], "no.txt"),
}
VECTOR = ("--vector", "runs/whole/heldout.npy")


def opposite(place):
    """Two files, of a vector and of its opposite."""
    return [write_vectors(place / f"{sign}.npy", sign * GOOD[0]) for sign in (1, -1)]


def both(place):
    return write_vectors(place / "both.npy", np.stack([GOOD[0], -GOOD[0]]))


def narrow(place):
    """Two files of vectors of another dimension."""
    return [write_vectors(place / f"{row}.npy", GOOD[row, :31]) for row in (0, 1)]


def touched(path):
    path.touch()
    return path


def written(path, text):
    path.write_text(text)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"vector": GOOD.tolist()}), path)
    return path


def damaged(place, how):
    """A copy of the inverter with a fault."""
    folder = place / "damaged"
    shutil.copytree("runs/whole/inverter", folder)
    if how == "weights":
        cut(folder / "decoder" / "model.safetensors")
    else:
        description = json.loads((folder / "inverter.json").read_text())
        change = {"format_version": 99} if how == "version" else {"fingerprint": {"dimension": 3}}
        written(folder / "inverter.json", json.dumps({**description, **change}))
    return folder


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(call, case, tmp_path, monkeypatch, workplace):
    arguments, message = BAD_INPUT[case]
    monkeypatch.chdir(workplace)
    flags = arguments(tmp_path)
    model = () if "--model" in flags else WHOLE
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(*model, *flags)
    err = "\n".join(line for line in err.splitlines() if not line.startswith("inverter: "))
    complain_once(code, out, err, "generate.py: ", message)
    assert sorted(tmp_path.rglob("*")) == before, "something was left half-written"


def test_a_bad_row_leaves_no_output_file(call, tmp_path):
    vectors = np.tile(GOOD, (1000, 1))
    vectors[2500] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    code, _, err = call(*WHOLE, "--vector", tmp_path / "v.npy", "--output", tmp_path / "out.txt")
    assert code == 2
    assert "row 2500" in err
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]


def test_a_bad_line_on_standard_input_is_named(call):
    code, out, err = call(*WHOLE, "--vector", "-", stdin="[1, 2\n")
    complain_once(code, out, "\n".join(err.splitlines()[1:]), "generate.py: ", "standard input")


def test_another_encoder_is_refused(call, other_labse):
    code, out, err = call(*WHOLE, "--text", "Anna sees a red boat.", "--encoder", other_labse)
    err = "\n".join(line for line in err.splitlines() if not line.startswith("inverter: "))
    complain_once(code, out, err, "generate.py: ", "is not the one this was made for")


def test_the_same_encoder_by_another_name_is_accepted(call, labse, expected, workplace, tmp_path):
    shutil.copytree(labse, tmp_path / "renamed")
    reference = (workplace / "runs" / "whole" / "heldout.txt").read_text().splitlines()[0]
    code, out, err = call(*WHOLE, "--text", reference, "--encoder", tmp_path / "renamed")
    assert code == 0, err
    assert out.splitlines() == expected[1][:1]


def test_without_any_inverter_the_way_out_is_named(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate.py", "--vector", "[1.0, 2.0]"])
    assert generate.main() == 2


def test_a_reader_that_has_seen_enough_is_no_error(workplace):
    line = f'"{sys.executable}" "{ROOT / "generate.py"}" --model runs/whole/inverter --batch-size 1 {" ".join(VECTOR)}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{line} | head -n 1"], cwd=workplace, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_full_disk_behind_standard_output_is_one_line_and_exit_code_2(workplace):
    line = [sys.executable, str(ROOT / "generate.py"), *WHOLE, *VECTOR]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, cwd=workplace, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_output_that_is_a_device_stays_one(call, expected):
    code, out, err = call(*WHOLE, *VECTOR, "--output", "/dev/null")
    assert (code, out) == (0, ""), err
    assert Path("/dev/null").is_char_device()


# -- generate.py between vectors -------------------------------------------------------------------------------------

FAR = ("Anna sees a red boat in the garden.", "The old cat forgets the morning train at night.")


@pytest.fixture(scope="module")
def made(workplace, labse_encoder):
    """The run's inverter, and the vectors of FAR."""
    return Inverter.from_pretrained(workplace / "runs" / "whole" / "inverter"), labse_encoder.encode(FAR)


def test_the_ends_of_an_interpolation_are_what_their_texts_give(call, made):
    inverter, vectors = made
    _, texts, _ = call(*WHOLE, "--text", FAR[0], "--text", FAR[1])
    assert texts.splitlines() == inverter.invert(vectors)
    code, out, err = call(*WHOLE, "--interpolate", *FAR)
    assert code == 0, err
    assert out.splitlines() == inverter.invert(interpolate(*vectors, 7))
    assert [out.splitlines()[0], out.splitlines()[-1]] == texts.splitlines()
    code, out, _ = call(*WHOLE, "--interpolate", *FAR, "--points", 3, "--format", "jsonl")
    rows = [json.loads(row) for row in out.splitlines()]
    assert (code, [row["point"] for row in rows]) == (0, [0, 0.5, 1])
    assert [rows[0]["text"], rows[-1]["text"]] == texts.splitlines()


def test_an_interpolation_goes_along_the_arc_or_the_line(call, made, monkeypatch):
    vectors, seen = made[1], []
    monkeypatch.setattr(Inverter, "invert", lambda self, batch, **options: seen.append(batch) or ["x"] * len(batch))
    for flags in ([], ["--linear"]):
        assert call(*WHOLE, "--interpolate", *FAR, "--points", 5, "--batch-size", 2, *flags)[0] == 0
    seen = [batch for batch in seen if len(batch)]  # of none the options are checked
    arc, line = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert np.allclose(arc, interpolate(*vectors, 5), atol=1e-5)
    assert np.allclose(line, interpolate(*vectors, 5, spherical=False), atol=1e-5)
    assert not np.allclose(arc, line, atol=1e-3)
    assert np.allclose(np.linalg.norm(arc, axis=1), 1, atol=1e-5)


def test_a_sum_of_one_text_is_the_text_and_of_more_is_their_sum(call, made):
    inverter, vectors = made
    _, texts, _ = call(*WHOLE, "--text", FAR[0])
    for expression in (FAR[0], f"'{FAR[0]}'", f'+ 3 * "{FAR[0]}"'):
        code, out, err = call(*WHOLE, "--arithmetic", expression)
        assert (code, out) == (0, texts), err
    expression = f"- '{FAR[0]}' + 0.5 * {FAR[1]}"
    code, out, _ = call(*WHOLE, "--arithmetic", expression, "--format", "jsonl")
    (text,) = inverter.invert(weighted_sum([-1, 0.5], vectors, length=1))
    assert (code, json.loads(out)) == (0, {"index": 0, "expression": expression, "text": text})


def test_only_in_a_space_of_length_1_is_a_sum_rescaled(tmp_path):
    vectors = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)
    file = write_vectors(tmp_path / "a.npy", vectors)
    for normalized, length in ((True, 1), (False, np.sqrt(18))):
        options, terms = generate.parse(["--arithmetic", "a - b"]), [(1.0, "a"), (-1.0, "b")]
        pieces, _ = generate.make_vectors(options, terms, iter([vectors]), normalized)
        assert np.linalg.norm(next(pieces)) == pytest.approx(length, rel=1e-6)
    for normalized, end in ((True, [1.5, 2.5] / np.sqrt(8.5)), (False, [1.5, 2.5])):  # a mean
        options, terms = generate.parse(["--interpolate", str(file), "b"]), [(1.0, str(file)), (1.0, "b")]
        pieces, _ = generate.make_vectors(options, terms, iter([vectors[1:]]), normalized)
        assert np.allclose(next(pieces)[[0, -1]], [end, vectors[1]], atol=1e-6)


def test_operands_may_be_files_of_vectors(call, made, expected, tmp_path):
    inverter, vectors = made
    np.save(tmp_path / "a.npy", vectors[0])
    (tmp_path / "my vectors.jsonl").write_text("\n".join(json.dumps(row) for row in expected[0].tolist()))
    centroid = expected[0].mean(0)
    unit = centroid / np.linalg.norm(centroid)
    code, out, err = call(*WHOLE, "--interpolate", tmp_path / "a.npy", tmp_path / "my vectors.jsonl", "--points", 2)
    assert code == 0, err
    assert out.splitlines() == inverter.invert(np.stack([vectors[0], unit]))
    code, out, _ = call(*WHOLE, "--arithmetic", f"{FAR[1]} - 2 * '{tmp_path}/my vectors.jsonl' + {tmp_path}/a.npy")
    total = weighted_sum([1, -2, 1], [vectors[1], centroid, vectors[0]], length=1)
    assert (code, out.splitlines()) == (0, inverter.invert(total))
    assert "warning" not in err


@pytest.mark.filterwarnings("default")
def test_a_name_of_a_file_that_is_not_there_is_a_text_with_a_warning(call):
    code, out, err = call(*WHOLE, "--arithmetic", "none/such.npy + none/other.csv")
    assert (code, len(out.splitlines())) == (0, 1)
    assert [line for line in err.splitlines() if "warning" in line] == [
        "generate.py: warning: there is no file none/such.npy: it is embedded as a text"
    ]


def test_the_nearest_of_the_texts_themselves_are_the_texts(call, expected, workplace, tmp_path):
    references = (workplace / "runs" / "whole" / "heldout.txt").read_text().splitlines()
    beside = [f"{text}\t1.000\t{reference}" for text, reference in zip(expected[1], references, strict=True)]
    sources = (VECTOR, ("--text-file", "runs/whole/heldout.txt"), (*VECTOR, "--batch-size", 7))
    for source in sources:
        code, out, err = call(*WHOLE, *source, "--nearest", "runs/whole/heldout.txt")
        assert code == 0, err
        assert out.splitlines() == beside
    code, out, _ = call(*WHOLE, *sources[2], "--nearest", "runs/whole/heldout.txt", "--format", "jsonl")
    rows = [json.loads(row) for row in out.splitlines()]
    assert [row["index"] for row in rows] == list(range(len(references)))
    assert [row["nearest"] for row in rows] == references
    assert [row["text"] for row in rows] == expected[1]
    assert np.allclose([row["nearest_similarity"] for row in rows], 1, atol=1e-5)


def test_the_nearest_is_that_of_the_input_by_brute_force(call, made, sentences, tmp_path, labse_encoder, monkeypatch):
    inverter, vectors = made
    monkeypatch.setattr(sources, "_PIECE", 100)
    own = [text for text in sentences if text not in FAR]
    (tmp_path / "own.txt").write_text("\n\n".join(text.replace(" ", "\t", 1) for text in own))
    points, known = interpolate(*vectors, 4), labse_encoder.encode(own)
    cosines = points @ known.T
    code, out, err = call(*WHOLE, "--interpolate", *FAR, "--points", 4, "--nearest", tmp_path / "own.txt")
    assert code == 0, err
    written = [row.split("\t") for row in out.splitlines()]  # exactly two tabs, whatever the sentences hold
    assert [text for text, _, _ in written] == inverter.invert(points)
    assert [sentence for _, _, sentence in written] == [own[place] for place in cosines.argmax(1)]
    assert np.allclose([float(cosine) for _, cosine, _ in written], cosines.max(1), atol=6e-4)
    code, out, _ = call(*WHOLE, "--arithmetic", own[3], "--nearest", tmp_path / "own.txt", "--format", "jsonl")
    row = json.loads(out)
    assert (code, row["expression"], row["nearest"].replace("\t", " ")) == (0, own[3], own[3])


def test_another_encoder_may_be_named_for_the_nearest_of_vectors(call, labse, other_labse, tmp_path):
    (tmp_path / "own.txt").write_text("\n".join(FAR))
    code, out, err = call(*WHOLE, *VECTOR, "--nearest", tmp_path / "own.txt", "--encoder", labse)
    assert (code, out.count("\t") // 2) == (0, len(out.splitlines())), err
    code, out, err = call(*WHOLE, *VECTOR, "--nearest", tmp_path / "own.txt", "--encoder", other_labse)
    complain_once(code, out, "\n".join(err.splitlines()[1:]), "generate.py: ", "is not the one this was made for")


@pytest.mark.filterwarnings("default")
def test_a_text_that_is_longer_than_the_encoder_reads_brings_a_warning(call):
    code, out, err = call(*WHOLE, "--text", FAR[0], "--text", " ".join(FAR * 9), "--text", " ".join(FAR * 8))
    assert (code, len(out.splitlines())) == (0, 3)
    warned = [line for line in err.splitlines() if "warning" in line]
    assert warned == ["generate.py: warning: text 1 is longer than the encoder reads: its vector is of its beginning"]


def test_a_text_without_a_known_word_is_refused():
    class Words:
        name, dimension = "words", 2

        def fault(self, text):
            return "unknown_words" if text == "xyzzy" else None

        def encode(self, texts):
            return np.ones((len(texts), 2), np.float32)

    assert len(next(sources.embed(Words(), ["boat"]))) == 1
    with pytest.raises(ValueError, match=r"text 1 \('xyzzy'\) has no word that encoder 'words' knows"):
        next(sources.embed(Words(), ["boat", "xyzzy"]))


def test_an_encoder_of_the_users_need_not_know_its_faults(encoder):
    pieces = list(sources.embed(encoder, ["a"] * 3000))
    assert [len(piece) for piece in pieces] == [2048, 952]


def test_generate_help_teaches(call):
    code, out, _ = call("--help")
    assert code == 0
    for word in (
        *("--vector", ".safetensors", "--num-beams", "examples:", "exit code 2"),
        *("--interpolate", "king - man + woman", "several stand for their mean", "--nearest FILE", "default: 7"),
    ):
        assert word in out
