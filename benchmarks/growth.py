"""What grows with the table, the state, the threads and the runs: `python benchmarks/growth.py [--only table,state]`.

table: 500 runs of the graph and their rows in Postgres, a third of them of threads that are there, into tables of several sizes, in turns.
state: the hot path at several sizes of the state. pause: the same where each node waits, as one that calls a model does.
threads: the graph invoked by several threads at once, bare and recorded in turns.
memory: a process of its own that runs the graph over and over, whose resident memory is looked at after each twentieth.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from agent import Workload
from candidates import Candidate, Setting, recorded
from common import arguments, finish, private_database, quartiles, scratch, some_of, without_indexes
from hot_path import measure
from psycopg.sql import SQL

from langgraph_session_store import SessionRecorder, SessionStore

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = ("table", "state", "pause", "threads", "memory")
FORMS: dict[str, dict[str, Any]] = {
    "quick": {
        "table": (100, 1000),
        "runs": 10,
        "rounds": 1,
        "kb": (1,),
        "pause": (1,),
        "turns": 1,
        "threads": (2,),
        "memory": 60,
        "block": 0.05,
    },
    "short": {
        "table": (1000, 100_000),
        "runs": 300,
        "rounds": 9,
        "kb": (1, 8, 64, 512, 5120),
        "pause": (20,),
        "turns": 2,
        "threads": (1, 8, 64),
        "memory": 5_000,
        "block": 0.4,
    },
    "long": {
        "table": (1000, 100_000, 1_000_000, 10_000_000),
        "runs": 500,
        "rounds": 40,
        "kb": (1, 8, 64, 512, 5120),
        "pause": (1, 20),
        "turns": 15,
        "threads": (1, 4, 16, 64),
        "memory": 100_000,
        "block": 0.4,
    },
}
RUNS = 20
"""Runs of a turn, at least, of a graph that waits."""
ROWS = """
INSERT INTO {} (thread_id, recorded_at, created_at, updated_at, workflow_status, user_prompt, topic, difficulty, problem_description,
    code, tests_passed, code_attempts, problem_attempts, run_id, user_id)
SELECT md5(n::text), at, at, at, 'completed', 'sort request ' || n, (ARRAY['arrays', 'strings', 'graphs'])[1 + n %% 3],
    (ARRAY['easy', 'hard'])[1 + n %% 2], repeat(md5('d' || n), 3), repeat(md5('c' || n), 6), n %% 5 > 0, 1 + n %% 3, 1,
    md5('r' || n), 'user-' || n %% 1000
FROM generate_series(%(low)s::bigint, %(high)s::bigint) AS n, LATERAL (SELECT now() - n * interval '3 seconds' AS at) AS times
"""


class Tables:
    """Recorded graphs whose tables have several sizes."""

    def __init__(self, dsn: str, sizes: Sequence[int]) -> None:
        self._numbers = count()
        self._graphs: dict[int, tuple[Any, SessionRecorder]] = {}
        graph = Workload().compile()
        for size in sizes:
            store = SessionStore(dsn, schema=f"rows_{size}")
            store.setup()
            _fill(store, dsn, size)
            recorder = SessionRecorder(store, spool_dir=tempfile.mkdtemp(prefix="lgss-"))
            self._graphs[size] = recorder.attach(graph), recorder

    def block(self, size: int, runs: int) -> tuple[float, float]:
        """Return what a run costs until its row is stored, in microseconds: time, and CPU of this process."""
        graph, recorder = self._graphs[size]
        state = Workload().input()
        gc.collect()
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in range(runs):
            number = next(self._numbers)
            there = number % 3 == 0
            thread_id = _md5(number * 7919 % size + 1) if there else f"new-{_md5(number)}"
            graph.invoke(state, {"configurable": {"thread_id": thread_id}})
        assert recorder.flush(60).flushed
        return (time.perf_counter() - begin) * 1e6 / runs, (time.process_time() - cpu) * 1e6 / runs


def _md5(number: int) -> str:
    from hashlib import md5

    return md5(str(number).encode(), usedforsecurity=False).hexdigest()


def _fill(store: SessionStore, dsn: str, size: int) -> None:
    """Make *size* rows, and statistics of them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        with without_indexes(connection, store.table.full.as_string(connection)):
            for low in range(1, size + 1, 50_000):
                high = min(low + 49_999, size)
                connection.execute(SQL(ROWS).format(store.table.full), {"low": low, "high": high})
                print(f"\r{high:,} rows ", end="", file=sys.stderr, flush=True)
        connection.execute(SQL("VACUUM ANALYZE {}").format(store.table.full))
        connection.execute("CHECKPOINT")


