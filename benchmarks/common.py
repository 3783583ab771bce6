"""What the benchmarks share: a Postgres of their own, rivals that take turns, and one way to write results down."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from langgraph_session_store.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SETTINGS = {"max_wal_size": "8GB", "shared_buffers": "512MB", "effective_cache_size": "4GB", "work_mem": "16MB"}
"""What one would set on a server for a million rows; all else is the default."""


def end_well() -> None:
    """Let SIGTERM end this process as Ctrl-C does: with its servers, which would go on alone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def open_database(folder: Path) -> str:
    """Return the DSN of ``LGSS_BENCH_DSN``, else of a Postgres in *folder*, which keeps its data for the next time."""
    end_well()
    if given := os.environ.get("LGSS_BENCH_DSN"):
        return given
    folder.mkdir(parents=True, exist_ok=True)
    return make_conninfo(**EmbeddedServer(folder, system=True, settings=SETTINGS).start())


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Let this process, and those that it starts, make their temporary files where nothing remains of them."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="lgss-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # a server's user goes through it
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = None
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before


@contextlib.contextmanager
def private_database(*, given: bool = True) -> Iterator[str]:
    """Yield the DSN of a database of which nothing remains: on a new Postgres, or (*given*) on the server of ``LGSS_BENCH_DSN``."""
    end_well()
    if given and (dsn := os.environ.get("LGSS_BENCH_DSN")):
        with _database_on(dsn) as of_its_own:
            yield of_its_own
        return
    folder = Path(tempfile.mkdtemp(prefix="lgss-bench-"))
    folder.chmod(0o755)  # the server's user goes through it
    server = EmbeddedServer(folder / "pg", system=True, settings=SETTINGS)
    try:
        yield make_conninfo(**server.start())
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _database_on(dsn: str) -> Iterator[str]:
    name = Identifier(f"lgss_bench_{os.getpid()}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(name))
        try:
            yield make_conninfo(dsn, dbname=f"lgss_bench_{os.getpid()}")
        finally:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextlib.contextmanager
def lz4_server() -> Iterator[str | None]:
    """Start one of the machine's own Postgres servers that compresses by lz4; yield its DSN, None if there is none."""
    before = os.environ.get("LGSS_PG_BIN")
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        os.environ["LGSS_PG_BIN"] = str(folder)
        with private_database(given=False) as dsn:
            if before is None:
                del os.environ["LGSS_PG_BIN"]
            else:
                os.environ["LGSS_PG_BIN"] = before
            if _has_lz4(dsn):
                yield dsn
                return
    yield None


def _has_lz4(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        ).fetchone()
    return bool(found and found[0])


def server_clock(dsn: str) -> Callable[[], float]:
    """Return what tells the CPU seconds of all processes of a server behind a socket of this machine; of another it tells 0."""
    import psutil

    with psycopg.connect(dsn) as connection:
        if not connection.info.host.startswith("/"):
            return lambda: 0.0
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    assert postmaster is not None

    def seconds() -> float:
        ended = postmaster.cpu_times()
        total = ended.children_user + ended.children_system
        for process in postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:2])
        return total

    return seconds


def shuffled(names: Iterable[str], turn: int) -> list[str]:
    """Return *names* in another order each *turn*: nobody always follows the one that leaves caches or the disk busy."""
    known = list(names)
    return random.Random(turn).sample(known, len(known))  # noqa: S311 - the same for everybody


@dataclass
class Contest:
    """Candidates that take turns, so that what else the machine does hits all alike; the first one is the yardstick."""

    name: str
    goal: str
    times: dict[str, list[float]] = field(default_factory=dict)

    def run(self, candidates: Mapping[str, Callable[[], object]], rounds: int, *, warm: int = 1) -> Contest:
        """Time every candidate *rounds* times, after *warm* rounds that do not count."""
        self.times |= {name: [] for name in candidates}
        for turn in range(-warm, rounds):
            for name in shuffled(candidates, turn):
                begin = time.perf_counter()
                candidates[name]()
                seconds = time.perf_counter() - begin
                if turn >= 0:
                    self.times[name].append(seconds)
        return self

    def median(self, name: str) -> float:
        """Return the median of a candidate, in seconds."""
        return statistics.median(self.times[name])

    def ratio(self, name: str, to: str) -> float:
        """Return how many times as long *name* takes as *to* in the same turn: the median over the turns."""
        return statistics.median(self.ratios(name, to))

    def ratios(self, name: str, to: str) -> list[float]:
        """Return how many times as long *name* took as *to*, turn by turn."""
        return [one / other for one, other in zip(self.times[name], self.times[to], strict=False)]

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
                    "rounds": len(self.ratios(name, first)),
                    "ratio": round(self.ratio(name, first), 3),
                    "ratio_quartiles": quartiles(self.ratios(name, first), 3),
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


_INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = %s::regclass AND NOT indisunique
"""


@contextlib.contextmanager
def without_indexes(connection: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """Drop the indexes of *table* that are not unique, and make them again of all rows at once, which takes a fifth of the time."""
    connection.execute("SET maintenance_work_mem = '512MB'")
    indexes = connection.execute(_INDEXES, [table]).fetchall()
    for name, _ in indexes:
        connection.execute(SQL("DROP INDEX {}").format(SQL(name)))
    yield
    for _, definition in indexes:
        connection.execute(SQL(definition))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that at least a *share* of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def quartiles(values: Sequence[float], digits: int) -> list[float]:
    """Return the first and the third quartile, rounded: between them lies half of what was measured."""
    return [round(percentile(values, share), digits) for share in (0.25, 0.75)]


def arguments() -> argparse.ArgumentParser:
    """Return what every benchmark understands."""
    parser = argparse.ArgumentParser(add_help=False)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--long", dest="form", action="store_const", const="long", help="an hour and more for all")
    form.add_argument("--quick", dest="form", action="store_const", const="quick", help="seconds: shows that it runs")
    parser.set_defaults(form="short")
    parser.add_argument("--json", type=Path, help="write the results here")
    return parser


def positive(text: str) -> int:
    """Read a count of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads ``--only``: some of what is *known*, with commas between."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: not one of {', '.join(known)}")
        return names

    return read


def finish(name: str, options: argparse.Namespace, results: Mapping[str, Any]) -> None:
    """Write *results* where the user wants them."""
    if options.json:
        write(options.json, {"benchmark": name, "form": options.form, "machine": machine(), **results})


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
        path.parent.mkdir(parents=True, exist_ok=True)  # not a long run for nothing
        path.write_text(text, encoding="utf-8")
