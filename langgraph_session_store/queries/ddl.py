"""What the table consists of, as SQL: its columns, keys, indexes and view. Pure; `schema` says when which of it is run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL, Composable, Composed, Literal

from ..query import name, names, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..columns import TableColumn
    from ..query import Table

_CONSTRAINTS: Final = {
    "id": "NOT NULL DEFAULT gen_random_uuid()",
    "created_at": "NOT NULL DEFAULT now()",
    "updated_at": "NOT NULL DEFAULT now()",
    "thread_id": "NOT NULL",
    "duration_seconds": "GENERATED ALWAYS AS (extract(epoch FROM finished_at - started_at)::double precision) STORED",
    "recorded_at": "NOT NULL DEFAULT clock_timestamp()",
}
COVERED: Final = ("topic", "difficulty", "workflow_status", "tests_passed", "code_attempts", "problem_attempts")
"""What the numbers of a whole table are made of, in an index: a tenth of the table's time, and of a tenth of its size."""
_ORDERS: Final = {
    "created_at": "(created_at DESC, id DESC)",
    "updated_at": "(updated_at, id)",
    "duration_seconds": "(duration_seconds DESC NULLS LAST)",
}
_COMPOSITES: Final = {
    ("topic", "difficulty", "tests_passed"): ", created_at DESC, id DESC",
    COVERED: "",
}

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


def definition(column: TableColumn) -> Composable:
    """Return *column* as it stands in CREATE TABLE."""
    constraint = _CONSTRAINTS.get(column.name, "") if column.kind == "own" else ""
    return SQL("{} {}").format(name(column.name), SQL(f"{column.sql_type} {constraint}".strip()))


def keys(table: Table, distributed: bool, separator: str = ",\n    ") -> Composed:
    """Return the table's keys; those of a *distributed* one all hold the thread, by which it is distributed."""
    plain = [("PRIMARY KEY", ["id"], "pkey"), ("UNIQUE", ["thread_id"], "thread_id_key")]
    spread = [("PRIMARY KEY", ["thread_id"], "pkey"), ("UNIQUE", ["id", "thread_id"], "id_key")]
    return SQL(separator).join(
        SQL("CONSTRAINT {} {} ({})").format(name(short(f"{table.name}_{suffix}")), SQL(kind), names(columns))
        for kind, columns, suffix in (spread if distributed else plain)
    )


def indexes(table: Table) -> Iterator[tuple[str, str, Composable]]:
    """Yield name, method and what is indexed."""
    for column in table.columns:
        if not column.index:
            continue
        index, quoted = short(f"idx_{table.name}_{column.name}"), name(column.name)
        if column.name in _ORDERS:
            yield index, "btree", SQL(_ORDERS[column.name])
        elif column.index == "gin":
            yield index, "gin", SQL("({} jsonb_path_ops)").format(quoted)
        else:
            yield index, "btree" if column.index is True else column.index, SQL("({})").format(quoted)
    present = {column.name for column in table.columns}
    for columns, order in _COMPOSITES.items():
        if present.issuperset(columns):
            index = short(f"idx_{table.name}_{'_'.join(columns)}")
            yield index, "btree", SQL("({}{})").format(names(columns), SQL(order))


def trigram(table: Table, index: str, columns: Composable) -> Composable:
    """Return the statement that makes an index, as a literal with a place for the schema of the extension."""
    column = plain(columns).strip("()").replace("%", "%%")
    text = (
        f"CREATE INDEX IF NOT EXISTS {plain(name(index))} ON {plain(table.full)} USING gin ({column} %I.gin_trgm_ops)"
    )
    return literal(text)


def summary(table: Table, present: Sequence[str]) -> dict[str, Composable]:
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


def modifiers(sql_type: str) -> str:
    """Return what stands in the parentheses of a type."""
    return "".join(re.findall(r"\(([^)]*)\)", sql_type)).replace(" ", "")


def plain(part: Composable) -> str:
    """Return *part* as text of its own, which no driver will look for placeholders in."""
    return part.as_string(None).replace("%%", "%")


def literal(text: str) -> SQL:
    """Return *text* quoted, for statements that take no values."""
    return SQL(Literal(text).as_string(None).strip().replace("%", "%%"))
