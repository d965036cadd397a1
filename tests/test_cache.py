"""The cache: the vectors of a corpus, each made or read once, and each with its own sentence."""

import json
import os
import time
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LetterEncoder

import vec2text.cache
from vec2text.cache import Vectors, encode_corpus, stored_vectors
from vec2text.config import DataConfig
from vec2text.corpus import build_corpus
from vec2text.fingerprint import Fingerprint

SHARD = 16


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(vec2text.cache, "_SHARD", SHARD)
    monkeypatch.setattr(vec2text.cache, "_TOGETHER", 1)


def corpus_of(place, paths, **config):
    shares = {"validation": 0.2, "test": 0.2, "cache": str(place / "cache")}
    return build_corpus(DataConfig([str(path) for path in paths], **{**shares, **config}))


@pytest.fixture
def build(tmp_path):
    """build(texts): a corpus of `texts`."""

    def made(texts):
        (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
        return corpus_of(tmp_path, [tmp_path / "texts.txt"])

    return made


def everything(vectors):
    return vectors[np.arange(len(vectors))]


# -- vectors that an encoder makes -------------------------------------------------------------------------------


@pytest.fixture
def encode(tmp_path, small_shards):
    """encode(corpus, encoder): the vectors, and how many sentences were sent through the encoder for them."""

    def made(corpus, encoder, fingerprint=None):
        fingerprint = fingerprint or Fingerprint.of(encoder)
        before = encoder.queries
        return encode_corpus(corpus, encoder, tmp_path / "cache", fingerprint), encoder.queries - before

    return made


@pytest.mark.parametrize("count", [SHARD * 3 - 1, SHARD * 3, SHARD * 3 + 1])
def test_vectors_are_those_of_the_encoder_in_the_order_of_the_sentences(build, sentences, encode, count):
    corpus, encoder = build(sentences[:count]), LetterEncoder()
    vectors, queries = encode(corpus, encoder)
    assert queries == len(vectors) == count
    assert vectors.dimension == 32
    assert len(vectors.shards) == -(-count // SHARD)
    np.testing.assert_array_equal(everything(vectors), encoder.encode(sentences[:count]))


def test_nothing_is_encoded_twice(build, sentences, encode):
    corpus, encoder = build(sentences[:50]), LetterEncoder()
    first, _ = encode(corpus, encoder)
    second, queries = encode(corpus, encoder)
    assert queries == 0
    np.testing.assert_array_equal(everything(first), everything(second))


class Dying(LetterEncoder):
    """Dies instead of encoding one more piece than `pieces`."""

    def __init__(self, pieces, error):
        super().__init__()
        self.pieces, self.error = pieces, error

    def encode(self, texts):
        if len(texts) > 3:  # no probes
            self.pieces -= 1
            if self.pieces < 0:
                raise self.error
        return super().encode(texts)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_killed_encode_goes_on_after_its_last_whole_shard(build, sentences, encode, pieces, error):
    corpus, encoder = build(sentences[:60]), LetterEncoder()
    with pytest.raises(type(error)):
        encode(corpus, Dying(pieces, error))
    vectors, queries = encode(corpus, encoder)
    assert queries == 60 - pieces * SHARD
    np.testing.assert_array_equal(everything(vectors), encoder.encode(sentences[:60]))


class Counting(LetterEncoder):
    """Counts the sentences of each call, and may take its time."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds, self.calls = seconds, []

    def encode(self, texts):
        if len(texts) > 3:  # no probes
            self.calls.append(len(texts))
            time.sleep(self.seconds)
        return super().encode(texts)


@pytest.mark.parametrize(("seconds", "calls"), [(0.0, [16, 32, 64, 8]), (0.02, [16] * 7 + [8])])
def test_a_fast_encoder_is_given_more_and_more_shards_and_a_slow_one_is_not(
    build, sentences, encode, monkeypatch, seconds, calls
):
    monkeypatch.setattr(vec2text.cache, "_TOGETHER", 16)
    monkeypatch.setattr(vec2text.cache, "_SOON", 0.01 if seconds else 10.0)
    encoder = Counting(seconds)
    vectors, _ = encode(build(sentences[:120]), encoder)
    assert encoder.calls == calls
    np.testing.assert_array_equal(everything(vectors), LetterEncoder().encode(sentences[:120]))


def test_a_shard_that_was_being_written_when_it_was_killed_is_encoded_again(build, sentences, encode, monkeypatch):
    corpus, encoder, save = build(sentences[:40]), LetterEncoder(), np.save

    def killed(file, vectors):
        save(file, vectors[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        encode(corpus, encoder)
    monkeypatch.setattr(np, "save", save)
    vectors, queries = encode(corpus, encoder)
    assert queries == 40
    np.testing.assert_array_equal(everything(vectors), encoder.encode(sentences[:40]))


def test_a_corpus_that_grew_at_its_end_keeps_its_whole_shards(build, sentences, encode):
    encoder = LetterEncoder()
    encode(build(sentences[:50]), encoder)
    vectors, queries = encode(build(sentences[:90]), encoder)
    assert queries == 90 - 50 // SHARD * SHARD
    np.testing.assert_array_equal(everything(vectors), encoder.encode(sentences[:90]))


def test_a_corpus_in_another_order_gets_its_own_vectors(build, sentences, encode):
    encoder = LetterEncoder()
    encode(build(sentences[:50]), encoder)
    vectors, _ = encode(build(sentences[:50][::-1]), encoder)
    np.testing.assert_array_equal(everything(vectors), encoder.encode(sentences[:50][::-1]))


def test_an_encoder_that_changed_under_its_name_is_noticed_and_all_is_encoded_anew(build, sentences, encode, caplog):
    corpus, changed = build(sentences[:50]), LetterEncoder(seed=1)
    encode(corpus, LetterEncoder())
    assert "made anew" not in caplog.text
    vectors, queries = encode(corpus, changed)
    assert "made anew" in caplog.text
    assert queries == 50
    np.testing.assert_array_equal(everything(vectors), changed.encode(sentences[:50]))


def test_encoders_of_two_names_keep_their_vectors_beside_each_other(build, sentences, encode):
    corpus, one, other = build(sentences[:50]), LetterEncoder(), LetterEncoder(dimension=8, seed=1)
    other.name = "other"
    encode(corpus, one)
    vectors, _ = encode(corpus, other)
    np.testing.assert_array_equal(everything(vectors), other.encode(sentences[:50]))
    assert encode(corpus, one)[1] == encode(corpus, other)[1] == 0


class Wrong(LetterEncoder):
    """An encoder that spoils what it returns, the probes excepted."""

    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def encode(self, texts):
        vectors = super().encode(texts)
        return self.spoil(vectors) if len(texts) > 3 else vectors


def with_entry(value):
    def spoil(vectors):
        vectors[1, 1] = value
        return vectors

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda vectors: vectors[1:],
        lambda vectors: vectors[:, 1:],
        lambda vectors: vectors.T,
        lambda vectors: vectors[0],
        lambda vectors: vectors[None],
        with_entry(np.nan),
        with_entry(np.inf),
    ],
)
def test_an_encoder_that_returns_a_wrong_array_is_refused_and_nothing_of_it_kept(build, sentences, encode, spoil):
    corpus = build(sentences[:50])
    with pytest.raises(ValueError, match=r"encoder 'letters' gave (NaN|an array of shape \(.*expected \(16, 32\))"):
        encode(corpus, Wrong(spoil))
    assert encode(corpus, LetterEncoder())[1] == 50


def test_vectors_of_any_type_are_kept_as_float32(build, sentences, encode):
    vectors, _ = encode(build(sentences[:40]), Wrong(lambda vectors: vectors.astype(np.float64).tolist()))
    assert everything(vectors).dtype == np.float32
    np.testing.assert_array_equal(everything(vectors), LetterEncoder().encode(sentences[:40]))


@pytest.mark.parametrize("rows", [[], [0], [47], [16, 15, 32], [40, 3, 3, 40, 17], range(47, -1, -1)])
def test_vectors_of_any_rows_come_in_the_order_asked_for(small_shards, rows):
    whole = np.random.default_rng(0).standard_normal((48, 4)).astype(np.float32)
    vectors = Vectors(np.split(whole, 3))
    rows = np.array(rows, int)
    np.testing.assert_array_equal(vectors[rows], whole[rows])


# -- vectors that were given -------------------------------------------------------------------------------------


@pytest.fixture
def rows(sentences, small_shards):
    """Rows of a source, of which some are empty, repeated or too long, and a vector for each."""
    texts = []
    for i, text in enumerate(sentences[:80]):
        texts.append(text)
        texts += (
            [""] * (i % 7 == 3) + [sentences[i - 2].upper()] * (i % 9 == 4) + [f"Much {i} too long. " * 5] * (i == 30)
        )
    return texts, np.random.default_rng(0).standard_normal((len(texts), 6)).astype(np.float32)


def write(path, texts, vectors, column="text"):
    """A file of texts, of vectors, or of both, as its name says."""
    lists = [vector.tolist() for vector in vectors]
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": range(len(texts)), column: texts, "vector": lists}), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps({column: text, "vector": row}) + "\n" for text, row in zip(texts, lists, strict=True)]
        path.write_text("\n".join(lines))  # a blank line after each
    elif path.suffix == ".npz":
        np.savez(path, **{column: np.array(texts), "vector": vectors})
    elif path.suffix == ".npy":
        np.save(path, vectors)
    else:
        path.write_text("".join(f"{text}\n" for text in texts))
    return str(path)


def stored(place, paths, files, **config):
    """The corpus of the texts in `paths`, and the vectors in `files` that belong to it."""
    corpus = corpus_of(place, paths, max_words=9, **config)
    return corpus, stored_vectors(corpus, files, place / "cache")


def check(corpus, vectors, rows):
    """Each sentence has the vector of the row from which it comes."""
    texts, all_vectors = rows
    expected = np.stack([all_vectors[texts.index(text)] for text in corpus.texts])
    assert len(vectors) == len(corpus.texts)
    assert vectors.dimension == 6
    np.testing.assert_array_equal(everything(vectors), expected)
    np.testing.assert_array_equal(vectors[np.array([40, 3, 17])], expected[[40, 3, 17]])


PAIRS = ["a.parquet", "a.jsonl", "a.npz"]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("column", ["text", "body"])
def test_texts_and_vectors_of_one_file_stay_together(tmp_path, rows, name, column):
    path = write(tmp_path / name, *rows, column=column)
    corpus, vectors = stored(tmp_path, [path], [path], column=column)
    assert corpus.counts["empty"] > 5
    assert corpus.counts["repeated"] > 5
    assert corpus.counts["too_long"] == 1
    assert len(corpus.texts) == 80
    check(corpus, vectors, rows)


def test_texts_and_vectors_of_several_files_stay_together(tmp_path, rows):
    texts, vectors = rows
    cuts = [0, 21, 60, len(texts)]
    paths = [
        write(tmp_path / name, texts[start:end], vectors[start:end])
        for name, start, end in zip(PAIRS, cuts, cuts[1:], strict=False)
    ]
    check(*stored(tmp_path, paths, paths), rows)


@pytest.mark.parametrize("text", ["t.txt", "t.csv"])
@pytest.mark.parametrize("vector", ["v.npy", "v.npz", "v.parquet"])
def test_texts_and_vectors_of_two_files_stay_together(tmp_path, rows, text, vector):
    if text == "t.csv":
        lines = "".join(f"{i},{text}\n" for i, text in enumerate(rows[0]))
        (tmp_path / text).write_text("id,text\n" + lines)
    else:
        write(tmp_path / text, *rows)
    check(*stored(tmp_path, [tmp_path / text], [write(tmp_path / vector, *rows)]), rows)


def test_the_files_of_vectors_need_not_end_where_those_of_texts_do(tmp_path, rows):
    texts, vectors = rows
    paths = [write(tmp_path / "1.txt", texts[:50], []), write(tmp_path / "2.txt", texts[50:], [])]
    cuts = [0, 5, 64, 65, len(texts)]
    files = [write(tmp_path / f"{i}.npy", [], vectors[start:end]) for i, (start, end) in enumerate(pairwise(cuts))]
    check(*stored(tmp_path, paths, files), rows)


def test_wildcards_name_the_files_of_both(tmp_path, rows):
    texts, vectors = rows
    for i in range(3):
        part = slice(i * 30, (i + 1) * 30 if i < 2 else None)
        write(tmp_path / f"part-{i}.parquet", texts[part], vectors[part])
    pattern = str(tmp_path / "part-*.parquet")
    check(*stored(tmp_path, [pattern], [pattern]), rows)


@pytest.mark.parametrize("limit", [45, 48, 79])
@pytest.mark.parametrize("name", PAIRS)
def test_a_limit_takes_the_first_vectors(tmp_path, rows, name, limit):
    path = write(tmp_path / name, *rows)
    corpus, vectors = stored(tmp_path, [path], [path], limit=limit)
    assert len(corpus.texts) == limit
    check(corpus, vectors, rows)


def refusal(*arguments, **config):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        stored(*arguments, **config)
    return str(refused.value)


@pytest.mark.parametrize(("count", "said"), [(-1, "only {} vectors"), (-60, "only {} vectors"), (1, "more than {}")])
def test_too_few_or_too_many_vectors_are_refused_with_both_numbers(tmp_path, rows, count, said):
    texts, vectors = rows
    number = len(texts)
    path, right = write(tmp_path / "t.txt", *rows), write(tmp_path / "right.npy", *rows)
    wrong = write(tmp_path / "wrong.npy", [], np.resize(vectors, (number + count, 6)))
    message = refusal(tmp_path, [path], [wrong])
    assert said.format(number + min(count, 0)) in message
    assert f"for {number} sentences" in message
    assert wrong in message
    check(*stored(tmp_path, [path], [right]), rows)


def test_a_limit_does_not_excuse_too_few_vectors(tmp_path, rows):
    path, few = write(tmp_path / "t.txt", *rows), write(tmp_path / "few.npy", [], rows[1][:30])
    assert "only 30 vectors" in refusal(tmp_path, [path], [few], limit=45)


@pytest.mark.parametrize(("value", "fault"), [(np.nan, "NaN"), (np.inf, "infinity"), (0.0, "all zeros")])
@pytest.mark.parametrize("name", ["v.npy", "v.npz", "v.parquet"])
def test_a_vector_that_no_encoder_makes_is_refused_with_its_row_and_nothing_of_it_kept(
    tmp_path, rows, name, value, fault
):
    texts, vectors = rows
    spoiled = vectors.copy()
    spoiled[37] = value
    path, file = write(tmp_path / "t.txt", *rows), write(tmp_path / name, texts, spoiled)
    message = refusal(tmp_path, [path], [file])
    assert f"{file}: row 37 " in message
    assert fault in message
    write(tmp_path / name, *rows)
    check(*stored(tmp_path, [path], [file]), rows)


def test_files_of_two_dimensions_are_refused_with_both(tmp_path, rows):
    texts, vectors = rows
    path = write(tmp_path / "t.txt", *rows)
    for cut in (SHARD * 2, 50):  # at the end of a shard, and within one
        files = [
            write(tmp_path / "1.npy", [], vectors[:cut]),
            write(tmp_path / "2.npy", [], np.ones((len(texts) - cut, 5), np.float32)),
        ]
        message = refusal(tmp_path, [path], files)
        assert "2.npy" in message
        assert "5" in message
        assert "6" in message


def test_a_missing_file_of_vectors_is_refused(tmp_path, rows):
    path = write(tmp_path / "t.txt", *rows)
    assert "v.npy: there is no such file" in refusal(tmp_path, [path], [str(tmp_path / "v.npy")])


def test_given_vectors_are_read_once(tmp_path, rows, monkeypatch):
    path = write(tmp_path / "a.parquet", *rows)
    _, first = stored(tmp_path, [path], [path])
    monkeypatch.setattr(vec2text.cache, "read_vectors", lambda source: pytest.fail(f"{source} is read again"))
    corpus, second = stored(tmp_path, [path], [path])
    assert len(second.shards) == -(-80 // SHARD)
    check(corpus, second, rows)
    np.testing.assert_array_equal(everything(first), everything(second))


def test_a_file_of_vectors_that_changed_is_read_anew(tmp_path, rows):
    texts, vectors = rows
    path, file = write(tmp_path / "t.txt", *rows), write(tmp_path / "v.npy", *rows)
    _, before = stored(tmp_path, [path], [file])
    write(tmp_path / "v.npy", [], -vectors)
    os.utime(file, ns=(0, os.stat(file).st_mtime_ns + 1_000_000))
    check(*stored(tmp_path, [path], [file]), (texts, -vectors))
    np.testing.assert_array_equal(everything(before)[0], vectors[0])  # who has it open is not disturbed


def test_sentences_that_moved_to_other_rows_get_the_vectors_of_these(tmp_path, rows):
    """The sentences that are kept are the same ones, but their rows are others: as when a misaligned file is mended."""
    texts, vectors = rows
    file, blank = write(tmp_path / "v.npy", *rows), texts.index("")
    path = write(tmp_path / "t.txt", *rows)
    check(*stored(tmp_path, [path], [file]), rows)
    moved = ["", *texts[:blank], *texts[blank + 1 :]]
    write(tmp_path / "t.txt", moved, [])
    check(*stored(tmp_path, [path], [file]), (moved, vectors))
    write(tmp_path / "t.txt", [*moved, ""], [])
    assert f"only {len(moved)} vectors for {len(moved) + 1} sentences" in refusal(tmp_path, [path], [file])


def test_a_reading_that_was_killed_leaves_nothing(tmp_path, rows, monkeypatch):
    path, save, count = write(tmp_path / "a.parquet", *rows), np.save, iter(range(9))

    def killed(file, vectors):
        if next(count) == 2:
            raise KeyboardInterrupt
        save(file, vectors)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, [path], [path])
    monkeypatch.setattr(np, "save", save)
    assert not list((tmp_path / "cache").glob("*precomputed*"))
    check(*stored(tmp_path, [path], [path]), rows)
