"""Batches: every example once an epoch, under the budget, with its own tokens and its own vector."""

import itertools

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import vec2text.batches
from vec2text.batches import Data, Examples
from vec2text.cache import encode_corpus
from vec2text.config import DataConfig
from vec2text.corpus import SPLITS, build_corpus
from vec2text.fingerprint import Fingerprint


@pytest.fixture(scope="module")
def tokenizer(gpt2):
    return AutoTokenizer.from_pretrained(gpt2)


@pytest.fixture(scope="module")
def data(tmp_path_factory, text_file, encoder, tokenizer):
    """The sentences, with a fifth for validation and a fifth for testing."""
    cache = tmp_path_factory.mktemp("cache")
    corpus = build_corpus(DataConfig([str(text_file)], validation=0.2, test=0.2, cache=str(cache)))
    vectors = encode_corpus(corpus, encoder, cache, Fingerprint.of(encoder))
    examples = [Examples(corpus, corpus.rows(split), vectors, tokenizer, 64) for split in SPLITS]
    return Data(corpus, vectors, *examples, encoder)


def tokens(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# -- examples ----------------------------------------------------------------------------------------------------


def test_the_examples_are_the_sentences_of_their_split(data):
    assert len(data.train) == data.corpus.counts["train"]
    np.testing.assert_array_equal(data.train.rows, data.corpus.rows("train"))
    assert data.train.too_long == 0


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_batch_holds_the_tokens_and_the_vector_of_each_example_row_by_row(data, tokenizer, monkeypatch, chunk):
    monkeypatch.setattr(vec2text.batches, "_CHUNK", chunk)
    train = Examples(data.corpus, data.corpus.rows("train"), data.vectors, tokenizer, 64)
    members = np.random.default_rng(0).permutation(len(train))[:50]
    batch = train.batch(members)
    assert batch.vectors.dtype == torch.float32
    assert batch.ids.shape == (50, int(batch.lengths.max()))
    for place, ids, length, vector in zip(members, batch.ids, batch.lengths, batch.vectors, strict=True):
        row = train.rows[place]
        assert ids[:length].tolist() == tokens(tokenizer, data.corpus.texts[row])
        assert not ids[length:].any()
        np.testing.assert_array_equal(vector.numpy(), data.vectors[[row]][0])


def test_longer_sentences_are_dropped_and_counted_and_those_at_the_limit_kept(data, tokenizer):
    rows = data.corpus.rows("train")
    lengths = np.array([len(tokens(tokenizer, data.corpus.texts[row])) for row in rows])
    limit = int(np.median(lengths))
    kept = Examples(data.corpus, rows, data.vectors, tokenizer, limit)
    np.testing.assert_array_equal(kept.rows, rows[lengths <= limit])
    np.testing.assert_array_equal(kept.lengths, lengths[lengths <= limit])
    assert kept.too_long == (lengths > limit).sum() > 0
    batch = kept.batch(np.arange(len(kept)))
    assert [row[:n].tolist() for row, n in zip(batch.ids, batch.lengths, strict=True)] == [
        tokens(tokenizer, data.corpus.texts[row]) for row in kept.rows
    ]


def test_a_split_of_too_long_sentences_only_is_refused_with_both_numbers(data, tokenizer):
    rows = data.corpus.rows("test")
    with pytest.raises(ValueError, match=rf"all {len(rows)} sentences .* more than data.max_tokens=2 tokens"):
        Examples(data.corpus, rows, data.vectors, tokenizer, 2)


# -- the plan of an epoch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix_length", [1, 8])
@pytest.mark.parametrize("batch_tokens", ["longest", 100, 500, 4096, 10**6])
def test_an_epoch_has_every_example_once_and_every_batch_keeps_to_the_budget(data, prefix_length, batch_tokens):
    longest = prefix_length + int(data.train.lengths.max())
    batch_tokens = longest if batch_tokens == "longest" else batch_tokens
    batches = data.train.plan(prefix_length, batch_tokens, seed=0, epoch=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(data.train)))
    for members in batches:
        count, width = data.train.batch(members).ids.shape
        assert 0 < count * (prefix_length + width) <= batch_tokens


@pytest.fixture
def rounding(data, tokenizer):
    """The training examples, rounding the widths of their batches."""
    found = Examples(data.corpus, data.corpus.rows("train"), data.vectors, tokenizer, 64)
    found.few_shapes = True
    return found


@pytest.mark.parametrize("batch_tokens", ["longest", 100, 500])
def test_batches_of_few_shapes_hold_the_same_and_keep_to_the_budget(data, rounding, batch_tokens):
    longest = 4 + int(rounding.lengths.max())
    batch_tokens = longest if batch_tokens == "longest" else batch_tokens
    batches = rounding.plan(4, batch_tokens, seed=0, epoch=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(rounding)))
    for members in batches:
        expected, found = data.train.batch(members), rounding.batch(members)
        count, width = found.ids.shape
        narrow = expected.ids.shape[1]
        assert narrow <= width <= narrow + (1 if narrow <= 24 else 3)
        assert width % 2 == 0 or width == rounding.lengths.max()
        assert count * (4 + width) <= batch_tokens
        assert torch.equal(found.ids[:, :narrow], expected.ids)
        assert not found.ids[:, narrow:].any()
    shapes = {tuple(rounding.batch(members).ids.shape) for members in rounding.plan(4, 500, 0, 0)}
    plain = {tuple(data.train.batch(members).ids.shape) for members in data.train.plan(4, 500, 0, 0)}
    assert len(shapes) < len(plain)


