"""One batch on its way into the sink: split around what the sink refuses, resumed after what passes.

The sink alone knows the driver's errors and says one of three things about a failed write: try again, nobody can write now, or these
values are bad. Bad rows are found by halving, kept aside, and still leave a row that shows that the run took place.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

import orjson

from ..row import Row, dumps, own

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DRIFT: Final = 10  # threads that all fail in the same way: then the table changed, not the values
PATIENCE: Final = 5  # timeouts of a single row before it counts as bad
_SHOWN: Final = frozenset({"workflow_status", "started_at", "finished_at", "duration_seconds"})


class Written(NamedTuple):
    """How many events changed the table, and how many said nothing new."""

    stored: int = 0
    superseded: int = 0

    def __add__(self, other: tuple[int, ...]) -> Written:  # type: ignore[override]  # a sum, not a concatenation
        return Written(self.stored + other[0], self.superseded + other[1])


class SinkError(Exception):
    """A write that failed, in one of three ways.

    *code* is an SQLSTATE or the name of an exception, nothing that could be secret. *written* and *rest* say how far a write of
    several transactions came: without *rest*, nothing was written.
    """

    split = False
    """Whether smaller parts may fare better: they are written at once, so the sink stays open."""

    def __init__(self, code: str, *, written: Written | None = None, rest: Sequence[Row] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.written = written or Written()
        self.rest = rest


class Retry(SinkError):  # noqa: N818 - what to do, not what it is
    """An outage, which passes: the same rows are written again, without a limit. *split*: it took too long, so in halves."""

    def __init__(
        self, code: str, *, split: bool = False, written: Written | None = None, rest: Sequence[Row] | None = None
    ) -> None:
        super().__init__(code, written=written, rest=rest)
        self.split = split


class Block(SinkError):  # noqa: N818 - what to do, not what it is
    """Nothing can be written until somebody repairs the table, the rights or the login; nothing is given up."""


class Poison(SinkError):  # noqa: N818 - what to do, not what it is
    """One of these rows has values that will never be accepted."""

    split = True


class Sink(Protocol):
    """Where rows go. Only one thread uses a sink; `open` and `write` raise nothing but `SinkError`."""

    def open(self) -> None:
        """Connect unless connected, and anchor the clock of the events; raises Retry or Block."""

    def write(self, rows: Sequence[Row]) -> Written:
        """Store the events *rows*, which come in the order of their source; a row that is written again changes nothing."""
        ...

    def close(self) -> None:
        """Disconnect; a later `open` connects again."""

    def forget(self) -> None:
        """Drop what a forked child inherited, without a word to the server, whose connection is the parent's."""


@runtime_checkable
class EagerSink(Sink, Protocol):
    """A sink that makes the next write ready while its server works on this one."""

    coming: Callable[[], Sequence[Row]] | None
    """Returns the rows that the next write will have, as the same object, or none; the writer sets it."""


class Delivery:
    """A batch of events of which `step` writes one part at a time; a step that failed is repeated by the next.

    *keep* puts the payload of a bad row aside.
    """

    def __init__(self, rows: Sequence[Row], keep: Callable[[bytes], object]) -> None:
        self.written = Written()
        self.quarantined = 0
        self._rows = rows
        self._keep = keep
        self._parts = deque([rows] if rows else [])
        self._refused: deque[tuple[Row, str]] = deque()
        self._timeouts = 0

    @property
    def finished(self) -> bool:
        """Whether every event of the batch is stored, superseded or quarantined."""
        return not (self._parts or self._refused)

    def step(self, sink: Sink, *, probe: bool = False) -> None:
        """Write the next part, after an outage (*probe*) a single row first; raises Retry or Block."""
        if not self._parts:
            self._degrade(sink)
            return
        part = self._parts.popleft()
        if probe and len(part) > 1:
            self._parts.appendleft(part[1:])
            part = part[:1]
        try:
            self.written += sink.write(part)
        except SinkError as error:
            self.written += error.written
            self._failed(error, part if error.rest is None else error.rest)
        if not self._parts:
            self._check_drift()

    def _failed(self, error: SinkError, part: Sequence[Row]) -> None:
        if error.split and len(part) > 1:
            half = len(part) // 2
            self._parts.extendleft((part[half:], part[:half]))
            return
        if isinstance(error, Retry) and error.split:
            self._timeouts += 1
        if isinstance(error, Poison) or self._timeouts >= PATIENCE:
            self._timeouts = 0
            self._refused.append((part[0], error.code))
            return
        self._parts.appendleft(part)
        raise error

    def _check_drift(self) -> None:
        """Raise Block when the table refused everything, and in one way: quarantining it all would be the wrong cure."""
        codes = {code for _, code in self._refused}
        if not any(self.written) and len(codes) == 1 and len({row.thread_id for row, _ in self._refused}) >= DRIFT:
            self._refused.clear()
            self._parts.append(self._rows)
            raise Block(codes.pop())

    def _degrade(self, sink: Sink) -> None:
        """Write in place of the next refused row one that the table accepts, then put the payload aside."""
        row, code = self._refused[0]
        shown = degraded(row, f"Postgres refused the row ({code}); its payload is in the spool's quarantine")
        for harmless in (shown, _bare(shown)):
            try:
                sink.write([harmless])
            except Poison:
                continue
            self._keep(dumps(row))
            self._refused.popleft()
            self.quarantined += 1
            return
        self._parts.append([refused for refused, _ in self._refused])
        self._refused.clear()
        raise Block(code)  # it was not the values


def degraded(row: Row, reason: str) -> Row:
    """Return what every table accepts of *row*: the status, the times, and in ``rejected`` why there is no more."""
    slots = [
        pair for pair in zip(row.shape, row.values, strict=True) if pair[0].kind == "own" and pair[0].name in _SHOWN
    ]
    slots.append((own("rejected"), orjson.dumps({"*": {"reason": reason}}).decode()))
    return Row(
        row.thread_id,
        row.recorded_at,
        row.begun_at,
        row.monotonic,
        row.anchored,
        tuple(slot for slot, _ in slots),
        tuple(value for _, value in slots),
    )


def _bare(row: Row) -> Row:
    return Row(
        row.thread_id, row.recorded_at, row.begun_at, row.monotonic, row.anchored, row.shape[-1:], row.values[-1:]
    )
