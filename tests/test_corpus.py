"""The corpus: the same clean, distinct, split sentences from every kind of source."""

import csv
import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vec2text.config import DataConfig
from vec2text.corpus import SPLITS, build_corpus, open_corpus, splice_corpus, split_of
from vec2text.sentences import normalise, sentence_key


def write_csv(path, texts, column):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", column], *enumerate(texts)])


def write_jsonl(path, texts, column):
    lines = [json.dumps({"id": i, column: text}, ensure_ascii=False) for i, text in enumerate(texts)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


WRITERS = {
    "a.txt": lambda path, texts, column: path.write_text("\n".join(texts) + "\n", encoding="utf-8"),
    "a.jsonl": write_jsonl,
    "a.csv": write_csv,
    "a.parquet": lambda path, texts, column: pq.write_table(pa.table({"id": range(len(texts)), column: texts}), path),
}
TABLES = ["a.jsonl", "a.csv", "a.parquet"]


@pytest.fixture
def build(tmp_path):
    """build(texts, fault, **config): a corpus of `texts`, written to a file first."""

    def made(texts, *fault, name="a.txt", **config):
        WRITERS[name](tmp_path / name, texts, config.get("column", "text"))
        return build_from(tmp_path, [tmp_path / name], *fault, **config)

    return made


def build_from(tmp_path, paths, *fault, **config):
    shares = {"validation": 0.2, "test": 0.2, "cache": str(tmp_path / "cache")}
    return build_corpus(DataConfig([str(path) for path in paths], **{**shares, **config}), *fault)


def refusal(*arguments, **config):
    """The message of the one ValueError with which a source is refused, seen to be one line."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        build_from(*arguments, **config)
    return str(refused.value)


# -- sources -----------------------------------------------------------------------------------------------------

COMPOSED = "Это мой ёж, café"
TRICKY = [
    'He said: "one, two"; and went.',
    "Ein Käfer, größer als ein Haus.",
    COMPOSED,
    "it's 5 o'clock",
    "日本語です。",
    "None",
    "NA",
    "1984",
]


@pytest.mark.parametrize("column", ["text", "sentence"])
@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_file_gives_the_same_corpus(build, sentences, name, column):
    texts = [*TRICKY, *sentences[:40]]
    expected, found = build(texts), build(texts, name=name, column=column)
    assert expected.texts[:] == [normalise(text) for text in texts]
    assert found.texts[:] == expected.texts[:]
    assert found.digest == expected.digest
    np.testing.assert_array_equal(found.splits, expected.splits)


def test_several_files_and_wildcards_are_read_one_after_the_other(tmp_path, sentences):
    for i, name in enumerate(["1.txt", "2.txt", "3.jsonl"]):
        WRITERS["a" + name[1:]](tmp_path / name, sentences[i * 30 : i * 30 + 30], "text")
    named = build_from(tmp_path, [tmp_path / "1.txt", tmp_path / "2.txt", tmp_path / "3.jsonl"])
    assert named.texts[:] == sentences[:90]
    assert build_from(tmp_path, [tmp_path / "[0-9].*"]).texts[:] == sentences[:90]
    assert build_from(tmp_path, [tmp_path / "3.jsonl", tmp_path / "*.txt"]).texts[:30] == sentences[60:90]


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_is_a_dataset_by_name(tmp_path, sentences, name):
    folder = tmp_path / "dataset"
    folder.mkdir()
    WRITERS[name](folder / f"train{name[1:]}", sentences[:40], "text")
    found = build_from(tmp_path, [], dataset=str(folder))
    assert found.texts[:] == sentences[:40]


def test_the_split_of_a_dataset_is_the_one_asked_for(tmp_path, sentences):
    folder = tmp_path / "dataset"
    folder.mkdir()
    for i, name in enumerate(["train", "test"]):
        WRITERS["a.jsonl"](folder / f"{name}.jsonl", sentences[i * 40 : i * 40 + 40], "text")
    assert build_from(tmp_path, [], dataset=str(folder), dataset_split="test").texts[:] == sentences[40:80]


def test_a_missing_file_is_refused(tmp_path):
    assert f"there is no file {tmp_path / 'a.txt'}" in refusal(tmp_path, [tmp_path / "a.txt"])


def test_a_wildcard_that_nothing_matches_is_refused(tmp_path):
    assert f"no file matches {tmp_path / '*.txt'}" in refusal(tmp_path, [tmp_path / "*.txt"])


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert f"{tmp_path / name} is empty" in refusal(tmp_path, [tmp_path / name])


@pytest.mark.parametrize("name", ["a.doc", "a", "a.txt.bak"])
def test_a_file_of_unknown_kind_is_refused_with_the_kinds_that_are_known(tmp_path, name):
    (tmp_path / name).write_text("Hello.")
    message = refusal(tmp_path, [tmp_path / name])
    assert str(tmp_path / name) in message
    assert ".txt, .jsonl, .csv, .parquet" in message


def test_a_fault_in_one_file_is_found_before_any_is_read(tmp_path, sentences):
    (tmp_path / "a.txt").write_text("\n".join(sentences[:40]))
    assert "there is no file" in refusal(tmp_path, [tmp_path / "a.txt", tmp_path / "b.txt"])
    assert not list((tmp_path / "cache").glob("texts-*"))


@pytest.mark.parametrize("name", TABLES)
def test_an_absent_column_is_refused_with_those_that_are_there(tmp_path, sentences, name):
    WRITERS[name](tmp_path / name, sentences[:40], "phrase")
    message = refusal(tmp_path, [tmp_path / name])
    assert str(tmp_path / name) in message
    assert "there is no column 'text', only" in message
    assert "id, phrase" in message


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_column_of_numbers_is_no_text(tmp_path, name):
    WRITERS[name](tmp_path / name, [1, 2, 3], "text")
    assert "row 1 holds 1 in column 'text'; expected text" in refusal(tmp_path, [tmp_path / name])


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_parquet_file_is_refused(tmp_path, sentences, share):
    path = tmp_path / "a.parquet"
    WRITERS["a.parquet"](path, sentences, "text")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert f"{path} cannot be read" in refusal(tmp_path, [path])


@pytest.mark.parametrize("broken", ['{"text": "half of', "{text: 1}", "hello", '{"text": 1}{', "\xff"])
def test_a_broken_line_of_json_is_refused(tmp_path, sentences, broken):
    path = tmp_path / "a.jsonl"
    WRITERS["a.jsonl"](path, sentences[:40], "text")
    path.write_bytes(path.read_bytes() + broken.encode("latin-1") + b"\n")
    assert f"{path} cannot be read" in refusal(tmp_path, [path])


@pytest.mark.parametrize("line", ["1", '"text"', "[1, 2]"])
def test_lines_of_json_that_are_no_objects_are_refused(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f"{line}\n" * 40)
    assert f"{tmp_path / 'a.jsonl'} cannot be read" in refusal(tmp_path, [tmp_path / "a.jsonl"])


@pytest.mark.parametrize("name", WRITERS)
def test_noise_in_place_of_a_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\x81" + np.random.default_rng(0).bytes(500))
    assert f"{tmp_path / name} cannot be read" in refusal(tmp_path, [tmp_path / name])


@pytest.mark.parametrize("source", [{"dataset": "no_such_user/no_such_dataset"}, {"dataset": "no_such_dataset"}])
def test_an_unknown_dataset_is_refused_by_name(tmp_path, source):
    assert refusal(tmp_path, [], **source).startswith(f"{source['dataset']} cannot be read")


def test_an_unknown_split_of_a_dataset_is_refused(tmp_path, sentences):
    (tmp_path / "dataset").mkdir()
    WRITERS["a.jsonl"](tmp_path / "dataset" / "train.jsonl", sentences[:40], "text")
    message = refusal(tmp_path, [], dataset=str(tmp_path / "dataset"), dataset_split="tests")
    assert "tests" in message


# -- what is kept ------------------------------------------------------------------------------------------------


def test_the_whole_of_a_kept_sentence_is_kept_and_only_white_space_is_changed(build, sentences):
    long = "word " * 3000 + "end."
    corpus = build([" A \t first one. ", long, *sentences[:40]])
    assert corpus.texts[:2] == ["A first one.", long]


@pytest.mark.parametrize("name", WRITERS)
def test_empty_sentences_are_dropped_and_counted(build, sentences, name):
    corpus = build([*sentences[:20], "", " \t", *sentences[20:40]], name=name)
    assert corpus.texts[:] == sentences[:40]
    assert corpus.counts["read"] == 42
    assert corpus.counts["empty"] == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_nothing_in_place_of_a_sentence_is_an_empty_one(build, sentences, name):
    corpus = build([*sentences[:40], None], name=name)
    assert corpus.counts["empty"] == 1


def test_of_repeated_sentences_the_first_is_kept_whatever_the_case_and_punctuation(build, sentences):
    again = [sentences[0], sentences[1].upper(), sentences[2].replace(".", "!"), f" «{sentences[3]}» "]
    corpus = build([*sentences[:40], *again])
    assert corpus.texts[:] == sentences[:40]
    assert corpus.counts["repeated"] == 4


@pytest.mark.parametrize(
    ("config", "dropped", "fault"),
    [
        ({"min_words": 3}, ["Two words.", "One"], "too_short"),
        ({"max_words": 9}, ["one two three four five six seven eight nine ten"], "too_long"),
        ({"max_characters": 60}, ["x" * 61, "é" * 61], "too_long"),
    ],
)
def test_sentences_beyond_a_limit_are_dropped_and_counted_and_those_at_it_kept(
    build, sentences, config, dropped, fault
):
    at_it = ["These are three", "one two three four five six seven eight nine", "y" * 60, "y " * 5 + "ö" * 50]
    kept = [text for text in at_it if "min_words" not in config or " " in text]
    corpus = build([*dropped, *kept, *sentences[:40]], **config)
    assert corpus.texts[:] == [*kept, *sentences[:40]]
    assert corpus.counts[fault] == len(dropped)


def test_sentences_that_the_encoder_does_not_read_to_their_end_are_dropped_and_counted(build, sentences):
    corpus = build(sentences[:100], lambda text: "too_long" if "river" in text else None)
    assert corpus.texts[:] == [text for text in sentences[:100] if "river" not in text]
    assert corpus.counts["too_long"] == 25


def test_every_sentence_that_is_read_is_kept_or_counted_once(build, sentences):
    texts = [*sentences[:50], "", "Short", "short!", sentences[0], "x " * 30, "X x " * 15]
    counts = build(texts, min_words=2, max_words=20).counts
    assert counts["read"] == len(texts)
    faults = {name: counts[name] for name in ("empty", "repeated", "too_short", "too_long")}
    assert faults == {"empty": 1, "repeated": 1, "too_short": 2, "too_long": 2}
    assert sum(counts[split] for split in SPLITS) == 50


def test_the_limit_counts_kept_sentences_and_takes_the_first_ones(build, sentences):
    corpus = build([sentences[0], *sentences[:100]], limit=40)
    assert corpus.texts[:] == sentences[:40]
    assert corpus.counts["read"] == 41


def test_too_few_sentences_for_three_splits_are_refused_with_their_number(build):
    with pytest.raises(ValueError, match=r"^the corpus has 2 usable sentences \([^\n]*1 empty[^\n]*$"):
        build(["One.", "Two.", ""])


def test_what_is_killed_leaves_no_half_corpus(build, sentences, tmp_path):
    def killed(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(sentences[:40], killed)
    assert not list((tmp_path / "cache").iterdir())


def test_lines_are_a_sequence_of_the_texts(build, sentences):
    corpus = build([*TRICKY, *sentences[:40]])
    expected = [normalise(text) for text in [*TRICKY, *sentences[:40]]]
    assert len(corpus.texts) == len(expected)
    assert list(corpus.texts) == expected
    assert [corpus.texts[i] for i in (3, 0, 47, -1)] == [expected[i] for i in (3, 0, 47, -1)]
    assert corpus.texts[2:30:5] == expected[2:30:5]
    with pytest.raises(IndexError):
        corpus.texts[48]


# -- splits ------------------------------------------------------------------------------------------------------


def test_the_splits_share_no_sentence_and_have_the_shares_asked_for(corpus):
    rows = [corpus.rows(split) for split in SPLITS]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(600))
    assert [corpus.counts[split] for split in SPLITS] == [len(found) for found in rows]
    for found, share in zip(rows, (0.8, 0.1, 0.1), strict=True):
        assert abs(len(found) / 600 - share) < 0.05


def splits_by_text(corpus):
    return dict(zip(corpus.texts, corpus.splits.tolist(), strict=True))


def test_the_split_of_a_sentence_does_not_change_when_the_corpus_grows(build, sentences):
    former = {}
    for count in (40, 41, 100, 300, 600):
        order = np.random.default_rng(count).permutation(count)  # and not with its place either
        found = splits_by_text(build([sentences[i] for i in order]))
        assert len(found) == count
        assert former.items() <= found.items()
        former = found


def test_two_spellings_of_a_sentence_are_in_one_split(build, sentences):
    plain, loud = build(sentences[:200]), build([f"«{text.upper()}» ..." for text in sentences[:200]])
    assert plain.digest != loud.digest
    np.testing.assert_array_equal(plain.splits, loud.splits)


def test_more_validation_takes_from_training_and_leaves_the_test_set_as_it_is(build, sentences):
    small, large = build(sentences[:200], validation=0.1), build(sentences[:200], validation=0.4)
    np.testing.assert_array_equal(small.rows("test"), large.rows("test"))
    assert set(small.rows("validation")) < set(large.rows("validation"))


def test_the_split_is_a_matter_of_the_key_alone():
    shares = {"validation": 0.25, "test": 0.25}
    places = (0, 2**62 - 2**12, 2**62, 2**63 - 2**12, 2**63, 2**64 - 2**12)
    assert [SPLITS[split_of(key, **shares)] for key in places] == [
        "test", "test", "validation", "validation", "train", "train",
    ]  # fmt: skip


# -- opened again ------------------------------------------------------------------------------------------------------


def test_a_corpus_is_opened_again_without_its_sources(build, tmp_path, sentences):
    made = build(TRICKY + sentences)
    (tmp_path / "a.txt").unlink()
    config = DataConfig(["gone.txt"], validation=0.2, test=0.2, cache=str(tmp_path / "cache"))
    again = open_corpus(config, made.digest)
    assert again.texts[:] == made.texts[:]
    np.testing.assert_array_equal(again.splits, made.splits)
    assert again.counts == {split: made.counts[split] for split in SPLITS}
    assert again.digest == made.digest


def test_a_corpus_that_is_gone_or_changed_is_not_opened(build, tmp_path, sentences):
    made = build(sentences)
    config = DataConfig(["gone.txt"], cache=str(tmp_path / "cache"))
    path = tmp_path / "cache" / f"texts-{made.digest}.txt"
    with pytest.raises(ValueError, match=r"there is no file .*texts-abc\.txt"):
        open_corpus(config, "abc")
    with path.open("a") as file:
        file.write("One more.\n")
    with pytest.raises(ValueError, match="holds other sentences than its name says: delete it"):
        open_corpus(config, made.digest)


# -- splices -----------------------------------------------------------------------------------------------------

OTHERS = [f"other{i}" for i in range(30)]


def test_splices_are_a_corpus_of_their_own_and_none_is_held_out(build, tmp_path):
    pairs = itertools.product(range(12), range(12))
    corpus = build([f"this is what {a} said to the people of {b}" for a, b in pairs if (a + b) % 2], validation=0.3)
    rows = corpus.rows("train")
    config = DataConfig([str(tmp_path / "a.txt")], splices=0.5, max_words=10, cache=str(tmp_path / "cache"))
    made = splice_corpus(corpus, rows, config)
    assert 0 < len(made.texts) <= round(0.5 * len(rows))
    assert made.texts.path != corpus.texts.path
    assert set(made.splits.tolist()) == {0}
    assert max(len(text.split()) for text in made.texts) <= 10
    others = {sentence_key(corpus.texts[row]) for split in SPLITS[1:] for row in corpus.rows(split)}
    assert not others & {sentence_key(text) for text in made.texts}


def test_a_splice_that_is_a_held_out_sentence_is_left_out(build):
    texts = ["we went to the shop yesterday", "they drove to the old harbour"]
    held = ["They drove to the shop yesterday!"]
    corpus = build([*texts, *held, *OTHERS])
    splits = np.array([SPLITS.index("test") if text in held else 0 for text in corpus.texts], np.uint8)
    config = DataConfig(["x.txt"], splices=5, cache=str(corpus.texts.path.parent))
    made = splice_corpus(replace(corpus, splits=splits), np.array([0, 1]), config)
    assert list(made.texts) == ["we went to the old harbour"]


def test_longer_splices_than_are_wanted_are_left_out(build):
    corpus = build(["we went to the shop yesterday", "they and all of us drove to the old harbour", *OTHERS])
    config = DataConfig(["x.txt"], splices=5, cache=str(corpus.texts.path.parent))
    both = ["they and all of us drove to the shop yesterday", "we went to the old harbour"]
    assert sorted(splice_corpus(corpus, np.array([0, 1]), config).texts) == both
    assert list(splice_corpus(corpus, np.array([0, 1]), replace(config, splice_words=9)).texts) == both[1:]


SHORT, LONG = ["we went to the old harbour"], "they and all of us drove to the old harbour"


@pytest.mark.parametrize(
    ("others", "changed", "expected"),
    [
        ([LONG, LONG + "!"], {}, SHORT),
        ([LONG], {"max_words": None, "max_characters": 30}, SHORT),
        (["on " * 185 + LONG], {}, SHORT),
        (["on " * 186 + LONG], {}, None),
        (["they drove to the old harbour"], {}, None),
        ([LONG], {"validation": 0.49, "test": 0.01}, None),
        ([LONG], {"validation": 0.01, "test": 0.4999}, None),
        ([LONG], {"limit": 31}, None),
        (["a b c d e f g h i", "one more", LONG, "the last"], {"limit": 33}, SHORT),
        (["a b c d e f g h i", "one more", "the last", LONG], {"limit": 33}, None),
        (["a b c d e f g h i", "r s t u v w x y z", LONG], {}, None),
    ],
    ids=[
        *("words", "characters", "600 characters", "more characters", "not too long", "validation", "test"),
        *("after the limit", "before the limit", "just after the limit", "as many as of the others"),
    ],
)
def test_sentences_too_long_to_be_learned_from_are_spliced(build, tmp_path, others, changed, expected):
    options = {"splices": 5, "max_words": 8, "cache": str(tmp_path / "cache"), **changed}
    config = DataConfig([str(tmp_path / "a.txt")], **options)
    corpus = build(
        ["we went to the shop yesterday", *OTHERS, *others],
        **{**options, "validation": 0.2, "test": 0.2},
    )
    assert config.limit is None or len(corpus.texts) == config.limit
    rows = np.array([0, 1])
    if expected is None:
        with pytest.raises(ValueError, match="no splice"):
            splice_corpus(corpus, rows, config)
    else:
        assert list(splice_corpus(corpus, rows, config).texts) == expected


def test_splices_that_the_encoder_cannot_read_are_left_out(build):
    corpus = build(["we went to the shop yesterday", "they drove to the old harbour", *OTHERS])
    config = DataConfig(["x.txt"], splices=5, cache=str(corpus.texts.path.parent))
    made = splice_corpus(corpus, np.array([0, 1]), config, lambda text: "too_long" if "shop" in text else None)
    assert list(made.texts) == ["we went to the old harbour"]


def test_sentences_that_share_nothing_are_refused(build):
    corpus = build(["one two three", "four five six", *OTHERS])
    config = DataConfig(["x.txt"], splices=1, cache=str(corpus.texts.path.parent))
    with pytest.raises(ValueError, match=r"^data\.splices is 1, but of the sentences no splice can be made[^\n]*$"):
        splice_corpus(corpus, np.array([0, 1]), config)
    with pytest.raises(ValueError, match=r"no splice of at most 4 words can be made"):
        splice_corpus(corpus, np.array([0, 1]), replace(config, splice_words=4))
    assert not list(corpus.texts.path.parent.glob(".texts-*"))
