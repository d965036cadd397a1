"""Own texts count by how much more of the sentence they bring back than others for the same vector."""

from dataclasses import replace

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


def texts_of(parts):
    """Of each text its vector, its tokens, and what each of these and the end count."""
    return [
        (tuple(vector.tolist()), tuple(ids[:length]), tuple(row[: length + 1]))
        for part, shares in parts
        for vector, ids, length, row in zip(
            part.vectors, part.ids.tolist(), part.lengths.tolist(), shares.tolist(), strict=True
        )
    ]


def sentences_of(inverter, batch):
    rows = zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)
    texts = inverter.texts([ids[:length] for ids, length in rows])
    return {tuple(vector.tolist()): text for vector, text in zip(batch.vectors, texts, strict=True)}


@pytest.fixture
def writes(monkeypatch, inverter):
    """Lets the inverter write these token ids, and keeps what it was asked."""

    def set_to(written):
        monkeypatch.setattr(rewards, "write_as", lambda inverter, vectors, options, generator: written)

    return set_to


@pytest.mark.parametrize("few_shapes", [False, True])
def test_every_vector_has_its_texts_in_parts_of_about_one_length(inverter, batch, examples, writes, few_shapes):
    examples.few_shapes = few_shapes
    lengths = np.random.default_rng(0).permutation(24) + 1
    writes([[5] * int(length) for length in lengths])
    parts, reward = rewarded(inverter, batch, 4, drawn(), examples.widths)
    assert [len(shares) for _, shares in parts] == [6] * 4
    found = texts_of(parts)
    for row, vector in enumerate(batch.vectors):
        own = sorted(len(ids) for key, ids, _ in found if key == tuple(vector.tolist()))
        assert own == sorted(lengths[4 * row : 4 * row + 4])
    assert [part.lengths.tolist() for part, _ in parts] == np.arange(1, 25).reshape(4, 6).tolist()
    for part, shares in parts:
        assert part.ids.shape[1] == examples.widths(part.lengths.numpy()).max()
        assert shares.shape == (6, part.ids.shape[1] + 1)
        beyond = torch.arange(shares.shape[1]) > part.lengths.unsqueeze(1)
        assert not shares[beyond].any()
    assert 0 <= reward <= 1


def test_the_gradient_is_that_of_the_likelihood_counted_by_what_a_text_has_over_the_others(
    inverter, batch, examples, writes
):
    inverter.eval()
    longest = min(24, int(batch.lengths.max()) * 3 // 2 + 8)
    right = [ids[:length] for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]
    writes([some for ids in right for some in (ids, ids[3:], (ids + ids + ids)[:longest])])
    parts, reward = rewarded(inverter, batch, 3, drawn(), examples.widths)
    written, sentences = texts_of(parts), sentences_of(inverter, batch)
    found = {key: [ids for other, ids, _ in written if other == key] for key in sentences}
    bleu = {
        key: sentence_bleu(bleu_counts([sentences[key]] * 3, inverter.texts([list(ids) for ids in found[key]]))) / 100
        for key in sentences
    }
    every = np.concatenate(list(bleu.values()))
    assert reward == pytest.approx(every.mean())
    assert every.std() > 0  # else there is nothing to learn from
    lengths = [len(ids) for some in found.values() for ids in some]
    assert max(lengths) == longest > min(lengths)  # some are cut, some end
    tokens = sum(length + (length < longest) for length in lengths)  # the end of a text that was cut was not drawn
    expected = torch.zeros(())
    for key, some in found.items():
        for place, ids in enumerate(some):
            advantage = (bleu[key][place] - np.delete(bleu[key], place).mean()) / every.std()
            targets = torch.tensor([*ids, inverter.end_id][:longest])
            states = inverter._text_states(torch.tensor([key]), torch.tensor([ids], dtype=torch.long))[0, :longest]
            logits = inverter.decoder.get_output_embeddings()(states)
            expected = expected + advantage * F.cross_entropy(logits, targets, reduction="sum") / tokens
    expected.backward()
    right = {name: p.grad.clone() for name, p in inverter.named_parameters() if p.grad is not None}
    inverter.zero_grad()
    for part, shares in parts:
        inverter(part.vectors, part.ids, part.lengths, shares=shares).backward()
    assert right
    for name, gradient in right.items():
        torch.testing.assert_close(inverter.get_parameter(name).grad, gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_the_same_draws_give_the_same_texts_and_others_others(inverter, batch, examples):
    first, again, other = (
        texts_of(rewarded(inverter, batch, 2, drawn(seed), examples.widths)[0]) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_texts_of_equal_reward_count_for_nothing(inverter, batch, examples, writes):
    writes([inverter.tokenizer(["Anna sees"])["input_ids"][0]] * 18)
    parts, _ = rewarded(inverter, batch, 3, drawn(), examples.widths)
    assert all(shares.abs().max() < 1e-6 for _, shares in parts)


def test_a_text_that_is_the_sentence_counts_and_one_without_tokens_can_be_learned_from(
    inverter, batch, examples, writes
):
    right = batch.ids[0, : batch.lengths[0]].tolist()
    one = replace(batch, vectors=batch.vectors[:1], ids=batch.ids[:1], lengths=batch.lengths[:1])
    writes([right, []])
    parts, reward = rewarded(inverter, one, 2, drawn(), examples.widths)
    assert reward == pytest.approx(0.5)
    shares = {part.lengths.item(): share[0, 0].item() for part, share in parts}
    assert shares[0] < 0 < shares[len(right)]
    for part, share in parts:
        assert torch.isfinite(inverter(part.vectors, part.ids, part.lengths, shares=share))
