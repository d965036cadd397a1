"""Folders on disk: written whole or not at all, and found by name.

Knows nothing of what is in them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

BUNDLED = "minilm-en"
"""The inverter that comes with the package."""

_PRETRAINED = Path(__file__).parent / "pretrained"


def bundled() -> Path:
    """The folder of the inverter that comes with the package."""
    return _PRETRAINED / BUNDLED


@contextmanager
def written_whole(folder: str | Path) -> Iterator[Path]:
    """A new folder to write to; when all is written it takes the place of `folder`, else it is removed.

    Two renames put it there, so no reader meets half of it (for an instant it may meet none), and a full disk leaves
    the former folder untouched.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    old = partial.with_name(partial.name + ".old")
    try:
        partial.chmod(0o755)
        yield partial
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except SafetensorError as error:
        raise OSError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        recover(folder)


def recover(folder: Path) -> None:
    """After a kill in the middle of writing `folder`: remove what is left, put the former one back if it is away."""
    ours = re.compile(rf"\.{re.escape(folder.name)}-\w{{8}}(\.old)?")  # as mkdtemp names them; no other folder's
    for left in folder.parent.iterdir():
        if ours.fullmatch(left.name):
            if left.suffix == ".old" and not folder.exists():
                left.rename(folder)
            else:
                shutil.rmtree(left, ignore_errors=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write a UTF-8 file that is never seen half-written, even after a kill."""
    write_bytes_whole(path, text.encode())


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half-written, even after a kill."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(partial).chmod(0o644)  # mkstemp keeps it from all others
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep `folder` to this process; a kill gives it free.

    Raises:
        ValueError: another process has it.
    """
    import fcntl  # not on Windows, where only training needs it

    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is at work in another process: wait for it, or give another name=...") from None
        yield


def find_folder(name: str | Path, only: list[str] | None = None) -> Path:
    """The folder of that name here, the inverter that comes with the package, or a snapshot of a hub repository.

    Args:
        name: a folder, `minilm-en`, or `user/name` on the Hugging Face hub.
        only: files that are wanted of a hub repository; None: all.

    Raises:
        ValueError: there is none of them.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if str(name) == BUNDLED:
        return bundled()
    parts = str(name).split("/")
    if folder.exists() or len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~") or folder.parent.exists():
        raise ValueError(f"there is no folder {name}; expected a saved model here, or a hub repository user/name")
    return _from_hub(str(name), only)


def _from_hub(name: str, only: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download  # a second of import, wanted only here
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=only))
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"there is no folder {name} here, and the hub gives no repository of that name: check the name and the "
            f"network, or fetch it elsewhere (`hf download {name} --local-dir FOLDER`) and give the folder ({reason})"
        ) from error


def find_model(name: str | Path) -> Path:
    """The folder of a Hugging Face model, here or on the hub, where `gpt2` without a user is a name too.

    A quick question, before the libraries ask for file after file, each with its retries.

    Raises:
        ValueError: there is neither.
    """
    files = ["config.json", "modules.json"]
    if "/" in str(name) or Path(name).is_dir():
        return find_folder(name, files)
    return _from_hub(str(name), files)


def default_inverter(runs: Path = Path("runs")) -> Path:
    """The inverter that was saved last by any run, else the one that comes with the package."""
    found = sorted(runs.glob("*/inverter/inverter.json"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else bundled()
