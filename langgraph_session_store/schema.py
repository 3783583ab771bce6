"""The table and its companions: made, upgraded, and grown by the fields that were declared since.

`install` looks first, and takes its lock and changes something only where something is missing, so that a role which may not change
anything can use a table that is complete. What it would run on an empty database is `script`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from psycopg.sql import SQL, Composable, Composed, Literal

from .columns import OWN, TableColumn
from .errors import SchemaError
from .query import Query, Steps, Table, name, names, nothing, short, single, statement
from .sql import load

VERSION: Final = 2
"""The last migration; files of ``sql/`` begin with the number of theirs."""

_LOCK: Final = {"key": "langgraph_session_store:setup"}
_MARK: Final = "langgraph-session-store: schema {}"

_CONSTRAINTS: Final = {
    "id": "NOT NULL DEFAULT gen_random_uuid()",
    "created_at": "NOT NULL DEFAULT now()",
    "updated_at": "NOT NULL DEFAULT now()",
    "thread_id": "NOT NULL",
    "duration_seconds": "GENERATED ALWAYS AS (extract(epoch FROM finished_at - started_at)::double precision) STORED",
    "recorded_at": "NOT NULL DEFAULT clock_timestamp()",
}
_KEYSETS: Final = {"created_at": "(created_at DESC, id DESC)", "updated_at": "(updated_at, id)"}
_COMPOSITES: Final = {("topic", "difficulty", "tests_passed"): "created_at DESC, id DESC"}

_PROBLEM_SUMMARY: Final = {
    "id": "id",
    "thread_id": "thread_id",
    "run_id": "run_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "user_prompt": "user_prompt",
    "topic": "topic",
    "difficulty": "difficulty",
    "problem_status": "CASE WHEN problem_description IS NOT NULL THEN 'Generated' ELSE 'Not Generated' END",
    "code_status": "CASE WHEN code IS NOT NULL THEN 'Generated' ELSE 'Not Generated' END",
    "tests_passed": "tests_passed",
    "code_attempts": "code_attempts",
    "problem_attempts": "problem_attempts",
    "workflow_status": "workflow_status",
    "test_cases_count": "CASE WHEN jsonb_typeof(problem_tests) = 'array' THEN jsonb_array_length(problem_tests) ELSE 0 END",
    "user_id": "user_id",
    "duration_seconds": "duration_seconds",
}
_PROBLEM_FIELDS: Final = frozenset(
    {"user_prompt", "topic", "difficulty", "problem_description", "problem_tests", "code"}
    | {"tests_passed", "code_attempts", "problem_attempts"}
)
_SUMMARY_OWN: Final = (
    *("id", "thread_id", "run_id", "created_at", "updated_at", "workflow_status"),
    *("user_id", "duration_seconds"),
)


@dataclass(frozen=True)
class Report:
    """What `install` did: the statements by name, and what is worth a word to the operator."""

    done: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a database holds under the table's names; by default nothing."""

    schema_exists: bool = True
    kind: str | None = None
    version: int = 0
    columns: Mapping[str, Mapping[str, Any]] | None = None
    wanted: Mapping[str, int] | None = None
    keys: Sequence[Mapping[str, Any]] = ()
    indexes: Sequence[str] = ()
    versions: Sequence[str] | None = None
    erased: bool = False
    summary: Sequence[str] | None = None
    trigger: bool = False
    citus: bool = False
    trigram: bool = True

    @classmethod
    def read(cls, row: dict[str, Any]) -> Found:
        """Return the answer of ``inspect.sql``."""
        mark = re.match(re.escape(_MARK).replace(r"\{\}", r"(\d+)"), row.pop("comment") or "")
        return cls(
            version=int(mark[1]) if mark else 0,
            keys=row.pop("keys") or (),
            indexes=row.pop("indexes") or (),
            **row,
        )

    def key(self, *columns: str) -> Mapping[str, Any] | None:
        """Return the unique key over exactly *columns*."""
        return next((key for key in self.keys if key["columns"] == sorted(columns)), None)


def install(table: Table, *, distributed: bool = False) -> Steps[Report]:
    """Create or upgrade *table* and its companions; SchemaError where something else stands in their place."""
    schema = yield Query(load("locate").as_bytes(None), {"schema": table.schema, "table": _text(table.full)}, single)
    if schema is None:
        raise SchemaError("the connection's search_path names no schema that exists: pass schema=, or create one")
    table = replace(table, schema=schema)
    look = _inspect(table)
    found: Found = yield look
    done = []
    if _statements(table, found, distributed=distributed):
        yield Query(load("lock").as_bytes(None), _LOCK, nothing)
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
            raise SchemaError(f"there is no table {_text(table.full)}: run setup() or `session-store init`")
        columns = (
            OWN.get(column) or TableColumn(column, sql_type, "versioned" if versioned else "field")
            for column, sql_type, versioned in rows
        )
        return replace(table, columns=tuple(columns))

    params = {"table": _text(table.full), "versions": _text(table.versions)}
    return Query(load("describe").as_bytes(None), params, read)


