"""The writer: every event ends in exactly one counter, whatever the sink, the disk and the process do."""

from __future__ import annotations

import errno
import gc
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langgraph_session_store import logs
from langgraph_session_store.clock import Clock
from langgraph_session_store.row import Row, Slot, dumps, loads, merge, own
from langgraph_session_store.spool import queue as spool_module
from langgraph_session_store.spool import segment
from langgraph_session_store.spool.lease import Lease
from langgraph_session_store.writer import Block, Poison, Retry, Writer, Written, drain
from langgraph_session_store.writer import intake as intake_module
from langgraph_session_store.writer import pump as pump_module
from langgraph_session_store.writer.delivery import DRIFT, Delivery, degraded
from langgraph_session_store.writer.feed import merge_payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CODE = Slot("code", "text", "set", "versioned")
NOTE = Slot("note", "text", "set", "field")
SOON = 120.0


class MemorySink:
    """Keeps the newest event of each thread, as the table does, and fails as it is told."""

    def __init__(self, clock: Clock | None = None, offset: int = 0) -> None:
        self.rows: dict[str, Row] = {}
        self.writes: list[list[Row]] = []
        self.opened = self.closed = 0
        self.down: Exception | None = None
        self.bad: Callable[[Row], bool] = lambda row: row.get("code") == "bad"
        self.code = "22001"
        self.clock, self.offset = clock, offset

    def open(self) -> None:
        self.opened += 1
        if self.down:
            raise self.down
        if self.clock is not None and not self.clock.anchored:
            now, at, _ = self.clock.tick()
            self.clock.anchor(now + self.offset, at)

    def write(self, rows: Sequence[Row]) -> Written:
        if self.down:
            raise self.down
        if any(map(self.bad, rows)):
            raise Poison(self.code)
        self.writes.append(list(rows))
        stored = 0
        for row in rows:
            known = self.rows.get(row.thread_id)
            if known is None or row.recorded_at > known.recorded_at:
                self.rows[row.thread_id] = row if known is None else merge([known, row])
                stored += 1
        return Written(stored, len(rows) - stored)

    def close(self) -> None:
        self.closed += 1

    def forget(self) -> None:
        self.opened = 0


