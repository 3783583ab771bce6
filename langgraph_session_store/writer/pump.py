"""One batch after another from the feeds to the sink, in turns of whoever calls: the writer's thread, or ``session-store drain``.

Feeds are the queues of this process and, one at a time, what a dead process left. An outage repeats a batch for ever, with growing
random pauses. Each event ends in exactly one counter.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final

from ..clock import monotonic
from ..logs import once_a_minute
from ..spool.aside import POISON, put_aside
from ..spool.journal import Counts, Orphan
from .delivery import Block, Delivery, EagerSink, Sink, SinkError, Written
from .feed import Feed, merge_payloads
from .stats import WriterStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..clock import Clock
    from ..row import Row
    from .intake import Intake
    from .stats import Durability, State

log = logging.getLogger(__name__)

LINGER: Final = 0.25  # seconds: a run's start and its end meet in one batch, and the graph keeps the GIL
SURVEY: Final = 5.0  # seconds between two looks at the disk and for dead processes
ROWS: Final = 1000  # events of a batch, at most
BYTES: Final = 2 << 20  # bytes of a batch, little more at most: the writer's memory
FIRST_PAUSE: Final = 0.25  # seconds, doubled with each failed attempt
LONGEST_PAUSE: Final = 5.0  # seconds between two attempts in an outage: one that comes and goes is not missed
BLOCKED_PAUSE: Final = 30.0  # seconds, up to twice as long, while somebody has to repair something


@dataclass(slots=True)
class _Hand:
    """The batch that is being written, or the next one."""

    feed: Feed
    rows: list[Row]
    rejected: list[bytes]
    more: bool
    """Whether others waited behind it."""
    prepared: list[Row] = field(default_factory=list)
    delivery: Delivery | None = None


class Pump:
    """Move events from *intake*, and from what dead processes left in its spool, to *sink*. One thread at a time takes turns.

    *batch*: how many times as many events go together as in a process that runs graphs.
    """

    def __init__(self, intake: Intake, sink: Sink, clock: Clock, *, batch: int = 1) -> None:
        self.progress = threading.Condition(threading.RLock())
        """Guards the counters; notified when some of them moved, or when an attempt failed."""
        self._written = Written()
        self._quarantined = self.retries = self._abandoned = 0
        self.state: State = "ok"
        self.last_error: str | None = None
        self._intake = intake
        self._sink = sink
        self._clock = clock
        self._batch = batch
        self._past = Counts()  # of sources that are gone
        self._orphan: Orphan | None = None
        self._orphan_feed: Feed | None = None
        self._hand: _Hand | None = None
        self._coming: _Hand | None = None
        if isinstance(sink, EagerSink):
            sink.coming = self._look_ahead
        self._failures = self._turns = 0
        self._next_survey = 0.0

    def turn(self) -> float | None:
        """Write one batch, or try to. Return the seconds to rest before the next turn, None if there was nothing to do."""
        self._look_after()
        began = time.monotonic()
        if (hand := self._take()) is None:
            return None
        try:
            self._write(hand)
        except SinkError as error:
            return self._failed(error)
        self._settle(hand)
        # A backlog is replayed at half speed: after an outage every process has one, and the database is only just up.
        backlog = hand.more or self._orphan is not None  # behind one dead process there may be many
        return time.monotonic() - began if backlog else LINGER

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, as far as is known without a turn."""
        return not (self._hand or self._orphan or self._intake.pending)

    def stats(self, mode: Durability) -> WriterStats:
        """Return the counters as of one moment."""
        intake = self._intake
        with self.progress:
            orphan = [self._orphan.snapshot()] if self._orphan else []
            counts, dropped = _sum([self._past, *intake.counts, *orphan]), intake.dropped
            return WriterStats(
                accepted=counts.appended + dropped,
                stored=self._written.stored,
                superseded=self._written.superseded + counts.merged,
                quarantined=self._quarantined + counts.unreadable,
                pending=counts.appended - counts.settled,
                dropped=dropped + counts.vanished,
                retries=self.retries,
                corrupt=counts.corrupt,
                torn=counts.torn,
                abandoned=self._abandoned,
                spool_bytes=intake.spool.bytes if intake.spool else 0,
                oldest_age=self._oldest_age(),
                last_error=self.last_error,
                clock_offset=self._clock.offset / 1e6 if self._clock.anchored else 0.0,
                mode="memory" if intake.diskless else mode,
                state=self.state,
            )

    def _oldest_age(self) -> float | None:
        if (hand := self._hand) and hand.rows:
            return max(0.0, (self._clock.at(monotonic()) - min(row.recorded_at for row in hand.rows)) / 1e6)
        return None if self.idle else 0.0

    def stop(self) -> None:
        """Put down what is in hand, leave the orphan to others and disconnect; `turn` may be called again."""
        with self.progress:
            for hand in (self._hand, self._coming):
                if hand is not None:
                    hand.feed.source.rewind()
            self._hand = self._coming = None
            if self._orphan is not None:
                self._orphan.release()
                self._drop_orphan()
        self._sink.close()
        self.tell()

    def inherited(self) -> None:
        """Close what a forked child has of its parent's; this pump is of no more use."""
        self._sink.forget()
        if self._orphan is not None:
            self._orphan.release()

    def forget(self, counts: Counts) -> None:
        """Count a source that was let go as if what is left in it had never come: whoever adopts it counts that."""
        self._next_survey = 0.0  # which this process may be
        self._past = _sum([self._past, replace(counts, appended=counts.settled)])

    def adopt(self) -> None:
        """Take over what a dead process left, unless there is such a thing in hand."""
        if self._intake.spool is None or self._orphan is not None:
            return
        if (orphan := next(self._intake.spool.adopt(), None)) is not None:
            with self.progress:
                self._orphan, self._orphan_feed = orphan, Feed(orphan, orphan.open_runs)
            for payload in self._orphan_feed.unreadable:
                self._keep(payload)

    def tell(self) -> None:
        """Log what went wrong since the last time, once a minute at most."""
        if self._intake.diskless:
            once_a_minute(log, "diskless", "the spool does not take events, memory does: %s", self._intake.diskless)
        for source in (self._intake.spool, self._orphan):
            while source is not None and source.problems:
                problem, message = source.problems.popitem()
                once_a_minute(log, problem, "%s", message)

    def _take(self) -> _Hand | None:
        """Return the batch in hand, or else the next one."""
        if self._hand is not None:
            return self._hand
        hand, self._coming = self._coming, None
        dead = self._orphan_feed
        if dead is not None and not dead.source.more and (hand is None or hand.feed is not dead):
            self._bury(dead)
        while hand is None and (hand := self._read()) is None:
            if self._orphan_feed is None:
                return None
            self._bury(self._orphan_feed)  # there may be another one
        for payload in hand.rejected:
            self._keep(payload)
        self._hand = hand
        return hand

    def _read(self) -> _Hand | None:
        self._turns += 1
        feeds = [*self._intake.feeds, *([self._orphan_feed] if self._orphan_feed else [])]
        for feed in reversed(feeds) if self._turns % 4 == 0 else feeds:  # the dead come first each fourth time
            rows, rejected = feed.read(self._batch * ROWS, self._batch * BYTES)
            if rows or rejected:
                return _Hand(feed, rows, rejected, feed.source.more)
        return None

    def _look_ahead(self) -> Sequence[Row]:
        """Read the batch behind the one that is being written, and return its events, none if there are none."""
        if self._coming is None and self._hand is not None and self._hand.more:
            self._coming = self._read()
            if self._coming is not None:
                self._prepare(self._coming)
        return self._coming.prepared if self._coming is not None else ()

    def _prepare(self, hand: _Hand) -> None:
        hand.prepared = hand.feed.prepare(hand.rows, self._clock)
        hand.delivery = Delivery(hand.prepared, self._keep)

    def _write(self, hand: _Hand) -> None:
        self._sink.open()
        if hand.delivery is None:
            self._prepare(hand)
        assert hand.delivery is not None
        while not hand.delivery.finished:
            hand.delivery.step(self._sink, probe=self._failures > 0)
            self._failures = 0
            self.state = "ok"

    def _settle(self, hand: _Hand) -> None:
        assert hand.delivery is not None
        with self.progress:
            hand.feed.acknowledge(hand.rows, hand.prepared)
            self._written += hand.delivery.written
            self._quarantined += hand.delivery.quarantined + len(hand.rejected)
            self._hand = None
            self.progress.notify_all()

    def _failed(self, error: SinkError) -> float:
        if isinstance(error, Block):
            state: State = "blocked"
            pause = random.uniform(BLOCKED_PAUSE, 2 * BLOCKED_PAUSE)  # noqa: S311 - spreads load, hides nothing
            message = "events wait until the table, the rights or the login are repaired: %s"
        else:
            state = "retrying"
            pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10)))  # noqa: S311
            message = "events wait, Postgres does not take them: %s"
        once_a_minute(log, state, message, error.code)
        with self.progress:
            self._failures += 1
            self.retries += 1
            self.state, self.last_error = state, error.code
            self.progress.notify_all()
        return pause

    def _keep(self, payload: bytes) -> None:
        name = put_aside(self._intake.root, POISON, payload)
        once_a_minute(log, "poison", "an event cannot be stored; its payload is in the quarantine: %s", name or "no")

    def _look_after(self) -> None:
        """See to the disk and to dead processes, every few seconds."""
        self.tell()
        spool, now = self._intake.spool, time.monotonic()
        if spool is not None and now >= self._next_survey:
            self._next_survey = now + SURVEY * random.uniform(0.8, 1.2)  # noqa: S311 - processes shall not meet
            spool.survey()
            if spool.crowded:
                spool.merge(merge_payloads)
            self.adopt()

    def _bury(self, feed: Feed) -> None:
        """Finish with the orphan, which is read to its end: the runs in flight in it are abandoned."""
        assert self._orphan is not None
        for row in feed.abandoned():
            self._intake.accept(row)
            self._abandoned += 1
        self._orphan.finish()
        with self.progress:
            self._drop_orphan()
        self.adopt()

    def _drop_orphan(self) -> None:
        if self._orphan is not None:
            self.forget(self._orphan.snapshot())
        self._orphan = self._orphan_feed = None


def _sum(counts: Iterable[Counts]) -> Counts:
    every = list(counts)
    return Counts(*(sum(getattr(one, field.name) for one in every) for field in fields(Counts)))
