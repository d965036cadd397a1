import itertools
import weakref

import numpy as np
import pytest

from vec2text import EncoderConfig, load_encoder
from vec2text.exploration import interpolate, mean, nearest, parse_sum, similarities, weighted_sum
from vec2text.metrics import cosine


@pytest.fixture
def pair():
    """Two vectors of different lengths, 7 dimensions."""
    a, b = np.random.default_rng(0).standard_normal((2, 7)).astype(np.float32)
    return a, 3 * b


def angle(a, b):
    return np.arccos(np.clip(cosine(a[None].astype(np.float64), b[None].astype(np.float64))[0], -1, 1))


# -- interpolation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spherical", [True, False])
@pytest.mark.parametrize("points", [2, 3, 7, 100])
def test_the_ends_are_the_vectors_themselves_to_the_bit(spherical, points):
    for a, b in np.random.default_rng(1).standard_normal((50, 2, 384)).astype(np.float32):
        a[3] = b[4] = -0.0  # whose sign arithmetic loses
        rows = interpolate(a, b, points, spherical=spherical)
        assert (rows.shape, rows.dtype) == ((points, 384), np.float32)
        assert rows[0].tobytes() == a.tobytes()
        assert rows[-1].tobytes() == b.tobytes()


def test_every_point_of_the_arc_has_its_share_of_angle_and_length(pair):
    a, b = pair
    for step, row in zip(np.linspace(0, 1, 11), interpolate(a, b, 11), strict=True):
        assert angle(a, row) == pytest.approx(step * angle(a, b), abs=1e-3)
        assert angle(row, b) == pytest.approx((1 - step) * angle(a, b), abs=1e-3)
        length = (1 - step) * np.linalg.norm(a) + step * np.linalg.norm(b)
        assert np.linalg.norm(row) == pytest.approx(length, rel=1e-5)


