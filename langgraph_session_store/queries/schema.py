"""The table and its companions: made, upgraded, and grown by the fields that were declared since.

`install` looks first, and takes its lock and changes something only where something is missing, so that a role which may not change
anything can use a table that is complete. What it would run on an empty database is `script`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from psycopg.sql import SQL, Composable, Literal

from ..columns import OWN, TableColumn
from ..errors import SchemaError
from ..query import Query, Steps, Table, name, nothing, single, statement
from ..sql import load
from .ddl import definition, indexes, keys, literal, plain, summary, trigram
from .found import MARK, Found, inspect, same_type, trigger
from .original import is_original, upgrade, upgraded

VERSION: Final = 2
"""The last migration; files of ``sql/`` begin with the number of theirs."""

_LOCK: Final = {"key": "langgraph_session_store:setup"}


@dataclass(frozen=True)
class Report:
    """What `install` did: the statements by name, and what is worth a word to the operator."""

    done: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def install(table: Table, *, distributed: bool = False) -> Steps[Report]:
    """Create or upgrade *table* and its companions; SchemaError where something else stands in their place."""
    schema = yield Query(load("locate").as_bytes(None), {"schema": table.schema, "table": plain(table.full)}, single)
    if schema is None:
        raise SchemaError("the connection's search_path names no schema that exists: pass schema=, or create one")
    table = replace(table, schema=schema)
    look = inspect(table)
    found: Found = yield look
    done = []
    if _statements(table, found, distributed=distributed):
        yield Query(load("lock").as_bytes(None), _LOCK, nothing)
        yield Query(load("patience").as_bytes(None), {}, nothing)
        found = yield look  # again: whoever had the lock before may have done it all
        for step, text in _statements(table, found, distributed=distributed):
            done.append(step)
            yield Query(text, {}, nothing)
    return Report(tuple(done), tuple(_notes(table, found, distributed=distributed)))


def script(table: Table, *, distributed: bool = False) -> str:
    """Return what `install` runs where nothing exists yet, as a script for ``psql``."""
    lock = load("lock").as_string(None).replace("%(key)s", Literal(_LOCK["key"]).as_string(None).strip())
    found = Found(schema_exists=table.schema is None)
    texts = [text.decode().replace("%%", "%") for _, text in _statements(table, found, distributed=distributed)]
    return ";\n\n".join(["BEGIN", lock, *texts, "COMMIT"]) + ";\n"


def describe(table: Table) -> Query[Table]:
    """Read the columns that the database has, for who knows the table's name but not its record class."""

    def read(rows: Sequence[tuple[Any, ...]], _: int) -> Table:
        if not rows:
            raise SchemaError(f"there is no table {plain(table.full)}: run setup() or `session-store init`")
        columns = (
            OWN.get(column) or TableColumn(column, sql_type, "versioned" if versioned else "field")
            for column, sql_type, versioned in rows
        )
        return replace(table, columns=tuple(columns))

    params = {"table": plain(table.full), "versions": plain(table.versions)}
    return Query(load("describe").as_bytes(None), params, read)


def surroundings() -> Query[tuple[bool, int]]:
    """Read whether tables of this database may be distributed, and which of the server's processes answers."""
    return Query(load("surroundings").as_bytes(None), {}, lambda rows, _: (rows[0][0], rows[0][1]))


def _statements(table: Table, found: Found, *, distributed: bool) -> list[tuple[str, bytes]]:
    original = is_original(found)
    now = upgraded(table, found) if original else found
    if found.kind is not None:
        _check_table(table, now, original=original)
        _check_types(table, now)
    plans = [upgrade(table, found)] if original else []
    plans += [part(table, now, distributed) for part in (_migrations, _evolution, _distribution)]
    return [(step, statement(load(step), **slots)) for plan in plans for step, slots in plan]


Plan = Iterator[tuple[str, Mapping[str, Composable]]]


def _migrations(table: Table, found: Found, distributed: bool) -> Plan:
    slots: dict[str, Composable] = {"table": table.full, "function": table.companion("touch")}
    if table.schema is not None and not found.schema_exists:
        yield "create_schema", {"schema": name(table.schema)}
    if distributed:
        yield "unsafe_triggers", {}
    if found.kind is None:
        columns = SQL(",\n    ").join(map(definition, table.columns))
        yield "001_table", {**slots, "columns": columns, "keys": keys(table, distributed)}
        yield from _compression(table.full, table.columns)
    if found.kind is None or found.version < 1 or not found.trigger:
        yield "001_touch", slots
        yield "001_trigger", {**slots, "trigger": name(trigger(table))}
    if found.versions is None:
        columns = SQL("").join(SQL("{},\n    ").format(definition(column)) for column in table.versioned)
        yield "002_versions", {"versions": table.versions, "columns": columns}
        yield from _compression(table.versions, table.versioned)
    if not found.erased:
        yield "002_erased", {"erased": table.erased}
    if found.version < VERSION:
        yield "mark", {**slots, "comment": literal(MARK.format(VERSION))}


