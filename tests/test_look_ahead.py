"""The next batch is read and made ready while the server works on one; what it comes to is what it would be without."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from test_queries import NOW, event
from test_sink import Base
from test_writer import MemorySink

from langgraph_session_store.clock import Clock
from langgraph_session_store.queries import writes
from langgraph_session_store.queries.arrays import Array
from langgraph_session_store.row import dumps
from langgraph_session_store.sink import LIMITS
from langgraph_session_store.spool import Spool
from langgraph_session_store.spool import queue as spool_module
from langgraph_session_store.writer import Retry, Writer, Written, drain
from langgraph_session_store.writer import pump as pump_module
from langgraph_session_store.writer import writer as writer_module
from langgraph_session_store.writer.intake import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from langgraph_session_store.row import Row

BIG = 1 << 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "ROWS", 3)
    monkeypatch.setattr(pump_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(writer_module, "BULK", 1)


class Eager(MemorySink):
    """Asks for what comes next in the middle of each write, as a sink does whose server is at work."""

    coming: Callable[[], Sequence[Row]] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.promised: Sequence[Row] = ()
        self.kept = 0
        self.fails: list[Exception] = []

    def write(self, rows: Sequence[Row]) -> Written:
        self.kept += bool(self.promised) and rows is self.promised
        assert self.coming is not None
        self.promised = self.coming()
        if self.fails:
            raise self.fails.pop()
        return super().write(rows)


def left_by_the_dead(root: Path, rows: Sequence[Row]) -> Path:
    spool = Spool(root, min_free=0)
    for row in rows:
        spool.append(row.thread_id.encode(), dumps(row))
    spool.close()
    return root


def test_a_drain_reads_more_at_once_than_a_writer_beside_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BULK", 2)
    sink = Eager()
    drain(left_by_the_dead(tmp_path / "s", [event(at, f"t{at}", code="x") for at in range(10)]), sink, clock=Clock())
    assert [len(rows) for rows in sink.writes] == [6, 4]


def test_a_promise_is_what_the_next_write_brings(tmp_path: Path) -> None:
    sink = Eager()
    root = left_by_the_dead(tmp_path / "s", [event(at, f"t{at}", code="x") for at in range(10)])
    stats = drain(root, sink, clock=Clock())
    assert [[row.thread_id for row in rows] for rows in sink.writes] == [
        ["t0", "t1", "t2"],
        ["t3", "t4", "t5"],
        ["t6", "t7", "t8"],
        ["t9"],
    ]
    assert (stats.stored, stats.pending, sink.kept, list(sink.promised)) == (10, 0, 3, [])
    assert list(root.glob("*/*.seg")) == []


def test_nothing_is_settled_before_it_is_written(tmp_path: Path) -> None:
    """What was read early stays in the spool, and whoever comes next has it all."""
    sink = Eager()
    sink.fails = [Retry("57P01")] * 100_000
    root = left_by_the_dead(tmp_path / "s", [event(at, f"t{at}", code="x") for at in range(7)])
    stats = drain(root, sink, clock=Clock(), timeout=0.2)
    assert (stats.stored, sink.writes, len(sink.promised)) == (0, [], 3)
    again = Eager()
    assert drain(root, again, clock=Clock()).stored == 7
    assert sorted(again.rows) == [f"t{at}" for at in range(7)]


def test_an_outage_and_poison_in_between_lose_nothing(tmp_path: Path) -> None:
    sink = Eager()
    sink.fails = [Retry("08006"), Retry("57014", split=True), Retry("40P01")]
    sink.bad = lambda row: row.thread_id == "t4" and row.get("code") == "x"
    root = left_by_the_dead(tmp_path / "s", [event(at, f"t{at}", code="x") for at in range(10)])
    stats = drain(root, sink, clock=Clock())
    assert (stats.accepted, stats.pending, stats.quarantined) == (10, 0, 1)
    assert sorted(sink.rows) == [f"t{at}" for at in range(10)]


def test_runs_that_end_in_what_was_read_early_are_not_abandoned(tmp_path: Path) -> None:
    starts = [event(at, f"t{at}", begun=at, workflow_status="running") for at in range(6)]
    ends = [event(at + 10, f"t{at}", begun=at, workflow_status="completed") for at in range(5)]
    sink = Eager()
    stats = drain(left_by_the_dead(tmp_path / "s", [*starts, *ends]), sink, clock=Clock())
    drain(tmp_path / "s", sink, clock=Clock())  # the end of the one that is abandoned is an event like others
    assert stats.abandoned == 1
    assert {row.get("workflow_status") for row in sink.rows.values()} == {"completed", "abandoned"}
    assert sink.rows["t5"].get("workflow_status") == "abandoned"


def test_an_empty_segment_of_a_dead_process_goes_too(tmp_path: Path) -> None:
    root = left_by_the_dead(tmp_path / "s", [event(1, "t", code="x")])
    (path,) = root.glob("*/*.seg")
    path.write_bytes(b"")
    assert drain(root, Eager(), clock=Clock()).accepted == 0
    assert list(root.glob("*-*")) == []


def test_a_batch_spans_segments_and_segments_go_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 100)
    spool = Spool(tmp_path / "s", min_free=0)
    for number in range(8):
        spool.append(b"k", b"%d" % number * 30)  # two to a segment
    files = sorted((tmp_path / "s").glob("*/*.seg"))
    damaged = files[1]
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    first, second = spool.read(3, BIG), spool.read(3, BIG)
    assert [payload[:1] for payload in (*first, *second)] == [b"0", b"1", b"4", b"5", b"6", b"7"]
    assert spool.counts.settled == spool.counts.done == 0
    assert all(file.exists() for file in files)
    spool.rewind()
    assert (spool.read(3, BIG), spool.read(3, BIG), spool.read(3, BIG)) == (first, second, [])
    spool.acknowledge([])
    assert [file.exists() for file in files] == [False, False, True, True]
    assert (spool.counts.settled, spool.counts.unreadable) == (5, 2)
    assert spool.counts.done == 5
    spool.acknowledge([])
    assert spool.counts.settled == spool.counts.done == 8
    spool.close()
    assert list((tmp_path / "s").glob("*-*")) == []


def test_what_is_damaged_at_the_end_is_settled_with_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 100)
    spool = Spool(tmp_path / "s", min_free=0)
    for number in range(5):
        spool.append(b"k", b"%d" % number * 30)
    first, *rest = sorted((tmp_path / "s").glob("*/*.seg"))
    assert len(spool.read(2, BIG)) == 2
    spool.close()  # seals the last one
    for damaged in rest:
        damaged.write_bytes(b"\0" * damaged.stat().st_size)
    assert spool.read(10, BIG) == []
    assert first.exists()
    spool.acknowledge([])
    assert (spool.counts.settled, spool.counts.done, spool.more) == (5, 5, False)


def test_a_rewind_goes_back_to_what_was_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", min_free=0)
    for number in range(6):
        spool.append(b"k", b"%d" % number)
    assert (spool.read(2, BIG), spool.read(2, BIG)) == ([b"0", b"1"], [b"2", b"3"])
    spool.acknowledge([])
    spool.rewind()
    assert spool.read(10, BIG) == [b"2", b"3", b"4", b"5"]
    spool.acknowledge([])
    assert spool.counts.settled == spool.counts.done == 6
    spool.close()


def test_merging_leaves_alone_what_was_read_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "ROLL", 100)
    spool = Spool(tmp_path / "s", min_free=0)
    for number in range(11):
        spool.append(b"k", b"%d" % (number % 10) * 30)
    assert (len(spool.read(2, BIG)), len(spool.read(1, BIG))) == (2, 1)
    spool.merge(lambda payloads: [payloads[-1]])
    spool.acknowledge([])
    spool.acknowledge([])
    left = []
    while read := spool.read(10, BIG):
        left += read
        spool.acknowledge([])
    assert [payload[:1] for payload in left] == [b"3", b"9", b"0"]
    assert (spool.counts.settled, spool.counts.done) == (11, 11)
    spool.close()


def test_what_a_closed_writer_had_read_early_is_written_when_it_opens_again(tmp_path: Path) -> None:
    sink, clock = Eager(), Clock()
    writer = Writer(sink, clock=clock, directory=None)
    sink.fails = [Retry("57P01")] * 1_000_000
    for at in range(7):
        writer.submit(event(at, f"t{at}", code="x"))
    assert not writer.flush(0.5)
    assert not writer.close(0.1)
    sink.fails.clear()
    assert writer.flush(120)
    assert sorted(sink.rows) == [f"t{at}" for at in range(7)]
    assert writer.close(120)


def test_the_memory_queue_is_read_ahead_too() -> None:
    queue = MemoryQueue(10, BIG)
    for payload in (b"a", b"b", b"c"):
        queue.append(payload)
    assert (queue.read(2, BIG), queue.read(2, BIG), queue.read(2, BIG)) == ([b"a", b"b"], [b"c"], [])
    queue.acknowledge([])
    assert queue.counts.settled == 2
    queue.rewind()
    assert queue.read(2, BIG) == [b"c"]
    queue.acknowledge([])
    assert (queue.counts.settled, queue.more) == (3, False)


# With Postgres


@pytest.fixture
def base(dsn: str, schema: str, tmp_path: Path) -> Iterator[Base]:
    with Base(dsn, schema, tmp_path) as base:
        yield base


def test_the_table_is_the_same_and_batches_were_ready(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    ready: list[writes.Batch] = []
    make = writes.Batch.make_ready
    monkeypatch.setattr(writes.Batch, "make_ready", lambda batch: ready.append(batch) or make(batch))
    rows = [base.row(f"t{number % 7}", code=f"c{number // 7}") for number in range(21)]
    rows[10] = base.row("bad", code="a\0b")
    left_by_the_dead(base.root, rows)
    stats = drain(base.root, base.sink, clock=base.clock)
    assert (stats.accepted, stats.pending, stats.quarantined) == (21, 0, 1)
    assert {thread: code for thread, (code,) in base.all("code").items()} == {
        **{f"t{number}": "c2" for number in range(7)},
        "bad": None,
    }
    lines = base.execute("SELECT code, count(*) FROM {schema}.session_states_versions GROUP BY code ORDER BY code")
    assert lines == [("c0", 7), ("c1", 6), ("c2", 7)]
    assert len(ready) >= 6
    assert all("data" in vars(batch.values["thread_id"]) for batch in ready)


def test_a_planner_without_statistics_reads_no_whole_table(base: Base) -> None:
    base.sink.open()
    base.sink.write([base.row("a", code="x")])
    assert base.sink._connection is not None
    setting = "SHOW enable_seqscan"
    assert base.sink._connection.execute(setting).fetchone() == ("on",)
    with base.sink._connection.transaction():
        base.sink._connection.execute(LIMITS)
        assert base.sink._connection.execute(setting).fetchone() == ("off",)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["", "a", None, "é\U0001f600", "x" * 9000]),
        ("text", []),
        ("bytea", [b"", b"\0\xff", None]),
        ("text", [None, None]),
        ("bigint", [0, -1, None, 2**63 - 1, -(2**63)]),
        ("boolean", [True, False, None]),
        ("double precision", [0.5, None, -math.inf, 1e300]),
    ],
)
def test_arrays_arrive_as_they_are(dsn: str, kind: str, values: list[Any]) -> None:
    with psycopg.connect(dsn) as connection:
        array = Array(kind, values)
        sent = connection.execute(f"SELECT %b::{kind}[]", [array]).fetchone()
        moments = Array("timestamptz", [NOW, None, 0])
        found = connection.execute(
            "SELECT array_agg((extract(epoch FROM t) * 1000000)::bigint) FROM unnest(%b::timestamptz[]) AS t", [moments]
        ).fetchone()
    assert sent == (values,)
    assert found == ([NOW, None, 0],)


@pytest.mark.parametrize(("kind", "value"), [("bigint", 2**63), ("bigint", "x"), ("text", "\ud800")])
def test_what_is_none_of_the_type_is_refused_before_it_is_sent(kind: str, value: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        _ = Array(kind, [value]).data
