"""Decoding: what it writes is what the GPT's probabilities say, in whatever batch, with or without a cache."""

import itertools

import pytest
import torch
from small_models import as_transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from vec2text.decoding import Decoding, decode
from vec2text.gpt2 import GPT2
from vec2text.gpt2 import GPT2Config as OurConfig

END, WIDTH, ROWS, PREFIX = 7, 16, 12, 3


class EagerToEnd(torch.nn.Module):
    """A language-model head whose end token is likelier by a constant, so that texts end at different steps."""

    def __init__(self, head, eagerness):
        super().__init__()
        self.head, self.eagerness = head, eagerness

    def forward(self, hidden):
        logits = self.head(hidden)
        logits[..., END] += self.eagerness
        return logits


def make_gpt(kind="gpt2", seed=0, eagerness=0.0, vocabulary=40):
    torch.manual_seed(seed)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END)
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.4,
            tie_word_embeddings=False,
            **ends,
        )
        gpt = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=64, n_embd=WIDTH, n_layer=2, n_head=2, initializer_range=0.4, **ends
        )
        gpt = GPT2LMHeadModel(config)
    gpt.lm_head = EagerToEnd(gpt.lm_head, eagerness)
    return gpt.eval()


def make_prefixes(rows=ROWS, seed=0):
    return torch.randn(rows, PREFIX, WIDTH, generator=torch.Generator().manual_seed(seed))


def write(gpt, prefixes, seed=None, batch_size=100, **options):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    options = Decoding(**{"max_tokens": 20, **options})
    return [ids for part in prefixes.split(batch_size) for ids in decode(gpt, part, END, options, generator)]


def generated(gpt, prefixes, **options):
    """What transformers' own generate writes, row by row."""
    found = []
    for prefix in prefixes.split(1):
        mask = torch.ones(prefix.shape[:2], dtype=torch.long)
        ids = gpt.generate(inputs_embeds=prefix, attention_mask=mask, max_new_tokens=20, do_sample=False, **options)
        ids = ids[0].tolist()
        found.append(ids[: ids.index(END)] if END in ids else ids)
    return found


@torch.inference_mode()
def next_log_probabilities(gpt, prefix, ids):
    """Of the token after `ids`, computed from the beginning, without a cache: (V,)."""
    tokens = gpt.get_input_embeddings()(torch.tensor(ids, dtype=torch.long))
    return gpt(inputs_embeds=torch.cat([prefix, tokens]).unsqueeze(0), use_cache=False).logits[0, -1].log_softmax(-1)


def end_at_different_times(texts, max_tokens=20):
    lengths = {len(ids) for ids in texts}
    return len(lengths) > 3 and max_tokens in lengths


MANNERS = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "sampling": {"temperature": 1.3},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.8},
}

# (kind, seed, eagerness): texts that never end, that end here and there, and that end at once
GPTS = [("gpt2", 0, -99.0), ("gpt2", 1, 3.0), ("gpt2", 2, 5.0), ("llama", 1, 0.0), ("llama", 2, 1.0)]


# -- greedy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpt", GPTS, ids=str)
def test_greedy_is_the_greedy_generate_of_transformers(gpt):
    gpt, prefixes = make_gpt(*gpt), make_prefixes()
    assert write(gpt, prefixes) == generated(gpt, prefixes)


@pytest.mark.parametrize("gpt", GPTS, ids=str)
def test_greedy_is_the_likeliest_token_again_and_again_without_a_cache(gpt):
    gpt, prefixes = make_gpt(*gpt), make_prefixes()
    for prefix, ids in zip(prefixes, write(gpt, prefixes), strict=True):
        expected = []
        while len(expected) < 20 and (token := int(next_log_probabilities(gpt, prefix, expected).argmax())) != END:
            expected.append(token)
        assert ids == expected


