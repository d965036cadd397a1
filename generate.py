"""Turn sentence vectors back into text with a trained inverter. See `python generate.py --help`."""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    import numpy as np

    from vec2text.encoders import Encoder

KINDS = ".npy .npz .pt .safetensors .json .jsonl .csv .parquet"
PIECE = 2048  # texts encoded at a time
EXAMPLES = """examples:
  python generate.py --vector vectors.npy                       a line of text for each row
  python generate.py --vector vectors.parquet --num-beams 4 --format jsonl --output texts.jsonl
  python generate.py --vector "[0.1, -0.2, ...]"                an inline vector
  my-program | python generate.py --vector -                    JSON lines on standard input
  python generate.py --text "A sentence of mine." --temperature 0.7 --top-p 0.9 --seed 1
  python generate.py --interpolate "I like tea." "I hate rain."  what lies between: 7 texts, the ends included
  python generate.py --arithmetic "king - man + woman"          the text of a sum of vectors
  python generate.py --arithmetic "0.5 * 'Hot - and dry.' + 0.5 * cold.npy"
  python generate.py --arithmetic cluster.npy                   the text of a cluster's centroid
  python generate.py --vector vectors.npy --nearest my.txt      beside each text the nearest of my own sentences

An operand of --interpolate and --arithmetic is a text, or an existing file of vectors: several stand for their mean.
In a sum, signs stand between spaces; a text that holds such signs goes in quotes, ' or ". Where the encoder's vectors
have length 1, sums, and means between which is interpolated, are rescaled to it; points on a straight line are not.

Text goes to standard output, one line for each vector, in order; everything else goes to standard error.
Bad input ends with one line that says what was wrong, and exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        sys.exit(complain(f"{message}; see --help"))


def complain(message: object) -> int:
    """One line on standard error; returns the exit code of bad input."""
    print(f"generate.py: {' '.join(str(message).split())}", file=sys.stderr)
    return 2


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="generate.py",
        description=__doc__.partition(" See")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_argument_group("input, one of").add_mutually_exclusive_group(required=True)
    source.add_argument("--vector", metavar="PATH|-", help=f"vectors: a file ({KINDS}), - or an inline JSON list")
    source.add_argument("--text", action="append", metavar="TEXT", help="embed this first; may be repeated")
    source.add_argument("--text-file", metavar="PATH", help="embed each line of a file first")
    source.add_argument("--interpolate", nargs=2, metavar=("A", "B"), help="vectors on the way from A to B (see below)")
    source.add_argument("--arithmetic", metavar="SUM", help='a signed sum, as "king - man + 0.5 * woman" (see below)')
    between = parser.add_argument_group("with --interpolate")
    between.add_argument("--points", type=int, metavar="N", help="how many, the ends A and B included (default: 7)")
    between.add_argument(
        "--linear", action="store_true", help="on the straight line, not on the arc that keeps the length (slerp)"
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="PATH|ID", help="inverter folder or hub id (default: the newest under runs/)")
    model.add_argument("--encoder", metavar="NAME", help="for all texts: the encoder (default: the inverter's own)")
    model.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    model.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the weights (default: fp32)")
    choice = parser.add_argument_group("decoding (greedy by default)")
    choice.add_argument("--num-beams", type=int, default=1, metavar="K", help="beam search with K beams")
    choice.add_argument("--temperature", type=float, metavar="T", help="sample; logits are divided by T; 0 is greedy")
    choice.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    choice.add_argument(
        "--top-p", type=float, metavar="P", help="sample among the likeliest tokens of joint probability P"
    )
    choice.add_argument("--min-new-tokens", type=int, default=0, metavar="N", help="shortest text")
    choice.add_argument("--max-new-tokens", type=int, metavar="N", help="longest text (default: longest trained on)")
    choice.add_argument("--seed", type=int, help="of sampling: the same seed gives the same texts")
    choice.add_argument("--batch-size", type=int, default=256, metavar="N", help="vectors decoded at a time (256)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        choices=("text", "jsonl"),
        default="text",
        help="jsonl: rows of index and text, and of point, expression, nearest, nearest_similarity where there are such",
    )
    output.add_argument(
        "--nearest", metavar="FILE", help="add, after tabs, the cosine to the nearest line of FILE, and that line"
    )
    output.add_argument("--output", metavar="PATH", help="file to write (default: standard output)")
    options = parser.parse_args(arguments)
    if not options.interpolate and (options.points is not None or options.linear):
        parser.error(f"--{'linear' if options.linear else 'points'} has no effect without --interpolate")
    options.points = 7 if options.points is None else options.points
    if options.points < 2:
        parser.error(f"--points is {options.points}; expected at least 2, the ends")
    if options.batch_size < 1:
        parser.error(f"--batch-size is {options.batch_size}; expected at least 1")
    return options


def read_texts(options: argparse.Namespace, operands: list[str]) -> list[str]:
    """The texts that are to be embedded: those of --text or --text-file, or the operands that are no files."""
    texts = list(options.text or [operand for operand in operands if not is_file(operand)])
    if options.text_file is not None:
        texts = read_lines(options.text_file)
    for row, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"text {row} is empty; expected a sentence")
    return texts


def read_lines(path: str) -> list[str]:
    """The lines of a text file."""
    return Path(path).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")


def is_file(operand: str) -> bool:
    """Whether an operand is a file of vectors."""
    named = Path(operand).suffix.lower() in KINDS.split()
    if named and " " not in operand and not os.path.exists(operand):
        warnings.warn(f"there is no file {operand}: it is embedded as a text", stacklevel=1)
    return named and os.path.isfile(operand)


def embed(encoder: Encoder, texts: list[str]) -> Iterator[np.ndarray]:
    """Vectors of texts, in pieces (n, D); refuses a text of which there is none."""
    from vec2text.encoders import encode_checked

    fault = getattr(encoder, "fault", lambda text: None)
    for place, text in enumerate(texts):
        found = fault(text)
        if found == "unknown_words":
            raise ValueError(
                f"text {place} ({text!r:.60}) has no word that encoder {encoder.name!r} knows: leave it out"
            )
        if found == "too_long":
            warnings.warn(
                f"text {place} is longer than the encoder reads: its vector is of its beginning", stacklevel=1
            )
    for start in range(0, len(texts), PIECE):
        yield encode_checked(encoder, texts[start : start + PIECE], encoder.dimension)


def explore(
    options: argparse.Namespace, terms: list[tuple[float, str]], embedded: dict[str, np.ndarray], normalized: bool
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The vectors of --interpolate or --arithmetic, (N, D), and what a row of jsonl says of each."""
    from vec2text.exploration import interpolate, mean, weighted_sum
    from vec2text.vectors import read_vectors

    length = 1.0 if normalized else None
    # A mean is an end of an interpolation as the inverter reads it; in a sum it is a term, as the user wrote it.
    end = length if options.interpolate else None
    vectors = [embedded[name] if name in embedded else mean(read_vectors(name), length=end) for _, name in terms]
    if options.interpolate:
        steps = [{"point": place / (options.points - 1)} for place in range(options.points)]
        return interpolate(*vectors, options.points, spherical=not options.linear), steps
    total = weighted_sum([weight for weight, _ in terms], vectors, length=length)
    return total[None], [{"expression": options.arithmetic}]


