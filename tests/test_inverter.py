import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vec2text.calibration import Calibration
from vec2text.paths import explore

CALIBRATION = Calibration(closeness=1.5, case_odds=0.5, bias=-5.0, fitted_on=200)


def test_loss_is_the_shifted_cross_entropy_written_by_hand(inverter, batch):
    vectors, ids, lengths = batch
    total, count = 0.0, 0
    for row in range(len(ids)):
        tokens = ids[row, : lengths[row]]
        prefix = inverter.projection(vectors[row : row + 1])
        inputs = torch.cat([prefix, inverter.decoder.get_input_embeddings()(tokens)[None]], 1)
        logits = inverter.decoder(inputs_embeds=inputs).logits[0]
        for place, target in enumerate([*tokens.tolist(), inverter.end_id]):
            total -= logits[prefix.shape[1] - 1 + place].log_softmax(-1)[target].item()
            count += 1
    assert inverter(vectors, ids, lengths).item() == pytest.approx(total / count, rel=1e-5)


def test_padding_and_batch_size_do_not_change_the_loss(inverter, batch):
    vectors, ids, lengths = batch
    whole = inverter(vectors, ids, lengths).item()
    garbage = torch.randint(0, 200, (len(ids), 5))
    places = torch.arange(ids.shape[1] + 5)
    padded = torch.where(places < lengths[:, None], F.pad(ids, (0, 5)), torch.cat([ids, garbage], 1))
    assert inverter(vectors, padded, lengths).item() == pytest.approx(whole, rel=1e-5)
    singles = [inverter(vectors[i : i + 1], ids[i : i + 1, : lengths[i]], lengths[i : i + 1]).item() for i in range(4)]
    assert np.average(singles, weights=lengths + 1) == pytest.approx(whole, rel=1e-5)


def test_no_logit_sees_a_later_token(inverter, batch):
    vectors, ids, _ = batch
    states = inverter._text_states(vectors, ids)
    for place in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % 200
        others = inverter._text_states(vectors, changed)
        assert torch.allclose(states[:, : place + 1], others[:, : place + 1], atol=1e-5)
        assert not torch.allclose(states[:, place + 1], others[:, place + 1], atol=1e-3)


def test_the_gradient_reaches_every_weight_of_the_projection(inverter, batch):
    inverter(*batch).backward()
    for name, parameter in inverter.projection.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_log_probability_of_a_text_is_the_loss_that_it_had_in_training(inverter, batch, sentences):
    vectors, ids, lengths = batch
    texts = [sentences[place] for place in (0, 77, 431, 599)]
    inverter.train()
    found = inverter.log_probabilities(vectors, texts)
    assert inverter.training
    inverter.eval()
    for row, mean in enumerate(found / (lengths + 1).numpy()):
        loss = inverter(vectors[row : row + 1], ids[row : row + 1, : lengths[row]], lengths[row : row + 1]).item()
        assert mean == pytest.approx(-loss, rel=1e-4)
    np.testing.assert_allclose(inverter.log_probabilities(vectors, texts, batch_size=3), found, rtol=1e-4)


def test_a_text_is_as_likely_as_when_it_is_written_token_by_token(inverter, encoder, sentences):
    rows = inverter.rows(encoder.encode(sentences[:90:9]))
    texts = sentences[200:300:10]
    tokens = inverter.tokenizer(texts, add_special_tokens=False)["input_ids"]
    begin = [[*ids, inverter.end_id] for ids in tokens]
    paths = explore(inverter.decoder, inverter.prefixes(rows), inverter.end_id, 60, begin=begin)
    assert [path.ids for path in paths] == begin
    expected = [path.log_probabilities.sum() for path in paths]
    np.testing.assert_allclose(inverter.log_probabilities(rows, texts), expected, rtol=1e-3)


