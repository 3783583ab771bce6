"""What the benchmarks share: a Postgres of their own, rivals that take turns, and one way to write results down."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from langgraph_session_store.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SETTINGS = {"max_wal_size": "8GB", "shared_buffers": "512MB", "effective_cache_size": "4GB", "work_mem": "16MB"}
"""What one would set on a server for a million rows; all else is the default."""


def open_database(folder: Path) -> str:
    """Return the DSN of ``LGSS_BENCH_DSN``, else of a Postgres in *folder*, which keeps its data for the next time."""
    if given := os.environ.get("LGSS_BENCH_DSN"):
        return given
    folder.mkdir(parents=True, exist_ok=True)
    return make_conninfo(**EmbeddedServer(folder, system=True, settings=SETTINGS).start())


@dataclass
class Contest:
    """Candidates that take turns, so that what else the machine does hits all alike; the first one is the yardstick."""

    name: str
    goal: str
    times: dict[str, list[float]] = field(default_factory=dict)

    def run(self, candidates: Mapping[str, Callable[[], object]], rounds: int, *, warm: int = 1) -> Contest:
        """Time every candidate *rounds* times, after *warm* rounds that do not count."""
        for turn in range(-warm, rounds):
            for name, candidate in candidates.items():
                begin = time.perf_counter()
                candidate()
                seconds = time.perf_counter() - begin
                if turn >= 0:
                    self.times.setdefault(name, []).append(seconds)
        return self

    def median(self, name: str) -> float:
        """Return the median of a candidate, in seconds."""
        return statistics.median(self.times[name])

    def ratio(self, name: str, to: str) -> float:
        """Return how many times as long *name* takes as *to*."""
        return self.median(name) / self.median(to)

    def result(self) -> dict[str, Any]:
        """Return medians, p99 and minima in milliseconds, and ratios to the first candidate."""
        first = next(iter(self.times))
        return {
            "goal": self.goal,
            "candidates": {
                name: {
                    "median_ms": round(self.median(name) * 1000, 3),
                    "p99_ms": round(sorted(times)[math.ceil(0.99 * len(times)) - 1] * 1000, 3),
                    "min_ms": round(min(times) * 1000, 3),
                    "rounds": len(times),
                    "ratio": round(self.ratio(name, first), 3),
                }
                for name, times in self.times.items()
            },
        }

    def show(self) -> None:
        """Print the result as a table."""
        print(f"\n{self.name}    goal: {self.goal}")
        for name, numbers in self.result()["candidates"].items():
            print(
                f"  {name:<44}{numbers['median_ms']:>12,.3f} ms median{numbers['p99_ms']:>12,.3f} ms p99"
                f"{numbers['ratio']:>9.2f}x"
            )


def machine() -> dict[str, Any]:
    """Return where the numbers were taken, as far as they depend on it."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "system": platform.system(),
        "taken": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def write(path: Path | None, results: Mapping[str, Any]) -> None:
    """Write *results* as JSON to *path*, or to standard output."""
    text = json.dumps(results, indent=2) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
