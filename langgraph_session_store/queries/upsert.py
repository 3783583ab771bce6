"""The one statement that writes events: what a newer one overwrites, an older one fills, and a replay leaves alone."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL, Composable

from ..errors import DataError
from ..filters.sqltypes import BOOLEAN, DOUBLE, INTEGER, REAL, sql_type
from ..query import Query, Rows, Table, listed, name, names, statement
from ..sql import load
from .arrays import Array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..row import Row, Shape, Slot

_TYPE: Final = re.compile(r"[a-z_][\w ]*(\(\d+( *, *\d+)?\))?[\w ]*(\[\])?", re.ASCII | re.IGNORECASE)
_STRINGS: Final = ("text", "varchar", "char", "character", "bpchar", "citext")
_UNWRITTEN: Final = frozenset({"id", "thread_id", "recorded_at", "updated_at", "duration_seconds"})
"""Columns that the store or the database fills in, whatever an event carries."""

_NEWER: Final = SQL("excluded.recorded_at > s.recorded_at")
_OLDER: Final = SQL("excluded.recorded_at < s.recorded_at")


def upsert(table: Table, shape: Shape, values: Mapping[str, Array], *, guarded: bool = True) -> Query[Rows]:
    """Write the *values* of merged rows of distinct threads; reads (thread_id, id, run_id, recorded_at) of those that changed."""
    return Query(_upsert(table, shape, guarded), values, listed, long=True)


def columns(rows: Sequence[Row]) -> dict[str, Array]:
    """Return the values of *rows* of one shape as `upsert` takes them."""
    values = {
        "thread_id": Array("text", [row.thread_id for row in rows]),
        "recorded_at": Array("timestamptz", [row.recorded_at for row in rows]),
    }
    by_slot = list(zip(*(row.values for row in rows), strict=True))
    return values | {f"c{at}": Array(_array_type(slot.sql_type), by_slot[at]) for at, slot in _written(rows[0].shape)}


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
    slots = {"mine": SQL("s.") + name(slot.name), "theirs": SQL("excluded.") + name(slot.name), "newer": _NEWER}
    filled = "coalesce({mine}, {theirs})"
    newer = filled if slot.mode == "fill" else "{theirs}"
    older = "{mine}" if slot.kind == "own" else filled  # one of the same time does not apply
    if not guarded or newer == older:
        return SQL(newer).format(**slots)
    return SQL(f"CASE WHEN {{newer}} THEN {newer} ELSE {older} END").format(**slots)


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
