"""The threads that a checkpointer holds, read in constant memory: page by page in the order of their ids, the latest checkpoint of each.

Any checkpointer is read through LangGraph's own interface, whose ``list(None)`` is the only way to learn the threads' names. Those of
Postgres and SQLite would load every checkpoint for it, so their tables are asked; Postgres also gives many threads' checkpoints at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from bisect import bisect_right
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import psycopg

from ..clock import to_microseconds
from ..driver import translate, translated
from ..errors import ConfigError, UnavailableError
from ..sharing import once

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

T = TypeVar("T")

_BUDGET: Final = 8 << 20  # bytes of checkpoints that are asked for at once
_MOST: Final = 200
_FIRST: Final = 10
_EPOCH: Final = 0x01B21DD213814000  # of UUIDs, in their 100 ns before the one of Unix
_SENDS_APART: Final = 4  # checkpoints of an older format keep their pending sends elsewhere


_OTHER_TABLES: Final = {
    psycopg.errors.UndefinedTable: ": wrong database or search_path, or setup() was never called",
    psycopg.errors.UndefinedColumn: " of this checkpointer's: call its setup(), or pass the one that made them, such as ShallowPostgresSaver",
}


class Held(NamedTuple):
    """A thread's latest checkpoint; when its first one and its latest input were made, in microseconds, where that is known."""

    thread_id: str
    checkpoint: CheckpointTuple
    created: int | None = None
    begun: int | None = None


class Failed(NamedTuple):
    """A thread that makes no row, and why."""

    thread_id: str
    reason: str


def source_of(saver: BaseCheckpointSaver[Any], loop: asyncio.AbstractEventLoop | None = None) -> Source:
    """Return the source that reads *saver* from this thread; *loop* runs in another one, and awaits what an async saver does.

    ConfigError where that loop is this thread's own, which would wait for itself, or is over.
    """
    own: asyncio.AbstractEventLoop | None = getattr(saver, "loop", None)
    if own is not None and not own.is_running():
        raise ConfigError(f"the event loop that this {type(saver).__name__} was made in does not run")
    loop = loop or own
    with suppress(RuntimeError):
        if loop is not None and asyncio.get_running_loop() is loop:
            raise ConfigError(f"{type(saver).__name__} belongs to the running event loop: await the asynchronous twin")
    for asynchronous, module, name, source in (
        (False, "langgraph.checkpoint.postgres", "PostgresSaver", PostgresSource),
        (True, "langgraph.checkpoint.postgres.aio", "AsyncPostgresSaver", PostgresSource),
        (False, "langgraph.checkpoint.sqlite", "SqliteSaver", SqliteSource),
        (True, "langgraph.checkpoint.sqlite.aio", "AsyncSqliteSaver", SqliteSource),
    ):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(saver, kind):
            return source(saver, loop if asynchronous else None, kind)
    from langgraph.checkpoint.base import BaseCheckpointSaver

    return Source(saver, None if type(saver).alist is BaseCheckpointSaver.alist else loop)


