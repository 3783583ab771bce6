"""One event of a run on its way into the table: plain values that describe themselves, and how two of them merge.

A `Row` knows no record class: each slot names its column, SQL type and the way its value is written, so that any process can
store what another one left behind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import orjson

from .columns import OWN, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Value = str | int | float | bool | None
"""What a slot holds: jsonb as JSON text, times as ISO 8601 text with an offset, numerics as text."""

Mode = Literal["set", "fill", "default"]
"""*set*: a newer event overwrites; *fill*: only where the row has NULL; *default*: only in a new row."""


class Slot(NamedTuple):
    """One column that an event carries, without its value."""

    name: str
    sql_type: str
    mode: Mode
    kind: Kind


Shape = tuple[Slot, ...]
"""The slots of an event, in order. Rows of one shape share one statement."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one event wrote about one thread.

    ``recorded_at`` and ``begun_at`` (the start of the event's run) are microseconds since the epoch, on the database's clock where
    ``anchored``; ``monotonic`` is the same moment on this boot's monotonic clock, by which a drain corrects what was recorded
    before the first contact with the database. ``values`` stand in the order of ``shape``.
    """

    thread_id: str
    recorded_at: int
    begun_at: int
    monotonic: int
    anchored: bool
    shape: Shape
    values: tuple[Value, ...]

    def get(self, name: str) -> Value:
        """Return the value of the slot *name*, None where the row does not carry it."""
        for slot, value in zip(self.shape, self.values, strict=True):
            if slot.name == name:
                return value
        return None

    def shifted(self, microseconds: int) -> Row:
        """Return the row on the database's clock, *microseconds* later than the process believed."""
        return replace(
            self, recorded_at=self.recorded_at + microseconds, begun_at=self.begun_at + microseconds, anchored=True
        )


def own(name: str, mode: Mode = "set") -> Slot:
    """Return the slot of one of the store's own columns."""
    return Slot(name, OWN[name].sql_type, mode, "own")


def merge(rows: Iterable[Row]) -> Row:
    """Return one row that does what *rows* of one thread would do one after the other, in the order of their times."""
    ordered = sorted(rows, key=lambda row: row.recorded_at)
    latest = ordered[-1]
    if len(ordered) == 1:
        return latest
    slots: dict[str, tuple[Slot, Value]] = {}
    for row in ordered:
        for slot, value in zip(row.shape, row.values, strict=True):
            known = slots.get(slot.name)
            slots[slot.name] = (slot, value) if known is None else _later(*known, slot, value)
    return replace(
        latest,
        shape=tuple(slot for slot, _ in slots.values()),
        values=tuple(value for _, value in slots.values()),
    )


def _later(old: Slot, known: Value, new: Slot, value: Value) -> tuple[Slot, Value]:
    if new.mode == "set":
        return new, value
    if new.mode == "fill" and (known is None or old.mode == "default"):
        return (old if old.mode == "set" else new), value
    return old, known


def dumps(row: Row) -> bytes:
    """Return *row* as JSON."""
    return orjson.dumps(
        {
            "thread_id": row.thread_id,
            "recorded_at": row.recorded_at,
            "begun_at": row.begun_at,
            "monotonic": row.monotonic,
            "anchored": row.anchored,
            "shape": _shape_json(row.shape),
            "values": row.values,
        }
    )


def loads(data: bytes | memoryview) -> Row:
    """Return the row that `dumps` wrote; ValueError, KeyError or TypeError on anything else."""
    raw = orjson.loads(data)
    shape = _shape(tuple(map(tuple, raw["shape"])))
    values = tuple(raw["values"])
    if len(shape) != len(values):
        raise ValueError(f"{len(shape)} slots but {len(values)} values")
    return Row(raw["thread_id"], raw["recorded_at"], raw["begun_at"], raw["monotonic"], raw["anchored"], shape, values)


@lru_cache(maxsize=256)
def _shape_json(shape: Shape) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps([list(slot) for slot in shape]))


@lru_cache(maxsize=256)
def _shape(raw: Sequence[tuple[str, str, Mode, Kind]]) -> Shape:
    return tuple(Slot(*slot) for slot in raw)
