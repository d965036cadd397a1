"""Refinement never loses what it has, counts what it asks, and finds what plain inversion misses."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import LetterEncoder

from vec2text import refinement, search, writing
from vec2text.calibration import Calibration
from vec2text.constraints import Constraints
from vec2text.edits import edits
from vec2text.paths import Path, explore, read
from vec2text.refinement import RefinementStopped, refine
from vec2text.search import EXACT
from vec2text.sentences import case_variants


@pytest.fixture(autouse=True)
def unpolished(monkeypatch):
    """What the rounds do by themselves; polish has tests of its own."""
    monkeypatch.setattr("vec2text.refinement._Batch._polish", lambda *_: [])


@pytest.fixture
def vectors(encoder, sentences):
    return encoder.encode(sentences[:40:4])


class Aimed(LetterEncoder):
    """Gives some texts vectors of one's own."""

    def __init__(self, own):
        super().__init__()
        self.own = own

    def encode(self, texts):
        found = super().encode(texts)
        for row, text in enumerate(texts):
            if text in self.own:
                found[row] = self.own[text]
        return found


def similarity(encoder, text, vector):
    return float(encoder.encode([text])[0] @ vector)


def test_no_rounds_are_plain_inversion_and_one_query_each(inverter, vectors):
    encoder = LetterEncoder()
    found = refine(inverter, encoder, vectors, rounds=0)
    assert [result.text for result in found] == inverter.invert(vectors)
    assert {(result.queries, result.rounds) for result in found} == {(1, 0)}
    assert encoder.queries <= len(vectors)


@pytest.mark.parametrize("in_bf16", [True, False])
def test_the_first_text_is_plain_inversion_and_the_others_are_written_in_bf16(
    inverter, encoder, vectors, monkeypatch, in_bf16
):
    monkeypatch.setattr("vec2text.refinement.bf16", lambda precision, device: in_bf16)
    types = []

    def watched(decoder, prefixes, *arguments, **options):
        types.append((decoder.dtype, prefixes.dtype))
        return explore(decoder, prefixes, *arguments, **options)

    monkeypatch.setattr("vec2text.writing.explore", watched)
    found = refine(inverter, encoder, vectors, rounds=2)
    assert [result.history[0][0] for result in found] == inverter.invert(vectors)
    later = torch.bfloat16 if in_bf16 else torch.float32
    assert types[0] == (torch.float32, torch.float32)
    assert set(types[1:]) == {(later, later)}
    assert inverter.decoder.dtype == torch.float32


@pytest.mark.parametrize("in_bf16", [True, False])
def test_similarity_never_falls_and_is_that_of_the_text(inverter, encoder, vectors, monkeypatch, in_bf16):
    monkeypatch.setattr("vec2text.refinement.bf16", lambda precision, device: in_bf16)
    found = refine(inverter, encoder, vectors, rounds=3, candidates=3)
    for result, vector in zip(found, vectors, strict=True):
        steps = [similarity(encoder, text, vector) for text, _ in result.history]
        assert all(later >= earlier - 1e-6 for earlier, later in pairwise(steps))
        assert result.similarity == pytest.approx(similarity(encoder, result.text, vector), abs=1e-5)
        assert result.similarity == max(hypothesis.similarity for hypothesis in result.hypotheses)
        assert (result.hypotheses[0].text, result.queries) == (result.text, len(result.hypotheses))
    assert any(result.text != result.history[0][0] for result in found)  # or nothing was refined at all


def test_what_is_counted_is_what_is_asked(inverter, vectors, in_fp32):
    encoder = LetterEncoder()
    found = refine(inverter, encoder, vectors[:1], rounds=3, candidates=4)
    assert found[0].queries == encoder.queries
    # The text, branches, and from the second round on edits, up to three times.
    assert found[0].queries <= 1 + 3 * 4 + 2 * 3 * 2 * 4
    together = LetterEncoder()
    many = refine(inverter, together, np.concatenate([vectors[:1]] * 5), rounds=3, candidates=4)
    assert together.queries == encoder.queries  # the same texts for all five: encoded once
    assert {result.text for result in many} == {found[0].text}


def test_more_rounds_begin_as_fewer_do_and_the_batch_changes_nothing(inverter, encoder, vectors, in_fp32):
    few = refine(inverter, encoder, vectors, rounds=1, candidates=3)
    more = refine(inverter, encoder, vectors, rounds=3, candidates=3, batch_size=3)
    for short, long in zip(few, more, strict=True):
        assert long.history[: len(short.history)] == short.history