def table(dsn: str, form: dict[str, Any]) -> list[dict[str, Any]]:
    """Hold tables of several sizes against the smallest."""
    tables, sizes = Tables(dsn, form["table"]), form["table"]
    costs: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for turn in range(-1, form["rounds"]):
        order = sizes if turn % 2 else sizes[::-1]
        for size in order:
            cost = tables.block(size, form["runs"])
            if turn >= 0:
                costs[size].append(cost)
    lines = []
    for size in sizes:
        ratios = [mine[0] / least[0] for mine, least in zip(costs[size], costs[sizes[0]], strict=True)]
        lines.append(
            {
                "rows": size,
                "us": round(statistics.median(wall for wall, _ in costs[size]), 1),
                "cpu_us": round(statistics.median(cpu for _, cpu in costs[size]), 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_quartiles": quartiles(ratios, 3),
                "rounds": len(ratios),
            }
        )
    return lines


def state(dsn: str, form: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the hot path at several sizes of the state."""
    lines = []
    for kilobytes in form["kb"]:
        setting = Setting(dsn, "", Workload(kilobytes=kilobytes))
        found = measure(["spool"], setting, form["turns"], form["block"] * (1 if kilobytes < 1000 else 2), ["sync"])  # noqa: PLR2004
        lines += [{"kb": kilobytes, **line} for line in found]
    return lines


def pause(dsn: str, form: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the hot path where each node waits some milliseconds, as nodes do that call a model."""
    lines = []
    for milliseconds in form["pause"]:
        workload = Workload(pause=milliseconds / 1e3)
        seconds = max(form["block"], RUNS * workload.nodes * workload.pause)
        found = measure(["spool"], Setting(dsn, "", workload), form["turns"], seconds, ["sync"])
        lines += [{"pause_ms": milliseconds, **line} for line in found]
    return lines


def threads(dsn: str, form: dict[str, Any]) -> list[dict[str, Any]]:
    """Invoke the graph from several threads at once."""
    setting = Setting(dsn, "", Workload())
    candidates = [Candidate("bare", setting.graph("sync")), recorded(setting, "sync")]
    numbers = count()
    for candidate in candidates:  # the first run of a recorder makes its table
        _crowd(candidate, 1, 0.0, numbers)
    lines = []
    for many in form["threads"]:
        costs: dict[str, list[tuple[float, float]]] = {}
        for turn in range(form["turns"] * 2):
            for candidate in candidates[:: 1 if turn % 2 else -1]:
                costs.setdefault(candidate.name, []).append(_crowd(candidate, many, form["block"], numbers))
        ratios = [mine[0] / bare[0] for mine, bare in zip(costs["spool"], costs["bare"], strict=True)]
        added = [mine[1] - bare[1] for mine, bare in zip(costs["spool"], costs["bare"], strict=True)]
        lines.append(
            {
                "threads": many,
                "bare_us": round(statistics.median(wall for wall, _ in costs["bare"]), 1),
                "recorded_us": round(statistics.median(wall for wall, _ in costs["spool"]), 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_quartiles": quartiles(ratios, 3),
                "added_cpu_us": round(statistics.median(added), 1),
            }
        )
    return lines


def _crowd(candidate: Candidate, many: int, seconds: float, numbers: count[int]) -> tuple[float, float]:
    """Return time and CPU of each run, in microseconds, while *many* threads run the graph."""

    def member(_: int) -> int:
        runs = 0
        while not runs or time.perf_counter() < end:
            candidate.invoke({"user_prompt": "sort a list"}, f"c-{next(numbers)}")
            runs += 1
        return runs

    with ThreadPoolExecutor(many) as pool:
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + seconds
        runs = sum(pool.map(member, range(many)))
        wall = time.perf_counter() - begin
        candidate.flush()
    return wall * 1e6 / runs, (time.process_time() - cpu) * 1e6 / runs


def memory(dsn: str, form: dict[str, Any]) -> list[dict[str, Any]]:
    """Let two processes run the graph over and over, one recorded and one not."""
    lines = []
    for name in ("bare", "spool"):
        command = [sys.executable, __file__, "--child", name, "--runs", str(form["memory"]), "--dsn", dsn]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this file
        sizes = json.loads(done.stdout.splitlines()[-1])
        lines.append(
            {
                "candidate": name,
                "runs": form["memory"],
                "mb": sizes,
                "grown_mb": round(max(sizes[2:]) - sizes[2], 2),
            }
        )
    return lines


def child(name: str, dsn: str, runs: int) -> list[float]:
    """Run the graph *runs* times; return the resident memory in MB at the start and after each twentieth."""
    setting = Setting(dsn, "", Workload())
    candidate = recorded(setting, "memory") if name == "spool" else Candidate("bare", setting.graph("sync"))
    inputs = [setting.workload.input(number) for number in range(16)]
    process, sizes = psutil.Process(), list[float]()
    for number in range(runs):
        if number % max(1, runs // 20) == 0:
            candidate.flush()
            gc.collect()
            sizes.append(round(process.memory_info().rss / 2**20, 2))
        candidate.invoke(inputs[number % 16], f"m-{number}")
    candidate.flush()
    gc.collect()
    return [*sizes, round(process.memory_info().rss / 2**20, 2)]


def show(part: str, lines: Sequence[dict[str, Any]]) -> None:
    """Print the lines as a table."""
    print(f"\n{part}")
    for line in lines:
        print("  " + ", ".join(f"{name} {value}" for name, value in line.items()))


def main(words: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()])
    parser.add_argument("--only", type=some_of(PARTS), default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dsn", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child:
        print(json.dumps(child(options.child, options.dsn, options.runs)))
        return
    parts = {"table": table, "state": state, "pause": pause, "threads": threads, "memory": memory}
    found = {}
    with scratch(), private_database() as dsn:
        for name in options.only:
            found[name] = parts[name](dsn, FORMS[options.form])
            show(name, found[name])
    finish("growth", options, found)


if __name__ == "__main__":
    main()
