"""Two sinks as one, which write the two halves of a batch at the same time: for bulk work that has the machine to itself.

No thread of the graph's is in both halves, so its events keep their order and merge as they would in one sink, and row locks do not meet.
Nothing outlives a write: neither a thread nor a lock that a fork could inherit held.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from ..logs import once_a_minute
from .delivery import Block, SinkError, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..row import Row
    from .delivery import EagerSink

    Halves = tuple[Sequence[Row], Sequence[Row]]

log = logging.getLogger(__name__)

WORTH: Final = 32  # events that are worth a second transaction


class PairedSink:
    """Write with *first* and, where there is enough to do, with *second* at once; with *first* alone where the server refuses the other.

    *second* is opened when it is first of use and whenever it lost its connection, until that fails once. *first* sets the table up.
    """

    def __init__(self, first: EagerSink, second: EagerSink) -> None:
        self.coming: Callable[[], Sequence[Row]] | None = None
        self._first, self._second = first, second
        self._alone = False
        self._looking = threading.Lock()
        self._ahead: tuple[Sequence[Row], Halves] = (), ((), ())
        first.coming, second.coming = partial(self._look_ahead, 0), partial(self._look_ahead, 1)

    def open(self) -> None:
        """Open the first sink."""
        self._first.open()

    def write(self, rows: Sequence[Row]) -> Written:
        """Store the events; what both sinks failed at is one error, with all that is left of both halves."""
        whole, halves = self._ahead
        mine, theirs = halves if whole is rows else divided(rows)
        if not theirs or not self._joined():
            return self._first.write(rows)
        with ThreadPoolExecutor(1) as other:  # its end waits for the other half, also when Ctrl-C ends this one
            writing = other.submit(self._second.write, theirs)
            return _sum(_tried(partial(self._first.write, mine), mine), _tried(writing.result, theirs))

    def close(self) -> None:
        """Disconnect both; a later `open` connects again."""
        self._first.close()
        self._second.close()

    def forget(self) -> None:
        """Drop what a forked child inherited of both."""
        self._first.forget()
        self._second.forget()

    def _joined(self) -> bool:
        """Return whether the second sink is open, which a server with few connections may refuse."""
        if not self._alone:
            try:
                self._second.open()
            except SinkError as error:
                self._alone = True
                once_a_minute(log, "alone", "one connection writes alone, there is no second: %s", error.code)
        return not self._alone

    def _look_ahead(self, half: int) -> Sequence[Row]:
        """Return a half of what the next write will have; whichever sink asks first reads it, in that sink's thread."""
        with self._looking:
            rows = self.coming() if self.coming is not None else ()
            if rows is not self._ahead[0]:
                self._ahead = rows, divided(rows)
            return self._ahead[1][half]


def divided(rows: Sequence[Row]) -> Halves:
    """Return two parts of *rows* with every other thread each, in their order; all and nothing where that is not worth it."""
    if len(rows) < WORTH:
        return rows, ()
    halves: tuple[list[Row], list[Row]] = [], []
    places: dict[str, int] = {}
    for row in rows:
        halves[places.setdefault(row.thread_id, len(places) % 2)].append(row)
    return halves if halves[1] else (rows, ())


Outcome = tuple[Written, "Sequence[Row]", SinkError | None]


def _tried(write: Callable[[], Written], rows: Sequence[Row]) -> Outcome:
    """Return what was written of *rows*, what is left, and why."""
    try:
        return write(), (), None
    except SinkError as error:
        return error.written, rows if error.rest is None else error.rest, error


def _sum(*outcomes: Outcome) -> Written:
    """Return what was written in all, or raise the error that says most of both halves, about all that is left."""
    written = Written()
    rest: list[Row] = []
    for one, left, _ in outcomes:
        written += one
        rest += left
    if errors := [error for _, _, error in outcomes if error is not None]:
        worst = min(errors, key=_urgency)
        worst.written, worst.rest = written, rest
        raise worst
    return written


def _urgency(error: SinkError) -> int:
    """Return a rank, the lowest first: what nobody can write, then what needs a pause and a connection, then what needs to be split."""
    if isinstance(error, Block):
        return 0
    return 2 if error.split else 1
