import pytest
import torch
from torch.nn import functional as F

from vec2text import loss as room
from vec2text.loss import chunked_cross_entropy, chunked_log_probabilities


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(room, "_ROWS", room._ROWS)
    monkeypatch.setattr(room, "_LOGITS", 2 * 512 * 50)  # three chunks in bf16, the last one shorter; six in fp32
    monkeypatch.setattr(room, "_SUMMED", 3 * 50)
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


@pytest.mark.parametrize("with_bias", [True, False])
def test_tokens_count_by_their_shares(problem, with_bias):
    hidden, weight, bias, targets = problem
    shares = torch.randn(len(targets))
    results = []
    for ours in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
        shift = leaves[2] if with_bias else None
        if ours:
            loss = chunked_cross_entropy(leaves[0], leaves[1], shift, targets, shares)
        else:
            each = F.cross_entropy(F.linear(leaves[0], leaves[1], shift), targets, reduction="none")
            loss = (each * shares).mean()
        (3 * loss).backward()
        results.append((loss.detach(), *(leaf.grad for leaf in leaves[: 2 + with_bias])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 300, 700])
def test_in_bf16_shares_are_within_rounding_whatever_the_chunks(problem, count):
    shares = torch.randn(count)
    results = []
    for fast in (True, False):
        leaves = [problem[0][:count].clone().requires_grad_(), problem[1].clone().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            chunked_cross_entropy(*leaves, None, problem[3][:count], shares).backward()
        results.append([leaf.grad for leaf in leaves])
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()


@pytest.mark.parametrize("count", [1, 300])
def test_shares_of_one_change_nothing_in_bf16(problem, count):
    results = []
    for shares in (None, torch.ones(count)):
        leaves = [problem[0][:count].clone().requires_grad_(), problem[1].clone().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16):
            loss = chunked_cross_entropy(*leaves, None, problem[3][:count], shares)
        loss.backward()
        results.append((loss.detach(), *(leaf.grad for leaf in leaves)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


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


@pytest.mark.parametrize("count", [1, 255, 256, 257, 512, 700])
def test_rows_that_fill_a_chunk_up_in_bf16_count_for_nothing(problem, count):
    results = []
    for multiple in (1, 256):
        leaves = [tensor.clone().requires_grad_() for tensor in (problem[0][:count], *problem[1:3])]
        room._ROWS = multiple
        with torch.autocast("cpu", torch.bfloat16):
            loss = chunked_cross_entropy(*leaves, problem[3][:count])
        loss.backward()
        results.append((loss.detach(), *(leaf.grad for leaf in leaves)))
    for plain, filled in zip(*results, strict=True):
        torch.testing.assert_close(plain, filled, rtol=1e-2, atol=1e-4)


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


def test_of_what_is_almost_certain_bf16_still_tells_how_far_it_is_from_that():
    """The logit of each target is ahead by 4 to 9; probabilities up to 0.998, kept in steps of 0.004."""
    torch.manual_seed(0)
    hidden = torch.eye(6).bfloat16()
    weight = torch.randn(30, 6).mul(0.1)
    weight[range(6), range(6)] += torch.arange(4.0, 10.0)
    weight, targets = weight.bfloat16(), torch.arange(6)
    exact = [leaf.float().requires_grad_() for leaf in (hidden, weight)]
    F.cross_entropy(F.linear(*exact), targets).backward()
    ours = [leaf.clone().requires_grad_() for leaf in (hidden, weight)]
    chunked_cross_entropy(ours[0], ours[1], None, targets).backward()
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad.float(), b.grad, rtol=0.03, atol=1e-5)
    logs = F.linear(hidden.float(), weight.float()).log_softmax(1)[range(6), targets]
    torch.testing.assert_close(chunked_log_probabilities(hidden, weight, None, targets), logs, rtol=0.03, atol=1e-5)
