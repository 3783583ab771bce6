"""The table of the first screen: one page of rows, in which long values are cut by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg.sql import SQL

from ...filters.paging import fingerprint, keyset, next_cursor
from ...filters.sqltypes import sql_type
from ...queries.reads import vocabulary
from ...query import Query, name, statement
from ...sql import load

if TYPE_CHECKING:
    from psycopg.sql import Composable

    from ...columns import TableColumn
    from ...query import Rows
    from ..params import Asked
    from ..reads import ReadStore

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


def default_columns(reads: ReadStore) -> list[str]:
    """Return what the table shows unless told: the first text, what is short of the record, and when and how long."""
    declared = [column for column in reads.table.columns if column.kind != "own"]
    texts = [column.name for column in declared if column.sql_type == "text" and column.name in reads.large - _ASIDE]
    short = [column.name for column in declared if column.name not in reads.large]
    chosen = [*texts[:1], *short]
    return ["workflow_status", *(chosen or ["thread_id"]), "duration_seconds", "created_at"]


def page(reads: ReadStore, asked: Asked) -> Query[Rowset]:
    """Read the page that *asked* names; FilterError on what cannot be understood."""
    table = reads.table
    words = vocabulary(table)
    shown = words.columns(asked.words.get("fields") or default_columns(reads))
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

    columns = SQL(", ").join(
        [*(_cut(column, reads.large) for column in needed.values()), *(name(key.name) for key in keys)]
    )
    text = statement(load("select_sessions"), table=table.full, columns=columns, condition=place.sql, order=order.sql)
    return Query(text, {**place.params, "limit": ROWS + 1}, read)


def searched(reads: ReadStore) -> tuple[list[str], bool]:
    """Return the texts that the search box looks in, and whether all of them have an index for it.

    With a trigram index on any text these are all that it looks in, beside whole ids: one text without would cost a look at every row.
    """
    columns = reads.table.columns
    if indexed := [column.name for column in columns if column.index == "trigram"]:
        return indexed, True
    declared = [column for column in columns if column.kind != "own" and column.name in reads.large]
    texts = [column.name for column in declared if sql_type(column.sql_type).family == "text"]
    return ["thread_id", "error", *texts[:2]], False


def search(reads: ReadStore, text: str) -> list[dict[str, object]]:
    """Return alternatives that look for *text* in texts and ids."""
    fields, _ = searched(reads)
    ways: list[dict[str, object]] = [{f"{field}__icontains": text} for field in fields]
    return [{"thread_id": text}, {"run_id": text}, *ways]


def _cut(column: TableColumn, large: frozenset[str]) -> Composable:
    """Return the column, cut where it may be long; under a name that no ORDER BY takes for the column's."""
    if column.name not in large:
        return SQL("{} AS {}").format(name(column.name), name(f"cut__{column.name}"))
    return SQL("left({}::text, {}) AS {}").format(name(column.name), SQL(str(CUT + 1)), name(f"cut__{column.name}"))
