"""Edits move words, leave one out, and break nothing else."""

import pytest

from vec2text.edits import edits


def test_each_word_may_go_and_two_runs_may_change_places():
    found = list(edits("one two three."))
    assert found == [
        "two three.",
        "one three.",
        "one two.",
        "two one three.",
        "two three one.",
        "three two one.",
        "three one two.",
        "one three two.",
    ]


def test_the_capital_letter_stays_in_front_and_the_former_first_word_comes_with_and_without_it():
    found = set(edits("Only hand wash?"))
    assert {"Hand wash only?", "Hand wash Only?", "Wash?", "Hand wash?"} - found == {"Wash?"}
    assert all(text[0].isupper() and text.endswith("?") for text in found)


def test_all_moves_of_a_run_are_among_them():
    found = set(edits("If anyone needs me, I'll be here today."))
    assert "If anyone needs me, today I'll be here." in found
    assert "I'll be here if anyone needs me, today." in found
    assert "If today needs me, I'll be here anyone." in found  # two that are apart
    assert "Be here today I'll if anyone needs me,." not in found  # two moves


@pytest.mark.parametrize("text", ["", "word", "...", " ?! ", "-"])
def test_what_has_no_two_words_has_no_edits(text):
    assert list(edits(text)) == []


@pytest.mark.parametrize("text", ["a a a", "one, two; three", "Über den Wolken.", "猫 が 好き。", "a\tb\nc"])
def test_no_edit_is_the_text_itself_or_comes_twice(text):
    found = list(edits(text))
    assert len(set(found)) == len(found) > 0
    assert text not in found


def test_of_a_long_text_only_near_words_change_places():
    words = [f"w{number}" for number in range(40)]
    found = [text.split() for text in edits(" ".join(words))]
    assert len(found) == 40 + 1024
    moved = [[place for place, word in enumerate(text) if word.lower() != words[place]] for text in found[40:]]
    assert all(max(places) - min(places) < 9 for places in moved)
