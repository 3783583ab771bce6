"""The store as the server reads it: read-only transactions with a time-out, on connections of its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from ..errors import FilterError, UnavailableError
from ..store import AsyncSessionStore
from .schema import large_columns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from ..query import Query
    from ..store import SessionStore
    from ..store.engine import AsyncConnection

T = TypeVar("T")

POOL: Final = 10
PATIENCE: Final = 4.0
"""Seconds that a request waits for a connection before it is told that there is none."""
EXPORTS: Final = 3
"""Exports at once: each holds a connection until its client has read it all."""
MOST_ROWS: Final = 100_000
"""Rows of one answer, which is held in memory; groups of numbers have several."""
_FEW: Final = 1000
_AWAY: Final = 1.0  # seconds for which an outage is believed
_CHUNK: Final = 500


class ReadStore(AsyncSessionStore):
    """A store on the same table as *store*, of either kind, for the server's event loop.

    What is read is read in a read-only transaction, in which a statement may take *timeout* seconds. The limits are set inside the
    transaction and end with it, which works through a pooler. Deletes are the store's own.
    """

    def __init__(self, store: SessionStore | AsyncSessionStore, timeout: float) -> None:
        super().__init__(
            store.target,
            record=store.record,
            table=store.table.name,
            schema=store.table.schema,
            setup=store.setup_queries is not None,
            pool_size=POOL,
        )
        self.clock = store.clock  # a delete here must count for the recorder there
        self._backlogs = store._backlogs  # noqa: SLF001 - recorders may join it later
        self._begin = f"BEGIN READ ONLY; SET LOCAL statement_timeout = {int(timeout * 1000)}".encode()
        self.large = large_columns(self.record, self.table)
        self.observe: Callable[[float], None] = lambda _: None
        """Is told how many seconds a statement took."""
        self._away_until = 0.0
        self._exports = asyncio.Semaphore(EXPORTS)

    @property
    def recorders(self) -> list[Any]:
        """What in this process writes to the table and counts it."""
        return [backlog for backlog in self._backlogs if hasattr(backlog, "stats")]

    def now(self) -> datetime:
        """Return the time on the database's clock, as far as it was heard."""
        return self._now()

    async def read(self, query: Query[T]) -> T:
        """Run one statement that reads, after what this process's recorders still hold was stored."""
        await self._asettle()
        return await self.run(query)

    async def run(self, query: Query[T]) -> T:
        """Run one statement in a read-only transaction."""
        began = perf_counter()
        async with self._reading() as connection:
            cursor = await connection.execute(query.sql, query.params)
            if cursor.rowcount > MOST_ROWS:
                raise FilterError(f"the answer has more than {MOST_ROWS:,} rows: filter, or group by fewer values")
            rows = await cursor.fetchall()
        self.observe(perf_counter() - began)
        if len(rows) > _FEW:  # others need not wait while many rows are made sense of
            return await asyncio.to_thread(query.read, rows, cursor.rowcount)
        return query.read(rows, cursor.rowcount)

    async def stream(self, query: Query[list[T]]) -> AsyncGenerator[T, None]:
        """Run one statement and yield what it reads in constant memory."""
        async with self._exports, self._reading() as connection, connection.cursor("session_store") as cursor:
            await cursor.execute(query.sql, query.params)
            while rows := await cursor.fetchmany(_CHUNK):
                for item in query.read(rows, len(rows)):
                    yield item

    async def _new_pool(self) -> Any:
        pool = await super()._new_pool()
        pool.timeout = PATIENCE
        return pool

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[AsyncConnection, None]:
        if monotonic() < self._away_until:  # during an outage not every request waits for its end
            raise UnavailableError(f"{self._where}: it was away a moment ago")
        async with super()._connection() as connection:
            yield connection

    async def _diagnose(self) -> NoReturn:
        try:
            await super()._diagnose()
        except UnavailableError as error:
            if str(error) != self._busy:
                self._away_until = monotonic() + _AWAY
            raise

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection, None]:
        async with self._connection() as connection:
            try:
                await connection.execute(self._begin)  # both in one round trip
                yield connection
            except BaseException:
                await _rollback(connection)
                raise
            await connection.execute(b"COMMIT")


async def _rollback(connection: Any) -> None:
    if not connection.closed and not connection.broken:
        await connection.rollback()
