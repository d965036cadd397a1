"""Constraints hold for every text that comes back, and where there are none nothing changes."""

import itertools
import random

import numpy as np
import pytest
import torch
from conftest import LetterEncoder

from vec2text import Constraints, Fingerprint, Inverter, decoders
from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.decoding import Decoding, decode
from vec2text.refinement import refine

MANNERS = {
    "greedy": {},
    "sampling": {"temperature": 1.5, "seed": 3},
    "top_p": {"top_p": 0.9, "seed": 3},
    "beams": {"num_beams": 3},
}
OPENINGS = ["A", "The", "The ", "The old c", "Zyx", "I am hap", "don'", "Ünïc", "漢字 ", "Кот", "(", "a b c", "It’s 12"]


@pytest.fixture
def vectors(encoder, sentences):
    return encoder.encode(sentences[:30:5])


# -- what is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"starts_with": " "}, "starts_with is empty"),
        ({"starts_with": ""}, "starts_with is empty"),
        ({"must_contain": ["tea", " "]}, "must_contain has an empty word"),
        ({"must_contain": "tea"}, "expected a list of words"),
        ({"max_words": 0}, "max_words is 0; expected at least 1"),
        ({"starts_with": "one two three", "max_words": 2}, "'one two three' and max_words 2 contradict: .* 3 words"),
        ({"starts_with": "one two ", "max_words": 2}, "contradict: that takes 3 words"),
        ({"must_contain": ["red boat"], "max_words": 1}, "must_contain 'red boat' and max_words 1 contradict"),
        ({"must_contain": ["red", "tea"], "max_words": 1}, "contradict: that takes 2 words"),
        ({"starts_with": "I am", "must_contain": ["tea"], "max_words": 2}, "starts_with 'I am' and must_contain 'tea'"),
    ],
)
def test_what_contradicts_is_one_clear_line(asked, message):
    with pytest.raises(ValueError, match=message) as error:
        Constraints(**asked)
    assert "\n" not in str(error.value)


def test_words_may_share_a_place():
    assert Constraints(must_contain=["red", "Red boat"], max_words=2).line_up("red") == "Red boat"
    assert Constraints("I am hap", ["happy"], max_words=3).line_up("happy") == "I am happy"
    assert Constraints("The red boat", ["RED", "boat"], max_words=3).line_up("boat") == "The red boat"


@pytest.mark.parametrize(
    ("asked", "text", "obeyed"),
    [
        ({"starts_with": "The hot"}, "The hotel", True),
        ({"starts_with": "The hot "}, "The hotel", False),
        ({"starts_with": "The hot "}, "The hot tea", True),
        ({"starts_with": "The hot "}, "The hot", False),
        ({"starts_with": "  The \t hot"}, "The hot", True),
        ({"starts_with": "the"}, "The", False),
        ({"starts_with": "cafe\u0301"}, "caf\xe9", True),
        ({"must_contain": ["Cat"]}, "A cat.", True),
        ({"must_contain": ["cat"]}, "A catalogue.", False),
        ({"must_contain": ["red  boat"]}, "The red boat!", True),
        ({"must_contain": ["red boat"]}, "The red old boat!", False),
        ({"must_contain": ["C++", "кот"]}, "c++ и Кот", True),
        ({"max_words": 2}, "one two", True),
        ({"max_words": 2}, "one two three", False),
    ],
)
def test_whether_a_text_obeys(asked, text, obeyed):
    assert Constraints(**asked).obeyed_by(text) is obeyed