@pytest.mark.parametrize("shift", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_greedy_in_bf16_is_the_first_of_the_greatest_of_its_logits(kind, shift, monkeypatch):
    """All logits below 0, some, none; so few different ones that many are the greatest."""
    gpt, prefixes, seen = make_gpt(kind, 1).bfloat16(), make_prefixes().bfloat16(), []
    head = gpt.lm_head.forward

    def coarse(hidden):
        seen.append((head(hidden) * 2).round() + shift)
        return seen[-1].clone()

    monkeypatch.setattr(gpt.lm_head, "forward", coarse)
    texts = write(gpt, prefixes, max_tokens=1, min_tokens=1)
    logits = seen[0].view(ROWS, -1).float()
    logits[:, END] = -torch.inf
    assert ((logits == logits.amax(-1, keepdim=True)).sum(-1) > 1).any()
    assert [ids[0] for ids in texts] == [row.index(max(row)) for row in logits.tolist()]


@pytest.mark.parametrize("at_once", [1, 70, 200])
@pytest.mark.parametrize("manner", MANNERS)
def test_how_many_logits_are_fp32_at_once_changes_nothing(manner, at_once, monkeypatch):
    gpt, prefixes = make_gpt(*GPTS[1]).bfloat16(), make_prefixes().bfloat16()
    expected = write(gpt, prefixes, 0, **MANNERS[manner])
    monkeypatch.setattr("vec2text.decoding._AT_ONCE", at_once)
    assert write(gpt, prefixes, 0, **MANNERS[manner]) == expected


def test_the_rows_of_these_tests_do_end_at_different_times():
    assert any(end_at_different_times(write(make_gpt(*gpt), make_prefixes())) for gpt in GPTS)


@pytest.mark.parametrize("batch_size", [1, 2, 5, ROWS])
@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("gpt", GPTS, ids=str)
def test_the_batch_size_changes_nothing(gpt, manner, batch_size):
    gpt, prefixes = make_gpt(*gpt), make_prefixes()
    assert write(gpt, prefixes, 0, batch_size, **MANNERS[manner]) == write(gpt, prefixes, 0, **MANNERS[manner])


@pytest.mark.parametrize("manner", ["greedy", "beams"])
@pytest.mark.parametrize("gpt", GPTS, ids=str)
def test_texts_are_in_the_order_of_the_prefixes(gpt, manner):
    gpt, prefixes = make_gpt(*gpt), make_prefixes()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    texts = write(gpt, prefixes, **MANNERS[manner])
    assert write(gpt, prefixes[order], **MANNERS[manner]) == [texts[i] for i in order]


# -- lengths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("min_tokens", "max_tokens"), [(0, 1), (0, 5), (4, 9), (6, 6)])
@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("eagerness", [-99.0, 4.0, 99.0])
def test_texts_are_neither_shorter_than_min_tokens_nor_longer_than_max_tokens(
    eagerness, manner, min_tokens, max_tokens
):
    gpt, options = make_gpt("gpt2", 1, eagerness), {"min_tokens": min_tokens, "max_tokens": max_tokens}
    lengths = [len(ids) for ids in write(gpt, make_prefixes(), 0, **options, **MANNERS[manner])]
    assert min_tokens <= min(lengths)
    assert max(lengths) <= max_tokens
    if eagerness == 99:
        assert set(lengths) == {min_tokens}
    if eagerness == -99:
        assert set(lengths) == {max_tokens}


@pytest.mark.parametrize("manner", ["greedy", "sampling", "top_k", "top_p"])
def test_a_lower_max_tokens_cuts_the_text_and_changes_nothing_before(manner):
    gpt, prefixes = make_gpt(*GPTS[1]), make_prefixes(1)
    whole = write(gpt, prefixes, 0, **MANNERS[manner])[0]
    assert write(gpt, prefixes, 0, max_tokens=3, **MANNERS[manner])[0] == whole[:3]


@pytest.mark.parametrize("manner", MANNERS)
def test_the_end_token_is_never_returned(manner):
    assert all(END not in ids for ids in write(make_gpt(*GPTS[1]), make_prefixes(), 0, **MANNERS[manner]))


# -- beams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_beams", [2, 3, 4])
@pytest.mark.parametrize("gpt", GPTS, ids=str)
def test_beam_search_is_that_of_transformers(gpt, num_beams):
    gpt, prefixes = make_gpt(*gpt), make_prefixes()
    expected = generated(gpt, prefixes, num_beams=num_beams, early_stopping=False, length_penalty=1.0)
    assert write(gpt, prefixes, num_beams=num_beams) == expected


@torch.inference_mode()
def best_of_all(gpt, prefix, max_tokens, vocabulary):
    """The text of highest mean log-probability per token, its end included, found by scoring every text."""
    words = [token for token in range(vocabulary) if token != END]
    whole = torch.tensor(list(itertools.product(words, repeat=max_tokens)))  # (N, max_tokens)
    inputs = torch.cat([prefix.expand(len(whole), -1, -1), gpt.get_input_embeddings()(whole)], 1)
    steps = gpt(inputs_embeds=inputs, use_cache=False).logits[:, PREFIX - 1 :].log_softmax(-1)
    written = steps[:, :-1].gather(-1, whole.unsqueeze(-1)).squeeze(-1).cumsum(1)  # (N, max_tokens)
    ended = torch.cat([steps[:, :1, END], written[:, :-1] + steps[:, 1:-1, END]], 1)
    means = torch.cat([ended / torch.arange(1, max_tokens + 1), written[:, -1:] / max_tokens], 1)
    text, length = divmod(int(means.argmax()), max_tokens + 1)
    return whole[text, :length].tolist()


@pytest.mark.parametrize("eagerness", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_beams_for_every_text_the_best_of_all_is_found(seed, eagerness):
    gpt, prefixes = make_gpt("gpt2", seed, eagerness, vocabulary=8), make_prefixes()
    best = [best_of_all(gpt, prefix, 3, 8) for prefix in prefixes]
    assert write(gpt, prefixes, num_beams=8**3, max_tokens=3) == best
    assert len({len(ids) for ids in best}) > 1


def test_one_beam_is_greedy():
    gpt, prefixes = make_gpt(*GPTS[1]), make_prefixes()
    assert write(gpt, prefixes, num_beams=1) == write(gpt, prefixes)


@pytest.mark.parametrize("num_beams", [5, 9])
def test_more_beams_than_tokens_are_allowed(num_beams):
    gpt = make_gpt("gpt2", 0, 1.0, vocabulary=8)
    assert all(len(ids) <= 4 for ids in write(gpt, make_prefixes(), num_beams=num_beams, max_tokens=4))


# -- sampling ----------------------------------------------------------------------------------------------------

SAMPLED = [manner for manner in MANNERS if manner not in ("greedy", "beams")]


@pytest.mark.parametrize("manner", SAMPLED)
def test_the_same_seed_gives_the_same_texts_and_another_seed_others(manner):
    gpt, prefixes = make_gpt(*GPTS[0]), make_prefixes()
    texts = write(gpt, prefixes, 5, **MANNERS[manner])
    assert write(gpt, prefixes, 5, **MANNERS[manner]) == texts
    assert write(gpt, prefixes, 6, **MANNERS[manner]) != texts


def test_equal_prefixes_are_sampled_independently():
    texts = write(make_gpt(*GPTS[0]), make_prefixes(1).expand(ROWS, -1, -1), 0, temperature=1.0)
    assert len({tuple(ids) for ids in texts}) == ROWS


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": 1e-4}, {"temperature": 1e-320}, {"top_k": 1}, {"top_p": 1e-9}]
)
@pytest.mark.parametrize("gpt", GPTS, ids=str)
def test_sampling_becomes_greedy_in_the_limit(gpt, options):
    gpt, prefixes = make_gpt(*gpt), make_prefixes()
    assert write(gpt, prefixes, 0, **options) == write(gpt, prefixes)


def filtered(probabilities, top_k, top_p):
    """By hand: the k likeliest, then of them the fewest that together have top_p, then to a sum of 1."""
    order = probabilities.argsort(descending=True)[: top_k or len(probabilities)].tolist()
    weights = {token: float(probabilities[token]) for token in order}
    share, kept = 0.0, {}
    for token in order:
        kept[token] = weights[token]
        share += weights[token] / sum(weights.values())
        if top_p is not None and share >= top_p:
            break
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"top_k": 3},
        {"top_k": 1000},
        {"top_p": 0.7},
        {"top_p": 1.0},
        {"temperature": 2.0, "top_k": 6},
        {"temperature": 2.0, "top_p": 0.5},
        {"temperature": 2.0, "top_k": 8, "top_p": 0.75},
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_the_filtered_probabilities_say(options, seed):
    draws = 4000
    gpt, prefix = make_gpt("gpt2", seed, vocabulary=20), make_prefixes(1, seed)
    logits = next_log_probabilities(gpt, prefix[0], []).double() / options.get("temperature", 1.0)
    expected = filtered(logits.softmax(-1), options.get("top_k"), options.get("top_p"))
    texts = write(gpt, prefix.expand(draws, -1, -1), seed, max_tokens=1, **options)
    drawn = [ids[0] if ids else END for ids in texts]
    assert set(drawn) <= set(expected)
    # Chi-square over the tokens that are to come often enough; twice the degrees of freedom + 20 is beyond p = 1e-4.
    common = [token for token, share in expected.items() if share * draws >= 5]
    chi_square = sum((drawn.count(t) - draws * expected[t]) ** 2 / (draws * expected[t]) for t in common)
    assert chi_square < 2 * len(common) + 20


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 5, 19])
def test_where_few_tokens_have_that_share_the_others_need_not_be_sorted(count, top_p, monkeypatch):
    gpt, prefixes = make_gpt("gpt2", 1, vocabulary=20), make_prefixes().repeat(20, 1, 1)
    expected = write(gpt, prefixes, 0, top_p=top_p)
    monkeypatch.setattr("vec2text.decoding._SORTED", count)
    assert write(gpt, prefixes, 0, top_p=top_p) == expected


