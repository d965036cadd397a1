"""What is read once is what each text would have read by itself."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from vec2text.gpt2 import GPT2, GPT2Config
from vec2text.trunks import Trunks, shared, without

TRUNKS = [[5, 6, 7], [], [8, 9]]


def gpt2():
    return GPT2(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=64))


def llama():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50))


@pytest.fixture(params=[gpt2, llama])
def decoder(request):
    torch.manual_seed(0)
    return request.param().eval()


def last(decoder, prefix, ids):
    """The hidden state at the end of one prefix and some tokens."""
    tokens = decoder.get_input_embeddings()(torch.tensor([ids], dtype=torch.long))
    inputs = torch.cat([prefix[None], tokens], 1)
    return decoder.base_model(inputs_embeds=inputs).last_hidden_state[0, -1]


@torch.inference_mode()
@pytest.mark.parametrize("masked", [False, True])
def test_texts_leave_their_trunks_where_they_differ_and_read_on(decoder, masked):
    prefixes = torch.randn(3, 4, 32)
    mask = None
    if masked:
        mask = torch.ones(3, 4, dtype=torch.long)
        mask[1, :2] = 0
    own = [prefix if mask is None else prefix[mask[row] == 1] for row, prefix in enumerate(prefixes)]
    trunks = Trunks(decoder, prefixes, TRUNKS, mask)
    for place in range(4):
        for row, ids in enumerate(TRUNKS):
            if place <= len(ids):
                expected = decoder.get_output_embeddings()(last(decoder, own[row], ids[:place])).log_softmax(-1)
                torch.testing.assert_close(trunks.scores(place)[row], expected, atol=1e-5, rtol=1e-4)
    first = trunks.leave(torch.tensor([0, 1, 0]), 0)
    first.states(torch.tensor([[11], [12], [13]]))
    together = first.join(trunks.leave(torch.tensor([2, 0]), 1))
    rows = [(0, [11]), (1, [12]), (0, [13]), (2, [8]), (0, [5])]
    found = together.states(torch.tensor([[21], [22], [23], [24], [25]]))[:, -1]
    for (row, ids), state, token in zip(rows, found, range(21, 26), strict=True):
        torch.testing.assert_close(state, last(decoder, own[row], [*ids, token]), atol=1e-5, rtol=1e-4)
    together.keep(torch.tensor([4, 1]))
    found = together.logits(torch.tensor([[31], [32]]))
    for logits, (row, ids), token in zip(found, ((0, [5, 25]), (1, [12, 22])), (31, 32), strict=True):
        expected = decoder.get_output_embeddings()(last(decoder, own[row], [*ids, token]))
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "trunk", "count"),
    [
        ([], [1, 2], 0),
        ([1], [1, 2], 0),
        ([1, 2], [1, 2], 1),
        ([1, 2, 3], [1, 2], 2),
        ([1, 5, 3], [1, 2], 1),
        ([1, 2], [], 0),
    ],
)
def test_the_last_token_of_a_text_is_its_own(text, trunk, count):
    assert shared(text, trunk) == count


@pytest.mark.parametrize("gone", [[], [0], [3], [0, 1], [1, 3], [0, 1, 2, 3]])
def test_most_of_those_that_stay_stay_in_their_place(gone):
    rows = torch.zeros(4, dtype=torch.bool)
    rows[gone] = True
    order = without(rows).tolist()
    assert sorted(order) == [row for row in range(4) if row not in gone]
    assert all(order[row] == row for row in range(len(order)) if row not in gone)
