"""The projection: shapes, magnitudes, gradients, and what contradicts."""

import pytest
import torch

from vec2text.config import ProjectionConfig
from vec2text.projection import Projection

TRAINED = ("linear", "mlp")


def make(kind="mlp", prefix_length=3, dimension=6, hidden_size=16, vector_norm=1.0, token_rms=0.02, seed=0):
    torch.manual_seed(seed)
    return Projection(
        ProjectionConfig(kind, prefix_length), dimension, hidden_size, vector_norm=vector_norm, token_rms=token_rms
    )


def unit(count, dimension=6, seed=0):
    made = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))
    return made / made.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("dimension", "hidden_size"), [(6, 16), (16, 16), (40, 16)])
@pytest.mark.parametrize("prefix_length", [1, 2, 8, 64])
@pytest.mark.parametrize("kind", TRAINED)
def test_a_vector_becomes_prefix_length_tokens_of_the_gpts_width(kind, prefix_length, dimension, hidden_size):
    made = make(kind, prefix_length, dimension, hidden_size)
    assert made(unit(5, dimension)).shape == (5, prefix_length, hidden_size)


@pytest.mark.parametrize("hidden_size", [6, 16])
def test_zero_pad_is_the_vector_and_zeros_and_has_nothing_to_learn(hidden_size):
    made, vectors = make("zero_pad", 1, hidden_size=hidden_size, vector_norm=7.0), unit(4)
    prefix = made(vectors)
    assert prefix.shape == (4, 1, hidden_size)
    assert torch.equal(prefix[:, 0, :6], vectors)
    assert not prefix[:, 0, 6:].any()
    assert not made.state_dict()
    assert not list(made.parameters())


def test_zero_pad_of_a_vector_wider_than_the_gpt_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"dimension 17.*hidden size 16"):
        make("zero_pad", 1, dimension=17)


@pytest.mark.parametrize("vector_norm", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("token_rms", [0.02, 0.14, 1.0])
@pytest.mark.parametrize("kind", TRAINED)
def test_at_first_every_token_has_the_size_of_the_gpts_own(kind, token_rms, vector_norm):
    made = make(kind, 4, 32, 64, vector_norm, token_rms)
    sizes = made(unit(50, 32) * vector_norm).square().mean(-1).sqrt()  # (50, 4)
    torch.testing.assert_close(sizes, torch.full((50, 4), token_rms), rtol=1e-2, atol=0)


@pytest.mark.parametrize("kind", TRAINED)
def test_the_gradient_reaches_every_parameter_and_the_vector(kind):
    made, vectors = make(kind), unit(8).requires_grad_()
    (made(vectors) * torch.randn(8, 3, 16)).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert vectors.grad.abs().sum(1).all()


def test_the_gradient_passes_through_zero_pad_unchanged():
    vectors, weights = unit(3).requires_grad_(), torch.randn(3, 1, 16)
    (make("zero_pad", 1)(vectors) * weights).sum().backward()
    assert torch.equal(vectors.grad, weights[:, 0, :6])


@pytest.mark.parametrize("kind", TRAINED)
def test_the_length_of_the_encoders_vectors_does_not_matter_when_it_is_known(kind):
    vectors = unit(5)
    long, short = make(kind, vector_norm=10.0), make(kind, vector_norm=1.0)
    torch.testing.assert_close(long(vectors * 10), short(vectors))
    assert not torch.allclose(long(vectors), short(vectors), rtol=0.05)


@pytest.mark.parametrize(("kind", "prefix_length"), [("zero_pad", 1), ("linear", 3), ("mlp", 3)])
def test_a_prefix_does_not_depend_on_the_rest_of_the_batch_and_tells_vectors_apart(kind, prefix_length):
    made, vectors = make(kind, prefix_length), unit(4)
    together = made(vectors)
    for row in range(4):
        torch.testing.assert_close(made(vectors[row : row + 1])[0], together[row])
    assert len(torch.unique(together.detach().flatten(1), dim=0)) == 4


def test_the_width_of_the_hidden_layer_is_that_of_the_vector_or_what_was_asked_for():
    assert make("mlp").layers[0].out_features == 6
    config = ProjectionConfig("mlp", 3, hidden_size=10)
    assert Projection(config, 6, 16, vector_norm=1.0, token_rms=1.0).layers[0].out_features == 10


@pytest.mark.parametrize("kind", TRAINED)
def test_the_scale_is_saved_with_the_weights(kind):
    saved, other = make(kind, vector_norm=10.0), make(kind, vector_norm=1.0, seed=1)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other(unit(3)), saved(unit(3)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "zero_pad"}, r"zero_pad.*prefix_length is 4"),
        ({"kind": "zero_pad", "prefix_length": 1, "hidden_size": 5}, r"hidden_size.*zero_pad"),
        ({"kind": "linear", "hidden_size": 5}, r"hidden_size.*linear"),
        ({"kind": "convolution"}, r"kind is 'convolution'.*zero_pad, linear, mlp"),
        ({"prefix_length": 0}, r"prefix_length is 0"),
        ({"prefix_length": 65}, r"prefix_length is 65"),
    ],
)
def test_a_contradiction_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        ProjectionConfig(**fields)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_map_becomes_a_part_of_it(kind):
    torch.manual_seed(0)
    plain = Projection(ProjectionConfig(kind, prefix_length=3), 6, 8, vector_norm=1.5, token_rms=0.1)
    matrix, offset, vectors = torch.randn(6, 9), torch.randn(6), torch.randn(4, 9)
    merged = plain.after(matrix, offset, vector_norm=3.0)
    torch.testing.assert_close(merged(vectors), plain(vectors @ matrix.T + offset), atol=1e-6, rtol=1e-5)
    assert merged.dimension == 9
    fresh = Projection(merged.config, 9, 8, vector_norm=3.0, token_rms=0.2)
    fresh.load_state_dict(merged.state_dict())
    torch.testing.assert_close(fresh(vectors), merged(vectors))
    assert plain.dimension == 6


def test_zero_padding_takes_in_no_map():
    plain = Projection(ProjectionConfig("zero_pad", prefix_length=1), 6, 8, vector_norm=1.0, token_rms=0.1)
    with pytest.raises(ValueError, match="it has no weights"):
        plain.after(torch.eye(6), torch.zeros(6), vector_norm=1.0)
