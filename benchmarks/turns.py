"""Turns: things run one after the other, round after round (A B A B ...), and how they compare.

What slows the machine down slows all of them down: only ratios within a round are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Line:
    """A line of the table: ours against one other thing."""

    row: str
    """Of the suite, such as `decoding`."""
    what: str
    """What was done, such as `64 vectors, greedy`."""
    against: str
    """The other thing."""
    unit: str
    """Of both rates."""
    ours: float
    """Median rate."""
    theirs: float
    """Median rate."""
    ratio: float
    """Median over the rounds of ours / theirs: above 1 is faster, or a share of what can be reached."""
    low: float
    """The least ratio of a round."""
    high: float
    """The greatest."""
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def rate(work: Callable[[], Any], amount: float, device: str, least: float = 0.0) -> float:
    """How much of `amount` is done a second, over as many calls of `work` as take `least` seconds."""
    synchronize(device)
    start, calls, seconds = time.perf_counter(), 0, 0.0
    while calls == 0 or seconds < least:
        work()
        synchronize(device)
        calls, seconds = calls + 1, time.perf_counter() - start
    return calls * amount / seconds


def in_turn(contenders: dict[str, Callable[[], float]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """The rates that contenders give, in rounds in which each has its turn; a first round to warm up does not count."""
    if warm:
        for contender in contenders.values():
            contender()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            found[name].append(contender())
    return found


def compare(
    row: str, what: str, against: str, unit: str, ours: list[float], theirs: list[float], remark: str = ""
) -> Line:
    """The line of two lists of rates, round by round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    medians = map(statistics.median, (ours, theirs, ratios))
    return Line(row, what, against, unit, *medians, min(ratios), max(ratios), remark)


def table(lines: list[Line]) -> str:
    """Lines as text in columns."""
    heads = ("row", "what", "against", "ours", "theirs", "unit", "ratio", "min..max")
    cells = []
    for line in lines:
        numbers = [_short(number) for number in (line.ours, line.theirs, line.ratio, line.low, line.high)]
        ours, theirs, ratio, low, high = numbers
        cells.append((line.row, line.what, line.against, ours, theirs, line.unit, ratio, f"{low}..{high}"))
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *cells)]
    remarks = ["", *(line.remark for line in lines)]
    return "\n".join(f"{row}  {remark}".rstrip() for row, remark in zip(rows, remarks, strict=True))


def _short(number: float) -> str:
    """Three digits that mean something."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"
