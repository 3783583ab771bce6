"""A durable queue of opaque payloads on the local disk; it knows neither Postgres nor what a payload means.

::

    <root>/                        one spool: everything that is on its way into one table
        <host>-<boot>-<pid>-<x>/   one process's part, held by a lock that says whose spool it is (lease.py)
            000000000001.seg       frames, appended (segment.py) and read back (journal.py)
            open-runs              what the reader was told to remember, for whoever adopts the directory
            losses                 what had to be dropped, by name (aside.py)
        quarantine/  losses/       what could not be read or stored, and the losses of directories that are gone

This is the writing half: `Spool.append` puts one frame on the disk with one system call under one lock, and leaves everything that
can wait to the writer's thread. Nothing here ever refuses to start: what cannot be appended is the caller's to keep in memory.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from ..errors import SpoolError
from .aside import NEW_FILE, LossLedger, settle_losses
from .journal import OPEN_RUNS, SUFFIX, Journal, Orphan, Segment
from .lease import Lease, on_network, size
from .segment import MAX_PAYLOAD, Frame, pack, scan

ROLL: Final = 1 << 20  # bytes of a segment: what is read again after a crash, and what one unlink frees
MERGED_AT_ONCE: Final = 16 << 20  # bytes that `merge` holds in memory
RETRY: Final = 1.0  # seconds before a segment that could not be made is tried again
IDLE: Final = 2.0  # seconds without an append after which a settled segment is given back to the disk

Merge = Callable[[Sequence[bytes]], Sequence[bytes]]
"""As few payloads as say what those of one key, oldest first, say together."""


def spool_home() -> Path:
    """Return the folder of all spools of this user: below ``$XDG_STATE_HOME``, by default ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (
        Path(state) if Path(state).is_absolute() else Path("~/.local/state").expanduser()
    ) / "langgraph-session-store"


