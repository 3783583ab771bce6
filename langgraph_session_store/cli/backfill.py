"""The verb backfill: rows for the threads of a checkpoint database, and where to go on after it was stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import psycopg
import typer

from ..backfill import backfill as run_backfill
from ..conninfo import connection_errors, resolve
from ..errors import ConfigError
from . import exits, spools
from .options import DryRun, Source, SpoolDir, imported, with_source
from .output import Output, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..backfill import BackfillReport
    from ..query import Table

_SHOWN: Final = 20  # failures that are told one by one
_TABLES: Final = {"checkpoints", "writes"}


_Checkpoints = Annotated[
    str | None,
    typer.Option(
        "--checkpoints",
        "-c",
        metavar="URL|FILE",
        help="The Postgres or the SQLite file of your graph's checkpointer; by default the graph's own.",
        show_default=False,
    ),
]
_Graph = Annotated[
    str | None,
    typer.Option(
        "--graph",
        "-g",
        metavar="MODULE:NAME",
        help="Your compiled graph, or a function that makes it: then statuses are exact.",
        show_default=False,
    ),
]
_Restart = Annotated[bool, typer.Option("--restart", help="From the first thread, not where it was stopped.")]


@with_source
def backfill(  # noqa: PLR0917 - options
    at: Source,
    out: Output,
    checkpoints: _Checkpoints = None,
    graph: _Graph = None,
    dry_run: DryRun = False,
    restart: _Restart = False,
    spool_dir: SpoolDir = None,
) -> None:
    """Write rows for threads that a checkpointer already holds.

    Overwrites nothing newer, brings back nothing erased, and can be run again at any time. Stopped, it goes on where it was. Exits with 1 where threads failed.
    """
    if at.record is None:
        raise ConfigError(f"backfill needs the record of table {at.table_name}: --record MODULE:CLASS")
    compiled = None if graph is None else _compiled(graph)
    if checkpoints is None and compiled is None:
        raise ConfigError("backfill needs --checkpoints URL|FILE, or --graph of a graph that has a checkpointer")
    with at.open(setup=not dry_run) as store, _saver(checkpoints, strict=compiled is None) as saver:
        spool = spools.folder_of(store.target, store.table, spool_dir)
        mark = None if dry_run else _Mark.of(spool, store.table, checkpoints, graph)
        after = "" if mark is None or restart else _stopped_at(out, mark)
        with out.progress("Backfilling") as bar:
            report = run_backfill(
                store, saver, graph=compiled, after=after, dry_run=dry_run, progress=_progress(mark, bar)
            )
        if mark is not None:
            mark.remove()
    _tell(out, report)


def _stopped_at(out: Output, mark: _Mark) -> str:
    """Return the last thread of a backfill that was stopped, and say so; empty if there was none."""
    if after := mark.read():
        out.note((f"Going on behind thread {after}, where it was stopped (--restart begins anew)", "dim"))
    return after


def _progress(
    mark: _Mark | None, bar: Callable[[int, int | None], None] | None
) -> Callable[[BackfillReport, int], None]:
    """Return what is called after each page: it moves the mark and the bar."""

    def progress(report: BackfillReport, total: int) -> None:
        if mark is not None:
            mark.write(report.after)
        if bar is not None:
            bar(report.threads, total)

    return progress


def _tell(out: Output, report: BackfillReport) -> None:
    if out.json:
        out.document(asdict(report))
    else:
        names = ("created", "updated", "filled", "unchanged", "erased", "failed")
        told = ", ".join(f"{getattr(report, name):,} {name}" for name in names if getattr(report, name))
        head = "Would backfill " if report.dry_run else "Backfilled "
        out.say((head, "green"), plural(report.threads, "thread"), f": {told}" if told else "")
        for thread_id, reason in list(report.failures.items())[:_SHOWN]:
            exits.complain(f"thread {thread_id}: {reason}")
        if report.failed > _SHOWN:
            exits.complain(f"and {plural(report.failed - _SHOWN, 'thread')} more: see --json")
    if report.failed:
        raise typer.Exit(exits.MISSING)


@dataclass(frozen=True)
class _Mark:
    """Where a backfill was stopped, in a file beside the table's spool; another source, graph or record begins anew."""

    path: Path
    of_what: str

    @classmethod
    def of(cls, spool: Path, table: Table, checkpoints: str | None, graph: str | None) -> _Mark:
        file = _file(checkpoints or "")
        place = str(file.resolve()) if file else checkpoints and resolve(checkpoints).describe()
        what = json.dumps([place, graph, [column.name for column in table.columns]])
        return cls(spool.with_name(f"{spool.name}.backfill"), hashlib.sha256(what.encode()).hexdigest())

    def read(self) -> str:
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self.path.read_text("utf-8"))
            if kept["of"] == self.of_what:
                return str(kept["after"])
        return ""

    def write(self, after: str) -> None:
        with suppress(OSError, UnicodeError):  # a second run finds all done, only later
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            beside.write_text(json.dumps({"of": self.of_what, "after": after}), "utf-8")
            beside.replace(self.path)

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _compiled(name: str) -> Any:
    found = imported("--graph", name, "app.agent:graph")
    from langgraph.pregel import Pregel

    try:
        if not isinstance(found, Pregel) and callable(found):
            found = found()
        if not isinstance(found, Pregel) and hasattr(found, "compile"):
            found = found.compile()
    except Exception as error:
        raise ConfigError(f"--graph {name[:80]}: making the graph raised {type(error).__name__}") from None
    if not isinstance(found, Pregel):
        raise ConfigError(f"--graph {name[:80]}: that is no compiled graph, but {type(found).__name__}")
    return found


