"""Computing beside a graph without holding it up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

TURN: Final = 0.000_5  # seconds of computing, of Python's own 5 ms (`sys.getswitchinterval`)
PAUSE: Final = 0.000_05  # seconds, which another thread needs to wake up


def share(items: Iterable[T]) -> Iterator[T]:
    """Yield *items*, and let go of the interpreter's lock again and again between them.

    A thread that only computes gives it up after 5 ms, and a graph's thread waits so long after each of its system calls.
    """
    rest_at = time.perf_counter() + TURN
    for item in items:
        yield item
        if time.perf_counter() > rest_at:
            time.sleep(PAUSE)
            rest_at = time.perf_counter() + TURN