def _evolution(table: Table, found: Found, distributed: bool) -> Plan:  # noqa: ARG001 - one signature for all parts
    view = summary(table, found.summary or ())
    changed = list(view) != list(found.summary or ())
    if changed and found.summary is not None:
        yield "lock_summary", {"summary": table.summary}
    if found.columns is not None:
        added = [column for column in table.columns if column.name not in found.columns]
        yield from _additions(table.full, added)
        yield from _compression(table.full, added if found.version else table.columns)
    if found.versions is not None:
        added = [column for column in table.versioned if column.name not in found.versions]
        yield from _additions(table.versions, added)
        yield from _compression(table.versions, added)
    for index, method, columns in indexes(table):
        if index in found.indexes:
            continue
        if method == "trigram":
            if found.trigram:
                yield "create_trigram", {"statement": trigram(table, index, columns)}
        else:
            using = SQL(f"USING {method} {{}}").format(columns)
            yield "create_index", {"index": name(index), "table": table.full, "columns": using}
    if changed:
        columns = SQL(",\n    ").join(SQL("{} AS {}").format(text, name(column)) for column, text in view.items())
        options = SQL(f" WITH ({', '.join(found.view_options)})" if found.view_options else "")
        yield "create_summary", {"summary": table.summary, "table": table.full, "columns": columns, "options": options}


def _distribution(table: Table, found: Found, distributed: bool) -> Plan:
    if not distributed:
        return
    primary, unique = found.key("id"), found.key("thread_id")
    if primary and unique and primary["primary"]:
        yield (
            "rekey",
            {
                "table": table.full,
                "primary": name(primary["name"]),
                "unique": name(unique["name"]),
                "keys": SQL("ADD ") + keys(table, distributed=True, separator=", ADD "),
            },
        )
    texts = {"table_text": literal(plain(table.full)), "versions_text": literal(plain(table.versions))}
    yield "distribute", texts


def _check_table(table: Table, found: Found, *, original: bool) -> None:
    """Refuse what is not ours; the *original* may lack columns, which it gets."""
    columns = found.columns or {}
    differences = [] if found.kind in ("r", "p") else ["it is no table"]
    for column in table.columns:
        if column.kind == "own" and column.name not in columns:
            differences += [] if original else [f"it has no column {column.name}"]
        elif column.kind == "own" and not same_type(column, found):
            differences.append(f"{column.name} is {columns[column.name]['type']}, not {column.sql_type}")
    known = {column.name for column in table.columns}
    differences += [
        f"{column} is NOT NULL without a default"
        for column, is_ in columns.items()
        if is_["required"] and column not in known
    ]
    if "thread_id" in columns and not found.key("thread_id"):
        differences.append("thread_id is not unique")
    if differences:
        raise SchemaError(
            f"{plain(table.full)} exists, but is no table of this package: {'; '.join(differences)}. "
            "Pass another table= or schema=, or rename that one"
        )


def _check_types(table: Table, found: Found) -> None:
    columns, wanted = found.columns or {}, found.wanted or {}
    for column in table.columns:
        if not wanted.get(column.name):
            raise SchemaError(
                f"field {column.name}: this database knows no type {column.sql_type}; is its extension installed?"
            )
    changed = [column for column in table.columns if column.name in columns and not same_type(column, found)]
    if changed:
        what = "; ".join(f"{c.name} is {columns[c.name]['type']}, not {c.sql_type}" for c in changed)
        raise SchemaError(
            f"{plain(table.full)} has fields of another type than declared: {what}. "
            f"Declare the type that is there, or run: {_retype(table, changed, found)}"
        )


def _retype(table: Table, changed: Sequence[TableColumn], found: Found) -> str:
    texts = [f"DROP VIEW IF EXISTS {plain(table.summary)};"]
    for where, present in ((table.full, found.columns), (table.versions, found.versions)):
        alterations = [
            f"ALTER COLUMN {plain(name(c.name))} TYPE {c.sql_type} USING {plain(name(c.name))}::{c.sql_type}"
            for c in changed
            if c.name in (present or ())
        ]
        if alterations:
            texts.append(f"ALTER TABLE {plain(where)} {', '.join(alterations)};")
    return " ".join(texts)


def _notes(table: Table, found: Found, *, distributed: bool) -> Iterator[str]:
    if distributed and not found.citus:
        yield "this server has no Citus: the table has the keys of a distributed one and stays where it is"
    missing = [index for index, method, _ in indexes(table) if method == "trigram" and index not in found.indexes]
    if missing and not found.trigram:
        yield f"this server has no extension pg_trgm: {', '.join(missing)} left out, contains and icontains read the table"


def _additions(where: SQL, added: Sequence[TableColumn]) -> Plan:
    if added:
        columns = SQL(", ").join(SQL("ADD COLUMN IF NOT EXISTS {}").format(definition(column)) for column in added)
        yield "add_columns", {"table": where, "columns": columns}


def _compression(where: SQL, columns: Sequence[TableColumn]) -> Plan:
    large = [column.name for column in columns if column.sql_type in ("text", "jsonb")]
    if large:
        alterations = SQL(", ").join(
            SQL("ALTER COLUMN {} SET COMPRESSION lz4").format(name(column)) for column in large
        )
        yield "compress", {"table": where, "columns": alterations}
