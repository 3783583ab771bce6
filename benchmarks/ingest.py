"""How fast frames in the spool become rows: `python benchmarks/ingest.py [--only 8]`.

The frames are those of real starts and ends; *ours* is what `session-store drain` does: it reads, checks, merges and upserts them with their
history, on two connections. *One connection* is what the writer inside a user's process has, without its rests. The rivals get the same values
ready-made, one connection each, and the same table with its indexes and trigger. The limit is COPY of text that was rendered before. Each
round writes every row anew into emptied tables, then once more with other content; the rivals take turns.

The goals (0.9 at 8 KB with pglz, 1.4 with lz4, 0.7 at 1 KB) are out of reach of one connection that also writes the history: on a quiet
machine the CPU of its server process alone, were the client free, gives 0.87, 1.3 and 0.62. That is why `drain` has two. COPY of both tables
itself comes to 0.52 and 0.63 (pglz), ours on one connection without history to 0.83 and 0.6.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import psycopg
from agent import Workload
from common import arguments, finish, lz4_server, positive, private_database, quartiles, scratch, server_clock, shuffled
from psycopg.sql import SQL, Identifier

from langgraph_session_store import Column, ProblemSession, SessionRecorder, SessionStore
from langgraph_session_store.row import Row, dumps
from langgraph_session_store.sink import PostgresSink
from langgraph_session_store.spool import Spool
from langgraph_session_store.writer import PairedSink, Written, drain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.sql import Composable

    from langgraph_session_store.writer.delivery import EagerSink

LIMIT = "COPY, text, rendered before"
FULL_LIMIT = "COPY of table and history, likewise"
OURS, ALONE, BOTH = "ours", "ours, one connection", "ours, start and end of each run"
PLAIN = "ours, a record without history"
STATEMENTS, MANY, SINGLE = "unnest, binary, 500 rows", "executemany, 1000 rows", "single, prepared, autocommit"


class PlainProblem(ProblemSession, table="plain_sessions"):
    """The same fields, of which none is versioned."""

    problem_description: Annotated[str | None, Column()] = None
    problem_tests: Annotated[list[Any] | None, Column()] = None
    code: Annotated[str | None, Column()] = None
    tests_passed: Annotated[bool | None, Column()] = None


class Collected:
    """A sink that keeps the events."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def open(self) -> None:
        """Do nothing."""

    def write(self, rows: Sequence[Row]) -> Written:
        """Keep them."""
        self.rows += rows
        return Written(len(rows))

    def close(self) -> None:
        """Do nothing."""

    forget = close


class KeptSink(PostgresSink):
    """A sink that stays connected from one drain to the next, as a writer's does from batch to batch."""

    def close(self) -> None:
        """Do nothing."""


def events(store: SessionStore, workload: Workload, count: int, *, offset: int = 0) -> list[Row]:
    """Return what *count* runs put into the spool: a start and an end each. *offset* gives other content to the same threads."""
    sink = Collected()
    with SessionRecorder(store, durability="memory", sink=sink) as recorder:
        handler: Any = recorder.callbacks[0]
        for number in range(count):
            run, metadata = (
                uuid.uuid4(),
                {"ls_integration": "langgraph", "thread_id": f"thread-{number * 7919 % count}"},
            )
            handler.on_chain_start({}, workload.input(number + offset), run_id=run, metadata=metadata, name="agent")
            handler.on_chain_end(workload.state(number + offset), run_id=run)
            if number % 100 == 0:
                recorder.flush(60)
        recorder.flush(60)
    assert len(sink.rows) == 2 * count
    return sink.rows


def _ends(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.get("workflow_status") != "running"]


@dataclass(frozen=True)
class Load:
    """The rows of one half of a round: as events, as values of the ends, and as text for COPY."""

    starts_and_ends: list[Row]
    ends: list[Row]
    plain: list[Row]
    values: list[list[Any]]
    table_text: bytes
    history_text: bytes


