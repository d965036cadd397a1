"""Drafts are the inverter's own, of sentences kept apart, without end and without the right ones."""

from contextlib import nullcontext
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import LetterEncoder

from vec2text import drafts
from vec2text.batches import Examples
from vec2text.drafts import TEMPERATURES, Drafts, write


@pytest.fixture
def examples(corpus, vectors, inverter):
    return Examples(corpus, corpus.rows("train")[:50], vectors, inverter.tokenizer, 24)


@pytest.fixture
def make(inverter, encoder, examples, monkeypatch):
    monkeypatch.setattr(drafts, "_POOL", len(examples) // 2)

    def made(batch_tokens=300, part=(0, 1), by=encoder):
        return Drafts(inverter, by, examples, batch_tokens, 5, part, nullcontext)

    return made


def test_each_sentence_is_drafted_once_a_pass_and_the_vector_is_that_of_the_draft(make, inverter, examples):
    encoder = LetterEncoder()
    seen = []
    made = make(by=encoder)
    for members, hypotheses in made:
        if made.pool > 4:  # four halves
            break
        seen += members.tolist()
        texts = inverter.texts([ids[:n] for ids, n in zip(hypotheses.ids.tolist(), hypotheses.lengths, strict=True)])
        assert np.allclose(hypotheses.vectors.numpy(), encoder.encode(texts), atol=1e-6)
    assert sorted(seen) == sorted(
        [*range(len(examples)), *range(len(examples))]
    )  # an untrained inverter gets none right


def test_right_drafts_are_left_out(make, inverter, examples, monkeypatch):
    everything = examples.batch(np.arange(len(examples)))
    ids = [row[:n] for row, n in zip(everything.ids.tolist(), everything.lengths.tolist(), strict=True)]
    known = {tuple(vector.tolist()): right for vector, right in zip(everything.vectors, ids, strict=True)}

    def written(inverter, vectors, generator):
        """Every other one is right."""
        rights = [known[tuple(vector.tolist())] for vector in vectors]
        return [right if place % 2 else [*right, right[0]] for place, right in enumerate(rights)]

    monkeypatch.setattr(drafts, "write", written)
    made = make()
    seen = 0
    for members, hypotheses in made:
        if made.pool > 2:  # two halves
            break
        seen += len(members)
        assert hypotheses.lengths.tolist() == [len(ids[member]) + 1 for member in members]
    assert seen == 2 * -(-(len(examples) // 2) // 2)
    monkeypatch.setattr(
        drafts, "write", lambda inverter, vectors, generator: [known[tuple(v.tolist())] for v in vectors]
    )
    members, _ = next(iter(make()))
    assert len(members)  # all are right: then they are learned from all the same


def test_batches_keep_to_their_budget_of_positions(make, inverter, examples):
    for members, hypotheses in islice(make(batch_tokens=400), 12):
        texts = int(examples.lengths[members].max())
        assert len(members) == 1 or len(members) * (3 * 3 + 1 + texts + hypotheses.ids.shape[1]) <= 400


def test_batches_of_few_shapes_keep_to_their_budget_too(make, inverter, examples):
    examples.few_shapes = True
    for members, hypotheses in islice(make(batch_tokens=400), 12):
        widths = examples.batch(members).ids.shape[1], hypotheses.ids.shape[1]
        assert len(members) == 1 or len(members) * (3 * 3 + 1 + sum(widths)) <= 400
        longest = int(hypotheses.lengths.max())
        assert longest <= widths[1] <= longest + 1  # all have up to 24 tokens


def test_processes_share_the_sentences(make):
    ours = [set(next(iter(make(part=(rank, 2))))[0].tolist()) for rank in (0, 1)]
    assert not ours[0] & ours[1]


def test_after_a_stop_no_process_repeats_what_another_learns(make):
    first = make(part=(0, 2))
    list(islice(first, 2))
    seen = []
    for rank in (0, 1):  # the state is that of the first process
        again = make(part=(rank, 2))
        again.restore(first.state())
        seen.append(set(next(iter(again))[0].tolist()))
    assert not seen[0] & seen[1]


def test_it_goes_on_from_where_it_was(make):
    whole = make()
    expected = list(islice(whole, 9))
    first = make()
    list(islice(first, 4))
    again = make()
    again.restore(first.state())
    for (members, hypotheses), (known, before) in zip(islice(again, 5), expected[4:], strict=True):
        assert np.array_equal(members, known)
        assert all(torch.equal(a, b) for a, b in zip(hypotheses, before, strict=True))


def test_a_third_is_greedy_and_the_others_are_sampled(inverter, examples):
    vectors = examples.batch(np.arange(12)).vectors
    written = write(inverter, vectors, torch.Generator().manual_seed(0))
    other = write(inverter, vectors, torch.Generator().manual_seed(1))
    greedy = inverter.invert(vectors)
    places = range(0, 12, len(TEMPERATURES))
    assert TEMPERATURES[0] == 0
    assert inverter.texts([written[i] for i in places]) == [greedy[i] for i in places]
    changed = [i for i in range(12) if written[i] != other[i]]
    assert changed
    assert not set(changed) & set(places)


def test_drafts_in_bf16_leave_the_weights_as_they_were(inverter, examples):
    before = {name: value.clone() for name, value in inverter.state_dict().items()}
    with torch.autocast("cpu", torch.bfloat16):
        assert len(write(inverter, examples.batch(np.arange(5)).vectors, torch.Generator())) == 5
    assert all(torch.equal(before[name], value) for name, value in inverter.state_dict().items())
