"""What is said of each vector: a line of text or of JSON, also where the encoder fails."""

import json

import numpy as np
import pytest

from vec2text.reconstruction import Hypothesis, Reconstruction, RefinementStopped
from vec2text.rows import Refining, add_nearest, line


def found(name):
    best = tuple(Hypothesis(f"{name}{place}", 0.9 - place / 10) for place in range(3))
    return Reconstruction(f"{name}0", 0.9, None, best, queries=3, rounds=1, history=((f"{name}0", 1),))


def plain(batch):
    return [f"plain {int(number)}" for number in batch[:, 0]]


@pytest.fixture
def batches():
    """Nine vectors by threes: [0, 0], [1, 1], ..."""
    return np.split(np.repeat(np.arange(9.0), 2).reshape(9, 2), 3)


def test_a_refined_text_comes_with_the_closest_hypotheses(batches):
    refining = Refining(lambda batch: [found(f"text {int(number)}-") for number in batch[:, 0]], plain, 2)
    rows = [row for batch in batches for row in refining.rows(batch)]
    assert [row["text"] for row in rows] == [f"text {number}-0" for number in range(9)]
    assert [entry["text"] for entry in rows[4]["hypotheses"]] == ["text 4-0", "text 4-1"]
    assert refining.failure() is None


def test_once_the_encoder_has_failed_it_is_not_asked_again(batches):
    asked = []

    def refine(batch):
        asked.append(batch)
        if len(asked) == 2:
            cause = ConnectionError("nobody answers")
            raise RefinementStopped([found("done"), found("half"), None], 1, cause) from cause
        return [found("done")] * len(batch)

    refining = Refining(refine, plain, 1)
    rows = [row for batch in batches for row in refining.rows(batch)]
    assert len(asked) == 2
    assert [row["text"] for row in rows] == [*["done0"] * 4, "half0", *(f"plain {number}" for number in range(5, 9))]
    assert [row["similarity"] for row in rows] == [0.9] * 5 + [None] * 4
    assert len({tuple(row) for row in rows}) == 1  # the same keys in the same order
    assert "of 9 vectors 4 were done and 1 done in part" in refining.failure()
    assert refining.failure().endswith("nobody answers")


def test_the_nearest_sentence_is_that_of_the_vector():
    rows = [{"text": "x"}, {"text": "y"}]
    known = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    add_nearest(rows, np.array([[0, 3], [2, 0]], np.float32), ["a", "b\tc", "d"], known)
    assert rows == [
        {"text": "x", "nearest": "b\tc", "nearest_similarity": 1.0},
        {"text": "y", "nearest": "a", "nearest_similarity": 1.0},
    ]
    assert [line(row, "text") for row in rows] == ["x\t1.000\tb c\n", "y\t1.000\ta\n"]


def test_a_row_is_one_line_whatever_its_text():
    row = {"index": 0, "text": "Où est-il ?"}
    assert line(row, "text") == "Où est-il ?\n"
    written = line({**row, "nearest": "a\nb", "nearest_similarity": 0.5}, "jsonl")
    assert written.count("\n") == 1
    assert "Où" in written
    assert json.loads(written)["nearest"] == "a\nb"
