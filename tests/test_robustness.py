"""Robustness: what each change does to vectors, as bounds that hold for all of them."""

import numpy as np
import pytest
from sentence_transformers.util.quantization import quantize_embeddings
from sklearn.neighbors import NearestNeighbors

from vec2text.config import QUANTIZATIONS
from vec2text.robustness import Ranges, changed, noisy, partly_changed, quantized, recall_at, truncated


@pytest.fixture(scope="module")
def vectors():
    """300 directions of 64 dimensions, in clusters, of lengths from 1 to 3."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((30, 64))
    rows = np.repeat(centres, 10, 0) + 0.7 * random.standard_normal((300, 64))
    lengths = random.uniform(1, 3, (300, 1))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) * lengths).astype(np.float32)


@pytest.fixture(scope="module")
def rotation():
    return np.linalg.qr(np.random.default_rng(1).standard_normal((64, 64)))[0].astype(np.float32)


def lengths(array):
    return np.linalg.norm(array, axis=1)


def test_noise_has_the_length_that_was_asked_for(vectors):
    many = np.tile(vectors, (20, 1))
    for share in (0.01, 0.3):
        shares = lengths(noisy(many, share) - many) / lengths(many)
        assert np.sqrt((shares**2).mean()) == pytest.approx(share, rel=0.01)


def test_noise_is_the_same_for_a_seed_and_only_longer_for_a_larger_share(vectors):
    small, large = (noisy(vectors, share, seed=3) - vectors for share in (0.1, 0.2))
    np.testing.assert_allclose(large, 2 * small, atol=1e-6)
    assert np.array_equal(noisy(vectors, 0.1), noisy(vectors, 0.1))
    assert not np.array_equal(noisy(vectors, 0.1), noisy(vectors, 0.1, seed=1))
    assert np.array_equal(noisy(vectors, 0), vectors)


def test_noise_has_no_preferred_direction(vectors):
    shift = (noisy(np.tile(vectors[:1], (20_000, 1)), 1.0) - vectors[0]) / lengths(vectors[:1])
    np.testing.assert_allclose(shift.mean(0), 0, atol=0.005)
    np.testing.assert_allclose(np.cov(shift.T), np.eye(64) / 64, atol=0.002)


def test_int8_is_off_by_half_a_step_at_most_and_keeps_the_ends(vectors):
    kept = quantized(vectors, "int8")
    step = (vectors.max(0) - vectors.min(0)) / 255
    assert (np.abs(kept - vectors) <= step / 2 + 1e-6).all()
    assert np.abs(kept - vectors).max() > step.min() / 4  # it does round
    np.testing.assert_allclose([kept.min(0), kept.max(0)], [vectors.min(0), vectors.max(0)], atol=1e-6)
    assert max(len(np.unique(column)) for column in kept.T) <= 256
    np.testing.assert_allclose(quantized(kept, "int8"), kept, atol=1e-6)  # once more changes nothing


def test_int8_differs_from_sentence_transformers_by_at_most_one_step(vectors):
    step = (vectors.max(0) - vectors.min(0)) / 255
    ours = np.round((quantized(vectors, "int8") - vectors.min(0)) / step) - 128
    theirs = quantize_embeddings(vectors, "int8", ranges=np.stack([vectors.min(0), vectors.max(0)]))
    assert set(np.unique(ours - theirs)) == {0.0, 1.0}  # they go to the step below, we to the nearest


def test_int8_of_a_dimension_that_does_not_vary(vectors):
    flat = vectors.copy()
    flat[:, 3] = 0.25
    assert (quantized(flat, "int8")[:, 3] == 0.25).all()


def test_binary_keeps_the_signs_and_the_mean_length(vectors):
    kept = quantized(vectors, "binary")
    assert np.array_equal(kept > 0, vectors > 0)
    np.testing.assert_allclose(lengths(kept), lengths(vectors).mean(), rtol=1e-5)
    theirs = np.unpackbits((quantize_embeddings(vectors, "binary").astype(int) + 128).astype(np.uint8), axis=1)
    assert np.array_equal(kept > 0, theirs.astype(bool))
    assert (quantized(np.array([[0.0, 0, 0, 1]]), "binary") < 0).sum() == 3  # what is not above 0 is below


def test_half_precision_is_off_by_a_2048th_at_most(vectors):
    kept = quantized(vectors, "fp16")
    assert kept.dtype == np.float32
    normal = np.abs(vectors) > 1e-4  # smaller ones are subnormal
    assert (np.abs(kept - vectors) <= np.abs(vectors) / 2048)[normal].all()
    assert not np.array_equal(kept, vectors)


def test_truncation_keeps_the_first_dimensions_and_the_lengths(vectors):
    kept = truncated(vectors, 16)
    assert kept.shape == vectors.shape
    assert (kept[:, 16:] == 0).all()
    np.testing.assert_allclose(lengths(kept), lengths(vectors), rtol=1e-5)
    first = vectors[:, :16]
    np.testing.assert_allclose(kept[:, :16] / lengths(kept)[:, None], first / lengths(first)[:, None], atol=1e-6)


@pytest.mark.parametrize("dimensions", [0, -1, 64, 100])
def test_truncation_to_nothing_or_everything_is_refused(vectors, dimensions):
    with pytest.raises(ValueError, match=f"truncation to {dimensions} of 64"):
        truncated(vectors, dimensions)


def test_an_unknown_quantization_is_refused(vectors):
    with pytest.raises(ValueError, match="'int4' is not known; expected int8, binary, fp16"):
        quantized(vectors, "int4")


def test_changes_by_name(vectors):
    found = changed(vectors, noise=[0.01, 0.5], quantize=["int8"], truncate=[16], seed=2)
    assert list(found) == ["noise 0.01", "noise 0.5", "int8", "first 16 dimensions"]
    assert np.array_equal(found["noise 0.5"], noisy(vectors, 0.5, 2))
    assert np.array_equal(found["int8"], quantized(vectors, "int8"))
    unit = changed(vectors, noise=[0.5], quantize=["binary"], normalized=True)
    for kept in unit.values():
        np.testing.assert_allclose(lengths(kept), 1, rtol=1e-5)
    assert changed(vectors) == {}


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_with_the_ranges_of_the_store_a_few_vectors_are_quantized_as_all_are(vectors, kind):
    assert np.array_equal(quantized(vectors[:7], kind, Ranges.of(vectors)), quantized(vectors, kind)[:7])
    assert quantized(vectors[:0], kind, Ranges.of(vectors)).shape == (0, 64)


def test_int8_takes_what_lies_beyond_the_ranges_to_their_ends(vectors):
    ranges = Ranges.of(vectors)
    kept = quantized(5 * vectors, "int8", ranges)
    beyond = (5 * vectors < ranges.low) | (5 * vectors > ranges.high)
    ends = np.where(vectors > 0, ranges.high, ranges.low)
    assert beyond.any()
    np.testing.assert_allclose(kept[beyond], ends[beyond], atol=1e-6)


# -- for training ----------------------------------------------------------------------------------------------------

WAYS = {"quantize": ["int8", "binary"], "truncate": [16]}


def test_of_vectors_changed_in_part_each_is_as_it_was_or_as_one_change_makes_it(vectors):
    many, before = np.tile(vectors, (10, 1)), vectors.copy()
    found = partly_changed(many, 0.6, Ranges.of(vectors), np.random.default_rng(0), **WAYS)
    assert np.array_equal(vectors, before)
    made = {"as they were": many, **changed(many, **WAYS)}
    same = np.stack([(kept == found).all(1) for kept in made.values()])  # (4, N)
    assert (same.sum(0) == 1).all()
    np.testing.assert_allclose(same.mean(1), [0.4, 0.2, 0.2, 0.2], atol=0.03)


def test_vectors_changed_in_part_are_the_same_for_a_seed(vectors):
    first, again, other = (
        partly_changed(vectors, 0.5, Ranges.of(vectors), np.random.default_rng(seed), **WAYS) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_changed_in_part_has_length_1_where_vectors_have_it(vectors):
    unit = vectors / lengths(vectors)[:, None]
    found = partly_changed(unit, 1.0, Ranges.of(unit), np.random.default_rng(0), normalized=True, **WAYS)
    np.testing.assert_allclose(lengths(found), 1, rtol=1e-5)
    longer = partly_changed(unit, 1.0, Ranges.of(unit), np.random.default_rng(0), quantize=["int8"])
    assert np.abs(lengths(longer) - 1).max() > 1e-4  # it is int8 that the length must be brought back from


# -- retrieval -------------------------------------------------------------------------------------------------------


def test_recall_is_that_of_scikit_learn(vectors):
    kept = noisy(vectors, 0.5)
    own = np.arange(len(vectors))[:, None]

    def neighbours(among):  # one more, since each vector, or what became of it, may find itself
        places = NearestNeighbors(n_neighbors=11, metric="cosine").fit(among).kneighbors(vectors)[1]
        return [[place for place in row if place != me][:10] for row, me in zip(places, own[:, 0], strict=True)]

    expected = [len(set(a) & set(b)) / 10 for a, b in zip(neighbours(vectors), neighbours(kept), strict=True)]
    found = recall_at(10, vectors, kept)
    np.testing.assert_allclose(found, expected)
    assert 0.3 < found.mean() < 0.95


def test_recall_of_unchanged_vectors_is_one_also_among_equals(vectors):
    assert (recall_at(10, vectors, vectors) == 1).all()
    twins = np.repeat(vectors[:20], 3, 0)
    assert (recall_at(5, twins, twins) == 1).all()


def test_recall_does_not_change_with_lengths_and_rotations(vectors, rotation):
    kept = quantized(vectors, "binary")
    before = recall_at(10, vectors, kept)
    assert np.array_equal(recall_at(10, vectors, 7 * kept), before)
    assert np.array_equal(recall_at(10, vectors @ rotation, kept @ rotation), before)
    assert recall_at(10, vectors, vectors @ rotation).mean() < 0.2  # of the store alone: all but chance is lost


def test_recall_falls_with_noise_to_that_of_chance(vectors):
    means = [recall_at(10, vectors, noisy(vectors, share)).mean() for share in (0.01, 0.1, 0.5, 2, 1000)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.95
    assert means[-1] == pytest.approx(10 / 299, abs=0.02)


def test_recall_in_blocks_is_the_same(vectors):
    many = noisy(np.tile(vectors, (4, 1)), 0.2, seed=5)  # 1200 rows: two blocks
    kept = noisy(many, 0.3)
    found = recall_at(10, many, kept)
    turned = np.roll(np.arange(1200), 500)
    assert np.array_equal(recall_at(10, many[turned], kept[turned]), found[turned])


@pytest.mark.parametrize(("k", "count"), [(10, 10), (0, 20), (-1, 20), (20, 20)])
def test_recall_needs_more_vectors_than_neighbours(vectors, k, count):
    with pytest.raises(ValueError, match=f"recall at {k} of vectors of shape"):
        recall_at(k, vectors[:count], vectors[:count])


def test_recall_needs_the_same_vectors(vectors):
    with pytest.raises(ValueError, match="expected the same shape"):
        recall_at(10, vectors, vectors[:-1])
