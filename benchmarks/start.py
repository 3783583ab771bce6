"""What the first moments cost: `python benchmarks/start.py`.

Imports and first writes happen once in a process, so each is measured in a new one, and they take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import arguments, finish, percentile, positive, private_database, quartiles, scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_WRITE = Path(__file__).with_name("first_write.py")
IMPORTS = {
    "import langgraph.graph, psycopg": "import langgraph.graph, psycopg",
    "the same, again": "import langgraph.graph, psycopg",
    "import langgraph_session_store": "import langgraph_session_store",
    "all three": "import langgraph.graph, psycopg, langgraph_session_store",
    "all three, store and recorder": (
        "import langgraph.graph, psycopg; from langgraph_session_store import SessionStore, SessionRecorder"
    ),
}
TIMED = """
import sys, time
begin, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - begin, time.process_time() - cpu)
"""


def imports(rounds: int) -> list[dict[str, Any]]:
    """Hold our import against what a user of LangGraph and Postgres imports anyway."""
    found: dict[str, list[list[float]]] = {name: [] for name in IMPORTS}
    for turn in range(-1 if rounds > 1 else 0, rounds):
        for name, statement in IMPORTS.items():
            command = [sys.executable, "-c", TIMED.format(statement=statement)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own words
            if turn >= 0:
                found[name].append([float(word) * 1e3 for word in said.split()])
    yardstick = next(iter(found.values()))
    return [_line(name, times, yardstick) for name, times in found.items()]


def _line(name: str, times: list[list[float]], yardstick: list[list[float]]) -> dict[str, Any]:
    ratios = [mine[0] / other[0] for mine, other in zip(times, yardstick, strict=True)]
    cpu = [mine[1] / other[1] for mine, other in zip(times, yardstick, strict=True)]
    return {
        "candidate": name,
        "ms": round(statistics.median(wall for wall, _ in times), 1),
        "p99_ms": round(percentile([wall for wall, _ in times], 0.99), 1),
        "cpu_ms": round(statistics.median(used for _, used in times), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": quartiles(ratios, 3),
        "cpu_ratio": round(statistics.median(cpu), 3),
        "rounds": len(ratios),
    }


def first_writes(dsn: str, rounds: int) -> list[dict[str, Any]]:
    """Return the steps' times: of the very first process, which makes the table, and medians of the others."""
    runs = []
    for _ in range(rounds + 1):
        command = [sys.executable, str(FIRST_WRITE), dsn]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own
        runs.append(json.loads(said.splitlines()[-1]))
    return [
        {
            "step": step,
            "with_setup_ms": round(runs[0][step], 1),
            "ms": round(statistics.median(run[step] for run in runs[1:]), 2),
            "quartiles": quartiles([run[step] for run in runs[1:]], 2),
        }
        for step in runs[0]
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Measure imports and first writes, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()])
    parser.add_argument("--rounds", type=positive)
    options = parser.parse_args(words)
    rounds = options.rounds or {"quick": 1, "short": 6, "long": 40}[options.form]
    found = {"imports": imports(rounds)}
    with scratch(), private_database() as dsn:
        found["first_write"] = first_writes(dsn, rounds)
    print(f"\n{'imports':40}{'ms':>8}{'ratio':>8}  {'quartiles':15}{'CPU ratio':>9}")
    for line in found["imports"]:
        low, high = line["ratio_quartiles"]
        print(
            f"{line['candidate']:40}{line['ms']:8,.0f}{line['ratio']:8.2f}  {f'{low:.2f} - {high:.2f}':15}{line['cpu_ratio']:9.2f}"
        )
    print(f"\n{'first write, ms':40}{'median':>8}{'with setup':>12}")
    for line in found["first_write"]:
        print(f"{line['step']:40}{line['ms']:8,.1f}{line['with_setup_ms']:12,.1f}")
    finish("start", options, found)


if __name__ == "__main__":
    main()
