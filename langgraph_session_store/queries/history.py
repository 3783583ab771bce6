"""History lines from events: which of them changed the content of the versioned fields; pure.

Digests tell a change without reading the content back, and are made from what was sent: jsonb comes back in another spelling.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from ..row import per_shape
from ..sharing import share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..row import Row, Shape, Slot, Value

_LIKENESS: Final = bytes(ord("0") if byte in b"0123456789" else byte for byte in range(256)).replace(b"E", b"e")
_UNSURE: Final = b"0.0", b"0e", b"0" * 19
"""In the likeness of a text, where all digits are 0: what may be a number that has several spellings, or that orjson cuts."""
_DIGITS: Final = 400  # a double has 308 at most

_time = attrgetter("recorded_at")


class Line(NamedTuple):
    """One state of a thread's versioned fields: ``recorded_at`` in microseconds, contents as text, one digest per field."""

    thread_id: str
    recorded_at: int
    run_id: str | None
    digests: Mapping[str, str | None]
    contents: Mapping[str, str | None]

    def like(self, other: Line | None) -> bool:
        """Return whether *other* has the same contents; a field that it does not know is NULL there."""
        if other is None or self.digests == other.digests:
            return other is not None
        names = self.digests.keys() | other.digests.keys()
        return all(self.digests.get(name) == other.digests.get(name) for name in names)


class Change(NamedTuple):
    """What one event says of the versioned fields: the ``fields`` that it carries, their contents as text and their digests."""

    thread_id: str
    recorded_at: int
    run_id: str | None
    fields: tuple[Slot, ...]
    digests: Mapping[str, str | None]
    contents: Mapping[str, str | None]


def changes(events: Iterable[Row]) -> list[Change]:
    """Return what those of *events* say that carry versioned fields."""
    return [_change(event, *carried) for event in share(events) if (carried := _carried(event.shape))[0]]


Part = tuple[int, str, "Callable[[str], str]"]
"""Where an event has the value of a versioned field, the field's name, and what makes digests of its texts."""


@per_shape
def _carried(shape: Shape) -> tuple[tuple[Slot, ...], list[Part], int | None]:
    """Return the versioned fields, how each is read, and where the run's value is."""
    parts = [
        (at, slot.name, _DIGESTS.get(slot.sql_type, _digest))
        for at, slot in enumerate(shape)
        if slot.kind == "versioned"
    ]
    run_at = next((at for at, slot in enumerate(shape) if slot.name == "run_id"), None)
    return tuple(shape[at] for at, _, _ in parts), parts, run_at


def _change(event: Row, fields: tuple[Slot, ...], parts: list[Part], run_at: int | None) -> Change:
    values = event.values
    digests: dict[str, str | None] = {}
    contents: dict[str, str | None] = {}
    for at, name, digest in parts:
        contents[name] = text = _text(values[at])
        digests[name] = None if text is None else digest(text)
    run_id = None if run_at is None else _text(values[run_at])
    return Change(event.thread_id, event.recorded_at, run_id, fields, digests, contents)


def new_lines(known: Iterable[Line], said: Iterable[Change], run_id: str | None = None) -> list[Line]:
    """Return the lines that what was *said* of one thread adds to those that are *known*, both in any order.

    *run_id* is the MLflow run for changes that carry none.

    A change keeps the rest of its predecessor in time. It makes a line where that differs from the line before it and the one behind
    it, and where anything is left that is not NULL.
    """
    lines = sorted(known, key=_time)
    added = []
    for change in sorted(said, key=_time):
        at = bisect_right(lines, change.recorded_at, key=_time) if lines else 0
        before = lines[at - 1] if at else None
        after = lines[at] if at < len(lines) else None
        if before is not None and before.recorded_at == change.recorded_at:
            continue  # a replay
        line = _line(before, change, change.run_id or run_id)
        if not any(line.digests.values()) or line.like(before) or line.like(after):
            continue
        lines.insert(at, line)
        added.append(line)
    return added


def as_newest(said: Iterable[Change], lines: Iterable[Line]) -> list[Change]:
    """Return what was *said*, moved together behind all *lines* where one of it is not."""
    moved = list(said)
    late = max((line.recorded_at for line in lines), default=0) + 1 - min(change.recorded_at for change in moved)
    return [change._replace(recorded_at=change.recorded_at + late) for change in moved] if late > 0 else moved


def _line(before: Line | None, change: Change, run_id: str | None) -> Line:
    digests, contents = change.digests, change.contents
    if before is not None:
        said = [slot.name for slot in change.fields if _says(slot, before)]
        digests = {**before.digests, **{name: digests[name] for name in said}}
        contents = {**before.contents, **{name: contents[name] for name in said}}
    return Line(change.thread_id, change.recorded_at, run_id, digests, contents)


def _says(slot: Slot, before: Line) -> bool:
    return slot.mode == "set" or (slot.mode == "fill" and before.digests.get(slot.name) is None)


def _text(value: Value) -> str | None:
    if isinstance(value, str) or value is None:
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _digest_json(text: str) -> str:
    """Return the digest of one spelling of JSON for all that jsonb takes for the same."""
    data = text.encode()
    likeness = data.translate(_LIKENESS)
    if max(map(likeness.rfind, _UNSURE)) >= 0:  # from the end, which takes half as long as `in`
        value = json.loads(text, parse_float=_number)
        return _digest(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")))
    return blake2b(orjson.dumps(orjson.loads(data), option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


_DIGESTS: Final[dict[str, Callable[[str], str]]] = {
    "jsonb": _digest_json,
    "boolean": lru_cache(maxsize=8)(_digest),
}


def _number(text: str) -> int | float:
    """Return an integer for what is one: jsonb keeps 1e16 as 10000000000000000."""
    number = Decimal(text)
    return int(number) if number.adjusted() < _DIGITS and number == number.to_integral_value() else float(text)
