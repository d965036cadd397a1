"""The cache: the vectors of a corpus, computed or read once and kept on disk in shards.

Knows nothing of where sentences come from, or of what is done with the vectors.

Shapes: N sentences, D vector dimension.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path

import numpy as np

from vec2text.corpus import Corpus
from vec2text.encoders import Encoder, encode_checked
from vec2text.fingerprint import Fingerprint
from vec2text.storage import write_text_whole, written_whole
from vec2text.vectors import read_vectors

_SHARD = 2048
_TOGETHER = 16  # shards that are encoded by one call at most,
_SOON = 1.0  # and no more than take about so many seconds
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vectors:
    """The vectors of a corpus, memory-mapped from shards; read them with `vectors[rows]`."""

    shards: list[np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.shards else 0

    @cached_property
    def _ends(self) -> np.ndarray:
        """Rows up to the end of each shard."""
        return np.cumsum([len(shard) for shard in self.shards])

    @property
    def dimension(self) -> int:
        """D."""
        return self.shards[0].shape[1]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of the given rows: (len(rows), D) float32, in their order."""
        rows = np.asarray(rows)
        found = np.empty((len(rows), self.dimension), np.float32)
        order = np.argsort(rows, kind="stable")  # so that what is in a shard is read together
        places = np.searchsorted(self._ends, rows[order], "right")  # the shard of each
        starts = np.append(0, np.flatnonzero(np.diff(places)) + 1)
        for shard, mine in zip(places[starts], np.split(order, starts[1:]), strict=True) if len(rows) else ():
            found[mine] = self.shards[shard][rows[mine] - (self._ends[shard] - len(self.shards[shard]))]
        return found

    def followed_by(self, others: Vectors) -> Vectors:
        """These, and then the others."""
        return Vectors(self.shards + others.shards)


def encode_corpus(corpus: Corpus, encoder: Encoder, cache: str | Path, fingerprint: Fingerprint) -> Vectors:
    """Vectors of all sentences, computed once and kept in shards named by their sentences.

    A killed encode goes on after its last whole shard, and a corpus that grew at its end keeps its first shards.

    Args:
        corpus: N sentences.
        encoder: makes the vectors.
        cache: folder for the shards; there is one folder in it for each vector space.
        fingerprint: the encoder's.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    folder, dimension = _space_folder(Path(cache), fingerprint), fingerprint.dimension
    shards: list[np.ndarray] = []
    usage = getattr(encoder, "usage", None)
    bar = (
        TextColumn("encoding{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("sentences"),
        TimeRemainingColumn(),
    )
    with Progress(*bar, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(corpus.texts))
        starts, together = range(0, len(corpus.texts), _SHARD), 1
        while len(shards) < len(starts):
            some = [corpus.texts[start : start + _SHARD] for start in starts[len(shards) : len(shards) + together]]
            names = [hashlib.blake2b(chr(10).join(texts).encode(), digest_size=16).hexdigest() for texts in some]
            paths = [folder / f"{name}.npy" for name in names]
            missing = [(path, texts) for path, texts in zip(paths, some, strict=True) if not path.exists()]
            if missing:
                began = time.perf_counter()
                vectors = encode_checked(encoder, [text for _, texts in missing for text in texts], dimension)
                # A GPU is kept busy by many; what is lost when this is stopped shall be little, and nothing paid for.
                soon = usage is None and time.perf_counter() - began < _SOON
                together = min(2 * together, _TOGETHER) if soon else 1
                for (path, _), own in zip(missing, np.split(vectors, _ends_of(missing)), strict=True):
                    partial = path.with_suffix(f".{os.getpid()}.partial")
                    with partial.open("wb") as file:
                        np.save(file, own)
                    os.replace(partial, path)
            shards += [np.load(path, mmap_mode="r") for path in paths]
            cost = f" ({usage()})" if usage else ""
            progress.update(task, advance=sum(map(len, some)), description=cost)
    return Vectors(shards)


def _ends_of(missing: list[tuple[Path, list[str]]]) -> np.ndarray:
    """Where in the vectors of all of them each ends, but for the last."""
    return np.cumsum([len(texts) for _, texts in missing])[:-1]


def stored_vectors(corpus: Corpus, files: Sequence[str], cache: str | Path) -> Vectors:
    """The vectors of all sentences from files that hold one for each row of the corpus's source, in its order.

    Args:
        corpus: N sentences.
        files: of vectors, as `read_vectors` takes them.
        cache: folder for the vectors of the sentences that were kept, written once.

    Raises:
        ValueError: more or fewer vectors than sentences, or a vector that no encoder makes.
    """
    files = [str(path) for pattern in files for path in (sorted(glob(pattern)) if has_magic(pattern) else [pattern])]
    marks = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files if Path(file).is_file()]
    # The rows too: the same sentences may have moved to others, as when a misaligned file was mended.
    rows = hashlib.blake2b(corpus.sources.tobytes(), digest_size=8).hexdigest()
    described = [corpus.digest, rows, corpus.counts["read"], corpus.limited, marks]
    name = hashlib.blake2b(json.dumps(described).encode(), digest_size=8).hexdigest()
    folder = Path(cache) / f"precomputed-{name}"
    if not folder.exists():
        with written_whole(folder) as partial:
            _store(corpus, files, partial)
    return Vectors([np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))])


def _store(corpus: Corpus, files: Sequence[str], folder: Path) -> None:
    """Write the vectors of the kept sentences in shards."""
    waiting: list[np.ndarray] = []
    found, kept, read, dimension = 0, 0, corpus.counts["read"], 0
    for name, vector in ((file, row) for file in files for piece in read_vectors(file) for row in piece):
        dimension = dimension or len(vector)
        if len(vector) != dimension:
            raise ValueError(f"{name} holds vectors of dimension {len(vector)}, but those before it have {dimension}")
        if kept < len(corpus.sources) and found == corpus.sources[kept]:
            waiting.append(vector)
            kept += 1
            if len(waiting) == _SHARD or kept == len(corpus.sources):
                np.save(folder / f"{kept:012d}.npy", np.stack(waiting))
                waiting = []
        found += 1
        if found > read:
            break
    if found < read or (found > read and not corpus.limited):
        count = f"more than {read:,}" if found > read else f"only {found:,}"
        raise ValueError(
            f"{', '.join(files)}: {count} vectors for {read:,} sentences; expected one a sentence, in the same order"
        )


def _space_folder(cache: Path, fingerprint: Fingerprint) -> Path:
    """The folder of one vector space; emptied when the encoder of that name has changed."""
    # Options that an encoder does not use do not name its folder, so that it keeps its name when there are new ones.
    used = {key: value for key, value in fingerprint.to_dict()["encoder"].items() if value}
    described = [fingerprint.dimension, {**used, "batch_size": None, "retries": None}]
    if used.get("kind") == "word_vectors":  # a file whose other words may have changed, where three probes say nothing
        state = os.stat(used["name"])
        described.append([state.st_size, state.st_mtime_ns])
    name = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=8).hexdigest()
    folder = cache / f"vectors-{name}"
    record = folder / "fingerprint.json"
    if record.exists():
        try:
            fingerprint.check_encoder(Fingerprint.from_dict(json.loads(record.read_text())))
        except ValueError as error:
            _log.warning("the cached vectors are of another encoder and are made anew: %s", error)
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not record.exists():
        write_text_whole(record, json.dumps(fingerprint.to_dict()))
    return folder
