"""Any order of runs, crashes, outages, forks, full disks, corrupt bytes and clock jumps, against a model of what must be there."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from langgraph_session_store import clock as clock_module
from langgraph_session_store.clock import Clock
from langgraph_session_store.row import Row, Slot, merge, own
from langgraph_session_store.spool import queue as spool_module
from langgraph_session_store.spool.segment import MAGIC, Frame, scan
from langgraph_session_store.writer import Retry, Written
from langgraph_session_store.writer import feed as feed_module
from langgraph_session_store.writer import pump as pump_module
from langgraph_session_store.writer.intake import Intake
from langgraph_session_store.writer.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.timeout(3600)

CODE = Slot("code", "text", "set", "versioned")
DATABASE = 1_000_000_000_000_000  # what its clock is ahead of the monotonic one, which no wall clock agrees with


class Table:
    """The database: keeps the newest event of each thread, is up or down, and has the only right clock."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.seen: set[int] = set()
        self.up = True

    def write(self, rows: Sequence[Row]) -> Written:
        stored = 0
        for row in rows:
            if (number := row.get("code")) is not None:
                self.seen.add(int(str(number)))
            known = self.rows.get(row.thread_id)
            stored += known is None or row.recorded_at > known.recorded_at
            self.rows[row.thread_id] = (
                row if known is None else merge([known, row])
            )  # an older one fills what is missing
        return Written(stored, len(rows) - stored)


