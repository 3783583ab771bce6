"""What a recorder meets outside: a database that refuses or is away, hostile values, and its own life."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from psycopg import sql
from psycopg.conninfo import make_conninfo

from langgraph_session_store import (
    AsyncSessionStore,
    Column,
    MessagesSession,
    ProblemSession,
    SessionRecord,
    SessionRecorder,
    SessionStore,
    attach,
    logs,
)
from langgraph_session_store.testing import BoomError, problem_graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INPUT = {"user_prompt": "sort a list", "topic": "lists"}


def here(thread_id: str = "t") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}


@pytest.fixture
def role(dsn: str, schema: str) -> Iterator[str]:
    """The DSN of a role that may log in and see the schema, and nothing else."""
    name = f"role_{schema}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hunter2'").format(sql.Identifier(name)))
        conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(name)))
    yield name
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_last", {})


def until(recorder: SessionRecorder, state: str) -> None:
    deadline = time.monotonic() + 120
    while recorder.stats().state != state:
        assert time.monotonic() < deadline, recorder.stats()
        time.sleep(0.02)


def check_harmless(recorder: SessionRecorder, state: str, caplog: pytest.LogCaptureFixture) -> None:
    """Run a graph several times: its results are its own, nothing is lost, one line says what is wrong."""
    caplog.set_level(logging.INFO)
    graph = recorder.attach(problem_graph())
    for i in range(5):
        assert graph.invoke(INPUT, here(f"t{i}"))["tests_passed"] is True
    with pytest.raises(BoomError):
        graph.invoke({**INPUT, "behave": "raise"}, here("failed"))
    until(recorder, state)
    stats = recorder.stats()
    assert (stats.accepted, stats.pending, stats.dropped) == (12, 12, 0)
    assert stats.last_error
    lines = [record for record in caplog.records if record.name.startswith("langgraph_session_store")]
    assert len(lines) == 1
    assert "hunter2" not in caplog.text
    assert not recorder.close(timeout=0.5)


def test_an_unreachable_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SessionStore("postgresql://me:hunter2@127.0.0.1:9/db")
    check_harmless(SessionRecorder(store, spool_dir=tmp_path), "retrying", caplog)


def test_a_missing_table(dsn: str, schema: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SessionStore(dsn, schema=schema, setup=False)
    check_harmless(SessionRecorder(store, spool_dir=tmp_path), "blocked", caplog)


def test_another_table_under_our_name(dsn: str, schema: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE TABLE {}.session_states (a int)").format(sql.Identifier(schema)))
    store = SessionStore(dsn, schema=schema)
    check_harmless(SessionRecorder(store, spool_dir=tmp_path), "blocked", caplog)


def test_a_role_that_may_only_read(
    dsn: str, schema: str, role: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SessionStore(dsn, schema=schema) as owner:
        owner.setup()
    with psycopg.connect(dsn, autocommit=True) as conn:
        grant = sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}")
        conn.execute(grant.format(sql.Identifier(schema), sql.Identifier(role)))
        conn.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(role)))
        conn.execute(sql.SQL("ALTER ROLE {} NOSUPERUSER").format(sql.Identifier(role)))
    # The shared server lets no other role in by its socket; a session of the owner that became the role is refused alike.
    store = SessionStore(make_conninfo(dsn, options=f"-c role={role}"), schema=schema, setup=False)
    check_harmless(SessionRecorder(store, spool_dir=tmp_path), "blocked", caplog)


def test_what_waited_is_stored_when_the_fault_is_repaired(dsn: str, schema: str, tmp_path: Path) -> None:
    store = SessionStore(dsn, schema=schema, setup=False)
    first = SessionRecorder(store, spool_dir=tmp_path)
    first.attach(problem_graph()).invoke(INPUT, here())
    until(first, "blocked")
    assert not first.close(0.2)
    with SessionStore(dsn, schema=schema) as repaired, SessionRecorder(repaired, spool_dir=tmp_path) as second:
        second.attach(problem_graph()).invoke(INPUT, here("other"))
        deadline = time.monotonic() + 120
        while repaired.count() < 2:
            assert time.monotonic() < deadline, second.stats()
            time.sleep(0.1)
        row = repaired.get("t")
    assert row is not None
    assert row["workflow_status"] == "completed"


def test_hostile_values_leave_a_readable_row(recorder: SessionRecorder, store: SessionStore) -> None:
    class Nasty(TypedDict, total=False):
        user_prompt: Any
        topic: Any
        problem: Any
        code: Any
        code_attempts: Any
        problem_attempts: Any

    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    taken: list[int] = []

    def generator() -> Any:
        taken.append(1)
        yield 1

    values = {
        "user_prompt": "a\x00b\ud800c",
        "topic": "x" * 300,
        "problem": {"description": "d", "tests": [cycle, deep, {"\x00": float("nan")}, generator()]},
        "code": "c" * 5_000_000,
        "code_attempts": 2**70,
        "problem_attempts": 3,
    }
    builder = StateGraph(Nasty)
    builder.add_node("nasty", lambda state: values)
    builder.add_edge(START, "nasty")
    recorder.attach(builder.compile()).invoke({"user_prompt": "x"}, here())
    assert recorder.flush(120)  # a read waits one second at most, and 5 MB take a slow machine longer
    (row,) = store.query(fields=None)
    assert row["workflow_status"] == "completed"
    assert row["user_prompt"] == "a\ufffdb\ufffdc"
    assert (row["topic"], row["code_attempts"], row["problem_attempts"]) == (None, None, 3)
    assert sorted(row["rejected"]) == ["code_attempts", "topic"]
    assert len(row["code"]) == 5_000_000
    assert len(row["problem_tests"]) == 4
    assert not taken


def test_objects_changed_right_after_the_run_are_stored_as_they_were(
    recorder: SessionRecorder, store: SessionStore
) -> None:
    graph = recorder.attach(problem_graph())
    given: dict[str, Any] = {**INPUT}
    result = graph.invoke(given, here())
    given["user_prompt"] = result["code"] = "changed"
    row = store.get("t")
    assert row is not None
    assert (row["user_prompt"], row["code"]) == ("sort a list", "def f(): ...")


class Ticket(SessionRecord, table="ticket_sessions"):
    """One support conversation."""

    question: Annotated[str | None, Column("messages.0.content")] = None
    intent: Annotated[str | None, Column(sql="varchar(50)", index=True)] = None
    resolved: bool = False
    sources: Annotated[list[dict[str, Any]] | None, Column(versioned=True)] = None
    secret: Annotated[str | None, Column(redact=True)] = None


def test_a_record_of_ones_own(dsn: str, schema: str, tmp_path: Path) -> None:
    class State(TypedDict, total=False):
        messages: list[dict[str, str]]
        intent: str
        sources: list[dict[str, Any]]
        secret: str

    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"intent": "refund", "sources": [{"doc": 1}], "secret": "s3cr3t"})
    builder.add_edge(START, "answer")
    with SessionStore(dsn, schema=schema, record=Ticket) as store:
        with SessionRecorder(store, spool_dir=tmp_path) as recorder:
            graph = recorder.attach(builder.compile())
            graph.invoke({"messages": [{"role": "user", "content": "My money?"}]}, here())
            assert not any(b"s3cr3t" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        row = store.get("t")
        assert row is not None
        assert (row["question"], row["intent"], row["resolved"], row["secret"]) == (
            "My money?",
            "refund",
            False,
            "[redacted]",
        )
        assert store.update("t", resolved=True)
        assert [found["thread_id"] for found in store.query(resolved=True)] == ["t"]
        store.save("t", {"intent": "complaint"})
        again = store.get("t")
    assert again is not None
    assert (again["intent"], again["resolved"], again["workflow_status"]) == ("complaint", True, "completed")


def test_redact_sees_every_field_before_the_disk(store: SessionStore, tmp_path: Path) -> None:
    def redact(name: str, value: Any) -> Any:
        return "***" if name == "code" else value

    with SessionRecorder(store, spool_dir=tmp_path, redact=redact) as recorder:
        recorder.attach(problem_graph()).invoke(INPUT, here())
        assert not any(b"def f()" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    row = store.get("t")
    assert row is not None
    assert (row["code"], row["topic"]) == ("***", "lists")


@pytest.mark.parametrize("durability", ["memory", "spool", "fsync", "sync"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_every_durability(durability: Any, asynchronous: bool, dsn: str, schema: str, tmp_path: Path) -> None:
    store = SessionStore(dsn, schema=schema)
    recorder = SessionRecorder(store, durability=durability, spool_dir=tmp_path, sync_timeout=60)
    graph = recorder.attach(problem_graph(asynchronous=asynchronous))
    result = await graph.ainvoke(INPUT, here()) if asynchronous else graph.invoke(INPUT, here())
    assert result["tests_passed"]
    if durability == "sync":
        assert recorder.stats().pending == 0
        with psycopg.connect(dsn) as conn:
            status = sql.SQL("SELECT workflow_status FROM {}.session_states").format(sql.Identifier(schema))
            assert conn.execute(status).fetchall() == [("completed",)]
    assert recorder.close(120)
    assert store.count(workflow_status="completed") == 1
    store.close()


async def test_on_an_async_store(dsn: str, schema: str, tmp_path: Path) -> None:
    async with AsyncSessionStore(dsn, schema=schema) as store:
        with SessionRecorder(store, spool_dir=tmp_path) as recorder:
            await recorder.attach(problem_graph(InMemorySaver(), asynchronous=True)).ainvoke(INPUT, here())
            row = await store.get("t")
    assert row is not None
    assert row["workflow_status"] == "completed"


def test_the_one_line_form(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: str) -> None:
    monkeypatch.setenv("DATABASE_URL", make_conninfo(dsn, options=f"-c search_path={schema}"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    attach(problem_graph()).invoke(INPUT, here())

    class Chat(TypedDict):
        messages: list[Any]

    builder = StateGraph(Chat)
    builder.add_node("answer", lambda state: {"messages": [*state["messages"], ("ai", "yes")]})
    builder.add_edge(START, "answer")
    attach(builder.compile(), durability="sync", sync_timeout=60).invoke({"messages": [("user", "no?")]}, here())
    deadline = time.monotonic() + 120
    with SessionStore(record=ProblemSession) as problems, SessionStore(record=MessagesSession) as messages:
        while not (row := problems.get("t")) or row["workflow_status"] != "completed":
            assert time.monotonic() < deadline
        row = messages.get("t")
    assert row is not None
    assert (row["user_prompt"], row["answer"]) == ("no?", "yes")


def test_times_of_a_run_that_began_before_the_first_contact(store: SessionStore, tmp_path: Path) -> None:
    recorder = SessionRecorder(store, spool_dir=tmp_path)
    store.clock._origin += 3_600 * 10**6  # this machine's clock is an hour ahead

    def connect(state: Any) -> dict[str, Any]:
        time.sleep(0.05)
        assert store.get("nobody") is None
        return {"code": "x"}

    class State(TypedDict, total=False):
        user_prompt: str
        code: str

    builder = StateGraph(State)
    builder.add_node("connect", connect)
    builder.add_edge(START, "connect")
    recorder.attach(builder.compile()).invoke({"user_prompt": "x"}, here())
    row = store.get("t")
    assert row is not None
    assert 0.05 <= row["duration_seconds"] < 600
    assert abs((row["updated_at"] - row["started_at"]).total_seconds()) < 60
    assert abs((row["updated_at"] - row["recorded_at"]).total_seconds()) < 60
    assert recorder.close(120)


async def test_lifespan_closes(recorder: SessionRecorder) -> None:
    async with recorder.lifespan():
        recorder.attach(problem_graph()).invoke(INPUT, here())
    assert recorder.stats().pending == 0
