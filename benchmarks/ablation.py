"""Ablation of the projection: kind, prefix length and vector noise, everything else alike, several seeds each.

Every run has the same sentences, MiniLM vectors, GPT from scratch, batches (by seed) and number of steps. The table
gives mean and standard deviation over the seeds, on held-out vectors as they are and with noise added to them. A
stopped ablation goes on where it was.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from vec2text.config import DataConfig, DecoderConfig, EncoderConfig, ProjectionConfig, RunConfig, TrainingConfig

NOISE = 0.05
"""Of the held-out vectors in the second half of the table: its expected length as a share of the vector's."""


def variants() -> dict[str, tuple[ProjectionConfig, float]]:
    """What is compared: name -> projection and training noise."""
    base = ProjectionConfig("mlp", 4)
    found = {"zero_pad, prefix 1": (ProjectionConfig("zero_pad", 1), 0.0)}
    for kind in ("linear", "mlp"):
        for length in (1, 4, 16):
            found[f"{kind}, prefix {length}"] = (ProjectionConfig(kind, length), 0.0)
    for noise in (0.01, 0.05):
        found[f"mlp, prefix 4, noise {noise}"] = (base, noise)
    return found


def configurations(options: argparse.Namespace) -> Iterator[tuple[str, RunConfig]]:
    """Every run, seed after seed, so that a stopped ablation has compared everything at least once."""
    for seed in range(options.seeds):
        for name, (projection, noise) in variants().items():
            yield (
                name,
                RunConfig(
                    name=f"{name.replace(', ', '-').replace(' ', '')}-seed{seed}",
                    encoder=EncoderConfig("all-MiniLM-L6-v2"),
                    data=DataConfig([options.texts], limit=options.limit, max_words=options.max_words),
                    decoder=DecoderConfig(
                        "scratch", hidden_size=384, layers=4, heads=6, vocabulary_size=4096, dropout=0.0
                    ),
                    projection=projection,
                    training=TrainingConfig(
                        steps=options.steps,
                        batch_sentences=options.batch_sentences,
                        noise=noise,
                        seed=seed,
                        evaluate_every=options.steps,
                        sample_every=options.steps,
                        checkpoint_every=max(1, options.steps // 4),
                    ),
                    runs=options.runs,
                ),
            )


def with_noise(folder: Path) -> dict[str, float]:
    """Scores of a finished run on its held-out vectors with noise added, as metrics of text alone."""
    from vec2text.inverter import Inverter
    from vec2text.metrics import corpus_bleu, exact_match

    kept = folder / "noise.json"
    if not kept.exists():
        inverter = Inverter.from_pretrained(folder / "inverter")
        vectors = np.load(folder / "heldout.npy")
        references = (folder / "heldout.txt").read_text(encoding="utf-8").splitlines()
        spread = NOISE * np.linalg.norm(vectors, axis=1, keepdims=True) / vectors.shape[1] ** 0.5
        noisy = vectors + spread * np.random.default_rng(0).standard_normal(vectors.shape)
        texts = inverter.invert(noisy.astype(np.float32))
        kept.write_text(json.dumps({"exact": exact_match(references, texts), "bleu": corpus_bleu(references, texts)}))
    scores: dict[str, float] = json.loads(kept.read_text())
    return scores


def table(options: argparse.Namespace) -> Iterator[str]:
    """The runs that are complete, a line a variant: mean and standard deviation over the seeds."""
    rows: dict[str, list[list[float]]] = {}
    for name, config in configurations(options):
        folder = Path(config.runs) / config.name
        if (folder / "results.json").exists():
            scores, noisy = json.loads((folder / "results.json").read_text())["inverter"], with_noise(folder)
            found = [100 * scores["exact_match"], scores["bleu"], 100 * noisy["exact"], noisy["bleu"]]
            rows.setdefault(name, []).append([*found, last_loss(folder)])
    yield "| | seeds | exact match | BLEU | exact match, noise 0.05 | BLEU, noise 0.05 | validation loss |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, values in rows.items():
        mean, spread = np.mean(values, 0), np.std(values, 0, ddof=1 if len(values) > 1 else 0)
        digits = ("{:.1f}% ± {:.1f}", "{:.1f} ± {:.1f}", "{:.1f}% ± {:.1f}", "{:.1f} ± {:.1f}", "{:.3f} ± {:.3f}")
        cells = (text.format(m, s) for text, m, s in zip(digits, mean, spread, strict=True))
        yield f"| {name} | {len(values)} | {' | '.join(cells)} |"


def last_loss(folder: Path) -> float:
    """The validation loss at the end of a run."""
    rows = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return float([row["loss/validation"] for row in rows if "loss/validation" in row][-1])


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", default="data/sentences.en.txt", help="sentences, one a line (those of data/)")
    parser.add_argument("--limit", type=int, help="at most this many of them (default: all)")
    parser.add_argument("--max-words", type=int, help="leave longer sentences out")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of every run (1000)")
    parser.add_argument("--batch-sentences", type=int, default=128, help="sentences a step (128)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every variant (3)")
    parser.add_argument("--only-seed", type=int, help="run those of one seed, for several processes side by side")
    parser.add_argument("--runs", default="runs/ablation", help="folder of the runs")
    options = parser.parse_args()
    from vec2text import runs

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vec2text").setLevel(logging.INFO)
    for _, config in configurations(options):
        if options.only_seed in (None, config.training.seed):
            print(f"== {config.name}: {asdict(replace(config.projection))}", file=sys.stderr)
            runs.train(config)
    print("\n".join(table(options)))


if __name__ == "__main__":
    main()
