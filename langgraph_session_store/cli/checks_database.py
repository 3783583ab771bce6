"""The checks of `session-store doctor` that ask the database: connection, server, pooler, clock, table and rights."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.sql import SQL

from ..conninfo import connection_errors
from ..display import seconds
from ..errors import SessionStoreError
from ..queries.schema import describe, install
from ..query import drive
from .findings import Finding, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..conninfo import Target
    from ..queries.schema import Report
    from ..query import Query, Table
    from .options import Source

Connection = psycopg.Connection[tuple[Any, ...]]

_OLDEST_SERVER: Final = 14
_LOOKS: Final = 2  # where the table is, and what it is like
_OFFSET: Final = 2.0  # seconds that clocks may differ without a word
_SOURCES: Final = {"conninfo": "from --dsn", "default": "DATABASE_URL is not set"}
_CAN: Final = {
    "read": {"table": ["SELECT"], "versions": ["SELECT"]},
    "record": {"table": ["INSERT", "UPDATE"], "versions": ["INSERT"], "erased": ["SELECT"]},
    "erase": {"table": ["DELETE"], "versions": ["DELETE"], "erased": ["SELECT", "INSERT", "UPDATE"]},
}
"""What a role needs for what it may do; docs/rights.md has the same as GRANTs."""


def database(at: Source, target: Target, table: Table) -> Iterator[Finding]:
    """Yield what is found by connecting."""
    began = time.monotonic()
    try:
        with connection_errors(target):
            connection: Connection = psycopg.connect(**target.kwargs(), autocommit=True, prepare_threshold=None)
    except SessionStoreError as error:
        yield told("connection", error)
        return
    took = time.monotonic() - began
    with connection:
        where = _SOURCES.get(target.source, f"from {target.source}")
        yield Finding("connection", "ok", f"{target.describe()} ({where}; {seconds(took)})")
        try:
            yield from _server(connection)
            yield from _schema(connection, at, table)
            yield _rights(connection, table)
        except psycopg.Error as error:
            what = f"a question was refused (SQLSTATE {error.sqlstate or '-'})"
            yield Finding("database", "problem", what, "look into the server's log")


def _server(connection: Connection) -> Iterator[Finding]:
    before = time.time()
    row = connection.execute(_load("server")).fetchone()
    after = time.time()
    assert row is not None
    pid, release, major, read_only, clock = row
    if major < _OLDEST_SERVER:
        yield Finding("server", "problem", f"PostgreSQL {release}", f"use PostgreSQL {_OLDEST_SERVER} or newer")
    elif read_only:
        what = f"PostgreSQL {release} takes no writes here: a standby, or a read-only role"
        fix = "name the primary, or set target_session_attrs=read-write and list all hosts; GRANT or ALTER ROLE for a read-only role"
        yield Finding("server", "problem", what, fix)
    else:
        yield Finding("server", "ok", f"PostgreSQL {release}")
    if connection.info.backend_pid == pid:
        yield Finding("pooler", "ok", "none, the connection is direct")
    else:
        what = "a pooler such as PgBouncer is in between, which this package is made for: nothing to do"
        yield Finding("pooler", "note", what)
    offset = clock - (before + after) / 2
    if abs(offset) > _OFFSET + (after - before):
        what = f"the database's clock is {seconds(abs(offset))} {'ahead of' if offset > 0 else 'behind'} this machine's"
        fix = "let both machines follow a time server (NTP)"
        yield Finding("clock", "warning", f"{what}; rows carry the database's", fix)
    else:
        yield Finding("clock", "ok", f"{abs(offset) * 1000:.0f}ms from the database's")


def _schema(connection: Connection, at: Source, table: Table) -> Iterator[Finding]:
    def run(query: Query[Any]) -> Any:
        cursor = connection.execute(query.sql, query.params)
        return query.read(cursor.fetchall() if cursor.description else [], cursor.rowcount)

    try:
        if at.record is None:
            what = f"{table.name} has {len(run(describe(table)).columns)} columns"
            yield Finding("schema", "ok", f"{what}; --record compares them with a class")
            return
        report = would_do(table, run)
    except SessionStoreError as error:
        yield told("schema", error)
        return
    steps = dict.fromkeys(report.done)
    if "001_table" in steps:
        yield Finding("schema", "problem", f"there is no table {table.name}", _init(at))
    elif "000_original" in steps:
        what = f"{table.name} is the original project's, which is upgraded in place"
        yield Finding("schema", "problem", what, _init(at))
    elif steps:
        what = f"{table.name} is not as the record wants it; missing: {', '.join(steps)}"
        yield Finding("schema", "problem", what, _init(at))
    else:
        what = f"{table.name}, its history, view and indexes are as {at.record.__name__} wants them"
        yield Finding("schema", "ok", what)
    for note in report.notes:
        yield Finding("schema", "warning", note, "CREATE EXTENSION or its package would help; all works without")


def would_do(table: Table, run: Callable[[Query[Any]], Any]) -> Report:
    """Return what `install` would do: its two looks, which come again behind the lock, are all that runs."""
    looks: dict[bytes, Any] = {}

    def only_look(query: Query[Any]) -> Any:
        if query.sql not in looks and len(looks) < _LOOKS:
            looks[query.sql] = run(query)
        return looks.get(query.sql)

    return drive(install(table), only_look)


def _rights(connection: Connection, table: Table) -> Finding:
    names = {part: getattr(table, part).as_string(None) for part in ("versions", "erased")}
    names["table"] = table.full.as_string(None)
    needs = [(can, part, right) for can, parts in _CAN.items() for part, rights in parts.items() for right in rights]
    params = {
        "table": names["table"],
        "relations": [names[part] for _, part, _ in needs],
        "rights": [right for *_, right in needs],
        "schema": table.schema,
    }
    row = connection.execute(_load("rights"), params).fetchone()
    assert row is not None
    exists, has, owner, create, role = row
    if not exists and create:
        return Finding("rights", "ok", f"{role} may create the table")
    if not exists:
        fix = f"GRANT CREATE ON SCHEMA {table.schema or 'public'} TO {role}; or let an owner run session-store init"
        return Finding("rights", "problem", f"{role} may not create the table", fix)
    lacking = [need for need, granted in zip(needs, has, strict=True) if granted is False]
    cannot = dict.fromkeys(can for can, *_ in lacking)
    if not cannot:
        if owner:
            return Finding("rights", "ok", f"{role} reads, records, erases, and owns the table")
        what = f"{role} reads, records and erases; it does not own the table, so only its owner can upgrade it"
        return Finding("rights", "note", what)
    may = [can for can in _CAN if can not in cannot]
    what = f"{role} may {' and '.join(may) or 'do nothing'}, and not {' or '.join(cannot)}"
    fix = "; ".join(f"GRANT {right} ON {names[part]} TO {role}" for _, part, right in lacking)
    return Finding("rights", "problem" if "read" in cannot else "warning" if "record" in cannot else "note", what, fix)


def _init(at: Source) -> str:
    words = {"record": at.record_name, "table": at.table_name, "schema": at.schema}
    return " ".join(["session-store init", *(f"--{name} {value}" for name, value in words.items() if value)])


def _load(what: str) -> SQL:
    _, _, statement = files(__package__).joinpath("sql", f"{what}.sql").read_text("utf-8").partition("\n")
    return SQL(statement)
