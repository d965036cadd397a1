"""A text begins as asked by tokens that the tokenizer itself would choose."""

import pytest
import torch
from conftest import LetterEncoder

from vec2text import Constraints, Fingerprint, Inverter, decoders
from vec2text.config import DecoderConfig, ProjectionConfig
from vec2text.paths import rate


@pytest.fixture
def vectors(encoder, sentences):
    return encoder.encode(sentences[:30:5])


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

    def tokens(text):
        return merging.tokenizer.backend_tokenizer.encode(text).tokens

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
