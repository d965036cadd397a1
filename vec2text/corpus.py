"""The corpus: files or Hugging Face datasets in, clean, distinct, split sentences out.

Knows nothing of vectors, tokens or training.

Memory does not grow with the text: the sentences lie on disk, memory-mapped; what stays in memory is about 100 bytes
a sentence (its places, its split, and a 64-bit hash while repeated ones are looked for). Splices take more while they
are made: see there.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from vec2text.config import DataConfig
from vec2text.sentences import normalise, sentence_key
from vec2text.splices import splices

SPLITS = ("train", "validation", "test")
_LONGEST = 600  # characters of a sentence that is spliced: more are hardly one, and all words are in memory
_log = logging.getLogger(__name__)


def split_of(key: int, validation: float, test: float) -> int:
    """The index in SPLITS that a sentence's hash gives it: the same for ever, whatever else is in the corpus."""
    place = key / 2**64
    return 2 if place < test else 1 if place < test + validation else 0


class Lines(Sequence[str]):
    """The lines of a file that is never read as a whole.

    Args:
        path: a UTF-8 file, one sentence a line.
        ends: where each line ends, in bytes, the line feed included.
    """

    def __init__(self, path: Path, ends: array[int]) -> None:
        self.path, self._ends = path, np.frombuffer(ends, np.uint64) if len(ends) else np.zeros(0, np.uint64)
        self._bytes = np.memmap(path, np.uint8, "r") if len(ends) else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = int(self._ends[index - 1]) if index else 0
        return self._bytes[start : int(self._ends[index]) - 1].tobytes().decode()


@dataclass(frozen=True)
class Corpus:
    """Clean, distinct sentences and the split of each."""

    texts: Lines
    """All kept sentences, in the order of the source."""
    splits: np.ndarray
    """(N,) index into SPLITS."""
    counts: dict[str, int]
    """How many were read, dropped (and why), and kept in each split."""
    digest: str
    """Hash of all kept sentences."""
    limited: bool
    """Whether data.limit ended the reading, so that the source may hold more."""
    sources: np.ndarray
    """(N,) number of the row of the source, over all of its files, that each was read from."""

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split's sentences."""
        return np.flatnonzero(self.splits == SPLITS.index(split))


def read_texts(config: DataConfig) -> Iterator[str]:
    """Stream the raw sentences that `config` names.

    Raises:
        ValueError: a file is missing, empty, broken or of an unknown kind, or lacks the column.
    """
    column = config.column
    if config.dataset is not None:
        sources = [(config.dataset, _dataset(config))]
    else:
        sources = [(str(path), _READERS[path.suffix.lower()](path, column)) for path in _files(config.paths)]
    for name, values in sources:
        row = 0
        try:
            for row, value in enumerate(values, 1):
                if not isinstance(value, str | None):
                    raise ValueError(f"row {row} holds {str(value)[:40]} in column {column!r}; expected text")
                yield value or ""
        except Exception as error:  # each library raises its own
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{name} cannot be read (after row {row}): {reason}") from error


def _dataset(config: DataConfig) -> Iterator[Any]:
    from datasets import load_dataset  # seconds of import, wanted only here

    for record in load_dataset(config.dataset, config.dataset_config, split=config.dataset_split, streaming=True):
        yield _field(record, config.column)


