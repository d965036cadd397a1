"""Turn sentence vectors back into text with a trained inverter. See `python generate.py --help`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """examples:
  python generate.py --vector vectors.npy                       a line of text for each row
  python generate.py --vector vectors.parquet --num-beams 4 --format jsonl --output texts.jsonl
  python generate.py --vector "[0.1, -0.2, ...]"                an inline vector
  my-program | python generate.py --vector -                    JSON lines on standard input
  python generate.py --text "A sentence of mine." --temperature 0.7 --top-p 0.9 --seed 1

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
    kinds = ".npy .npz .pt .safetensors .json .jsonl .csv .parquet"
    source.add_argument("--vector", metavar="PATH|-", help=f"vectors: a file ({kinds}), - or an inline JSON list")
    source.add_argument("--text", action="append", metavar="TEXT", help="embed this first; may be repeated")
    source.add_argument("--text-file", metavar="PATH", help="embed each line of a file first")
    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="PATH|ID", help="inverter folder or hub id (default: the newest under runs/)")
    model.add_argument("--encoder", metavar="NAME", help="for texts: the encoder (default: the inverter's own)")
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
    output.add_argument("--format", choices=("text", "jsonl"), default="text", help="jsonl: {index, text} rows")
    output.add_argument("--output", metavar="PATH", help="file to write (default: standard output)")
    options = parser.parse_args(arguments)
    if options.encoder and options.vector is not None:
        parser.error("--encoder has no effect with --vector: it is for --text and --text-file")
    if options.batch_size < 1:
        parser.error(f"--batch-size is {options.batch_size}; expected at least 1")
    return options


def read_texts(options: argparse.Namespace) -> list[str]:
    """The texts of --text or --text-file."""
    texts: list[str] = options.text or Path(options.text_file).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    for row, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"text {row} is empty; expected a sentence")
    return texts


def run(options: argparse.Namespace, output: TextIO) -> None:
    """Read, invert and write, batch by batch."""
    from rich.console import Console
    from rich.progress import Progress

    from vec2text.storage import newest_inverter
    from vec2text.vectors import batched, read_vectors

    texts = read_texts(options) if options.vector is None else None
    total = len(texts) if texts else None
    if options.vector not in (None, "-"):  # every row is checked before the first is written
        total = sum(len(piece) for piece in read_vectors(options.vector))
    import torch

    from vec2text.decoders import quiet
    from vec2text.inverter import Inverter

    quiet()
    model = options.model or newest_inverter()
    inverter = Inverter.from_pretrained(model, device=options.device, precision=options.precision)
    print(f"inverter: {model} ({inverter.fingerprint.encoder.name})", file=sys.stderr)
    generator = torch.Generator()
    generator.seed() if options.seed is None else generator.manual_seed(options.seed)
    chosen = {name: getattr(options, name) for name in ("num_beams", "temperature", "top_k", "top_p", "batch_size")}
    chosen |= {"min_tokens": options.min_new_tokens, "max_tokens": options.max_new_tokens, "seed": generator}
    pieces: Iterator[np.ndarray] = iter([]) if texts else read_vectors(options.vector)
    if texts:
        encoder = inverter.fingerprint.open_encoder(options.encoder, options.device)
        for place, text in enumerate(texts):
            if not encoder.fits(text):
                warnings.warn(
                    f"text {place} is longer than the encoder reads: its vector is of its beginning", stacklevel=1
                )
        pieces = (encoder.encode(texts[start : start + 2048]) for start in range(0, len(texts), 2048))
    done = 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("inverting", total=total)
        for batch in batched(pieces, options.batch_size):
            for index, text in enumerate(inverter.invert(batch, **chosen), done):
                row = {"index": index, "text": text}
                output.write((text if options.format == "text" else json.dumps(row, ensure_ascii=False)) + "\n")
            done += len(batch)
            output.flush()
            progress.advance(task, len(batch))


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
