"""The coloured part of the stores: connections and three primitives on them, for threads and for asyncio.

``run`` is one statement, ``stream`` one statement with any number of rows in constant memory, ``transaction`` several statements.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from ..conninfo import connection_errors
from ..errors import UnavailableError
from ..frames import json_value
from ..query import drive
from ..sharing import once
from .base import BaseStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from ..queries.schema import Report
    from ..query import Query, Steps

T = TypeVar("T")
Values = tuple[Any, ...]


class Connection(psycopg.Connection[Values]):
    """A connection that keeps the cursor of what is prepared: to make one, and to look up its types, takes a third of a `get`."""

    @once
    def kept(self) -> psycopg.Cursor[Values]:
        """The cursor."""
        return self.cursor()


class AsyncConnection(psycopg.AsyncConnection[Values]):
    """The same for asyncio."""

    @once
    def kept(self) -> psycopg.AsyncCursor[Values]:
        """The cursor."""
        return self.cursor()


class _Adapting:
    """How values are read: as psycopg does, but jsonb four times as fast."""

    adapters = AdaptersMap(psycopg.adapters)
    connection = None


set_json_loads(json_value, _Adapting)
_UNPREPARED: Final[dict[str, Any]] = {
    "autocommit": True,
    "prepare_threshold": None,  # PgBouncer hands connections around
    "context": _Adapting,
}
_POOL: Final[dict[str, Any]] = {
    "min_size": 0,
    "timeout": 10.0,
    "max_idle": 300.0,
    "max_lifetime": 1800.0,
    "reconnect_timeout": 3.0,
}
_CURSOR: Final = "session_store"
_FIRST: Final = 100  # rows of a stream
_MOST: Final = 2000
_PIECE: Final = 4 << 20


class Engine(BaseStore):
    """Connections for threads."""

    _pool: ConnectionPool[Connection] | None = None
    _owner = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later use opens new ones."""
        with self._lock:
            if self._pool is not None and self._owner == os.getpid():
                self._pool.close()
            self._pool = None

    def run(self, query: Query[T]) -> T:
        """Run one statement and return what it reads."""
        pool = self._opened()
        with self._errors:  # a generator like `_connection` would take a tenth of a `get`
            connection = self._take(pool)
            try:
                return _run(connection, query)
            finally:
                pool.putconn(connection)

    def stream(self, query: Query[list[T]]) -> Generator[T, None, None]:
        """Run one statement and yield what it reads, through a cursor in a transaction: memory stays constant."""
        with self._connection() as connection, connection.transaction(), connection.cursor(_CURSOR) as cursor:
            cursor.execute(query.sql, query.params)
            size = _FIRST
            while rows := cursor.fetchmany(size):
                size = _next_size(rows)
                yield from query.read(rows, len(rows))

    def transaction(self, steps: Steps[T]) -> T:
        """Run *steps* in one transaction and return what they return."""
        with self._connection() as connection, connection.transaction():
            return drive(steps, lambda query: _run(connection, query))

    def ensure(self) -> None:
        """Do what the first use does: connect, set the table up, hear the database's clock."""
        if not self._ready:
            with self._lock:
                if not self._ready:
                    self._open()

    def _open(self, *, distributed: bool | None = None) -> Report:
        with connection_errors(self.target):
            connection = Connection.connect(**self.target.kwargs(), **_UNPREPARED)
        with self._errors, connection, connection.transaction():
            self._greeter = connection.info.backend_pid
            self._heed(connection.info.parameter_status("server_encoding"))
            report = drive(self._opening(distributed=distributed), lambda query: _run(connection, query))
        self._ready = True
        return report

    @contextmanager
    def _connection(self) -> Generator[Connection, None, None]:
        pool = self._opened()
        with self._errors:
            connection = self._take(pool)
            try:
                yield connection
            finally:
                pool.putconn(connection)

    def _opened(self) -> ConnectionPool[Connection]:
        self.ensure()
        pool = self._pool
        if pool is None or self._owner != os.getpid():  # after a fork the connections are the parent's
            pool = self._new_pool()
        return pool

    def _take(self, pool: ConnectionPool[Connection]) -> Connection:
        try:
            return pool.getconn()
        except PoolTimeout:
            self._diagnose()

    def _new_pool(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None or self._owner != os.getpid():
                options = {**self.target.kwargs(), **_UNPREPARED, **self._preparing}
                self._owner = os.getpid()
                self._pool = ConnectionPool(
                    connection_class=Connection,
                    kwargs=options,
                    open=True,
                    check=_check,
                    max_size=self._pool_size,
                    **_POOL,
                )
            return self._pool

    def _diagnose(self) -> NoReturn:
        """Say why the pool had no connection, which it does not."""
        with connection_errors(self.target):
            psycopg.connect(**self.target.kwargs(), **_UNPREPARED).close()
        raise UnavailableError(self._busy) from None


class AsyncEngine(BaseStore):
    """Connections for asyncio, of each event loop its own."""

    @once
    def _pools(self) -> WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncConnectionPool[AsyncConnection]]:
        return WeakKeyDictionary()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the running loop's connections; a later use opens new ones."""
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.close()

    async def run(self, query: Query[T]) -> T:
        """Run one statement and return what it reads."""
        async with self._connection() as connection:
            return await _arun(connection, query)

    async def stream(self, query: Query[list[T]]) -> AsyncGenerator[T, None]:
        """Run one statement and yield what it reads, through a cursor in a transaction: memory stays constant."""
        async with (
            self._connection() as connection,
            connection.transaction(),
            connection.cursor(_CURSOR) as cursor,
        ):
            await cursor.execute(query.sql, query.params)
            size = _FIRST
            while rows := await cursor.fetchmany(size):
                size = _next_size(rows)
                for item in query.read(rows, len(rows)):
                    yield item

    async def transaction(self, steps: Steps[T]) -> T:
        """Run *steps* in one transaction and return what they return."""
        async with self._connection() as connection, connection.transaction():
            return await _adrive(connection, steps)

    async def ensure(self) -> None:
        """Do what the first use does: connect, set the table up, hear the database's clock."""
        if not self._ready:  # two tasks may both find it so: setting up twice does nothing
            await self._open()

    async def _open(self, *, distributed: bool | None = None) -> Report:
        options = {**await asyncio.to_thread(self.target.kwargs), **_UNPREPARED}
        with connection_errors(self.target):
            connection = await AsyncConnection.connect(**options)
        with self._errors:
            async with connection, connection.transaction():
                self._greeter = connection.info.backend_pid
                self._heed(connection.info.parameter_status("server_encoding"))
                report = await _adrive(connection, self._opening(distributed=distributed))
        self._ready = True
        return report

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[AsyncConnection, None]:
        await self.ensure()
        pool = self._pools.get(asyncio.get_running_loop()) or await self._new_pool()
        with self._errors:
            try:
                connection = await pool.getconn()
            except PoolTimeout:
                await self._diagnose()
            try:
                yield connection
            finally:
                await pool.putconn(connection)

    async def _new_pool(self) -> AsyncConnectionPool[AsyncConnection]:
        options = {**await asyncio.to_thread(self.target.kwargs), **_UNPREPARED, **self._preparing}
        loop = asyncio.get_running_loop()
        if loop not in self._pools:  # another task may have been faster
            pool = AsyncConnectionPool(
                connection_class=AsyncConnection,
                kwargs=options,
                open=False,
                check=_acheck,
                max_size=self._pool_size,
                **_POOL,
            )
            self._pools[loop] = pool
        await self._pools[loop].open()
        return self._pools[loop]

    async def _diagnose(self) -> NoReturn:
        options = {**await asyncio.to_thread(self.target.kwargs), **_UNPREPARED}
        with connection_errors(self.target):
            await (await psycopg.AsyncConnection.connect(**options)).close()
        raise UnavailableError(self._busy) from None