def test_the_straight_line_has_equal_steps_and_leads_through_shorter_vectors(pair):
    a, b = (vector / np.linalg.norm(vector) for vector in pair)
    rows = interpolate(a, b, 5, spherical=False)
    assert np.allclose(np.diff(rows, axis=0), (b - a) / 4, atol=1e-6)
    assert np.linalg.norm(rows[2]) < 0.99
    assert np.allclose(np.linalg.norm(interpolate(a, b, 5), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("turn", [0, 1e-9, 1e-5])
def test_parallel_vectors_differ_in_length_only(turn):
    a = np.array([1.0, 0, 0], np.float32)
    rows = interpolate(a, 3 * np.array([np.cos(turn), np.sin(turn), 0], np.float32), 5)
    assert np.allclose(rows[:, 0], [1, 1.5, 2, 2.5, 3], atol=1e-6)
    assert np.allclose(rows[:, 1], np.linspace(0, turn, 5) * rows[:, 0], rtol=1e-5)


def test_opposite_vectors_have_a_straight_line_but_no_arc(pair):
    a, _ = pair
    with pytest.raises(ValueError, match=r"opposite.*linear"):
        interpolate(a, -2 * a, 5)
    assert np.allclose(interpolate(a, -2 * a, 4, spherical=False)[1], 0, atol=1e-6)
    nearly = interpolate(np.array([1.0, 0]), np.array([np.cos(3.14), np.sin(3.14)]), 3)
    assert np.allclose(nearly[1], [np.cos(1.57), np.sin(1.57)], atol=1e-5)


ONES, ZEROS = np.ones(3), np.zeros(3)


@pytest.mark.parametrize(
    ("a", "b", "points", "message"),
    [
        (ONES, ONES, 1, "points is 1; expected at least 2"),
        (ONES, np.ones(4), 3, r"vector 1 has shape \(4,\)"),
        (np.ones((1, 3)), ONES, 3, r"vector 0 has shape \(1, 3\)"),
        (ONES, ZEROS, 3, "vector 1 of the two is all zeros"),
        (ZEROS, ONES, 3, "vector 0 of the two is all zeros"),
        (ONES, np.array([1, np.nan, 1]), 3, "vector 1 holds NaN or infinity"),
    ],
)
def test_what_cannot_be_interpolated(a, b, points, message):
    with pytest.raises(ValueError, match=message):
        interpolate(a, b, points)


def test_the_straight_line_may_begin_at_zero():
    assert np.array_equal(interpolate(ZEROS, ONES, 3, spherical=False), [[0] * 3, [0.5] * 3, [1] * 3])


# -- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("king - man + woman", [(1, "king"), (-1, "man"), (1, "woman")]),
        ("  A well-known king   +\tC++ ", [(1, "A well-known king"), (1, "C++")]),
        ("- man + king", [(-1, "man"), (1, "king")]),
        ("+ man", [(1, "man")]),
        ("-0.5 * man + 2*king", [(-0.5, "man"), (2, "king")]),
        ("a - -.5 * b - 3. * c", [(1, "a"), (0.5, "b"), (-3, "c")]),
        ("5 + 3", [(1, "5"), (1, "3")]),
        ("'a - b' + \"c + 'd' * 2\"", [(1, "a - b"), (1, "c + 'd' * 2")]),
        ("0.25 * 'a' - 'b'", [(0.25, "a"), (-1, "b")]),
        ("don't stop - won't", [(1, "don't stop"), (-1, "won't")]),
        ("'don't go' - 'dogs' bones'", [(1, "don't go"), (-1, "dogs' bones")]),
        ('"\'tis late" - late', [(1, "'tis late"), (-1, "late")]),
        ("'two\nlines' - 'one'", [(1, "two\nlines"), (-1, "one")]),
        ("' a '", [(1, " a ")]),
        ("v/a.npy - 'my files/b - c.npy'", [(1, "v/a.npy"), (-1, "my files/b - c.npy")]),
    ],
)
def test_sums_are_read(expression, terms):
    assert parse_sum(expression) == terms


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "the sum is empty"),
        ("  ", "the sum is empty"),
        ("king -", "a text is missing at the end"),
        ("-", "a text is missing at the end"),
        ("king - + man", "a text is missing before '\\+ man'"),
        ("king - - man", "a text is missing before '- man'"),
        ("2 *", "a text is missing at the end"),
        ("2 * - man", "a text is missing before '- man'"),
        ("king - ''", "a text is missing"),
        ("' ' - king", "a text is missing before '- king'"),
        ("'king - man", "the quote that .* begins with is not closed"),
        ("a - 'tis late", "the quote that .* begins with is not closed"),
        ('"king" man - x', "the quote that .* begins with is not closed"),
        ("a + \"b'", "the quote that .* begins with is not closed"),
        ("-man + king", "'-man' .* is not clear"),
        ("-5 degrees", "'-5' .* is not clear"),
        ("king -man", "'-man' .* is not clear"),
        ("king * 0.5", r"'\*' .* is not clear"),
        ('king "a - b"', "'\"a' .* is not clear"),
    ],
)
def test_what_is_no_sum_is_said_in_one_line(expression, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_sum(expression)
    assert "\n" not in str(error.value)


def test_whatever_stands_in_quotes_comes_back():
    """Random texts of the very letters that mean something, each in quotes of the kind that it lacks."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        texts = ["x" + "".join(rng.choice(list(" +-*'\"5."), rng.integers(1, 9))) for _ in range(3)]
        quotes = ['"' if '"' not in text else "'" for text in texts]
        if any(quote in text for quote, text in zip(quotes, texts, strict=True)):
            continue
        signs, factors = rng.choice([-1, 1], 3), rng.choice([0.5, 2, 7.25], 3)
        parts = [
            f"{'-' if sign < 0 else '+'} {factor} * {quote}{text}{quote}"
            for sign, factor, quote, text in zip(signs, factors, quotes, texts, strict=True)
        ]
        assert parse_sum(" ".join(parts)) == list(zip(signs * factors, texts, strict=True))


def test_a_sum_is_the_sum_of_its_weighted_terms():
    rng = np.random.default_rng(2)
    vectors, weights = rng.standard_normal((4, 9)).astype(np.float32), [1, -0.5, 2, 0]
    expected = vectors[0] - 0.5 * vectors[1] + 2 * vectors[2]
    found = weighted_sum(weights, vectors)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)
    scaled = weighted_sum(weights, list(vectors), length=2.5)
    assert np.linalg.norm(scaled) == pytest.approx(2.5, rel=1e-6)
    assert angle(scaled, found) < 1e-3
    assert weighted_sum([1], vectors[:1]).tobytes() == vectors[0].tobytes()


def test_a_sum_that_vanishes_is_refused_whatever_the_scale():
    a, b = np.random.default_rng(3).standard_normal((2, 384)).astype(np.float32)
    for scale in (1e-20, 1, 1e20):
        with pytest.raises(ValueError, match="cancel out"):
            weighted_sum([0.5, 0.5, -0.5, -0.5], [a * np.float32(scale) for a in (a, b, b, a)])
        weighted_sum([1, -1], [a * np.float32(scale), 1.001 * a * np.float32(scale)])
    with pytest.raises(ValueError, match="cancel out"):  # as when a text was encoded in two batches
        weighted_sum([1, -1], [a, a + 1e-7 * b])
    with pytest.raises(ValueError, match="cancel out"):
        weighted_sum([0], [a])


@pytest.mark.parametrize(
    ("weights", "vectors", "message"),
    [
        ([1], [ONES, ONES], "1 weights for 2 vectors"),
        ([], [], "0 weights for 0 vectors"),
        ([1, 1], [ONES, np.ones(2)], r"vector 1 has shape \(2,\) and vector 0 has \(3,\)"),
        ([1, 1], [ONES, ONES * np.inf], "vector 1 holds NaN or infinity"),
    ],
)
def test_what_cannot_be_summed(weights, vectors, message):
    with pytest.raises(ValueError, match=message):
        weighted_sum(weights, vectors)


def test_a_mean_is_that_of_all_rows_however_they_come():
    rows = np.random.default_rng(4).standard_normal((20, 5)).astype(np.float32)
    for sizes in ([20], [1] * 20, [3, 17], [7, 0, 13]):
        pieces = np.split(rows, np.cumsum(sizes)[:-1])
        assert np.allclose(mean(iter(pieces)), rows.mean(0), atol=1e-7)
        assert np.linalg.norm(mean(pieces, length=1)) == pytest.approx(1, rel=1e-6)
    assert mean([rows[:1]], length=1).tobytes() == rows[0].tobytes()  # one row is nobody's mean
    with pytest.raises(ValueError, match="nothing to take the mean of"):
        mean([])
    with pytest.raises(ValueError, match="cancel out"):
        mean([rows, -rows[::-1]])


# -- nearest ---------------------------------------------------------------------------------------------------------


def in_chunks(rows, sizes):
    """Rows in arrays of the given sizes, over and over."""
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(rows):
            return
        yield rows[start : start + size]
        start += size


@pytest.mark.parametrize("sizes", [[1], [7], [1000], [3, 0, 50], [64]])
def test_the_nearest_is_that_of_brute_force_whatever_the_chunks(sizes):
    rng = np.random.default_rng(5)
    vectors, rows = 4 * rng.standard_normal((30, 48)), rng.standard_normal((200, 48)) * rng.uniform(0.1, 9, (200, 1))
    everything = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows] for a in vectors])
    places, cosines = nearest(vectors.astype(np.float32), in_chunks(rows.astype(np.float32), sizes))
    assert np.array_equal(places, everything.argmax(1))
    assert np.allclose(cosines, everything.max(1), atol=1e-6)
    assert (places.dtype, cosines.dtype) == (np.int64, np.float32)


def test_of_equal_rows_the_first_is_found_whatever_the_chunks():
    """Products in float32 would differ in the last bit from chunk to chunk, and choose the luckier one."""
    rng = np.random.default_rng(6)
    for _ in range(50):
        rows = rng.standard_normal((rng.integers(20, 100), 384)).astype(np.float32)
        vectors = rng.standard_normal((rng.integers(1, 40), 384)).astype(np.float32)
        twice = np.concatenate([rows, rows[::-1]])
        places, _ = nearest(vectors, in_chunks(twice, [int(rng.integers(1, 40))]))
        assert places.max() < len(rows)
        assert np.array_equal(places, nearest(vectors, [rows])[0])


def test_one_chunk_at_a_time_is_held():
    made = []

    def chunks():
        for seed in range(20):
            chunk = np.random.default_rng(seed).standard_normal((50, 10))
            made.append(weakref.ref(chunk))
            assert sum(reference() is not None for reference in made) <= 2  # this one, and that which is searched
            yield chunk

    nearest(np.ones((3, 10)), chunks())
    assert len(made) == 20


def test_a_row_of_zeros_is_similar_to_nothing():
    places, cosines = nearest(np.eye(3)[:1], [np.zeros((2, 3)), np.eye(3)])
    assert (places.tolist(), cosines.tolist()) == ([2], [1])


def test_what_cannot_be_searched():
    with pytest.raises(ValueError, match="nothing to search"):
        nearest(np.ones((2, 3)), [])
    with pytest.raises(ValueError, match="dimension 3, what is searched has 4"):
        nearest(np.ones((2, 3)), [np.ones((5, 4))])


# -- similarities ----------------------------------------------------------------------------------------------------


class Planned:
    """An encoder that gives what it was told to, and keeps what it was asked."""

    def __init__(self, vectors):
        self.vectors, self.asked = vectors, []

    def encode(self, texts):
        self.asked.append(texts)
        return np.array([self.vectors[text] for text in texts], np.float32)


def test_the_groups_are_the_diagonal_and_the_rest():
    rng = np.random.default_rng(7)
    a, b = [f"a{i}" for i in range(5)], [f"b{i}" for i in range(5)]
    encoder = Planned({text: rng.standard_normal(6) for text in a + b})
    found = similarities(encoder, a, b)
    assert encoder.asked == [a, b]
    alike = {(x, y): cosine(*(encoder.encode([t]) for t in (x, y)))[0] for x in a for y in b}
    assert np.allclose(found.related, [alike[x, y] for x, y in zip(a, b, strict=True)], atol=1e-6)
    assert np.allclose(found.unrelated, [alike[x, y] for x in a for y in b if x[1] != y[1]], atol=1e-6)


def test_the_auc_is_scikit_learns_and_ties_count_half():
    from sklearn import metrics

    rng = np.random.default_rng(8)
    for dimension in (2, 3, 8):
        # Whole numbers of few values, so that many cosines are equal.
        vectors = {f"{name}{i}": rng.integers(0, 3, dimension) + 1 for name in "ab" for i in range(12)}
        for name in range(6):
            vectors[f"b{name}"] = vectors[f"a{name}"]
        found = similarities(Planned(vectors), [f"a{i}" for i in range(12)], [f"b{i}" for i in range(12)])
        assert len(set(found.unrelated.tolist())) < len(found.unrelated)
        labels = [1] * len(found.related) + [0] * len(found.unrelated)
        expected = metrics.roc_auc_score(labels, np.concatenate([found.related, found.unrelated]))
        assert found.auc == pytest.approx(expected, abs=1e-9)


def test_an_encoder_that_tells_nothing_apart_is_at_chance_and_a_perfect_one_is_not():
    texts = ["one", "two", "three"]
    assert similarities(Planned(dict.fromkeys(texts, np.ones(4))), texts, texts).auc == 0.5
    perfect = Planned(dict(zip(texts, np.eye(3), strict=True)))
    assert similarities(perfect, texts, texts).auc == 1
    assert similarities(perfect, texts, ["two", "three", "one"]).auc < 0.5


PARAPHRASES = {
    "The cat is sleeping on the sofa.": "A kitten naps on the couch.",
    "How much does this jacket cost?": "What is the price of this coat?",
    "The train to Leeds was an hour late.": "Our train arrived sixty minutes behind schedule.",
    "She plays the violin in an orchestra.": "She is an orchestral violinist.",
    "It rained all day, so we stayed at home.": "Because of the bad weather we did not go out.",
    "The doctor told him to stop smoking.": "He was advised by his physician to give up cigarettes.",
}


def test_minilm_separates_paraphrases_from_unrelated_sentences():
    encoder = load_encoder(EncoderConfig("all-MiniLM-L6-v2"), "cpu")
    found = similarities(encoder, list(PARAPHRASES), list(PARAPHRASES.values()))
    assert found.auc == 1
    assert found.related.mean() > 0.5 > 0.2 > found.unrelated.mean()


def test_the_table_shows_each_pair_beside_its_most_similar_wrong_partner():
    vectors = {"a": [1, 0], "b": [0.6, 0.8], "c": [0, 1], "x\ny": [1, 0], "w" * 99: [0.8, 0.6], "z": [0, 1]}
    found = similarities(Planned(vectors), ["a", "b", "c"], ["x\ny", "w" * 99, "z"])
    lines = str(found).splitlines()
    assert len(lines) == 1 + 3 + 3
    assert max(map(len, lines)) <= 120
    assert len({len(line) for line in lines[:4]}) == 1  # columns
    assert lines[1].split() == ["a", "x", "y", "1.000", "w" * 29 + "...", "0.800"]
    assert lines[2].split() == ["b", "w" * 29 + "...", "0.960", "z", "0.800"]
    assert lines[3].split() == ["c", "z", "1.000", "w" * 29 + "...", "0.600"]
    assert "mean  0.987" in lines[4]
    assert "6 pairs" in lines[5]
    assert f"{found.auc:.3f}" in lines[6]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (["x", "y"], ["x"], "2 texts and 1 partners"),
        (["x"], ["y"], "1 texts and 1 partners; expected as many, and at least 2 pairs"),
        ([], [], "0 texts and 0 partners"),
    ],
)
def test_pairs_that_are_none(a, b, message):
    with pytest.raises(ValueError, match=message):
        similarities(Planned({}), a, b)


def test_an_encoder_that_loses_texts_is_refused():
    class Broken:
        def encode(self, texts):
            return np.ones((len(texts) - 1, 4), np.float32)

    with pytest.raises(ValueError, match=r"shape \(1, 4\) and \(1, 4\) for 2 texts each; expected \(2, D\)"):
        similarities(Broken(), ["a", "b"], ["c", "d"])
