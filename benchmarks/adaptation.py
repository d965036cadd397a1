"""How many pairs a trained inverter needs to be adapted to another space: exact match, BLEU and ROUGE-L by pairs.

The spaces are made of the inverter's own encoder, all-MiniLM-L6-v2: its vectors, rotated; their leading dimensions
alone; the same transformer with its first token's state as the vector; and the mean of its token embeddings, which
know no order of words. The map is learned from the first sentences of FILE and judged on the last, which are not among
them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from vec2text.adaptation import align
from vec2text.config import EncoderConfig
from vec2text.encoders import load_encoder
from vec2text.fingerprint import Fingerprint
from vec2text.inverter import Inverter
from vec2text.metrics import corpus_bleu, exact_matches, rouge_l
from vec2text.sources import read_sentences
from vec2text.tokens import padded, tokenise

PAIRS = (100, 300, 1000, 3000, 10000)


def spaces(encoder: Any) -> dict[str, Callable[[list[str]], np.ndarray]]:
    """Functions that make vectors of texts, by name."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((encoder.dimension, encoder.dimension)))[0]
    folder = encoder.model[0].model.config._name_or_path
    first = load_encoder(EncoderConfig(folder, kind="transformer", pooling="cls"))

    def words(texts: list[str]) -> np.ndarray:
        tokenizer, table = encoder.model.tokenizer, encoder.model[0].model.get_input_embeddings().weight.detach()
        inputs = padded(tokenizer, tokenise(tokenizer, texts, 256))
        mask = inputs["attention_mask"].unsqueeze(-1)  # (N, T, 1)
        means: np.ndarray = ((table[inputs["input_ids"]] * mask).sum(1) / mask.sum(1)).numpy()
        return means

    return {
        "rotated": lambda texts: encoder.encode(texts) @ turn.astype(np.float32),
        "the first 256 of 384 dimensions": lambda texts: encoder.encode(texts)[:, :256],
        "the first token's state": first.encode,
        "mean token embedding": words,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm-en", metavar="PATH", help="inverter of all-MiniLM-L6-v2 (minilm-en)")
    parser.add_argument(
        "--texts", required=True, metavar="FILE", help="sentences, one a line, that it was not trained on"
    )
    parser.add_argument("--test", type=int, default=300, help="sentences that are inverted: the last of FILE (300)")
    parser.add_argument("--output", metavar="FILE", help="write the table as JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    base = Inverter.from_pretrained(options.model)
    encoder = base.fingerprint.open_encoder()
    texts = list(dict.fromkeys(read_sentences(options.texts)))
    references, pool = texts[-options.test :], texts[: -options.test][: max(PAIRS)]
    rows: list[dict[str, Any]] = []

    def show(space: str, pairs: int, found: list[str], how: str, seconds: float) -> None:
        row: dict[str, Any] = {"space": space, "pairs": pairs, "map": how, "seconds": seconds}
        row |= {"exact_match": float(exact_matches(references, found).mean()), "bleu": corpus_bleu(references, found)}
        row |= {"rouge_l": float(rouge_l(references, found).mean())}
        rows.append(row)
        print(
            f"{space:34}{pairs:>7,}{row['exact_match']:>8.1%}{row['bleu']:>7.1f}{row['rouge_l']:>9.3f}{seconds:>7.1f}"
            f"  {how}",
            flush=True,
        )

    print(f"{len(references)} sentences of {np.mean([len(text.split()) for text in references]):.1f} words, greedy")
    print(f"{'space':34}{'pairs':>7}{'exact':>8}{'BLEU':>7}{'ROUGE-L':>9}{'s/map':>7}  map")
    show("the inverter's own", 0, base.invert(encoder.encode(references)), "-", 0.0)
    own = encoder.encode(pool)
    for name, encode in spaces(encoder).items():
        new, held = encode(pool), encode(references)
        for count in (count for count in PAIRS if count <= len(pool)):
            before = time.perf_counter()
            alignment, how = align(new[:count], own[:count])
            seconds = time.perf_counter() - before
            space = Fingerprint.of_vectors(EncoderConfig(name, kind="object"), new)
            found = base.adapted(options.model, alignment, space).invert(held)
            show(name, count, found, how.split(" on ")[0], seconds)
    if options.output:
        Path(options.output).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
