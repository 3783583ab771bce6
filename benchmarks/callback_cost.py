"""What a handler costs the graph at 8 KB of state: the database up, down and black-holed, interleaved.

    python benchmarks/callback_cost.py [--runs 2000]

Only the two callbacks are timed, start and end, each with all it does until it returns. The three recorders take turns, so
that whatever else this machine does falls on all alike. Needs a Postgres on the path or the [embedded] extra.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import psycopg
from chaos.agent import Content, recorder
from conftest import Server, open_folder
from proxy import Proxy

METADATA: dict[str, Any] = {"ls_integration": "langgraph"}


def once(handler: Any, number: int) -> tuple[float, float]:
    """Return what the start and the end of one run cost, in microseconds."""
    run, content = uuid.uuid4(), Content("cost", number)
    inputs = {"user_prompt": "sort a list", "topic": "arrays"}
    outputs = inputs | {"code": content.text(), "code_attempts": 1, "tests_passed": True}
    metadata = METADATA | {"thread_id": f"t-{number % 500}"}
    began = time.perf_counter_ns()
    handler.on_chain_start({}, inputs, run_id=run, metadata=metadata, name="agent")
    started = time.perf_counter_ns()
    handler.on_chain_end(outputs, run_id=run)
    return (started - began) / 1e3, (time.perf_counter_ns() - started) / 1e3


def quantile(values: list[float], share: float) -> float:
    """Return the value that a *share* of *values* is below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    home, folder = open_folder(), Path(tempfile.mkdtemp())
    server = Server(home / "pg")
    server.start()
    proxies = {name: Proxy(server.dsn) for name in ("up", "down", "black hole")}
    subjects = {}
    for name, proxy in proxies.items():
        schema = name.replace(" ", "_")
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
        subjects[name] = recorder(proxy.dsn, schema, folder / schema)
    handlers = {name: subject.callbacks[0] for name, subject in subjects.items()}
    for number in range(50):
        for handler in handlers.values():
            once(handler, number)
    subjects["black hole"].flush(10)
    proxies["down"].refuse()
    proxies["black hole"].black_hole()
    names, costs = list(handlers), {name: list[tuple[float, float]]() for name in handlers}
    for number in range(runs):
        for turn in range(3):  # each goes first a third of the time: the first finds the caches cold
            name = names[(number + turn) % 3]
            costs[name].append(once(handlers[name], number))
        time.sleep(0.002)
    print(f"{runs} runs of 8 KB each, microseconds per callback")
    print(f"{'database':12} {'start p50':>10} {'p99':>8} {'end p50':>10} {'p99':>8} {'max':>8}")
    for name, pairs in costs.items():
        start, end = ([pair[index] for pair in pairs] for index in (0, 1))
        print(
            f"{name:12} {quantile(start, 0.5):10.0f} {quantile(start, 0.99):8.0f} "
            f"{quantile(end, 0.5):10.0f} {quantile(end, 0.99):8.0f} {max(end):8.0f}"
        )
    for name, subject in subjects.items():
        proxies[name].open()
        subject.close(60)
    server.stop()
    for path in (home, folder):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
