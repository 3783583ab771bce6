"""Purge half of a large table while runs are recorded: what the writer notices. `python benchmarks/purge.py [--rows 1000000]`.

A writer stores 200 runs a second, a start and an end with 8 KB each. An event's delay is from when it happened until it is committed; a
batch's time is what the sink took for it, waits for locks included. Quiet is the time before and after the purge.
"""

from __future__ import annotations

import argparse
import math
import secrets
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from common import machine, private_database, write
from psycopg.sql import SQL

from langgraph_session_store import ProblemSession, SessionStore
from langgraph_session_store.clock import monotonic, to_iso
from langgraph_session_store.record import record_fields
from langgraph_session_store.row import Row, Slot, own
from langgraph_session_store.sink import PostgresSink
from langgraph_session_store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph_session_store.writer import Written

RATE = 200  # runs a second
QUIET = 30  # seconds on either side
CUT = datetime(2025, 7, 1, tzinfo=UTC)  # half of the rows are older
GOAL = 2.0
SCHEMA = "purging"

_ROWS = SQL("""
INSERT INTO {table} (thread_id, created_at, updated_at, recorded_at, workflow_status, user_prompt, topic, difficulty,
    problem_description, code, tests_passed, code_attempts)
SELECT 'old-' || n, at, at, at, 'completed', 'Sort request ' || n, 'arrays', 'easy', repeat(md5('d' || n) || ' ', 9),
    repeat(md5('c' || n), 16), true, 1 + n %% 5
FROM (SELECT n, {cut} + (n - {half}) * interval '10 s' AS at FROM generate_series(%(low)s::bigint, %(high)s::bigint) AS n) AS drawn
""")
_LINES = SQL("""
INSERT INTO {versions} (thread_id, recorded_at, content__digests, problem_description, code, tests_passed)
SELECT thread_id, recorded_at, '{{"code": "0011223344556677"}}', problem_description, code, tests_passed FROM {table}
WHERE thread_id LIKE 'old-%%' AND recorded_at BETWEEN {cut} + (%(low)s - {half}) * interval '10 s' AND {cut} + (%(high)s - {half}) * interval '10 s'
ON CONFLICT DO NOTHING
""")


def fill(dsn: str, store: SessionStore, count: int) -> None:
    """Make *count* sessions of about 1 KB, each with a line of history; half of them are older than `CUT`."""
    store.setup()
    names = {"table": store.table.full, "versions": store.table.versions, "half": SQL(str(count // 2)), "cut": CUT}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for low in range(0, count, 50_000):
            chunk = {"low": low, "high": min(low + 50_000, count) - 1}
            for text in (_ROWS, _LINES):
                connection.execute(text.format(**names), chunk)
            print(f"\r{chunk['high'] + 1:,} rows", end="", file=sys.stderr, flush=True)
        for table in (store.table.full, store.table.versions):
            connection.execute(SQL("VACUUM ANALYZE {}").format(table))
        connection.execute("CHECKPOINT")
    print(file=sys.stderr)


@dataclass
class Load:
    """Runs at a steady rate, and what became of each event: when it was committed, how late, and what its batch took."""

    store: SessionStore
    folder: Path
    seen: list[tuple[float, float, float]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.sink = PostgresSink(self.store.target.kwargs, self.store.table, clock=self.store.clock)
        self._write, self.sink.write = self.sink.write, self._timed  # type: ignore[method-assign]  # to time it
        self.writer = Writer(self.sink, clock=self.store.clock, directory=self.folder)
        self.slots = {f.name: Slot(f.name, f.sql_type, "set", f.kind) for f in record_fields(ProblemSession)}
        self.thread = threading.Thread(target=self._run)

    def _timed(self, rows: Sequence[Row]) -> Written:
        begin = time.monotonic()
        written = self._write(rows)
        end, now = time.monotonic(), monotonic()
        self.seen += [(end, (now - row.monotonic) / 1000, (end - begin) * 1000) for row in rows]
        return written

    def _run(self) -> None:
        due = time.monotonic()
        while not self.stop.is_set():
            thread, code = f"new-{secrets.randbelow(20_000)}", secrets.token_hex(4096)
            begun = self._submit(thread, None, workflow_status="running", user_prompt="Sort it", topic="arrays")
            self._submit(thread, begun, workflow_status="completed", finished_at=to_iso(begun), code=code)
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))

    def _submit(self, thread: str, begun: int | None, **values: Any) -> int:
        at, mono, anchored = self.store.clock.tick()
        shape = tuple(self.slots.get(name) or own(name) for name in values)
        self.writer.submit(Row(thread, at, begun or at, mono, anchored, shape, tuple(values.values())))
        return begun or at

    def numbers(self, *spans: tuple[float, float]) -> dict[str, Any]:
        """Return p50, p99 and maximum of the events that were committed within *spans*."""
        chosen = [one for one in self.seen if any(low <= one[0] <= high for low, high in spans)]
        seconds = sum(high - low for low, high in spans)
        return {
            "events_per_second": round(len(chosen) / seconds),
            "delay_ms": _spread([late for _, late, _ in chosen]),
            "batch_ms": _spread([took for *_, took in chosen]),
        }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[math.ceil(part * len(ordered)) - 1], 1) for name, part in at.items()}


def measure(dsn: str, count: int, quiet: float) -> dict[str, Any]:
    """Return what a purge of half of *count* rows took, and what the writer saw before, during and after."""
    with SessionStore(dsn, schema=SCHEMA) as store, tempfile.TemporaryDirectory() as folder:
        fill(dsn, store, count)
        load = Load(store, Path(folder))
        load.thread.start()
        time.sleep(5)  # connections, plans and caches
        marks = [time.monotonic()]
        time.sleep(quiet)
        marks.append(time.monotonic())
        removed = store.purge(older_than=CUT)
        marks.append(time.monotonic())
        time.sleep(quiet)
        marks.append(time.monotonic())
        load.stop.set()
        load.thread.join()
        load.writer.close(300)
        stats = load.writer.stats()
        found = {
            "rows": count, "removed": removed, "purge_seconds": round(marks[2] - marks[1], 1),
            "quiet": load.numbers((marks[0], marks[1]), (marks[2], marks[3])), "purging": load.numbers((marks[1], marks[2])),
            "accepted": stats.accepted, "stored": stats.stored, "left": store.count(thread_id__startswith="old-"),
        }  # fmt: skip
    for what in ("delay_ms", "batch_ms"):
        found[f"p99_ratio_{what[:-3]}"] = round(found["purging"][what]["p99"] / found["quiet"][what]["p99"], 2)
    return found


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quiet", type=float, default=QUIET, help="seconds before and after the purge")
    parser.add_argument("--json", type=Path, help="where the results go; default: standard output")
    options = parser.parse_args()
    with private_database() as dsn:
        found = measure(dsn, options.rows, options.quiet)
    write(options.json, {"machine": machine(), "goal": f"p99 at most {GOAL} times the quiet one", "purge": found})


if __name__ == "__main__":
    main()
