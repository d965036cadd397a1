"""Constraints hold for every text that comes back, and where there are none nothing changes."""

import itertools
import random

import numpy as np
import pytest
import torch
from conftest import LetterEncoder
from small_models import DECODERS

from vec2text import Constraints, Fingerprint, Inverter, decoders
from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.decoding import Decoding, decode, explore, rate
from vec2text.pieces import Pieces, missing, read
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


def make_inverter(folder, seed):
    """An inverter with random weights around a small model of some architecture."""
    decoder, tokenizer = decoders.load_decoder(DecoderConfig(str(folder)), [], 40)
    torch.manual_seed(seed)
    return Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, Fingerprint.of(LetterEncoder()), 24).eval()


@pytest.fixture(scope="module", params=["gpt2", "qwen3", "llama"])
def other(request, tmp_path_factory, sentences):
    """A byte-level BPE, one with another split and spare rows, and one of SentencePiece's kind with byte tokens."""
    folder = DECODERS[request.param](tmp_path_factory.mktemp("other") / request.param, sentences)
    return make_inverter(folder, 2)


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


def test_a_limit_that_the_plain_text_keeps_changes_nothing(other, vectors):
    """But for tokens after which the text would be no UTF-8, or not whole in time: random models write many."""
    prefixes, end, limit = other.prefixes(other.rows(vectors)), other.end_id, 12
    rules = other.rules(Constraints(max_words=99), limit)
    plain, bound = (
        [path.ids for path in explore(other.decoder, prefixes, end, limit, allowed=allowed)]
        for allowed in (None, rules)
    )
    same = 0
    for free, kept in zip(plain, bound, strict=True):
        place = next((i for i, (a, b) in enumerate(zip(free, kept, strict=False)) if a != b), None)
        same += len(kept) if place is None else place
        if place is not None:
            before, after = (read(other._pieces.join(free[:n])) for n in (place, place + 1))
            hidden = not other._pieces.written[free[place]] and free[place] != end
            assert hidden or after is None or missing(after[1]) > limit - place - 1 or before[1]
    assert same > 0


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


# -- how it is done ----------------------------------------------------------------------------------------------


@pytest.fixture
def merging(sentences):
    """An inverter whose tokenizer has learned ` happy` and ` hap` is none of its tokens."""
    texts = [*sentences, *["I am happy. You are happy, too. We happen to be happy."] * 50]
    config = DecoderConfig("scratch", hidden_size=32, layers=2, heads=2, vocabulary_size=400, dropout=0.0)
    torch.manual_seed(0)
    decoder, tokenizer = decoders.load_decoder(config, texts, 64)
    torch.manual_seed(1)
    return Inverter.build(ProjectionConfig("mlp", 3), decoder, tokenizer, Fingerprint.of(LetterEncoder()), 24).eval()


def test_a_beginning_may_end_inside_a_token(merging, vectors):
    """The tokens of the beginning alone would shut out the token in which its end is."""
    tokens = merging.tokenizer.tokenize
    assert "Ġhappy" in tokens("I am happy")
    assert "Ġhappy" not in tokens("I am ha")
    rules = merging.rules(Constraints("I am ha"), 24)
    happy = merging.tokenizer.convert_tokens_to_ids("Ġhappy")
    before = tuple(merging.tokenizer("I am")["input_ids"])
    ids = torch.tensor([before])
    assert bool(rules(ids, torch.zeros(1, 400))[0, happy])
    merging.decoder.lm_head.weight.data[happy] = 0  # as likely as any is on average
    firsts = [first for (first,) in rules.beginnings(merging.decoder, merging.prefixes(merging.rows(vectors)))]
    assert set(firsts) <= set(rules.openings.firsts)
    assert len(rules.openings.firsts) > 1


def test_of_the_ways_to_split_a_beginning_the_likeliest_is_taken(merging, vectors):
    rules, prefixes = merging.rules(Constraints("I am ha"), 24), merging.prefixes(merging.rows(vectors))
    chosen = [first for (first,) in rules.beginnings(merging.decoder, prefixes)]
    for row, first in enumerate(chosen):
        scores = {}
        for opening in rules.openings.firsts:
            tokens = merging.decoder.get_input_embeddings()(torch.tensor(opening))
            logits = merging.decoder(inputs_embeds=torch.cat([prefixes[row], tokens])[None]).logits[0]
            steps = logits[len(prefixes[row]) - 1 :].log_softmax(-1).detach()
            last = [token for token in rules.openings.after[opening] if (*opening, token) not in rules.openings.after]
            scores[opening] = float(steps[range(len(opening)), opening].sum() + steps[-1, last].logsumexp(0))
            assert float(rate(merging.decoder, prefixes, opening, last)[row]) == pytest.approx(
                scores[opening], abs=1e-3
            )
        assert first == max(scores, key=scores.__getitem__)


