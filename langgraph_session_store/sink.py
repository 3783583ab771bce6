"""Events into Postgres: one connection of the writer's own, and what each of the driver's errors means for a batch."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg.waiting import Wait

from .clock import monotonic
from .errors import DataError
from .queries.schema import describe
from .queries.writes import batches, clock, write
from .query import drive
from .writer import Block, Poison, Retry, SinkError, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .clock import Clock
    from .queries.writes import Batch
    from .query import Query, Steps, Table
    from .row import Row

T = TypeVar("T")

LOGIN: Final = 60.0  # seconds after which a login that is refused is no hiccup of a server that starts
LIMITS: Final = (
    b"SELECT set_config('statement_timeout', '15s', true), set_config('lock_timeout', '5s', true),"
    b" set_config('idle_in_transaction_session_timeout', '30s', true), set_config('enable_seqscan', 'off', true)"
)
"""In each transaction: as start-up options PgBouncer refuses them, and set for the session they leak to its other clients.

All that a batch reads it finds by thread, but of a table that was never analyzed the planner would read the whole, once for each batch.
"""

ANSWER: Final = 30.0  # seconds: twice what the server itself lets a statement take
SETUP: Final = 3600.0  # the same for setting the table up, which may build an index over many rows

_INHERITED: Final[list[object]] = []  # connections of a parent process: collecting one would speak on its socket

_RETRY: Final = ("08", "25", "26", "40", "42P05", "53", "55", "57", "58", "XX000")
_POISON: Final = ("21", "22", "23", "42601", "54")
_LOGIN: Final = ("authentication failed", "does not exist", "no pg_hba.conf entry", "not permitted to log in")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up on a server which accepts everything and answers nothing.

    The kernel of a frozen host, or a proxy in between, acknowledges what is sent: no socket option notices.
    """

    answer = ANSWER
    meanwhile: Callable[[], object] | None = None
    """What to do once, when the next statement is sent: the server works on it at the same time."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Wait for a step of the protocol; OperationalError after `answer` seconds, with the connection closed."""
        return super().wait(self._within(gen), *args, **options)

    def _within(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + self.answer
        try:
            wanted = next(gen)
            while True:
                if self.meanwhile is not None and wanted == Wait.R:
                    work, self.meanwhile = self.meanwhile, None
                    work()
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.close()
                    raise psycopg.OperationalError("no answer")
                wanted = gen.send(ready)
        except StopIteration as stop:
            result: T = stop.value
            return result


class PostgresSink:
    """Write events into *table*, on a connection with the arguments that *connect* returns.

    *setup* yields the statements that create or upgrade the table; they run in one transaction before the first write, and again
    when the table turns out to be missing or of another shape. *clock* is anchored at each connect.
    """

    def __init__(
        self,
        connect: Callable[[], dict[str, Any]],
        table: Table,
        *,
        clock: Clock,
        setup: Callable[[], Steps[object]] | None = None,
    ) -> None:
        self._connect = connect
        self._table = table
        self._clock = clock
        self._setup = setup
        self._ready = False
        self._connection: Connection | None = None
        self._refused_since: float | None = None
        self.coming: Callable[[], Sequence[Row]] | None = None
        self._ahead: tuple[Sequence[Row], list[Batch]] = (), []

    def open(self) -> None:
        """Connect unless connected, anchor the clock, and set the table up if that was not done yet."""
        if self._connection is not None and not self._connection.closed:
            return
        try:
            arguments = {**self._connect(), "autocommit": True, "prepare_threshold": None}
            self._connection = Connection.connect(**arguments)
        except Exception as error:
            raise self._unreachable(error) from None
        self._refused_since = None
        try:
            before = monotonic()
            now = self._run(clock())
            self._clock.anchor(now, (before + monotonic()) // 2)
            if not self._ready:
                self._prepare(self._connection)
        except Exception as error:
            failure = self._failed(error)
            self.close()  # whatever it was: what is connected counts as set up
            raise failure from None

    def write(self, rows: Sequence[Row]) -> Written:
        """Store the events, merged by thread, with one transaction for each shape; a replayed event changes nothing."""
        written = Written()
        left: list[Batch] = []
        try:
            assert self._connection is not None
            (early, left), self._ahead = self._ahead, ((), [])
            if early is not rows:
                left = batches(rows)
            while left:
                with self._connection.transaction():
                    self._connection.execute(LIMITS)
                    done = drive(write(self._table, left[0]), self._run)
                written += Written(done.stored, done.superseded)
                del left[0]
        except Exception as error:
            rest = [event for batch in left for event in batch.events] or rows
            raise self._failed(error, written, rest) from None
        return written

    def _look_ahead(self) -> None:
        """Do what the next write can have done before, while the server works; what goes wrong here goes wrong there once more."""
        with suppress(Exception):
            if self.coming is not None and not self._ahead[0] and (rows := self.coming()):
                self._ahead = rows, [batch.make_ready() for batch in batches(rows)]

    def close(self) -> None:
        """Disconnect; a later `open` connects again."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None

    def forget(self) -> None:
        """Drop the connection that a forked child inherited, without a word to the server."""
        if self._connection is not None:
            _INHERITED.append(self._connection)
        self._connection = None

    def _prepare(self, connection: Connection) -> None:
        if self._setup is not None:
            connection.answer = SETUP
            with connection.transaction():
                drive(self._setup(), self._run)
            del connection.answer
        if not self._table.columns:  # rows that a dead process left, without their record class
            self._table = self._run(describe(self._table))
        self._ready = True

    def _run(self, query: Query[Any]) -> Any:
        assert self._connection is not None
        if query.long:
            self._connection.meanwhile = self._look_ahead
        cursor = self._connection.execute(query.sql, query.params)
        return query.read(cursor.fetchall() if cursor.description else [], cursor.rowcount)

    def _unreachable(self, error: Exception) -> SinkError:
        """Judge an error of connecting: never the rows' fault, and without an SQLSTATE, so only the text tells a login from an outage."""
        code = getattr(error, "sqlstate", None) or type(error).__name__
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        refused = code[:2] in ("28", "3D") or any(text in str(error) for text in _LOGIN)
        return Block(code) if refused and now - self._refused_since >= LOGIN else Retry(code)

    def _failed(self, error: Exception, written: Written | None = None, rest: Sequence[Row] | None = None) -> SinkError:
        kind, code = classify(error)
        failure = kind(code, written=written, rest=rest)
        if isinstance(failure, Retry):
            failure.split = code == "57014"
        if not failure.split:  # else its parts follow at once
            self.close()  # also where it may still work: a standby, a pooler or a rolled-back role needs a new one
        if kind is Block:
            self._ready = False
        return failure


def classify(error: Exception) -> tuple[type[Retry | Block | Poison], str]:
    """Return what an error while writing means, and its SQLSTATE or, where it has none, its name.

    Whatever is not known blocks: that loses nothing, and somebody looks.
    """
    code: str | None = getattr(error, "sqlstate", None)
    if code is not None:
        if code.startswith(_RETRY):
            return Retry, code
        return (Poison if code.startswith(_POISON) else Block), code
    name = type(error).__name__
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, OSError, MemoryError)):
        return Retry, name
    # Values that Python or the driver cannot turn into bytes fail before anything is sent.
    unsendable = (
        psycopg.DataError,
        psycopg.ProgrammingError,
        DataError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    )
    return (Poison if isinstance(error, unsendable) else Block), name
