"""Where events come in: appended to the spool, or kept in memory where the disk does not take them, or dropped and counted."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..errors import SpoolError
from ..row import dumps
from ..spool import Spool, reason
from ..spool.aside import AT_RISK
from ..spool.journal import Counts
from ..spool.segment import MAX_PAYLOAD
from .delivery import degraded
from .feed import Feed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..row import Row
    from .feed import Source

MEMORY_ROWS: Final = 10_000  # what the memory queue holds
MEMORY_BYTES: Final = 16 << 20

Mark = tuple["Source", int]
"""A source, and how much it held at some moment."""


class MemoryQueue:
    """A spool's queue without a disk: for ``durability="memory"``, and for what the spool cannot take."""

    same_boot = True

    def __init__(self, most: int, most_bytes: int) -> None:
        self.counts = Counts()
        self._most = most
        self._most_bytes = most_bytes
        self._payloads: deque[bytes] = deque()
        self._bytes = 0
        self._reads: deque[int] = deque()  # payloads of each read that is not acknowledged
        self._lock = threading.RLock()

    def append(self, payload: bytes) -> None:
        """Keep *payload*; SpoolError if there is no room."""
        with self._lock:
            if len(self._payloads) >= self._most or self._bytes + len(payload) > self._most_bytes:
                raise SpoolError("full")
            self._payloads.append(payload)
            self._bytes += len(payload)
            self.counts.appended += 1

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """Return the next payloads, at most *most* and little over *most_bytes*."""
        payloads: list[bytes] = []
        with self._lock:
            read = sum(self._reads)
            for payload in islice(self._payloads, read, read + most):
                payloads.append(payload)
                most_bytes -= len(payload)
                if most_bytes <= 0:
                    break
        if payloads:
            self._reads.append(len(payloads))
        return payloads

    @property
    def more(self) -> bool:
        """Whether anything is left behind what was read."""
        return sum(self._reads) < len(self._payloads)

    def snapshot(self) -> Counts:
        """Return the counters as of one moment."""
        with self._lock:
            return replace(self.counts)

    def rewind(self) -> None:
        """Take what was read and not acknowledged as not read."""
        self._reads.clear()

    def acknowledge(self, open_runs: Sequence[bytes]) -> None:  # noqa: ARG002 - there is nobody who could adopt it
        """Settle the oldest read."""
        count = self._reads.popleft()
        with self._lock:
            for _ in range(count):
                self._bytes -= len(self._payloads.popleft())
            self.counts.settled += count
            self.counts.done = self.counts.settled


class Intake:
    """The queues of this process: a spool below *root*, with None only memory. *options* are those of `Spool`."""

    def __init__(self, root: Path | None, **options: Any) -> None:
        self.root = root
        self._options = options
        self._memory = MemoryQueue(MEMORY_ROWS, MEMORY_BYTES)
        self._memory_feed = Feed(self._memory)
        self._lock = threading.RLock()
        self._let_go = False
        self.dropped = 0
        self.diskless: str | None = None
        """Why the latest event is not on the disk."""
        self._open()

    def _open(self) -> None:
        self.spool: Spool | None = None
        self.feeds = [self._memory_feed]
        if self.root is not None:
            self.spool = Spool(self.root, **self._options)
            self.feeds.append(Feed(self.spool))

    def accept(self, row: Row) -> None:
        """Append *row* to the spool; where that fails keep it in memory, and where that is full count it as dropped."""
        try:
            key, payload = row.thread_id.encode()[:1024], _payload(row)
        except Exception:
            self._drop()
            raise
        spool = self.spool
        if spool is not None:
            try:
                spool.append(key, payload)
            except (OSError, SpoolError) as error:
                self.diskless = reason(error)
            else:
                self.diskless = None
                return
        fate = AT_RISK
        try:
            self._memory.append(payload)
        except SpoolError:
            self._drop()
            fate = "dropped"
        if spool is not None:
            spool.lose(key, fate)

    def _drop(self) -> None:
        with self._lock:
            self.dropped += 1

    def sync(self) -> bool:
        """Return whether all that was accepted before is on the disk itself, after waiting for it."""
        if self.spool is None or self.diskless:
            return False
        try:
            self.spool.sync()
        except OSError as error:
            self.diskless = reason(error)
        return self.diskless is None

    @property
    def counts(self) -> list[Counts]:
        """The counters of each queue."""
        return [feed.source.snapshot() for feed in self.feeds]

    @property
    def pending(self) -> bool:
        """Whether anything that came in is not settled."""
        return any(counts.done < counts.appended for counts in self.counts)

    def marks(self) -> list[Mark]:
        """Return how much came in until now, for `passed`."""
        return [(feed.source, feed.source.snapshot().appended) for feed in self.feeds]

    @staticmethod
    def passed(marks: list[Mark]) -> bool:
        """Return whether all that had come in at *marks* is settled."""
        return all(source.snapshot().done >= mark for source, mark in marks)

    def let_go(self) -> None:
        """Leave the spool's directory: removed if it is empty, otherwise whoever adopts it stores what is left, and counts it."""
        if self.spool is not None:
            self.spool.close()
            counts = self.spool.snapshot()
            self._let_go = counts.settled < counts.appended

    def renew(self) -> Counts | None:
        """Begin a new directory if something was let go; return the counters of the old one."""
        if not self._let_go or self.spool is None:
            return None
        self._let_go = False
        self.spool.close(final=True)
        counts = self.spool.snapshot()
        self._open()
        return counts


def _payload(row: Row) -> bytes:
    try:
        payload = dumps(row)
    except (TypeError, ValueError) as error:
        return dumps(degraded(row, f"the row is no JSON: {type(error).__name__}"))
    if len(payload) > MAX_PAYLOAD:
        return dumps(degraded(row, f"the row has {len(payload)} bytes, more than {MAX_PAYLOAD}"))
    return payload
