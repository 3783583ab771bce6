"""The conformance suite is a suite: a recorder without a database passes it, one that sees less fails, and memory is like the table."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from psycopg import connect

from langgraph_session_store.row import Row, Slot, own
from langgraph_session_store.testing import (
    CASES,
    AsyncCaller,
    Bench,
    Case,
    MemoryRecorder,
    MemorySink,
    Subject,
    SyncCaller,
    fresh_schema,
    problem_graph,
    run_without_loop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store import SessionStore


def subject_of(recorder: MemoryRecorder) -> Subject:
    async def read(thread_id: str) -> Any:
        return recorder.get(thread_id)

    return Subject(recorder.attach, read, recorder.config)


@pytest.fixture
def memory() -> Iterator[MemoryRecorder]:
    with MemoryRecorder() as recorder:
        yield recorder


@pytest.mark.parametrize("case", [case for case in CASES if case.applies(SyncCaller(), True)], ids=str)
def test_a_recorder_in_memory_passes(case: Case, memory: MemoryRecorder) -> None:
    run_without_loop(case.check(Bench(subject_of(memory), SyncCaller(), InMemorySaver())))


@pytest.mark.parametrize("case", [case for case in CASES if case.applies(AsyncCaller(), None)], ids=str)
async def test_a_recorder_in_memory_passes_without_a_checkpointer(case: Case, memory: MemoryRecorder) -> None:
    await case.check(Bench(subject_of(memory), AsyncCaller(), None))


def test_a_recorder_that_is_only_listed_fails_where_it_cannot_know(memory: MemoryRecorder) -> None:
    """Without the graph nobody knows the state of a failed run: the suite must say so."""
    listed = Subject(
        lambda graph: graph.with_config(callbacks=memory.callbacks), subject_of(memory).read, memory.config
    )
    failed = set()
    for case in CASES:
        if case.applies(SyncCaller(), True):
            try:
                run_without_loop(case.check(Bench(listed, SyncCaller(), InMemorySaver())))
            except AssertionError:
                failed.add(case.name)
    assert {"node raises", "narrower output schema", "interrupt_after the last node"} <= failed
    assert "normal end" not in failed


def test_a_recorder_that_records_nothing_fails_every_case() -> None:
    with MemoryRecorder() as recorder:
        deaf = Subject(lambda graph: graph, subject_of(recorder).read, recorder.config)
        for case in CASES:
            if case.applies(SyncCaller(), True):
                with pytest.raises(AssertionError, match="no row"):
                    run_without_loop(case.check(Bench(deaf, SyncCaller(), InMemorySaver())))


def test_a_schema_is_new_and_gone_afterwards(dsn: str) -> None:
    with connect(dsn, autocommit=True) as connection:
        found = "SELECT count(*) FROM pg_namespace WHERE nspname = ANY(%s)"
        with fresh_schema(dsn) as one, fresh_schema(dsn) as two:
            assert one != two
            assert connection.execute(found, [[one, two]]).fetchone() == (2,)
        assert connection.execute(found, [[one, two]]).fetchone() == (0,)
        with pytest.raises(ZeroDivisionError), fresh_schema(dsn) as three:
            raise ZeroDivisionError
        assert connection.execute(found, [[three]]).fetchone() == (0,)


def test_a_forgotten_thread_has_no_row(memory: MemoryRecorder) -> None:
    memory.attach(problem_graph()).invoke({"user_prompt": "x"}, {"configurable": {"thread_id": "t"}})
    assert memory.get("t")["workflow_status"] == "completed"
    assert memory.get("another") is None
    assert memory.stats().mode == "memory"


# --- memory is like the table -----------------------------------------------------------------------------------------

SLOTS = (
    Slot("code", "text", "set", "versioned"),
    Slot("code", "text", "fill", "versioned"),
    Slot("topic", "varchar(50)", "default", "field"),
    Slot("topic", "varchar(50)", "set", "field"),
    Slot("problem_tests", "jsonb", "set", "versioned"),
    own("error"),
    own("run_id", "fill"),
    own("workflow_status"),
)
VALUES = {
    "problem_tests": st.sampled_from(['["a"]', "[]", None]),
    "workflow_status": st.sampled_from(["running", "failed"]),
}


@st.composite
def events(draw: st.DrawFn) -> Row:
    slots = {slot.name: slot for slot in draw(st.lists(st.sampled_from(SLOTS), min_size=1))}
    values = tuple(draw(VALUES.get(name, st.sampled_from(["a", "b", None]))) for name in slots)
    at = 1_700_000_000_000_000 + draw(st.integers(0, 6)) * 1_000_000
    return Row("t", at, at, 0, True, tuple(slots.values()), values)


NOTHING_NEW = [
    Row("t", at, at, 0, True, (Slot("code", "text", "fill", "versioned"),), ("a",))
    for at in (1_700_000_000_000_000, 1_700_000_001_000_000)
]


@example(rows=NOTHING_NEW)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(events(), min_size=1, max_size=5))
def test_memory_holds_what_the_table_holds(rows: list[Row], store: SessionStore) -> None:
    sink = MemorySink()
    thread_id = uuid.uuid4().hex
    for row in (row._replace(thread_id=thread_id) for row in rows):
        sink.write([row])
        store.save_many([row])
    kept, stored = sink.get(thread_id), store.get(thread_id)
    assert kept is not None
    assert stored is not None
    assert {name: stored[name] for name in kept} == dict(kept)
