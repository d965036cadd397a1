"""What a token writes is what the tokenizer shows of it, byte for byte."""

import itertools
import random

import pytest

from vec2text import Constraints
from vec2text.pieces import Pieces, missing, read


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


def test_a_tokenizer_of_another_kind_is_refused(inverter, encoder, sentences):
    from tokenizers import decoders as backend

    inverter.tokenizer.backend_tokenizer.decoder = backend.WordPiece()
    with pytest.raises(ValueError, match="cannot be constrained: its tokenizer"):
        inverter.invert(encoder.encode(sentences[:2]), constraints=Constraints("A"))
