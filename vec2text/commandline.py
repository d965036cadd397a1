"""Command lines: what the commands share: flags, quick imports, and errors and warnings of one line each.

Knows nothing of vectors or models, and imports nothing heavy: bad flags and --help are answered at once.
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        sys.exit(complain(self.prog, f"{message}; see --help"))

    def no_effect(self, option: str, why: str) -> NoReturn:
        """Say that an option, by its name in the namespace, does nothing with or without another, and leave."""
        self.error(f"--{option.replace('_', '-')} has no effect {why}")

    def at_least(self, options: argparse.Namespace, **least: int) -> None:
        """Leave, saying so, where one of these options was given and is less than it may be."""
        for option, low in least.items():
            value = getattr(options, option)
            if value is not None and value < low:
                self.error(f"--{option.replace('_', '-')} is {value}; expected at least {low}")


def command_parser(program: str, says: str, examples: str) -> Parser:
    """A command's parser.

    Args:
        program: its name.
        says: its module's docstring; --help shows what stands before " See".
        examples: the end of --help, with its line ends.
    """
    layout = argparse.RawDescriptionHelpFormatter
    return Parser(prog=program, description=says.partition(" See")[0], epilog=examples, formatter_class=layout)


def add_inverter_group(parser: Parser, title: str, *, encoder: str) -> argparse._ArgumentGroup:
    """The flags that say which inverter, with which encoder, and where; `encoder` says what the latter is for."""
    group = parser.add_argument_group(title)
    group.add_argument(
        "--model",
        metavar="PATH|ID",
        help="inverter folder or hub id; minilm-en comes with the package (default: the newest under runs/, else that)",
    )
    group.add_argument("--encoder", metavar="NAME", help=f"{encoder} (default: the inverter's own)")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    return group


def complain(program: str, message: object) -> int:
    """One line on standard error; returns the exit code of bad input."""
    sys.stderr.write(f"{program}: {' '.join(str(message).split())}\n")
    return 2


def warn_in_lines(program: str) -> None:
    """From now on a warning is one line on standard error, said once by each place that warns, for a million rows."""
    said: set[tuple[str, int]] = set()

    def warn(message: Warning | str, kind: type[Warning], file: str, line: int, *rest: object, **more: object) -> None:
        if (file, line) not in said:
            complain(program, f"warning: {message}")
        said.add((file, line))

    warnings.showwarning = warn  # type: ignore[assignment]


@contextmanager
def importing() -> Iterator[None]:
    """Around imports that take seconds: a fifth of that goes into searching, again and again, for cycles to free.

    What they made lives as long as the process, so it is never searched later either. Does nothing where all of them
    are there already.
    """
    if "vec2text.inverter" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
