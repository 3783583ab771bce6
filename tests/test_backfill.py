"""Rows from the checkpoints that are already there: equal to what a recorder writes, on every checkpointer, resumable, and never in the way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import backfill_model
import psycopg
import pytest
from chaos.fleet import until
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from psycopg.conninfo import make_conninfo
from test_endings import async_saver, checkpoints, sync_saver

from langgraph_session_store import (
    AsyncSessionStore,
    Column,
    ConfigError,
    MessagesSession,
    SessionRecord,
    SessionRecorder,
    SessionStore,
    abackfill,
    async_thread,
    backfill,
    sync_thread,
)
from langgraph_session_store.backfill.sources import source_of
from langgraph_session_store.errors import SchemaError, UnavailableError
from langgraph_session_store.testing import (
    CASES,
    AsyncCaller,
    Bench,
    BoomError,
    Case,
    Subject,
    SyncCaller,
    problem_graph,
    run_without_loop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["checkpoints"]  # a fixture

SAVERS = ("memory", "sqlite", "postgres")
UNSEEN = {  # ends that leave no trace in a checkpoint, which shows a run that is under way
    "recursion limit",
    "stream closed early",
    "task cancelled",
    "timeout",
    "Ctrl-C",
    "drained",
}
COMPARED = (
    *("user_prompt", "topic", "difficulty", "problem_description", "problem_tests", "code", "tests_passed"),
    *(
        "code_attempts",
        "problem_attempts",
        "workflow_status",
        "error",
        "thread_id",
        "run_id",
        "user_id",
        "metadata",
        "rejected",
    ),
)


def here(thread_id: str, **metadata: Any) -> Any:
    return {"configurable": {"thread_id": thread_id}, "metadata": metadata}


def run(graph: Any, thread_id: str, behave: str = "ok", **metadata: Any) -> None:
    state = {"user_prompt": f"do {thread_id}", "topic": "lists", "behave": behave}
    with pytest.raises(BoomError) if behave == "raise" else nullcontext():
        graph.invoke(state, here(thread_id, **metadata))


@pytest.fixture
def other(dsn: str, schema: str) -> Iterator[SessionStore]:
    """A second table, for what is filled in."""
    with SessionStore(dsn, schema=schema, table="filled") as store:
        yield store


# What a recorder would have written


def told(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in COMPARED}


def expected(case: Case, live: Any) -> dict[str, Any]:
    """What a checkpoint can know of a row that was recorded live."""
    found = told(live)
    if case.name in UNSEEN:
        found |= {"workflow_status": "running", "error": None}
    return found


def compare(case: Case, live: Any, filled: Any, *, exact: bool) -> None:
    wanted = expected(case, live)
    if not exact and case.name == "interrupt_before":
        wanted["workflow_status"] = "running"  # only the graph knows where it was compiled to stop
    assert told(filled) == wanted
    ended = wanted["workflow_status"] in ("completed", "failed")
    assert (filled["finished_at"] is not None) == ended
    assert filled["created_at"] <= filled["started_at"] <= filled["recorded_at"]
    assert filled["checkpoint_id"]
    if live["checkpoint_id"]:
        assert filled["checkpoint_id"] == live["checkpoint_id"]


BASIC = ("normal end", "node raises", "interrupt()", "resumed", "fails, then succeeds")


def equivalents(caller: Any) -> list[Any]:
    """Each case once on the quickest checkpointer, with the graph and without; the basic ones on the others."""
    return [
        pytest.param(case, saver, exact, id=f"{case.name}-{saver}-{'graph' if exact else 'alone'}")
        for case in CASES
        for saver in SAVERS
        for exact in (True, False)
        if case.applies(caller, saver)
        and (saver == "memory" or case.name in BASIC)
        and (exact or not caller.asynchronous or saver == "postgres")
        # one mode of streaming stands for all: they differ in what the caller sees
        and (not case.name.startswith("stream ") or case.name in ("stream values", *UNSEEN))
    ]


@pytest.mark.parametrize(("case", "saver", "exact"), equivalents(SyncCaller()))
def test_what_a_recorder_would_have_written(  # noqa: PLR0917 - fixtures
    case: Case,
    saver: str,
    exact: bool,
    recorder: SessionRecorder,
    store: SessionStore,
    other: SessionStore,
    checkpoints: str,
) -> None:
    async def read(thread_id: str) -> Any:
        return store.get(thread_id)

    with sync_saver(saver, checkpoints) as checkpointer:
        bench = Bench(Subject(recorder.attach, read, recorder.config), SyncCaller(), checkpointer)
        run_without_loop(case.check(bench))
        options = {"interrupt_before": ["check"]} if case.name == "interrupt_before" else {}
        report = backfill(other, checkpointer, graph=problem_graph(checkpointer, **options) if exact else None)
    assert report.failures == {}
    assert report.created == report.threads
    compare(case, store.get(bench.thread_id), other.get(bench.thread_id), exact=exact)


@pytest.mark.parametrize(("case", "saver", "exact"), equivalents(AsyncCaller()))
async def test_what_a_recorder_would_have_written_on_a_loop(  # noqa: PLR0917 - fixtures
    case: Case,
    saver: str,
    exact: bool,
    recorder: SessionRecorder,
    store: SessionStore,
    dsn: str,
    schema: str,
    checkpoints: str,
) -> None:
    async def read(thread_id: str) -> Any:
        return store.get(thread_id)

    async with (
        AsyncSessionStore(dsn, schema=schema, table="filled") as other,
        async_saver(saver, checkpoints) as checkpointer,
    ):
        bench = Bench(Subject(recorder.attach, read, recorder.config), AsyncCaller(), checkpointer)
        await case.check(bench)
        options = {"interrupt_before": ["check"]} if case.name == "interrupt_before" else {}
        graph = problem_graph(checkpointer, asynchronous=True, **options) if exact else None
        report = await abackfill(other, checkpointer, graph=graph)
        filled = await other.get(bench.thread_id)
    assert report.failures == {}
    assert report.created == report.threads
    compare(case, store.get(bench.thread_id), filled, exact=exact)


# Again, and beside what is there


def test_again_it_changes_nothing_and_stays_out_of_what_is_newer(store: SessionStore) -> None:
    saver = InMemorySaver()
    graph = problem_graph(saver)
    run(graph, "a")
    run(graph, "b")
    assert backfill(store, graph=graph).created == 2
    first = store.get("a")
    assert backfill(store, saver).unchanged == 2
    assert store.get("a") == first
    store.update("a", code="corrected")
    store.save("b", {"topic": "later"}, workflow_status="running", checkpoint_id="of another checkpointer")
    assert backfill(store, graph=graph).unchanged == 2
    assert store.get("a")["code"] == "corrected"  # type: ignore[index]
    assert store.get("b")["workflow_status"] == "running"  # type: ignore[index]
    assert len(store.versions("a")) == 2  # the correction's and the first
    run(graph, "a")
    assert backfill(store, graph=graph).updated == 1
    assert store.get("a")["code_attempts"] == 2  # type: ignore[index]


def test_what_was_erased_stays_so_until_a_run_that_began_later(store: SessionStore) -> None:
    graph = problem_graph(InMemorySaver())
    run(graph, "gone")
    run(graph, "stays")
    backfill(store, graph=graph)
    assert store.delete("gone")
    again = backfill(store, graph=graph)
    assert (again.erased, again.unchanged) == (1, 1)
    assert store.get("gone") is None
    sync_thread(graph, "gone", store)
    assert store.get("gone") is None
    graph.update_state(here("gone"), {"topic": "back"})
    assert sync_thread(graph, "gone", store)
    assert store.get("gone")["topic"] == "back"  # type: ignore[index]


class Scored(SessionRecord, table="filled"):
    user_prompt: str | None = None
    code: Annotated[str | None, Column(versioned=True)] = None


class ScoredLater(SessionRecord, table="filled"):
    user_prompt: str | None = None
    code: Annotated[str | None, Column(versioned=True)] = None
    attempts: Annotated[int | None, Column("code_attempts", sql="integer")] = None
    tests_passed: Annotated[bool | None, Column(versioned=True)] = None


def test_new_columns_of_a_record_are_filled_for_old_threads(dsn: str, schema: str, tmp_path: Path) -> None:
    saver = InMemorySaver()
    with (
        SessionStore(dsn, schema=schema, record=Scored) as before,
        SessionRecorder(before, spool_dir=tmp_path) as recorder,
    ):
        run(recorder.attach(problem_graph(saver)), "live")
        assert recorder.flush(120)
        run(problem_graph(saver), "old")
        with psycopg.connect(**before.target.kwargs(), autocommit=True) as connection:
            # A clock that heard the database late may be behind the checkpoint's.
            connection.execute(
                f"UPDATE \"{schema}\".filled SET recorded_at = recorded_at + interval '1 minute'".encode()
            )
        assert backfill(before, saver).created == 1
        live = before.get("live")
    assert live is not None
    with SessionStore(dsn, schema=schema, record=ScoredLater) as after:
        report = backfill(after, saver)
        assert report.filled == 2
        for thread_id in ("live", "old"):
            row = after.get(thread_id)
            assert row is not None
            assert (row["attempts"], row["tests_passed"]) == (1, True)
            assert len(after.versions(thread_id)) == 1
        assert (row := after.get("live")) is not None
        assert {name: row[name] for name in ("recorded_at", "started_at", "finished_at", "workflow_status")} == {
            name: live[name] for name in ("recorded_at", "started_at", "finished_at", "workflow_status")
        }
        assert backfill(after, saver).unchanged == 2


def test_a_dry_run_counts_and_writes_nothing(store: SessionStore) -> None:
    graph = problem_graph(InMemorySaver())
    run(graph, "a")
    report = backfill(store, graph=graph, dry_run=True)
    assert (report.dry_run, report.threads, report.created) == (True, 1, 1)
    assert store.count() == 0


def test_times_are_the_checkpoints(store: SessionStore) -> None:
    graph = problem_graph(InMemorySaver())
    run(graph, "t", user_id="u-1", mlflow_run_id="run-1", shift="night")
    run(graph, "t", user_id="u-2", mlflow_run_id="run-2")
    history = list(graph.get_state_history(here("t")))
    backfill(store, graph=graph)
    row = store.get("t")
    assert row is not None
    assert row["created_at"] == datetime.fromisoformat(history[-1].created_at)
    assert row["finished_at"] == row["recorded_at"] == datetime.fromisoformat(history[0].created_at)
    inputs = [state.created_at for state in history if state.metadata["source"] == "input"]
    assert row["started_at"] == datetime.fromisoformat(inputs[0])
    assert (row["run_id"], row["user_id"], row["graph_name"]) == ("run-2", "u-2", "LangGraph")
    assert row["metadata"] == {"user_id": "u-2"}
    assert row["checkpoint_id"] == history[0].config["configurable"]["checkpoint_id"]


class Aged(InMemorySaver):
    """Gives checkpoints another time."""

    moment = datetime.now(UTC)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return found and found._replace(checkpoint={**found.checkpoint, "ts": self.moment.isoformat()})


def test_a_checkpoint_from_the_future_does_not_shut_out_what_comes(store: SessionStore) -> None:
    saver = Aged()
    saver.moment = datetime.now(UTC) + timedelta(days=400)
    run(problem_graph(saver), "t")
    backfill(store, saver)
    row = store.get("t")
    assert row is not None
    assert row["recorded_at"] < datetime.now(UTC) + timedelta(days=1)


def test_a_run_cut_long_ago_is_abandoned(store: SessionStore) -> None:
    saver = Aged()
    saver.moment = datetime.now(UTC) - timedelta(days=2)
    graph = problem_graph(saver, interrupt_before=["check"])
    run(graph, "t")
    run(graph, "asks", "interrupt")
    backfill(store, saver)
    assert store.get("t")["workflow_status"] == "abandoned"  # type: ignore[index]
    with SessionStore(store.target, schema=store.table.schema, table="exact") as exact:
        backfill(exact, graph=graph)
        assert exact.get("t")["workflow_status"] == "interrupted"  # type: ignore[index]


def test_stopped_after_a_node(store: SessionStore) -> None:
    graph = problem_graph(InMemorySaver(), interrupt_after=["write"])
    run(graph, "t")
    backfill(store, graph=graph)
    assert store.get("t")["workflow_status"] == "interrupted"  # type: ignore[index]


def test_fields_are_redacted_and_refused_as_usual(store: SessionStore) -> None:
    graph = problem_graph(InMemorySaver())
    graph.invoke({"user_prompt": "secret", "topic": "x" * 80}, here("t"))
    backfill(store, graph=graph, redact=lambda name, value: "***" if name == "user_prompt" else value)
    row = store.get("t")
    assert row is not None
    assert (row["user_prompt"], row["topic"]) == ("***", None)
    with SessionStore(store.target, schema=store.table.schema, table="plain") as plain:
        backfill(plain, graph=graph)
        row = plain.get("t")
        assert row is not None
        assert (row["user_prompt"], row["topic"], set(row["rejected"])) == ("secret", None, {"topic"})


def test_other_shapes_of_state(store: SessionStore) -> None:
    saver = InMemorySaver()

    @entrypoint(checkpointer=saver)
    def flow(state: dict[str, Any]) -> dict[str, Any]:
        if state.get("ask"):
            interrupt("sure?")
        return state | {"code": "done"}

    flow.invoke({"user_prompt": "p"}, here("flow"))
    flow.invoke({"user_prompt": "q", "ask": True}, here("asks"))
    for table, graph in (("alone", None), ("exact", flow)):
        with SessionStore(store.target, schema=store.table.schema, table=table) as filled:
            backfill(filled, saver, graph=graph)
            done, asks = filled.get("flow"), filled.get("asks")
            assert done is not None
            assert asks is not None
            assert (done["workflow_status"], done["user_prompt"], done["code"]) == ("completed", "p", "done")
            assert (asks["workflow_status"], asks["user_prompt"], asks["finished_at"]) == ("interrupted", "q", None)


def test_conversations(dsn: str, schema: str) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [AIMessage("42")]})
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({"messages": [HumanMessage("what?")]}, here("t"))
    with SessionStore(dsn, schema=schema, record=MessagesSession) as store:
        backfill(store, graph.checkpointer)
        row = store.get("t")
        assert row is not None
        assert (row["user_prompt"], row["answer"], row["message_count"]) == ("what?", "42", 2)


# What goes wrong


class Broken(InMemorySaver):
    """Fails on one thread."""

    def get_tuple(self, config: Any) -> Any:
        if config["configurable"]["thread_id"] == "bad":
            raise ValueError("password=hunter2")
        return super().get_tuple(config)


def test_a_thread_that_fails_is_reported_and_the_rest_done(store: SessionStore) -> None:
    saver = Broken()
    for thread_id in ("a", "z"):
        run(problem_graph(saver), thread_id)
    saver.storage["bad"] = saver.storage["a"]
    report = backfill(store, saver)
    assert (report.threads, report.created, report.failed) == (3, 2, 1)
    assert report.failures == {"bad": "its checkpoint cannot be read: ValueError"}
    assert backfill(store, graph=problem_graph(saver)).failed == 1


def test_an_outage_is_no_fault_of_the_threads(store: SessionStore) -> None:
    """They would count as done, and be skipped by who goes on where it was stopped."""

    class Away(InMemorySaver):
        def get_tuple(self, config: Any) -> Any:
            raise psycopg.OperationalError("password=hunter2")

    with pytest.raises(UnavailableError, match="the checkpoints") as caught:
        list(source_of(Away()).read(["t"]))
    assert "hunter2" not in str(caught.value)


def test_sqlite_threads_with_odd_ids_and_metadata(store: SessionStore, lite: tuple[Any, str]) -> None:
    saver, _ = lite
    ids = ["quote'\"", "nul\0in it", "not a number", "broken"]
    for thread_id in ids:
        run(problem_graph(saver), thread_id, score=float("nan") if thread_id == "not a number" else 1.0)
    saver.conn.execute("UPDATE checkpoints SET metadata = '{' WHERE thread_id = 'broken'")
    report = backfill(store, saver)
    assert (report.threads, report.created, list(report.failures)) == (4, 3, ["broken"])
    assert all(store.get(thread_id)["workflow_status"] == "completed" for thread_id in ids[:3])  # type: ignore[index]


def test_another_graphs_threads(store: SessionStore) -> None:
    class Other(TypedDict):
        weather: str

    saver = InMemorySaver()
    run(problem_graph(saver), "ours")
    builder = StateGraph(Other)
    builder.add_node("look", lambda state: {"weather": "rain"})
    builder.add_edge(START, "look")
    foreign = builder.compile(checkpointer=saver)
    foreign.invoke({"weather": "?"}, here("theirs"))
    exact = backfill(store, graph=problem_graph(saver))
    assert (exact.created, exact.failures) == (1, {"theirs": "another graph's thread"})
    alone = backfill(store, saver)
    assert (alone.unchanged, alone.failures) == (1, {"theirs": "its state has no field of ProblemSession"})
    assert store.count() == 1


def test_a_row_that_the_table_refuses(store: SessionStore) -> None:
    graph = problem_graph(InMemorySaver())
    for thread_id in ("a", "bad", "c"):
        run(graph, thread_id)
    store.setup()
    table = f'"{store.table.schema}".session_states'
    with psycopg.connect(**store.target.kwargs(), autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {table} ADD CHECK (user_prompt <> 'do bad')".encode())
    report = backfill(store, graph=graph)
    assert (report.created, list(report.failures)) == (2, ["bad"])
    assert "constraint" in report.failures["bad"]


def test_no_checkpointer_no_tables_no_graph(store: SessionStore, checkpoints: str) -> None:
    with pytest.raises(ConfigError, match="needs a checkpointer"):
        backfill(store)
    with (
        PostgresSaver.from_conn_string(checkpoints) as saver,
        pytest.raises(ConfigError, match=r"no table of checkpoints.*setup"),
    ):
        backfill(store, saver)
    with pytest.raises(ConfigError, match="no recorder is attached"):
        sync_thread(problem_graph(InMemorySaver()), "t")


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_an_async_checkpointer_in_its_own_loop(kind: str, store: SessionStore, checkpoints: str) -> None:
    async with async_saver(kind, checkpoints) as saver:
        with pytest.raises(ConfigError, match="await the asynchronous twin"):
            backfill(store, saver)
        graph = problem_graph(saver, asynchronous=True)
        await graph.ainvoke({"user_prompt": "x"}, here("t"))
        report = await asyncio.to_thread(backfill, store, saver)  # from another thread it can be asked
        assert report.created == 1


def test_an_async_checkpointer_whose_loop_is_over(store: SessionStore, checkpoints: str) -> None:
    async def make() -> Any:
        async with async_saver("sqlite", checkpoints) as saver:
            return saver

    with pytest.raises(ConfigError, match="does not run"):
        backfill(store, asyncio.run(make()))


async def test_a_synchronous_checkpointer_of_ones_own_on_a_loop(dsn: str, schema: str) -> None:
    class Own(BaseCheckpointSaver[str]):
        held = InMemorySaver()

        def get_tuple(self, config: Any) -> Any:
            return self.held.get_tuple(config)

        def list(self, *args: Any, **kwargs: Any) -> Any:
            return self.held.list(*args, **kwargs)

    saver = Own()
    run(problem_graph(saver.held), "t")
    async with AsyncSessionStore(dsn, schema=schema) as store:
        assert (await abackfill(store, saver)).created == 1


async def test_a_checkpointer_of_ones_own_on_a_loop(dsn: str, schema: str) -> None:
    class Own(InMemorySaver):
        def get_tuple(self, config: Any) -> Any:
            raise NotImplementedError

        def list(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

        async def aget_tuple(self, config: Any) -> Any:
            return InMemorySaver.get_tuple(self, config)

        async def alist(self, *args: Any, **kwargs: Any) -> Any:
            for item in InMemorySaver.list(self, *args, **kwargs):
                yield item

    saver = Own()
    graph = problem_graph(saver, asynchronous=True)
    await graph.ainvoke({"user_prompt": "x"}, here("t"))
    async with AsyncSessionStore(dsn, schema=schema) as store:
        for options in ({}, {"graph": graph}):
            report = await abackfill(store, saver, **options)
            assert (report.threads, report.failures) == (1, {})


def test_a_checkpoint_that_the_batch_stumbles_over(store: SessionStore, checkpoints: str) -> None:
    """What is no checkpoint or a blob of an unknown type fails by itself, a channel name that no statement can cast makes threads be read one by one."""
    with PostgresSaver.from_conn_string(checkpoints) as saver:
        saver.setup()
        for thread_id in ("a", "b", "c", "d"):
            run(problem_graph(saver), thread_id)
        with psycopg.connect(checkpoints, autocommit=True) as connection:
            connection.execute("UPDATE checkpoint_blobs SET type = 'pickle' WHERE thread_id = 'b'")
            for thread_id, nothing in (("e", "{}"), ("f", "3")):
                run(problem_graph(saver), thread_id)
                connection.execute("UPDATE checkpoints SET checkpoint = %s WHERE thread_id = %s", [nothing, thread_id])
        report = backfill(store, saver)
        assert (report.created, set(report.failures)) == (3, {"b", "e", "f"})
        with psycopg.connect(checkpoints, autocommit=True) as connection:
            connection.execute(
                r"UPDATE checkpoint_writes SET channel = 'back\slash' WHERE (thread_id, checkpoint_id) ="
                " (SELECT thread_id, max(checkpoint_id) FROM checkpoint_writes WHERE thread_id = 'd' GROUP BY 1)"
            )
            connection.execute(
                "UPDATE checkpoint_writes SET checkpoint_id = (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = 'd')"
                r" WHERE thread_id = 'd' AND channel = 'back\slash'"
            )
        again = backfill(store, saver)
        assert (again.unchanged, set(again.failures)) == (2, {"b", "d", "e", "f"})


# After update_state


def test_sync_thread_by_the_recorder(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver()))
    run(graph, "t", user_id="u")
    before = store.get("t")
    graph.update_state(here("t"), {"topic": "graphs", "tests_passed": False})
    assert store.get("t") == before  # LangGraph tells no handler
    assert sync_thread(graph, "t")
    after = store.get("t")
    assert before is not None
    assert after is not None
    assert (after["topic"], after["tests_passed"], after["workflow_status"]) == ("graphs", False, "failed")
    kept = ("started_at", "finished_at", "created_at", "user_id", "graph_name", "id")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert len(store.versions("t")) == 2
    assert not sync_thread(graph, "never")
    assert store.get("never") is None


def test_sync_thread_keeps_a_status_that_no_checkpoint_shows(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver()))
    for chunk in (stream := graph.stream({"user_prompt": "x"}, here("t"), stream_mode="updates")):
        assert chunk
        break
    stream.close()
    assert store.get("t")["workflow_status"] == "cancelled"  # type: ignore[index]
    assert sync_thread(graph, "t")
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["code"]) == ("cancelled", "def f(): ...")
    assert row["finished_at"] is not None
    graph.update_state(here("t"), {"topic": "changed"})
    assert sync_thread(graph, "t")
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["topic"], row["finished_at"]) == ("interrupted", "changed", None)


async def test_async_thread(recorder: SessionRecorder, dsn: str, schema: str, checkpoints: str) -> None:
    async with (
        async_saver("postgres", checkpoints) as saver,
        AsyncSessionStore(dsn, schema=schema, table="filled") as other,
    ):
        graph = recorder.attach(problem_graph(saver, asynchronous=True))
        await graph.ainvoke({"user_prompt": "x"}, here("t"))
        await graph.aupdate_state(here("t"), {"topic": "graphs"})
        assert await async_thread(graph, "t")
        assert await async_thread(graph, "t", other)
        rows = [recorder._store.get("t"), await other.get("t")]
    assert [(row["topic"], row["workflow_status"]) for row in rows] == [("graphs", "completed")] * 2  # type: ignore[index]


def test_sync_thread_does_nothing_where_recording_is_off(
    recorder: SessionRecorder, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver()))
    run(graph, "t")
    monkeypatch.setenv("SESSION_STORE_DISABLED", "1")
    graph.update_state(here("t"), {"topic": "graphs"})
    assert not sync_thread(graph, "t")
    assert store.get("t")["topic"] == "lists"  # type: ignore[index]


# The command


@pytest.fixture
def command(dsn: str, schema: str, tmp_path: Path) -> Any:
    """Run the command in a process of its own; options of Popen start it only."""
    env = {
        **os.environ,
        "DATABASE_URL": make_conninfo(dsn, options=f"-c search_path={schema}"),
        "XDG_STATE_HOME": str(tmp_path),
    }

    def call(*words: str, start: bool = False, **more: str) -> Any:
        line = [sys.executable, "-m", "langgraph_session_store.cli", "backfill", *words]
        options: Any = {
            "env": env | more,
            "cwd": Path(__file__).parent,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen(line, **options) if start else subprocess.run(line, text=True, check=False, **options)

    return call


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """A checkpointer in a SQLite file, and the file."""
    with SqliteSaver.from_conn_string(str(tmp_path / "graph.db")) as saver:
        yield saver, str(tmp_path / "graph.db")


def test_the_command_reads_sqlite(command: Any, lite: tuple[Any, str], store: SessionStore) -> None:
    saver, file = lite
    for thread_id, behave in (("ok", "ok"), ("bad", "raise"), ("asks", "interrupt")):
        run(problem_graph(saver), thread_id, behave)
    dry = command("-c", file, "--dry-run")
    assert (dry.returncode, dry.stdout, dry.stderr) == (0, "Would backfill 3 threads: 3 created\n", "")
    with pytest.raises(SchemaError), SessionStore(store.target, schema=store.table.schema, setup=False) as bare:
        bare.count()  # there is no table yet
    done = command("-c", file, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["threads"], told["created"], told["failed"]) == (3, 3, 0)
    assert {row["thread_id"]: row["workflow_status"] for row in store.query()} == {
        "ok": "completed",
        "bad": "failed",
        "asks": "interrupted",
    }
    assert command("-c", file, "--dry-run").stdout == "Would backfill 3 threads: 3 unchanged\n"


def test_the_command_imports_no_class_that_a_blob_names(
    command: Any, lite: tuple[Any, str], store: SessionStore
) -> None:
    class Problem(TypedDict, total=False):
        user_prompt: str
        problem: Any

    saver, file = lite
    builder = StateGraph(Problem)
    builder.add_node("write", lambda state: {"problem": backfill_model.Problem(description="sort", tests=[1])})
    builder.add_edge(START, "write")
    builder.compile(checkpointer=saver).invoke({"user_prompt": "x"}, here("t"))
    mark = Path(file).with_name("imported")
    done = command("-c", file, BACKFILL_MARK=str(mark))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Backfilled 1 thread: 1 created\n", "")
    assert not mark.exists()
    assert command("-c", file, "--graph", "backfill_model:graph", BACKFILL_MARK=str(mark)).stderr == ""
    assert mark.exists()
    row = store.get("t")
    assert row is not None
    assert (row["problem_description"], row["problem_tests"]) == ("sort", [1])


def test_the_command_with_the_graph(command: Any, lite: tuple[Any, str], store: SessionStore) -> None:
    saver, file = lite
    run(problem_graph(saver, interrupt_before=["check"]), "waits")
    saver.put(
        here("broken") | {"configurable": {"thread_id": "broken", "checkpoint_ns": ""}},
        {**saver.get(here("waits")), "ts": "?"},
        {},
        {},
    )
    done = command("-c", file, "--graph", "backfill_model:graph")
    assert done.returncode == 1
    assert done.stdout == "Backfilled 2 threads: 1 created, 1 failed\n"
    assert done.stderr == "error: thread broken: its checkpoint does not say when it was made\n"
    assert store.get("waits")["workflow_status"] == "interrupted"  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--checkpoints URL|FILE, or --graph"),
        (["-c", "missing.db"], "no such file"),
        (["-c", __file__], "is no file of checkpoints"),
        (["-g", "nowhere:graph"], "cannot be imported"),
        (["-g", "json:dumps"], "raised TypeError"),
        (["-g", "json:JSONDecoder"], "no compiled graph, but JSONDecoder"),
        (["-c", "x", "--table", "other"], "--record"),
    ],
)
def test_the_command_says_what_is_missing(command: Any, words: list[str], says: str) -> None:
    done = command(*words)
    assert done.returncode == 2, done.stderr
    assert re.search(says, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_file_without_tables(command: Any, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").executescript("CREATE TABLE other (x)").connection.close()
    done = command("-c", str(tmp_path / "empty.db"))
    assert (done.returncode, "has no checkpoints" in done.stderr) == (2, True)


def test_a_postgres_without_tables_and_one_that_is_away(command: Any, checkpoints: str) -> None:
    done = command("-c", checkpoints)
    assert (done.returncode, "no table of checkpoints" in done.stderr) == (2, True)
    with psycopg.connect(checkpoints, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE checkpoints AS SELECT 't' AS thread_id, '' AS checkpoint_ns"
        )  # as ShallowPostgresSaver's
    done = command("-c", checkpoints)
    assert (done.returncode, "the one that made them" in done.stderr) == (2, True)
    token = "hunter2" * 1000  # as clouds give for a password: no name of a file is as long
    for away in ("postgresql://u:hunter2@127.0.0.1:1/x", f"host=127.0.0.1 port=1 dbname=x user=u password={token}"):
        done = command("-c", away)
        assert (done.returncode, "nothing listens there" in done.stderr) == (3, True)
        assert "hunter2" not in done.stderr


@pytest.mark.timeout(400)
def test_killed_in_the_middle_it_goes_on(command: Any, store: SessionStore, checkpoints: str, tmp_path: Path) -> None:
    threads = 1_200
    with PostgresSaver.from_conn_string(checkpoints) as saver:
        saver.setup()
        run(problem_graph(saver), "t-0000")
    with psycopg.connect(checkpoints, autocommit=True) as connection:
        for table, columns in (
            ("checkpoints", "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata"),
            ("checkpoint_blobs", "checkpoint_ns, channel, version, type, blob"),
        ):
            connection.execute(
                f"INSERT INTO {table} (thread_id, {columns}) SELECT 't-' || lpad(n::text, 4, '0'), {columns}"
                f" FROM {table}, generate_series(1, {threads - 1}) AS n".encode()
            )
    store.setup()
    blocker = psycopg.connect(checkpoints)
    page = f"t-{600:04}"  # a row of the second page
    blocker.execute("INSERT INTO session_states (thread_id) VALUES (%s)", [page])  # which the backfill waits for
    process = command("-c", checkpoints, start=True)
    try:
        until(lambda: list(tmp_path.rglob("*.backfill")))
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait(120)
    finally:
        process.kill()
        process.communicate()
        blocker.rollback()
        blocker.close()
    assert store.count() == 500
    done = command("-c", checkpoints, "--json")
    assert done.returncode == 0
    assert "Going on behind thread t-0499" in done.stderr
    told = json.loads(done.stdout)
    assert (told["threads"], told["created"]) == (threads - 500, threads - 500)
    assert store.count(workflow_status="completed") == threads
    assert not list(tmp_path.rglob("*.backfill"))
    again = json.loads(command("-c", checkpoints, "--json").stdout)
    assert (again["threads"], again["unchanged"]) == (threads, threads)
