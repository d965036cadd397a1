"""Confidence is a probability: it holds on sentences it was not fitted on, and stays one whatever it was fitted on."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import LetterEncoder
from sklearn.linear_model import LogisticRegression

from vec2text.calibration import _RIDGE, Calibration, _closeness
from vec2text.evaluation import calibrate, reliability
from vec2text.metrics import reliability_error
from vec2text.refinement import refine

SURE = Calibration(closeness=2.0, case_odds=1.0, bias=-8.0, fitted_on=100)


def draw(count, seed=0, truth=SURE):
    """Reconstructions, and which of them are exact when `truth` says how likely each is."""
    random = np.random.default_rng(seed)
    similarities = 1 - 10 ** -random.uniform(0, 6, count)
    known = similarities, random.random(count) ** 0.2
    return known, random.random(count) < truth.confidences(*known)


def test_where_the_case_is_certain_it_is_logistic_regression_as_scikit_learn_does_it():
    (similarities, _), exact = draw(400)
    hits = exact.sum()
    targets = np.where(exact, (hits + 1) / (hits + 2), 1 / (400 - hits + 2))
    near = _closeness(similarities)[:, None]
    # A target between 0 and 1 is a sample of both classes.
    theirs = LogisticRegression(C=1 / _RIDGE, tol=1e-10, max_iter=1000)
    theirs.fit(np.tile(near, (2, 1)), [1] * 400 + [0] * 400, np.concatenate([targets, 1 - targets]))
    fitted = SURE.with_prospects(similarities, exact)
    assert fitted.prospect_closeness == pytest.approx(theirs.coef_[0, 0], abs=1e-4)
    assert fitted.prospect_bias == pytest.approx(theirs.intercept_[0], abs=1e-4)
    np.testing.assert_allclose(fitted.prospects(similarities), theirs.predict_proba(near)[:, 1], atol=1e-4)


def test_it_is_what_was_drawn_from():
    known, exact = draw(20_000)
    fitted = Calibration.fit(*known, exact)
    for name in ("closeness", "case_odds"):
        assert getattr(fitted, name) == pytest.approx(getattr(SURE, name), rel=0.1)
    assert fitted.bias == pytest.approx(SURE.bias, rel=0.1)


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
def test_of_a_met_vector_confidence_is_what_the_gpt_says_of_the_case(probability):
    (sure,) = SURE.confidences(np.ones(1), np.array([probability]))
    assert sure == pytest.approx(probability, abs=0.02)


def test_what_was_fitted_holds_on_others():
    fitted = Calibration.fit(*draw(500)[0], draw(500)[1])
    known, exact = draw(5000, seed=1)
    assert reliability_error(fitted.confidences(*known), exact) < 0.04
    assert reliability_error(np.full(5000, 0.9), exact) > 0.2  # the measure can fail


@pytest.mark.parametrize("seed", range(5))
def test_closer_and_likelier_texts_are_never_less_sure(seed):
    """Also where the sentences that it was fitted on say nothing, or the contrary."""
    known, exact = draw(60, seed)
    closer, likelier = np.linspace(-1, 1, 50), np.linspace(0, 1, 50)
    for truth in (exact, np.random.default_rng(seed).random(60) < 0.5, ~exact):
        fitted = Calibration.fit(*known, truth)
        assert (np.diff(fitted.confidences(closer, np.full(50, 0.9))) >= 0).all()
        assert (np.diff(fitted.confidences(np.full(50, 0.9), likelier)) >= 0).all()
    fitted = Calibration.fit(*known, exact)
    assert np.ptp(fitted.confidences(closer, np.full(50, 0.9))) > 0.1


def test_a_text_of_the_same_vector_in_an_unlikely_case_is_less_sure():
    usual, odd = SURE.confidences(np.ones(2), np.array([0.999, 0.1]))
    assert usual > 0.95 > 0.2 > odd


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("value", [True, False])
def test_where_all_are_alike_it_is_nearly_sure_and_never_quite(count, value):
    (similarities, _), _ = draw(count)
    known = similarities, np.full(count, 0.999)
    sure = Calibration.fit(*known, np.full(count, value)).confidences(*known)
    expected = (count + 1) / (count + 2) if value else 1 / (count + 2)
    assert sure.mean() == pytest.approx(expected, abs=0.02)
    assert ((sure > 0) & (sure < 1)).all()


def test_where_a_line_tells_them_apart_it_ends():
    known, _ = draw(100)
    exact = known[0] > 0.99
    sure = Calibration.fit(*known, exact).confidences(*known)
    assert ((sure > 0.5) == exact).mean() > 0.95
    assert ((sure > 0) & (sure < 1)).all()


def test_what_is_the_same_everywhere_says_nothing():
    known, exact = draw(100)
    fitted = Calibration.fit(known[0], np.ones(100), exact)
    assert fitted.case_odds == pytest.approx(1, abs=0.3)  # the GPT is believed, as nothing speaks against it
    assert fitted.closeness > 0


def test_nothing_to_fit_on_is_refused():
    none = np.zeros(0)
    with pytest.raises(ValueError, match="no reconstruction to calibrate confidence on"):
        Calibration.fit(none, none, none.astype(bool))


def test_any_input_gives_a_probability():
    extreme = (
        np.array([-1.0, 0.0, 1.0, 1 + 1e-6]),
        np.array([0.0, 1.0, 1e-300, 0.5]),
    )
    for weights in (SURE, replace(SURE, closeness=1e4, bias=-1e4)):
        sure = weights.confidences(*extreme)
        assert ((sure >= 0) & (sure <= 1)).all()
    assert SURE.confidences(*(np.zeros(0),) * 2).shape == (0,)


def test_the_same_sentences_give_the_same_calibration_and_json_keeps_it():
    known, exact = draw(80)
    fitted = Calibration.fit(*known, exact)
    assert Calibration.fit(*known, exact) == fitted
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"calibration is '\[\]'; expected the numbers bias, case_odds, closeness, fitted_on"),
        ("isotonic", "calibration is 'isotonic'; expected"),
        (
            {"closeness": 1.9, "case": 1.2, "bias": -13.7, "fitted_on": 9},
            "One of an older version: take it out of inve",
        ),
        ({"bias": 1.0}, "calibration is .*; expected the numbers"),
        ({**SURE.to_dict(), "more": 1.0}, "calibration is .*; expected the numbers"),
        ({**SURE.to_dict(), "bias": "high"}, "calibration.bias is 'high'; expected a finite number"),
        ({**SURE.to_dict(), "case_odds": float("nan")}, "calibration.case_odds is nan; expected a finite number"),
        ({**SURE.to_dict(), "closeness": None}, "calibration.closeness is None; expected a finite number"),
    ],
)
def test_what_is_no_calibration_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict(values)


# -- of an inverter ----------------------------------------------------------------------------------------------------


class Caseless(LetterEncoder):
    """An encoder that reads no case, as MiniLM."""

    def encode(self, texts):
        return super().encode([text.lower() for text in texts])


def test_an_inverter_is_calibrated_on_plain_and_refined_texts(inverter, sentences):
    encoder = Caseless()
    vectors = encoder.encode(sentences[:12])
    plain, refined = refine(inverter, encoder, vectors, rounds=0), refine(inverter, encoder, vectors, polish=False)
    # Half of what comes back is right, by fiat, and as close as can be.
    references = [result.text if place % 2 else "no" for place, result in enumerate(refined)]
    fitted = calibrate(inverter, encoder, references, vectors)
    assert fitted.fitted_on == 24
    assert calibrate(inverter, encoder, references, vectors) == fitted
    texts = [result.text for result in (*plain, *refined)]
    known = inverter.case_probabilities(inverter.rows(np.tile(vectors, (2, 1))), texts)
    similarities = np.array([result.similarity for result in (*plain, *refined)])
    exact = np.array([text == reference for text, reference in zip(texts, references * 2, strict=True)])
    assert 0 < exact.sum() < 24
    again = Calibration.fit(similarities, known, exact)
    sure = replace(fitted, prospect_closeness=0.0, prospect_bias=0.0)
    assert sure.to_dict() == pytest.approx(again.to_dict(), rel=1e-3)
    assert fitted.prospect_bias < 0  # next to nothing was found


def test_reliability_says_how_many_are_right_and_how_sure_they_were():
    found = reliability(["a", "b", "c", "d"], ["a", "b", "x", "y"], np.array([0.95, 0.95, 0.15, 0.15]))
    assert found == {"sentences": 4, "exact_match": 0.5, "confidence": 0.55, "reliability_error": 0.1}


def test_prospects_are_fitted_on_searches_and_rise_with_similarity():
    random = np.random.default_rng(0)
    similarities = 1 - 10 ** -random.uniform(0, 3, 2000)
    found = random.random(2000) < similarities**8
    fitted = SURE.with_prospects(similarities, found)
    grid = np.linspace(0.1, 0.99, 20)
    assert (np.diff(fitted.prospects(grid)) > 0).all()
    assert reliability_error(fitted.prospects(similarities), found) < 0.08
    assert replace(fitted, prospect_closeness=0.0, prospect_bias=0.0) == SURE  # confidence is left as it was
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_prospects_that_nobody_fitted_leave_all_open():
    assert SURE.with_prospects(np.zeros(0), np.zeros(0, bool)) == SURE
    np.testing.assert_allclose(SURE.prospects(np.array([-1.0, 0.5, 1.0])), 0.5)
    older = {name: value for name, value in SURE.to_dict().items() if not name.startswith("prospect")}
    assert Calibration.from_dict(older) == SURE
