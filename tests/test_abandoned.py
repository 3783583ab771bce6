"""Runs whose process died are marked: by who adopts its spool, by the server; and a run that was alive after all says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from chaos.agent import Content, State, balanced, config, graph, inputs, recorder
from chaos.fleet import until
from langgraph.graph import END, START, StateGraph
from psycopg import sql
from web_serving import served

from langgraph_session_store.errors import ConfigError
from langgraph_session_store.web import create_app, keeping

if TYPE_CHECKING:
    from langgraph_session_store import SessionRecorder, SessionStore

pytestmark = pytest.mark.timeout(600)

DYING = """
import sys, time
sys.path.insert(0, sys.argv[1])
from chaos.agent import Content, config, graph, inputs, recorder, State
from langgraph.graph import END, START, StateGraph

def wait(state):
    print("ready", flush=True)
    time.sleep(600)

builder = StateGraph(State)
builder.add_node("wait", wait)
builder.add_edge(START, "wait")
builder.add_edge("wait", END)
recorder(*sys.argv[2:5]).attach(builder.compile()).invoke(inputs(Content("died", 1)), config("died"))
"""


def status(dsn: str, schema: str, thread: str) -> str | None:
    table = sql.Identifier(schema, "session_states")
    text = sql.SQL("SELECT workflow_status FROM {} WHERE thread_id = %s").format(table)
    with psycopg.connect(dsn) as connection:
        row = connection.execute(text, [thread]).fetchone()
    return row[0] if row else None


def grow_old(store: SessionStore, dsn: str) -> None:
    text = sql.SQL("UPDATE {} SET recorded_at = recorded_at - interval '2 days'").format(store.table.full)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text)


def test_who_adopts_the_spool_of_a_killed_process_marks_its_run(dsn: str, schema: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", DYING, str(Path(__file__).parent), dsn, schema, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ | {"PYTHONWARNINGS": "ignore"}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    with recorder(dsn, schema, tmp_path) as heir:
        heir.attach(graph()).invoke(inputs(Content("alive", 1)), config("alive"))
        until(lambda: heir.stats().abandoned == 1)
        assert heir.flush(120)
        assert balanced(heir)
        assert status(dsn, schema, "died") == "abandoned"
        assert status(dsn, schema, "alive") == "completed"


class Patient:
    """A graph whose run waits until it is let go."""

    def __init__(self, subject: SessionRecorder) -> None:
        self.gate = threading.Event()
        builder = StateGraph(State)
        builder.add_node("wait", self._wait)
        builder.add_edge(START, "wait")
        builder.add_edge("wait", END)
        self.graph: Any = subject.attach(builder.compile())
        self.thread = threading.Thread(target=self.graph.invoke, args=(inputs(Content("p", 1)), config("patient")))

    def _wait(self, state: State) -> State:
        assert self.gate.wait(120)
        return {"code": "late"}


def test_a_run_that_was_alive_after_all_repairs_its_status(
    store: SessionStore, recorder: SessionRecorder, dsn: str, schema: str
) -> None:
    patient = Patient(recorder)
    patient.thread.start()
    try:
        until(lambda: recorder.stats().stored == 1)
        grow_old(store, dsn)
        assert store.mark_abandoned(timedelta(days=1)) == 1
        assert status(dsn, schema, "patient") == "abandoned"
    finally:
        patient.gate.set()
        patient.thread.join()
    assert recorder.flush(120)
    session = store.get("patient")
    assert session is not None
    assert (session["workflow_status"], session["code"]) == ("completed", "late")
    assert store.mark_abandoned(timedelta(days=1)) == 0


def test_the_server_marks_what_nobody_heard_of(
    store: SessionStore, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FIRST", 0.01)
    monkeypatch.setattr(keeping, "EVERY", 0.01)
    for thread in ("old", "done"):
        store.save(thread, {}, workflow_status="completed" if thread == "done" else "running")
    grow_old(store, dsn)
    store.save("new", {}, workflow_status="running")
    with served(store):
        until(lambda: status(dsn, schema, "old") == "abandoned")
    assert (status(dsn, schema, "done"), status(dsn, schema, "new")) == ("completed", "running")


def test_the_server_marks_nothing_where_it_shall_not(
    store: SessionStore, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(keeping, "_mark", fail)
    store.save("old", {}, workflow_status="running")
    with served(store, abandon_after=None) as client:
        assert client.get("/api/sessions/old").json()["workflow_status"] == "running"


def test_the_server_refuses_to_mark_every_session_that_runs(store: SessionStore) -> None:
    with pytest.raises(ConfigError, match="abandon_after"):
        create_app(store, abandon_after=timedelta(seconds=-1))


def test_marking_nothing_waits_for_no_lock(store: SessionStore, dsn: str) -> None:
    store.save("t", {}, workflow_status="completed")
    with psycopg.connect(dsn) as writer:  # holds what a writer holds, until the end of this block
        key = f"langgraph_session_store:{store.table.name}"
        writer.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))", [key])
        assert store.mark_abandoned(timedelta(0)) == 0
