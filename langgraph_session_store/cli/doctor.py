"""The checks of `session-store doctor`: each finding says what is so, and where it is wrong what to do."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import psycopg
import typer
from psycopg import pq
from psycopg.sql import SQL
from rich.text import Text

from ..conninfo import connection_errors, resolve
from ..errors import SessionStoreError
from ..queries.schema import describe, install
from ..query import drive
from . import exits, spools
from .options import Source, SpoolDir, with_source
from .output import Output, plural, seconds, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..conninfo import Target
    from ..queries.schema import Report
    from ..query import Query, Table
    from .spools import SpoolState

Status = Literal["ok", "note", "warning", "problem"]
Connection = psycopg.Connection[tuple[Any, ...]]

_OLDEST_SERVER: Final = 13
_LOOKS: Final = 2  # where the table is, and what it is like
_OFFSET: Final = 2.0  # seconds that clocks may differ without a word
_FREE: Final = 512 << 20  # bytes below which the recorder writes no more to the disk
_STYLES: Final = {"ok": "green", "note": "blue", "warning": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Only a *problem* makes the exit code 1."""

    check: str
    status: Status
    message: str
    fix: str | None = None


@with_source
def doctor(
    at: Source,
    out: Output,
    spool_dir: SpoolDir = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
) -> None:
    """Check that all is well, and say how to repair what is not.

    Looks at connection, server, pooler, clock, table, rights, spool and MLflow. Changes nothing. Exits with 1 where it finds a problem. In a pipe: status, check, message and fix, tab-separated. With --json:
    {"ok": ..., "findings": [{"check", "status", "message", "fix"}]}; status is ok, note, warning or problem.
    """
    findings = []
    for finding in check_all(at, spool_dir):
        findings.append(finding)
        if out.rich:
            _draw(out, finding)
        elif not out.json:
            out.fields([finding.status, finding.check, finding.message, finding.fix])
    bad = [f for f in findings if f.status == "problem" or (strict and f.status == "warning")]
    if out.json:
        out.document({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    elif out.rich:
        warnings = sum(finding.status == "warning" for finding in findings)
        told = (
            "Everything is well."
            if not (bad or warnings)
            else f"{plural(len(bad), 'problem')}, {plural(warnings, 'warning')}."
        )
        out.print()
        out.say((told, "bold"))
    if bad:
        raise typer.Exit(exits.MISSING)


def check_all(at: Source, spool_dir: Path | None) -> Iterator[Finding]:
    """Yield all findings, the database's first; what cannot be looked at is not told."""
    yield _program()
    try:
        target, table = resolve(at.dsn), at.table
    except SessionStoreError as error:
        yield Finding("settings", "problem", *_told(error))
        yield _mlflow()
        return
    yield from _database(at, target, table)
    yield from _spool(target, table, spool_dir)
    yield _mlflow()


def _program() -> Finding:
    from .. import __version__

    libpq = pq.version()
    told = f"langgraph-session-store {__version__}, Python {platform.python_version()}, psycopg {psycopg.__version__}"
    return Finding("program", "ok", f"{told}, libpq {libpq // 10000}.{libpq % 10000}")


# --- the database ---


def _database(at: Source, target: Target, table: Table) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        with connection_errors(target):
            connection: Connection = psycopg.connect(**target.kwargs(), autocommit=True, prepare_threshold=None)
    except SessionStoreError as error:
        yield Finding("connection", "problem", *_told(error))
        return
    took = time.monotonic() - began
    with connection:
        where = {"conninfo": "from --dsn", "default": "DATABASE_URL is not set"}.get(
            target.source, f"from {target.source}"
        )
        yield Finding("connection", "ok", f"{target.describe()} ({where}; {seconds(took)})")
        try:
            yield from _server(connection)
            yield from _schema(connection, at, table)
            yield from _rights(connection, table)
        except psycopg.Error as error:
            yield Finding(
                "database",
                "problem",
                f"a question was refused (SQLSTATE {error.sqlstate or '-'})",
                "look into the server's log",
            )


def _server(connection: Connection) -> Iterator[Finding]:
    before = time.time()
    row = connection.execute(_load("server")).fetchone()
    after = time.time()
    assert row is not None
    pid, release, major, read_only, clock = row
    if major < _OLDEST_SERVER:
        yield Finding("server", "problem", f"PostgreSQL {release}", f"use PostgreSQL {_OLDEST_SERVER} or newer")
    elif read_only:
        fix = "name the primary, or set target_session_attrs=read-write and list all hosts; GRANT or ALTER ROLE for a read-only role"
        yield Finding(
            "server", "problem", f"PostgreSQL {release} takes no writes here: a standby, or a read-only role", fix
        )
    else:
        yield Finding("server", "ok", f"PostgreSQL {release}")
    if connection.info.backend_pid != pid:
        yield Finding(
            "pooler", "note", "a pooler such as PgBouncer is in between, which this package is made for: nothing to do"
        )
    else:
        yield Finding("pooler", "ok", "none, the connection is direct")
    offset = clock - (before + after) / 2
    if abs(offset) > _OFFSET + (after - before):
        told = f"the database's clock is {seconds(abs(offset))} {'ahead of' if offset > 0 else 'behind'} this machine's"
        yield Finding(
            "clock", "warning", f"{told}; rows carry the database's", "let both machines follow a time server (NTP)"
        )
    else:
        yield Finding("clock", "ok", f"{abs(offset) * 1000:.0f}ms from the database's")


def _schema(connection: Connection, at: Source, table: Table) -> Iterator[Finding]:
    init = _init(at)

    def run(query: Query[Any]) -> Any:
        cursor = connection.execute(query.sql, query.params)
        return query.read(cursor.fetchall() if cursor.description else [], cursor.rowcount)

    try:
        if at.record is None:
            found = run(describe(table))
            yield Finding(
                "schema", "ok", f"{table.name} has {len(found.columns)} columns; --record compares them with a class"
            )
            return
        report = would_do(table, run)
    except SessionStoreError as error:
        yield Finding("schema", "problem", *_told(error))
        return
    if any(step == "001_table" for step in report.done):
        yield Finding("schema", "problem", f"there is no table {table.name}", init)
    elif report.done:
        steps = ", ".join(dict.fromkeys(report.done))
        yield Finding("schema", "problem", f"{table.name} is not as the record wants it; missing: {steps}", init)
    else:
        yield Finding(
            "schema", "ok", f"{table.name}, its history, view and indexes are as {at.record.__name__} wants them"
        )
    for note in report.notes:
        yield Finding("schema", "warning", note, "CREATE EXTENSION or its package would help; all works without")


def would_do(table: Table, run: Any) -> Report:
    """Return what `install` would do: its two looks, which come again behind the lock, are all that runs."""
    looks: dict[bytes, Any] = {}

    def only_look(query: Query[Any]) -> Any:
        if query.sql not in looks and len(looks) < _LOOKS:
            looks[query.sql] = run(query)
        return looks.get(query.sql)

    return drive(install(table), only_look)


def _rights(connection: Connection, table: Table) -> Iterator[Finding]:
    companions = [part.as_string(None) for part in (table.versions, table.erased)]
    params = {"table": table.full.as_string(None), "companions": companions, "schema": table.schema}
    row = connection.execute(_load("rights"), params).fetchone()
    assert row is not None
    exists, missing, companions_missing, owner, create, role = row
    if not exists:
        if create:
            yield Finding("rights", "ok", f"{role} may create the table")
        else:
            grant = (
                f"GRANT CREATE ON SCHEMA {table.schema or 'public'} TO {role}; or let an owner run session-store init"
            )
            yield Finding("rights", "problem", f"{role} may not create the table", grant)
        return
    if missing or companions_missing:
        lacking = ", ".join(missing) or f"use {', '.join(companions_missing)}"
        names = ", ".join([table.full.as_string(None), *companions])
        reads_only = "SELECT" not in missing and len(missing) == len(("INSERT", "UPDATE", "DELETE"))
        yield Finding(
            "rights",
            "warning" if reads_only else "problem",
            f"{role} reads, and may not record: no right to {lacking}"
            if reads_only
            else f"{role} has no right to {lacking}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {role}",
        )
    elif owner:
        yield Finding("rights", "ok", f"{role} reads, writes, and owns the table")
    else:
        told = f"{role} reads and writes; it does not own the table, so only its owner can upgrade it"
        yield Finding("rights", "note", told, None)


def _init(at: Source) -> str:
    words = [
        f"--{name} {value}"
        for name, value in (("record", at.record_name), ("table", at.table_name), ("schema", at.schema))
        if value
    ]
    return " ".join(["session-store init", *words])


# --- the machine ---


def _spool(target: Target, table: Table, spool_dir: Path | None) -> Iterator[Finding]:
    folder = spools.folder_of(target, table, spool_dir)
    try:
        state = spools.inspect(folder)
    except SessionStoreError as error:
        yield Finding("spool", "problem", *_told(error))
        return
    except OSError as error:
        yield Finding("spool", "problem", f"{folder} cannot be read ({error.strerror})", f"chmod 700 {folder.parent}")
        return
    yield from _backlog(state)
    yield from _put_aside(state)
    if state.network:
        yield Finding(
            "spool",
            "warning",
            f"{folder} is on a network file system",
            "put it on a local disk: spool_dir= or XDG_STATE_HOME",
        )
    if state.free_bytes < _FREE:
        told = f"{size(state.free_bytes)} are free; below {size(_FREE)} the recorder keeps events in memory"
        yield Finding("disk", "problem", told, "free some room")
    if elsewhere := spools.others(folder):
        told = f"{size(sum(elsewhere.values()))} wait in {plural(len(elsewhere), 'spool')} of other servers, schemas or tables"
        yield Finding("spool", "note", f"{told}, in {folder.parent}", "name them with --dsn, --table and --schema")


def _backlog(state: SpoolState) -> Iterator[Finding]:
    drain = "session-store drain"
    if not state.pending_bytes:
        writing = f"; {plural(state.live, 'process', 'processes')}" + " write to it" if state.live else ""
        yield Finding("spool", "ok", f"nothing waits in {state.folder}{writing}")
    else:
        events = "events" if state.events is None else plural(state.events, "event")
        age = f", the oldest {seconds(max(0.0, time.time() - state.oldest / 1e6))} old" if state.oldest else ""
        told = f"{events} wait in {state.folder} ({size(state.pending_bytes)}{age})"
        if state.left_bytes:
            yield Finding("spool", "warning", f"{told}; dead processes left {size(state.left_bytes)} of it", drain)
        else:
            yield Finding("spool", "note", f"{told}; the processes that recorded them store them", None)
    if state.open_runs:
        yield Finding(
            "spool", "warning", f"{plural(state.open_runs, 'run')} in flight of dead processes are not closed", drain
        )


def _put_aside(state: SpoolState) -> Iterator[Finding]:
    if state.quarantined:
        where = state.folder / "quarantine"
        told = f"{plural(state.quarantined, 'event')} could not be stored as recorded and lie in {where}"
        yield Finding("quarantine", "warning", told, f"look at them, report what surprises, then rm -r {where}")
    if state.losses:
        told = f"{plural(len(state.losses), 'event')} lost for want of room, the last: {state.losses[-1]}"
        yield Finding(
            "losses", "warning", told, f"give the spool more room; rm -r {state.folder / 'losses'} once it is noted"
        )


def _mlflow() -> Finding:
    found = {name: v for name in ("mlflow", "mlflow-skinny", "mlflow-tracing") if (v := _version(name))}
    install_it = "pip install --force-reinstall 'langgraph-session-store[mlflow]'"
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} {v}" for name, v in found.items())
        return Finding("mlflow", "problem", f"{told} share one folder and break one another", install_it)
    if "mlflow" in found:
        return Finding("mlflow", "ok", f"mlflow {found['mlflow']}")
    if found:
        name, v = next(iter(found.items()))
        return Finding("mlflow", "ok", f"{name} {v}")
    told = "not installed: run_id comes from the config's metadata, run_id= or MLFLOW_RUN_ID alone"
    return Finding("mlflow", "note", told, "pip install 'langgraph-session-store[mlflow]' to link MLflow runs")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _told(error: SessionStoreError) -> tuple[str, str | None]:
    """Return what an error says, with the part that says what to do apart."""
    what, found, fix = str(error).rpartition("; check ")
    if found:
        return what, f"check {fix}"
    what, found, fix = str(error).partition(": run ")
    return (what, f"run {fix}") if found else (str(error), None)


def _draw(out: Output, finding: Finding) -> None:
    sign = {"ok": "ok", "note": "note", "warning": "warn", "problem": "FAIL"}[finding.status]
    head = Text.assemble((f"{sign:<4}", _STYLES[finding.status]), "  ", (f"{finding.check:<10}", "bold"), "  ")
    out.hanging(head, Text(finding.message))
    if finding.fix:
        out.hanging(Text(" " * 18), Text.assemble(("fix: ", "yellow"), finding.fix))


def _load(what: str) -> SQL:
    _, _, statement = files(__package__).joinpath("sql", f"{what}.sql").read_text("utf-8").partition("\n")
    return SQL(statement)
