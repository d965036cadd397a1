"""Own texts count by how much more of the sentence they bring back than others for the same vector."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vec2text import rewards
from vec2text.batches import Examples
from vec2text.metrics import bleu_counts, sentence_bleu
from vec2text.rewards import rewarded


@pytest.fixture
def examples(corpus, vectors, inverter):
    return Examples(corpus, corpus.rows("train")[:40], vectors, inverter.tokenizer, 24)


@pytest.fixture
def batch(examples):
    return examples.batch(np.arange(6))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def texts_of(inverter, parts):
    return [
        (tuple(vector.tolist()), tuple(ids[:length]), float(share))
        for part, shares in parts
        for vector, ids, length, share in zip(
            part.vectors, part.ids.tolist(), part.lengths.tolist(), shares, strict=True
        )
    ]


def test_every_vector_has_its_texts_in_parts_of_about_one_length(inverter, batch, examples):
    parts, reward = rewarded(inverter, batch, 4, drawn(), examples.widths)
    assert [len(shares) for _, shares in parts] == [6] * 4
    found = texts_of(inverter, parts)
    for vector in batch.vectors:
        assert sum(key == tuple(vector.tolist()) for key, _, _ in found) == 4
    ends = [(int(part.lengths.min()), int(part.lengths.max())) for part, _ in parts]
    assert all(a[1] <= b[0] for a, b in pairwise(ends))
    assert all(part.ids.shape[1] == part.lengths.max() for part, _ in parts)
    assert 0 <= reward <= 1


def test_the_gradient_is_that_of_the_likelihood_counted_by_what_a_text_has_over_the_others(inverter, batch, examples):
    inverter.eval()
    parts, reward = rewarded(inverter, batch, 3, drawn(), examples.widths)
    written = texts_of(inverter, parts)
    sentences = {
        tuple(vector.tolist()): text
        for vector, text in zip(
            batch.vectors,
            inverter.texts([r[:n] for r, n in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]),
            strict=True,
        )
    }
    found = {key: [ids for other, ids, _ in written if other == key] for key in sentences}
    bleu = {
        key: sentence_bleu(bleu_counts([sentences[key]] * 3, inverter.texts([list(ids) for ids in found[key]]))) / 100
        for key in sentences
    }
    every = np.concatenate(list(bleu.values()))
    assert reward == pytest.approx(every.mean())
    assert every.std() > 0  # else there is nothing to learn from
    tokens = sum(len(ids) + 1 for some in found.values() for ids in some)
    expected = torch.zeros(())
    for key, some in found.items():
        for place, ids in enumerate(some):
            advantage = (bleu[key][place] - np.delete(bleu[key], place).mean()) / every.std()
            targets = torch.tensor([*ids, inverter.end_id])
            states = inverter._text_states(torch.tensor([key]), torch.tensor([ids], dtype=torch.long))[0]
            logits = inverter.decoder.get_output_embeddings()(states)
            expected = expected + advantage * F.cross_entropy(logits, targets, reduction="sum") / tokens
    expected.backward()
    right = {name: p.grad.clone() for name, p in inverter.named_parameters() if p.grad is not None}
    inverter.zero_grad()
    for part, shares in parts:
        inverter(part.vectors, part.ids, part.lengths, shares=shares).backward()
    for name, parameter in inverter.named_parameters():
        if name in right:
            torch.testing.assert_close(parameter.grad, right[name], rtol=1e-3, atol=1e-6, msg=name)


def test_the_same_draws_give_the_same_texts_and_others_others(inverter, batch, examples):
    first, again, other = (
        texts_of(inverter, rewarded(inverter, batch, 2, drawn(seed), examples.widths)[0]) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_texts_of_equal_reward_count_for_nothing(inverter, batch, examples, monkeypatch):
    one = inverter.tokenizer(["Anna sees"])["input_ids"][0]
    monkeypatch.setattr(rewards, "_write", lambda inverter, vectors, generator: [one for _ in vectors])
    parts, _ = rewarded(inverter, batch, 3, drawn(), examples.widths)
    assert all(shares.abs().max() < 1e-6 for _, shares in parts)


def test_a_text_that_is_the_sentence_counts_and_one_without_tokens_can_be_learned_from(inverter, batch, examples):
    right = [row[:n] for row, n in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]
    one = replace(batch, vectors=batch.vectors[:1], ids=batch.ids[:1], lengths=batch.lengths[:1])
    written = [right[0], []]
    original, rewards._write = rewards._write, lambda inverter, vectors, generator: written
    try:
        parts, reward = rewarded(inverter, one, 2, drawn(), examples.widths)
    finally:
        rewards._write = original
    assert reward == pytest.approx(0.5)
    shares = {part.lengths.item(): share.item() for part, share in parts}
    assert shares[0] < 0 < shares[len(right[0])]
    for part, share in parts:
        assert torch.isfinite(inverter(part.vectors, part.ids, part.lengths, shares=share))
