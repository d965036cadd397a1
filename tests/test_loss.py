import pytest
import torch
from torch.nn import functional as F

from vec2text import loss as room
from vec2text.loss import chunked_cross_entropy, chunked_log_probabilities


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(room, "_LOGITS", 512 * 50)  # three chunks, the last one shorter
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(1300, 16), torch.randn(50, 16), torch.randn(50)
    return hidden, weight, bias, torch.randint(0, 50, (1300,))


@pytest.mark.parametrize("with_bias", [True, False])
def test_loss_and_gradients_are_those_of_torch(problem, with_bias):
    hidden, weight, bias, targets = problem
    results = []
    for ours in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
        shift = leaves[2] if with_bias else None
        if ours:
            loss = chunked_cross_entropy(leaves[0], leaves[1], shift, targets)
        else:
            loss = F.cross_entropy(F.linear(leaves[0], leaves[1], shift), targets)
        (3 * loss).backward()
        results.append((loss.detach(), *(leaf.grad for leaf in leaves[: 2 + with_bias])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_frozen_output_layer_gets_no_gradient(problem):
    hidden, weight, _, targets = problem
    hidden.requires_grad_()
    chunked_cross_entropy(hidden, weight, None, targets).backward()
    assert weight.grad is None
    assert hidden.grad.abs().sum() > 0


def test_in_bf16_the_loss_is_float32_and_within_rounding(problem):
    hidden, weight, _, targets = problem
    exact = F.cross_entropy(hidden @ weight.T, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = chunked_cross_entropy(hidden, weight.requires_grad_(), None, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-3)
    loss.backward()
    assert weight.grad.dtype == torch.float32


def test_no_logits_without_gradient_are_kept(problem):
    hidden, weight, _, targets = problem
    with torch.no_grad():
        loss = chunked_cross_entropy(hidden, weight, None, targets)
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets))


@pytest.mark.parametrize("with_bias", [True, False])
def test_log_probabilities_are_those_of_torch_and_make_up_the_loss(problem, with_bias):
    hidden, weight, bias, targets = problem
    shift = bias if with_bias else None
    found = chunked_log_probabilities(hidden, weight, shift, targets)
    expected = -F.cross_entropy(F.linear(hidden, weight, shift), targets, reduction="none")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(-found.mean(), chunked_cross_entropy(hidden, weight, shift, targets))


def test_a_target_that_is_out_of_reach_costs_much_but_is_a_number():
    hidden, weight = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[0.0], [500.0]])
    loss = chunked_cross_entropy(hidden, weight, None, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(87.3, abs=0.1)  # the least probability of float32
    assert hidden.grad.item() == 500
