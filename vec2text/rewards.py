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
from torch.compiler import set_stance

from vec2text.batches import Batch
from vec2text.decoders import in_bf16
from vec2text.decoding import Decoding, decode
from vec2text.inverter import Inverter
from vec2text.metrics import bleu_counts, sentence_bleu


def rewarded(
    inverter: Inverter,
    batch: Batch,
    count: int,
    generator: torch.Generator,
    widths: Callable[[np.ndarray], np.ndarray],
) -> tuple[list[tuple[Batch, torch.Tensor]], float]:
    """`count` parts of B texts each, of the inverter's own, all texts of a part about as long; and their mean reward.

    The gradient of the sum of the parts' losses is that of the mean loss of a token, counted by its text's advantage.

    Args:
        inverter: writes the texts, by sampling from what it would learn.
        batch: sentences and their vectors.
        count: texts for each vector, K.
        generator: of the sampling, on the CPU.
        widths: to how many tokens texts of given lengths are padded, (n,) -> (n,).

    Returns:
        K pairs of B texts with their vectors, and what each text counts, (B,), as `Inverter.forward` takes it; and the
        mean reward, 0 to 1.
    """
    vectors = batch.vectors.to(inverter.device).repeat_interleave(count, 0)  # (B * K, D)
    written = _write(inverter, vectors, generator)
    lengths = np.array([len(ids) for ids in written])
    right = [ids[:length] for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)]
    sentences = [text for text in inverter.texts(right) for _ in range(count)]
    rewards = sentence_bleu(bleu_counts(sentences, inverter.texts(written))).reshape(-1, count) / 100  # (B, K)
    others = (rewards.sum(1, keepdims=True) - rewards) / (count - 1)
    advantages = (rewards - others).ravel() / max(rewards.std(), 1e-6)  # of one size, however good the inverter is
    tokens = lengths + 1  # the end token is one
    parts = []
    for rows in np.array_split(np.argsort(lengths, kind="stable"), count):
        ids = np.zeros((len(rows), int(widths(lengths[rows]).max())), np.int64)  # (B, T)
        for place, row in enumerate(rows):
            ids[place, : lengths[row]] = written[row]
        # The loss of a part is a mean over its own tokens.
        shares = torch.from_numpy(advantages[rows] * tokens[rows].sum() / tokens.sum()).float()
        part = Batch(vectors[rows], torch.from_numpy(ids), torch.from_numpy(lengths[rows]))
        parts.append((part, shares.to(inverter.device)))
    return parts, float(rewards.mean())


@torch.inference_mode()
def _write(inverter: Inverter, vectors: torch.Tensor, generator: torch.Generator) -> list[list[int]]:
    """A text for each vector (N, D), drawn from all that the inverter might write, as token ids."""
    decoder, kind = inverter.decoder, inverter.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16 != decoder.dtype:
        decoder = in_bf16(decoder)  # weights cast once, not for every token
    was_training = decoder.training
    decoder.eval()
    with torch.autocast(kind, enabled=False), set_stance("force_eager"):
        prefixes = inverter.prefixes(vectors).to(decoder.dtype)
        options = Decoding(temperature=1.0, max_tokens=inverter.max_tokens)
        written = decode(decoder, prefixes, inverter.end_id, options, generator)
    decoder.train(was_training)
    return written