def _lines(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        yield from file


def _json_lines(path: Path, column: str) -> Iterator[Any]:
    for line in _lines(path, column):
        if line.strip():
            yield _field(json.loads(line), column)


def _csv(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file):
            yield _field(record, column)


def _parquet(path: Path, column: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _field(dict.fromkeys(file.schema_arrow.names), column)
        for batch in file.iter_batches(columns=[column]):
            yield from batch.column(0).to_pylist()


def _npz(path: Path, column: str) -> Iterator[Any]:
    with np.load(path) as arrays:  # without pickle: texts are an array of strings
        yield from _field(dict(arrays), column).tolist()


_READERS = {".txt": _lines, ".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet, ".npz": _npz}


def _field(record: Any, column: str) -> Any:
    """The value of a column, None included."""
    if not isinstance(record, dict):
        raise ValueError(f"got {str(record)[:40]}; expected an object with a column {column!r}")
    if column not in record:
        raise ValueError(f"there is no column {column!r}, only {', '.join(map(str, record))}: give data.column=NAME")
    return record[column]


def _files(patterns: Sequence[str]) -> list[Path]:
    files = []
    for pattern in patterns:
        found = sorted(Path(path) for path in glob(pattern)) if has_magic(pattern) else [Path(pattern)]
        if not found:
            raise ValueError(f"data.paths: no file matches {pattern}")
        files += found
    for path in files:
        if not path.is_file():
            raise ValueError(f"data.paths: there is no file {path}")
        if path.suffix.lower() not in _READERS:
            raise ValueError(f"data.paths: {path} is of unknown kind {path.suffix!r}; expected {', '.join(_READERS)}")
        if path.stat().st_size == 0:
            raise ValueError(f"data.paths: {path} is empty")
    return files


def build_corpus(config: DataConfig, fault: Callable[[str], str | None] = lambda text: None) -> Corpus:
    """Clean, deduplicate and split the sentences that `config` names; they are written to its cache folder.

    Args:
        config: sources, limits and shares.
        fault: why the encoder cannot make a vector of a whole sentence, or None (see `Encoder`).

    Raises:
        ValueError: the source cannot be read, or a split has no sentence.
    """
    counts = dict.fromkeys(("read", "empty", "repeated", "too_short", "too_long", "unknown_words"), 0)
    seen: set[int] = set()
    splits, sources, limited = array("B"), array("Q"), False
    with _Written(Path(config.cache)) as written:
        for raw in read_texts(config):
            counts["read"] += 1
            text = normalise(raw)
            key = sentence_key(text)
            wrong = "empty" if not text else "repeated" if key in seen else _length_fault(text, config)
            if wrong := wrong or fault(text):
                counts[wrong] += 1
                continue
            seen.add(key)
            written.add(text)
            sources.append(counts["read"] - 1)
            splits.append(split_of(key, config.validation, config.test))
            if limited := len(splits) == config.limit:
                break
    rows = np.frombuffer(sources, np.uint64) if len(sources) else np.zeros(0, np.uint64)
    corpus = Corpus(written.lines, np.frombuffer(splits, np.uint8), counts, written.digest, limited, rows)
    for split in SPLITS:
        counts[split] = len(corpus.rows(split))
    if not all(counts[split] for split in SPLITS):
        raise ValueError(
            f"the corpus has {len(splits)} usable sentences ({_sentence(counts)}); too few for a sentence in each of "
            "train, validation and test: give more text, or raise data.validation and data.test"
        )
    _log.info("corpus: %s", _sentence(counts))
    return corpus


def splice_corpus(
    corpus: Corpus, rows: np.ndarray, config: DataConfig, fault: Callable[[str], str | None] | None = None
) -> Corpus:
    """Splices (see `vec2text.splices`) of some sentences, all of them in the split `train`.

    Of others too, up to as many: of the split `train`, and dropped because they are too long to be learned from. For
    these the source is read again. No splice is a sentence of another split. They are written to the cache folder, as
    sentences are.

    Args:
        corpus: of the sentences.
        rows: which of them are spliced.
        config: the source, as for `build_corpus`, how many splices, and the limits that hold for sentences.
        fault: as for `build_corpus`.

    Raises:
        ValueError: the source cannot be read, or the sentences share too little for a single splice.
    """
    held_out = {sentence_key(corpus.texts[row]) for split in SPLITS[1:] for row in corpus.rows(split)}
    count = round(config.splices * len(rows))
    texts = chain((corpus.texts[row] for row in rows), islice(_too_long(corpus, config), len(rows)))
    longest = config.splice_words or config.max_words
    with _Written(Path(config.cache)) as written:
        for text in splices(texts, count, min_words=config.min_words, max_words=longest):
            wrong = _length_fault(text, config) or (fault(text) if fault else None)
            if not wrong and sentence_key(text) not in held_out:
                written.add(text)
    kept = len(written.lines)
    if not kept:
        most = f" of at most {longest} words" if longest else ""
        raise ValueError(
            f"data.splices is {config.splices:g}, but of the sentences no splice{most} can be made, for which two must "
            "share two words in a row: leave it at 0, or allow longer ones"
        )
    counts = {"read": kept, "train": kept, "validation": 0, "test": 0}
    return Corpus(written.lines, np.zeros(kept, np.uint8), counts, written.digest, False, np.arange(kept))


def _too_long(corpus: Corpus, config: DataConfig) -> Iterator[str]:
    """Each once, sentences of the split `train` that `build_corpus` dropped: they are longer than `config` allows."""
    if config.max_words is None and config.max_characters is None:
        return
    seen: set[int] = set()
    for row, raw in enumerate(read_texts(config)):
        text = normalise(raw)
        if len(text) <= _LONGEST and _length_fault(text, config) == "too_long":
            key = sentence_key(text)
            if key not in seen and split_of(key, config.validation, config.test) == 0:
                seen.add(key)
                yield text
        if corpus.limited and row == corpus.sources[-1]:  # where the corpus ends
            return


class _Written:
    """Sentences that are being written to a file named by their hash, which is there when it is whole.

    Args:
        cache: the folder.
    """

    def __init__(self, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        for stale in cache.glob(".texts-*"):  # of a process that was killed; older than any that may be at work now
            if time.time() - stale.stat().st_mtime > 3600:
                stale.unlink(missing_ok=True)
        handle, self._name = tempfile.mkstemp(prefix=".texts-", dir=cache)
        self._cache, self._file = cache, os.fdopen(handle, "wb")
        self._digest, self._ends, self._end = hashlib.blake2b(digest_size=16), array("Q"), 0

    def __enter__(self) -> _Written:
        return self

    def add(self, text: str) -> None:
        """One more."""
        line = text.encode() + b"\n"
        self._digest.update(line)
        self._end += self._file.write(line)
        self._ends.append(self._end)

    @property
    def digest(self) -> str:
        """Hash of all of them."""
        return self._digest.hexdigest()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._file.close()
        if kind is not None:
            Path(self._name).unlink(missing_ok=True)
            return
        path = self._cache / f"texts-{self.digest}.txt"
        os.replace(self._name, path)
        self.lines = Lines(path, self._ends)


def open_corpus(config: DataConfig, digest: str) -> Corpus:
    """A corpus that `build_corpus` wrote to its cache folder before, without its sources.

    Its `sources` are the rows of that file, and of its counts there are only those of the splits.

    Args:
        config: as it was.
        digest: of its sentences.

    Raises:
        ValueError: the sentences are no longer there, or others are.
    """
    path = Path(config.cache) / f"texts-{digest}.txt"
    if not path.is_file():
        raise ValueError(f"there is no file {path}, where its sentences were kept")
    ends, splits, end = array("Q"), array("B"), 0
    hashed = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for line in file:
            hashed.update(line)
            end += len(line)
            ends.append(end)
            splits.append(split_of(sentence_key(line[:-1].decode()), config.validation, config.test))
    if hashed.hexdigest() != digest:
        raise ValueError(f"{path} holds other sentences than its name says: delete it")
    shares = np.frombuffer(splits, np.uint8)
    counts = dict(zip(SPLITS, np.bincount(shares, minlength=len(SPLITS)).tolist(), strict=True))
    return Corpus(Lines(path, ends), shares, counts, digest, False, np.arange(len(ends), dtype=np.uint64))


def _length_fault(text: str, config: DataConfig) -> str | None:
    words = text.count(" ") + 1
    if words < config.min_words:
        return "too_short"
    over_words = config.max_words is not None and words > config.max_words
    over_characters = config.max_characters is not None and len(text) > config.max_characters
    return "too_long" if over_words or over_characters else None


def _sentence(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items())
