"""The store for threads: a line or two per method; what it says to Postgres is in `queries`, `analytics`, `writes` and `schema`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar, Unpack

from .. import frames
from ..encode import thread_key
from ..export import export
from ..queries import reads, writes
from .engine import Engine

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import IO
    from uuid import UUID

    import pandas as pd
    import pyarrow as pa

    from ..export import Format
    from ..filters.paging import Condition
    from ..queries.reads import AnyOf, Fields, OrderBy
    from ..queries.schema import Report
    from ..query import Query
    from ..row import Row
    from ..session import Analytics, Session, SessionPage, SessionVersion
    from .base import Own

T = TypeVar("T")


class SessionStore(Engine):
    """The sessions of one table in one Postgres.

    *conninfo* is a DSN; without one the environment says where (``DATABASE_URL``, ``POSTGRES_HOST`` ...), else an embedded Postgres
    is used. *table* and *schema* default to the record's table and to what the connection's ``search_path`` says. The first use
    connects, and creates or upgrades the table unless *setup* is False; constructing a store does not. At most *pool_size*
    connections are open. Every method may raise a `StoreError`, and a `FilterError` where it takes filters.
    """

    def setup(self, *, distributed: bool = False) -> Report:
        """Create or upgrade the table, its indexes, trigger, view, history and tombstones; idempotent, in one transaction.

        *distributed* makes the keys that Citus needs, and distributes the table where there is Citus.
        """
        with self._lock:
            return self._open(distributed=distributed)

    def save(
        self,
        thread_id: object,
        state: object,
        *,
        run_id: str | None = None,
        workflow_status: str | None = None,
        user_id: str | None = None,
        **own: Unpack[Own],
    ) -> UUID:
        """Write what *state* says about a thread now, over whatever is there, and return the row's id.

        Fields that the state lacks, and columns that are None, keep what they have; the status of a new row is ``running``.
        """
        self.ensure()
        columns = {"run_id": run_id, "workflow_status": workflow_status, "user_id": user_id, **own}
        (batch,) = writes.batches([self._event(thread_id, state, columns)])
        (row_id,) = self.transaction(writes.write(self.table, batch, guarded=False)).ids.values()
        return row_id

    def save_many(self, rows: Iterable[Row | Mapping[str, object]]) -> int:
        """Write many rows, in transactions of at most 500, and return how many sessions changed.

        A mapping holds a ``thread_id``, the store's columns and fields by name, or what a state would hold, and is written as by
        `save`; a `Row` is an event, which an older or equal one leaves as it is.
        """
        self.ensure()
        return sum(
            len(self.transaction(writes.write(self.table, batch, guarded=guarded)).ids)
            for batch, guarded in self._chunks(rows)
        )

    def update(self, thread_id: object, **fields: object) -> bool:
        """Set declared fields of a session and touch nothing else; return whether there is such a session."""
        self._settle()
        self.ensure()
        return self.transaction(writes.amend(self.table, self._change(thread_id, fields)))

    def link_run(self, thread_id: object, run_id: str) -> bool:
        """Correlate a session with the MLflow run *run_id*; return whether there is such a session."""
        return self._read(writes.link_run(self.table, thread_id, run_id)) > 0

    def mark_abandoned(self, older_than: timedelta | datetime) -> int:
        """Mark running sessions of which nothing was heard for *older_than*, or since that moment; return how many.

        FilterError where that is every one: an age below zero, a moment in the future.
        """
        self._settle()
        self.ensure()
        return self.transaction(writes.mark_abandoned(self.table, older_than, self._now()))

    def delete(self, thread_id: object) -> bool:
        """Remove a session and its history; return whether there was one. Events from before are not stored any more."""
        self._settle()
        self.ensure()
        return self._erase([thread_key(thread_id)]) > 0

    def erase(self, *, any_of: AnyOf = None, **filters: object) -> int:
        """Remove the sessions that match, with their histories; return how many. FilterError where every row would match."""
        return self._erase_all(self._restricting(filters, any_of))

    def purge(self, *, older_than: timedelta | datetime) -> int:
        """Remove the sessions that did not change for *older_than*, or since that moment; return how many.

        FilterError where that is every one: an age below zero, a moment in the future.
        """
        self.ensure()
        return self._erase_all(writes.older("updated_at", older_than, self._now()))

    # --- reading ---

    def get(self, thread_id: object) -> Session | None:
        """Return the session of a thread, None if there is none."""
        return self._read(reads.get(self.table, thread_id))

    def query(
        self,
        *,
        order_by: OrderBy = "-created_at",
        limit: int = 50,
        cursor: str | None = None,
        any_of: AnyOf = None,
        fields: Fields = None,
        **filters: object,
    ) -> SessionPage:
        """Return at most *limit* (1 to 1,000) sessions that match; *cursor* is the ``next_cursor`` of the page before."""
        return self._read(
            reads.page(self.table, filters, any_of=any_of, fields=fields, order_by=order_by, limit=limit, cursor=cursor)
        )

    def iter(
        self, *, order_by: OrderBy = "-created_at", any_of: AnyOf = None, fields: Fields = None, **filters: object
    ) -> Iterator[Session]:
        """Yield every session that matches, in constant memory; a connection is in use until the end."""
        query = reads.every(self.table, filters, any_of=any_of, fields=fields, order_by=order_by)
        self._settle()
        return self.stream(query)

    def batches(
        self, *, order_by: OrderBy = "-created_at", any_of: AnyOf = None, fields: Fields = None, **filters: object
    ) -> pa.RecordBatchReader:
        """Return every session that matches as a stream of Arrow record batches, in constant memory; close it when done."""
        self.ensure()
        self._settle()
        return self._reader(filters, any_of, fields, order_by)

    def to_arrow(
        self, *, order_by: OrderBy = "-created_at", any_of: AnyOf = None, fields: Fields = None, **filters: object
    ) -> pa.Table:
        """Return every session that matches as one Arrow table; jsonb columns hold JSON text."""
        return self.batches(order_by=order_by, any_of=any_of, fields=fields, **filters).read_all()

    def to_pandas(
        self,
        *,
        order_by: OrderBy = "-created_at",
        any_of: AnyOf = None,
        fields: Fields = None,
        arrow: bool = False,
        **filters: object,
    ) -> pd.DataFrame:
        """Return every session that matches as a DataFrame; *arrow* keeps Arrow's own types, which is faster and smaller."""
        batches = self.batches(order_by=order_by, any_of=any_of, fields=fields, **filters)
        return frames.read_pandas(batches, self._columns(fields), arrow=arrow)

    def export(
        self,
        path: str | os.PathLike[str] | IO[bytes],
        format: Format | None = None,  # noqa: A002 - the word that users know
        *,
        order_by: OrderBy = "-created_at",
        any_of: AnyOf = None,
        fields: Fields = None,
        progress: Callable[[int], object] | None = None,
        **filters: object,
    ) -> int:
        """Write every session that matches to *path* as csv, ndjson or parquet, in constant memory; return how many.

        *format* defaults to what the name of *path* ends with; *progress* is told the number of rows so far.
        """
        rows = self.iter(order_by=order_by, any_of=any_of, fields=fields, **filters)
        return export(rows, self._columns(fields), path, format, progress=progress)

    def count(self, *, any_of: AnyOf = None, **filters: object) -> int:
        """Return how many sessions match."""
        return self._read(reads.number(self.table, filters, any_of=any_of))

    def analytics(
        self,
        *,
        group_by: Fields = None,
        bucket: str | None = None,
        any_of: AnyOf = None,
        **filters: object,
    ) -> Analytics:
        """Return numbers about the sessions that match, by *group_by* columns and per *bucket* (hour, day or week, in UTC)."""
        self.ensure()
        return self._read(self._numbers(filters, any_of, group_by, bucket))

    def versions(self, thread_id: object) -> list[SessionVersion]:
        """Return the history of a session's versioned fields, newest first."""
        return self._read(reads.versions(self.table, thread_id))

    def changes(self, since: datetime | None = None, *, poll: float = 1.0) -> Iterator[Session]:
        """Yield sessions as they change, for ever: those that changed after *since* (default: this call), asked for every *poll* seconds.

        A session is told at least once per change, and only in its latest state.
        """
        self.ensure()
        return self._follow(reads.Tail(self.table, since or self._now()), poll)

    # --- inside ---

    def _follow(self, tail: reads.Tail, poll: float) -> Iterator[Session]:
        while True:
            yield from tail.tell(self.run(tail.query()), self._now())
            if tail.drained:
                time.sleep(poll)

    def _read(self, query: Query[T]) -> T:
        self._settle()
        return self.run(query)

    def _erase(self, threads: Sequence[str], condition: Condition | None = None) -> int:
        return self._erased(self.transaction(self._erasing(threads, condition)))

    def _erase_all(self, condition: Condition) -> int:
        self._settle()
        self.ensure()
        total = 0
        while threads := self.run(writes.matching(self.table, condition)):
            before = total
            for part in writes.parts(threads):
                total += self._erase(part, condition)
            if total == before:  # others changed them, or this role may not
                break
        return total