class Sink:
    """One process's connection to the `Table`; what it hears of its clock is up to a millisecond off."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self.table, self.clock, self.connected = table, clock, False
        self.coming: Callable[[], Sequence[Row]] | None = None

    def open(self) -> None:
        if not self.table.up:
            self.connected = False
            raise Retry("down")
        if not self.connected:
            now = clock_module.monotonic()
            self.clock.anchor(DATABASE + now + random.randrange(1000), now)
            self.connected = True

    def write(self, rows: Sequence[Row]) -> Written:
        if self.coming is not None:
            self.coming()
        if not self.table.up:
            self.connected = False
            raise Retry("down")
        return self.table.write(rows)

    def close(self) -> None:
        self.connected = False

    forget = close


class Process:
    """What a process has of the package, without its thread: the machine takes the turns."""

    def __init__(self, root: Path, table: Table) -> None:
        self.clock = Clock()
        self.sink = Sink(table, self.clock)
        self.intake = Intake(root, max_bytes=1 << 30, min_free=0, durable=False)
        self.pump = Pump(self.intake, self.sink, self.clock)

    def turn(self) -> None:
        self.pump.turn()

    def die(self) -> None:
        """As kill -9 does: the kernel closes the files, and nobody says anything."""
        self.pump.inherited()
        assert self.intake.spool is not None
        self.intake.spool.forget()

    def end(self) -> None:
        self.pump.stop()
        self.intake.let_go()

    def balanced(self) -> bool:
        stats = self.pump.stats("spool")
        return stats.accepted == stats.stored + stats.superseded + stats.quarantined + stats.pending + stats.dropped


class Faults(RuleBasedStateMachine):
    """Two processes, so that one adopts what another leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "spool"
        self.patch = pytest.MonkeyPatch()
        for module, name, value in (
            (spool_module, "ROLL", 2000), (spool_module, "IDLE", 0.0), (spool_module, "RETRY", 0.0),
            (pump_module, "SURVEY", 0.0), (pump_module, "ROWS", 7), (feed_module, "UNSURE", 1500),
        ):  # fmt: skip
            self.patch.setattr(module, name, value)
        self.real = time.time_ns
        self.jump = 0
        self.patch.setattr(time, "time_ns", lambda: self.real() + self.jump)
        self.table = Table()
        self.processes = [Process(self.root, self.table) for _ in range(2)]
        self.number = 0
        self.threads: dict[int, str] = {}
        self.order: dict[str, list[int]] = {}
        self.at_risk: dict[int, Process] = {}  # on no disk: may be lost when their process dies
        self.may_be_lost: set[int] = set()

    def teardown(self) -> None:
        self.table.up = True
        self.jump = 0
        for process in self.processes:
            for _ in range(1000):
                if process.pump.turn() is None and process.pump.idle:
                    break
            assert process.balanced()
            assert process.pump.idle
            process.end()
        last = Process(self.root, self.table)
        for _ in range(1000):
            if last.pump.turn() is None and last.pump.idle:
                break
        last.end()
        self.patch.undo()
        try:
            self.judge()
        finally:
            self.folder.cleanup()

    def judge(self) -> None:
        assert self.table.seen <= set(self.threads), "invented"
        lost = set(self.threads) - self.table.seen - self.may_be_lost
        assert not lost, f"lost: {lost}"
        for thread, numbers in self.order.items():
            if numbers[-1] in self.table.seen:
                row = self.table.rows[thread]
                assert row.get("code") == str(numbers[-1]), "stale"
                if not self.may_be_lost.intersection(numbers):
                    assert row.get("workflow_status") == "completed", row
        assert list(self.root.glob("*-*-*/*.seg")) == []

    def submit(self, process: Process, thread: str, *, ends: bool = True) -> None:
        self.number += 1
        self.threads[self.number] = thread
        self.order.setdefault(thread, []).append(self.number)
        code = str(self.number)
        begun, mono, anchored = process.clock.tick()
        start = Row(thread, begun, begun, mono, anchored, (own("workflow_status"),), ("running",))
        process.intake.accept(start)
        now, mono, anchored = process.clock.tick()
        end = Row(thread, now, begun, mono, anchored, (own("workflow_status"), CODE), ("completed", code))
        process.intake.accept(end)
        if process.intake.diskless:
            self.at_risk[self.number] = process
        deadline = clock_module.monotonic() + 2500  # more than two contacts may differ, in microseconds
        while clock_module.monotonic() < deadline:
            pass

    @rule(which=st.integers(0, 1), thread=st.sampled_from("abc"))
    def run(self, which: int, thread: str) -> None:
        self.submit(self.processes[which], thread)

    @rule(which=st.integers(0, 1), thread=st.sampled_from("abc"), number=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def run_on_a_full_disk(self, which: int, thread: str, number: int) -> None:
        real = os.write

        def write(descriptor: int, data: Any) -> int:
            if bytes(data[:4]) == MAGIC:
                raise OSError(number, "fault")
            return real(descriptor, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", write)
            self.submit(self.processes[which], thread)

    @rule(which=st.integers(0, 1), turns=st.integers(1, 4))
    def work(self, which: int, turns: int) -> None:
        for _ in range(turns):
            self.processes[which].turn()

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        died = self.processes[which]
        died.die()
        self.may_be_lost |= {number for number, process in self.at_risk.items() if process is died}
        self.processes[which] = Process(self.root, self.table)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        ended = self.processes[which]
        ended.end()
        self.may_be_lost |= {number for number, process in self.at_risk.items() if process is ended}
        self.processes[which] = Process(self.root, self.table)

    @rule()
    def database_goes(self) -> None:
        self.table.up = False

    @rule()
    def database_comes(self) -> None:
        self.table.up = True

    @rule(hours=st.sampled_from([-1, 1, 0]))
    def clock_jumps(self, hours: int) -> None:
        self.jump = hours * 3600 * 10**9

    @rule(which=st.integers(0, 1), thread=st.sampled_from("abc"))
    def fork(self, which: int, thread: str) -> None:
        """The child records one run, on a spool of its own, and dies."""
        parent, number = self.processes[which], self.number + 1
        if (pid := os.fork()) == 0:
            code = 1
            try:
                parent.pump.inherited()
                assert parent.intake.spool is not None
                parent.intake.spool.forget()
                child = parent
                child.intake = Intake(self.root, max_bytes=1 << 30, min_free=0, durable=False)
                self.submit(child, thread)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        self.number = number
        self.threads[number] = thread
        self.order.setdefault(thread, []).append(number)

    @rule(which=st.integers(0, 9), place=st.integers(0, 9999), bit=st.integers(0, 7))
    def corrupt_byte(self, which: int, place: int, bit: int) -> None:
        """One bit of one segment flips; what stands in that frame may be lost, nothing else."""
        segments = sorted(path for path in self.root.glob("*-*-*/*.seg") if path.stat().st_size)
        if not segments:
            return
        with segments[which % len(segments)].open("rb+") as file:
            size = os.fstat(file.fileno()).st_size
            at = place % size
            for found in scan(file.fileno(), 0, size):
                if not isinstance(found, Frame):
                    return  # one damaged place in a segment, so that it is known what stood there
                if at < found.end:
                    self.may_be_lost |= {n for n in self.threads if b'"completed","%d"]' % n in found.payload}
                    break
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << bit)]))

    @invariant()
    def account(self) -> None:
        for process in self.processes:
            assert process.balanced()


TestFaults = Faults.TestCase
TestFaults.settings = settings(
    max_examples=int(os.environ.get("LGSS_EXAMPLES", "60")), stateful_step_count=30, deadline=None
)
