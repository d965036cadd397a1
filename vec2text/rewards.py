"""Rewards: own texts as examples, each counted by how much more of the sentence it brings back than others do.

Cross-entropy teaches what follows the right tokens. After its own, where it is unsure, an inverter then goes astray: it
says things twice and does not end. Here it writes several texts for each vector, and those that are more like the
sentence than the others become likelier, the others less likely. That is REINFORCE on whole texts (M. Ranzato et al.,
Sequence level training with recurrent neural networks, ICLR 2016, https://arxiv.org/abs/1511.06732), with the mean
reward of the other texts of the same vector as its baseline (W. Kool, H. van Hoof and M. Welling, Buy 4 REINFORCE
samples, get a baseline for free!, 2019, https://openreview.net/forum?id=r1lgTGL5DE). The reward is sentence BLEU.

Knows nothing of optimisers, or of when it is asked for texts.

Shapes: B batch, D vector dimension, K texts for each vector, T text tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from vec2text.batches import Batch
from vec2text.decoding import Decoding
from vec2text.drafts import write_as
from vec2text.inverter import Inverter
from vec2text.metrics import bleu_counts, sentence_bleu

_LONGER, _MORE = 1.5, 8  # a text has at most so many times the tokens of the longest sentence beside it, and so many


def rewarded(
    inverter: Inverter,
    batch: Batch,
    count: int,
    generator: torch.Generator,
    widths: Callable[[np.ndarray], np.ndarray],
) -> tuple[list[tuple[Batch, torch.Tensor]], float]:
    """`count` parts of B texts each, of the inverter's own, all texts of a part about as long; and their mean reward.

    The gradient of the sum of the parts' losses is that of the mean loss of a token, counted by its text's advantage.
    Texts are written without dropout and learned from as all else is. What was cut off before it ended counts without
    an end.

    Args:
        inverter: writes the texts, by sampling from what it would learn.
        batch: sentences of about one length, and their vectors.
        count: texts for each vector, K.
        generator: of the sampling, on the CPU.
        widths: to how many tokens texts of given lengths are padded, (n,) -> (n,).

    Returns:
        K pairs of B texts with their vectors, and what each of their tokens counts, (B, T + 1), both as
        `Inverter.forward` takes them; and the mean reward, 0 to 1.
    """
    device = inverter.device
    vectors = batch.vectors.to(device).repeat_interleave(count, 0)  # (B * K, D)
    longest = min(inverter.max_tokens, int(_LONGER * int(batch.lengths.max())) + _MORE)
    written = write_as(inverter, vectors, Decoding(temperature=1.0, max_tokens=longest), generator)
    lengths = np.array([len(ids) for ids in written])
    right = [ids[:length] for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]
    sentences = [text for text in inverter.texts(right) for _ in range(count)]
    rewards = sentence_bleu(bleu_counts(sentences, inverter.texts(written))).reshape(-1, count) / 100  # (B, K)
    others = (rewards.sum(1, keepdims=True) - rewards) / (count - 1)
    advantages = (rewards - others).ravel() / max(rewards.std(), 1e-6)  # as large early in a run as late
    tokens = lengths + 1  # that a part's loss is a mean over, the end being one
    drawn = int(np.minimum(tokens, longest).sum())
    parts = []
    for rows in np.array_split(np.argsort(lengths, kind="stable"), count):
        width = int(widths(lengths[rows]).max())
        ids, shares = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width + 1), np.float32)
        for place, row in enumerate(rows):
            ids[place, : lengths[row]] = written[row]
            shares[place, : min(tokens[row], longest)] = advantages[row] * tokens[rows].sum() / drawn
        part = Batch(vectors[rows], torch.from_numpy(ids).to(device), torch.from_numpy(lengths[rows]))
        parts.append((part, torch.from_numpy(shares).to(device)))
    return parts, float(rewards.mean())