class Hasty:
    """An encoder for which every text is the right one."""

    name, dimension = "hasty", 32

    def __init__(self, vector):
        self.vector, self.queries = vector, 0

    def encode(self, texts):
        self.queries += len(texts)
        return np.repeat(self.vector[None], len(texts), 0)


def test_a_vector_whose_text_is_exact_takes_no_more_queries(inverter, vectors):
    encoder = Hasty(vectors[0])
    (result,) = refine(inverter, encoder, vectors[:1], rounds=9, candidates=9)
    assert result.similarity >= EXACT
    assert (result.queries, encoder.queries, result.rounds) == (1, 1, 0)


def test_early_stop_changes_no_text_and_saves_queries(inverter, encoder, vectors, in_fp32):
    aims = [result.hypotheses[1].text for result in refine(inverter, encoder, vectors[:4], rounds=1, candidates=4)]
    aimed = Aimed(dict(zip(aims, vectors, strict=False)))
    stopped = refine(inverter, aimed, vectors, rounds=3, candidates=4)
    going = refine(inverter, aimed, vectors, rounds=3, candidates=4, early_stop=False)
    assert [result.text for result in stopped] == [result.text for result in going]
    for short, long in zip(stopped, going, strict=True):
        assert set(short.hypotheses) <= set(long.hypotheses)
        assert (short.queries < long.queries) is (short.similarity >= EXACT)
    assert [result.rounds for result in stopped[:4]] == [1] * 4
    assert {result.rounds for result in going} == {3}


def test_an_exact_text_is_one_whose_vector_is_the_target(inverter, encoder, vectors):
    """Aim at a text that is a branch of the greedy one: it is found, and the search ends there."""
    first = refine(inverter, encoder, vectors[:1], rounds=1, candidates=8)[0]
    aim = next(hypothesis.text for hypothesis in first.hypotheses[::-1] if hypothesis.text != first.history[0][0])
    (result,) = refine(inverter, Aimed({aim: vectors[0]}), vectors[:1], rounds=9, candidates=8)
    assert (result.text, result.rounds) == (aim, 1)
    assert result.queries < 9 * 8


class Failing(LetterEncoder):
    """An encoder that is gone after some calls."""

    def __init__(self, calls):
        super().__init__()
        self.left = calls

    def encode(self, texts):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("nobody answers")
        return super().encode(texts)


BUDGET = {"rounds": 2, "candidates": 3, "batch_size": 4}