def test_a_beginning_is_split_as_the_tokenizer_would_split_some_text(merging):
    rules = merging.rules(Constraints("I am ha"), 24)
    for first, nexts in rules.openings.after.items():
        for token in nexts:
            text = merging.tokenizer.decode([*first, token])
            if "\ufffd" not in text and (*first, token) not in rules.openings.after:
                assert merging.tokenizer(text)["input_ids"] == [*first, token]


def test_the_word_at_the_limit_is_not_made_longer_for_want_of_another(inverter):
    """Where the model would go on with a new word, it ends instead of gluing letters to the last one."""
    rules = inverter.rules(Constraints(max_words=1), 12)
    ids = torch.tensor([inverter.tokenizer("boat")["input_ids"]])
    tokens = {text: inverter.tokenizer(text)["input_ids"][0] for text in (" ", "s", ".")}
    for likely, open_ in ((" ", False), ("s", True)):
        scores = torch.zeros(1, len(inverter.tokenizer))
        scores[0, tokens[likely]] = 20.0
        mask = rules(ids, scores)[0]
        assert bool(mask[tokens["s"]]) is open_
        assert bool(mask[tokens["."]])
        assert bool(mask[inverter.end_id])
        assert not bool(mask[tokens[" "]])


def test_what_is_kept_of_many_texts_is_bounded_and_changes_nothing(other, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = [(Constraints(max_words=3), {"temperature": 2.0, "seed": 1}), (Constraints("A", ["boat", "кот"]), {})]

    def write():
        texts, kept, other._pieces = [], [], None
        for constraints, options in asked:
            rules = other.rules(constraints, 24)
            with monkeypatch.context() as patch:
                patch.setattr(other, "rules", lambda *_, rules=rules: rules)
                texts += other.invert(rows, constraints=constraints, batch_size=16, **options)
            kept += [rules.mask._kept.cache_info(), other._pieces._effects.cache_info()]
        return texts, kept

    plenty, _ = write()
    monkeypatch.setattr("vec2text.masks.MASKS_KEPT", 2)
    monkeypatch.setattr("vec2text.pieces.EFFECTS_KEPT", 1)
    few, kept = write()
    assert few == plenty
    for info in kept:
        assert info.currsize == info.maxsize < info.misses, kept  # more was met than is kept


def test_pieces_write_what_the_tokenizer_writes(other):
    tokenizer, chance = other.tokenizer, random.Random(0)
    pieces = Pieces(tokenizer, other.decoder.get_output_embeddings().weight.shape[0])
    for text in ["Ünïcode, кириллица и 漢字!", "Anna sees a red boat.", "😀 don't"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert pieces.join(ids).decode().strip() == text
    shown = [
        index
        for index, data in enumerate(pieces.written)
        if data and read(data) == (data.decode("utf-8", "ignore"), b"")
    ]
    for _ in range(50):
        ids = chance.choices(shown, k=8)
        assert " ".join(pieces.join(ids).decode().split()) == other.texts([ids])[0]


def test_what_is_read_as_the_beginning_of_a_character_can_be_completed():
    for tail in itertools.chain.from_iterable(itertools.product(range(128, 256), repeat=n) for n in (1, 2)):
        known = read(bytes(tail))
        if known is not None and known[1] == bytes(tail):
            rest = missing(bytes(tail))
            fillings = (bytes(tail) + bytes([byte]) + b"\x80" * (rest - 1) for byte in range(128, 192))
            assert any(read(filled) not in (None, ("", filled)) for filled in fillings), tail
    assert read("aé漢".encode()[:-1]) == ("aé", "漢".encode()[:-1])
    assert read(b"\xed\xa1") is None


def test_a_tokenizer_of_another_kind_is_refused(inverter, vectors):
    from tokenizers import decoders as backend

    inverter.tokenizer.backend_tokenizer.decoder = backend.WordPiece()
    with pytest.raises(ValueError, match="cannot be constrained: its tokenizer"):
        inverter.invert(vectors, constraints=Constraints("A"))


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
