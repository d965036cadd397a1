"""Reading on, step by step, gives what reading all at once gives; and GPT-2's own steps those of transformers."""

import pytest
import torch
from small_models import as_transformers
from transformers import LlamaConfig, LlamaForCausalLM

from vec2text.decoders import in_bf16
from vec2text.gpt2 import GPT2, GPT2Config
from vec2text.steps import GPT2Steps, Steps, _lays_out, steps_of


def gpt2(**options):
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64}
    return GPT2(GPT2Config(**sizes | options)).eval()


def inputs(batch, count, seed=0, width=32):
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


def walk(steps, mask=None, dtype=torch.float32):
    """Read, keep other rows, read on: all logits and states, in fp32."""
    found = [steps.logits(inputs(5, 3).to(dtype), mask).float()]
    for rows, count in (([4, 0, 2], 1), ([0, 0, 1, 2, 2, 1, 0], 1), ([6, 1], 4), ([1, 0], 1)):
        rows = torch.tensor(rows)
        steps.keep(rows)
        if mask is not None:
            mask = torch.cat([mask[rows], mask.new_ones(len(rows), count)], 1)
        found.append(steps.states(inputs(len(rows), count, seed=count).to(dtype), mask).float())
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        found.append(steps.logits(inputs(len(rows), 1, seed=7).to(dtype), mask).float())
    return found


MASK = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]])


@torch.inference_mode()
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("block", [1, 2, 64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "activation_function": "relu", "n_inner": 48},
        {"tie_word_embeddings": False},
    ],
)
def test_the_steps_of_gpt2_are_those_of_transformers(options, block, mask, monkeypatch):
    monkeypatch.setattr("vec2text.steps._BLOCK", block)
    decoder = gpt2(**options)
    for ours, theirs in zip(walk(GPT2Steps(decoder), mask), walk(Steps(as_transformers(decoder)), mask), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("family", [GPT2Steps, Steps])
def test_a_fork_goes_on_from_earlier_and_leaves_the_other_alone(family, mask):
    decoder = gpt2() if family is GPT2Steps else as_transformers(gpt2())
    first, later, other, rows = inputs(5, 3), inputs(5, 4, seed=1), inputs(2, 3, seed=2), torch.tensor([3, 0])
    masks = [None] * 4
    if mask is not None:
        masks = [torch.cat([some, some.new_ones(len(some), n)], 1) for some, n in ((mask, 0), (mask, 4), (mask, 6))]
        masks.append(torch.cat([mask[rows], mask.new_ones(2, 5)], 1))
    steps = family(decoder)
    steps.states(first, masks[0])
    steps.states(later, masks[1])
    forked = steps.fork(rows, 5)
    found = forked.states(other, masks[3])
    steps.states(inputs(5, 2, seed=3), masks[2])
    plain = family(decoder)
    part = None if mask is None else masks[3][:, :5]
    plain.states(torch.cat([first, later[:, :2]], 1)[rows], part)
    torch.testing.assert_close(found, plain.states(other, masks[3]), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("family", [GPT2Steps, Steps])
def test_who_joins_goes_on_as_if_it_had_always_been_there(family, mask):
    decoder = gpt2() if family is GPT2Steps else as_transformers(gpt2())
    together, last = torch.tensor([4, 2, 0, 1, 1]), inputs(5, 2, seed=3)
    steps, plain = family(decoder), family(decoder)
    steps.states(inputs(5, 3), mask)
    mine = steps.fork(together[:2], 3)
    mine.join(steps.fork(together[2:3], 3))
    mine.join(steps.fork(together[3:], 3))
    plain.states(inputs(5, 3)[together], None if mask is None else mask[together])
    longer = None if mask is None else torch.cat([mask[together], mask.new_ones(5, 2)], 1)
    torch.testing.assert_close(mine.states(last, longer), plain.states(last, longer), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("mask", [None, MASK])
def test_in_bf16_they_differ_by_its_rounding(mask):
    decoder = gpt2().to(torch.bfloat16)
    whole = walk(Steps(as_transformers(gpt2())), mask)
    for steps in (GPT2Steps(decoder), Steps(as_transformers(decoder))):
        for ours, exact in zip(walk(steps, mask, dtype=torch.bfloat16), whole, strict=True):
            torch.testing.assert_close(ours, exact, atol=0.05, rtol=0.05)


@torch.inference_mode()
@pytest.mark.parametrize("cached", [1, 300, 2**20])
@pytest.mark.parametrize("mask", [None, MASK])
def test_attention_of_many_rows_in_bf16_is_in_fp32_a_few_at_a_time(mask, cached, monkeypatch):
    asked = []

    def attend(query, *others, **options):
        asked.append((len(query), query.dtype))
        return attention(query, *others, **options)

    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr("vec2text.steps._CACHED", cached)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    decoder = gpt2(n_layer=1).to(torch.bfloat16)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attend)
    many = walk_one(decoder, mask, 1, monkeypatch)
    keys = 4 * 4 * 8  # of a row: positions, heads, their width
    parts = {1: [1] * 5, 300: [300 // keys] * 2 + [1], 2**20: [5]}[cached]
    assert asked == [(5, torch.bfloat16), *((part, torch.float32) for part in parts)]
    asked.clear()
    few = walk_one(decoder, mask, 6, monkeypatch)
    assert asked == [(5, torch.bfloat16)] * 2
    torch.testing.assert_close(many, few, atol=0.02, rtol=0.02)
    with torch.autocast("cpu", torch.bfloat16):  # which would make it bf16 again
        asked.clear()
        walk_one(decoder, mask, 1, monkeypatch)
        assert asked == [(5, torch.bfloat16)] * 2


def walk_one(decoder, mask, several, monkeypatch):
    """The logits after one more input; from `several` rows on attention is in fp32."""
    monkeypatch.setattr("vec2text.steps._SEVERAL", several)
    steps = GPT2Steps(decoder)
    steps.states(inputs(5, 3).bfloat16(), mask)
    mask = mask if mask is None else torch.cat([mask, mask.new_ones(5, 1)], 1)
    return steps.logits(inputs(5, 1, seed=1).bfloat16(), mask)


@torch.inference_mode()
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("family", [GPT2Steps, Steps])
def test_under_autocast_they_are_fine_enough(family, mask):
    decoder = gpt2() if family is GPT2Steps else as_transformers(gpt2())
    exact = walk(family(decoder), mask)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = walk(family(decoder), mask)
    for ours, theirs in zip(rounded, exact, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)


def train(decoder):
    """A step of an optimiser that changes weights and tells nobody."""
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=0.2, fused=True)
    for parameter in decoder.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).to(parameter.dtype)
    optimizer.step()


def overwrite(decoder):
    """Weights of a decoder that is not trained, changed in their place."""
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)


TYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("change", [train, overwrite])
def test_weights_that_changed_are_laid_out_anew(change, dtype):
    decoder = gpt2().to(dtype).requires_grad_(change is train)
    with torch.inference_mode():
        before = GPT2Steps(decoder).logits(inputs(4, 3).to(dtype))
    change(decoder)
    with torch.inference_mode():
        after = GPT2Steps(decoder).logits(inputs(4, 3).to(dtype))
        expected = Steps(as_transformers(decoder)).logits(inputs(4, 3).to(dtype))
    assert not torch.allclose(before, after, atol=0.5)
    torch.testing.assert_close(after, expected, atol=0.2, rtol=0.05)


@pytest.fixture
def laid_out(monkeypatch):
    """Whenever weights are laid out, how many they are."""
    sizes = []
    reorder = torch.ops.mkldnn._reorder_linear_weight

    def counted(weight):
        sizes.append(weight.numel())
        return reorder(weight)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", counted)
    return sizes


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["trained", "fixed", "inference"])
def test_weights_that_stay_as_they_are_are_laid_out_once(laid_out, dtype, kind):
    if not _lays_out(dtype):
        pytest.skip("this CPU has no products of this type to lay weights out for")
    with torch.inference_mode(kind == "inference"):
        decoder = gpt2().to(dtype).requires_grad_(kind == "trained")
    for _ in range(3):
        steps = GPT2Steps(decoder)
        for _ in range(2):
            with torch.inference_mode():
                steps.logits(inputs(4, 3).to(dtype))
    assert len(laid_out) == 2 * 4 + 1