class Bench:
    """One server, one size of state: the tables, and every way into them."""

    def __init__(self, dsn: str, kilobytes: float, count: int, schema: str) -> None:
        self.count = count
        self.server = server_clock(dsn)
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.store, self.plain = (
            SessionStore(dsn, schema=schema, record=record) for record in (ProblemSession, PlainProblem)
        )
        for store in (self.store, self.plain):
            store.setup()
        self._folder = Path(tempfile.mkdtemp(prefix="lgss-"))
        self._alone = self._sink(self.store)
        self._sinks = {store: PairedSink(self._sink(store), self._sink(store)) for store in (self.store, self.plain)}
        workload = Workload(kilobytes=kilobytes)
        self.insert, self.update = (self._load(workload, offset) for offset in (0, count))
        gc.collect()
        gc.freeze()  # a process that drains does not hold all of these rows, so its collector need not pass through them

    @staticmethod
    def _sink(store: SessionStore) -> PostgresSink:
        return KeptSink(store.target.kwargs, store.table, clock=store.clock, setup=store.setup_queries)

    def _load(self, workload: Workload, offset: int) -> Load:
        rows = events(self.store, workload, self.count, offset=offset)
        ends, plain = _ends(rows), _ends(events(self.plain, workload, self.count, offset=offset))
        self.columns = ["thread_id", *(slot.name for slot in ends[0].shape)]
        self.types = ["text", *(slot.sql_type for slot in ends[0].shape)]
        values = [[row.thread_id, *row.values] for row in ends]
        self.clear()
        self.fill(self.store, ends)()
        return Load(rows, ends, plain, values, self._text(self.store.table.full), self._text(self.store.table.versions))

    def _text(self, table: SQL) -> bytes:
        with self.connection.cursor().copy(SQL("COPY {} TO STDOUT").format(table)) as out:
            return b"".join(bytes(data) for data in out)

    def clear(self) -> None:
        """Empty the tables."""
        for store in (self.store, self.plain):
            self.connection.execute(SQL("TRUNCATE {}, {}").format(store.table.full, store.table.versions))

    def fill(self, store: SessionStore, rows: Sequence[Row], sink: EagerSink | None = None) -> Callable[[], None]:
        """Put *rows* into a spool; return what stores them, by default as `session-store drain` does."""
        folder, sink = self._folder / uuid.uuid4().hex, sink or self._sinks[store]
        spool = Spool(folder)
        for row in rows:
            spool.append(row.thread_id.encode(), dumps(row))
        spool.close()

        def store_them() -> None:
            stats = drain(folder, sink, clock=store.clock)
            assert stats.stored == len(rows), stats

        return store_them

    def copy(self, load: Load, *, history: bool) -> None:
        """Write the rendered text, to the end of inserting only."""
        texts = [(self.store.table.full, load.table_text), (self.store.table.versions, load.history_text)]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            for table, text in texts[: 1 + history]:
                with cursor.copy(SQL("COPY {} FROM STDIN").format(table)) as into:
                    for at in range(0, len(text), 1 << 16):
                        into.write(text[at : at + (1 << 16)])

    def _upsert(self, source: Composable) -> bytes:
        updates = [SQL("{0} = excluded.{0}").format(Identifier(name)) for name in self.columns[1:]]
        return (
            SQL("INSERT INTO {} ({}) {} ON CONFLICT (thread_id) DO UPDATE SET {}")
            .format(
                self.store.table.full,
                SQL(", ").join(map(Identifier, self.columns)),
                source,
                SQL(", ").join(updates),
            )
            .as_bytes(None)
        )

    def single(self, load: Load, part: int = 8) -> None:
        """Write each row in a transaction of its own; only the first of *part* rows, which is slow enough."""
        text = self._upsert(SQL("VALUES ({})").format(SQL(", ").join([SQL("%s")] * len(self.columns))))
        for values in load.values[: self.count // part]:
            self.connection.execute(text, values, prepare=True)

    def many(self, load: Load) -> None:
        """Write a thousand rows in a transaction, a statement each."""
        text = self._upsert(SQL("VALUES ({})").format(SQL(", ").join([SQL("%s")] * len(self.columns))))
        for at in range(0, self.count, 1000):
            with self.connection.transaction(), self.connection.cursor() as cursor:
                cursor.executemany(text, load.values[at : at + 1000])

    def unnest(self, load: Load) -> None:
        """Write 500 rows in a statement, as binary arrays of what their types allow."""
        native = {"boolean": "boolean", "integer": "integer"}
        arrays = ", ".join(f"%b::{native.get(kind, 'text')}[]" for kind in self.types)
        values = ", ".join(f"c{index}::{kind}" for index, kind in enumerate(self.types))
        names = ", ".join(f"c{index}" for index in range(len(self.types)))
        text = self._upsert(SQL(f"SELECT {values} FROM unnest({arrays}) AS d ({names})"))
        for at in range(0, self.count, 500):
            self.connection.execute(text, [list(column) for column in zip(*load.values[at : at + 500], strict=True)])

    def ways(self) -> dict[str, tuple[Callable[[Load], Callable[[], None]], float]]:
        """Return what writes a load, made ready before the clock starts, and the part of the rows that it writes."""
        return {
            LIMIT: (lambda load: partial(self.copy, load, history=False), 1),
            FULL_LIMIT: (lambda load: partial(self.copy, load, history=True), 1),
            OURS: (lambda load: self.fill(self.store, load.ends), 1),
            ALONE: (lambda load: self.fill(self.store, load.ends, self._alone), 1),
            BOTH: (lambda load: self.fill(self.store, load.starts_and_ends), 1),
            PLAIN: (lambda load: self.fill(self.plain, load.plain), 1),
            STATEMENTS: (lambda load: partial(self.unnest, load), 1),
            MANY: (lambda load: partial(self.many, load), 1),
            SINGLE: (lambda load: partial(self.single, load), 1 / 8),
        }


class Taken(NamedTuple):
    """Rows per second, and microseconds of CPU per row of this process and of the server's."""

    rate: float
    client: float
    server: float


def timed(run: Callable[[], None], rows: float, server: Callable[[], float]) -> Taken:
    """Return what it took to write *rows*."""
    used, cpu, begin = server(), time.process_time(), time.perf_counter()
    run()
    seconds = time.perf_counter() - begin
    client = time.process_time() - cpu
    return Taken(rows / seconds, client * 1e6 / rows, (server() - used) * 1e6 / rows)


def measure(bench: Bench, rounds: int, yardstick: Callable[[], Taken] | None) -> list[dict[str, Any]]:
    """Let all ways take turns; return their rates, and their parts of the yardstick's, by default the first way's."""
    ways = bench.ways()
    found: dict[tuple[str, str], list[Taken]] = {(name, half): [] for name in ways for half in ("insert", "update")}
    for name in (LIMIT, FULL_LIMIT):
        del found[name, "update"]  # COPY cannot
    given: list[Taken] = []
    for turn in range(-1, rounds):
        if yardstick and (taken := yardstick()) and turn >= 0:
            given.append(taken)
        for name in shuffled(ways, turn):
            make, part = ways[name]
            bench.clear()
            for half, load in (("insert", bench.insert), ("update", bench.update)):
                if (name, half) not in found:
                    continue
                taken = timed(make(load), bench.count * part, bench.server)
                if turn >= 0:
                    found[name, half].append(taken)
    limits = given or found[LIMIT, "insert"]
    return [_line(name, half, results, limits) for (name, half), results in found.items()]


def _line(name: str, half: str, results: Sequence[Taken], limits: Sequence[Taken]) -> dict[str, Any]:
    parts = [mine.rate / limit.rate for mine, limit in zip(results, limits, strict=True)]
    by_cpu = [
        (limit.client + limit.server) / (mine.client + mine.server) for mine, limit in zip(results, limits, strict=True)
    ]
    return {
        "candidate": name,
        "half": half,
        "rows_per_second": round(statistics.median(each.rate for each in results)),
        "of_copy": round(statistics.median(parts), 3),
        "of_copy_quartiles": quartiles(parts, 3),
        "of_copy_by_cpu": round(statistics.median(by_cpu), 3),
        "client_cpu_us": round(statistics.median(each.client for each in results), 1),
        "server_cpu_us": round(statistics.median(each.server for each in results), 1),
        "rounds": len(results),
    }


def show(title: str, lines: Sequence[dict[str, Any]]) -> None:
    """Print the lines as a table."""
    print(f"\n{title:48}{'rows/s':>10}{'of COPY':>9}  {'quartiles':15}{'by CPU':>8}{'client µs':>10}{'server µs':>10}")
    for line in lines:
        low, high = line["of_copy_quartiles"]
        print(
            f"{line['half']}: {line['candidate']:40}{line['rows_per_second']:10,}{line['of_copy']:9.2f}"
            f"  {f'{low:.2f} - {high:.2f}':15}{line['of_copy_by_cpu']:8.2f}{line['client_cpu_us']:10,.0f}"
            f"{line['server_cpu_us']:10,.0f}"
        )


def pglz_copy(like: Bench) -> Callable[[], Taken]:
    """Return the timing of COPY into a table of *like*'s server whose values are compressed by pglz."""
    table = SQL("ingest_pglz")
    like.connection.execute(SQL("DROP TABLE IF EXISTS {}").format(table))
    like.connection.execute(SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(table, like.store.table.full))
    columns = like.connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'ingest_pglz'::regclass AND attnum > 0 AND attcompression <> ''"
    ).fetchall()
    for (column,) in columns:
        like.connection.execute(
            SQL("ALTER TABLE {} ALTER COLUMN {} SET COMPRESSION pglz").format(table, Identifier(column))
        )

    def run() -> Taken:
        like.connection.execute(SQL("TRUNCATE {}").format(table))

        def copy() -> None:
            with like.connection.cursor().copy(SQL("COPY {} FROM STDIN").format(table)) as into:
                for at in range(0, len(like.insert.table_text), 1 << 16):
                    into.write(like.insert.table_text[at : at + (1 << 16)])

        return timed(copy, like.count, like.server)

    return run


