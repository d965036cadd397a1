"""Vector files: .npy .npz .pt .safetensors .json .jsonl .csv .parquet, standard input or an inline list -> arrays.

Knows nothing of encoders or inverters.

Everything is read in pieces, so that a file may be larger than the memory. What is done to any vectors is here too:
to check them, to put them in batches, to bring them to length 1.

Shapes: N vectors, D vector dimension.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".npy", ".npz", ".pt", ".safetensors", ".json", ".jsonl", ".csv", ".parquet")
"""Of the kinds of files that are read."""

_ROWS = 1024  # of a text file that are held at a time
_SHAPE = "expected one vector, or an array of vectors (N, D), of floating-point numbers"


def read_vectors(source: str) -> Iterator[np.ndarray]:
    """The vectors of `source`, in order, in pieces of (n, D) float32.

    Args:
        source: a file, `-` for JSON lines on standard input, or an inline JSON list.

    Raises:
        ValueError: there is no such file, it is empty, broken or holds no vectors; NaN, infinity, or a vector of zeros.
            The message names the row.
    """
    pieces: Iterable[Any]
    if source == "-":
        pieces, shown = _json_lines(sys.stdin), "standard input"
    elif source.lstrip().startswith("["):
        pieces, shown = _inline(source), "the inline list"
    else:
        pieces, shown = _file(Path(source)), source
    first, dimension = 0, None
    try:
        for piece in pieces:
            array = _rows(piece, first)
            dimension = dimension or array.shape[1]
            if array.shape[1] != dimension:
                raise ValueError(f"row {first} has {array.shape[1]} numbers, but the rows before it have {dimension}")
            check_rows(array, first)
            first += len(array)
            yield array
    except Exception as error:  # each library has its own kinds for a broken file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{shown}: {reason}") from error
    if not first:
        raise ValueError(f"{shown}: there is no vector in it; {_SHAPE}")


def check_rows(array: np.ndarray, first: int = 0) -> None:
    """Refuse vectors that no encoder makes.

    Args:
        array: (N, D).
        first: the number of the first row, for the message.

    Raises:
        ValueError: NaN, infinity, or a vector of zeros.
    """
    for sound, fault in (
        (np.isfinite(array).all(1), "holds NaN or infinity; expected finite numbers"),
        (array.any(1), "is all zeros, which no sentence gives"),
    ):
        if not sound.all():
            raise ValueError(f"row {first + int(np.argmin(sound))} {fault}: leave that vector out")


def unit(vectors: np.ndarray) -> np.ndarray:
    """The directions of (N, D) vectors, in their own type; a vector of zeros stays one."""
    directions: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return directions


def _rows(piece: Any, first: int) -> np.ndarray:
    """A piece of a source as an (n, D) float32 array."""
    try:
        array = np.asarray(piece)
    except ValueError:
        raise ValueError(f"the vectors from row {first} on have different lengths; {_SHAPE}") from None
    if array.dtype == object or array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"got {_described(array)} at row {first}; {_SHAPE}")
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which check_rows refuses
        return np.atleast_2d(array).astype(np.float32, copy=False)


def _described(array: np.ndarray) -> str:
    return f"an array of {array.dtype} of shape {array.shape}"


def _file(path: Path) -> Iterator[Any]:
    kinds: list[Callable[[Path], Iterator[Any]]] = [_npy, _npz, _pt, _safetensors, _json, _jsonl, _csv, _parquet]
    readers = dict(zip(SUFFIXES, kinds, strict=True))
    if path.suffix.lower() not in readers:
        raise ValueError(f"unknown kind of file {path.suffix!r}; expected {', '.join(readers)}, - or a JSON list")
    if not path.is_file():
        raise ValueError("there is no such file")
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    yield from readers[path.suffix.lower()](path)


def _in_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """One array, floats only, in pieces; a memory-mapped one is never read as a whole."""
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"got {_described(array)}; {_SHAPE}")
    array = np.atleast_2d(array)
    for start in range(0, len(array), _ROWS):
        yield np.asarray(array[start : start + _ROWS])


def _npy(path: Path) -> Iterator[np.ndarray]:
    yield from _in_pieces(np.lib.format.open_memmap(path, mode="r"))


def _npz(path: Path) -> Iterator[np.ndarray]:
    import zipfile

    with zipfile.ZipFile(path) as archive:  # np.load leaves a broken one open
        member = _only({name.removesuffix(".npy"): name for name in archive.namelist()})
        with archive.open(member) as file:
            yield from _in_pieces(np.lib.format.read_array(file, allow_pickle=False))


def _pt(path: Path) -> Iterator[np.ndarray]:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # its unpickler raises many kinds
        raise ValueError(f"not a file of tensors only: {str(error).partition(chr(10))[0]}") from error
    tensor = _only(loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"got {type(tensor).__name__}; {_SHAPE}")
    yield from _in_pieces(_as_numpy(tensor))


def _as_numpy(tensor: Any) -> np.ndarray:
    """A tensor as an array; numpy has no bfloat16."""
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
    return array


def _safetensors(path: Path) -> Iterator[np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            name = _only({name: name for name in file.keys()})  # noqa: SIM118 - not a dict
            stored = file.get_slice(name)
            if len(stored.get_shape()) == 2:
                for start in range(0, stored.get_shape()[0], _ROWS):
                    yield from _in_pieces(_as_numpy(stored[start : start + _ROWS]))
            else:
                yield from _in_pieces(_as_numpy(file.get_tensor(name)))
    except SafetensorError as error:
        raise ValueError(f"broken .safetensors: {error}") from error


def _only(arrays: dict[str, Any]) -> Any:
    """The one entry of a file of named arrays, or the one called `vector(s)` or `embedding(s)`."""
    for name in ("vector", "vectors", "embedding", "embeddings"):
        if name in arrays:
            return arrays[name]
    if len(arrays) != 1:
        raise ValueError(
            f"it holds {', '.join(map(str, arrays)) or 'nothing'}; expected one array, or one called vectors"
        )
    return next(iter(arrays.values()))


def _json(path: Path) -> Iterator[Any]:
    yield _vector_or_vectors(json.loads(path.read_text(encoding="utf-8")))


def _inline(text: str) -> Iterator[Any]:
    yield _vector_or_vectors(json.loads(text))


def _jsonl(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        yield from _json_lines(file)


def _json_lines(lines: Iterable[str]) -> Iterator[Any]:
    """A vector a line, each given as soon as it is there."""
    for line in lines:
        if line.strip():
            vector = _vector_or_vectors(json.loads(line))
            if vector and isinstance(vector[0], list):
                raise ValueError("a line holds a list of lists; expected one vector a line")
            yield vector


def _vector_or_vectors(value: Any) -> list[Any]:
    """A JSON value as a list: itself, or what it holds under `vector`, `vectors`, `embedding` or `embeddings`."""
    if isinstance(value, dict):
        names = [name for name in ("vector", "vectors", "embedding", "embeddings") if name in value]
        if not names:
            raise ValueError(f"an object with {', '.join(value) or 'nothing in it'}; expected a key `vector`")
        value = value[names[0]]
    if not isinstance(value, list) or not value:
        raise ValueError(f"got JSON {json.dumps(value)[:40]}; expected a list of numbers")
    return value


def _csv(path: Path) -> Iterator[list[list[float]]]:
    """A vector a row; a first row that holds no number, or just 0, 1, 2, ... as pandas writes, is a header."""
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a byte order mark before the text
        reader = csv.reader(file)
        for number, row in enumerate(row for row in reader if row):
            if number == 0 and len(row) > 1 and row == [str(place) for place in range(len(row))]:
                continue
            try:
                yield [[float(cell) for cell in row]]
            except ValueError as error:
                if number or any(_is_number(cell) for cell in row):
                    raise ValueError(f"line {reader.line_num}: {error}; expected only numbers") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(path: Path) -> Iterator[Any]:
    """A column of lists (`vector`, `embedding`, or the only one), or else all columns as numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            lists = [field.name for field in file.schema_arrow if _is_list(field.type)]
            names = [name for name in ("vector", "vectors", "embedding", "embeddings") if name in lists] or lists
            if len(names) > 1:
                raise ValueError(f"it has several columns of lists ({', '.join(names)}); expected one called vector")
            for batch in file.iter_batches(_ROWS, columns=names or None):
                if names:
                    yield _list_column(batch.column(0))
                else:
                    yield np.column_stack([column.to_numpy(zero_copy_only=False) for column in batch.columns])
    except pa.ArrowException as error:
        raise ValueError(f"broken .parquet: {error}") from error


def _list_column(column: Any) -> np.ndarray | list[Any]:
    """A column of equally long lists as an array; any other as lists, for the checks to name what is wrong."""
    import pyarrow.compute as pc

    lengths = np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    values = column.flatten()
    if column.null_count or values.null_count or len(lengths) != 1:
        rows: list[Any] = column.to_pylist()
        return rows
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def batched(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows in arrays of `size`, the last one perhaps smaller."""
    waiting: list[np.ndarray] = []
    count = 0
    for piece in itertools.chain.from_iterable(np.array_split(p, range(size, len(p), size)) for p in pieces):
        waiting.append(piece)
        count += len(piece)
        if count >= size:
            rows = np.concatenate(waiting)
            yield rows[:size]
            waiting, count = [rows[size:]], count - size
    if count:
        yield np.concatenate(waiting)
