"""Command lines: what generate.py and evaluate.py share, so that an error or a warning is one line on standard error.

Knows nothing of vectors or models, and imports nothing heavy: bad flags and --help are answered at once.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        sys.exit(complain(self.prog, f"{message}; see --help"))


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
