"""Folders on disk: whole or untouched, whatever happens in between; found by folder or by hub name."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vec2text.storage import default_inverter, find_folder, recover, write_text_whole, written_whole


def write(folder, text):
    with written_whole(folder) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "text").write_text(text)


def fail_while_writing(folder, error):
    with written_whole(folder) as partial:
        (partial / "text").write_text("new")
        raise error


def content(folder):
    return (folder / "inner" / "text").read_text()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- written whole -----------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_the_folders_above_it(tmp_path):
    write(tmp_path / "a" / "b", "new")
    assert content(tmp_path / "a" / "b") == "new"
    assert names(tmp_path / "a") == ["b"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    write(tmp_path / "a", "former")
    (tmp_path / "a" / "more").touch()
    write(tmp_path / "a", "new")
    assert content(tmp_path / "a") == "new"
    assert names(tmp_path / "a") == ["inner"]
    assert names(tmp_path) == ["a"]


def test_until_all_is_written_the_former_folder_is_there(tmp_path):
    write(tmp_path / "a", "former")
    with written_whole(tmp_path / "a") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "text").write_text("new")
        assert content(tmp_path / "a") == "former"
    assert content(tmp_path / "a") == "new"


def test_other_users_may_read_the_folder(tmp_path):
    write(tmp_path / "a", "new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), SafetensorError("x"), KeyboardInterrupt()])
@pytest.mark.parametrize("former", [True, False])
def test_an_exception_inside_leaves_all_as_it_was(tmp_path, former, error):
    if former:
        write(tmp_path / "a", "former")
    with pytest.raises(OSError if isinstance(error, SafetensorError) else type(error)):
        fail_while_writing(tmp_path / "a", error)
    assert names(tmp_path) == ["a"] * former
    assert not former or content(tmp_path / "a") == "former"


def test_an_error_of_safetensors_is_an_error_of_the_disk_that_names_the_folder(tmp_path):
    with pytest.raises(OSError, match=r"/a cannot be written: No space left on device"):
        fail_while_writing(tmp_path / "a", SafetensorError("No space left on device"))


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_former_folder_in_its_place(tmp_path, monkeypatch, failing):
    write(tmp_path / "a", "former")
    rename, calls = Path.rename, []

    def fail(self, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError("No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "a", "new")
    assert content(tmp_path / "a") == "former"
    assert names(tmp_path) == ["a"]


def killed(folder, step, former="former"):
    """What a process leaves behind that is killed while it replaces `folder`: writing, or between the two renames."""
    write(folder, former)
    partial = folder.with_name(f".{folder.name}-abcd_123")
    partial.mkdir()
    (partial / "text").write_text("half")
    if step == "renaming":
        folder.rename(partial.with_name(partial.name + ".old"))


@pytest.mark.parametrize("step", ["writing", "renaming"])
@pytest.mark.parametrize("name", ["a", "a[1]", "a.b", "ä*"])
def test_what_a_killed_process_left_is_cleared_up(tmp_path, name, step):
    killed(tmp_path / name, step)
    write(tmp_path / name, "new")
    assert content(tmp_path / name) == "new"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("step", ["writing", "renaming"])
def test_the_former_folder_of_a_killed_process_outlives_a_write_that_fails(tmp_path, step):
    killed(tmp_path / "a", step)
    with pytest.raises(ValueError, match="x"):
        fail_while_writing(tmp_path / "a", ValueError("x"))
    assert content(tmp_path / "a") == "former"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("other", ["a-best", "a-1", "a-b-c", "b", "ab"])
def test_folders_of_another_name_are_written_at_the_same_time(tmp_path, other):
    with written_whole(tmp_path / other) as partial:
        write(tmp_path / "a", "one")
        (partial / "text").write_text("other")
        write(tmp_path / "a", "two")
    assert (tmp_path / other / "text").read_text() == "other"
    assert content(tmp_path / "a") == "two"


FILLS_THE_DISK = """
import sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from vec2text.storage import written_whole

folder, kind = Path(sys.argv[1]) / "saved", sys.argv[2]

def write(numbers):
    with written_whole(folder) as partial:
        if kind == "safetensors":
            save_file({"x": np.ones(numbers, np.float32)}, partial / "x")
        else:
            (partial / "x").write_bytes(np.ones(numbers, np.float32).tobytes())

write(1000)
before = (folder / "x").read_bytes()
try:
    write(1_000_000)
except OSError as error:
    print(error)