def sizes(text: str) -> list[float]:
    """Read sizes with commas between."""
    return [float(size) for size in text.split(",")]


def main(words: Sequence[str] | None = None) -> None:
    """Write rows in every way, and say how fast each is."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()])
    parser.add_argument("--only", type=sizes, default="8,1", help="sizes of the state in KB")
    parser.add_argument("--rows", type=positive, help="rows of a round at 8 KB")
    parser.add_argument("--rounds", type=positive)
    options = parser.parse_args(words)
    rounds = options.rounds or {"quick": 1, "short": 4, "long": 15}[options.form]
    rows = options.rows or {"quick": 16, "short": 2000, "long": 8000}[options.form]
    contests: list[dict[str, Any]] = []
    with scratch(), ExitStack() as stack:
        servers = {"pglz": stack.enter_context(private_database())}
        if lz4 := stack.enter_context(lz4_server()):
            servers["lz4"] = lz4
        for compression, dsn in servers.items():
            for kilobytes in options.only:
                count = rows if kilobytes > 2 else 2 * rows  # noqa: PLR2004 - small rows pass quickly
                bench = Bench(dsn, kilobytes, count, f"ingest_{kilobytes:g}".replace(".", "_"))
                lines = measure(bench, rounds, pglz_copy(bench) if compression == "lz4" else None)
                show(f"{kilobytes:g} KB, {compression}, {count:,} rows", lines)
                contests.append({"kb": kilobytes, "compression": compression, "rows": count, "lines": lines})
    finish(
        "ingest", options, {"not_available": {} if lz4 else {"lz4": "no server with lz4 here"}, "contests": contests}
    )


if __name__ == "__main__":
    main()
