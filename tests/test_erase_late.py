"""What was erased stays erased when an event that Postgres had refused is stored after all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import psycopg
from langgraph.graph import END, START, StateGraph
from psycopg.sql import SQL

from langgraph_session_store.row import loads

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph_session_store import SessionRecorder, SessionStore


class State(TypedDict, total=False):
    topic: str
    code: str


def graph() -> Any:
    builder = StateGraph(State)
    builder.add_node("solve", lambda _: {"code": "def solve(): ..."})
    builder.add_edge(START, "solve")
    builder.add_edge("solve", END)
    return builder.compile()


def test_a_quarantined_event_brings_no_erased_session_back(
    store: SessionStore, recorder: SessionRecorder, dsn: str, tmp_path: Path
) -> None:
    store.setup()
    runnable = recorder.attach(graph())
    table = store.table.full
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("ALTER TABLE {} ADD CONSTRAINT no_poison CHECK (topic <> 'poison')").format(table))
        for thread in ("dropped", "erased"):
            runnable.invoke({"topic": "poison"}, {"configurable": {"thread_id": thread}})
        assert recorder.flush(120)
        connection.execute(SQL("ALTER TABLE {} DROP CONSTRAINT no_poison").format(table))
        connection.execute(
            SQL("DELETE FROM {} WHERE thread_id = 'dropped'").format(table)
        )  # by hand, without a tombstone
    events = [loads(path.read_bytes()) for path in tmp_path.rglob("poison-*")]
    assert sorted(event.thread_id for event in events) == ["dropped", "dropped", "erased", "erased"]

    assert store.erase(thread_id="erased") == 1
    store.save_many(events)
    assert store.get("erased") is None
    assert store.versions("erased") == []
    session = store.get("dropped")
    assert session is not None
    assert (session["topic"], session["code"]) == ("poison", "def solve(): ...")

    runnable.invoke({"topic": "arrays"}, {"configurable": {"thread_id": "erased"}})
    assert recorder.flush(120)
    session = store.get("erased")
    assert session is not None
    assert session["topic"] == "arrays"
