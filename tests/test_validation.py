"""What a run is judged by: always the same sentences, all of their tokens, and the best by decoded text."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from vec2text.batches import Data, Examples
from vec2text.config import TrainingConfig
from vec2text.evaluation import Evaluation, Scores
from vec2text.validation import Judgement, Validation

ONCE = Scores(exact_match=0.25, bleu=31.26, token_f1=0.5, similarity=0.75)
TWICE = Scores(exact_match=0.5, bleu=20.0, token_f1=0.625, similarity=0.875)
FOUND = Evaluation(["a"], ["b"], np.array([0.75]), ONCE)


@pytest.fixture
def validate(corpus, vectors, encoder, inverter):
    """validate(**options): the validation of a run that is judged on its training sentences, which are more."""
    examples = Examples(corpus, corpus.rows("train"), vectors, inverter.tokenizer, 24)

    def made(encoder=encoder, **options):
        data = Data(corpus, vectors, examples, examples, examples, encoder)
        return Validation(inverter, data, TrainingConfig(steps=1, **options), nullcontext)

    return made


def test_the_loss_is_the_mean_over_all_tokens_however_the_sentences_are_cut(validate, inverter):
    validation = validate(evaluate_sentences=200)
    examples = validation.data.validation
    batch = examples.batch(np.linspace(0, len(examples) - 1, 200).astype(int))
    with torch.inference_mode():
        expected = float(inverter(batch.vectors, batch.ids, batch.lengths))
    assert validation.judge().loss == pytest.approx(expected, rel=1e-5)


def test_samples_are_some_of_the_sentences_and_always_the_same(validate):
    validation = validate(evaluate_sentences=8, samples=3)
    one, other = validation.sample(), validation.sample()
    assert one.references == other.references
    assert one.reconstructions == other.reconstructions
    assert len(one.references) == 3
    assert set(one.references) < set(validation.references)


def test_refinement_is_judged_where_correction_is_learned(validate):
    assert validate(evaluate_sentences=4).judge().refined is None
    judged = validate(evaluate_sentences=4, correction_fraction=0.4).judge()
    assert judged.refined.similarity >= judged.found.scores.similarity
    assert "after a round of refinement" in str(judged)


def test_without_an_encoder_there_is_no_similarity(validate):
    judged = validate(None, evaluate_sentences=4).judge()
    assert "validation/similarity" not in judged.metrics()
    assert str(judged).endswith("similarity -")


def test_the_best_is_chosen_by_what_comes_back_in_the_end():
    judged = Judgement(1.5, FOUND, None)
    assert judged.bleu == ONCE.bleu
    assert str(judged) == "validation loss 1.500, exact match 25.0%, BLEU 31.3, similarity 0.75"
    assert judged.metrics() == {
        "loss/validation": 1.5,
        "validation/exact_match": 0.25,
        "validation/bleu": 31.3,
        "validation/token_f1": 0.5,
        "validation/similarity": 0.75,
    }
    refined = replace(judged, refined=TWICE)
    assert refined.bleu == TWICE.bleu
    assert str(refined) == f"{judged}; after a round of refinement 50.0%, 20.0"
    more = {f"validation/refined_{name}": value for name, value in TWICE.rounded().items()}
    assert refined.metrics() == judged.metrics() | more
