"""Payloads as events: read from a source onto the database's clock, with the runs that are still in flight in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ..row import Row, Value, dumps, loads, merge, own
from ..sharing import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..clock import Clock
    from ..spool.journal import Counts

UNSURE: Final = 20_000
"""Microseconds by which two processes' corrections of one unanchored time may differ: some round trips.

Within them a run that died could win over the next one of its thread; beyond them it could stay ``running``, which is the lesser evil.
"""


class Source(Protocol):
    """Where batches come from: the spool of this process, its memory queue, or what a dead process left."""

    same_boot: bool

    def read(self, most: int, most_bytes: int) -> list[bytes]:
        """Return the payloads behind those that were read, none if there are none (yet)."""
        ...

    @property
    def more(self) -> bool:
        """Whether anything is left behind what was read."""
        ...

    def acknowledge(self, open_runs: Sequence[bytes]) -> None:
        """Settle the oldest read, and remember *open_runs* for whoever comes after this process."""

    def rewind(self) -> None:
        """Take what was read and not acknowledged as not read."""

    def snapshot(self) -> Counts:
        """Return the counters as of one moment."""
        ...


class Feed:
    """A *source* of events, and the runs of which it held the start but not yet the end."""

    def __init__(self, source: Source, open_runs: Sequence[bytes] | None = None) -> None:
        self.source = source
        self._inherited = open_runs is not None
        self._origin: int | None = None  # of the source's monotonic clock, on the database's
        # One for each thread: once it begins another run, nothing that an older one's death could say would count.
        self._open: dict[str, tuple[int, bytes]] = {}
        runs, self.unreadable = _parsed(open_runs or ())
        """Those of *open_runs* that are none: another version of this package wrote them."""
        self._open.update((run.thread_id, (run.begun_at, dumps(run))) for run in runs)

    @property
    def open_runs(self) -> list[bytes]:
        """One payload for each run in flight."""
        return [payload for _, payload in self._open.values()]

    def read(self, most: int, most_bytes: int) -> tuple[list[Row], list[bytes]]:
        """Return the next events, and the payloads that are none."""
        return _parsed(self.source.read(most, most_bytes))

    def prepare(self, rows: Sequence[Row], clock: Clock) -> list[Row]:
        """Return *rows* on the database's clock where that can be known."""
        if self._origin is None:
            self._origin = self._heard(rows, clock)
        return list(map(self._corrected, rows))

    def acknowledge(self, rows: Sequence[Row], prepared: Sequence[Row]) -> None:
        """Settle the oldest read, whose *rows* are *prepared*, and note which runs they start and end."""
        begun: dict[str, Row] = {}
        for raw, row in zip(rows, prepared, strict=True):
            self._note(raw, row, begun)
        # Only now: most runs that start in a batch end in it.
        self._open.update((thread, (run.begun_at, dumps(run))) for thread, run in begun.items())
        self.source.acknowledge(self.open_runs)

    def abandoned(self) -> list[Row]:
        """Return an event for each run in flight, whose process is dead: older than whatever another process wrote since."""
        return [
            run._replace(recorded_at=run.recorded_at + 1, shape=(own("workflow_status"),), values=("abandoned",))
            for run in map(loads, self.open_runs)
        ]

    def _heard(self, rows: Sequence[Row], clock: Clock) -> int | None:
        """Return where the source's monotonic clock began, None if that is not known.

        A dead process's own contact with the database says it best: what it did before then stays before what it did after.
        """
        contact = next((row for row in rows if row.anchored), None) if self._inherited else None
        if contact is not None:
            return contact.recorded_at - contact.monotonic
        return clock.early(0) if self.source.same_boot and clock.anchored else None

    def _corrected(self, row: Row) -> Row:
        if row.anchored or self._origin is None:
            return row
        return row.shifted(self._origin + row.monotonic - row.recorded_at)

    def _note(self, raw: Row, row: Row, starts: dict[str, Row]) -> None:
        """Follow the run that *raw* belongs to, by its start as the process believed it to be: all its events carry that."""
        status, thread = raw.get("workflow_status"), raw.thread_id
        begun = starts[thread].begun_at if thread in starts else self._open.get(thread, (None,))[0]
        if status == "running" and begun != raw.begun_at:
            moment = row.recorded_at if raw.anchored else row.recorded_at + UNSURE
            starts[thread] = row._replace(recorded_at=moment, begun_at=raw.begun_at, shape=(), values=())
        elif status not in ("running", None) and begun == raw.begun_at:
            starts.pop(thread, None)
            self._open.pop(thread, None)


def _parsed(payloads: Sequence[bytes]) -> tuple[list[Row], list[bytes]]:
    """Return the events among *payloads*, and the payloads that are none."""
    rows, rejected = [], []
    for payload in share(payloads):
        try:
            rows.append(loads(payload))
        except (ValueError, TypeError):
            rejected.append(payload)
    return rows, rejected


def merge_payloads(payloads: Sequence[bytes]) -> list[bytes]:
    """Return fewer events that do what *payloads*, of one thread, do one after the other, and make the same history."""
    merged: list[Row] = []
    rows = sorted(map(loads, payloads), key=lambda row: row.recorded_at)
    if len({(row.thread_id, row.anchored) for row in rows}) > 1:
        return list(payloads)  # keys are cut where ids are very long, and two clocks tell no order
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
