"""History lines from events: which of them changed the content of the versioned fields; pure.

Digests tell a change without reading the content back, and are made from what was sent: jsonb comes back in another spelling.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..row import Row, Value

_LIKENESS: Final = bytes(ord("0") if byte in b"0123456789" else byte for byte in range(256)).replace(b"E", b"e")
_UNSURE: Final = b"0.0", b"0e", b"0" * 19
"""In the likeness of a text, where all digits are 0: what may be a number that has several spellings, or that orjson cuts."""
_DIGITS: Final = 400  # a double has 308 at most

_time = attrgetter("recorded_at")


@dataclass(frozen=True, slots=True)
class Line:
    """One state of a thread's versioned fields: ``recorded_at`` in microseconds, contents as text, one digest per field."""

    thread_id: str
    recorded_at: int
    run_id: str | None
    digests: dict[str, str | None]
    contents: dict[str, str | None]

    def like(self, other: Line | None) -> bool:
        """Return whether *other* has the same contents; a field that it does not know is NULL there."""
        if other is None or self.digests == other.digests:
            return other is not None
        names = self.digests.keys() | other.digests.keys()
        return all(self.digests.get(name) == other.digests.get(name) for name in names)


def new_lines(
    known: Iterable[Line], events: Iterable[Row], runs: Mapping[tuple[str, int], str | None] | None = None
) -> list[Line]:
    """Return the lines that the *events* of one thread add to those that are *known*, both in any order.

    *runs* gives the MLflow run by thread and begin of the run, for events that carry none.

    An event changes what it carries and keeps the rest of its predecessor in time. It makes a line where that differs from the
    line before it and the one behind it, and where anything is left that is not NULL.
    """
    lines = sorted(known, key=_time)
    added = []
    for event in sorted(events, key=_time):
        at = bisect_right(lines, event.recorded_at, key=_time)
        before = lines[at - 1] if at else None
        after = lines[at] if at < len(lines) else None
        if before is not None and before.recorded_at == event.recorded_at:
            continue  # a replay
        line = _line(before, event, (runs or {}).get((event.thread_id, event.begun_at)))
        if not any(line.digests.values()) or line.like(before) or line.like(after):
            continue
        lines.insert(at, line)
        added.append(line)
    return added


def as_newest(events: Iterable[Row], lines: Iterable[Line]) -> list[Row]:
    """Return *events*, moved together behind all *lines* where one of them is not."""
    moved = list(events)
    late = max((line.recorded_at for line in lines), default=0) + 1 - min(event.recorded_at for event in moved)
    return [event._replace(recorded_at=event.recorded_at + late) for event in moved] if late > 0 else moved


def _line(before: Line | None, event: Row, run_id: str | None) -> Line:
    contents = dict(before.contents) if before else {}
    digests = dict(before.digests) if before else {}
    for slot, value in zip(event.shape, event.values, strict=True):
        if slot.name == "run_id":
            run_id = _text(value) or run_id
        if slot.kind != "versioned" or (slot.mode == "default" and before is not None):
            continue
        if slot.mode == "fill" and digests.get(slot.name) is not None:
            continue
        contents[slot.name] = text = _text(value)
        digests[slot.name] = None if text is None else _digest(text, slot.sql_type)
    return Line(event.thread_id, event.recorded_at, run_id, digests, contents)


def _text(value: Value) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _digest(text: str, sql_type: str) -> str:
    data = _canonical(text) if sql_type == "jsonb" else text.encode()
    return blake2b(data, digest_size=8).hexdigest()


def _canonical(text: str) -> bytes:
    """Return one spelling of JSON for all that jsonb takes for the same."""
    data = text.encode()
    likeness = data.translate(_LIKENESS)
    if not any(number in likeness for number in _UNSURE):
        return orjson.dumps(orjson.loads(data), option=orjson.OPT_SORT_KEYS)
    value = json.loads(text, parse_float=_number)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _number(text: str) -> int | float:
    """Return an integer for what is one: jsonb keeps 1e16 as 10000000000000000."""
    number = Decimal(text)
    return int(number) if number.adjusted() < _DIGITS and number == number.to_integral_value() else float(text)