def _inspect(table: Table) -> Query[Found]:
    params = {
        "schema": table.schema,
        "table": _text(table.full),
        "versions": _text(table.versions),
        "erased": _text(table.erased),
        "summary": _text(table.summary),
        "trigger": _trigger(table),
        "names": [column.name for column in table.columns],
        "types": [column.sql_type for column in table.columns],
    }
    return Query(load("inspect").as_bytes(None), params, lambda rows, _: Found.read(rows[0][0]))


def _statements(table: Table, found: Found, *, distributed: bool) -> list[tuple[str, bytes]]:
    if found.kind is not None:
        _check_table(table, found)
        _check_types(table, found)
    return [
        (step, statement(load(step), **slots))
        for part in (_migrations, _evolution, _distribution)
        for step, slots in part(table, found, distributed)
    ]


Plan = Iterator[tuple[str, Mapping[str, Composable]]]


def _migrations(table: Table, found: Found, distributed: bool) -> Plan:
    slots: dict[str, Composable] = {"table": table.full, "function": table.companion("touch")}
    if table.schema is not None and not found.schema_exists:
        yield "create_schema", {"schema": name(table.schema)}
    if distributed:
        yield "unsafe_triggers", {}
    if found.kind is None:
        columns = SQL(",\n    ").join(map(_definition, table.columns))
        yield "001_table", {**slots, "columns": columns, "keys": _keys(table, distributed)}
        yield from _compression(table, table.columns)
    if found.kind is None or found.version < 1 or not found.trigger:
        yield "001_touch", slots
        yield "001_trigger", {**slots, "trigger": name(_trigger(table))}
    if found.versions is None:
        columns = SQL("").join(SQL("{},\n    ").format(_definition(column)) for column in table.versioned)
        yield "002_versions", {"versions": table.versions, "columns": columns}
    if not found.erased:
        yield "002_erased", {"erased": table.erased}
    if found.version < VERSION:
        yield "mark", {**slots, "comment": _literal(_MARK.format(VERSION))}


def _evolution(table: Table, found: Found, distributed: bool) -> Plan:  # noqa: ARG001 - one signature for all parts
    if found.columns is not None:
        added = [column for column in table.columns if column.name not in found.columns]
        yield from _additions(table.full, added)
        yield from _compression(table, added)
    if found.versions is not None:
        yield from _additions(
            table.versions, [column for column in table.versioned if column.name not in found.versions]
        )
    for index, method, columns in _indexes(table):
        if index in found.indexes:
            continue
        if method == "trigram":
            if found.trigram:
                yield "create_trigram", {"statement": _trigram(table, index, columns)}
        else:
            using = SQL(f"USING {method} {{}}").format(columns)
            yield "create_index", {"index": name(index), "table": table.full, "columns": using}
    summary = _summary(table, found.summary or ())
    if found.summary is None or list(summary) != list(found.summary):
        columns = SQL(",\n    ").join(SQL("{} AS {}").format(text, name(column)) for column, text in summary.items())
        yield "create_summary", {"summary": table.summary, "table": table.full, "columns": columns}


def _distribution(table: Table, found: Found, distributed: bool) -> Plan:
    if not distributed:
        return
    primary, unique = found.key("id"), found.key("thread_id")
    if primary and unique and primary["primary"]:
        yield (
            "rekey",
            {
                "table": table.full,
                "primary": name(primary["name"].split(".")[-1].strip('"')),
                "unique": name(unique["name"].split(".")[-1].strip('"')),
                "keys": SQL("ADD ") + _keys(table, distributed=True, separator=", ADD "),
            },
        )
    texts = {"table_text": _literal(_text(table.full)), "versions_text": _literal(_text(table.versions))}
    yield "distribute", texts


def _check_table(table: Table, found: Found) -> None:
    """Refuse what is not ours. The place for upgrading the original project's table, which this would name."""
    columns = found.columns or {}
    differences = [] if found.kind in ("r", "p") else ["it is no table"]
    for column in table.columns:
        if column.kind == "own" and column.name not in columns:
            differences.append(f"it has no column {column.name}")
        elif column.kind == "own" and not _same_type(column, found):
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
            f"{_text(table.full)} exists, but is no table of this package: {'; '.join(differences)}. "
            "Pass another table= or schema=, or rename that one"
        )


def _check_types(table: Table, found: Found) -> None:
    columns, wanted = found.columns or {}, found.wanted or {}
    for column in table.columns:
        if not wanted.get(column.name):
            raise SchemaError(
                f"field {column.name}: this database knows no type {column.sql_type}; is its extension installed?"
            )
    changed = [column for column in table.columns if column.name in columns and not _same_type(column, found)]
    if changed:
        what = "; ".join(f"{c.name} is {columns[c.name]['type']}, not {c.sql_type}" for c in changed)
        raise SchemaError(
            f"{_text(table.full)} has fields of another type than declared: {what}. "
            f"Declare the type that is there, or run: {_retype(table, changed, found)}"
        )