def test_longer_texts_are_rounded_more(rounding):
    rounding.lengths = np.array([64])
    lengths = np.array([1, 2, 23, 24, 25, 29, 48, 49, 57, 64, 70])
    assert rounding.widths(lengths).tolist() == [2, 2, 24, 24, 28, 32, 48, 56, 64, 64, 70]
    assert rounding.widths(np.array([63])).tolist() == [64]


def test_a_batch_is_of_nearly_one_length(data):
    spans = sorted(
        (int(data.train.lengths[members].min()), int(data.train.lengths[members].max()))
        for members in data.train.plan(4, 500, seed=0, epoch=0)
    )
    assert all(shorter[1] <= longer[0] for shorter, longer in itertools.pairwise(spans))


def test_batches_are_nearly_full(data):
    used = sum((4 + data.train.lengths[members].max()) * len(members) for members in data.train.plan(4, 500, 0, 0))
    assert used > 0.8 * 500 * (len(data.train.plan(4, 500, 0, 0)) - 1)


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_plan_is_the_same_for_a_seed_and_an_epoch_and_another_for_any_other(data):
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    plans = {pair: data.train.plan(4, 500, *pair) for pair in pairs}
    for one in pairs:
        for other in pairs:
            assert same(plans[one], data.train.plan(4, 500, *other)) == (one == other)


def test_who_shares_a_batch_and_which_comes_first_change_from_epoch_to_epoch(data):
    epochs = [data.train.plan(4, 500, 0, epoch) for epoch in range(2)]
    together = [{frozenset(members.tolist()) for members in batches} for batches in epochs]
    assert len(together[0] & together[1]) < 0.2 * len(together[0])
    for batches in epochs:
        lengths = [data.train.lengths[members].max() for members in batches]
        assert lengths != sorted(lengths)
        assert lengths != sorted(lengths, reverse=True)


@pytest.mark.parametrize("prefix_length", [1, 8])
def test_a_budget_too_small_for_the_longest_sentence_is_refused_with_both_numbers(data, prefix_length):
    longest = prefix_length + int(data.train.lengths.max())
    with pytest.raises(ValueError, match=rf"batch_tokens is {longest - 1}, .* take {longest} positions"):
        data.train.plan(prefix_length, longest - 1, 0, 0)


@pytest.fixture
def both(data):
    """The training examples and after them those of the test split."""
    return data.train.followed_by(data.test)


def test_examples_follow_others_with_their_own_tokens_and_vectors(data, both):
    count = len(data.train)
    assert len(both) == count + len(data.test)
    assert len(data.train) == len(data.corpus.rows("train"))
    for own, members in ((data.train, np.array([3, 0, 7])), (data.test, np.array([5, 1]))):
        expected = own.batch(members)
        found = both.batch(members + (count if own is data.test else 0))
        assert torch.equal(expected.ids, found.ids)
        assert torch.equal(expected.vectors, found.vectors)
        assert torch.equal(expected.lengths, found.lengths)


def test_what_is_kept_on_a_device_makes_the_same_batches_and_what_does_not_fit_stays(data, both, monkeypatch):
    monkeypatch.setattr(vec2text.batches, "_CHUNK", 7)
    kept, small = both.followed_by(data.validation), data.test.followed_by(data.validation)
    kept.keep_on(torch.device("cpu"), 2**30)
    small.keep_on(torch.device("cpu"), 1000)
    assert kept._kept is not None
    assert small._kept is None
    assert both._kept is kept._kept  # what comes first is not kept twice
    plain = both.followed_by(data.validation)
    for members in np.array_split(np.random.default_rng(1).permutation(len(kept)), 9):
        expected, found = plain.batch(members), kept.batch(members)
        assert expected.ids.dtype == found.ids.dtype
        assert torch.equal(expected.ids, found.ids)
        assert torch.equal(expected.vectors, found.vectors)
        assert torch.equal(expected.lengths, found.lengths)


# -- held-out sentences ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_held_out_sentences_are_spread_evenly_over_their_split_with_their_vectors(data, split, count):
    texts, vectors = data.held_out(split, count)
    places = {text: place for place, text in enumerate(data.corpus.texts[row] for row in data.corpus.rows(split))}
    found = [places[text] for text in texts]
    assert len(texts) == count
    assert found[0] == 0
    gaps = np.diff(found)
    assert count == 1 or (found[-1] == len(places) - 1 and gaps.min() >= 1 and np.ptp(gaps) <= 1)
    np.testing.assert_array_equal(vectors, data.encoder.encode(texts))


def test_more_held_out_sentences_than_there_are_is_all_of_them(data):
    texts, vectors = data.held_out("test", 10_000)
    assert texts == [data.corpus.texts[row] for row in data.corpus.rows("test")]
    np.testing.assert_array_equal(vectors, data.vectors[data.corpus.rows("test")])