def written(row: dict[str, Any], kind: str) -> str:
    """A row as a line of the output."""
    if kind == "jsonl":
        return json.dumps(row, ensure_ascii=False)
    near = [f"{row['nearest_similarity']:.3f}", " ".join(row["nearest"].split())] if "nearest" in row else []
    return "\t".join([row["text"], *near])


def run(options: argparse.Namespace, output: TextIO) -> None:
    """Read, invert and write, batch by batch."""
    from rich.console import Console
    from rich.progress import Progress

    from vec2text.exploration import nearest, parse_sum
    from vec2text.storage import newest_inverter
    from vec2text.vectors import batched, read_vectors

    terms = [(1.0, operand) for operand in options.interpolate or []]
    if options.arithmetic is not None:
        terms = parse_sum(options.arithmetic)
    texts = read_texts(options, [operand for _, operand in terms])
    sentences = [line for line in read_lines(options.nearest) if line.strip()] if options.nearest else []
    ...
def main() -> int:
    """Parse, open the output, run; a file appears under its name only when it is whole."""
    options = parse()
    said: set[type] = set()

    def warn(message: Warning | str, kind: type[Warning], *rest: object, **more: object) -> None:
        if kind not in said:  # once for a million rows
            print(f"generate.py: warning: {message}", file=sys.stderr)
        said.add(kind)

    warnings.showwarning = warn  # type: ignore[assignment]
    target = None if options.output is None else Path(options.output)
    partial = None if target is None or (target.exists() and not target.is_file()) else Path(f"{target}.partial")
    try:
        if target is None:
            run(options, sys.stdout)
            return 0
        with (partial or target).open("w", encoding="utf-8") as output:  # a pipe or a device is written as it is
            run(options, output)
        if partial:
            partial.replace(target.resolve())
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        complain(f"stopped; the rows so far are in {partial}" if partial else "stopped")
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        if partial:
            partial.unlink(missing_ok=True)
        elif getattr(error, "errno", 0) == errno.ENOSPC:  # what waits for standard output cannot be written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
