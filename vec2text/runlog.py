"""The log of a run: tables and progress in the terminal, TensorBoard, and JSON lines in the run's folder.

Knows nothing of models: it is given numbers and texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from vec2text.storage import write_text_whole

_QUIET_SECONDS = 20


class RunLog:
    """Where a run tells how it goes.

    Args:
        folder: the run's; `metrics.jsonl`, `samples.jsonl` and `tensorboard/` are written there.
        step: the step from which the run goes on; later entries of an earlier start are dropped.
        silent: write nothing (all processes but the first).
    """

    def __init__(self, folder: Path, step: int, *, silent: bool = False) -> None:
        self.console = Console(quiet=silent)
        self.silent, self._folder, self._last_line = silent, folder, time.monotonic()
        columns = (BarColumn(30), TaskProgressColumn(), TextColumn("{task.description}"))
        times = (TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("left"))
        live = self.console.is_terminal and not silent
        self._bar = Progress(*columns, *times, console=self.console, disable=not live)
        self._task = self._bar.add_task("", total=1.0)
        self._writer = None
        if not silent:
            for name in ("metrics.jsonl", "samples.jsonl"):
                _keep_until(folder / name, step)
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._bar.start()

    def close(self) -> None:
        """Stop the bar and flush the files."""
        self._bar.stop()
        if self._writer:
            self._writer.close()

    def say(self, text: str) -> None:
        """A line in the terminal."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, share: float, text: str) -> None:
        """Move the bar; where there is no terminal, a line now and then."""
        self._bar.update(self._task, completed=share, description=text)
        if not self.console.is_terminal and time.monotonic() - self._last_line > _QUIET_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{share:4.0%}  {text}")

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Scalars: a row of metrics.jsonl, and TensorBoard."""
        if self._writer:
            self._append("metrics.jsonl", {"step": step, **values})
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def samples(
        self, step: int, references: Sequence[str], reconstructions: Sequence[str], similarities: np.ndarray
    ) -> None:
        """The sample table: terminal, samples.jsonl, TensorBoard's text page."""
        rows = list(zip(references, reconstructions, (float(s) for s in similarities), strict=True))
        table = Table(title=f"held-out sentences at step {step:,}", title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("reference", ratio=1)
        table.add_column("reconstruction", ratio=1)
        table.add_column("similarity", justify="right")
        for reference, text, similarity in rows:
            style = "green" if reference == text else ""
            table.add_row(escape(reference), escape(text), _digits(similarity), style=style)
        self.console.print(table)
        if self._writer:
            samples = [
                {"reference": r, "reconstruction": t, "similarity": None if isnan(s) else round(s, 4)}
                for r, t, s in rows
            ]
            self._append("samples.jsonl", {"step": step, "samples": samples})
            lines = [f"| {_cell(r)} | {_cell(t)} | {_digits(s)} |" for r, t, s in rows]
            head = "| reference | reconstruction | similarity |\n|---|---|--:|\n"
            self._writer.add_text("samples", head + "\n".join(lines), step)

    def projector(
        self, step: int, vectors: np.ndarray, references: Sequence[str], reconstructions: Sequence[str]
    ) -> None:
        """TensorBoard's embedding projector: held-out vectors (N, D), each with its sentence and reconstruction."""
        if self._writer:
            labels = [[_cell(r), _cell(t)] for r, t in zip(references, reconstructions, strict=True)]
            self._writer.add_embedding(
                vectors, labels, tag="held-out", metadata_header=["sentence", "reconstruction"], global_step=step
            )

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _digits(similarity: float) -> str:
    return "-" if isnan(similarity) else f"{similarity:.3f}"


def _cell(text: str) -> str:
    """A text as it may stand in a cell of a table or a .tsv file."""
    return " ".join(text.replace("|", "\\|").split()) or "-"


def _keep_until(path: Path, step: int) -> None:
    """Drop the rows after `step`, and a row that a kill cut in half."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n"):  # not splitlines: a text may hold other line ends
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    write_text_whole(path, "".join(kept))
