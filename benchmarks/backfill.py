"""Rows from checkpoints: how fast beside one ``get_state`` and one ``INSERT`` per thread, and how much memory 100,000 threads take.

    python benchmarks/backfill.py [--threads 20000] [--large 100000] [--json FILE]

The threads are copies of ten real runs with four checkpoints each and some kilobytes of state, in a Postgres of the benchmark's own. The
candidates take turns on the same threads; each writes into a table of its own that is empty again before each turn. Memory is that of a
process that does nothing but the large backfill.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
from common import Contest, machine, private_database, write
from langgraph.checkpoint.postgres import PostgresSaver

from langgraph_session_store import SessionStore, backfill
from langgraph_session_store.testing import problem_graph

RUNS = 10
INSERT = "INSERT INTO naive (thread_id, user_prompt, topic, code, code_attempts, tests_passed, status, checkpointed) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"


def grow(dsn: str, threads: int) -> None:
    """Let there be *threads* threads."""
    with PostgresSaver.from_conn_string(dsn) as saver, psycopg.connect(dsn, autocommit=True) as connection:
        saver.setup()
        graph = problem_graph(saver)
        for number in range(RUNS):
            state: Any = {"user_prompt": f"sort {number} " + "lists " * 500, "topic": "lists", "log": ["x" * 4000]}
            graph.invoke(state, {"configurable": {"thread_id": f"seed-{number}"}, "metadata": {"user_id": "u"}})
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            columns = ", ".join(
                name
                for (name,) in connection.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND attname <> 'thread_id'",
                    [table],
                )
            )
            connection.execute(
                f"INSERT INTO {table} (thread_id, {columns}) SELECT t.thread_id || '-' || n, {columns} "
                f"FROM {table} AS t, generate_series(1, {threads // RUNS - 1}) AS n".encode()
            )
            connection.execute(f"VACUUM ANALYZE {table}".encode())


def naive(dsn: str, names: list[str]) -> None:
    """Do what one writes in an evening: ask the graph for each thread, and insert a row."""
    with PostgresSaver.from_conn_string(dsn) as saver, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS naive")
        connection.execute(
            "CREATE TABLE naive (thread_id text PRIMARY KEY, user_prompt text, topic text, code text, code_attempts int,"
            " tests_passed boolean, status text, checkpointed timestamptz)"
        )
        graph = problem_graph(saver)
        for name in names:
            state = graph.get_state({"configurable": {"thread_id": name}})
            fields = [
                state.values.get(field) for field in ("user_prompt", "topic", "code", "code_attempts", "tests_passed")
            ]
            status = "failed" if any(task.error for task in state.tasks) else "running" if state.next else "completed"
            connection.execute(INSERT, [name, *fields, status, state.created_at])


def ours(dsn: str, *, exact: bool) -> None:
    """Do the backfill into a table that is not there yet, with the graph or without."""
    fill(dsn, exact=exact)


def fill(dsn: str, *, exact: bool) -> dict[str, Any]:
    """Do a backfill into a new table, which is dropped at the end; return its times, and this process's peak of memory."""
    table = f"filled_{uuid.uuid4().hex[:8]}"
    with SessionStore(dsn, table=table) as store, PostgresSaver.from_conn_string(dsn) as saver:
        began = time.perf_counter()
        report = backfill(store, saver, graph=problem_graph(saver) if exact else None)
        seconds = time.perf_counter() - began
        assert store.count() == report.threads, report
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {table}, {table}_versions, {table}_erased CASCADE".encode())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"threads": report.threads, "seconds": round(seconds, 1), "peak_mib": round(peak)}


def alone(dsn: str, *, exact: bool) -> dict[str, Any]:
    """Do a backfill in a process of its own."""
    line = [sys.executable, __file__, "--only", dsn, *(["--exact"] if exact else [])]
    done = subprocess.run(line, check=True, capture_output=True, text=True)  # noqa: S603 - this file
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=20_000, help="of the comparison")
    parser.add_argument("--large", type=int, default=100_000, help="of the measurement of memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", metavar="DSN", help=argparse.SUPPRESS)
    parser.add_argument("--exact", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(fill(options.only, exact=options.exact)))
        return
    results: dict[str, Any] = {}
    with private_database() as dsn:
        grow(dsn, options.threads)
        with psycopg.connect(dsn) as connection:
            names = [name for (name,) in connection.execute("SELECT DISTINCT thread_id FROM checkpoints")]
        contest = Contest(f"{len(names):,} threads", "at least 5 times as fast")
        contest.run(
            {
                "get_state and INSERT for each": lambda: naive(dsn, names),
                "backfill with the graph": lambda: ours(dsn, exact=True),
                "backfill without the graph": lambda: ours(dsn, exact=False),
            },
            options.rounds,
            warm=0,
        )
        contest.show()
        results["comparison"] = contest.result()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE checkpoints, checkpoint_blobs, checkpoint_writes")
        grow(dsn, options.large)
        for exact in (True, False):
            what = f"{'with' if exact else 'without'} the graph"
            results[what] = alone(dsn, exact=exact)
            print(f"  {what}: {results[what]}    goal: below 200 MiB")
    if options.json:
        write(options.json, {"machine": machine(), **results})


if __name__ == "__main__":
    main()
