"""The writer: a daemon thread that takes events from the spool to the sink, and the life cycle around it.

`Writer.submit` runs in the graph's own thread and only appends (intake.py); the thread takes turns (pump.py) and rests between
them. All is right if the process dies between any two lines: what was appended is in the spool, and another process adopts it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..logs import once_a_minute
from ..spool import reason
from .intake import Intake
from .pump import LINGER, Pump
from .stats import Durability, FlushReport, WriterStats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..clock import Clock
    from ..row import Row
    from .delivery import Sink

log = logging.getLogger(__name__)

TICK: Final = 1.0  # seconds between two looks of an idle writer
EXIT: Final = 0.75  # seconds that the exit of a process may take longer, all writers together
ATTEMPTS: Final = 2  # failed ones that an exit waits for: the first may be a connection that died long ago
MAX_BYTES: Final = 1 << 30  # of one spool
BULK: Final = 4  # times the batches of a writer beside graphs, where `drain` has the process to itself
MIN_FREE: Final = 512 << 20  # bytes that stay free on its disk


class Writer:
    """Take events from the graph's threads to *sink*, through the spool at *directory* (None: through memory only).

    Nothing is opened before the first `submit`. *owner* says in words whose spool that is. *clock* is the one that the events' times come
    from; the sink anchors it. *max_bytes* bounds the whole spool, *min_free* is what stays free on its disk, both in bytes;
    *sync_timeout* is in seconds.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        clock: Clock,
        directory: Path | None,
        owner: str = "",
        durability: Durability = "spool",
        sync_timeout: float = 2.0,
        max_bytes: int = MAX_BYTES,
        min_free: int = MIN_FREE,
    ) -> None:
        self.durability: Durability = "memory" if directory is None else durability
        self._directory = None if self.durability == "memory" else directory
        self._sink = sink
        self._clock = clock
        self._sync_timeout = sync_timeout
        self._spool_options = {
            "owner": owner,
            "max_bytes": max_bytes,
            "min_free": min_free,
            "durable": durability == "fsync",
        }
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        """Start with nothing: also in a forked child, where what there was stays the parent's and its locks may be held."""
        self._pid = os.getpid()
        self._errors = 0
        self._intake = Intake(self._directory, **self._spool_options)
        self._pump = Pump(self._intake, self._sink, self._clock)
        self._thread: threading.Thread | None = None
        self._life = threading.RLock()  # guards the thread's beginning
        self._starting = self._runs = False
        self._work = threading.Event()  # there may be something to write
        self._hurry = threading.Event()  # somebody waits for it: no rest
        self._stop = threading.Event()

    # In the graph's threads.

    def submit(self, row: Row) -> None:
        """Accept *row*: append it to the spool, or keep it in memory where that fails. Never raises, never waits."""
        try:
            if self._pid != os.getpid():  # forked without Python's knowledge, as uwsgi does
                self._forked()
            if not self._runs:
                self.start()
            self._intake.accept(row)
            if not self._work.is_set():
                self._work.set()
            if self._stop.is_set():  # `close` may have looked before there was anything to see
                self.start()
        except Exception as error:
            self.fault("an event could not be accepted", error)

    def fault(self, problem: str, error: Exception) -> None:
        """Count something that went wrong before there was an event to accept, and log it once a minute."""
        self._errors += 1
        once_a_minute(log, problem, "%s: %s", problem, reason(error))

    def settle(self) -> bool:
        """Return whether what was submitted is as durable as the mode promises; waits in the modes fsync and sync only."""
        if self.durability == "sync":
            return self.wait(self._sync_timeout)
        return self.durability != "fsync" or self._intake.sync()

    @property
    def waits(self) -> bool:
        """Whether `settle` may take its time."""
        return self.durability in ("fsync", "sync")

    @property
    def pending(self) -> bool:
        """Whether anything that this process submitted is not settled yet."""
        return self._intake.pending

    def wait(self, timeout: float) -> bool:
        """Return whether all that was submitted before is settled, after at most *timeout* seconds; at once while blocked."""
        return self._wait(timeout, lambda: self._pump.state == "blocked")

    def flush(self, timeout: float = 5.0) -> FlushReport:
        """Wait at most *timeout* seconds until all that was submitted before is settled."""
        flushed = self._wait(timeout)
        return FlushReport(flushed, self.stats().pending, None if flushed else self._pump.last_error or "timeout")

    def _wait(self, timeout: float, hopeless: Callable[[], bool] = lambda: False) -> bool:
        marks = self._intake.marks()
        if self._intake.passed(marks):
            return True
        self.start()
        self._hurry.set()
        self._work.set()
        pump = self._pump
        with pump.progress:
            pump.progress.wait_for(lambda: self._intake.passed(marks) or hopeless(), timeout)
            return self._intake.passed(marks)

    def stats(self) -> WriterStats:
        """Return the counters as of one moment."""
        return replace(self._pump.stats(self.durability), errors=self._errors)

    # Life cycle.

    def start(self) -> None:
        """Start the thread unless it runs: done by `submit`, or earlier for the sake of what dead processes left."""
        if self._runs and not self._stop.is_set():
            return
        with self._life:
            if self._starting:
                return  # a finaliser may come here from inside the lock, in the same thread
            self._starting = True
            try:
                self._stop.clear()  # a thread that was told to stop, and did not yet, goes on
                if self._runs:
                    return
                if (left := self._intake.renew()) is not None:
                    self._pump.forget(left)
                thread = threading.Thread(target=self._run, name="session-store-writer", daemon=True)
                self._thread, self._runs = thread, True
                thread.start()
            except RuntimeError:
                self._runs = (
                    False  # the interpreter is shutting down, or the system has no more threads: the spool keeps it all
                )
            finally:
                self._starting = False

    def close(self, timeout: float = 5.0, *, hasty: bool = False) -> bool:
        """Flush, stop the thread and disconnect; return whether nothing is left. A later `submit` opens the writer again.

        Waits at most *timeout* seconds; a *hasty* one gives up in an outage, and after `EXIT` seconds in which nothing moves.
        """
        deadline = time.monotonic() + timeout
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            marks = self._intake.marks()
            if hasty:
                self._wait_hastily(deadline)
            else:
                self._wait(timeout)
            self._stop.set()
            self._hurry.set()
            self._work.set()
            thread.join(0.1 if self.pending else max(0.1, deadline - time.monotonic()))
            if self._intake.marks() != marks:
                self.start()  # for who submitted something meanwhile
        return not self.pending

    def _wait_hastily(self, deadline: float) -> None:
        pump, moved = self._pump, True
        failed, settled = pump.retries + ATTEMPTS, self._settled
        while moved and pump.retries < failed and (left := deadline - time.monotonic()) > 0:
            if self._wait(min(EXIT, left), lambda: pump.retries >= failed):
                return
            before, settled = settled, self._settled
            moved = settled > before

    @property
    def _settled(self) -> int:
        return sum(counts.settled for counts in self._intake.counts)

    def _run(self) -> None:
        try:
            self._take_turns()
        except BaseException:
            self._runs = False  # the next event starts another thread
            raise

    def _take_turns(self) -> None:
        self._hurry.wait(LINGER)
        while True:
            self._work.clear()
            self._hurry.clear()
            if self._stop.is_set() and self._ended():  # after the events were cleared: `close` sets them last
                return
            try:
                rest = self._pump.turn()
            except Exception as error:
                once_a_minute(log, "turn", "the writer stumbled and goes on: %s", reason(error))
                rest = TICK
            if rest is None:
                if self._work.wait(TICK):
                    self._hurry.wait(LINGER)
                continue
            if self._pump.state != "ok":
                self._stop.wait(min(rest, LINGER))  # an outage is not probed faster, however many readers hurry
            self._hurry.wait(rest)

    def _ended(self) -> bool:
        """Let go of all; return whether this thread ends, which it does not if something was submitted meanwhile."""
        self._pump.stop()
        with self._life:
            if self._stop.is_set():
                self._intake.let_go()
                self._runs = False
            return not self._runs

    def _forked(self) -> None:
        self._pump.inherited()
        if self._intake.spool is not None:
            self._intake.spool.forget()
        self._begin()


def drain(directory: Path, sink: Sink, *, clock: Clock, timeout: float | None = None) -> WriterStats:
    """Store what dead processes left in the spool at *directory*, in this thread, and return the counters.

    Ends when nothing is left, when the sink is blocked, or after *timeout* seconds: then ``pending`` and ``last_error`` tell.
    """
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    intake = Intake(directory)
    pump = Pump(intake, sink, clock, batch=BULK)
    pump.adopt()
    while not pump.idle and pump.state != "blocked" and time.monotonic() < deadline:
        rest = pump.turn()
        if pump.state == "retrying" and rest is not None:
            time.sleep(min(rest, max(0.0, deadline - time.monotonic())))
    stats = pump.stats("spool")
    pump.stop()
    intake.let_go()
    return stats


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _close_all() -> None:
    """At exit, give the running threads a moment. Nothing is started, and what is left stays in the spool."""
    deadline = time.monotonic() + EXIT
    for writer in list(_writers):
        if writer._pid == os.getpid():  # noqa: SLF001 - the same module
            writer.close(max(0.0, deadline - time.monotonic()), hasty=True)


def _after_fork() -> None:
    for writer in list(_writers):
        writer._forked()  # noqa: SLF001 - the same module


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
