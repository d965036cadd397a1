import numpy as np

from vec2text.evaluation import baselines, evaluate
from vec2text.metrics import cosine


def test_an_inverter_that_is_always_right_scores_full(inverter, encoder, sentences, monkeypatch):
    vectors = encoder.encode(sentences[:20])
    monkeypatch.setattr(type(inverter), "invert", lambda self, vectors, **options: list(sentences[:20]))
    scores = evaluate(inverter, encoder, sentences[:20], vectors).scores
    assert scores.exact_match == 1
    assert scores.token_f1 == 1
    assert scores.bleu > 99.99
    assert scores.similarity > 0.9999


def test_the_similarity_is_that_of_what_came_back(inverter, encoder, sentences):
    vectors = encoder.encode(sentences[:5])
    found = evaluate(inverter, encoder, sentences[:5], vectors)
    assert found.reconstructions == inverter.invert(vectors)
    assert np.allclose(found.similarities, cosine(encoder.encode(found.reconstructions), vectors))
    assert found.scores.exact_match == 0


def test_the_nearest_training_sentence_is_found_by_brute_force(inverter, encoder, corpus, vectors, monkeypatch):
    rows = corpus.rows("test")
    references = [corpus.texts[row] for row in rows]
    train = corpus.rows("train")
    everything = vectors[train]
    expected = [corpus.texts[train[(everything @ vector).argmax()]] for vector in vectors[rows]]
    seen = {}

    def spy(references, reconstructions, similarities):
        seen[tuple(reconstructions)] = similarities
        return original(references, reconstructions, similarities)

    import vec2text.evaluation as room

    original = room.score
    monkeypatch.setattr(room, "score", spy)
    found = baselines(inverter, encoder, references, vectors[rows], corpus, vectors)
    assert set(found) == {"nearest training sentence", "zero vector"}
    assert tuple(expected) in seen
    assert found["nearest training sentence"].exact_match == 0  # test sentences are not in training
    guess = inverter.unaided()
    assert (guess,) * len(references) in seen
