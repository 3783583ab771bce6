"""One event of a run on its way into the table: plain values that describe themselves, and how two of them merge.

A `Row` knows no record class: each slot names its column, SQL type and the way its value is written, so that any process can
store what another one left behind.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

import orjson

from .columns import OWN, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

SHAPES: Final = 256
"""How many shapes are known at a time: there are a few for each record."""

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


def per_shape(make: Callable[[Shape], T]) -> Callable[[Shape], T]:
    """Let *make* work once for each shape, which is one object for many rows: to hash it takes longer than most uses of the result."""
    known: dict[int, tuple[Shape, T]] = {}

    def made(shape: Shape) -> T:
        if (found := known.get(id(shape))) is None:
            if len(known) >= SHAPES:
                known.clear()
            found = known[id(shape)] = shape, make(shape)  # holding the shape, so that no other one gets its id
        return found[1]

    return made


@per_shape
def _places(shape: Shape) -> dict[str, int]:
    return {slot.name: at for at, slot in enumerate(shape)}


class Row(NamedTuple):
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
        at = _places(self.shape).get(name)
        return None if at is None else self.values[at]

    def shifted(self, microseconds: int) -> Row:
        """Return the row on the database's clock, *microseconds* later than the process believed."""
        return self._replace(
            recorded_at=self.recorded_at + microseconds, begun_at=self.begun_at + microseconds, anchored=True
        )


def own(name: str, mode: Mode = "set") -> Slot:
    """Return the slot of one of the store's own columns."""
    return Slot(name, OWN[name].sql_type, mode, "own")


def merge(rows: Iterable[Row]) -> Row:
    """Return one row that does what *rows* of one thread would do one after the other, in the order of their times."""
    return reduce(_after, sorted(rows, key=attrgetter("recorded_at")))


def _after(old: Row, new: Row) -> Row:
    shape, picked, fallbacks = _behind(new.shape)(old.shape)
    both = old.values + new.values
    values = [both[at] for at in picked]
    for at, other in fallbacks:
        if values[at] is None:
            values[at] = both[other]
    return Row(new.thread_id, new.recorded_at, new.begun_at, new.monotonic, new.anchored, shape, tuple(values))


Joint = tuple[Shape, list[int], list[tuple[int, int]]]
"""The shape of two rows as one, where the value of each slot is among those of both, and for some where it is if that is None."""


@per_shape
def _behind(new: Shape) -> Callable[[Shape], Joint]:
    return per_shape(lambda old: _joint(old, new))


def _joint(old: Shape, new: Shape) -> Joint:
    slots = {slot.name: (slot, at, at) for at, slot in enumerate(old)}
    for at, slot in enumerate(new, len(old)):
        known, there, _ = slots.get(slot.name, (slot, at, at))
        if slot.mode == "set" or (slot.mode == "fill" and known.mode == "default"):
            slots[slot.name] = slot, at, at
        elif slot.mode == "fill":
            slots[slot.name] = known, there, at
        else:
            slots.setdefault(slot.name, (slot, at, at))
    shape, picked, others = zip(*slots.values(), strict=True) if slots else ((), (), ())
    fallbacks = [(at, other) for at, (one, other) in enumerate(zip(picked, others, strict=True)) if one != other]
    return shape, list(picked), fallbacks


def dumps(row: Row) -> bytes:
    """Return *row* as two lines of JSON: its shape, which many rows share, and the rest."""
    rest = row.thread_id, row.recorded_at, row.begun_at, row.monotonic, row.anchored, row.values
    return _shape_json(row.shape) + orjson.dumps(rest)


def loads(data: bytes) -> Row:
    """Return the row that `dumps` wrote; ValueError or TypeError on anything else."""
    head, _, rest = data.partition(b"\n")
    shape = _shape(head)
    thread_id, recorded_at, begun_at, monotonic, anchored, values = orjson.loads(rest)
    if len(shape) != len(values):
        raise ValueError(f"{len(shape)} slots but {len(values)} values")
    return Row(thread_id, recorded_at, begun_at, monotonic, anchored, shape, tuple(values))


@per_shape
def _shape_json(shape: Shape) -> bytes:
    return orjson.dumps([list(slot) for slot in shape]) + b"\n"


@lru_cache(maxsize=SHAPES)
def _shape(head: bytes) -> Shape:
    return tuple(Slot(*slot) for slot in orjson.loads(head))
