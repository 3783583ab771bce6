"""What reading costs: `python benchmarks/reads.py [--rows 1000000] [--only get,pages] [--json results.json]`.

Each contest holds the store against its rival and against the limit, in turns and in one run; the numbers to look at are the ratios. The
rows stay in a folder below --folder for the next time. Whole results are read in processes of their own, which report their CPU and their peak memory, too.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from common import Contest, arguments, finish, open_database, positive, server_clock, some_of
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from rows import FIRST, LEGACY, IndexedProblem, fill

from langgraph_session_store import SessionStore
from langgraph_session_store.queries import reads as queries
from langgraph_session_store.queries.ddl import COVERED

if TYPE_CHECKING:
    from collections.abc import Callable
CONTESTS = ("get", "filters", "pages", "analytics", "search", "frames")
ROWS = {"quick": 2000, "short": 100_000, "long": 1_000_000}
FOLDER = Path("/tmp/lgss-bench")  # noqa: S108 - kept for the next run on purpose
HELD: Final = 2_000_000
"""Rows that fit into memory as a whole: `pandas.read_sql` takes 6 GB for a million."""
FIRST_TABLE = SQL("bench.{}").format(Identifier(FIRST)).as_string(None)
SIX = (
    f"SELECT count(*) FROM {FIRST_TABLE}",
    f"SELECT workflow_status, count(*) FROM {FIRST_TABLE} GROUP BY 1",
    f"SELECT avg(tests_passed::int) FROM {FIRST_TABLE} WHERE workflow_status IN ('completed', 'failed')",
    f"SELECT avg(code_attempts), avg(problem_attempts) FROM {FIRST_TABLE}",
    f"SELECT topic, count(*) FROM {FIRST_TABLE} GROUP BY 1",
    f"SELECT difficulty, count(*) FROM {FIRST_TABLE} GROUP BY 1",
)
SEVENTH = (
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds), percentile_cont(0.95) WITHIN GROUP "
    f"(ORDER BY duration_seconds), min(created_at), max(created_at) FROM {FIRST_TABLE}"
)
GROUPED = "SELECT {0}, count(*) FROM {1} GROUP BY {0}"


class Bench:
    """The store, a bare connection as psycopg makes it, one whose rows are dicts, and one for a pooler, which prepares nothing."""

    def __init__(self, dsn: str, rows: int) -> None:
        self.dsn, self.rows = dsn, rows
        self.store = fill(dsn, rows)
        self.prepared = psycopg.connect(dsn, autocommit=True)
        self.dicts = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)
        self.bare = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
        self.memory: dict[str, int] = {}

    def first(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement on the first version's table."""
        return self.bare.execute(text, values or None).fetchall()

    def same(self, **filters: object) -> Callable[[], object]:
        """Return the store's own statement, run on a connection: what Postgres and the driver take of a page."""
        query = queries.page(self.store.table, filters)
        return lambda: self.bare.execute(query.sql, query.params).fetchall()

    def get(self) -> list[Contest]:
        """Hold `get` against the same statement on a connection."""
        ids = [f"thread-{random.Random(seed).randint(1, self.rows)}" for seed in range(200)]  # noqa: S311

        def raw(via: psycopg.Connection[Any] | psycopg.Cursor[Any]) -> Callable[[], object]:
            texts = [(query.sql, query.params) for query in (queries.get(self.store.table, id_) for id_ in ids)]
            return lambda: [via.execute(*text).fetchone() for text in texts]

        contest = Contest("get, 200 of them", "at most 1.3x of raw psycopg with the same statement")
        return [
            contest.run(
                {
                    "psycopg, prepared": raw(self.prepared),
                    "psycopg, prepared, as dicts": raw(self.dicts),
                    "limit: psycopg, prepared, all on one cursor": raw(self.prepared.cursor()),
                    "psycopg, unprepared as a pooler needs it": raw(self.bare),
                    "store.get": lambda: [self.store.get(id_) for id_ in ids],
                },
                25,
            )
        ]

    def filters(self) -> list[Contest]:
        """Hold the documented filter against the original's single-column indexes, for new and for old matches."""
        contests = []
        for topic in ("arrays", LEGACY):
            text = (
                f"SELECT * FROM {FIRST_TABLE} WHERE topic = %s AND difficulty = 'hard' AND tests_passed "
                "ORDER BY created_at DESC LIMIT 50"
            )
            filters: dict[str, Any] = {"topic": topic, "difficulty": "hard", "tests_passed": True}
            contest = Contest(f"newest 50 of topic {topic}, hard, passed", "at most 3 ms")
            run: dict[str, Callable[[], object]] = {
                "single-column indexes": partial(self.first, text, topic),
                "limit: the store's statement on a connection": self.same(**filters),
                "store.query": partial(self.store.query, **filters),
            }
            contests.append(contest.run(run, max(5, min(30, 30_000_000 // self.rows)), warm=3))
        return contests

    def pages(self) -> list[Contest]:
        """Hold the last page by cursor against the first."""
        cursor, place, last = None, 0, self.rows - 50
        while place < last:
            step = min(1000, last - place)
            cursor = self.store.query(limit=step, cursor=cursor, fields="id").next_cursor
            place += step
        contest = Contest(f"page {place // 50 + 1:,} of 50", "at most 1.5x of page 1")
        offset = SQL("SELECT * FROM {} ORDER BY created_at DESC OFFSET %s LIMIT 50").format(Identifier("bench", FIRST))
        run: dict[str, Callable[[], object]] = {
            "page 1": self.store.query,
            "by cursor": lambda: self.store.query(cursor=cursor),
        }
        contest.run(run, 60, warm=3)
        contest.run({"by OFFSET": lambda: self.bare.execute(offset, [place]).fetchall()}, 3 if self.rows <= HELD else 1)
        return [contest]

    def analytics(self) -> list[Contest]:
        """Hold one statement against those that a first version would run, on its table and its indexes."""
        contest = Contest("full analytics", "at least 8x faster than six queries: at most 0.125x")
        covered = GROUPED.format(", ".join(COVERED), self.store.table.full.as_string(None))
        run: dict[str, Callable[[], object]] = {
            "six queries": lambda: [self.first(text) for text in SIX],
            "six, and durations and times": lambda: [self.first(text) for text in (*SIX, SEVENTH)],
            "limit: one pass over the covering index": lambda: self.first(covered),
            "store.analytics": self.store.analytics,
        }
        contest.run(run, 9 if self.rows <= HELD else 3)
        busy = Contest("full analytics, CPU of the server", contest.goal)
        clock = server_clock(self.dsn)
        for _ in range(5 if self.rows <= HELD else 2):
            for name, candidate in run.items():
                busy.times.setdefault(name, []).append(_cpu(clock, candidate))
        sliced = Contest("analytics by topic, one month", "no goal")
        month: dict[str, Any] = {"created_at__gte": "2025-06-01", "created_at__lt": "2025-07-01"}
        sliced.run({"store.analytics": lambda: self.store.analytics(group_by="topic", bucket="day", **month)}, 5)
        told = all(seconds for times in busy.times.values() for seconds in times)  # of few rows the clock tells nothing
        return [contest, *([busy] if told else []), sliced]

    def search(self) -> list[Contest]:
        """Hold `has` and `contains` with the index that `Column(index=...)` asks for against reading the table."""
        case = self.rows * 5 // 13
        number = f"request {case} "
        has = f"SELECT * FROM {FIRST_TABLE} WHERE problem_tests @> %s::jsonb ORDER BY created_at DESC LIMIT 50"
        like = "SELECT * FROM {} WHERE user_prompt LIKE %s ORDER BY created_at DESC LIMIT 50"
        without, trigrams = like.format(FIRST_TABLE), like.format(self.store.table.full.as_string(None))
        goal = "at most 20 ms"
        return [
            Contest("jsonb containment", goal).run(
                {
                    "without an index": lambda: self.first(has, json.dumps([{"case": case}])),
                    "limit: the store's statement on a connection": self.same(problem_tests__has=[{"case": case}]),
                    "store.query(has)": lambda: self.store.query(problem_tests__has=[{"case": case}]),
                },
                7,
            ),
            Contest("prompt search", goal).run(
                {
                    "without an index": lambda: self.first(without, f"%{number}%"),
                    "store.query(contains), a telling word": lambda: self.store.query(user_prompt__contains=f"{case}"),
                    "store.query(contains), a word of a fifth of all": lambda: self.store.query(
                        user_prompt__contains="by weight"
                    ),
                    "store.query(contains), a word of all": lambda: self.store.query(user_prompt__contains="request"),
                    "a phrase of both, by all of its trigrams": lambda: self.first(trigrams, f"%{number}%"),
                    "limit: a phrase of both, on a connection": self.same(user_prompt__contains=number),
                    "store.query(contains), a phrase of both": lambda: self.store.query(user_prompt__contains=number),
                    "store.query(icontains), a phrase of both": lambda: self.store.query(
                        user_prompt__icontains=number.upper()
                    ),
                },
                7,
            ),
        ]

    def frames(self) -> list[Contest]:
        """Hold whole results against binary COPY thrown away and `pandas.read_sql`, each in a process of its own."""
        rounds = {"copy": 3, "stream": 3}
        if self.rows <= HELD:
            rounds |= {"to_arrow": 3, "to_pandas, arrow=True": 3, "to_pandas": 3, "read_sql": 2}
        wall = Contest("whole result", "to_arrow at most 1.3x of copy, a stream 1.1x in 64 MB")
        goal = "to_pandas at most 0.2x of read_sql, with arrow=True 0.143x, each in a quarter of its memory"
        cpu = Contest("whole result, CPU of the client", goal, {"read_sql": []} if "read_sql" in rounds else {})
        for turn in range(max(rounds.values())):
            for name, most in rounds.items():
                if turn < most:
                    command = [sys.executable, __file__, "--child", name, "--dsn", self.dsn]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this file
                    seconds, busy, peak = json.loads(done.stdout)
                    wall.times.setdefault(name, []).append(seconds)
                    cpu.times.setdefault(name, []).append(busy)
                    self.memory[name] = max(round(peak), self.memory.get(name, 0))
        return [wall, cpu]


def _cpu(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Return the seconds that the server's processes took for *work*."""
    begin = clock()
    work()
    time.sleep(0.05)  # its workers end
    return clock() - begin


def child(name: str, dsn: str) -> tuple[float, float, float]:
    """Read the whole table the way *name* says; return seconds, those of CPU, and the megabytes that the peak of memory rose by."""
    import pandas as pd
    import sqlalchemy

    store = SessionStore(dsn, record=IndexedProblem, schema="bench", setup=False)
    store.count(thread_id="thread-1")
    store.to_pandas(thread_id="thread-1")  # loads what it needs
    table = store.table.full.as_string(None)

    def copy() -> None:
        text = f"COPY (SELECT * FROM {table} ORDER BY created_at DESC, id DESC) TO STDOUT (FORMAT binary)"
        with psycopg.connect(dsn) as connection, connection.cursor().copy(text) as out:
            for _ in out:
                pass

    def stream() -> None:
        with store.batches() as batches:
            for _ in batches:
                pass

    def read_sql() -> object:
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
        return pd.read_sql(f"SELECT * FROM {table} ORDER BY created_at DESC, id DESC", engine)

    ways: dict[str, Callable[[], object]] = {
        "copy": copy,
        "stream": stream,
        "to_arrow": store.to_arrow,
        "to_pandas, arrow=True": lambda: store.to_pandas(arrow=True),
        "to_pandas": store.to_pandas,
        "read_sql": read_sql,
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, busy = time.perf_counter(), time.process_time()
    kept = ways[name]()
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    del kept
    return seconds, busy, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Run the contests that were asked for, and say what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()])
    parser.add_argument("--rows", type=positive, help="sessions in the table (default 100000; 1000000 with --long)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the Postgres keeps its data")
    parser.add_argument("--only", type=some_of(CONTESTS), help=f"some of {','.join(CONTESTS)}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--dsn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.dsn)))
        return
    rows = options.rows or ROWS[options.form]
    bench = Bench(open_database(options.folder / f"{rows}-rows"), rows)
    found: dict[str, Any] = {"rows": rows, "contests": {}}
    for name in options.only or (CONTESTS[:4] if options.form == "quick" else CONTESTS):
        for contest in getattr(bench, name)():
            contest.show()
            found["contests"][contest.name] = contest.result()
    if bench.memory:
        found["memory_mb"] = bench.memory
        print("\npeak memory, MB:", bench.memory)
    finish("reads", options, found)


if __name__ == "__main__":
    main()