class Source:
    """Any checkpointer, through its own interface; the asynchronous one where there is a *loop*."""

    def __init__(self, saver: Any, loop: asyncio.AbstractEventLoop | None, kind: type | None = None) -> None:
        self.saver = saver
        self._loop = loop
        self._kind = kind

    def threads(self, after: str, most: int) -> list[str]:
        """Return the next threads behind *after*, by id, at most *most*."""
        start = bisect_right(self._names, after)
        return self._names[start : start + most]

    def count(self, after: str) -> int:
        """Return how many threads there are behind *after*."""
        return len(self._names) - bisect_right(self._names, after)

    def read(self, threads: Sequence[str]) -> Iterator[Held | Failed]:
        """Yield the latest checkpoint of each of *threads* that has one, and which of them cannot be read."""
        for thread_id in threads:
            found = self._latest(thread_id)
            if isinstance(found, Failed):
                yield found
            elif found is not None:
                yield Held(thread_id, found, *self._times(thread_id))

    @once
    def _names(self) -> list[str]:
        return sorted(
            {_configurable(item, "thread_id") for item in self._list(None) if not _configurable(item, "checkpoint_ns")}
        )

    def _list(self, config: RunnableConfig | None) -> Iterator[CheckpointTuple]:
        if self._loop is None:
            yield from self.saver.list(config)
            return
        listed = self.saver.alist(config)

        async def step() -> CheckpointTuple | None:
            return await anext(listed, None)

        while (item := self._wait(step())) is not None:
            yield item

    def _latest(self, thread_id: str) -> CheckpointTuple | Failed | None:
        config = _config(thread_id)
        try:
            found: CheckpointTuple | None = (
                self.saver.get_tuple(config) if self._loop is None else self._wait(self.saver.aget_tuple(config))
            )
        except Exception as error:
            return _failed(thread_id, error)
        return found

    def _times(self, thread_id: str) -> tuple[int | None, int | None]:
        first = begun = None
        with suppress(Exception):  # times are no reason to go without the row
            for item in self._list(_config(thread_id)):
                first = time_of(item.checkpoint["ts"])
                if begun is None and item.metadata.get("source") == "input":
                    begun = first
        return first, begun

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def _plain(self) -> bool:
        """Whether checkpoints are read as the saver's class wrote it, and nobody's subclass or double otherwise."""
        name = "get_tuple" if self._loop is None else "aget_tuple"
        return name not in vars(self.saver) and getattr(type(self.saver), name) is getattr(self._kind, name)


