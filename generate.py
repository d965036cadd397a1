"""Turn sentence vectors back into text with a trained inverter. See `python generate.py --help`."""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vec2text.commandline import add_inverter_group, command_parser, complain, importing, warn_in_lines

if TYPE_CHECKING:
    import numpy as np

KINDS = ".npy .npz .pt .safetensors .json .jsonl .csv .parquet"
PROGRAM = "generate.py"
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
  python generate.py --vector vectors.npy --refine 5 --candidates 8 --n-best 3 --format jsonl
  python generate.py --vector vectors.npy --starts-with "The hotel" --max-words 9
  python generate.py --vector vectors.npy --must-contain Dublin --must-contain quiet --refine 5
  python generate.py --vector vectors.npy --nearest my.txt      beside each text the nearest of my own sentences

An operand of --interpolate and --arithmetic is a text, or an existing file of vectors: several stand for their mean.
In a sum, signs stand between spaces; a text that holds such signs goes in quotes, ' or ". Where the encoder's vectors
have length 1, sums, and means between which is interpolated, are rescaled to it; points on a straight line are not.

Text goes to standard output, one line for each vector, in order; everything else goes to standard error.
Bad input ends with one line that says what was wrong, and exit code 2. When the encoder fails in the middle of
--refine, what was found is written all the same, each vector that was not reached gets its plain text (in jsonl with
similarity null), one line says how many were done, and the exit code is 3."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(PROGRAM, __doc__, EXAMPLES)
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
    model = add_inverter_group(parser, "model", encoder="for all texts: the encoder")
    model.add_argument("--precision", choices=("fp32", "bf16"), help="of the weights (default: as they were saved)")
    choice = parser.add_argument_group("decoding (greedy by default)")
    choice.add_argument("--num-beams", type=int, metavar="K", help="beam search with K beams")
    choice.add_argument("--temperature", type=float, metavar="T", help="sample; logits are divided by T; 0 is greedy")
    choice.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    choice.add_argument(
        "--top-p", type=float, metavar="P", help="sample among the likeliest tokens of joint probability P"
    )
    choice.add_argument("--min-new-tokens", type=int, default=0, metavar="N", help="shortest text")
    choice.add_argument("--max-new-tokens", type=int, metavar="N", help="longest text (default: longest trained on)")
    choice.add_argument("--seed", type=int, help="of sampling: the same seed gives the same texts")
    choice.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="vectors decoded at a time (256); a GPU wants 1024"
    )
    known = parser.add_argument_group("constraints: what is known of every text, with and without --refine")
    known.add_argument(
        "--starts-with",
        metavar="TEXT",
        help='it begins with TEXT, case and all: "The hot" may go on as "The hotel", "The hot " may not',
    )
    known.add_argument(
        "--must-contain",
        action="append",
        metavar="WORD",
        help='it has this whole word, or words, in any case: "red boat"; may be repeated; not with beams or sampling',
    )
    known.add_argument("--max-words", type=int, metavar="N", help="it has at most N words, as white space divides them")
    search = parser.add_argument_group("refinement (re-embeds what was written; needs the encoder)")
    search.add_argument(
        "--refine", type=int, metavar="ROUNDS", help="search on from the plain text for up to so many rounds"
    )
    search.add_argument(
        "--candidates",
        type=int,
        metavar="K",
        help="branches compared a round, of plain inversion and each of the closest three if it has learned to correct "
        "(default: 4); twice as many edits, again while they help",
    )
    search.add_argument(
        "--no-polish",
        action="store_true",
        help="do not end the last round with many edits more, as long as they help: 5 rounds of 4 are some 20 to 60 "
        "queries a vector then, 100 for long texts; else up to some 200, and 450",
    )
    search.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="in jsonl: N texts, that which is given and the closest others (default: 1)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        choices=("text", "jsonl"),
        default="text",
        help="jsonl: index, text, and what there is of point, expression, similarity, confidence, queries, rounds, "
        "hypotheses, nearest, nearest_similarity; confidence: P(the text is exact), null where that was not calibrated",
    )
    output.add_argument(
        "--nearest", metavar="FILE", help="add, after tabs, the cosine to the nearest line of FILE, and that line"
    )
    output.add_argument("--output", metavar="PATH", help="file to write (default: standard output)")
    options = parser.parse_args(arguments)
    if not options.interpolate and (options.points is not None or options.linear):
        parser.no_effect("linear" if options.linear else "points", "without --interpolate")
    for name in ("candidates", "no_polish", "n_best"):
        if options.refine is None and getattr(options, name) not in (None, False):
            parser.no_effect(name, "without --refine")
    parser.at_least(options, refine=0, candidates=1, batch_size=1)
    if options.refine == 0 and options.candidates is not None and not options.must_contain:
        parser.no_effect("candidates", "with --refine 0, which tries none")
    if options.no_polish and options.refine < 2:
        parser.no_effect("no_polish", f"with --refine {options.refine}: only the last of several rounds is polished")
    choices = ("temperature", "top_k", "top_p", "seed", "num_beams")
    sampling = [name for name in choices if getattr(options, name) is not None]
    sampling += [name for name in ("min_new_tokens",) if options.min_new_tokens]
    if options.refine is not None and sampling:
        parser.no_effect(sampling[0], "with --refine, which starts from greedy texts")
    if options.n_best is not None and (options.n_best < 1 or options.format != "jsonl"):
        parser.error(f"--n-best is {options.n_best} with --format {options.format}; expected at least 1, with jsonl")
    options.num_beams = 1 if options.num_beams is None else options.num_beams
    options.candidates = 4 if options.candidates is None else options.candidates
    options.points = 7 if options.points is None else options.points
    if options.points < 2:
        parser.error(f"--points is {options.points}; expected at least 2, the ends")
    return options