@contextmanager
def _saver(checkpoints: str | None, *, strict: bool) -> Iterator[Any]:
    """Open the checkpointer that *checkpoints* names. *strict*: classes that the blobs name are not imported; their values will do."""
    if checkpoints is None:
        yield None
        return
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    options = {"serde": JsonPlusSerializer(allowed_msgpack_modules=None)} if strict else {}
    logging.getLogger("langgraph.checkpoint.serde.jsonplus").setLevel(logging.ERROR)  # it warns of each class
    if path := _file(checkpoints):
        sqlite = imported(
            "--checkpoints", "langgraph.checkpoint.sqlite:SqliteSaver", "", "pip install langgraph-checkpoint-sqlite"
        )
        with closing(_sqlite(path)) as file:
            yield sqlite(file, **options)
        return
    if "=" not in checkpoints and "://" not in checkpoints.replace("sqlite:///", ""):
        raise ConfigError("--checkpoints: there is no such file; a Postgres is a URL or key=value pairs")
    postgres = imported(
        "--checkpoints", "langgraph.checkpoint.postgres:PostgresSaver", "", "pip install langgraph-checkpoint-postgres"
    )
    target = resolve(checkpoints)
    with connection_errors(target):
        server: Any = psycopg.connect(**target.kwargs(), autocommit=True, prepare_threshold=None)
    with server:
        yield postgres(server, **options)


def _file(checkpoints: str) -> Path | None:
    """Return the file that is meant, None where there is none; unlike Path's own question, this one never fails and names what may be a DSN."""
    path = checkpoints.removeprefix("sqlite:///")
    return Path(path) if os.path.isfile(path) else None  # noqa: PTH113


def _sqlite(path: Path) -> sqlite3.Connection:
    """Open a SQLite file of checkpoints, to read; ConfigError where it is none."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)
    try:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        missing = sorted(_TABLES - found)
    except sqlite3.DatabaseError:
        missing = ["SQLite header"]
    if missing:
        connection.close()
        raise ConfigError(f"--checkpoints: {path.name} is no file of checkpoints: it has no {missing[0]}")
    return connection