class _SqlSource(Source):
    """A checkpointer whose tables are asked for names and ids; times are in the ids, which are UUIDs of version 6."""

    dialect = ""

    def threads(self, after: str, most: int) -> list[str]:
        return [row["thread_id"] for row in self._ask("threads", {"after": after, "most": most})]

    def count(self, after: str) -> int:
        (row,) = self._ask("count", {"after": after})
        found: int = row["threads"]
        return found

    def read(self, threads: Sequence[str]) -> Iterator[Held | Failed]:
        ids = self._ids(threads)
        for thread_id, found in self._checkpoints(ids):
            if isinstance(found, Failed):
                yield found
            elif found is not None:
                row = ids[thread_id]
                yield Held(thread_id, found, _time_in(row["first"]), _time_in(row["input"]))

    def _checkpoints(self, ids: dict[str, Any]) -> Iterator[tuple[str, CheckpointTuple | Failed | None]]:
        for thread_id in ids:
            yield thread_id, self._latest(thread_id)

    def _ids(self, threads: Sequence[str]) -> dict[str, Any]:
        return {row["thread_id"]: row for row in self._ask("ids", {"threads": list(threads)}) if row["latest"]}

    def _ask(self, what: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return self._rows(_load(f"{self.dialect}_{what}"), params)

    def _rows(self, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        raise NotImplementedError


class SqliteSource(_SqlSource):
    """Checkpoints in a SQLite file, where one thread after the other costs nothing."""

    dialect = "sqlite"

    def _ids(self, threads: Sequence[str]) -> dict[str, Any]:
        found = {thread_id: self._ask("ids", {"thread": thread_id})[0] for thread_id in threads}
        return {thread_id: row for thread_id, row in found.items() if row["latest"]}

    def _rows(self, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            if self._loop is not None:
                return self._wait(self._arows(sql, params))
            with self.saver.cursor(transaction=False) as cursor:
                return _named(cursor.execute(sql, params).description, cursor.fetchall())
        except sqlite3.Error as error:
            why = error.sqlite_errorname
        raise UnavailableError(f"the checkpoints cannot be read from their SQLite file ({why})")

    async def _arows(self, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        await self.saver.setup()
        async with self.saver.lock, self.saver.conn.execute(sql, params) as cursor:
            return _named(cursor.description, await cursor.fetchall())


class PostgresSource(_SqlSource):
    """Checkpoints in Postgres, many threads' at once: as many as take a few megabytes if they are like the last ones."""

    dialect = "postgres"
    _size = _FIRST

    def _checkpoints(self, ids: dict[str, Any]) -> Iterator[tuple[str, CheckpointTuple | Failed | None]]:
        names = list(ids)
        while names and self._plain:
            batch, names = names[: self._size], names[self._size :]
            yield from self._batch({thread_id: ids[thread_id] for thread_id in batch})
        for thread_id in names:
            yield thread_id, self._latest(thread_id)

    def _batch(self, ids: dict[str, Any]) -> Iterator[tuple[str, CheckpointTuple | Failed | None]]:
        params = {"threads": list(ids), "ids": [row["latest"] for row in ids.values()]}
        try:
            rows = self._rows(self.saver.SELECT_SQL + _load("postgres_latest"), params)
        except psycopg.DataError:  # one checkpoint that the statement stumbles over
            rows = []
        raw = sum(
            len(part)
            for row in rows
            for parts in (row["channel_values"], row["pending_writes"])
            for part in _flat(parts)
        )
        self._size = max(1, min(_MOST, 4 * self._size, len(ids) * _BUDGET // (raw + 1)))
        for row in rows:
            if not row["parent_checkpoint_id"] or _version(row["checkpoint"]) >= _SENDS_APART:
                del ids[row["thread_id"]]
                yield row["thread_id"], self._load(row)
        for thread_id in ids:
            yield thread_id, self._latest(thread_id)

    def _load(self, row: dict[str, Any]) -> CheckpointTuple | Failed:
        from langgraph.checkpoint.postgres import PostgresSaver

        try:
            # The asynchronous saver's own does the same in an executor; what it calls is of the class that both share.
            return PostgresSaver._load_checkpoint_tuple(self.saver, row)  # noqa: SLF001
        except Exception as error:
            return _failed(row["thread_id"], error)

    def _rows(self, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            with translated("the checkpoints", *_OTHER_TABLES, psycopg.DataError):
                if self._loop is not None:
                    return self._wait(self._arows(sql, params))
                with self.saver._cursor() as cursor:  # noqa: SLF001 - with the saver's lock: graphs may be using it
                    return list(cursor.execute(sql, params).fetchall())
        except tuple(_OTHER_TABLES) as error:
            why = _OTHER_TABLES[type(error)]
        raise ConfigError(f"the checkpointer's database has no table of checkpoints{why}")

    async def _arows(self, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        async with self.saver._cursor() as cursor:  # noqa: SLF001
            await cursor.execute(sql, params)
            return list(await cursor.fetchall())


def _version(checkpoint: Any) -> float:
    """Return the format of a checkpoint as it stands in the table; 0 for what is none, which the checkpointer shall say."""
    version = checkpoint.get("v") if isinstance(checkpoint, dict) else None
    return version if isinstance(version, (int, float)) else 0


def time_of(text: object) -> int | None:
    """Return a checkpoint's ``ts`` in microseconds since the epoch, None where it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
        return to_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _time_in(checkpoint_id: str | None) -> int | None:
    try:
        stamp = UUID(checkpoint_id or "")
    except ValueError:
        return None
    if stamp.version != 6:  # noqa: PLR2004
        return None
    ticks = (stamp.time_low << 28) | (stamp.time_mid << 12) | (stamp.time_hi_version & 0x0FFF)
    return (ticks - _EPOCH) // 10


def _config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def _configurable(item: CheckpointTuple, key: str) -> str:
    return str(item.config.get("configurable", {}).get(key, ""))


def _failed(thread_id: str, error: Exception) -> Failed:
    """Return what is wrong with a thread; UnavailableError where it is the connection, which the other threads need as well."""
    if isinstance(error, psycopg.Error) and isinstance(away := translate(error, "the checkpoints"), UnavailableError):
        raise away from None
    return Failed(thread_id, f"its checkpoint cannot be read: {type(error).__name__}")


def _named(columns: Any, rows: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _flat(parts: Sequence[Sequence[bytes | None]] | None) -> Iterator[bytes]:
    return (value for part in parts or () for value in part if value)


@cache
def _load(name: str) -> str:
    _, _, statement = files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8").partition("\n")
    return statement.strip()
