"""Polish: the last of several rounds goes on with edits, and what is given is as close, but likely."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import LetterEncoder
from test_refinement import Aimed, similarity

from vec2text import refinement, search, writing
from vec2text.calibration import Calibration
from vec2text.constraints import Constraints
from vec2text.edits import edits
from vec2text.refinement import RefinementStopped, refine


@pytest.fixture
def vectors(encoder, sentences):
    return encoder.encode(sentences[:12:4])


@pytest.fixture
def ranked(inverter, encoder, vectors, monkeypatch, in_fp32):
    """A vector, its closest text when polish begins, and the edits of that text, the likeliest first."""
    monkeypatch.setattr(writing, "_READ", 1000)
    monkeypatch.setattr(writing, "_changes", lambda path, end_id: iter(()))  # of words alone
    monkeypatch.setattr(search, "_EDITS", 0)  # polish alone edits
    closest = [result.text for result in refine(inverter, encoder, vectors, rounds=2, candidates=1, polish=False)]
    place = max(range(len(closest)), key=lambda place: len(list(edits(closest[place]))))
    near = list(edits(closest[place]))
    likely = inverter.log_probabilities(inverter.rows(vectors[[place] * len(near)]), near)
    return vectors[place : place + 1], closest[place], [near[row] for row in np.argsort(-likely, kind="stable")]


def test_the_last_round_ends_with_edits(inverter, ranked):
    target, before, (aim, *_) = ranked
    encoder = Aimed({aim: target[0]})
    (result,) = refine(inverter, encoder, target, rounds=2, candidates=1)
    assert (result.text, result.rounds) == (aim, 2)
    (result,) = refine(inverter, Aimed({aim: target[0]}), target, rounds=2, candidates=1, polish=False)
    assert result.text == before


def polished(inverter, encoder, target, text, candidates=1):
    """A search for `target` (D,) of which a text is known, after polish."""
    found = search.Search(0, target, 3, False, True)
    batch = refinement._Batch(inverter, encoder, inverter.rows(target), [found], 24, None, lambda: inverter.decoder)
    found.written[text] = batch.writer.as_written(0, text)
    batch._compare([(0, text)])
    batch._polish([found], candidates, lambda _: None)
    return found


def test_where_some_brought_nothing_the_next_are_tried(inverter, monkeypatch):
    target, aside = np.eye(2, inverter.fingerprint.dimension, dtype=np.float32)
    monkeypatch.setattr(writing, "_changes", lambda path, end_id: iter(()))  # of words alone
    monkeypatch.setattr(refinement, "_POLISHED", 4)
    text = "Anna sees a red boat at night"
    near = list(edits(text))
    likely = inverter.log_probabilities(inverter.rows(target[None].repeat(len(near), 0)), near)
    near = [near[row] for row in np.argsort(-likely, kind="stable")]

    class Only(LetterEncoder):
        def encode(self, texts):
            return np.stack([target if text == aim else aside + target / 2 for text in texts])

    for steps, least, most in ((1, 3, 5), (8, 20, 20)):
        monkeypatch.setattr(refinement, "_POLISHES", steps)
        found = 0
        for aim in near[:20]:
            found += polished(inverter, Only(), target, text).text == aim
        assert least <= found <= most


def test_it_is_for_the_last_of_several_rounds(inverter, encoder, vectors):
    once, without = (refine(inverter, encoder, vectors, rounds=1, polish=polish) for polish in (True, False))
    assert once == without
    twice, plain = (refine(inverter, encoder, vectors, rounds=2, polish=polish) for polish in (True, False))
    for result, other in zip(twice, plain, strict=True):
        assert result.history[:-1] == other.history[:-1]
        assert result.queries > other.queries + 16


def test_searches_of_poor_prospects_are_not_polished(inverter, encoder, vectors):
    inverter.calibration = Calibration(1.0, 0.5, 0.0, 10, prospect_closeness=0.0, prospect_bias=-9.0)
    assert refine(inverter, encoder, vectors, rounds=2) == refine(inverter, encoder, vectors, rounds=2, polish=False)


def test_similarity_does_not_fall_and_what_is_given_is_the_likeliest(inverter, encoder, vectors, in_fp32, monkeypatch):
    considered = {}

    def closest(self, count, least):
        considered[self.place] = chosen(self, count, least)
        assert self.seen[least] == min(map(self.seen.__getitem__, considered[self.place]))
        return considered[self.place]

    chosen = search.Search.closest
    monkeypatch.setattr(search.Search, "closest", closest)
    found = refine(inverter, encoder, vectors, rounds=3, candidates=2)
    gone_closer = 0
    for place, (result, vector) in enumerate(zip(found, vectors, strict=True)):
        steps = [similarity(encoder, text, vector) for text, _ in result.history]
        assert all(later >= earlier - 1e-6 for earlier, later in pairwise(steps))
        assert result.history[-1] == (result.text, result.queries)
        assert (result.hypotheses[0].text, result.hypotheses[0].similarity) == (result.text, result.similarity)
        others = [hypothesis.similarity for hypothesis in result.hypotheses[1:]]
        assert others == sorted(others, reverse=True)
        known = {hypothesis.text: hypothesis.similarity for hypothesis in result.hypotheses}
        near = considered[place]
        likely = inverter.log_probabilities(inverter.rows(vector[None].repeat(len(near), 0)), near)
        scores = likely - 20 * np.log(1 - np.array([known[text] for text in near]))
        assert result.text == near[int(scores.argmax())]
        gone_closer += max(known.values()) > result.similarity
    assert gone_closer  # else this would say nothing


def test_polished_texts_obey(inverter, encoder, vectors):
    constraints = Constraints(max_words=3)
    options = {"rounds": 2, "candidates": 1, "constraints": constraints}
    plain = refine(inverter, encoder, vectors, polish=False, **options)
    found = refine(inverter, encoder, vectors, **options)
    assert sum(result.queries for result in found) > sum(result.queries for result in plain)
    for result in found:
        assert all(constraints.obeyed_by(hypothesis.text) for hypothesis in result.hypotheses)


def test_it_comes_also_where_rounds_before_it_had_nothing_to_propose(inverter, encoder, vectors, monkeypatch):
    monkeypatch.setattr(search, "_EDITS", 0)  # polish alone edits
    monkeypatch.setattr(search.Search, "branches", lambda self, candidates: [])
    plain, edited = (refine(inverter, encoder, vectors, rounds=3, polish=polish) for polish in (False, True))
    for result, other in zip(plain, edited, strict=True):
        assert result.queries < other.queries
        assert (result.rounds, other.rounds) == (0, 3)
        assert len(result.history) == len(other.history) == 4


def test_the_text_that_it_began_with_may_be_given():
    found = search.Search(0, np.eye(1, 2)[0], 3, False, True)
    found.seen = {"further": 0.2, "first": 0.5, "as near": 0.5, "nearer": 0.6, "nearest": 0.7}
    assert found.closest(9, "first") == ["nearest", "nearer", "as near", "first"]
    assert found.closest(2, "first") == ["nearest", "first"]
    assert found.closest(1, "first") == ["first"]


@pytest.fixture
def written(monkeypatch):
    """How many texts the GPT wrote each time."""
    counts = []

    def explored(*arguments, begin, **options):
        counts.append(len(begin))
        return explore(*arguments, begin=begin, **options)

    explore = writing.explore
    monkeypatch.setattr(writing, "explore", explored)
    return counts


def test_nobody_writes_what_nothing_will_branch_from(inverter, vectors, encoder, sentences, written):
    found = polished(inverter, encoder, vectors[0], sentences[1])
    assert len(found.seen) > 16
    assert set(written) == {1}  # the text that is edited


def test_edits_that_later_rounds_may_branch_from_are_written(inverter, vectors, encoder, sentences, written):
    found = search.Search(0, vectors[0], 3, False, True)
    batch = refinement._Batch(inverter, encoder, inverter.rows(vectors[0]), [found], 24, None, lambda: inverter.decoder)
    found.written[sentences[1]] = batch.writer.as_written(0, sentences[1])
    batch._compare([(0, sentences[1])])
    batch._climb([found], 2, 1)
    assert written == [1, 4]
    assert all(path.other_ids.shape[1] for text, (_, path) in found.written.items() if text != sentences[1])


def test_what_was_found_before_the_encoder_failed_is_kept(inverter, vectors):
    class Failing(LetterEncoder):
        def encode(self, texts):
            if self.queries > plain.queries:  # after the first step of polish
                raise ConnectionError("nobody answers")
            return super().encode(texts)

    (plain,) = refine(inverter, LetterEncoder(), vectors[:1], rounds=2, candidates=1, polish=False)
    with pytest.raises(RefinementStopped) as stopped:
        refine(inverter, Failing(), vectors[:1], rounds=2, candidates=1)
    (result,) = stopped.value.reconstructions
    assert result.queries == plain.queries + 16
    assert result.similarity >= plain.similarity
    assert result.similarity == max(hypothesis.similarity for hypothesis in result.hypotheses)


def test_what_an_encoder_gave_of_many_texts_before_it_failed_is_kept(inverter, vectors, monkeypatch):
    class Failing(LetterEncoder):
        def encode(self, texts):
            if self.queries > plain.queries + 8:
                raise ConnectionError("nobody answers")
            return super().encode(texts)

    (plain,) = refine(inverter, LetterEncoder(), vectors[:1], rounds=2, candidates=1, polish=False)
    monkeypatch.setattr(refinement, "_ENCODED", 5)
    with pytest.raises(RefinementStopped) as stopped:
        refine(inverter, Failing(), vectors[:1], rounds=2, candidates=1)
    (result,) = stopped.value.reconstructions
    assert result.queries == plain.queries + 10


def test_where_it_fails_at_once_what_it_gave_of_plain_texts_is_kept(inverter, encoder, vectors, monkeypatch):
    class Failing(LetterEncoder):
        def encode(self, texts):
            if self.queries:
                raise ConnectionError("nobody answers")
            return super().encode(texts)

    plain = inverter.invert(vectors)
    assert plain[1] != plain[0]
    monkeypatch.setattr(refinement, "_ENCODED", 1)
    with pytest.raises(RefinementStopped) as stopped:
        refine(inverter, Failing(), vectors)
    found = stopped.value.reconstructions
    assert (found[0].text, found[1], len(found)) == (plain[0], None, 3)


def test_it_is_told_how_far_polish_is(inverter, encoder, vectors):
    shares = []
    refine(inverter, encoder, vectors, rounds=2, candidates=1, show=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len([share for share in shares if 0.5 < share < 1]) >= 3


def test_case_is_settled_also_where_the_encoder_reads_spaces(inverter, monkeypatch):
    target = np.eye(1, inverter.fingerprint.dimension, dtype=np.float32)[0]
    likely = {"a red boat, here": 3, "A red boat, here": 1, "a red boat,here": 4, "A red boat,here": 2}

    def likelihoods(rows, texts, **_):
        return np.array([likely.get(text, 0) for text in texts], float)

    class Caseless(LetterEncoder):
        def encode(self, texts):
            return np.stack([target if text.lower() in self.alike else np.roll(target, 1) for text in texts])

    monkeypatch.setattr(inverter, "log_probabilities", likelihoods)
    for alike, given in (({"a red boat, here"}, "a red boat, here"), (set(likely), "a red boat,here")):
        found = search.Search(0, target, 3, False, True)
        encoder = Caseless()
        encoder.alike = alike
        batch = refinement._Batch(inverter, encoder, inverter.rows(target), [found], 24, None, lambda: None)
        batch._compare([(0, "A red boat, here")])
        batch._settle([found])
        assert found.best == given
