"""Vector files: every format gives the same rows, and every bad file one line that says what is wrong with it."""

import csv
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from vec2text.vectors import batched, check_rows, read_vectors, unit

FLOATS = (np.float16, np.float32, np.float64)


def rows_of(count, dimension=5, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(dtype)


def write_npz(path, rows):
    np.savez_compressed(path, vectors=rows, ids=np.arange(3))


def write_csv(path, rows, header=None):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([header] if header else [])
        writer.writerows(np.atleast_2d(rows).tolist())


def write_parquet(path, rows, kind=None):
    rows = np.atleast_2d(rows)
    column = pa.array(list(rows), kind or pa.list_(pa.from_numpy_dtype(rows.dtype)))
    pq.write_table(pa.table({"text": ["a"] * len(rows), "vector": column}), path, row_group_size=700)


WRITERS = {
    "a.npy": np.save,
    "a.npz": write_npz,
    "a.pt": lambda path, rows: torch.save(torch.from_numpy(rows), path),
    "a.safetensors": lambda path, rows: save_file({"embeddings": torch.from_numpy(rows)}, path),
    "a.json": lambda path, rows: path.write_text(json.dumps(rows.tolist())),
    "a.jsonl": lambda path, rows: path.write_text(
        "".join(f"{json.dumps(row)}\n\n" for row in np.atleast_2d(rows).tolist())
    ),
    "a.csv": write_csv,
    "a.parquet": write_parquet,
}


def read(source):
    return np.concatenate(list(read_vectors(str(source))))


def refusal(source):
    """The message of the one ValueError with which `source` is refused, seen to be one line that names it."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        list(read_vectors(str(source)))
    message = str(refused.value)
    assert message.startswith(f"{source}: ")
    return message.removeprefix(f"{source}: ")


# -- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [1, 3, 2050])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_rows_that_were_written(tmp_path, name, count, dtype):
    rows = rows_of(count, dtype=dtype)
    WRITERS[name](tmp_path / name, rows)
    pieces = list(read_vectors(str(tmp_path / name)))
    assert {piece.dtype for piece in pieces} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(pieces), rows.astype(np.float32))


@pytest.mark.parametrize("name", WRITERS)
def test_a_single_vector_is_one_row(tmp_path, name):
    vector = rows_of(1)[0]
    WRITERS[name](tmp_path / name, vector)
    np.testing.assert_array_equal(read(tmp_path / name), vector[None])


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (1500, 5)])
def test_bfloat16_is_read_without_loss(tmp_path, name, shape):
    tensor = torch.from_numpy(rows_of(int(np.prod(shape)), 1)).reshape(shape).bfloat16()
    torch.save(tensor, tmp_path / name) if name == "a.pt" else save_file({"x": tensor}, tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name), tensor.float().numpy().reshape(-1, 5))


def test_a_saved_model_parameter_is_read_like_any_tensor(tmp_path):
    parameter = torch.nn.Parameter(torch.from_numpy(rows_of(4)))
    torch.save(parameter, tmp_path / "a.pt")
    np.testing.assert_array_equal(read(tmp_path / "a.pt"), parameter.detach().numpy())


@pytest.mark.parametrize("order", ["<f4", ">f4", ">f8"])
def test_byte_order_and_memory_order_do_not_matter(tmp_path, order):
    rows = rows_of(6)
    np.save(tmp_path / "a.npy", np.asfortranarray(rows.astype(order)))
    np.testing.assert_array_equal(read(tmp_path / "a.npy"), rows)


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors", "a.parquet", "a.jsonl", "a.csv"])
def test_a_long_file_comes_in_pieces_of_bounded_size(tmp_path, name):
    WRITERS[name](tmp_path / name, rows_of(3000))
    sizes = [len(piece) for piece in read_vectors(str(tmp_path / name))]
    assert sum(sizes) == 3000
    assert max(sizes) <= 1024


def test_a_piece_of_a_npy_file_is_a_view_of_the_file_on_disk(tmp_path):
    np.save(tmp_path / "a.npy", rows_of(3000))
    base = next(read_vectors(str(tmp_path / "a.npy")))
    while not isinstance(base, np.memmap):
        base = base.base  # an array that was read into memory ends here, at None
    assert base.filename == tmp_path / "a.npy"


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, 2.0], [3, 4]],
        {"vector": [[1.0, 2.0], [3, 4]]},
        {"vectors": [[1, 2], [3, 4]], "other": "text"},
        {"embedding": [[1, 2], [3, 4]]},
        {"embeddings": [[1, 2], [3, 4]]},
    ],
)
def test_json_may_name_its_vectors(tmp_path, value):
    (tmp_path / "a.json").write_text(json.dumps(value))
    np.testing.assert_array_equal(read(tmp_path / "a.json"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("inline", ["[[0.5, 2], [3, -4e-1]]", " \n[[0.5,2],[3,-0.4]]"])
def test_an_inline_list_is_read_like_a_file(inline):
    np.testing.assert_array_equal(read(inline), np.float32([[0.5, 2], [3, -0.4]]))


def test_an_inline_vector_is_one_row():
    np.testing.assert_array_equal(read("[0.5, 2, 3]"), np.float32([[0.5, 2, 3]]))


def test_standard_input_is_read_line_by_line(monkeypatch):
    rows = rows_of(3)
    lines = [json.dumps(rows[0].tolist()), "", json.dumps({"vector": rows[1].tolist()}), json.dumps(rows[2].tolist())]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    np.testing.assert_array_equal(read("-"), rows)


def test_standard_input_gives_a_vector_before_the_next_line_is_there(monkeypatch):
    def lines():
        yield "[1, 2]\n"
        raise AssertionError("the second line was read before the first vector was given")

    monkeypatch.setattr("sys.stdin", lines())
    np.testing.assert_array_equal(next(read_vectors("-")), [[1, 2]])


def test_the_header_of_a_csv_is_not_a_vector(tmp_path):
    rows = rows_of(3)
    write_csv(tmp_path / "a.csv", rows, [f"x{i}" for i in range(5)])
    np.testing.assert_array_equal(read(tmp_path / "a.csv"), rows)


def test_the_byte_order_mark_of_a_spreadsheet_hides_no_row(tmp_path):
    (tmp_path / "a.csv").write_text("1.5,2\n3,4\n", encoding="utf-8-sig")
    np.testing.assert_array_equal(read(tmp_path / "a.csv"), [[1.5, 2], [3, 4]])


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 5)])
def test_every_kind_of_parquet_list_is_read(tmp_path, kind):
    rows = rows_of(1500)
    write_parquet(tmp_path / "a.parquet", rows, kind)
    np.testing.assert_array_equal(read(tmp_path / "a.parquet"), rows)


def test_parquet_columns_of_numbers_are_the_entries_of_the_vectors(tmp_path):
    rows = rows_of(4)
    pq.write_table(pa.table({f"x{i}": rows[:, i] for i in range(5)}), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read(tmp_path / "a.parquet"), rows)


@pytest.mark.parametrize("name", ["vectors", "embeddings"])
@pytest.mark.parametrize("kind", ["npz", "pt", "safetensors"])
def test_of_several_arrays_the_one_called_vectors_is_read(tmp_path, kind, name):
    rows, path = rows_of(3), tmp_path / f"a.{kind}"
    arrays = {"a": rows + 1, name: rows, "z": rows + 2}
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    {"npz": lambda: np.savez(path, **arrays), "pt": lambda: torch.save(tensors, path)}.get(
        kind, lambda: save_file(tensors, path)
    )()
    np.testing.assert_array_equal(read(path), rows)


def test_texts_beside_the_vectors_of_a_npz_do_no_harm(tmp_path):
    rows = rows_of(2)
    np.savez(tmp_path / "a.npz", vectors=rows, texts=np.array(["one", "two"], dtype=object))
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), rows)


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*WRITERS, "a.txt", "no_suffix"])
def test_a_missing_file_is_refused(tmp_path, name):
    expected = "there is no such file" if name in WRITERS else "unknown kind of file"
    assert expected in refusal(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert "empty" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_is_no_file(tmp_path, name):
    (tmp_path / name).mkdir()
    assert "there is no such file" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.safetensors"])
@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_arrays_of_integers_are_token_ids_or_quantised_and_are_refused(tmp_path, name, dtype):
    WRITERS[name](tmp_path / name, np.ones((3, 5), dtype))
    assert np.dtype(dtype).name in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.safetensors"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (), (0, 4), (3, 0)])
def test_an_array_of_another_shape_is_refused(tmp_path, name, shape):
    WRITERS[name](tmp_path / name, np.ones(shape, np.float32))
    assert "expected one vector, or an array of vectors (N, D)" in refusal(tmp_path / name)


def test_an_array_of_objects_is_refused_without_unpickling(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0], None], dtype=object))
    np.savez(tmp_path / "a.npz", np.array([[1.0], None], dtype=object))
    refusal(tmp_path / "a.npy")
    assert "allow_pickle" in refusal(tmp_path / "a.npz")


class Opened:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickled_object_in_a_pt_file_is_refused_and_not_run(tmp_path):
    torch.save({"vectors": Opened(tmp_path / "ran")}, tmp_path / "a.pt")
    assert "tensors only" in refusal(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_text_in_a_pt_file_is_refused(tmp_path):
    (tmp_path / "a.pt").write_text("hello")
    assert "tensors only" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("held", [[1.0, 2.0], "text", 3, {"one": 1.0}])
def test_a_pt_file_that_holds_no_tensor_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "a.pt")
    assert "expected one vector" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1, 1023, 1024, 2049])
def test_a_number_that_is_not_finite_is_refused_with_its_row(tmp_path, name, fault, row):
    rows = rows_of(2050)
    rows[row, 3] = fault
    WRITERS[name](tmp_path / name, rows)
    assert f"row {row} holds NaN or infinity" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("row", [0, 1030])
def test_a_vector_of_zeros_is_refused_with_its_row(tmp_path, name, row):
    rows = rows_of(1100)
    rows[row] = 0
    WRITERS[name](tmp_path / name, rows)
    assert f"row {row} is all zeros" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_number_too_large_for_float32_is_refused(tmp_path, name):
    WRITERS[name](tmp_path / name, np.array([[1.0, 1e300]]))
    assert "row 0 holds NaN or infinity" in refusal(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.safetensors", "a.json", "a.parquet"])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = tmp_path / name
    WRITERS[name](path, rows_of(300))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(share * len(whole)))])
    assert refusal(path)


@pytest.mark.parametrize("name", WRITERS)
def test_noise_in_place_of_a_file_is_refused(tmp_path, name):
    for seed in range(30):
        noise = np.random.default_rng(seed)
        (tmp_path / name).write_bytes(noise.bytes(int(noise.integers(1, 400))))
        assert refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.safetensors"])
def test_one_damaged_byte_gives_rows_or_one_refusal(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, rows_of(20))
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            read(path)
        except ValueError:
            refusal(path)


BINARY = ("a.npy", "a.npz", "a.pt", "a.safetensors", "a.parquet")


@pytest.mark.parametrize(
    ("written", "name"), [(written, name) for written in BINARY for name in WRITERS if name != written]
)
def test_a_file_with_the_suffix_of_another_format_is_refused(tmp_path, written, name):
    WRITERS[written](tmp_path / written, rows_of(3))
    (tmp_path / written).rename(tmp_path / name)
    assert refusal(tmp_path / name)


NO_VECTORS = {
    "string": '"text"',
    "number": "1.5",
    "null": "null",
    "true": "true",
    "object without a key": '{"text": [1.0]}',
    "object with a string": '{"vector": "text"}',
    "empty object": "{}",
    "empty list": "[]",
    "list of empty lists": "[[], []]",
    "list of strings": '["a", "b"]',
    "list of numerals": '["1.0", "2.0"]',
    "booleans": "[true, false]",
    "nulls": "[1.0, null]",
    "objects": '[{"x": 1}, {"x": 2}]',
    "three dimensions": "[[[1.0]], [[2.0]]]",
    "a number too large": "[1" + "0" * 30 + "]",
    "half of it": "[1.0, 2.0",
    "two values": "[1.0] [2.0]",
    "text": "hello",
}


@pytest.mark.parametrize("text", NO_VECTORS.values(), ids=NO_VECTORS.keys())
@pytest.mark.parametrize("place", ["a.json", "a.jsonl", "-", "inline"])
def test_json_that_is_no_vector_is_refused(tmp_path, monkeypatch, text, place):
    if place == "-":
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        with pytest.raises(ValueError, match=r"^standard input: [^\n]+$"):
            list(read_vectors("-"))
    elif place != "inline":
        (tmp_path / place).write_text(text)
        assert refusal(tmp_path / place)
    elif text.startswith("["):
        with pytest.raises(ValueError, match=r"^the inline list: [^\n]+$"):
            list(read_vectors(text))


@pytest.mark.parametrize("text", ["[[1, 2], [3]]", "[[1, 2], 3]"])
def test_uneven_lists_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert "different lengths" in refusal(tmp_path / "a.json")


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", "[1, 2]\n[3, 4]\n[5]\n"), ("a.csv", "1,2\n3,4\n5\n")])
def test_a_row_of_another_length_is_refused_with_its_number_and_both_lengths(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert "row 2 has 1 numbers, but the rows before it have 2" in refusal(tmp_path / name)


@pytest.mark.parametrize("row", [[1.0], None, [1.0, None]])
def test_an_uneven_parquet_column_is_refused(tmp_path, row):
    table = pa.table({"vector": pa.array([[1.0, 2.0], row], pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "a.parquet")
    assert refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1,2\n3,four\n", 2),
        ("a,b\n1,2\n\n3,\n", 4),
        ("1.5,two\n3,4\n", 1),  # a first row with a number in it is no header
        ("1,2\n\n\nthree,four\n", 4),
    ],
)
def test_text_in_a_csv_is_refused_with_its_line(tmp_path, text, line):
    (tmp_path / "a.csv").write_text(text)
    assert refusal(tmp_path / "a.csv").startswith(f"line {line}: ")


@pytest.mark.parametrize("text", ["a,b\n", "\n\n", "1,\0\n", f'1,"{"2" * 140_000}"\n'])
def test_a_csv_without_a_vector_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    assert refusal(tmp_path / "a.csv")


@pytest.mark.parametrize("kind", ["npz", "pt", "safetensors"])
def test_several_arrays_of_which_none_is_called_vectors_are_refused_by_name(tmp_path, kind):
    rows, path = rows_of(3), tmp_path / f"a.{kind}"
    tensors = {"left": torch.from_numpy(rows), "right": torch.from_numpy(rows + 1)}
    {"npz": lambda: np.savez(path, left=rows, right=rows), "pt": lambda: torch.save(tensors, path)}.get(
        kind, lambda: save_file(tensors, path)
    )()
    message = refusal(path)
    assert "left, right" in message
    assert "called vectors" in message


def test_tensors_that_are_numbered_and_not_named_are_refused(tmp_path):
    torch.save({0: torch.ones(2), 1: torch.ones(2)}, tmp_path / "a.pt")
    assert "0, 1" in refusal(tmp_path / "a.pt")


def test_files_that_hold_nothing_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    torch.save({}, tmp_path / "a.pt")
    save_file({}, tmp_path / "a.safetensors")
    pq.write_table(pa.table({"vector": pa.array([], pa.list_(pa.float32()))}), tmp_path / "a.parquet")
    for name in ("a.npz", "a.pt", "a.safetensors", "a.parquet"):
        assert "expected one" in refusal(tmp_path / name)


def test_two_parquet_columns_of_lists_of_which_none_is_called_vector_are_refused_by_name(tmp_path):
    pq.write_table(pa.table({"left": [[1.0]], "right": [[2.0]]}), tmp_path / "a.parquet")
    assert "left, right" in refusal(tmp_path / "a.parquet")


def test_a_parquet_file_of_text_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["one"], "x": [1.0]}), tmp_path / "a.parquet")
    assert refusal(tmp_path / "a.parquet")


# -- check_rows and batched --------------------------------------------------------------------------------------


def test_rows_are_numbered_from_the_first(tmp_path):
    with pytest.raises(ValueError, match="row 12 is all zeros"):
        check_rows(np.float32([[1, 2], [3, 4], [0, 0]]), first=10)


def test_one_zero_among_the_numbers_is_no_fault():
    check_rows(np.float32([[0, 1], [-1, 0]]))


@pytest.mark.parametrize("pieces", [[1] * 17, [17], [3, 3, 11], [1, 15, 1], [8, 9], [2] * 8 + [1]])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 100])
def test_batched_keeps_the_rows_and_their_order(pieces, size):
    rows = rows_of(17)
    found = list(batched(iter(np.split(rows, np.cumsum(pieces)[:-1])), size))
    np.testing.assert_array_equal(np.concatenate(found), rows)
    assert [len(batch) for batch in found] == [size] * (17 // size) + [17 % size] * (17 % size > 0)


def test_batched_of_nothing_is_nothing():
    assert list(batched(iter([]), 4)) == []


def test_a_direction_has_length_1_and_zeros_have_none():
    vectors = np.array([[3, 4], [0, 0], [0, -2]], np.float32)
    assert unit(vectors).dtype == np.float32
    np.testing.assert_allclose(unit(vectors), [[0.6, 0.8], [0, 0], [0, -1]], atol=1e-7)
