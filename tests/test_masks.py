"""Which tokens may come next: no more are shut out than must be, and what is kept of them is bounded."""

import numpy as np
import torch

from vec2text import Constraints
from vec2text.paths import explore
from vec2text.pieces import missing, read


def test_a_limit_that_the_plain_text_keeps_changes_nothing(other, encoder, sentences):
    """But for tokens after which the text would be no UTF-8, or not whole in time: random models write many."""
    vectors = encoder.encode(sentences[:30:5])
    prefixes, end, limit = other.prefixes(other.rows(vectors)), other.end_id, 12
    rules = other.rules(Constraints(max_words=99), limit)
    plain, bound = (
        [path.ids for path in explore(other.decoder, prefixes, end, limit, allowed=allowed)]
        for allowed in (None, rules)
    )
    same = 0
    for free, kept in zip(plain, bound, strict=True):
        place = next((i for i, (a, b) in enumerate(zip(free, kept, strict=False)) if a != b), None)
        same += len(kept) if place is None else place
        if place is not None:
            before, after = (read(other._pieces.join(free[:n])) for n in (place, place + 1))
            hidden = not other._pieces.written[free[place]] and free[place] != end
            assert hidden or after is None or missing(after[1]) > limit - place - 1 or before[1]
    assert same > 0


def test_the_word_at_the_limit_is_not_made_longer_for_want_of_another(inverter):
    """Where the model would go on with a new word, it ends instead of gluing letters to the last one."""
    rules = inverter.rules(Constraints(max_words=1), 12)
    ids = torch.tensor([inverter.tokenizer("boat")["input_ids"]])
    tokens = {text: inverter.tokenizer(text)["input_ids"][0] for text in (" ", "s", ".")}
    for likely, open_ in ((" ", False), ("s", True)):
        scores = torch.zeros(1, len(inverter.tokenizer))
        scores[0, tokens[likely]] = 20.0
        mask = rules(ids, scores)[0]
        assert bool(mask[tokens["s"]]) is open_
        assert bool(mask[tokens["."]])
        assert bool(mask[inverter.end_id])
        assert not bool(mask[tokens[" "]])


def test_what_is_kept_of_many_texts_is_bounded_and_changes_nothing(other, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = [(Constraints(max_words=3), {"temperature": 2.0, "seed": 1}), (Constraints("A", ["boat", "кот"]), {})]

    def write():
        texts, kept = [], []
        monkeypatch.setattr(other, "_pieces", None)
        for constraints, options in asked:
            rules = other.rules(constraints, 24)
            with monkeypatch.context() as patch:
                patch.setattr(other, "rules", lambda *_, rules=rules: rules)
                texts += other.invert(rows, constraints=constraints, batch_size=16, **options)
            kept += [rules.mask._kept.cache_info(), other._pieces._effects.cache_info()]
        return texts, kept

    plenty, _ = write()
    monkeypatch.setattr("vec2text.masks.MASKS_KEPT", 2)
    monkeypatch.setattr("vec2text.pieces.EFFECTS_KEPT", 1)
    few, kept = write()
    assert few == plenty
    for info in kept:
        assert info.currsize == info.maxsize < info.misses, kept  # more was met than is kept