def test_the_probability_of_a_case_is_that_among_its_variants(inverter, batch):
    texts = ["Anna met Tom.", "anna met tom.", "", "7"]
    cases = inverter.case_probabilities(batch[0], texts)
    variants = {
        "Anna met Tom.": ["anna met tom.", "anna met Tom.", "Anna met tom."],
        "anna met tom.": ["Anna met tom."],
    }
    for row, text in enumerate(texts):
        some = [text, *variants.get(text, [])]
        sums = inverter.log_probabilities(batch[0][[row] * len(some)], some)
        assert cases[row] == pytest.approx(np.exp(sums[0]) / np.exp(sums).sum(), rel=1e-2)
    assert 0 < cases[0] < 1
    assert cases[2:].tolist() == [1, 1]  # there is but one way to write these
    assert inverter.case_probabilities(batch[0][:0], []).shape == (0,)


def test_an_empty_text_and_one_that_is_too_long_have_a_log_probability(inverter, batch):
    texts = ["", "", "long " * 200, "\ufffd" * 200]
    found = inverter.log_probabilities(batch[0], texts)  # of the GPT's 64 positions none is left
    assert np.isfinite(found).all()
    logits = inverter.decoder(inputs_embeds=inverter.prefixes(batch[0])).logits[:, -1].log_softmax(-1)
    np.testing.assert_allclose(found[:2], logits[:2, inverter.end_id].detach(), rtol=1e-4)
    assert inverter.log_probabilities(batch[0][:0], []).shape == (0,)


@pytest.mark.parametrize("kind", ["numpy", "torch", "list"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_any_float_input_gives_the_same_text(inverter, encoder, sentences, kind, dtype):
    vectors = encoder.encode(sentences[:3]).astype("float16").astype(dtype)
    expected = inverter.invert(vectors.astype("float32"))
    given = {"numpy": vectors, "torch": torch.from_numpy(vectors), "list": vectors.tolist()}[kind]
    assert inverter.invert(given) == expected
    assert inverter.invert(given[1]) == expected[1:2]


def test_bfloat16_input_and_no_input(inverter, encoder, sentences):
    vectors = torch.from_numpy(encoder.encode(sentences[:2])).bfloat16()
    assert inverter.invert(vectors) == inverter.invert(vectors.float())
    assert inverter.invert(np.zeros((0, 32))) == []


def test_the_vectors_given_are_not_changed(inverter, encoder, sentences):
    vectors = torch.from_numpy(encoder.encode(sentences[:2]))
    before = vectors.clone()
    inverter.invert(vectors)
    assert torch.equal(vectors, before)


def test_order_and_text_do_not_depend_on_the_batch_size(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[::40])
    for options in ({}, {"num_beams": 3}, {"temperature": 1.0, "seed": 3}):
        expected = inverter.invert(vectors, batch_size=1, **options)
        assert inverter.invert(vectors, batch_size=4, **options) == expected
        assert inverter.invert(vectors, **options) == expected


def test_a_generator_goes_on_from_call_to_call(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[:6])
    generator = torch.Generator().manual_seed(5)
    halves = [inverter.invert(part, temperature=1.0, seed=generator) for part in (vectors[:3], vectors[3:])]
    assert halves[0] + halves[1] == inverter.invert(vectors, temperature=1.0, seed=5)
    assert inverter.invert(vectors, temperature=1.0) != inverter.invert(vectors, temperature=1.0)


def test_every_text_is_one_line(inverter, encoder, sentences):
    for text in inverter.invert(encoder.encode(sentences[:50]), temperature=1.5, seed=0):
        assert len(text.splitlines()) <= 1


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 31)), "dimension 31.*dimension 32"),
        (np.full((1, 32), np.nan), "row 0 holds NaN"),
        (np.concatenate([np.ones((2, 32)), np.zeros((1, 32))]) / 32**0.5, "row 2 is all zeros"),
        (np.ones((2, 2, 32)), "shape"),
    ],
)
def test_vectors_that_no_encoder_makes_are_refused(inverter, vectors, message):
    with pytest.raises(ValueError, match=message):
        inverter.invert(vectors)


def test_a_norm_that_contradicts_the_encoder_warns(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[:2])
    with pytest.warns(UserWarning, match="check that they come from"):
        inverter.invert(7 * vectors)


def test_more_tokens_than_the_gpt_has_room_for_are_refused(inverter, encoder):
    with pytest.raises(ValueError, match=r"max_tokens is 62.*room for 61"):
        inverter.invert(encoder.encode(["Anna."]), max_tokens=62)