class Spool(Journal):
    """The part of the spool *root* that belongs to this process; the disk is not touched before the first `append`.

    *owner* says in words whose spool it is. *max_bytes* bounds the whole spool, all processes together, and *min_free* is what stays free on
    its disk. A *durable* spool can promise with `sync` that what was appended survives a power loss.
    """

    def __init__(
        self,
        root: Path,
        *,
        owner: str = "",
        max_bytes: int = 1 << 30,
        min_free: int = 512 << 20,
        durable: bool = False,
    ) -> None:
        super().__init__(root)
        self._owner = owner
        self._max_bytes = max_bytes
        self._min_free = min_free
        self._durable = durable
        self._lease: Lease | None = None
        self._ledger: LossLedger | None = None
        self._active: Segment | None = None
        self._descriptor = -1  # of the active segment
        self._number = self._merged_at = 0  # segments made, and how many when `merge` last ran
        self._bytes = self._others = 0  # of this process's segments, and of the rest of the spool
        self._busy = self._closed = False
        self._finished: set[str] = set()
        self._retry_at = self._touched = 0.0
        self._why = ""
        self._sync_lock = threading.Lock()
        self._synced = 0

    # The hot path: in the graph's own thread.

    def append(self, key: bytes, payload: bytes) -> None:
        """Write one frame. OSError or SpoolError: it is not in the spool, which is as it was before."""
        frame = pack(key, payload)
        with self._lock:
            # A signal handler or a finaliser may come here in the same thread, from inside the lock.
            if self._busy or self._closed:
                raise SpoolError("closed" if self._closed else "re-entered")
            self._busy = True
            try:
                if self._bytes + self._others + len(frame) > self._max_bytes:
                    raise SpoolError("full")
                segment = self._active
                if segment is None or segment.size + len(frame) > ROLL:
                    segment = self._roll()
                self._write(segment, frame)
            finally:
                self._busy = False

    def _write(self, segment: Segment, frame: bytes) -> None:
        counts, length = self.counts, len(frame)
        size, frames, appended, held = segment.size, segment.frames, counts.appended, self._bytes
        try:
            if os.write(self._descriptor, frame) != length:
                raise OSError(errno.ENOSPC, "short write")  # noqa: TRY301 - undone below like any other failure
            segment.frames = frames + 1
            counts.appended = segment.upto = appended + 1
            self._bytes = held + length
            segment.size = size + length  # last: the reader goes so far
        except BaseException:  # also what a signal handler raises
            segment.size, segment.frames, self._bytes = size, frames, held
            counts.appended = segment.upto = appended  # an active segment ends with what was appended last
            try:
                os.ftruncate(self._descriptor, size)
            except OSError:
                self._seal()  # part of a frame stays behind the end, where only an adopter could see it
            raise
        self._touched = time.monotonic()

    def _roll(self) -> Segment:
        """Return a new active segment, sealing the one before."""
        now = time.monotonic()
        if now < self._retry_at:
            raise SpoolError(self._why)
        self._retry_at = now + RETRY
        self._seal()
        try:
            try:
                path, descriptor = self._create()
            except FileNotFoundError:  # the directory was deleted while we live: make another
                self._leave()
                path, descriptor = self._create()
        except (OSError, SpoolError) as error:
            self._why = reason(error)
            raise
        self._retry_at = 0.0
        self._descriptor = descriptor
        self._active = Segment(path, upto=self.counts.appended, sealed=False)
        self._segments.append(self._active)
        return self._active

    def _create(self) -> tuple[Path, int]:
        if self._lease is None:
            self._lease = Lease.create(self.root, self._owner)
            self._ledger = LossLedger(self._lease.path)
            if on_network(self._lease.path):
                self.problems["network"] = "the spool is on a network file system, which may not keep what it promises"
        disk = os.statvfs(self._lease.path)
        if disk.f_bavail * disk.f_frsize < self._min_free:
            raise OSError(errno.ENOSPC, "little disk is left")
        self._number += 1
        path = self._lease.path / f"{self._number:012d}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | NEW_FILE, 0o600)
        if self._durable:
            _sync_folder(path.parent)
        return path, descriptor

    def _seal(self) -> None:
        if (segment := self._active) is None:
            return
        self._active, descriptor, self._descriptor = None, self._descriptor, -1
        with suppress(OSError):
            if self._durable:
                _sync_file(descriptor)
            if os.fstat(descriptor).st_nlink == 0:
                segment.descriptor, descriptor = descriptor, -1
        segment.sealed = True
        if descriptor >= 0:
            os.close(descriptor)

    def sync(self) -> None:
        """Return once all that was appended before is on the disk itself; callers who wait together share one system call."""
        wanted = self.counts.appended
        with self._sync_lock:
            if self._synced >= wanted:
                return
            with self._lock:
                appended = self.counts.appended
                descriptor = os.dup(self._descriptor) if self._active else -1  # sealed segments were synced
            if descriptor >= 0:
                try:
                    _sync_file(descriptor)
                finally:
                    os.close(descriptor)
            self._synced = appended

    def lose(self, key: bytes, reason: str) -> None:
        """Write into the ledger of losses that the disk does not hold a payload of *key*."""
        with suppress(OSError), self._lock:
            if self._ledger is not None:
                self._ledger.record(key, reason)

    # What can wait: in the writer's thread.

    @property
    def bytes(self) -> int:
        """Bytes of the whole spool, as of the last `survey`."""
        return self._bytes + self._others

    @property
    def crowded(self) -> bool:
        """Whether `merge` should make room."""
        return self.bytes > self._max_bytes * 0.8 and self._number > self._merged_at

    def survey(self) -> None:
        """Look after the disk: what others take of it, a directory that was deleted, a settled segment that nobody needs."""
        own = self._lease.path if self._lease else None
        self._others = size(self.root, but=own)
        with self._lock:
            if self._active is None:
                return
            deleted = os.fstat(self._descriptor).st_nlink == 0
            # Not by the counters: where the last frames are damaged, only the end of the segment settles them.
            done = self._segments[0] is self._active and self._at >= self._active.size
            idle = done and time.monotonic() - self._touched > IDLE
            if deleted or idle:
                self._seal()
            if deleted:
                self.problems["deleted"] = "the spool's directory was deleted; another one is made"
                self._leave()

    def adopt(self) -> Iterator[Orphan]:
        """Yield what dead processes left in this spool, each held by this process from now on."""
        for lease in Lease.adopt(self.root, but=self._finished):
            yield Orphan(self.root, lease, self._finished)

    def merge(self, merge: Merge) -> None:
        """Make room: rewrite what is waiting with fewer payloads for each key."""
        self._merged_at = self._number
        with self._lock:
            waiting = [segment for segment in islice(self._segments, self._reading + 1, None) if segment.sealed]
        group: list[Segment] = []
        for segment in waiting:
            if group and sum(one.size for one in group) + segment.size > MERGED_AT_ONCE:
                self._merge(group, merge)
                group = []
            group.append(segment)
        self._merge(group, merge)

    def _merge(self, group: list[Segment], merge: Merge) -> None:
        by_key: dict[bytes, list[bytes]] = {}
        try:
            for segment in group:
                for found in _frames(segment):
                    by_key.setdefault(found.key, []).append(found.payload)
            count = sum(map(len, by_key.values()))
            payloads = [(key, payload) for key, some in by_key.items() for payload in merge(some)]
            if any(len(payload) > MAX_PAYLOAD for _, payload in payloads):
                return
            frames = [pack(*frame) for frame in payloads]
            if count != sum(segment.frames for segment in group) or len(frames) >= 0.9 * count:
                return  # damaged, which the reader will see to, or not worth it
            path = group[-1].path.with_name(f"{group[-1].path.stem}m{SUFFIX}")
            with os.fdopen(os.open(path, os.O_WRONLY | NEW_FILE, 0o600), "wb") as file:
                file.writelines(frames)
        except (OSError, ValueError, KeyError, TypeError):  # of the disk, or of *merge*
            return
        merged = Segment(path, sum(map(len, frames)), len(frames), group[-1].upto, merged=True)
        # A crash from here on leaves both: what is read twice does no harm.
        with self._lock:
            at = self._segments.index(group[0])
            kept = [segment for segment in self._segments if segment not in group]
            self._segments = deque([*kept[:at], merged, *kept[at:]])
            self.counts.settled += count - len(frames)
            self.counts.merged += count - len(frames)
            self._bytes += merged.size - sum(segment.size for segment in group)
        for segment in group:
            segment.path.unlink(missing_ok=True)

    def close(self, *, final: bool = False) -> None:
        """Let go of the directory: removed if nothing is left in it, otherwise for others to adopt. *final*: no more appends."""
        with self._lock:
            self._closed = final
            self._seal()
        if not self.counts.appended - self.counts.settled:
            while self._segments:
                self._retire(self._segments[0])
        empty = not self._segments and not self._open_runs
        if empty and self._lease is not None:
            (self._lease.path / OPEN_RUNS).unlink(missing_ok=True)
        self._leave(remove=empty)

    def forget(self) -> None:
        """Close what a forked child inherited: directory and payloads stay its parent's."""
        for descriptor in (self._descriptor, *(segment.descriptor for segment in self._segments)):
            if descriptor >= 0:
                os.close(descriptor)
        self._leave()

    def _leave(self, *, remove: bool = False) -> None:
        if self._ledger is not None:
            self._ledger.close()
        if self._lease is not None and remove:
            settle_losses(self.root, self._lease.path)
            self._lease.remove()
        elif self._lease is not None:
            self._lease.close()
        self._lease = self._ledger = None

    def _open(self, segment: Segment) -> int:
        if segment.descriptor >= 0:
            return os.dup(segment.descriptor)
        try:
            return super()._open(segment)
        except FileNotFoundError:
            with self._lock:
                if segment is self._active:
                    return os.dup(self._descriptor)
            raise

    def _retire(self, segment: Segment) -> None:
        super()._retire(segment)
        with self._lock:
            self._bytes -= segment.size


def reason(error: Exception) -> str:
    """Return what may be logged of *error*: only our own messages are known to hold no values."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return str(error) if isinstance(error, SpoolError) else type(error).__name__


def _frames(segment: Segment) -> Iterator[Frame]:
    descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for found in scan(descriptor, 0, segment.size):
            if isinstance(found, Frame):
                yield found
    finally:
        os.close(descriptor)


def _sync_file(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has only the other one


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