def _next_size(rows: Sequence[tuple[Any, ...]]) -> int:
    """Return how many rows to fetch next, so that they take a few megabytes if they are like the last ones."""
    last = rows[-8:]
    each = sum(map(sys.getsizeof, (value for row in last for value in row))) // len(last)
    return max(1, min(_PIECE // (each + 1), 4 * len(rows), _MOST))


def _check(connection: Connection) -> None:
    """Raise where the server closed the connection; the round trip that tells costs as much as a `get`, and is rarely needed."""
    if _spoken_to(connection):
        ConnectionPool.check_connection(connection)


async def _acheck(connection: AsyncConnection) -> None:
    if _spoken_to(connection):
        await AsyncConnectionPool.check_connection(connection)


def _spoken_to(connection: Connection | AsyncConnection) -> bool:
    """Return whether the server said something to an idle connection, as it does when it ends one."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _run(connection: Connection, query: Query[T]) -> T:
    if not query.prepare:
        cursor = connection.execute(query.sql, query.params)
        return query.read(cursor.fetchall() if cursor.rownumber is not None else [], cursor.rowcount)
    cursor = connection.kept
    try:
        cursor.execute(query.sql, query.params, prepare=True)
    except psycopg.errors.FeatureNotSupported:  # the type of a column changed since it was prepared
        cursor.execute(query.sql, query.params, prepare=False)
    return query.read(_taken(cursor, cursor.fetchall()), cursor.rowcount)


async def _arun(connection: AsyncConnection, query: Query[T]) -> T:
    if not query.prepare:
        cursor = await connection.execute(query.sql, query.params)
        return query.read(await cursor.fetchall() if cursor.rownumber is not None else [], cursor.rowcount)
    cursor = connection.kept
    try:
        await cursor.execute(query.sql, query.params, prepare=True)
    except psycopg.errors.FeatureNotSupported:  # the type of a column changed since it was prepared
        await cursor.execute(query.sql, query.params, prepare=False)
    return query.read(_taken(cursor, await cursor.fetchall()), cursor.rowcount)


def _taken(cursor: psycopg.Cursor[Values] | psycopg.AsyncCursor[Values], rows: list[Values]) -> list[Values]:
    """Return *rows*, all that *cursor* read, and free its own copy of them: a kept cursor would hold it until its next statement."""
    if cursor.pgresult is not None:
        cursor.pgresult.clear()
    return rows


async def _adrive(connection: AsyncConnection, steps: Steps[T]) -> T:
    try:
        query = next(steps)
        while True:
            query = steps.send(await _arun(connection, query))
    except StopIteration as stop:
        result: T = stop.value
        return result
