"""Signals: Ctrl-C and SIGTERM, collected so that a program ends where it can.

Knows nothing of what is going on meanwhile.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of dying of them in the middle of a step; a second Ctrl-C kills."""
    received: list[int] = []
    first: list[float] = []

    def note(number: int, frame: Any) -> None:
        # A launcher may pass the same signal on once more: only a second Ctrl-C after a while is one.
        if received and number == signal.SIGINT and time.monotonic() - first[0] > 1:
            raise KeyboardInterrupt
        received.append(number)
        first.append(time.monotonic())

    try:
        former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals are not ours
        former = {}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
