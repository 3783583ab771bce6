"""The reading half of a spool: batches of payloads out of segments, which are unlinked once they are acknowledged.

Payloads are opaque, and the unlink is the only mark: after a crash whole segments are read again, which the store's guard against
older events makes harmless. An `Orphan` is what a dead process left, read in the same way.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from ..sharing import share
from .aside import NEW_FILE, put_aside, settle_losses
from .segment import Damage, Frame, pack, scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .lease import Lease

SUFFIX: Final = ".seg"
OPEN_RUNS: Final = "open-runs"


@dataclass(slots=True)
class Counts:
    """Payloads that came and that are ``settled``: acknowledged, ``merged`` into another, ``unreadable`` or ``vanished``.

    ``done`` is the watermark: all of the first ``done`` payloads are settled. ``corrupt`` and ``torn`` count damaged places.
    """

    appended: int = 0
    settled: int = 0
    done: int = 0
    merged: int = 0
    unreadable: int = 0
    vanished: int = 0
    corrupt: int = 0
    torn: int = 0


@dataclass(slots=True)
class Segment:
    """One file of a log: the bytes and frames that count, and the watermark that it ends at."""

    path: Path
    size: int = 0
    frames: int = 0
    upto: int = 0
    sealed: bool = True
    merged: bool = False  # its frames stand for later ones too: only the segment's end moves the watermark
    read: int = 0
    acknowledged: int = 0
    descriptor: int = -1  # kept open where the file was deleted before it was read


Part = tuple[Segment, int, int]
"""What a read took of a segment: up to which offset, and how many payloads."""


class Journal:
    """Segments in order, which are read from the front, by one thread: what was read is acknowledged later, in the same order."""

    same_boot = True
    """Whether monotonic times in the payloads are of this boot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts = Counts()
        self.problems: dict[str, str] = {}
        """What went wrong since the writer last logged it."""
        self._lock = threading.RLock()
        self._segments: deque[Segment] = deque()
        self._at = 0  # acknowledged of the first segment
        self._reading = self._next = 0  # the segment that is being read, and how far
        self._reads: deque[list[Part]] = deque()  # not acknowledged
        self._open_runs: Sequence[bytes] = []
        self._kept: Sequence[bytes] = []

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """Return the next payloads, at most *most* and little over *most_bytes*, none if there are none (yet)."""
        payloads: list[bytes] = []
        parts: list[Part] = []
        while self._reading < len(self._segments) and len(payloads) < most and most_bytes > 0:
            segment, alone = self._segments[self._reading], not (self._reads or parts)
            taken = self._take(segment, segment.size, most - len(payloads), most_bytes, alone=alone)
            if taken:
                payloads += taken
                parts.append((segment, self._next, len(taken)))
                most_bytes -= sum(map(len, taken))
            if not (segment.sealed and self._next >= segment.size):
                break
            if alone and not taken:
                self._retire(segment)
            else:
                self._reading, self._next = self._reading + 1, 0
        if parts:
            self._reads.append(parts)
        return payloads

    @property
    def more(self) -> bool:
        """Whether anything is left behind what was read."""
        behind = len(self._segments) - self._reading
        return behind > 1 or (behind == 1 and self._next < self._segments[self._reading].size)

    def acknowledge(self, open_runs: Sequence[bytes]) -> None:
        """Settle the oldest read. Segments that are done are unlinked, once *open_runs* are on the disk for an adopter."""
        self._open_runs = open_runs
        for part in self._reads.popleft():
            self._settle(*part)
        while self._reading and not self._reads:
            self._retire(self._segments[0])

    def _settle(self, segment: Segment, end: int, count: int) -> None:
        while self._segments[0] is not segment:
            self._retire(self._segments[0])  # nothing in it was readable
        self._at = end
        with self._lock:
            self.counts.settled += count
            segment.acknowledged += count
            if not segment.merged:
                self.counts.done = max(self.counts.done, segment.upto - segment.frames + segment.acknowledged)
        if segment.sealed and self._at >= segment.size:
            self._retire(segment)

    def rewind(self) -> None:
        """Take what was read and not acknowledged as not read: another read returns it again."""
        for segment, _, count in chain.from_iterable(self._reads):
            segment.read -= count
        self._reads.clear()
        self._reading, self._next = 0, self._at

    def snapshot(self) -> Counts:
        """Return the counters as of one moment."""
        with self._lock:
            return replace(self.counts)

    def _take(self, segment: Segment, end: int, most: int, most_bytes: int, *, alone: bool) -> list[bytes]:
        """Read payloads of one segment; *alone*: nothing before it was read that is not acknowledged."""
        payloads: list[bytes] = []
        start = self._next
        try:
            descriptor = self._open(segment) if end > self._next else -1
            try:
                for found in share(scan(descriptor, self._next, end)):
                    self._next = found.end
                    if isinstance(found, Damage):
                        self._damaged(segment, found, os.pread(descriptor, found.end - found.start, found.start))
                        continue
                    payloads.append(found.payload)
                    most_bytes -= len(found.payload)
                    if len(payloads) >= most or most_bytes <= 0:
                        break
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        except OSError as error:
            self._next = start
            if not alone:
                return []  # another time
            if error.errno not in (errno.ENOENT, errno.EIO):
                raise  # too many open files: that passes
            self._count(segment, len(payloads), read=True)
            self._gone(segment, end)
        else:
            self._count(segment, len(payloads), read=True)
        if alone and not payloads:
            self._at = self._next
        return payloads

    def _open(self, segment: Segment) -> int:
        return os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _count(self, segment: Segment, found: int, *, read: bool) -> None:
        """Count the payloads that were *found*, and whether they could be *read*."""
        segment.read += found * read

    def _damaged(self, segment: Segment, damage: Damage, data: bytes) -> None:
        if damage.kind == "torn":
            self.counts.torn += 1
            return
        name = put_aside(self.root, damage.kind, data)
        self.counts.corrupt += 1
        if damage.kind == "future":
            self.problems["future"] = f"a newer version of this package wrote {segment.path.name}; kept as {name}"
        else:
            self.problems["corrupt"] = f"damaged bytes in {segment.path.name} were skipped; kept as {name}"

    def _gone(self, segment: Segment, end: int) -> None:
        """Give up the rest of a segment that is no longer there, or that the disk cannot read."""
        self._next = end
        self.problems["vanished"] = f"the spool's file {segment.path.name} is gone or unreadable"
        with self._lock:
            lost = max(0, segment.frames - segment.read)
            self.counts.vanished += lost
            self.counts.settled += lost
            segment.read += lost
            segment.acknowledged += lost

    def _retire(self, segment: Segment) -> None:
        self._keep(segment.path.with_name(OPEN_RUNS))
        with self._lock:
            lost = max(0, segment.frames - segment.read)
            self.counts.unreadable += lost
            self.counts.settled += lost
            self.counts.done = max(self.counts.done, segment.upto)
            self._segments.popleft()
            self._at = 0
            if self._reading:
                self._reading -= 1
            else:
                self._next = 0
        with suppress(OSError):
            segment.path.unlink()
        if segment.descriptor >= 0:
            os.close(segment.descriptor)

    def _keep(self, path: Path) -> None:
        """Replace the file of open runs; if the disk refuses, the old one stays, and what it says too much is harmless."""
        if self._open_runs == self._kept:
            return
        draft = path.with_suffix(".new")
        with suppress(OSError):
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | NEW_FILE, 0o600), "wb") as file:
                file.write(b"".join(pack(b"", run) for run in self._open_runs))
            draft.rename(path)
            self._kept = self._open_runs


