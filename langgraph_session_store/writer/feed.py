"""Payloads as events: read from a source onto the database's clock, with the runs that are still in flight in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from ..row import Row, Value, dumps, loads, merge, own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..clock import Clock
    from ..spool.journal import Counts

UNSURE: Final = 1_000_000
"""Microseconds by which two processes' corrections of one unanchored time may differ, with a wide margin."""


class Source(Protocol):
    """Where batches come from: the spool of this process, its memory queue, or what a dead process left."""

    same_boot: bool

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """Return the next payloads, none if there are none (yet)."""
        ...

    def acknowledge(self, open_runs: Sequence[bytes]) -> None:
        """Settle what was read, and remember *open_runs* for whoever comes after this process."""

    def snapshot(self) -> Counts:
        """Return the counters as of one moment."""
        ...


class Feed:
    """A *source* of events, and the runs of which it held the start but not yet the end."""

    def __init__(self, source: Source, open_runs: Sequence[bytes] = ()) -> None:
        self.source = source
        self._open: dict[tuple[str, int], bytes] = {}
        for payload in open_runs:
            run = loads(payload)
            self._open[run.thread_id, run.begun_at] = payload

    @property
    def open_runs(self) -> list[bytes]:
        """One payload for each run in flight."""
        return list(self._open.values())

    def read(self, most: int, most_bytes: int) -> tuple[list[Row], list[bytes]]:
        """Return the next events, and the payloads that are none."""
        rows, rejected = [], []
        for payload in self.source.read(most, most_bytes):
            try:
                rows.append(loads(payload))
            except (ValueError, KeyError, TypeError):
                rejected.append(payload)
        return rows, rejected

    def prepare(self, rows: Sequence[Row], clock: Clock) -> list[Row]:
        """Return *rows* on the database's clock where that can be known, and note which runs they start and end."""
        return [self._note(row, self._corrected(row, clock)) for row in rows]

    def acknowledge(self) -> None:
        """Settle what was read."""
        self.source.acknowledge(self.open_runs)

    def abandoned(self) -> list[Row]:
        """Return an event for each run in flight, whose process is dead: older than whatever another process wrote since."""
        return [
            replace(run, recorded_at=run.recorded_at + 1, shape=(own("workflow_status"),), values=("abandoned",))
            for run in map(loads, self._open.values())
        ]

    def _corrected(self, row: Row, clock: Clock) -> Row:
        if row.anchored or not (self.source.same_boot and clock.anchored):
            return row
        return row.shifted(clock.at(row.monotonic) - row.recorded_at)

    def _note(self, raw: Row, row: Row) -> Row:
        """Follow the run that *raw* belongs to, by its start as the process believed it to be: all its events carry that."""
        run, status = (raw.thread_id, raw.begun_at), raw.get("workflow_status")
        if status == "running":
            moment = row.recorded_at if raw.anchored else row.recorded_at + UNSURE
            self._open.setdefault(
                run, dumps(replace(row, recorded_at=moment, begun_at=raw.begun_at, shape=(), values=()))
            )
        elif status is not None:
            self._open.pop(run, None)
        return row


def merge_payloads(payloads: Sequence[bytes]) -> list[bytes]:
    """Return fewer events that do what *payloads*, of one thread, do one after the other, and make the same history."""
    merged: list[Row] = []
    rows = sorted(map(loads, payloads), key=lambda row: row.recorded_at)
    if any(row.thread_id != rows[0].thread_id for row in rows):
        return list(payloads)  # keys are cut where ids are very long
    for row in rows:
        if merged and not _makes_history(merged[-1], row):
            merged[-1] = merge((merged[-1], row))
        else:
            merged.append(row)
    return [dumps(row) for row in merged]


def _makes_history(row: Row, later: Row) -> bool:
    before = _versioned(row)
    return any(name in before and before[name] != value for name, value in _versioned(later).items())


def _versioned(row: Row) -> dict[str, Value]:
    return {slot.name: value for slot, value in zip(row.shape, row.values, strict=True) if slot.kind == "versioned"}
