"""The table of the first screen: one page of rows, in which long values are cut by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg.sql import SQL

from ...filters.paging import fingerprint, keyset, next_cursor
from ...filters.sqltypes import sql_type
from ...queries.reads import vocabulary
from ...query import Query, name, statement
from ...sql import load
from ..schema import is_large

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ...columns import TableColumn
    from ...query import Rows, Table
    from ..params import Asked

ROWS: Final = 50
CUT: Final = 160
"""Characters of a long value that a table shows."""
_ASIDE: Final = frozenset({"problem_description"})
_KEYS: Final = ("id", "thread_id", "workflow_status", "created_at", "updated_at", "started_at", "error")
"""What a row needs besides the columns that are shown."""


class Rowset(NamedTuple):
    """One page of the table."""

    columns: tuple[TableColumn, ...]
    rows: list[dict[str, Any]]
    next_cursor: str | None


def default_columns(table: Table) -> list[str]:
    """Return what the table shows unless told: the first text, what is short of the record, and when and how long."""
    declared = [column for column in table.columns if column.kind != "own"]
    texts = [column.name for column in declared if column.sql_type == "text" and column.name not in _ASIDE]
    short = [column.name for column in declared if not is_large(column)]
    chosen = [*texts[:1], *short]
    return ["workflow_status", *(chosen or ["thread_id"]), "duration_seconds", "created_at"]


def page(table: Table, asked: Asked) -> Query[Rowset]:
    """Read the page that *asked* names; FilterError on what cannot be understood."""
    words = vocabulary(table)
    shown = words.columns(asked.words.get("fields") or default_columns(table))
    order = words.order(asked.order_by)
    condition = words.where(asked.filters, asked.any_of)
    mark = fingerprint(condition, order)
    needed = {column.name: column for column in (*shown, *words.columns(_KEYS))}
    keys = [key.column for key in order.keys]
    place = condition & keyset(order, asked.words.get("cursor"), mark)

    def read(rows: Rows, _: int) -> Rowset:
        found = [dict(zip(needed, row, strict=False)) for row in rows[:ROWS]]
        behind = None
        if len(rows) > ROWS:
            last = dict(zip((key.name for key in keys), rows[ROWS - 1][len(needed) :], strict=True))
            behind = next_cursor(order, last, mark)
        return Rowset(shown, found, behind)

    columns = SQL(", ").join([*map(_cut, needed.values()), *(name(key.name) for key in keys)])
    text = statement(load("select_sessions"), table=table.full, columns=columns, condition=place.sql, order=order.sql)
    return Query(text, {**place.params, "limit": ROWS + 1}, read)


def search(table: Table, text: str) -> list[dict[str, object]]:
    """Return alternatives that look for *text* in ids, in the errors, and in the first texts of the record."""
    texts = [column.name for column in table.columns if column.kind != "own" and sql_type(column.sql_type).family == "text" and is_large(column)]  # fmt: skip
    ways: list[dict[str, object]] = [{"thread_id__icontains": text}, {"run_id": text}, {"error__icontains": text}]
    ways += [{f"{field}__icontains": text} for field in texts[:2]]
    return ways


def _cut(column: TableColumn) -> Composable:
    """Return the column, cut where it may be long; under a name that no ORDER BY takes for the column's."""
    if not is_large(column):
        return SQL("{} AS {}").format(name(column.name), name(f"cut__{column.name}"))
    return SQL("left({}::text, {}) AS {}").format(name(column.name), SQL(str(CUT + 1)), name(f"cut__{column.name}"))
