"""Every ending of a LangGraph run, told apart: the published cases over real graphs, checkpointers and Postgres."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg.conninfo import make_conninfo

from langgraph_session_store.testing import CASES, AsyncCaller, Bench, Case, Subject, SyncCaller, run_without_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langgraph_session_store import SessionRecorder, SessionStore

SAVERS = ("none", "memory", "sqlite", "postgres")


@contextmanager
def sync_saver(kind: str, dsn: str) -> Iterator[Any]:
    match kind:
        case "memory":
            yield InMemorySaver()
        case "sqlite":
            with SqliteSaver.from_conn_string(":memory:") as saver:
                yield saver
        case "postgres":
            with PostgresSaver.from_conn_string(dsn) as saver:
                saver.setup()
                yield saver
        case _:
            yield None


@asynccontextmanager
async def async_saver(kind: str, dsn: str) -> AsyncIterator[Any]:
    match kind:
        case "memory":
            yield InMemorySaver()
        case "sqlite":
            async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
                yield saver
        case "postgres":
            async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
                await saver.setup()
                yield saver
        case _:
            yield None


@pytest.fixture
def checkpoints(dsn: str, schema: str) -> str:
    """A DSN whose tables stand in the test's own schema."""
    return make_conninfo(dsn, options=f"-c search_path={schema}")


@pytest.fixture
def subject(recorder: SessionRecorder, store: SessionStore) -> Subject:
    async def read(thread_id: str) -> Any:
        return store.get(thread_id)

    return Subject(recorder.attach, read, recorder.config)


def cases(caller: Any) -> list[Any]:
    return [
        pytest.param(case, saver, id=f"{case.name}-{saver}")
        for case in CASES
        for saver in SAVERS
        if case.applies(caller, None if saver == "none" else saver)
    ]


@pytest.mark.parametrize(("case", "saver"), cases(SyncCaller()))
def test_sync(case: Case, saver: str, subject: Subject, checkpoints: str) -> None:
    with sync_saver(saver, checkpoints) as checkpointer:
        run_without_loop(case.check(Bench(subject, SyncCaller(), checkpointer)))


@pytest.mark.parametrize(("case", "saver"), cases(AsyncCaller()))
async def test_async(case: Case, saver: str, subject: Subject, checkpoints: str) -> None:
    async with async_saver(saver, checkpoints) as checkpointer:
        await case.check(Bench(subject, AsyncCaller(), checkpointer))
