"""Ahead: what is asked for next is made in another thread meanwhile.

Knows nothing of what is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_AHEAD = 2  # of what has been asked for


def ahead(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """`make(item)` of each item, in order, and as an error where that raised one.

    Args:
        make: called in another thread, one item at a time.
        items: what it is called with.
    """
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