def test_what_was_found_before_the_encoder_failed_is_kept(inverter, encoder, vectors, monkeypatch):
    monkeypatch.setattr(refinement, "_STEPS", 0)  # no edits: their number of calls is not known before
    whole = refine(inverter, encoder, vectors, **BUDGET)
    for calls in range(9):  # three batches of 4, 4 and 2 vectors, and three calls for each
        inverter.train()
        with pytest.raises(RefinementStopped) as stop:
            refine(inverter, Failing(calls), vectors, **BUDGET)
        assert inverter.training
        found = stop.value.reconstructions
        ended, begun = 4 * (calls // 3), min(4, 10 - 4 * (calls // 3)) if calls % 3 else 0
        assert found[:ended] == whole[:ended]
        assert found[ended + begun :] == [None] * (10 - ended - begun)
        for part, entire in zip(found[ended : ended + begun], whole[ended:], strict=False):
            assert part.history == entire.history[: calls % 3]
            assert (part.text, part.queries) == part.history[-1]
            assert part.rounds == calls % 3 - 1
        assert (stop.value.finished, stop.value.begun) == (ended, begun)
        said = f"with {ended} of 10 vectors done and {begun} done in part: encoder 'letters' failed on"
        assert said in str(stop.value)
        assert "ConnectionError: nobody answers" in str(stop.value.__cause__)
    assert refine(inverter, Failing(9), vectors, **BUDGET) == whole


def test_what_was_found_before_the_encoder_failed_while_editing_is_kept(inverter, encoder, vectors):
    whole = refine(inverter, encoder, vectors, **BUDGET)
    stopped = []
    for calls in range(100):
        try:
            assert refine(inverter, Failing(calls), vectors, **BUDGET) == whole
            break
        except RefinementStopped as stop:
            stopped.append(stop)
    else:
        pytest.fail("it asks without end")
    assert len(stopped) > 9  # editing asks as well
    for stop in stopped:
        assert stop.reconstructions[: stop.finished] == whole[: stop.finished]
        for part, entire in zip(stop.reconstructions, whole, strict=True):
            if part is not None:
                assert part.history[:-1] == entire.history[: len(part.history) - 1]
                assert part.history[-1] == (part.text, part.queries)
                assert set(part.hypotheses) <= set(entire.hypotheses)


def test_a_vector_whose_text_is_exact_is_done_when_the_encoder_fails(inverter, encoder, vectors):
    """Of two vectors one is that of its own plain text."""
    plain = inverter.invert(vectors[:1])

    class Aimed(Failing):
        def encode(self, texts):
            found = super().encode(texts)
            found[[text in plain for text in texts]] = vectors[0]
            return found

    with pytest.raises(RefinementStopped) as stop:
        refine(inverter, Aimed(1), vectors[:2], rounds=2)
    assert (stop.value.finished, stop.value.begun) == (1, 1)
    assert stop.value.reconstructions[0].similarity >= EXACT


@pytest.mark.parametrize("option", ["rounds", "candidates"])
def test_negative_budgets_are_refused(inverter, encoder, vectors, option):
    with pytest.raises(ValueError, match=rf"{option} is -1; expected at least 0"):
        refine(inverter, encoder, vectors, **{option: -1})


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_nothing_are_refused(inverter, encoder, vectors, size):
    for call in (
        lambda: inverter.invert(vectors, batch_size=size),
        lambda: refine(inverter, encoder, vectors, batch_size=size),
    ):
        with pytest.raises(ValueError, match=f"batch_size is {size}; expected at least 1"):
            call()


def test_no_candidates_are_no_refinement(inverter, encoder, vectors):
    assert {result.queries for result in refine(inverter, encoder, vectors, candidates=0)} == {1}


@pytest.mark.parametrize("rounds", [0, 2])
def test_confidence_is_what_the_calibration_says_of_the_text(inverter, encoder, vectors, rounds, in_fp32):
    plain = refine(inverter, encoder, vectors, rounds=rounds)
    assert {result.confidence for result in plain} == {None}
    inverter.calibration = Calibration(1.0, 0.5, 0.0, 10)
    found = refine(inverter, encoder, vectors, rounds=rounds)
    assert [replace(result, confidence=None) for result in found] == plain
    texts, similarities = zip(*((result.text, result.similarity) for result in found), strict=True)
    known = inverter.case_probabilities(inverter.rows(vectors), texts)
    expected = inverter.calibration.confidences(np.array(similarities), known)
    np.testing.assert_allclose([result.confidence for result in found], expected, rtol=1e-4)
    assert np.ptp(expected) > 0.01
    assert ((expected > 0) & (expected < 1)).all()
    again = refine(inverter, encoder, vectors, rounds=rounds, batch_size=3)
    assert [result.confidence for result in again] == pytest.approx([result.confidence for result in found], rel=1e-3)


@pytest.fixture
def edited(inverter, encoder, vectors, monkeypatch, in_fp32):
    """A vector, its closest text when round two begins to edit, the likeliest edit, and the likeliest of that."""
    monkeypatch.setattr(writing, "_READ", 1000)
    monkeypatch.setattr(search, "_EDITS", 0)
    closest = [result.text for result in refine(inverter, encoder, vectors, rounds=2)]
    monkeypatch.setattr(search, "_EDITS", 64)
    place = max(range(len(closest)), key=lambda place: len(list(edits(closest[place]))))
    texts = [closest[place]]
    for _ in range(2):
        near = [text for text in edits(texts[-1]) if text not in texts]
        likely = inverter.log_probabilities(inverter.rows(vectors[[place] * len(near)]), near)
        texts.append(near[int(likely.argmax())])
    return vectors[place : place + 1], texts


def test_edits_of_the_closest_text_are_proposed(inverter, edited, monkeypatch):
    target, (_, aim, _) = edited
    encoder = Aimed({aim: target[0]})
    (result,) = refine(inverter, encoder, target, rounds=2)
    assert (result.text, result.rounds) == (aim, 2)
    monkeypatch.setattr(search, "_EDITS", 0)
    (result,) = refine(inverter, encoder, target, rounds=2)
    assert result.text != aim


def test_what_an_edit_brought_closer_is_edited_again_in_the_same_round(inverter, edited, monkeypatch):
    target, (_, step, aim) = edited
    aside = target[0] + 0.05 * np.linalg.norm(target[0]) * np.eye(1, target.shape[1], dtype=np.float32)[0]
    encoder = Aimed({step: aside, aim: target[0]})
    (result,) = refine(inverter, encoder, target, rounds=2)
    assert (result.text, result.rounds) == (aim, 2)
    monkeypatch.setattr(refinement, "_STEPS", 1)
    (result,) = refine(inverter, encoder, target, rounds=2)
    assert result.text == step


def test_a_token_is_put_in_exchanged_and_left_out():
    end, others = 9, np.array([[1], [9], [3]])
    path = Path([5, 6, end], np.zeros(3), others, np.zeros((3, 1)))
    assert list(writing._changes(path, end)) == [[1, 5, 6], [1, 6], [6], [5], [5, 6, 3]]
    unended = Path([5, 6], np.zeros(2), others[::2], np.zeros((2, 1)))  # as long as a text may be
    assert list(writing._changes(unended, end)) == [[1, 5, 6], [1, 6], [6], [5, 3, 6], [5, 3], [5]]
    single = Path([5, end], np.zeros(2), others[:2], np.zeros((2, 1)))
    assert [] not in list(writing._changes(single, end))  # something is left


@pytest.fixture
def found_edits(monkeypatch):
    """All edits that are found: texts and their tokens."""
    found = {}
    own = writing.Writer._edited

    def noted(writer, path, text):
        edited = own(writer, path, text)
        found.update(edited)
        return edited

    monkeypatch.setattr(writing.Writer, "_edited", noted)
    return found


def test_edits_may_be_as_long_as_a_text_may_be(inverter, encoder, vectors, found_edits):
    refine(inverter, encoder, vectors, rounds=2, max_tokens=4)
    assert {len(tokens) for tokens in found_edits.values()} <= {2, 3, 4}
    unended = {text: ids for text, ids in found_edits.items() if ids[-1] != inverter.end_id}
    assert unended  # no plain text of these vectors ends before
    assert {len(tokens) for tokens in unended.values()} == {4}
    assert inverter.texts(list(unended.values())) == list(unended)


def test_edits_obey_constraints(inverter, encoder, vectors, found_edits):
    asked = Constraints(max_words=1)
    refine(inverter, encoder, vectors, rounds=2)
    assert not all(map(asked.obeyed_by, found_edits))
    found_edits.clear()
    refine(inverter, encoder, vectors, rounds=2, constraints=asked)
    assert found_edits
    assert all(map(asked.obeyed_by, found_edits))


def test_of_what_the_encoder_cannot_tell_apart_the_likeliest_case_is_kept(inverter, vectors, monkeypatch):
    class Blind(LetterEncoder):
        """Reads no case, and takes one text for the right one, in any."""

        aim = ""

        def encode(self, texts):
            found = super().encode([text.lower() for text in texts])
            found[[text.lower() == self.aim for text in texts]] = vectors[0]
            return found

    def fewest_capitals(rows, texts):
        assert len(rows) == len(texts)
        return -np.array([sum(letter.isupper() for letter in text) for text in texts])

    encoder = Blind()
    monkeypatch.setattr(inverter, "log_probabilities", fewest_capitals)
    first = refine(inverter, encoder, vectors[:1], rounds=1, candidates=8)[0]
    changed = 0
    for hypothesis in first.hypotheses:
        encoder.aim = hypothesis.text.lower()
        (result,) = refine(inverter, encoder, vectors[:1], rounds=1, candidates=8)
        if result.rounds:  # not the plain text, which is as plain inversion writes it
            assert result.text == min(case_variants(hypothesis.text), key=lambda text: sum(map(str.isupper, text)))
            assert result.similarity >= EXACT
            changed += result.text != hypothesis.text
    assert changed


def test_a_variant_that_the_encoder_tells_apart_is_not_preferred(inverter, encoder, vectors):
    first = refine(inverter, encoder, vectors[:1], rounds=1, candidates=8)[0]
    for aim in (hypothesis.text for hypothesis in first.hypotheses):
        (result,) = refine(inverter, Aimed({aim: vectors[0]}), vectors[:1], rounds=1, candidates=8)
        assert result.text == aim


def test_a_search_of_poor_prospects_gets_one_new_text_a_round_after_the_first(inverter, encoder, vectors):
    whole = refine(inverter, encoder, vectors, rounds=4, candidates=3)
    inverter.calibration = Calibration(1.0, 0.5, 0.0, 10, prospect_closeness=0.0, prospect_bias=-9.0)
    poor = refine(inverter, encoder, vectors, rounds=4, candidates=3)
    for short, long, vector in zip(poor, whole, vectors, strict=True):
        assert short.history[:2] == long.history[:2]
        assert short.similarity >= similarity(encoder, short.history[1][0], vector) - 1e-5
        assert [b - a for (_, a), (_, b) in pairwise(short.history[1:])] == [1, 1, 1]
    assert min(result.queries for result in whole) > max(result.queries for result in poor)


def test_after_a_round_that_brought_nothing_little_is_tried(inverter, encoder, vectors, in_fp32):
    found = refine(inverter, encoder, vectors, rounds=6, candidates=3)
    rounds = [result.history[place - 2 : place + 1] for result in found for place in range(3, len(result.history))]
    after = [(now[1] - last[1], last[0] == before[0]) for before, last, now in rounds]
    assert {barren for _, barren in after} == {True, False}
    assert max(new for new, barren in after if barren) == 1
    assert max(new for new, barren in after if not barren) > 3


@pytest.mark.parametrize(("candidates", "promising"), [(1, False), (2, True)])
def test_the_more_is_asked_for_the_poorer_prospects_may_be(inverter, encoder, vectors, candidates, promising):
    whole = refine(inverter, encoder, vectors, rounds=2, candidates=candidates)
    inverter.calibration = Calibration(1.0, 0.5, 0.0, 10, prospect_closeness=0.0, prospect_bias=-1.5)  # 0.18
    found = refine(inverter, encoder, vectors, rounds=2, candidates=candidates)
    assert ([result.queries for result in found] == [result.queries for result in whole]) is promising


def test_the_likelihood_of_a_text_is_the_same_whoever_reads_it(inverter, vectors):
    rows = inverter.rows(vectors[:1])
    texts = ["Anna sees a red boat.", "Anna", "The baker wants an empty box at night."]
    ids = [[*inverter.tokenizer(text)["input_ids"], inverter.end_id] for text in texts]
    expected = inverter.log_probabilities(rows[[0, 0, 0]], texts)
    prefix = inverter.prefixes(rows)

    def likelihoods(texts, prefixes=prefix, **options):
        return read(inverter.decoder, prefixes, texts, after=[0] * len(texts), **options)

    np.testing.assert_allclose(likelihoods(ids), expected, rtol=1e-4)
    np.testing.assert_allclose(likelihoods(ids[1:2]), expected[1:2], rtol=1e-4)
    np.testing.assert_allclose(likelihoods([ids[0][:1]]), expected_first(inverter, prefix, ids[0][0]), rtol=1e-4)
    many = [ids[place % 3] for place in range(1030)]  # more than are read together
    np.testing.assert_allclose(likelihoods(many), np.resize(expected, 1030), rtol=1e-4)
    padded = torch.cat([torch.randn(1, 2, prefix.shape[2]), prefix], 1)
    mask = torch.ones(padded.shape[:2], dtype=torch.long)
    mask[:, :2] = 0
    for like in ([], ids[0], ids[2][:4], ids[1]):
        np.testing.assert_allclose(likelihoods(ids, like=[like]), expected, rtol=1e-4)
        np.testing.assert_allclose(likelihoods(ids, padded, like=[like], mask=mask), expected, rtol=1e-4)


def test_texts_of_several_prefixes_are_read_together(inverter, vectors):
    rows = inverter.rows(vectors)
    texts = ["Anna sees a red boat.", "Anna sees a boat.", "The baker wants an empty box at night.", "Anna"]
    ids = [[*inverter.tokenizer(text)["input_ids"], inverter.end_id] for text in texts]
    after = [1, 0, 1, 0]
    expected = inverter.log_probabilities(rows[after], texts)
    prefixes = inverter.prefixes(rows[:2])
    for like in (None, [ids[0], ids[3]], [[], ids[2]]):
        found = read(inverter.decoder, prefixes, ids, after=after, like=like)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_only_the_most_promising_are_read(inverter, vectors):
    rows = inverter.rows(vectors[:1])
    own, *others = (
        [*inverter.tokenizer(text)["input_ids"], inverter.end_id]
        for text in (
            "Anna sees a red boat.",
            "Anna sees a big boat.",
            "Anna wants a red boat.",
            "Anna sees a red boat. No",
        )
    )
    prefix = inverter.prefixes(rows)
    whole = read(inverter.decoder, prefix, others, after=[0] * 3, like=[own])
    tokens = inverter.decoder.get_input_embeddings()(torch.tensor(own))
    scores = inverter.decoder(inputs_embeds=torch.cat([prefix[0], tokens])[None]).logits[0, prefix.shape[1] - 1 :]
    scores = scores.log_softmax(-1).detach()
    promise = []
    for text in others:
        place = next(place for place, pair in enumerate(zip(text, own, strict=False)) if pair[0] != pair[1])
        promise.append(scores[place, text[place]] - (0 if len(text) > len(own) else scores[place, own[place]]))
    order = np.argsort(-np.array(promise), kind="stable")
    for most in (1, 2, 3):
        found = read(inverter.decoder, prefix, others, after=[0] * 3, like=[own], most=most)
        np.testing.assert_allclose(found[order[:most]], whole[order[:most]], rtol=1e-4)
        assert np.isneginf(found[order[most:]]).all()


def expected_first(inverter, prefix, token):
    logits = inverter.decoder(inputs_embeds=prefix).logits[0, -1].detach()
    return [float(logits.log_softmax(-1)[token])]


def test_exploring_is_greedy_after_what_is_given_and_notes_the_rest(inverter, vectors):
    prefixes = inverter.prefixes(inverter.rows(vectors))
    plain = explore(inverter.decoder, prefixes, inverter.end_id, 12)
    assert inverter.texts([path.ids for path in plain]) == inverter.invert(vectors, max_tokens=12)
    begin = [path.ids[:place] for place, path in enumerate(plain)]
    again = explore(inverter.decoder, prefixes, inverter.end_id, 12, begin=begin)
    assert [path.ids for path in again] == [path.ids for path in plain]
    for path, prefix in zip(plain, prefixes, strict=True):
        tokens = inverter.decoder.get_input_embeddings()(torch.tensor(path.ids[:-1]))
        logits = inverter.decoder(inputs_embeds=torch.cat([prefix, tokens])[None]).logits[0, len(prefix) - 1 :]
        scores = logits.float().log_softmax(-1).detach()
        np.testing.assert_allclose(path.log_probabilities, scores[range(len(path.ids)), path.ids], atol=1e-4)
        for row, token, others in zip(scores, path.ids, path.other_ids, strict=True):
            assert token not in others
            assert set(others) == set(row.topk(9).indices.tolist()) - {token}


def test_prefixes_are_shared_by_the_texts_that_follow_them(inverter, vectors):
    prefixes = inverter.prefixes(inverter.rows(vectors))
    padded = torch.cat([torch.randn(len(prefixes), 2, prefixes.shape[2]), prefixes], 1)
    mask = torch.ones(padded.shape[:2], dtype=torch.long)
    mask[::2, :2] = 0
    after, begin = [3, 0, 3, 5, 0], [[7, 8], [], [], [9], [7]]
    whole = explore(inverter.decoder, padded[after], inverter.end_id, 12, mask=mask[after], begin=begin)
    shared = explore(inverter.decoder, padded, inverter.end_id, 12, mask=mask, after=after, begin=begin)
    assert [path.ids for path in shared] == [path.ids for path in whole]
    for path, expected in zip(shared, whole, strict=True):
        np.testing.assert_allclose(path.log_probabilities, expected.log_probabilities, atol=1e-4)


def test_a_mask_hides_padding(inverter, vectors):
    prefixes = inverter.prefixes(inverter.rows(vectors))
    padded = torch.cat([torch.randn(len(prefixes), 2, prefixes.shape[2]), prefixes], 1)
    mask = torch.ones(padded.shape[:2], dtype=torch.long)
    mask[:, :2] = 0
    plain = explore(inverter.decoder, prefixes, inverter.end_id, 12)
    hidden = explore(inverter.decoder, padded, inverter.end_id, 12, mask=mask)
    seen = explore(inverter.decoder, padded, inverter.end_id, 12)
    assert [path.ids for path in hidden] == [path.ids for path in plain]
    assert [path.ids for path in seen] != [path.ids for path in plain]


def test_it_is_told_how_far_it_is(inverter, encoder, vectors):
    shares = []
    found = refine(inverter, encoder, vectors, rounds=3, candidates=2, batch_size=4, show=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert len(shares) > -(-len(vectors) // 4)
    assert found == refine(inverter, encoder, vectors, rounds=3, candidates=2, batch_size=4)
    assert refine(inverter, encoder, vectors[:0], show=shares.append) == []
