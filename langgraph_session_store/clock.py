"""Event times: strictly increasing in a process, and on the database's clock once it was heard.

Raw wall clocks refuse newest writes when two hosts differ by seconds, and step back when they are set. So a process asks the wall
clock once, counts on with the monotonic clock, and moves its origin to the database's clock at the first contact.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """One process's source of event times, in microseconds since the epoch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._origin = time.time_ns() // 1000 - monotonic()
        self._first = self._origin
        self._last = 0
        self.anchored = False
        _clocks.add(self)

    def tick(self) -> tuple[int, int, bool]:
        """Return ``(now, monotonic now, anchored)``; *now* is later than any that was returned before."""
        with self._lock:
            mono = time.monotonic_ns() // 1000
            now = self._origin + mono
            if now <= self._last:
                now = self._last + 1
            self._last = now
            return now, mono, self.anchored

    def anchor(self, database_now: int, at: int) -> None:
        """Take the database's *database_now* for this process's monotonic moment *at*, both in microseconds."""
        with self._lock:
            origin = database_now - at
            if not self.anchored:
                # Times given out so far were the wall clock's. They are corrected when they are stored, and stay before all others.
                self._first, self._last = origin, origin + monotonic()
            self._origin = origin
            self.anchored = True

    def at(self, mono: int) -> int:
        """Return the time of the monotonic moment *mono* as the clock now knows it."""
        return self._origin + mono

    def early(self, mono: int) -> int:
        """Return the time of a moment before the first contact, by that contact: later ones differ by a round trip."""
        return self._first + mono

    @property
    def offset(self) -> int:
        """Microseconds that the database's clock is ahead of this machine's wall clock, as far as known."""
        return self._origin + monotonic() - time.time_ns() // 1000


_clocks: weakref.WeakSet[Clock] = weakref.WeakSet()


def _after_fork() -> None:
    for clock in _clocks:
        clock._lock = threading.Lock()  # noqa: SLF001 - the same module; a thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def monotonic() -> int:
    """Return this boot's monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


def to_datetime(microseconds: int) -> datetime:
    """Return *microseconds* since the epoch as an aware datetime."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_iso(microseconds: int) -> str:
    """Return *microseconds* since the epoch as ISO 8601 text in UTC."""
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(second)}.{fraction:06d}+00:00" if fraction else f"{_second(second)}+00:00"


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]  # what costs most is the same for all rows of a second


def told(moment: datetime, precision: str = "auto") -> str:
    """Return *moment* as answers in JSON and csv hold it: ISO 8601, UTC as ``Z``, which needs no escape in a URL."""
    text = moment.isoformat(timespec=precision)
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def to_microseconds(moment: datetime) -> int:
    """Return an aware datetime as microseconds since the epoch."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds  # four times as fast as a division
