"""What brings back how much for how many encoder queries: greedy, samples, branches and edits, correction.

All methods start from the same inverter and the same held-out sentences. The table gives, for each method and budget,
the encoder queries a vector, exact match and BLEU, and the share of the sentences that greedy decoding missed which
come back exactly; the figure draws exact match against queries, a colour for each method. The last line says what early
stopping saves.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))
from vec2text.commandline import complain
from vec2text.encoders import Encoder, encode_checked
from vec2text.evaluation import Decoded
from vec2text.inverter import Inverter
from vec2text.metrics import corpus_bleu, cosine
from vec2text.reconstruction import Reconstruction
from vec2text.refinement import refine
from vec2text.sources import read_sentences

SAMPLES = (1, 2, 4, 8, 16, 32)
TEMPERATURE = 0.6


@dataclass(frozen=True)
class Point:
    """A method at a budget."""

    method: str
    budget: str
    queries: float
    """A vector, on average."""
    exact_match: float
    bleu: float
    of_missed: float | None
    """Share of the sentences that greedy missed which come back exactly; None where it missed none."""
    seconds: float | None = None
    """A vector, on average, where that was measured: for the last round of a search."""


class Judge:
    """Turns texts into points."""

    def __init__(self, references: list[str], greedy: list[str]) -> None:
        self.references = references
        self.missed = np.array([a != b for a, b in zip(references, greedy, strict=True)])

    def point(self, method: str, budget: str, texts: list[str], queries: float) -> Point:
        """What these texts are worth."""
        right = np.array([a == b for a, b in zip(self.references, texts, strict=True)])
        of_missed = float(right[self.missed].mean()) if self.missed.any() else None
        return Point(method, budget, queries, float(right.mean()), corpus_bleu(self.references, texts), of_missed)


def samples(inverter: Inverter, encoder: Encoder, vectors: np.ndarray, judge: Judge) -> Iterator[Point]:
    """The closest of the greedy text and so many samples."""
    texts = [inverter.invert(vectors)]
    for number in range(max(SAMPLES)):
        texts.append(inverter.invert(vectors, temperature=TEMPERATURE, seed=number))
    known = list({text for row in texts for text in row})
    found = dict(zip(known, encode_checked(encoder, known, vectors.shape[1]), strict=True))
    near = np.array([cosine(np.array([found[text] for text in row]), vectors) for row in texts])  # (1 + samples, N)
    for count in SAMPLES:
        best = near[: count + 1].argmax(0)
        asked = [len({row[place] for row in texts[: count + 1]}) for place in range(len(vectors))]
        chosen = [texts[row][place] for place, row in enumerate(best)]
        yield judge.point(f"samples, temperature {TEMPERATURE}", f"{count} samples", chosen, float(np.mean(asked)))


def rounds(method: str, found: list[Reconstruction], budget: str, judge: Judge) -> Iterator[Point]:
    """A point after each round."""
    for number, (texts, queries) in enumerate(Decoded.of(found).history):
        yield judge.point(method, f"{number} x {budget}", texts, queries)


def draw(points: list[Point]) -> Figure:
    """Exact match against queries: a colour for each method, another line for each number of candidates."""
    picture = Figure(figsize=(7, 4.5), layout="constrained")
    axes = picture.subplots()
    labels = list(dict.fromkeys(point.method for point in points))
    methods = [label.partition(",")[0] for label in labels]
    for place, (label, method) in enumerate(zip(labels, methods, strict=True)):
        colour, style = sorted(set(methods)).index(method), ("-", "--", ":")[methods[:place].count(method) % 3]
        curve = sorted((point.queries, 100 * point.exact_match) for point in points if point.method == label)
        options = {"color": f"C{colour}", "linestyle": style, "marker": "o", "markersize": 3, "label": label}
        axes.plot(*zip(*curve, strict=True), **options)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("encoder queries a vector")
    axes.set_ylabel("exact match, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return picture


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="PATH", help="inverter folder")
    parser.add_argument("--texts", required=True, metavar="FILE", help="held-out sentences, one a line")
    parser.add_argument("--limit", type=int, default=300, help="sentences, evenly spread over the file (300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=4, help="a round")
    parser.add_argument("--large", type=int, nargs=2, default=(12, 16), metavar=("ROUNDS", "CANDIDATES"))
    parser.add_argument("--output", metavar="STEM", help="write STEM.json and STEM.png")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if options.output and not os.access(Path(options.output).parent, os.W_OK):
        raise ValueError(f"--output is {options.output}; expected a name in a folder that can be written")
    inverter = Inverter.from_pretrained(options.model)
    encoder = inverter.fingerprint.open_encoder()
    texts = list(read_sentences(options.texts))
    references = [texts[row] for row in np.linspace(0, len(texts) - 1, min(options.limit, len(texts))).astype(int)]
    vectors = encode_checked(encoder, references, inverter.fingerprint.dimension)
    judge = Judge(references, inverter.invert(vectors))
    correction = inverter.correction
    points: list[Point] = []

    def show(found: Iterator[Point]) -> None:
        for point in found:
            points.append(point)
            print(
                f"{point.method:40}{point.budget:>14}{point.queries:>9.1f}{point.exact_match:>9.1%}{point.bleu:>7.1f}"
                + f"{'-' if point.of_missed is None else f'{point.of_missed:.1%}':>10}"
                + ("" if point.seconds is None else f"{point.seconds:>10.2f}"),
                flush=True,
            )

    print(f"{len(references):,} sentences of {np.mean([len(text.split()) for text in references]):.1f} words")
    print(f"{'method':40}{'budget':>14}{'queries':>9}{'exact':>9}{'BLEU':>7}{'of missed':>10}{'s/vector':>10}")
    show(samples(inverter, encoder, vectors, judge))
    budget = {"rounds": options.rounds, "candidates": options.candidates}
    methods = {"branches and edits": None}
    if correction is not None:
        methods["with learned correction"] = correction
    for method, learned in methods.items():
        inverter.correction = learned
        for effort in ((1, 8), (options.rounds, options.candidates), options.large):
            before = time.perf_counter()
            found = refine(inverter, encoder, vectors, rounds=effort[0], candidates=effort[1], polish=False)
            seconds = (time.perf_counter() - before) / len(vectors)
            if effort == (options.rounds, options.candidates):
                stopped = found  # at last that of the better method
            curve = list(rounds(f"{method}, {effort[1]} a round", found, str(effort[1]), judge))
            show(iter([*curve[:-1], replace(curve[-1], seconds=seconds)]))
        before = time.perf_counter()
        found = refine(inverter, encoder, vectors, **budget)
        seconds = (time.perf_counter() - before) / len(vectors)
        *_, last = rounds(f"{method}, polished", found, str(options.candidates), judge)
        show(iter([replace(last, seconds=seconds)]))
    going = refine(inverter, encoder, vectors, **budget, polish=False, early_stop=False)
    asked = [float(np.mean([item.queries for item in found])) for found in (stopped, going)]
    same = np.mean([a.text == b.text for a, b in zip(stopped, going, strict=True)])
    print(
        f"early stop, {options.rounds} x {options.candidates}: {asked[0]:.1f} queries a vector instead of "
        f"{asked[1]:.1f} ({1 - asked[0] / asked[1]:.0%} saved), the same text for {same:.1%} of the vectors"
    )
    if options.output:
        report = {"model": options.model, "sentences": len(references), "points": [asdict(point) for point in points]}
        report |= {"early_stop": {"queries": asked[0], "without": asked[1], "same_text": float(same)}}
        Path(f"{options.output}.json").write_text(json.dumps(report, indent=2) + "\n")
        draw(points).savefig(f"{options.output}.png", dpi=110)


if __name__ == "__main__":
    torch.manual_seed(0)
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(complain("refinement.py", error))