# -- what comes back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", MANNERS)
def test_nothing_asked_changes_nothing(inverter, vectors, manner):
    plain = inverter.invert(vectors, **MANNERS[manner])
    assert inverter.invert(vectors, constraints=Constraints(), **MANNERS[manner]) == plain
    everything = lambda ids, scores: torch.ones_like(scores, dtype=torch.bool)  # noqa: E731
    prefixes, end = inverter.prefixes(inverter.rows(vectors)), inverter.end_id
    options = {"max_tokens": 20, **{name: value for name, value in MANNERS[manner].items() if name != "seed"}}
    found = [
        decode(inverter.decoder, prefixes, end, Decoding(**options), torch.Generator().manual_seed(3), allowed=allowed)
        for allowed in (None, everything)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("manner", MANNERS)
def test_every_text_begins_as_asked(other, vectors, manner, opening):
    asked = Constraints(opening)
    texts = other.invert(vectors, constraints=asked, max_tokens=30, **MANNERS[manner])
    assert all(text.startswith(asked.opening) for text in texts), texts


@pytest.mark.parametrize("words", [1, 2, 4])
@pytest.mark.parametrize("manner", MANNERS)
def test_no_text_has_more_words(other, vectors, manner, words):
    texts = other.invert(vectors, constraints=Constraints(max_words=words), **MANNERS[manner])
    assert max(len(text.split()) for text in texts) <= words
    plain = other.invert(vectors, **MANNERS[manner])
    assert words > 1 or max(len(text.split()) for text in plain) > words  # or nothing was asked


@pytest.mark.parametrize("asked", [["boat"], ["red boat", "night"], ["Zyx"], ["кот", "漢"], ["don't"]])
def test_every_text_contains_the_words(other, vectors, asked):
    constraints = Constraints(must_contain=asked)
    texts = other.invert(vectors, constraints=constraints)
    assert not any(constraints.missing(text) for text in texts), texts


def random_constraints(chance, sentences):
    """Some combination of a beginning, words and a limit that do not contradict."""
    text = chance.choice([*sentences, "Ünïcode, кириллица и 漢字!", "Don’t — 12,5 € 😀 ok", "a\u00a0b"])
    words = [word.strip(".,!") for word in text.split()]
    while True:
        opening = text[: chance.randint(1, 12)] if chance.random() < 0.6 else None
        contained = chance.sample(words, chance.randint(0, 2))
        limit = chance.randint(1, 6) if chance.random() < 0.6 else None
        try:
            return Constraints(opening, [word for word in contained if any(map(str.isalnum, word))], limit)
        except ValueError:
            continue


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_asked_holds(other, seed, sentences):
    chance = random.Random(seed)
    for _ in range(4):
        asked = random_constraints(chance, sentences)
        manner = chance.choice(["greedy"] if asked.must_contain else list(MANNERS))
        vector = np.random.default_rng(chance.randint(0, 999)).standard_normal((2, 32)).astype(np.float32)
        vector /= np.linalg.norm(vector, axis=1, keepdims=True)
        limit, least = chance.randint(34, 50), 0 if asked.must_contain else chance.choice([0, 0, 5])
        texts = other.invert(vector, constraints=asked, max_tokens=limit, min_tokens=least, **MANNERS[manner])
        assert all(map(asked.obeyed_by, texts)), (asked, manner, texts)
        assert not asked or not any("\ufffd" in text for text in texts)  # no character is cut


def test_words_to_contain_and_a_least_length_contradict(inverter, vectors):
    with pytest.raises(ValueError, match="must_contain and min_tokens 9 contradict"):
        inverter.invert(vectors, constraints=Constraints(must_contain=["cat"]), min_tokens=9)


@pytest.mark.parametrize("manner", ["greedy", "sampling"])
def test_the_batch_size_changes_nothing(inverter, vectors, manner):
    asked = Constraints("The o", ["cat"] if manner == "greedy" else [], 6)
    whole = inverter.invert(vectors, constraints=asked, **MANNERS[manner])
    assert inverter.invert(vectors, constraints=asked, batch_size=2, **MANNERS[manner]) == whole


@pytest.mark.parametrize(
    "asked",
    [
        Constraints("The old"),
        Constraints("The o", max_words=4),
        Constraints(must_contain=["boat", "Anna"]),
        Constraints("A ", ["red boat"], 5),
    ],
)
def test_refinement_obeys_and_its_similarity_never_falls(inverter, encoder, vectors, asked):
    found = refine(inverter, encoder, vectors, rounds=2, candidates=4, constraints=asked)
    for result, vector in zip(found, vectors, strict=True):
        assert all(asked.obeyed_by(hypothesis.text) for hypothesis in result.hypotheses)
        cosines = [float(encoder.encode([text])[0] @ vector) for text, _ in result.history]
        assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(cosines))
    assert any(result.queries > 1 for result in found)
    plain = inverter.invert(vectors, constraints=asked)
    assert any(result.text != text for result, text in zip(found, plain, strict=True))


