"""Ablations: what one choice brings when all else is alike, on held-out sentences.

Two of them. `projection`: its kind, prefix length and vector noise, several seeds each, on vectors as they are and with
noise added. `sizes`: of the GPT, its vocabulary, the prefix and the number of sentences seen, one seed each. All runs
have MiniLM vectors, a GPT from scratch and as many sentences a step. A stopped ablation goes on where it was.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from vec2text.config import DataConfig, DecoderConfig, EncoderConfig, ProjectionConfig, RunConfig, TrainingConfig

NOISE = 0.05
"""Of the held-out vectors in the second half of the projection's table: its expected length as a share of theirs."""


@dataclass(frozen=True)
class Variant:
    """What one row is made with."""

    projection: ProjectionConfig
    noise: float = 0.0
    decoder: dict[str, int] = field(default_factory=lambda: {"hidden_size": 384, "layers": 4, "vocabulary_size": 4096})
    steps: float = 1.0
    """As a multiple of the steps that the command line names."""
    optimizer: str = "adamw"
    learning_rate: float = 5e-4

    def config(self, name: str, options: argparse.Namespace, seed: int) -> RunConfig:
        """The run."""
        steps = max(1, round(options.steps * self.steps))
        return RunConfig(
            name=f"{name.replace(', ', '-').replace(' ', '')}-seed{seed}",
            encoder=EncoderConfig(options.encoder),
            data=DataConfig([options.texts], limit=options.limit, max_words=options.max_words, cache=options.cache),
            decoder=DecoderConfig("scratch", heads=self.decoder["hidden_size"] // 64, dropout=0.0, **self.decoder),
            projection=self.projection,
            training=TrainingConfig(
                steps=steps,
                batch_sentences=options.batch_sentences,
                optimizer=self.optimizer,
                learning_rate=self.learning_rate,
                noise=self.noise,
                seed=seed,
                evaluate_every=steps,
                sample_every=steps,
                checkpoint_every=max(1, steps // 4),
                calibration_sentences=0,  # no table has confidence
            ),
            runs=options.runs,
        )


def of_the_projection() -> dict[str, Variant]:
    """Kind, prefix length and noise: name -> variant."""
    found = {"zero_pad, prefix 1": Variant(ProjectionConfig("zero_pad", 1))}
    for kind in ("linear", "mlp"):
        for length in (1, 4, 16):
            found[f"{kind}, prefix {length}"] = Variant(ProjectionConfig(kind, length))
    for noise in (0.01, 0.05):
        found[f"mlp, prefix 4, noise {noise}"] = Variant(ProjectionConfig("mlp", 4), noise)
    return found


def of_sizes() -> dict[str, Variant]:
    """One size at a time away from the first row; then more sentences for the smallest and the largest GPT."""

    def variant(
        width: int = 384, layers: int = 4, vocabulary: int = 8192, prefix: int = 4, seen: float = 1.0
    ) -> Variant:
        decoder = {"hidden_size": width, "layers": layers, "vocabulary_size": vocabulary}
        return Variant(ProjectionConfig("linear", prefix), 0.0, decoder, seen, "muon", 1e-3)

    return {
        "width 384, 4 layers, vocabulary 8192, prefix 4": variant(),
        "width 256": variant(width=256),
        "width 512": variant(width=512),
        "8 layers": variant(layers=8),
        "vocabulary 4096": variant(vocabulary=4096),
        "vocabulary 16384": variant(vocabulary=16384),
        "prefix 1": variant(prefix=1),
        "prefix 8": variant(prefix=8),
        "prefix 16": variant(prefix=16),
        "half the sentences": variant(seen=0.5),
        "twice the sentences": variant(seen=2.0),
        "width 256, twice the sentences": variant(width=256, seen=2.0),
        "width 512, twice the sentences": variant(width=512, seen=2.0),
    }


def configurations(options: argparse.Namespace) -> Iterator[tuple[str, RunConfig]]:
    """Every run, seed after seed, so that a stopped ablation has compared everything at least once."""
    variants = of_sizes() if options.ablation == "sizes" else of_the_projection()
    wanted = {name for name in variants if options.only is None or any(part in name for part in options.only)}
    for seed in range(options.seeds):
        for name, variant in variants.items():
            if name in wanted:
                yield name, variant.config(name, options, seed)


def finished(options: argparse.Namespace) -> dict[str, list[Path]]:
    """The folders of the runs that are complete, by the variant's name."""
    found: dict[str, list[Path]] = {}
    for name, config in configurations(options):
        folder = Path(config.runs) / config.name
        if (folder / "results.json").exists():
            found.setdefault(name, []).append(folder)
    return found


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


def last_loss(folder: Path) -> float:
    """The validation loss at the end of a run."""
    rows = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return float([row["loss/validation"] for row in rows if "loss/validation" in row][-1])


def scores(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a finished run says of its test sentences, and of how it was trained."""
    summary = json.loads((folder / "inverter" / "inverter.json").read_text())["training"]
    return json.loads((folder / "results.json").read_text())["inverter"], summary


def table(options: argparse.Namespace) -> Iterator[str]:
    """The runs that are complete, a line a variant."""
    yield from sizes_table(options) if options.ablation == "sizes" else projection_table(options)


def projection_table(options: argparse.Namespace) -> Iterator[str]:
    """Mean and standard deviation over the seeds."""
    yield "| | seeds | exact match | BLEU | exact match, noise 0.05 | BLEU, noise 0.05 | validation loss |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, folders in finished(options).items():
        values = []
        for folder in folders:
            plain, noisy = scores(folder)[0], with_noise(folder)
            values.append(
                [100 * plain["exact_match"], plain["bleu"], 100 * noisy["exact"], noisy["bleu"], last_loss(folder)]
            )
        mean, spread = np.mean(values, 0), np.std(values, 0, ddof=1 if len(values) > 1 else 0)
        digits = ("{:.1f}% ± {:.1f}", "{:.1f} ± {:.1f}", "{:.1f}% ± {:.1f}", "{:.1f} ± {:.1f}", "{:.3f} ± {:.3f}")
        cells = (text.format(m, s) for text, m, s in zip(digits, mean, spread, strict=True))
        yield f"| {name} | {len(values)} | {' | '.join(cells)} |"


def sizes_table(options: argparse.Namespace) -> Iterator[str]:
    """A line a run: what it has cost, and what comes back."""
    yield "| | parameters | sentences seen | minutes | exact match | BLEU | validation loss |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, folders in finished(options).items():
        for folder in folders:
            found, made = scores(folder)
            seen = made["steps"] * options.batch_sentences
            cost = f"{parameters(folder) / 1e6:.1f}M | {seen:,} | {made['minutes']:.1f}"
            quality = f"{100 * found['exact_match']:.1f}% | {found['bleu']:.1f} | {last_loss(folder):.3f}"
            yield f"| {name} | {cost} | {quality} |"


def parameters(folder: Path) -> int:
    """Of a finished run's GPT and projection."""
    from vec2text.inverter import Inverter

    inverter = Inverter.from_pretrained(folder / "inverter")
    return sum(p.numel() for module in (inverter.decoder, inverter.projection) for p in module.parameters())


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablation", nargs="?", choices=("projection", "sizes"), default="projection")
    parser.add_argument("--texts", default="data/sentences.en.txt", help="sentences, one a line (those of data/)")
    parser.add_argument("--limit", type=int, help="at most this many of them (default: all)")
    parser.add_argument("--max-words", type=int, help="leave longer sentences out")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of every run (1000)")
    parser.add_argument("--batch-sentences", type=int, default=128, help="sentences a step (128)")
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="a sentence-transformer (all-MiniLM-L6-v2)")
    parser.add_argument("--seeds", type=int, help="runs of every variant (3, of sizes 1)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="only the variants whose name holds one of these")
    parser.add_argument("--only-seed", type=int, help="run those of one seed, for several processes side by side")
    parser.add_argument("--cache", default="cache", help="folder of sentences and vectors")
    parser.add_argument("--runs", default="runs/ablation", help="folder of the runs")
    options = parser.parse_args()
    options.seeds = options.seeds or (1 if options.ablation == "sizes" else 3)
    from vec2text import runs

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vec2text").setLevel(logging.INFO)
    for name, config in configurations(options):
        if options.only_seed in (None, config.training.seed):
            print(f"== {name} (seed {config.training.seed})", file=sys.stderr)
            runs.train(config)
    print("\n".join(table(options)))


if __name__ == "__main__":
    main()
