"""Recording without a Postgres: a sink that keeps in memory what the table would hold, and a recorder on it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..clock import to_datetime
from ..encode import thread_key
from ..recorder import SessionRecorder
from ..records import ProblemSession
from ..session import Session
from ..store import SessionStore
from ..writer import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..record import SessionRecord
    from ..row import Row, Value

_NOWHERE: Final = "host=memory.invalid"
_READ: Final[dict[str, Callable[[Any], Any]]] = {"jsonb": orjson.loads, "timestamptz": datetime.fromisoformat}


class MemorySink:
    """Keep rows as the table would: a newer event overwrites what it carries, an older one fills only fields that are NULL.

    ``events`` are all that were written, in the order in which they came.
    """

    def __init__(self) -> None:
        self.events: list[Row] = []
        self._rows: dict[str, dict[str, Value]] = {}
        self._types: dict[str, str] = {}
        self._times: dict[str, int] = {}

    def open(self) -> None:
        """Do nothing: memory is always there."""

    def write(self, rows: Sequence[Row]) -> Written:
        """Keep the events; one that is written again changes nothing."""
        self.events += rows
        stored = sum(map(self._keep, rows))
        return Written(stored, len(rows) - stored)

    def close(self) -> None:
        """Do nothing: what was written stays readable."""

    def forget(self) -> None:
        """Do nothing: a forked child has a memory of its own."""

    def get(self, thread_id: object) -> Session | None:
        """Return the row of a thread, with JSON and times read; None if there is none.

        Columns that no event carried are missing; the table would have NULL, or what its triggers make.
        """
        key = thread_key(thread_id)
        if key not in self._rows:
            return None
        read = {name: self._value(name, value) for name, value in self._rows[key].items()}
        return Session({"thread_id": key, **read, "recorded_at": to_datetime(self._times[key])})

    def _value(self, name: str, value: Value) -> object:
        return None if value is None else _READ.get(self._types[name], lambda same: same)(value)

    def _keep(self, event: Row) -> bool:
        self._types |= {slot.name: slot.sql_type for slot in event.shape}
        known = self._rows.get(event.thread_id)
        if known is None:
            later = 1
            changes = dict(zip((slot.name for slot in event.shape), event.values, strict=True))
        else:
            later = event.recorded_at - self._times[event.thread_id]
            changes = _changes(known, event, later)
        self._rows[event.thread_id] = {**(known or {}), **changes}
        self._times[event.thread_id] = max(self._times.get(event.thread_id, 0), event.recorded_at)
        return later > 0 or bool(changes)  # what is newer moves the time, also where it changes nothing else


def _changes(known: dict[str, Value], event: Row, later: int) -> dict[str, Value]:
    """Return what an event changes in a row that is there, *later* microseconds after what the row last heard."""
    changes: dict[str, Value] = {}
    for slot, value in zip(event.shape, event.values, strict=True):
        empty = known.get(slot.name) is None
        overwrites = later > 0 and slot.mode == "set"
        fills = empty and value is not None and (later > 0 or (later < 0 and slot.kind != "own"))
        if slot.mode != "default" and (overwrites or fills):
            changes[slot.name] = value
    return changes


class MemoryRecorder(SessionRecorder):
    """A `SessionRecorder` that needs neither Postgres nor disk: for tests of what an agent records.

    *options* are those of `SessionRecorder`; `get` reads the row of a thread back.
    """

    def __init__(self, record: type[SessionRecord] = ProblemSession, **options: Any) -> None:
        self.sink = MemorySink()
        super().__init__(SessionStore(_NOWHERE, record=record), sink=self.sink, **{"durability": "memory", **options})

    def get(self, thread_id: object) -> Session | None:
        """Return the row of a thread, None if there is none, once all that was recorded before has arrived."""
        self.flush()
        return self.sink.get(thread_id)