def texts_of(options: argparse.Namespace, operands: list[str]) -> list[str]:
    """The texts that are to be embedded: of --text or --text-file, or the operands that are no files."""
    from vec2text.sources import is_file, read_lines

    if options.text_file is not None:
        return read_lines(options.text_file)
    return options.text or [operand for operand in operands if not is_file(operand)]


def make_vectors(
    options: argparse.Namespace, terms: list[tuple[float, str]], pieces: Iterator[np.ndarray], normalized: bool
) -> tuple[Iterator[np.ndarray], Iterator[dict[str, Any]]]:
    """The vectors, in pieces (n, D), and what jsonl says of each; `pieces` are those of the texts."""
    from vec2text.sources import total, way
    from vec2text.vectors import read_vectors

    if options.interpolate:
        arc = not options.linear
        points = way(options.interpolate, pieces, options.points, spherical=arc, normalized=normalized)
        return iter([points]), ({"point": round(step / (len(points) - 1), 6)} for step in range(len(points)))
    if options.arithmetic is not None:
        return iter([total(terms, pieces, normalized=normalized)[None]]), iter([{"expression": options.arithmetic}])
    return pieces if options.vector is None else read_vectors(options.vector), itertools.repeat({})


def run(options: argparse.Namespace, output: TextIO) -> int:
    """Read, invert and write, batch by batch; returns the exit code."""
    with importing():
        from rich.console import Console
        from rich.progress import Progress

        from vec2text.constraints import Constraints
        from vec2text.exploration import parse_sum
        from vec2text.sources import embed, embed_all, read_lines
        from vec2text.storage import default_inverter
        from vec2text.vectors import batched, read_vectors

    constraints = Constraints(options.starts_with, options.must_contain or (), options.max_words)
    terms = [(1.0, operand) for operand in options.interpolate or ()]
    if options.arithmetic is not None:
        terms = parse_sum(options.arithmetic)
    texts = texts_of(options, [operand for _, operand in terms])
    sentences = [text for text in read_lines(options.nearest) if text.strip()] if options.nearest is not None else []
    if options.nearest is not None and not sentences:
        raise ValueError(f"{options.nearest}: there is no sentence in it; expected one a line")
    if options.encoder and not texts and not sentences and options.refine is None:
        raise ValueError("--encoder has no effect: there is no text to embed, only vectors")
    total = (options.points if options.interpolate else 1) if terms else len(texts) or None
    if options.vector not in (None, "-"):  # every row is checked before the first is written
        total = sum(len(piece) for piece in read_vectors(options.vector))
    with importing():
        import numpy as np
        import torch

        from vec2text.inverter import Inverter
        from vec2text.refinement import refine
        from vec2text.rows import Refining, add_nearest, line

    model = options.model or default_inverter()
    inverter = Inverter.from_pretrained(model, device=options.device, precision=options.precision)
    fingerprint = inverter.fingerprint
    print(f"inverter: {model} ({fingerprint.encoder.name})", file=sys.stderr)
    generator = torch.Generator()
    generator.seed() if options.seed is None else generator.manual_seed(options.seed)
    chosen = {name: getattr(options, name) for name in ("num_beams", "temperature", "top_k", "top_p", "batch_size")}
    chosen |= {"min_tokens": options.min_new_tokens, "seed": generator}
    always = {"max_tokens": options.max_new_tokens, "constraints": constraints}
    encoder: Any = None
    progress = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
    task, done = progress.add_task("inverting", total=total), 0
    budget = {"rounds": options.refine, "candidates": options.candidates, "polish": not options.no_polish}
    budget |= {"batch_size": options.batch_size, **always}
    refining = Refining(
        lambda batch: refine(
            inverter,
            encoder,
            batch,
            **budget,
            show=lambda share: progress.update(task, completed=done + share * len(batch)),
        ),
        lambda batch: inverter.invert(batch, **chosen, **always),
        options.n_best or 1,
    )
    write = refining.rows if options.refine is not None else refining.texts
    write(np.zeros((0, fingerprint.dimension)))  # what cannot be is refused before anything is embedded
    if texts or sentences or options.refine is not None:
        encoder = fingerprint.open_encoder(options.encoder, options.device)
    pieces, notes = make_vectors(options, terms, embed(encoder, texts), fingerprint.normalized)
    with progress:
        known = embed_all(encoder, sentences, progress) if sentences else None
        for batch in batched(pieces, options.batch_size):
            both = zip(write(batch), notes, strict=False)  # texts first: no note is lost
            rows = [{"index": index, **note, **text} for index, (text, note) in enumerate(both, done)]
            if known is not None:
                add_nearest(rows, batch, sentences, known)
            output.writelines(line(row, options.format) for row in rows)
            done += len(batch)
            output.flush()
            progress.update(task, completed=done)
    if (failure := refining.failure()) is None:
        return 0
    complain(PROGRAM, failure)
    return 3


def main() -> int:
    """Parse, open the output, run; a file appears under its name only when it is whole."""
    options = parse()
    warn_in_lines(PROGRAM)
    code = 0
    target = None if options.output is None else Path(options.output)
    partial = None if target is None or (target.exists() and not target.is_file()) else Path(f"{target}.partial")
    try:
        if target is None:
            return run(options, sys.stdout)
        with (partial or target).open("w", encoding="utf-8") as output:  # a pipe or a device is written as it is
            code = run(options, output)
        if partial:
            partial.replace(target.resolve())
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        complain(PROGRAM, f"stopped; the rows so far are in {partial}" if partial else "stopped")
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        if partial:
            partial.unlink(missing_ok=True)
        elif getattr(error, "errno", 0) == errno.ENOSPC:  # what waits for standard output cannot be written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return complain(PROGRAM, error)
    return code


if __name__ == "__main__":
    sys.exit(main())
