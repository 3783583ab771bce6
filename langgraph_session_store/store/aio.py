"""The store for asyncio: the twin of `sync`, method by method."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, Unpack

from .. import frames
from ..encode import thread_key
from ..export import Export
from ..queries import reads, writes
from .engine import AsyncEngine

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
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


class AsyncSessionStore(AsyncEngine):
    """`SessionStore` for asyncio: the same names, awaited. Each event loop that uses it has connections of its own."""

    # --- writing ---

    async def setup(self, *, distributed: bool = False) -> Report:
        """Create or upgrade the table; see `SessionStore.setup`."""
        return await self._open(distributed=distributed)

    async def save(
        self,
        thread_id: object,
        state: object,
        *,
        run_id: str | None = None,
        workflow_status: str | None = None,
        user_id: str | None = None,
        **own: Unpack[Own],
    ) -> UUID:
        """Write what *state* says about a thread now and return the row's id; see `SessionStore.save`."""
        await self.ensure()
        columns = {"run_id": run_id, "workflow_status": workflow_status, "user_id": user_id, **own}
        (batch,) = writes.batches([self._event(thread_id, state, columns)])
        (row_id,) = (await self.transaction(writes.write(self.table, batch, guarded=False))).ids.values()
        return row_id

    async def save_many(self, rows: Iterable[Row | Mapping[str, object]]) -> int:
        """Write many rows and return how many sessions changed; see `SessionStore.save_many`."""
        await self.ensure()
        changed = 0
        for batch, guarded in self._chunks(rows):
            changed += len((await self.transaction(writes.write(self.table, batch, guarded=guarded))).ids)
        return changed

    async def update(self, thread_id: object, **fields: object) -> bool:
        """Set declared fields of a session; see `SessionStore.update`."""
        await self._asettle()
        await self.ensure()
        return await self.transaction(writes.amend(self.table, self._change(thread_id, fields)))

    async def link_run(self, thread_id: object, run_id: str) -> bool:
        """Correlate a session with the MLflow run *run_id*; return whether there is such a session."""
        return await self._read(writes.link_run(self.table, thread_id, run_id)) > 0

    async def mark_abandoned(self, older_than: timedelta | datetime) -> int:
        """Mark running sessions of which nothing was heard for *older_than*, or since that moment; return how many.

        FilterError where that is every one: an age below zero, a moment in the future.
        """
        await self._asettle()
        await self.ensure()
        return await self.transaction(writes.mark_abandoned(self.table, older_than, self._now()))

    async def delete(self, thread_id: object) -> bool:
        """Remove a session and its history; see `SessionStore.delete`."""
        await self._asettle()
        await self.ensure()
        return await self._erase([thread_key(thread_id)]) > 0

    async def erase(self, *, any_of: AnyOf = None, **filters: object) -> int:
        """Remove the sessions that match, with their histories; see `SessionStore.erase`."""
        return await self._erase_all(self._restricting(filters, any_of))

    async def purge(self, *, older_than: timedelta | datetime) -> int:
        """Remove the sessions that did not change for *older_than*, or since that moment; return how many.

        FilterError where that is every one: an age below zero, a moment in the future.
        """
        await self.ensure()
        return await self._erase_all(writes.older("updated_at", older_than, self._now()))

    # --- reading ---

    async def get(self, thread_id: object) -> Session | None:
        """Return the session of a thread, None if there is none."""
        return await self._read(reads.get(self.table, thread_id))

    async def query(
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
        return await self._read(
            reads.page(self.table, filters, any_of=any_of, fields=fields, order_by=order_by, limit=limit, cursor=cursor)
        )

    async def iter(
        self, *, order_by: OrderBy = "-created_at", any_of: AnyOf = None, fields: Fields = None, **filters: object
    ) -> AsyncIterator[Session]:
        """Yield every session that matches, in constant memory; a connection is in use until the end."""
        query = reads.every(self.table, filters, any_of=any_of, fields=fields, order_by=order_by)
        await self._asettle()
        async for session in self.stream(query):
            yield session

    async def batches(
        self, *, order_by: OrderBy = "-created_at", any_of: AnyOf = None, fields: Fields = None, **filters: object
    ) -> pa.RecordBatchReader:
        """Return every session that matches as a stream of Arrow record batches, to be read off the loop."""
        await self.ensure()
        await self._asettle()
        return await asyncio.to_thread(self._reader, filters, any_of, fields, order_by)

    async def to_arrow(
        self, *, order_by: OrderBy = "-created_at", any_of: AnyOf = None, fields: Fields = None, **filters: object
    ) -> pa.Table:
        """Return every session that matches as one Arrow table; see `SessionStore.to_arrow`."""
        batches = await self.batches(order_by=order_by, any_of=any_of, fields=fields, **filters)
        return await asyncio.to_thread(batches.read_all)

    async def to_pandas(
        self,
        *,
        order_by: OrderBy = "-created_at",
        any_of: AnyOf = None,
        fields: Fields = None,
        arrow: bool = False,
        **filters: object,
    ) -> pd.DataFrame:
        """Return every session that matches as a DataFrame; see `SessionStore.to_pandas`."""
        batches = await self.batches(order_by=order_by, any_of=any_of, fields=fields, **filters)
        return await asyncio.to_thread(frames.read_pandas, batches, self._columns(fields), arrow=arrow)

    async def export(
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
        """Write every session that matches to *path*; see `SessionStore.export`."""
        with Export(self._columns(fields), path, format, progress=progress) as out:
            async for session in self.iter(order_by=order_by, any_of=any_of, fields=fields, **filters):
                out.add(session)
        return out.rows

    async def count(self, *, any_of: AnyOf = None, **filters: object) -> int:
        """Return how many sessions match."""
        return await self._read(reads.number(self.table, filters, any_of=any_of))

    async def analytics(
        self,
        *,
        group_by: Fields = None,
        bucket: str | None = None,
        any_of: AnyOf = None,
        **filters: object,
    ) -> Analytics:
        """Return numbers about the sessions that match; see `SessionStore.analytics`."""
        await self.ensure()
        return await self._read(self._numbers(filters, any_of, group_by, bucket))

    async def versions(self, thread_id: object) -> list[SessionVersion]:
        """Return the history of a session's versioned fields, newest first."""
        return await self._read(reads.versions(self.table, thread_id))

    async def changes(self, since: datetime | None = None, *, poll: float = 1.0) -> AsyncIterator[Session]:
        """Yield sessions as they change, for ever; see `SessionStore.changes`. Without *since* it begins with its first step."""
        await self.ensure()
        tail = reads.Tail(self.table, since or self._now())
        while True:
            for session in tail.tell(await self.run(tail.query()), self._now()):
                yield session
            if tail.drained:
                await asyncio.sleep(poll)

    # --- inside ---

    async def _read(self, query: Query[T]) -> T:
        await self._asettle()
        return await self.run(query)

    async def _asettle(self) -> None:
        if any(backlog.pending for backlog in self._backlogs):
            await asyncio.to_thread(self._settle)

    async def _erase(self, threads: Sequence[str], condition: Condition | None = None) -> int:
        return self._erased(await self.transaction(self._erasing(threads, condition)))

    async def _erase_all(self, condition: Condition) -> int:
        await self._asettle()
        await self.ensure()
        total = 0
        while threads := await self.run(writes.matching(self.table, condition)):
            before = total
            for part in writes.parts(threads):
                total += await self._erase(part, condition)
            if total == before:  # others changed them, or this role may not
                break
        return total
