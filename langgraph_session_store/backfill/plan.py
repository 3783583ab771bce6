"""Which rows of threads say something that the table does not know yet: asked before anything is written, so that a second time is cheap."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from psycopg.sql import SQL

from ..clock import to_microseconds
from ..queries.found import inspect
from ..queries.writes import thread_hash, tombstones
from ..query import Query, Rows, Table, name, statement
from ..row import Row, Slot
from ..sql import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..queries.found import Found
    from ..query import Steps


class _There(NamedTuple):
    """A row that is there: when it was recorded, from which checkpoint, and which fields are NULL."""

    recorded_at: int
    checkpoint_id: str | None
    empty: frozenset[str]


@dataclass
class Plan:
    """What to write, and what there is no need to: threads by what becomes of them."""

    created: list[Row] = field(default_factory=list)
    updated: list[Row] = field(default_factory=list)
    filled: list[Row] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """The rows to write."""
        return [*self.created, *self.updated, *self.filled]


def sort_out(table: Table, rows: Sequence[Row], *, dry_run: bool = False) -> Steps[Plan]:
    """Return what to do with *rows*, which are of distinct threads; for a *dry_run* the table may be still to be made."""
    if dry_run:
        found: Found = yield inspect(table)
        if found.kind is None:
            return Plan(created=list(rows))
    threads = [row.thread_id for row in rows]
    erased: dict[bytes, int] = yield tombstones(table, threads)
    there: dict[str, _There] = yield _known(table, threads)
    plan = Plan()
    for row in rows:
        known = there.get(row.thread_id)
        if row.begun_at <= erased.get(thread_hash(row.thread_id), row.begun_at - 1):
            plan.erased.append(row.thread_id)
        elif known is None:
            plan.created.append(row)
        elif row.recorded_at > known.recorded_at and row.get("checkpoint_id") != known.checkpoint_id:
            plan.updated.append(row)
        elif filling := _filling(row, known):
            plan.filled.append(filling)
        else:
            plan.unchanged.append(row.thread_id)
    return plan


def _filling(row: Row, known: _There) -> Row | None:
    """Return the event that fills what is NULL, older than what is there; no version of its own, since its content was never new."""
    pairs = [
        (Slot(slot.name, slot.sql_type, "fill", "field"), value)
        for slot, value in zip(row.shape, row.values, strict=True)
        if slot.name in known.empty and slot.mode != "default" and value is not None
    ]
    if not pairs:
        return None
    return row._replace(
        recorded_at=min(row.recorded_at, known.recorded_at - 1),
        shape=tuple(slot for slot, _ in pairs),
        values=tuple(value for _, value in pairs),
    )


def _known(table: Table, threads: Sequence[str]) -> Query[dict[str, _There]]:
    fields = _fields(table)

    def read(rows: Rows, _: int) -> dict[str, _There]:
        return {
            thread_id: _There(
                to_microseconds(at),
                checkpoint_id,
                frozenset(name for name, is_empty in zip(fields, empty, strict=True) if is_empty),
            )
            for thread_id, at, checkpoint_id, empty in rows
        }

    return Query(_knowing(table, fields), {"threads": list(threads)}, read)


def _fields(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.kind != "own")


@lru_cache(maxsize=64)
def _knowing(table: Table, fields: tuple[str, ...]) -> bytes:
    empty = SQL(", ").join(SQL("{} IS NULL").format(name(field)) for field in fields)
    return statement(load("known"), table=table.full, empty=empty)