assert (folder / "x").read_bytes() == before
assert [path.name for path in folder.parent.iterdir()] == ["saved"]
write(2000)
assert len((folder / "x").read_bytes()) > len(before)
"""


@pytest.mark.parametrize("kind", ["safetensors", "bytes"])
def test_a_full_disk_is_an_oserror_and_leaves_the_former_folder_and_room_for_the_next(tmp_path, kind):
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1M none "$0" && exec "$@"', str(tmp_path)]
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    command = [*mount, sys.executable, "-c", FILLS_THE_DISK, str(tmp_path), kind]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout


def test_what_was_written_is_what_is_read(tmp_path):
    tensor = np.arange(6.0)
    with written_whole(tmp_path / "a") as partial:
        save_file({"x": tensor}, partial / "x.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "a" / "x.safetensors")["x"], tensor)


# -- found by name -----------------------------------------------------------------------------------------------


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty folder in place of the user's hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def cache_snapshot(hub_cache, user, name, sha="0123456789abcdef0123456789abcdef01234567"):
    repository = hub_cache / f"models--{user}--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(sha)
    snapshot = repository / "snapshots" / sha
    snapshot.mkdir(parents=True)
    (snapshot / "inverter.json").write_text("{}")
    return snapshot


def test_a_folder_is_found(tmp_path):
    (tmp_path / "a").mkdir()
    assert find_folder(tmp_path / "a") == tmp_path / "a"
    assert find_folder(str(tmp_path / "a")) == tmp_path / "a"


def test_a_hub_name_that_is_in_the_cache_is_found_without_a_network(hub_cache):
    snapshot = cache_snapshot(hub_cache, "user", "name")
    assert find_folder("user/name").resolve() == snapshot.resolve()


def test_a_folder_of_the_same_name_comes_before_the_hub(hub_cache):
    cache_snapshot(hub_cache, "user", "name")
    Path("user/name").mkdir(parents=True)
    assert find_folder("user/name") == Path("user/name")


def test_a_folder_that_is_missing_beside_others_is_not_looked_for_on_the_hub(hub_cache):
    cache_snapshot(hub_cache, "runs", "name")
    Path("runs").mkdir()
    with pytest.raises(ValueError, match=r"^there is no folder runs/name; expected [^\n]+$"):
        find_folder("runs/name")


@pytest.mark.parametrize("name", ["user/absent", "user/no such name", "user/-", "a/b--c", "user/" + "x" * 200])
def test_a_hub_name_that_is_not_there_is_one_line_that_names_it(hub_cache, name):
    cache_snapshot(hub_cache, "user", "name")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        find_folder(name)
    assert f"there is no folder {name} here, and the hub gives no repository of that name" in str(refused.value)


@pytest.mark.parametrize("name", ["absent", "a/b/c", "./absent", "../absent", "~/absent", "/absent", "absent/"])
def test_a_name_that_can_be_none_of_the_hubs_is_a_missing_folder(hub_cache, name):
    with pytest.raises(ValueError, match=r"^there is no folder [^\n]+; expected a saved model"):
        find_folder(name)


def test_a_file_is_no_folder(hub_cache):
    Path("file").touch()
    with pytest.raises(ValueError, match="there is no folder file; expected a saved model"):
        find_folder("file")


def test_after_a_kill_between_the_two_renames_the_former_folder_is_found_again(tmp_path):
    (tmp_path / ".a-12345678.old").mkdir()
    (tmp_path / ".a-12345678.old" / "weights").touch()
    (tmp_path / ".a-87654321").mkdir()
    recover(tmp_path / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "weights"]


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path):
    write_text_whole(tmp_path / "a.json", "first")
    with pytest.raises(UnicodeEncodeError):
        write_text_whole(tmp_path / "a.json", "\ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "first")]


# -- found where none is named --------------------------------------------------------------------------------------


def test_the_newest_run_s_inverter_is_the_default_else_that_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("vec2text.storage._PRETRAINED", tmp_path / "package")
    runs = tmp_path / "runs"
    assert default_inverter(runs) == tmp_path / "package" / "minilm-en" == find_folder("minilm-en")
    for name, when in (("old", 100), ("new", 300), ("middle", 200)):
        mark = runs / name / "inverter" / "inverter.json"
        mark.parent.mkdir(parents=True)
        mark.touch()
        os.utime(mark, (when, when))
    assert default_inverter(runs) == runs / "new" / "inverter"


def test_a_folder_here_comes_before_the_inverter_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm-en").mkdir()
    assert find_folder("minilm-en") == Path("minilm-en")
