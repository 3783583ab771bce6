"""Everything that changes rows: events, corrections, erasure. Pure: statements and the steps between them, no connection.

Writers of one table hold a shared lock until they commit, and who erases an exclusive one: so either an event finds the tombstone, or
the one who erases finds the row. Row locks are taken in the order of the threads' ids; those of one thread's upsert also keep
its history in order, because Postgres takes them even where the upsert then changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from psycopg.sql import SQL

from ..clock import to_datetime, to_microseconds
from ..encode import thread_key
from ..errors import FilterError
from ..filters.paging import Condition
from ..query import Query, Rows, Steps, Table, about, count, listed, name, nothing, single, statement
from ..row import Row, Shape, merge
from ..sharing import once, share
from ..sql import load
from .arrays import Array
from .history import changes
from .lines import add_lines
from .upsert import cast, columns, upsert

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from .history import Change

MATCHES: Final = 10_000
"""Threads that are looked for at once."""
PART: Final = 200
"""Threads that are erased in one transaction, while all writers wait: some milliseconds."""
_NEVER: Final = -(2**63)
_SKEW: Final = timedelta(minutes=1)  # that the clock of who says a moment may be ahead

_thread_id = attrgetter("thread_id")


@dataclass(frozen=True)
class Batch:
    """Events that one statement can write: merged ``rows`` of one shape and distinct threads, and the ``events`` in them."""

    shape: Shape
    rows: Sequence[Row]
    events: Sequence[Row]

    @once
    def values(self) -> dict[str, Array]:
        """The rows' values by parameter."""
        return columns(self.rows)

    @once
    def changes(self) -> list[Change]:
        """What the events say of the versioned fields."""
        return changes(self.events)

    def make_ready(self) -> Batch:
        """Do now what needs no database; errors are left to who writes it."""
        with suppress(Exception):
            assert self.changes is not None
            for array in self.values.values():
                assert array.data
        return self

    def without(self, erased: Mapping[bytes, int]) -> Batch:
        """Return the batch of the runs that began after their thread was *erased*."""
        if not erased:
            return self
        rows, events = (
            [row for row in some if row.begun_at > erased.get(thread_hash(row.thread_id), _NEVER)]
            for some in (self.rows, self.events)
        )
        return Batch(self.shape, rows, events)


@dataclass(frozen=True)
class Erased:
    """What `erase` removed, and when on the database's clock, in microseconds since the epoch."""

    rows: int
    at: int | None


@dataclass(frozen=True)
class Written:
    """What `write` did: the ids of the rows that changed, and how many events are in them or came too late."""

    ids: Mapping[str, UUID]
    stored: int
    superseded: int


def batches(events: Iterable[Row]) -> list[Batch]:
    """Return *events* merged, grouped by shape, and in an order in which they may be written.

    Events of one thread are merged where they belong to one run and no other run of the thread lies between them. Merging more would give
    values of an older run the time of a newer one, and then they would win over what another process wrote in between.
    """
    threads: dict[str, list[Row]] = defaultdict(list)
    for event in events:
        threads[event.thread_id].append(event)
    shapes: dict[Shape, Shape] = {}
    known: dict[int, Shape] = {}  # few objects, slow to hash
    groups: dict[tuple[int, int], tuple[Shape, list[Row], list[Row]]] = {}
    for thread_id in share(sorted(threads)):
        for turn, of_run in enumerate(_runs(threads[thread_id])):
            merged = of_run[0] if len(of_run) == 1 else merge(of_run)
            if (shape := known.get(id(merged.shape))) is None:
                shape = known[id(merged.shape)] = shapes.setdefault(merged.shape, merged.shape)
            _, rows, merged_events = groups.setdefault((turn, id(shape)), (shape, [], []))
            rows.append(merged)
            merged_events += of_run
    return [Batch(*group) for _, group in sorted(groups.items(), key=lambda item: item[0][0])]


def _runs(events: list[Row]) -> Iterable[list[Row]]:
    """Return the *events* of one thread in the order of their times, those of a run together."""
    if len(events) == 1:
        return [events]
    ordered = sorted(events, key=attrgetter("recorded_at"))
    return [list(run) for _, run in groupby(ordered, attrgetter("begun_at"))]


def write(table: Table, batch: Batch, *, guarded: bool = True) -> Steps[Written]:
    """Write *batch* and its history in one transaction of its own: batches of several shapes in one could deadlock.

    Unguarded rows win over whatever is there, older or not, erased or not.
    """
    yield lock(table, shared=True)
    standing = batch
    if guarded:
        standing = batch.without((yield tombstones(table, [row.thread_id for row in batch.rows])))
    ids: dict[str, UUID] = {}
    runs: dict[str, str | None] = {}
    applied: dict[str, int] = {}
    if standing.rows and (written := (yield upsert(table, batch.shape, standing.values, guarded=guarded))):
        threads, row_ids, run_ids, times = zip(*written, strict=True)
        ids, runs = dict(zip(threads, row_ids, strict=True)), dict(zip(threads, run_ids, strict=True))
        if guarded:
            applied = dict(zip(threads, map(to_microseconds, times), strict=True))
    yield from add_lines(table, standing.changes, runs, applied, newest=not guarded)
    stored = sum(map(ids.__contains__, map(_thread_id, standing.events)))
    return Written(ids, stored, len(batch.events) - stored)


