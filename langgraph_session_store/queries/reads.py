"""Everything that reads: one session, pages, streams, counts, histories, changes. Pure: statements, no connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from ..encode import thread_key
from ..filters.paging import Condition, check_limit, fingerprint, keyset, next_cursor
from ..filters.vocabulary import Vocabulary
from ..query import Query, Rows, Table, names, single, statement
from ..session import Session, SessionPage, SessionVersion, session_versions
from ..sql import load

if TYPE_CHECKING:
    from ..columns import TableColumn

Filters = Mapping[str, object]
AnyOf = Sequence[Filters] | None
Fields = str | Sequence[str] | None
OrderBy = str | Sequence[str]

OVERLAP: Final = timedelta(seconds=5)
"""What each poll reads again: most transactions commit sooner than this after their change."""
LOOK_BACK: Final = timedelta(seconds=60)
"""What every tenth poll reads again, for transactions that stay open."""
_POLLS: Final = 10
_PAGE: Final = 500
_FIRST_ID: Final = UUID(int=0)


@lru_cache(maxsize=64)
def vocabulary(table: Table) -> Vocabulary:
    """Return the filters of *table*."""
    return Vocabulary(table.columns, convert={"thread_id": thread_key})


def get(table: Table, thread_id: object) -> Query[Session | None]:
    """Read one session."""
    text, read = _one(table)
    return Query(text, {"thread_id": thread_key(thread_id)}, read, prepare=True)


@lru_cache(maxsize=64)
def _one(table: Table) -> tuple[bytes, Callable[[Rows, int], Session | None]]:
    keys = [column.name for column in table.columns]

    def read(rows: Rows, _: int) -> Session | None:
        return Session(zip(keys, rows[0], strict=True)) if rows else None

    return statement(load("select_session"), table=table.full, columns=_names(table.columns)), read


def page(
    table: Table,
    filters: Filters,
    *,
    any_of: AnyOf = None,
    fields: Fields = None,
    order_by: OrderBy = "-created_at",
    limit: object = 50,
    cursor: str | None = None,
) -> Query[SessionPage]:
    """Read at most *limit* sessions behind *cursor*; FilterError on what cannot be understood."""
    words = vocabulary(table)
    columns, order, size = words.columns(fields), words.order(order_by), check_limit(limit)
    condition = words.where(filters, any_of)
    mark = fingerprint(condition, order)
    read_columns = (*columns, *(key.column for key in order.keys if key.column not in columns))

    def read(rows: Rows, _: int) -> SessionPage:
        found = list(_sessions(read_columns, rows[:size]))
        behind = next_cursor(order, found[-1], mark) if len(rows) > size else None
        if len(read_columns) > len(columns):
            found = [Session((column.name, session[column.name]) for column in columns) for session in found]
        return SessionPage(found, next_cursor=behind, columns=columns)

    return _select(table, read_columns, condition & keyset(order, cursor, mark), order.sql, size + 1, read)


def every(
    table: Table, filters: Filters, *, any_of: AnyOf = None, fields: Fields = None, order_by: OrderBy = "-created_at"
) -> Query[list[Session]]:
    """Read all sessions that match; what it reads may be fed in pieces."""
    words = vocabulary(table)
    columns = words.columns(fields)
    order = words.order(order_by)
    return _select(
        table, columns, words.where(filters, any_of), order.sql, None, lambda rows, _: list(_sessions(columns, rows))
    )


def number(table: Table, filters: Filters, *, any_of: AnyOf = None) -> Query[int]:
    """Count the sessions that match."""
    condition = vocabulary(table).where(filters, any_of)
    return Query(statement(load("count_sessions"), table=table.full, condition=condition.sql), condition.params, single)


def versions(table: Table, thread_id: object) -> Query[list[SessionVersion]]:
    """Read the history of one session, newest first."""
    fields = [column.name for column in table.versioned]

    def read(rows: Rows, _: int) -> list[SessionVersion]:
        return session_versions((at, run_id, dict(zip(fields, values, strict=True))) for at, run_id, *values in rows)

    text = statement(
        load("select_versions"), versions=table.versions, columns=names(["recorded_at", "run_id", *fields])
    )
    return Query(text, {"thread_id": thread_key(thread_id)}, read)


@dataclass(frozen=True)
class Change:
    """A place in the stream of changes: all up to it has been seen."""

    updated_at: datetime
    id: UUID = _FIRST_ID


def changes(table: Table, after: Change, limit: int = _PAGE) -> Query[list[Session]]:
    """Read at most *limit* sessions whose last change lies behind *after*, in the order of the changes."""
    text = statement(load("select_changes"), table=table.full, columns=_names(table.columns))
    params = {"updated_at": after.updated_at, "id": after.id, "limit": limit}
    return Query(text, params, lambda rows, _: list(_sessions(table.columns, rows)))


class Tail:
    """The changes of a table since a moment, poll by poll; each is told at least once, even if it was committed late.

    ``query`` is what to read next, and ``tell`` takes what it read: it returns what is new. ``drained`` says that the next query
    belongs to the next poll. Late is up to `LOOK_BACK`; a transaction that stays open for longer hides its changes.
    """

    def __init__(self, table: Table, since: datetime) -> None:
        self._table = table
        self._since = since
        self._seen: dict[UUID, datetime] = {}
        self._horizon = since
        self._place = Change(since)
        self._polls = 0
        self.drained = False

    def query(self) -> Query[list[Session]]:
        """Return what to read next."""
        return changes(self._table, self._place)

    def tell(self, sessions: Sequence[Session], now: datetime) -> list[Session]:
        """Return those of *sessions* that were not told before; *now* is the time on the database's clock."""
        fresh = [
            session
            for session in sessions
            if session["updated_at"] > self._since and self._seen.get(session["id"]) != session["updated_at"]
        ]
        self._seen |= {session["id"]: session["updated_at"] for session in fresh}
        self.drained = len(sessions) < _PAGE
        if sessions:
            last = sessions[-1]
            self._horizon = max(
                self._horizon, min(last["updated_at"], now)
            )  # a time to come must hide no change before it
            self._place = Change(last["updated_at"], last["id"])
        if self.drained:
            self._polls += 1
            self._place = Change(self._horizon - (OVERLAP if self._polls % _POLLS else LOOK_BACK))
            self._seen = {key: at for key, at in self._seen.items() if at >= self._horizon - LOOK_BACK}
        return fresh


def _select(  # noqa: PLR0917 - the parts of one statement, in its order
    table: Table, columns: Sequence[TableColumn], condition: Condition, order: Any, limit: int | None, read: Any
) -> Query[Any]:
    text = statement(
        load("select_sessions"), table=table.full, columns=_names(columns), condition=condition.sql, order=order
    )
    return Query(text, {**condition.params, "limit": limit}, read)


def _sessions(columns: Sequence[TableColumn], rows: Rows) -> Iterator[Session]:
    keys = [column.name for column in columns]
    return (Session(zip(keys, row, strict=True)) for row in rows)


def _names(columns: Sequence[TableColumn]) -> Any:
    return names(column.name for column in columns)