def _retype(table: Table, changed: Sequence[TableColumn], found: Found) -> str:
    texts = [f"DROP VIEW IF EXISTS {_text(table.summary)};"]
    for where, present in ((table.full, found.columns), (table.versions, found.versions)):
        alterations = [
            f"ALTER COLUMN {_text(name(c.name))} TYPE {c.sql_type} USING {_text(name(c.name))}::{c.sql_type}"
            for c in changed
            if c.name in (present or ())
        ]
        if alterations:
            texts.append(f"ALTER TABLE {_text(where)} {', '.join(alterations)};")
    return " ".join(texts)


def _same_type(column: TableColumn, found: Found) -> bool:
    is_, wanted = (found.columns or {})[column.name], (found.wanted or {})[column.name]
    return bool(is_["base"] == wanted) and _modifiers(is_["type"]) == _modifiers(column.sql_type)


def _modifiers(sql_type: str) -> str:
    return "".join(re.findall(r"\(([^)]*)\)", sql_type)).replace(" ", "")


def _notes(table: Table, found: Found, *, distributed: bool) -> Iterator[str]:
    if distributed and not found.citus:
        yield "this server has no Citus: the table has the keys of a distributed one and stays where it is"
    missing = [index for index, method, _ in _indexes(table) if method == "trigram" and index not in found.indexes]
    if missing and not found.trigram:
        yield f"this server has no extension pg_trgm: {', '.join(missing)} left out, contains and icontains read the table"


def _definition(column: TableColumn) -> Composable:
    constraint = _CONSTRAINTS.get(column.name, "") if column.kind == "own" else ""
    return SQL("{} {}").format(name(column.name), SQL(f"{column.sql_type} {constraint}".strip()))


def _keys(table: Table, distributed: bool, separator: str = ",\n    ") -> Composed:
    plain = [("PRIMARY KEY", ["id"], "pkey"), ("UNIQUE", ["thread_id"], "thread_id_key")]
    spread = [("PRIMARY KEY", ["thread_id"], "pkey"), ("UNIQUE", ["id", "thread_id"], "id_key")]
    return SQL(separator).join(
        SQL("CONSTRAINT {} {} ({})").format(name(short(f"{table.name}_{suffix}")), SQL(kind), names(columns))
        for kind, columns, suffix in (spread if distributed else plain)
    )


def _additions(where: SQL, added: Sequence[TableColumn]) -> Plan:
    if added:
        columns = SQL(", ").join(SQL("ADD COLUMN IF NOT EXISTS {}").format(_definition(column)) for column in added)
        yield "add_columns", {"table": where, "columns": columns}


def _compression(table: Table, columns: Sequence[TableColumn]) -> Plan:
    large = [column.name for column in columns if column.sql_type in ("text", "jsonb")]
    if large:
        alterations = SQL(", ").join(
            SQL("ALTER COLUMN {} SET COMPRESSION lz4").format(name(column)) for column in large
        )
        yield "compress", {"table": table.full, "columns": alterations}


def _indexes(table: Table) -> Iterator[tuple[str, str, Composable]]:
    """Yield name, method and what is indexed."""
    for column in table.columns:
        if not column.index:
            continue
        index, quoted = short(f"idx_{table.name}_{column.name}"), name(column.name)
        if column.name in _KEYSETS:
            yield index, "btree", SQL(_KEYSETS[column.name])
        elif column.index == "gin":
            yield index, "gin", SQL("({} jsonb_path_ops)").format(quoted)
        else:
            yield index, "btree" if column.index is True else column.index, SQL("({})").format(quoted)
    present = {column.name for column in table.columns}
    for columns, order in _COMPOSITES.items():
        if present.issuperset(columns):
            index = short(f"idx_{table.name}_{'_'.join(columns)}")
            yield index, "btree", SQL("({}, {})").format(names(columns), SQL(order))


def _trigram(table: Table, index: str, columns: Composable) -> Composable:
    column = _text(columns).strip("()").replace("%", "%%")
    text = (
        f"CREATE INDEX IF NOT EXISTS {_text(name(index))} ON {_text(table.full)} USING gin ({column} %I.gin_trgm_ops)"
    )
    return _literal(text)


def _summary(table: Table, present: Sequence[str]) -> dict[str, Composable]:
    """Return the view's columns; the *present* ones first, as they must stay where they are."""
    fields = [c.name for c in table.columns if c.kind != "own" and c.sql_type != "jsonb"]
    if {column.name for column in table.columns} >= _PROBLEM_FIELDS:
        columns: dict[str, Composable] = {column: SQL(text) for column, text in _PROBLEM_SUMMARY.items()}
        fields = [field for field in fields if field not in _PROBLEM_FIELDS]
    else:
        columns = {column: name(column) for column in _SUMMARY_OWN}
    columns |= {field: name(field) for field in fields}
    order = dict.fromkeys([*present, *columns])
    return {column: columns.get(column, name(column)) for column in order}


def _trigger(table: Table) -> str:
    return short(f"trigger_{table.name}_touch")


def _text(part: Composable) -> str:
    return part.as_string(None).replace("%%", "%")


def _literal(text: str) -> SQL:
    return SQL(Literal(text).as_string(None).strip().replace("%", "%%"))