class Bench:
    """A writer, its sink and its clock."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = Clock()
        self.sink = MemorySink()
        self.root = folder / "spool"
        directory = options.pop("directory", self.root)
        self.writer = Writer(self.sink, clock=self.clock, directory=directory, **{"min_free": 0, **options})

    def row(self, thread: str = "t", status: str | None = "completed", begun: int | None = None, **values: Any) -> Row:
        now, mono, anchored = self.clock.tick()
        slots = [own("workflow_status")] if status else []
        kinds = {"code": CODE, "note": NOTE}
        shape = (*slots, *(kinds[name] for name in values))
        return Row(thread, now, begun or now, mono, anchored, shape, (*([status] if status else []), *values.values()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let events come in together: the writer's thread starts afterwards."""
        start, self.writer.start = self.writer.start, lambda: None  # type: ignore[method-assign]
        yield
        self.writer.start = start  # type: ignore[method-assign]
        start()

    def submit(self, *threads: str, **values: Any) -> None:
        for thread in threads:
            self.writer.submit(self.row(thread, **values))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(pump_module, "LINGER", 0.01)
    monkeypatch.setattr(pump_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(pump_module, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(pump_module, "BLOCKED_PAUSE", 0.05)
    monkeypatch.setattr(pump_module, "SURVEY", 0.05)
    logs._last.clear()
    bench = Bench(tmp_path)
    yield bench
    bench.sink.down = None
    bench.sink.bad = lambda row: False
    bench.writer.close(SOON)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def balanced(writer: Writer) -> bool:
    stats = writer.stats()
    return stats.accepted == stats.stored + stats.superseded + stats.quarantined + stats.pending + stats.dropped


# The good case


def test_events_arrive_and_are_counted(bench: Bench) -> None:
    bench.submit("a", "b", "a")
    assert bench.writer.flush(SOON)
    assert set(bench.sink.rows) == {"a", "b"}
    stats = bench.writer.stats()
    assert (stats.accepted, stats.stored, stats.pending, stats.state, stats.mode) == (3, 3, 0, "ok", "spool")
    assert stats.oldest_age is None
    assert stats.as_dict()["stored"] == 3


def test_nothing_is_opened_before_the_first_event(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.writer.flush(0.0)
    assert bench.writer.close(0.0)
    assert (bench.sink.opened, list(tmp_path.iterdir()), bench.writer._thread) == (0, [], None)


def test_a_runs_start_and_end_meet_in_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph_session_store.writer.writer.LINGER", SOON)
    bench = Bench(tmp_path)
    bench.submit("t", status="running")
    bench.submit("t", status="completed")
    assert bench.writer.close(SOON)
    assert [len(rows) for rows in bench.sink.writes] == [2]


def test_close_removes_the_spool_and_a_later_event_reopens_it(bench: Bench) -> None:
    bench.submit("a")
    assert bench.writer.close(SOON)
    assert bench.writer.close(SOON)
    assert bench.sink.closed == 1
    assert list(bench.root.iterdir()) == []
    bench.submit("b")
    assert bench.writer.close(SOON)
    assert set(bench.sink.rows) == {"a", "b"}
    assert bench.writer.stats().stored == 2


def test_wait_covers_what_came_before_and_not_what_comes_after(bench: Bench) -> None:
    gate = threading.Event()
    real = bench.sink.write

    def write(rows: Sequence[Row]) -> Written:
        if any(row.thread_id == "late" for row in rows):
            gate.wait(SOON)
        return real(rows)

    bench.sink.write = write  # type: ignore[method-assign]
    bench.submit("early")
    assert bench.writer.wait(SOON)
    assert bench.writer.pending is False
    bench.submit("late")
    assert bench.writer.wait(0.05) is False
    assert bench.writer.pending is True
    gate.set()
    assert bench.writer.wait(SOON)


def test_a_reader_that_waits_cuts_the_linger_short(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph_session_store.writer.writer.LINGER", 3600.0)
    monkeypatch.setattr(pump_module, "LINGER", 3600.0)
    for thread in ("a", "b", "c"):
        bench.submit(thread)
        assert bench.writer.wait(SOON)


def test_many_events_of_many_threads_keep_the_account(bench: Bench) -> None:
    def run(name: str) -> None:
        for n in range(300):
            bench.submit(f"{name}-{n % 7}", note="x" * n)
            assert balanced(bench.writer)

    threads = [threading.Thread(target=run, args=(f"{t}",)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.writer.flush(SOON)
    assert bench.writer.stats().stored == 1200


def test_a_writer_can_be_collected_when_it_is_closed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.submit("a")
    bench.writer.close(SOON)
    reference = weakref.ref(bench.writer)
    del bench
    gc.collect()
    assert reference() is None


# Outages


def test_an_outage_is_waited_out_and_nothing_is_lost(bench: Bench) -> None:
    bench.sink.down = Retry("57P01")
    bench.submit(*(f"t-{n}" for n in range(50)))
    until(lambda: bench.writer.stats().retries >= 3)
    stats = bench.writer.stats()
    assert (stats.pending, stats.state, stats.last_error) == (50, "retrying", "57P01")
    assert stats.oldest_age is not None
    report = bench.writer.flush(0.01)
    assert (bool(report), report.pending, report.reason) == (False, 50, "57P01")
    bench.sink.down = None
    assert bench.writer.flush(SOON)
    assert len(bench.sink.writes[0]) == 1  # the first one after an outage is a probe
    assert (bench.writer.stats().stored, bench.writer.stats().state) == (50, "ok")


def test_close_in_an_outage_keeps_to_its_time_and_leaves_the_spool_to_the_next(bench: Bench) -> None:
    bench.sink.down = Retry("OperationalError")
    bench.submit("a", "b")
    assert bench.writer.close(0.05) is False
    until(lambda: bench.writer._thread is not None and not bench.writer._thread.is_alive())
    other = MemorySink()
    stats = drain(bench.root, other, clock=Clock())
    assert set(other.rows) == {"a", "b"}
    assert (stats.accepted, stats.stored, stats.pending) == (2, 2, 0)


def test_what_was_left_at_close_is_adopted_when_the_writer_opens_again(bench: Bench) -> None:
    bench.sink.down = Retry("OperationalError")
    bench.submit("a", "b")
    bench.writer.close(0.05)
    until(lambda: bench.writer._thread is not None and not bench.writer._thread.is_alive())
    bench.sink.down = None
    bench.submit("c")
    until(lambda: set(bench.sink.rows) == {"a", "b", "c"})
    assert bench.writer.flush(SOON)
    until(lambda: bench.writer.stats().stored == 3)
    assert balanced(bench.writer)
    assert bench.writer.stats().accepted == 3


def test_blocked_parks_everything_and_a_reader_does_not_wait_for_it(bench: Bench) -> None:
    bench.sink.down = Block("42703")
    bench.submit("a")
    until(lambda: bench.writer.stats().state == "blocked")
    assert bench.writer.wait(3600) is False
    bench.sink.down = None
    assert bench.writer.flush(SOON)
    assert bench.writer.stats().quarantined == 0


def test_a_sink_that_breaks_its_promise_does_not_kill_the_writer(bench: Bench) -> None:
    bench.sink.down = KeyError("a bug")
    bench.submit("a")
    until(lambda: bench.sink.opened >= 1)
    bench.sink.down = None
    assert bench.writer.flush(SOON)


def test_an_outage_is_logged_once_and_without_values(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.sink.down = Retry("08006")
    bench.submit("a", note="sk-secret")
    until(lambda: bench.writer.stats().retries >= 5)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("langgraph_session_store")]
    assert len(lines) == 1
    assert "08006" in lines[0]
    assert "secret" not in lines[0]


def test_halves_of_what_takes_too_long_are_tried(bench: Bench) -> None:
    def write(rows: Sequence[Row]) -> Written:
        if len(rows) > 2:
            raise Retry("57014", split=True)
        return Written(len(rows), 0)

    bench.sink.write = write  # type: ignore[method-assign]
    bench.submit(*(f"t-{n}" for n in range(20)))
    assert bench.writer.flush(SOON)
    assert bench.writer.stats().stored == 20


# Poison


def test_bad_rows_are_put_aside_and_stay_visible(bench: Bench) -> None:
    with bench.held():
        for n in range(100):
            bench.submit(f"t-{n:02}", code="bad" if n % 33 == 5 else "good")
    assert bench.writer.flush(SOON)
    bad = {"t-05", "t-38", "t-71"}
    assert {row.thread_id for row in bench.sink.rows.values() if row.get("code") == "good"} == {
        f"t-{n:02}" for n in range(100)
    } - bad
    kept = sorted((bench.root / "quarantine").iterdir())
    assert {loads(path.read_bytes()).thread_id for path in kept} == bad
    for thread in bad:
        row = bench.sink.rows[thread]
        assert row.get("workflow_status") == "completed"
        assert "22001" in json.loads(str(row.get("rejected")))["*"]["reason"]
    stats = bench.writer.stats()
    assert (stats.stored, stats.quarantined, stats.accepted) == (97, 3, 100)


def test_a_table_that_refuses_everything_in_one_way_blocks(bench: Bench) -> None:
    with bench.held():
        bench.submit(*(f"t-{n}" for n in range(DRIFT)), code="bad")
    until(lambda: bench.writer.stats().state == "blocked")
    assert bench.writer.stats().quarantined == 0
    bench.sink.bad = lambda row: False
    assert bench.writer.flush(SOON)
    assert bench.writer.stats().stored == DRIFT


def test_a_table_that_refuses_even_the_degraded_row_blocks(bench: Bench) -> None:
    bench.sink.bad = lambda row: True
    bench.submit("a")
    until(lambda: bench.writer.stats().state == "blocked")
    bench.sink.bad = lambda row: False
    assert bench.writer.flush(SOON)


def test_a_degraded_row_whose_status_is_refused_is_written_without_it(bench: Bench) -> None:
    bench.sink.bad = lambda row: row.get("workflow_status") == "far too long a status for its column"
    bench.submit("a", status="far too long a status for its column")
    assert bench.writer.flush(SOON)
    assert [slot.name for slot in bench.sink.rows["a"].shape] == ["rejected"]


@given(bad=st.sets(st.integers(0, 30)), fails=st.lists(st.booleans(), max_size=60))
@settings(deadline=None)
def test_a_batch_ends_right_wherever_bad_rows_and_outages_fall(bad: set[int], fails: list[bool]) -> None:
    rows = [Row(f"t-{n}", n + 1, n, n, True, (CODE,), ("bad" if n in bad else "good",)) for n in range(31)]
    sink, kept, left = MemorySink(), [], list(fails)
    delivery = Delivery(rows, lambda payload: kept.append(payload) or "kept")
    while not delivery.finished:
        sink.down = Retry("down") if left and left.pop() else None
        try:
            delivery.step(sink, probe=bool(left))
        except Retry:
            pass
        except Block:
            assert len(bad) == 31
            return
    assert delivery.written.stored == 31 - len(bad)
    assert delivery.quarantined == len(kept) == len(bad)
    assert len(sink.rows) == 31


def test_a_write_that_came_half_way_goes_on_with_the_rest() -> None:
    rows = [Row(f"t-{n}", n + 1, n, n, True, (CODE,), ("good",)) for n in range(4)]
    calls: list[int] = []

    class Halfway(MemorySink):
        def write(self, rows: Sequence[Row]) -> Written:
            calls.append(len(rows))
            if len(calls) == 1:
                raise Retry("08006", written=Written(1, 0), rest=rows[1:])
            return Written(len(rows), 0)

    delivery = Delivery(rows, lambda payload: None)
    sink = Halfway()
    with pytest.raises(Retry):
        delivery.step(sink)
    delivery.step(sink)
    assert (calls, delivery.written, delivery.finished) == ([4, 3], Written(4, 0), True)


def test_a_row_that_is_too_large_is_degraded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MAX_PAYLOAD", 1000)
    bench.submit("a", note="x" * 2000)
    assert bench.writer.flush(SOON)
    row = bench.sink.rows["a"]
    assert row.get("workflow_status") == "completed"
    assert "2" in json.loads(str(row.get("rejected")))["*"]["reason"]
    assert row.get("note") is None


def test_a_row_of_the_largest_size_passes(bench: Bench) -> None:
    bench.submit("a", note="x" * (segment.MAX_PAYLOAD - 1000))
    assert bench.writer.flush(SOON)
    assert len(str(bench.sink.rows["a"].get("note"))) == segment.MAX_PAYLOAD - 1000


@pytest.mark.parametrize("value", ["\ud800", 2**70, b"bytes", object(), float("nan")])
def test_a_value_that_is_no_json_does_not_reach_the_graph(bench: Bench, value: Any) -> None:
    bench.submit("a", note=value)
    bench.submit("b")
    assert bench.writer.flush(SOON)
    assert set(bench.sink.rows) == {"a", "b"}


def test_a_payload_that_is_no_event_is_put_aside(bench: Bench) -> None:
    bench.submit("a")
    assert bench.writer._intake.spool is not None
    bench.writer._intake.spool.append(b"k", b"no event")
    bench.submit("b")
    assert bench.writer.flush(SOON)
    assert bench.writer.stats().quarantined == 1
    assert balanced(bench.writer)


# The disk


def test_memory_mode_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MEMORY_ROWS", 10)
    bench = Bench(tmp_path, durability="memory")
    bench.sink.down = Retry("down")
    bench.submit(*(f"t-{n}" for n in range(15)))
    stats = bench.writer.stats()
    assert (stats.accepted, stats.dropped, stats.pending, stats.mode) == (15, 5, 10, "memory")
    bench.sink.down = None
    assert bench.writer.close(SOON)
    assert len(bench.sink.rows) == 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_costs_nothing_while_the_database_is_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if data.startswith(segment.MAGIC):
            raise OSError(number, "fault")
        return real(descriptor, data)

    bench.submit("before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        bench.submit("during")
        assert bench.writer.stats().mode == "memory"
        assert bench.writer.flush(SOON)
        until(lambda: errno.errorcode[number] in caplog.text)
    bench.submit("after")
    assert bench.writer.stats().mode == "spool"
    assert bench.writer.flush(SOON)
    assert set(bench.sink.rows) == {"before", "during", "after"}
    ledger = next(bench.root.glob("*-*/losses")).read_bytes()
    assert b"in memory only during" in ledger
    assert b"before" not in ledger


def test_what_neither_disk_nor_memory_takes_is_dropped_by_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.sink.down = Retry("down")
    bench.submit("first")
    bench.writer._intake._memory._most = 2
    assert bench.writer._intake.spool is not None
    bench.writer._intake.spool._max_bytes = 0
    bench.submit("m-1", "m-2", "lost-1", "lost-2")
    stats = bench.writer.stats()
    assert (stats.accepted, stats.pending, stats.dropped) == (5, 3, 2)
    ledger = next(bench.root.glob("*-*/losses")).read_bytes()
    assert b"dropped lost-1" in ledger
    assert b"dropped lost-2" in ledger
    bench.sink.down = None
    bench.writer._intake.spool._max_bytes = 1 << 30
    assert bench.writer.flush(SOON)
    assert set(bench.sink.rows) == {"first", "m-1", "m-2"}


def test_a_spool_that_cannot_be_used_is_told_and_memory_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logs._last.clear()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    bench = Bench(tmp_path)
    bench.submit("a", "b")
    assert bench.writer.stats().mode == "memory"
    assert bench.writer.close(SOON)
    assert set(bench.sink.rows) == {"a", "b"}
    assert "chmod 700" in caplog.text


def test_a_file_in_place_of_the_spool_does_not_reach_the_graph(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no directory")
    bench = Bench(tmp_path)
    bench.submit("a")
    assert bench.writer.close(SOON)
    assert set(bench.sink.rows) == {"a"}


def test_a_full_spool_merges_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 20_000)
    monkeypatch.setattr(pump_module, "SURVEY", 0.01)
    monkeypatch.setattr(pump_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(pump_module, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(pump_module, "BLOCKED_PAUSE", 0.02)
    bench = Bench(tmp_path, max_bytes=400_000)
    bench.sink.down = Retry("down")
    for n in range(1000):
        bench.submit(f"t-{n % 5}", note=f"{n:04}" * 100)
        spool = bench.writer._intake.spool
        assert spool is not None
        until(lambda spool=spool: not spool.crowded)
    stats = bench.writer.stats()
    assert stats.superseded > 0
    assert stats.dropped == 0
    bench.sink.down = None
    assert bench.writer.close(SOON)
    assert {row.get("note") for row in bench.sink.rows.values()} == {f"{n:04}" * 100 for n in range(995, 1000)}
    assert balanced(bench.writer)


def test_merging_keeps_what_makes_history() -> None:
    def event(n: int, **values: str) -> bytes:
        kinds = {"code": CODE, "note": NOTE}
        return dumps(Row("t", n, 1, n, True, tuple(kinds[k] for k in values), tuple(values.values())))

    merged = [
        loads(p)
        for p in merge_payloads(
            [
                event(1, note="a"),
                event(2, code="x"),
                event(3, code="x", note="b"),
                event(4, code="y"),
                event(5, note="c"),
            ]
        )
    ]
    assert [(row.recorded_at, row.get("code"), row.get("note")) for row in merged] == [(3, "x", "b"), (5, "y", "c")]


@pytest.mark.parametrize("durability", ["fsync", "sync"])
def test_settle_waits_for_what_the_mode_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(1), real(descriptor)))
    bench = Bench(tmp_path, durability=durability, sync_timeout=SOON)
    assert bench.writer.waits
    bench.submit("a")
    assert bench.writer.settle()
    assert set(bench.sink.rows) == {"a"} if durability == "sync" else synced
    bench.writer.close(SOON)


def test_sync_falls_back_to_the_spool_when_the_database_is_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path, durability="sync", sync_timeout=0.05)
    bench.sink.down = Retry("down")
    bench.submit("a")
    assert bench.writer.settle() is False
    assert bench.writer.stats().pending == 1
    bench.writer.close(0)
    assert set(_drained(bench.root)) == {"a"}


def _drained(root: Path, *, within: float = SOON) -> dict[str, Row]:
    """What other processes left, once they are dead."""
    sink = MemorySink()
    until(lambda: not drain(root, sink, clock=Clock()).pending and not list(root.glob("*-*-*/*.seg")))
    return sink.rows


# Dead processes


def test_drain_says_what_it_could_not_store(bench: Bench) -> None:
    bench.sink.down = Retry("down")
    bench.submit("a")
    bench.writer.close(0)
    until(lambda: bench.writer._thread is not None and not bench.writer._thread.is_alive())
    sink = MemorySink()
    sink.down = Block("42P01")
    stats = drain(bench.root, sink, clock=Clock())
    assert (stats.pending, stats.state, stats.last_error) == (1, "blocked", "42P01")
    sink.down = Retry("down")
    assert drain(bench.root, sink, clock=Clock(), timeout=0.05).pending == 1
    sink.down = None
    assert drain(bench.root, sink, clock=Clock()).stored == 1


CHILD = """
import os, signal, sys, threading, types
package = types.ModuleType("langgraph_session_store")  # without its __init__, which imports what takes seconds
package.__path__ = [sys.argv[2]]
sys.modules[package.__name__] = package
from pathlib import Path
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence
from langgraph_session_store.clock import Clock
from langgraph_session_store.row import Row, Slot, merge, own
from langgraph_session_store.writer import Poison, Retry, Writer, Written, writer
writer.EXIT = 60.0  # of a busy machine
CODE = NOTE = None
"""


def child(folder: Path, body: str) -> tuple[int, str]:
    """Run *body* with a bench of its own in another process; return its exit code and what it said on stderr."""
    script = [CHILD, inspect.getsource(MemorySink), inspect.getsource(Bench), "bench = Bench(Path(sys.argv[1]))"]
    package = Path(pump_module.__file__).parents[1]
    command = [sys.executable, "-c", "\n".join([*script, textwrap.dedent(body)]), str(folder), str(package)]
    done = subprocess.run(command, capture_output=True, timeout=SOON, check=False)
    return done.returncode, done.stderr.decode()


DOWN = "bench.sink.down = Retry('down')"
SUBMIT = "bench.submit(*(f't-{n}' for n in range(20)))"


@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os._exit(0)",
        "raise SystemExit(3)",
        "pass",
        "bench.writer.close(0.1 if bench.sink.down else 60)",
        "import gc; del bench; gc.collect()",
        "import multiprocessing; p = multiprocessing.get_context('fork').Process(target=bench.submit, args=('t-child',)); p.start(); p.join()",
        "import atexit; atexit.register(bench.submit, 't-late')",
        "import threading; threading.Thread(target=bench.submit, args=('t-thread',)).start()",
    ],
)
@pytest.mark.parametrize("down", [True, False])
def test_every_row_is_there_however_the_process_ends(tmp_path: Path, end: str, down: bool) -> None:
    _, errors = child(tmp_path, "\n".join([DOWN if down else "", SUBMIT, end]))
    assert "Traceback" not in errors
    rows = _drained(tmp_path / "spool")
    if not down and not end.startswith("os."):
        assert not rows.keys() - {"t-late", "t-child"}  # it was stored before the process ended
        return
    assert {f"t-{n}" for n in range(20)} <= set(rows)
    if "child" in end:
        assert "t-child" in rows
    if "late" in end:
        assert "t-late" in rows


def test_an_exit_with_the_database_up_leaves_nothing(tmp_path: Path) -> None:
    assert child(tmp_path, SUBMIT) == (0, "")
    assert list((tmp_path / "spool").iterdir()) == []


def test_another_process_adopts_while_it_works(bench: Bench) -> None:
    child(bench.root.parent, f"{DOWN}\n{SUBMIT}\nos.kill(os.getpid(), signal.SIGKILL)")
    bench.writer.start()
    until(lambda: len(bench.sink.rows) == 20)
    until(lambda: list(bench.root.iterdir()) == [])
    stats = bench.writer.stats()
    assert (stats.accepted, stats.stored, stats.pending) == (20, 20, 0)


def test_runs_in_flight_of_a_dead_process_are_abandoned(bench: Bench) -> None:
    body = """
    for thread in ("died", "ended", "paused"):
        begun = bench.row(thread, "running")
        bench.writer.submit(begun)
        if thread == "ended":
            bench.writer.submit(bench.row(thread, "completed", begun.begun_at))
        if thread == "paused":
            bench.writer.submit(bench.row(thread, "interrupted", begun.begun_at))
    bench.writer.flush(20)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    child(bench.root.parent, body)
    bench.writer.start()
    until(lambda: bench.writer.stats().abandoned == 1)
    assert bench.writer.flush(SOON)
    statuses = {thread: row.get("workflow_status") for thread, row in bench.sink.rows.items()}
    assert statuses == {"died": "abandoned", "ended": "completed", "paused": "interrupted"}


def test_a_run_is_known_as_in_flight_after_its_segment_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
    from langgraph_session_store.spool import queue as spool
    from langgraph_session_store.writer import pump
    spool.IDLE = 0.0
    pump.SURVEY = 0.01
    bench.writer.submit(bench.row("died", "running"))
    bench.writer.flush(20)
    while list(bench.root.glob("*/*.seg")):
        bench.writer.wait(0.01); import time; time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    child(bench.root.parent, body)
    bench.writer.start()
    until(lambda: "died" in bench.sink.rows)
    assert bench.sink.rows["died"].get("workflow_status") == "abandoned"


def test_a_run_in_flight_that_another_version_wrote_is_put_aside(bench: Bench) -> None:
    lease = Lease.create(bench.root)
    begun = bench.row("died", "running")
    (lease.path / "open-runs").write_bytes(
        b"".join(segment.pack(b"", one) for one in (b'{"thread_id":"old"}', dumps(begun)))
    )
    lease.close()
    stats = drain(bench.root, bench.sink, clock=bench.clock, timeout=SOON)
    assert (stats.abandoned, stats.stored, stats.pending) == (1, 1, 0)
    assert bench.sink.rows["died"].get("workflow_status") == "abandoned"
    (kept,) = (bench.root / "quarantine").iterdir()
    assert kept.read_bytes() == b'{"thread_id":"old"}'


def test_nothing_rests_between_what_many_dead_processes_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "LINGER", -1.0)
    dead = spool_module.Spool(bench.root, min_free=0)
    dead.append(b"t", dumps(bench.row("t")))
    dead.close()
    pump = pump_module.Pump(intake_module.Intake(bench.root, min_free=0), bench.sink, bench.clock)
    rest = pump.turn()
    assert "t" in bench.sink.rows
    assert rest is not None
    assert rest >= 0
    pump.stop()


def test_an_abandoned_run_does_not_win_over_a_newer_one(bench: Bench) -> None:
    body = """
    bench.writer.submit(bench.row("t", "running"))
    os.kill(os.getpid(), signal.SIGKILL)
    """
    bench.clock.anchor(bench.clock.tick()[0], bench.clock.tick()[1])
    child(bench.root.parent, body)
    time.sleep(1.1)  # longer than two processes may differ about an unanchored start
    bench.submit("t", status="completed")
    until(lambda: bench.writer.stats().abandoned == 1)
    assert bench.writer.flush(SOON)
    assert bench.sink.rows["t"].get("workflow_status") == "completed"


def test_times_before_the_first_contact_are_corrected(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.clock, bench.sink.offset = bench.clock, -3_600_000_000
    before = time.time_ns() // 1000
    bench.submit("early")
    assert bench.writer.flush(SOON)
    bench.submit("late")
    assert bench.writer.close(SOON)
    early, late = bench.sink.rows["early"], bench.sink.rows["late"]
    assert abs(early.recorded_at - (before - 3_600_000_000)) < 60_000_000
    assert early.anchored
    assert late.anchored
    assert abs(bench.writer.stats().clock_offset + 3600) < 60


def test_times_of_another_boot_are_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.down = Retry("down")
    bench.submit("t")
    recorded = bench.clock.tick()[0]
    bench.writer.close(0)
    until(lambda: bench.writer._thread is not None and not bench.writer._thread.is_alive())
    (directory,) = bench.root.iterdir()
    host, _, rest = directory.name.split("-", 2)
    directory.rename(bench.root / f"{host}-00000000-{rest}")
    clock = Clock()
    sink = MemorySink(clock, offset=-3_600_000_000)
    drain(bench.root, sink, clock=clock)
    assert abs(sink.rows["t"].recorded_at - recorded) < 60_000_000


# Forks


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_forks_while_threads_record(bench: Bench) -> None:
    stop = threading.Event()
    stored = os.open(bench.root.parent / "stored", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    real = bench.sink.write

    def write(rows: Sequence[Row]) -> Written:
        os.write(stored, "".join(f"{row.thread_id}\n" for row in rows).encode())
        return real(rows)

    def record(name: str) -> None:
        n = 0
        while not stop.is_set():
            bench.submit(f"{name}-{n % 10}", note=str(n))
            n += 1
            time.sleep(0.001)

    bench.sink.write = write  # type: ignore[method-assign]
    threads = [threading.Thread(target=record, args=(f"p{t}",)) for t in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: bool(bench.sink.rows))
    children = []
    for n in range(20):
        pid = os.fork()
        if pid == 0:
            signal.alarm(120)
            ok = bench.writer.stats().accepted == 0
            bench.submit(f"child-{n}")
            if n % 2:
                ok = bench.writer.close(60) and ok
            os._exit(0 if ok else 1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 20
    stop.set()
    for thread in threads:
        thread.join()
    assert bench.writer.flush(SOON)
    everybody = {f"child-{n}" for n in range(20)}
    until(lambda: everybody <= set((bench.root.parent / "stored").read_text().split()))
    assert balanced(bench.writer)
    assert bench.writer.stats().dropped == 0
    os.close(stored)


def test_a_thread_that_cannot_start_leaves_it_all_to_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    bench = Bench(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        bench.submit("a")
        assert bench.writer.close(0.1) is False
        assert bench.writer.flush(0.01).pending == 1
    bench.submit("b")
    assert bench.writer.close(SOON)
    assert set(bench.sink.rows) == {"a", "b"}


def test_an_event_from_inside_the_start_of_the_thread_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if bench.writer._starting:
            bench.submit("inner")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    bench.submit("outer")
    assert bench.writer.close(SOON)
    assert set(bench.sink.rows) == {"inner", "outer"}


def test_an_id_that_is_no_text_is_counted(bench: Bench) -> None:
    bench.submit("\ud800")
    stats = bench.writer.stats()
    assert (stats.accepted, stats.dropped) == (1, 1)


def test_a_degraded_row_carries_nothing_of_the_users(tmp_path: Path) -> None:
    row = Row(
        "t", 5, 4, 3, True, (own("workflow_status"), own("error"), own("metadata"), CODE), ("failed", "e", "{}", "c")
    )
    shown = degraded(row, "why")
    assert [slot.name for slot in shown.shape] == ["workflow_status", "rejected"]
    assert (shown.recorded_at, shown.begun_at) == (5, 4)
