"""The original project's table: how it is known, what makes it ours, and what it is like then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL

from ..errors import SchemaError
from ..query import name, short
from .ddl import indexes, plain
from .found import same_type

if TYPE_CHECKING:
    from ..query import Table
    from .found import Found
    from .schema import Plan

_COLUMNS: Final = frozenset(
    {"id", "created_at", "updated_at", "thread_id", "run_id", "workflow_status", "user_prompt", "topic", "difficulty"}
    | {"problem_description", "problem_tests", "code", "tests_passed", "code_attempts", "problem_attempts"}
)
_TIMES: Final = ("created_at", "updated_at")
_TIME: Final = "CASE WHEN {0} BETWEEN '0001-01-02' AND '9999-12-30' THEN {0}::timestamptz END"
"""A time as an instant, if it is one that Python has: not infinite, nor before Christ."""
_STRINGS: Final = ("text", "varchar", "character varying")


def is_original(found: Found) -> bool:
    """Return whether the table is the original's, in whatever types: it has its columns, and no time of the last event."""
    columns = found.columns or {}
    return found.kind == "r" and columns.keys() >= _COLUMNS and "recorded_at" not in columns


def upgrade(table: Table, found: Found) -> Plan:
    """Yield what makes the original's table ours but for what any table may lack; SchemaError where a view is in the way."""
    if found.readers:
        raise SchemaError(
            f"{plain(table.full)} is upgraded only without the views that read its times or its summary: "
            f"drop {', '.join(found.readers)}, run setup() again, and create them anew"
        )
    gone = SQL(", ").join(map(table.of, _replaced(table, found)))
    freed = map(name, sorted(_COLUMNS - {"id", "thread_id", *_TIMES}))
    retyped = (
        SQL(",\n            ALTER {} TYPE {}").format(name(c), SQL(t)) for c, t in _strings(table, found).items()
    )
    slots = {
        "table": table.full,
        "summary": table.summary,
        "function": table.of("update_session_states_updated_at"),
        "indexes": SQL("DROP INDEX {};").format(gone) if _replaced(table, found) else SQL(""),
        "freed": SQL(",\n            ").join(
            SQL("ALTER {0} DROP NOT NULL, ALTER {0} DROP DEFAULT").format(c) for c in freed
        ),
        "created": SQL(_TIME.format("created_at")),
        "updated": SQL(_TIME.format("updated_at")),
        "retyped": SQL("").join(retyped),
    }
    yield "000_original", slots


def upgraded(table: Table, found: Found) -> Found:
    """Return what is there after `upgrade`."""
    columns, wanted = dict(found.columns or {}), found.wanted or {}
    types = _strings(table, found) | {
        time: "timestamptz" for time in _TIMES if columns[time]["type"].startswith("timestamp")
    }
    for column, sql_type in types.items():
        columns[column] = {"type": sql_type, "base": wanted[column], "required": False}
    columns["recorded_at"] = {"type": "timestamptz", "base": wanted["recorded_at"], "required": False}
    columns |= {column: {**columns[column], "required": False} for column in _COLUMNS}
    kept = [index for index in found.indexes if index not in _replaced(table, found)]
    return replace(found, columns=columns, indexes=kept, summary=None, trigger=False)


def _replaced(table: Table, found: Found) -> list[str]:
    """Return the indexes under names of ours, which are rebuilt, and the one that the key on thread_id makes useless."""
    ours = {index for index, *_ in indexes(table)} | {short(f"idx_{table.name}_thread_id")}
    return sorted(ours.intersection(found.indexes) - {key["name"] for key in found.keys})


def _strings(table: Table, found: Found) -> dict[str, str]:
    """Return the type that is declared of each column that holds strings of another width."""
    columns = found.columns or {}
    return {
        column.name: column.sql_type
        for column in table.columns
        if column.name in columns
        and column.sql_type.startswith(_STRINGS)
        and columns[column.name]["type"].startswith(_STRINGS)
        and not same_type(column, found)
    }
