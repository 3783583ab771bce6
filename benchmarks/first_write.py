"""The milliseconds of each step until the first row is in Postgres, and of a later run: `python benchmarks/first_write.py DSN`.

It imports nothing of ours, nor anything that does, before the clock runs: LangGraph and psycopg are what a user has anyway.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import psycopg  # noqa: F401 - not ours
from agent import Workload


def first(dsn: str) -> dict[str, float]:
    """Return the milliseconds of each step."""
    graph, state, took = Workload().compile(), Workload().input(), dict[str, float]()
    graph.invoke(state)

    begin = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begin
        took[name] = (time.perf_counter() - begin) * 1e3
        begin = time.perf_counter()

    graph.invoke(state)
    lap("a bare run")
    from langgraph_session_store import SessionRecorder, SessionStore

    lap("import")
    store = SessionStore(dsn, schema="start")
    recorder = SessionRecorder(store, spool_dir=tempfile.mkdtemp(prefix="lgss-"))
    recorded = recorder.attach(graph)
    lap("store, recorder, attach")
    recorded.invoke(state, {"configurable": {"thread_id": "first"}})
    lap("first run")
    assert recorder.flush(60).flushed
    lap("until its row is stored")
    recorded.invoke(state, {"configurable": {"thread_id": "second"}})
    lap("second run")
    assert recorder.flush(60).flushed
    lap("until that row is stored")
    assert store.get("first")
    recorder.close()
    return took


if __name__ == "__main__":
    print(json.dumps(first(sys.argv[1])))