def test_the_end_token_is_drawn_as_often_as_its_probability_says_and_not_before_min_tokens():
    gpt, prefixes = make_gpt("gpt2", 1, 3.0, vocabulary=20), make_prefixes(1).expand(3000, -1, -1)
    share = float(next_log_probabilities(gpt, prefixes[0], [])[END].exp())
    ended = sum(not ids for ids in write(gpt, prefixes, 0, temperature=1.0, max_tokens=1)) / 3000
    assert 0.05 < share < 0.95
    assert abs(ended - share) < 4 * (share * (1 - share) / 3000) ** 0.5
    assert all(write(gpt, prefixes, 0, temperature=1.0, min_tokens=1, max_tokens=1))


# -- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 4, "temperature": 0.7}, ("num_beams", "temperature")),
        ({"num_beams": 4, "temperature": 0}, ("num_beams", "temperature")),
        ({"num_beams": 4, "top_k": 5}, ("num_beams", "top_k")),
        ({"num_beams": 4, "top_p": 0.5}, ("num_beams", "top_p")),
        ({"temperature": 0, "top_k": 5}, ("temperature", "top_k")),
        ({"temperature": 0, "top_p": 0.5}, ("temperature", "top_p")),
        ({"min_tokens": 9, "max_tokens": 8}, ("min_tokens is 9", "max_tokens is 8")),
        ({"num_beams": 0}, ("num_beams is 0", "at least 1")),
        ({"top_k": 0}, ("top_k is 0", "at least 1")),
        ({"top_p": 0.0}, ("top_p is 0.0", "more than 0")),
        ({"top_p": 1.1}, ("top_p is 1.1", "at most 1")),
        ({"top_p": float("nan")}, ("top_p is nan", "at most 1")),
        ({"temperature": -0.1}, ("temperature is -0.1", "at least 0")),
        ({"temperature": float("nan")}, ("temperature is nan", "at least 0")),
        ({"min_tokens": -1}, ("min_tokens is -1", "at least 0")),
        ({"max_tokens": 0}, ("max_tokens is 0", "at least 1")),
    ],
    ids=str,
)
def test_options_that_contradict_or_make_no_sense_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        Decoding(**options)
    assert all(part in str(refused.value) for part in named)


@pytest.mark.parametrize(
    ("options", "sampled"),
    [
        ({}, False),
        ({"num_beams": 4}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0.5}, True),
        ({"top_k": 3}, True),
        ({"top_p": 0.5}, True),
        ({"temperature": 0.5, "top_k": 3, "top_p": 0.5}, True),
    ],
    ids=str,
)
def test_text_is_sampled_only_when_a_sampling_option_says_so(options, sampled):
    assert Decoding(**options).sampled == sampled


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("min_tokens", [0, 3])
def test_our_gpt2_writes_what_that_of_transformers_does(beams, min_tokens):
    """Some texts end early, and in the cache of the others only that moves in which beams differ."""
    texts = []
    for seed in range(4):
        torch.manual_seed(seed)
        sizes = {"n_positions": 64, "n_embd": WIDTH, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}
        ours = GPT2(OurConfig(vocab_size=12, **sizes)).eval()
        texts += write(ours, make_prefixes(9, seed), num_beams=beams, min_tokens=min_tokens)
        prefixes = make_prefixes(9, seed)
        assert texts[-9:] == write(as_transformers(ours), prefixes, num_beams=beams, min_tokens=min_tokens)
    assert len(set(map(len, texts))) > 3