def amend(table: Table, change: Row) -> Steps[bool]:
    """Set what *change* carries in the row of its thread and add it to the history; return whether there is such a row."""
    updates = SQL(", ").join(
        SQL("{} = {}").format(name(slot.name), cast(SQL(f"%(v{index})s"), slot.sql_type))
        for index, slot in enumerate(change.shape)
    )
    params = {f"v{index}": value for index, value in enumerate(change.values)} | {"thread_id": change.thread_id}
    runs = yield Query(statement(load("update"), table=table.full, updates=updates), params, listed)
    if not runs:
        return False
    yield from add_lines(table, changes([change]), {change.thread_id: runs[0][0]}, {}, newest=True)
    return True


def matching(table: Table, condition: Condition) -> Query[list[str]]:
    """Read the threads of at most `MATCHES` rows that meet *condition*, before any lock: to find them may take long."""
    params = {**condition.params, "most": MATCHES}
    return Query(statement(load("select_threads"), table=table.full, condition=condition.sql), params, _firsts)


def erase(table: Table, threads: Sequence[str], now: int, condition: Condition | None = None) -> Steps[Erased]:
    """Remove the rows and histories of *threads*, of those that meet *condition* (still), and leave tombstones.

    Runs that began before *now* on the caller's clock, or before the database's, are not stored any more. All writers wait meanwhile:
    many threads are erased some at a time, see `parts`.
    """
    yield lock(table)
    params: dict[str, Any] = {"threads": list(threads)}
    if condition is not None:
        both = SQL("thread_id = ANY (%(threads)b::text[]) AND ({})").format(condition.sql)
        params["threads"] = yield matching(table, Condition(both, condition.params | params))
    if not params["threads"]:
        return Erased(0, None)
    hashes = [thread_hash(thread_id) for thread_id in params["threads"]]
    at = yield Query(about("bury", table), {"hashes": hashes, "now": to_datetime(now)}, single)
    yield Query(about("delete_versions", table), params, nothing)
    removed = yield Query(about("delete_sessions", table), params, count)
    return Erased(removed, at)


def parts(threads: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield *threads* in pieces of which each is erased in a moment."""
    return (threads[at : at + PART] for at in range(0, len(threads), PART))


def _firsts(rows: Rows, _: int) -> list[str]:
    return [value for (value,) in rows]


def link_run(table: Table, thread_id: object, run_id: str) -> Query[int]:
    """Set the MLflow run of a session."""
    params = {"thread_id": thread_key(thread_id), "run_id": run_id}
    return Query(about("link_run", table), params, count)


def mark_abandoned(table: Table, older_than: timedelta | datetime, now: datetime) -> Steps[int]:
    """Mark running rows of which nothing was heard for *older_than*, or since; a later event of such a run still wins."""
    old = older("recorded_at", older_than, now)
    running = Condition(SQL("workflow_status = 'running' AND {}").format(old.sql), old.params)
    if not (yield matching(table, running)):
        return 0  # writers need not wait
    yield lock(table)
    marked: int = yield Query(statement(load("mark_abandoned"), table=table.full, older=old.sql), old.params, count)
    return marked


def older(column: str, than: timedelta | datetime, now: datetime) -> Condition:
    """Return the condition that *column* is longer ago than an interval, or before a moment; FilterError on anything else.

    A negative interval, or a moment after *now* on the database's clock, would be true of every row, and is a FilterError, too.
    """
    if isinstance(than, timedelta):
        if than < timedelta(0):
            raise FilterError("older_than: a negative timedelta would match every row; an age counts back from now")
        return Condition(SQL("{} < now() - %(age)s::interval").format(name(column)), {"age": than})
    if isinstance(than, datetime) and than.tzinfo is not None:
        if than > now + _SKEW:
            raise FilterError("older_than: a moment in the future would match every row; give one that is past")
        return Condition(SQL("{} < %(before)s::timestamptz").format(name(column)), {"before": than})
    raise FilterError("older_than: expected a timedelta, or a datetime with a time zone")


def lock(table: Table, *, shared: bool = False) -> Query[None]:
    """Wait for those who erase from *table*, or (not *shared*) for all who write to it, until the transaction ends."""
    key = f"langgraph_session_store:{table.name}"  # without the schema, which not everybody names
    return Query(about("lock_shared" if shared else "lock", table), {"key": key}, nothing)


def clock() -> Query[int]:
    """Read the database's clock in microseconds since the epoch."""
    return Query(load("clock").as_bytes(None), {}, single)


def tombstones(table: Table, threads: Iterable[str]) -> Query[dict[bytes, int]]:
    """Read when those of *threads* that were erased were, by hash, in microseconds since the epoch."""

    def read(rows: Rows, _: int) -> dict[bytes, int]:
        return {bytes(digest): to_microseconds(at) for digest, at in rows}

    return Query(about("tombstones", table), {"hashes": Array("bytea", map(thread_hash, threads))}, read)


def thread_hash(thread_id: str) -> bytes:
    """Return what a tombstone knows of a thread."""
    return sha256(thread_id.encode()).digest()