# -- what cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        (Constraints("The old cat sees"), {"max_tokens": 2}, "starts_with 'The old cat sees' takes .* max_tokens is 2"),
        (Constraints(must_contain=["Zyxwvutsrq"]), {"max_tokens": 3}, "must_contain 'Zyxwvutsrq' takes .* is 3"),
        (Constraints("Zyx", ["qqqq"]), {"max_tokens": 5}, "no text of at most 5 tokens was found that begins with"),
        (Constraints("A <|end|> b"), {}, "cannot write 'A <|end|> b' .starts_with."),
        (Constraints(must_contain=["<|end|>"]), {}, "cannot write '<|end|>' .must_contain."),
        (Constraints(must_contain=["a"]), {"num_beams": 3}, "must_contain and num_beams 3 contradict"),
        (Constraints(must_contain=["a"]), {"temperature": 0.5}, "must_contain and sampling contradict"),
    ],
)
def test_what_cannot_be_written_is_one_clear_line(inverter, vectors, asked, options, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as error:
        inverter.invert(vectors, constraints=asked, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_beginning_that_just_fits_is_written(inverter, vectors, manner):
    text = "The old cat"
    needed = len(inverter.tokenizer(text)["input_ids"])
    texts = inverter.invert(vectors, constraints=Constraints(text), max_tokens=needed, **MANNERS[manner])
    assert all(found.startswith(text) for found in texts)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_not_refused_at_once_has_a_text_for_every_vector(other, seed, sentences):
    """The words one after another are such a text, if there is room for them: of so few tokens there is no other."""
    chance = random.Random(100 + seed)
    asked = random_constraints(chance, sentences)
    manner = chance.choice(["greedy"] if asked.must_contain else list(MANNERS))
    least = len(other.tokenizer(asked.line_up(asked.words[-1] if asked.words else None))["input_ids"])
    for limit in range(max(1, least - 2), least + 2):
        try:
            other.rules(asked, limit)
        except ValueError:
            continue
        rows = np.random.default_rng(seed).standard_normal((5, 32)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        texts = other.invert(rows, constraints=asked, max_tokens=limit, **MANNERS[manner])
        assert all(map(asked.obeyed_by, texts)), (asked, limit, texts)
        return
    raise AssertionError(f"{asked} is refused with {limit} tokens")


@pytest.mark.parametrize("manner", MANNERS)
def test_a_beginning_that_just_fits_may_be_of_parts_of_characters(vectors, manner):
    """A token may hold all bytes that a character still lacks: one token more is enough."""
    texts = [bytes([first, 0xB8, 0xAD]).decode() for first in range(0xE4, 0xEA)] * 50
    config = DecoderConfig("scratch", hidden_size=32, layers=2, heads=2, vocabulary_size=258, dropout=0.0)
    decoder, tokenizer = decoders.load_decoder(config, texts, 40)
    made = Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, Fingerprint.of(LetterEncoder()), 24).eval()
    assert len(tokenizer("\u4e2d")["input_ids"]) == 2
    found = made.invert(vectors, constraints=Constraints("\u4e2d"), max_tokens=2, **MANNERS[manner])
    assert set(found) == {"\u4e2d"}
