"""The one statement that writes events: what a newer one overwrites, an older one fills, and a replay leaves alone."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from psycopg.sql import SQL, Composable

from ..clock import to_datetime
from ..errors import DataError
from ..filters.sqltypes import BOOLEAN, DOUBLE, INTEGER, REAL, sql_type
from ..query import Query, Rows, Table, listed, name, names, statement
from ..sql import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..row import Row, Shape, Slot, Value

_TYPE: Final = re.compile(r"[a-z_][\w ]*(\(\d+( *, *\d+)?\))?[\w ]*(\[\])?", re.ASCII | re.IGNORECASE)
_STRINGS: Final = ("text", "varchar", "char", "character", "bpchar", "citext")
_UNWRITTEN: Final = frozenset({"id", "thread_id", "recorded_at", "updated_at", "duration_seconds"})
"""Columns that the store or the database fills in, whatever an event carries."""

_MAKERS: Final[dict[str, Callable[[Any], Value]]] = {
    "bigint": int,
    "double precision": float,
    "boolean": bool,
    "text": str,
}
_NEWER: Final = SQL("excluded.recorded_at > s.recorded_at")
_OLDER: Final = SQL("excluded.recorded_at < s.recorded_at")


def upsert(table: Table, rows: Sequence[Row], *, guarded: bool = True) -> Query[Rows]:
    """Write merged *rows* of one shape and distinct threads; reads (thread_id, id, run_id, recorded_at) of those that changed."""
    slots = _written(rows[0].shape)
    params: dict[str, Any] = {
        "thread_id": [row.thread_id for row in rows],
        "recorded_at": [to_datetime(row.recorded_at) for row in rows],
    }
    for index, slot in slots:
        params[f"c{index}"] = _array(slot.sql_type, [row.values[index] for row in rows])
    return Query(_upsert(table, rows[0].shape, guarded), params, listed)


@lru_cache(maxsize=256)
def _upsert(table: Table, shape: Shape, guarded: bool) -> bytes:
    slots = [slot for _, slot in _written(shape)]
    carried = [slot.name for slot in slots]
    arrays = [SQL(f"%(c{index})b::{_array_type(slot.sql_type)}[]") for index, slot in _written(shape)]
    updates = [
        SQL("{} = {}").format(name(slot.name), _updated(slot, guarded)) for slot in slots if slot.mode != "default"
    ]
    updates += [SQL("{0} = greatest(s.{0}, excluded.{0})").format(SQL(time)) for time in ("recorded_at", "updated_at")]
    return statement(
        load("upsert"),
        table=table.full,
        columns=names(["thread_id", "recorded_at", *carried]),
        names=names(["thread_id", "recorded_at", *carried]),
        arrays=SQL(", ").join([SQL("%(thread_id)b::text[]"), SQL("%(recorded_at)b::timestamptz[]"), *arrays]),
        values=SQL(", ").join(
            [
                SQL("d.thread_id"),
                SQL("d.recorded_at"),
                *(cast(proposed(slot.name), slot.sql_type) for slot in slots),
            ]
        ),
        updates=SQL(",\n    ").join(updates),
        applies=_applies(slots) if guarded else SQL("TRUE"),
    )


def _updated(slot: Slot, guarded: bool) -> Composable:
    """Return the value of a column of a row that is there: what a newer event says, then what an older one fills."""
    slots = {
        "mine": SQL("s.") + name(slot.name),
        "theirs": SQL("excluded.") + name(slot.name),
        "newer": _NEWER,
        "older": _OLDER,
    }
    newer = "coalesce({mine}, {theirs})" if slot.mode == "fill" else "{theirs}"
    if not guarded:
        return SQL(newer).format(**slots)
    fill = "" if slot.kind == "own" else " WHEN {older} THEN coalesce({mine}, {theirs})"
    return SQL(f"CASE WHEN {{newer}} THEN {newer}{fill} ELSE {{mine}} END").format(**slots)


def _applies(slots: Iterable[Slot]) -> Composable:
    """Return the condition under which an event changes anything: a replay does not even touch the row."""
    gaps = [
        SQL("s.{0} IS NULL AND excluded.{0} IS NOT NULL").format(name(slot.name))
        for slot in slots
        if slot.kind != "own" and slot.mode != "default"
    ]
    if not gaps:
        return _NEWER
    return SQL("{} OR ({} AND ({}))").format(_NEWER, _OLDER, SQL(" OR ").join(gaps))


def _written(shape: Shape) -> list[tuple[int, Slot]]:
    return [(index, slot) for index, slot in enumerate(shape) if slot.name not in _UNWRITTEN]


def proposed(column: str) -> Composable:
    """Return the value of *column* in the arrays that came with the statement."""
    return SQL("d.") + name(column)


def cast(value: Composable, sql_type: str) -> Composable:
    """Cast text to *sql_type*, except to strings: there an explicit cast would cut what is too long, an assignment refuses it."""
    if not _TYPE.fullmatch(sql_type):
        raise DataError(f"{sql_type!r} is no SQL type")
    if sql_type.split("(", maxsplit=1)[0].split(maxsplit=1)[0].lower() in _STRINGS and not sql_type.endswith("]"):
        return value
    return SQL("{}::{}").format(value, SQL(sql_type))


def _array_type(name_: str) -> str:
    return {INTEGER: "bigint", DOUBLE: "double precision", REAL: "double precision", BOOLEAN: "boolean"}.get(
        sql_type(name_), "text"
    )


def _array(name_: str, values: Sequence[Value]) -> list[Value]:
    """Return *values* as one Python type, as a binary array needs it."""
    make = _MAKERS[_array_type(name_)]
    return [None if value is None else make(value) for value in values]