@torch.inference_mode()
def test_weights_in_fp32_are_laid_out_for_many_rows_only(laid_out):
    decoder, text = gpt2(), inputs(4, 3)
    alone = GPT2Steps(decoder).logits(text[:1])
    with torch.autocast("cpu", torch.bfloat16):
        GPT2Steps(decoder).logits(text)
    assert not laid_out
    steps = GPT2Steps(decoder)
    together = steps.logits(text)
    assert laid_out
    torch.testing.assert_close(alone, together[:1], atol=1e-5, rtol=1e-4)
    steps.keep(torch.tensor([2]))  # whether laid out or not, what is left reads on
    expected = Steps(as_transformers(decoder))
    expected.logits(text[2:3])
    torch.testing.assert_close(steps.logits(inputs(1, 1)), expected.logits(inputs(1, 1)), atol=1e-5, rtol=1e-4)


def test_a_cpu_without_bf16_reads_in_it_all_the_same(monkeypatch):
    monkeypatch.setattr("vec2text.steps._lays_out", lambda dtype: False)
    decoder = in_bf16(gpt2())
    with torch.inference_mode():
        ours = GPT2Steps(decoder).logits(inputs(2, 3).bfloat16())
        theirs = Steps(as_transformers(decoder)).logits(inputs(2, 3).bfloat16())
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)


def test_our_gpt2_has_steps_of_its_own():
    assert isinstance(steps_of(gpt2()), GPT2Steps)
    assert type(steps_of(as_transformers(gpt2()))) is Steps
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    assert type(steps_of(LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50)).eval())) is Steps


@torch.inference_mode()
@pytest.mark.parametrize("block", [2, 64])
def test_what_rows_share_with_those_in_their_place_need_not_be_told_but_may(block, monkeypatch):
    """Of (0, 1, 2), 1 is told apart from 0 by its last two inputs, and 2 from all by its first."""
    monkeypatch.setattr("vec2text.steps._BLOCK", block)
    text = inputs(3, 5)
    text[1, :3] = text[0, :3]
    rows, since = torch.tensor([1, 1, 0]), torch.tensor([3, 5, 0])
    found = []
    for told in (None, since):
        steps = GPT2Steps(gpt2())
        steps.states(text)
        steps.keep(rows, told)
        found.append(steps.states(inputs(3, 2, seed=1)))
    expected = GPT2Steps(gpt2())
    expected.states(text[rows])
    torch.testing.assert_close(found[1], found[0], atol=0, rtol=0)
    torch.testing.assert_close(found[1], expected.states(inputs(3, 2, seed=1)), atol=1e-5, rtol=1e-4)
    wrong = GPT2Steps(gpt2())
    wrong.states(text)
    wrong.keep(rows, torch.tensor([5, 5, 5]))  # what is told counts
    assert not torch.allclose(wrong.states(inputs(3, 2, seed=1)), found[0], atol=0.01)