class Orphan(Journal):
    """The part of a spool whose process is dead, held by this one."""

    def __init__(self, root: Path, lease: Lease, finished: set[str]) -> None:
        super().__init__(root)
        self._lease = lease
        self._finished = finished  # a directory that cannot be removed for some reason is not adopted again and again
        self.same_boot = lease.same_boot
        for path in sorted(lease.path.glob(f"*{SUFFIX}")):
            self._segments.append(Segment(path, path.stat().st_size))
        self.open_runs = self._runs(lease.path / OPEN_RUNS)

    def finish(self) -> None:
        """Remove the directory, once all is read and acknowledged and its open runs are taken care of."""
        while self._segments:
            self._retire(self._segments[0])  # in which nothing was
        self._finished.add(self._lease.path.name)
        for name in (OPEN_RUNS, f"{OPEN_RUNS}.new"):
            with suppress(OSError):
                (self._lease.path / name).unlink(missing_ok=True)
        settle_losses(self.root, self._lease.path)
        self._lease.remove()

    def release(self) -> None:
        """Leave the directory for another process."""
        self._lease.close()

    def _runs(self, path: Path) -> list[bytes]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return []
        try:
            return [run.payload for run in scan(descriptor, 0, os.fstat(descriptor).st_size) if isinstance(run, Frame)]
        finally:
            os.close(descriptor)

    def _count(self, segment: Segment, found: int, *, read: bool) -> None:
        """Count payloads when they are found: only their dead owner knew how many there are."""
        with self._lock:
            segment.frames += found
            segment.upto = self.counts.appended = self.counts.appended + found
            super()._count(segment, found, read=read)

    def _damaged(self, segment: Segment, damage: Damage, data: bytes) -> None:
        super()._damaged(segment, damage, data)
        if damage.kind != "torn":
            self._count(segment, 1, read=False)
