"""The shipped sentences: as many and as long as promised, distinct, and what the generator writes again."""

import subprocess
import sys
from pathlib import Path

import pytest

from vec2text.sentences import sentence_key

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize(("language", "least"), [("en", 20_000), ("ru", 5_000)])
def test_the_shipped_sentences_are_distinct_and_of_3_to_25_words(language, least):
    lines = (DATA / f"sentences.{language}.txt").read_text(encoding="utf-8").splitlines()
    assert len({sentence_key(line) for line in lines}) == len(lines) >= least
    assert all(3 <= len(line.split()) <= 25 for line in lines)
    by_hand = (DATA / f"handwritten.{language}.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(by_hand) & set(lines)) == len(by_hand) >= 100


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_generator_writes_the_shipped_file_to_the_byte(language, tmp_path):
    output = tmp_path / "sentences.txt"
    command = [sys.executable, str(DATA / "make_sentences.py"), language, "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    assert output.read_bytes() == (DATA / f"sentences.{language}.txt").read_bytes()
