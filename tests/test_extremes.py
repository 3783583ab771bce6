"""Reading and removing at the edges: results and rows that are very large, Ctrl-C, pipes of memory, and what comes back late."""

from __future__ import annotations

import signal
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from psycopg.sql import SQL

from langgraph_session_store import FilterError, SessionRecorder, SessionStore, frames
from langgraph_session_store.clusters import cluster_sessions
from langgraph_session_store.frames import plots
from langgraph_session_store.session import SessionVersions
from langgraph_session_store.testing import problem_graph

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Server

MEGABYTE = 1 << 20


def grow(store: SessionStore, rows: int, size: int) -> None:
    """Add *rows* sessions whose code has *size* characters."""
    store.setup()
    text = SQL("INSERT INTO {} (thread_id, code) SELECT 'g' || n, repeat('x', %s) FROM generate_series(1, %s) AS n")
    with psycopg.connect(**store.target.kwargs(), autocommit=True) as connection:
        connection.execute(text.format(store.table.full), [size, rows])


def test_a_stream_needs_the_memory_of_some_rows(store: SessionStore, tmp_path: Path) -> None:
    grow(store, 10_000, 20_000)  # 200 MB
    tracemalloc.start()
    try:
        assert sum(len(session["code"]) for session in store.iter()) == 200_000_000
        assert store.export(tmp_path / "all.ndjson") == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MEGABYTE
    before, most = pa.total_allocated_bytes(), 0
    with store.batches() as batches:
        for batch in batches:
            most = max(most, pa.total_allocated_bytes() - before)
            del batch
    assert most < 64 * MEGABYTE


def test_many_small_rows_are_streamed_whole(store: SessionStore) -> None:
    grow(store, 60_000, 1)
    tracemalloc.start()
    try:
        seen = {session["thread_id"] for session in store.iter(fields="thread_id", order_by="thread_id")}
        names = tracemalloc.get_traced_memory()[0]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seen) == 60_000
    assert peak - names < 8 * MEGABYTE


def test_ctrl_c_in_a_stream_leaves_the_store_usable(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, pool_size=1) as store:
        grow(store, 3_000, 10)

        def read() -> None:
            for number, _ in enumerate(store.iter()):
                if number == 700:
                    signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            read()
        assert store.count() == 3_000


def test_a_row_of_100_megabytes(store: SessionStore, tmp_path: Path) -> None:
    code = "x" * 100_000_000
    store.save("large", {"code": code, "topic": "lists"})
    session = store.get("large")
    assert session is not None
    assert session["topic"] == "lists"
    kept = session["code"]
    assert kept == code or session["rejected"]["code"]
    (streamed,) = store.iter(topic="lists")
    assert streamed["code"] == kept
    assert store.export(tmp_path / "large.parquet") == 1
    assert len(session._repr_html_()) < 100_000


def test_nothing_at_all(store: SessionStore, tmp_path: Path) -> None:
    page = store.query()
    assert (page, page.next_cursor) == ([], None)
    assert list(store.iter()) == []
    frame, table = store.to_pandas(), store.to_arrow()
    assert (str(frame["code_attempts"].dtype), table.schema.field("created_at").type.tz) == ("Int64", "UTC")
    assert list(page.to_pandas().dtypes) == list(frame.dtypes)
    assert store.export(tmp_path / "none.csv") == 0
    for draw in (plots.success_over_time, plots.attempts_by_difficulty, plots.topic_by_difficulty, plots.durations):
        assert draw(page) is not None
    for picture in (store.analytics().plot(), cluster_sessions(page).plot()):
        assert "nothing to draw" in " ".join(text.get_text() for text in picture.axes[0].texts)


def test_a_page_stands_beside_its_mlflow_runs(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("t", {"topic": "lists"}, run_id="r1")
    store.save("without", {})
    asked = []

    def runs(ids: set[str], uri: str | None) -> dict[str, dict[str, Any]]:
        asked.append((ids, uri))
        return {"r1": {"run_name": "bold-owl", "metrics.loss": 0.5}}

    monkeypatch.setattr(frames.runs, "_mlflow_runs", runs)
    frame = store.query(order_by="thread_id").with_mlflow(tracking_uri="sqlite:///x.db")
    assert asked == [({"r1"}, "sqlite:///x.db")]
    assert list(frame["run_name"].fillna("-")) == ["bold-owl", "-"]
    assert list(frame["thread_id"]) == ["t", "without"]


def test_a_cursor_does_not_outlive_its_order(store: SessionStore) -> None:
    grow(store, 5, 1)
    cursor = store.query(limit=2).next_cursor
    store.delete("g1")
    assert len(store.query(limit=10, cursor=cursor)) in (2, 3)
    for other in ({"order_by": "thread_id"}, {"topic": "lists"}, {"any_of": [{"topic": "lists"}]}):
        with pytest.raises(FilterError, match="cursor"):
            store.query(cursor=cursor, **other)  # type: ignore[arg-type]


def test_versions_show_themselves(store: SessionStore) -> None:
    store.save("t", {"code": "a = 1\nb = 2"})
    store.save("t", {"code": "a = 1\nb = 3"})
    versions = store.versions("t")
    assert isinstance(versions, SessionVersions)
    assert versions._repr_html_().index("Version 2") < versions._repr_html_().index("Version 1")
    assert "+b = 3" in versions._repr_html_()
    assert store.versions("unknown")._repr_html_() == "No versions"  # type: ignore[attr-defined]


def test_what_was_erased_stays_erased_when_the_spool_is_delivered_late(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the waits of a user: nobody delivers what the recorder that is closed has left
    spool: dict[str, Any] = {"spool_dir": tmp_path / "spool"}
    with SessionStore(server.dsn) as store:
        with SessionRecorder(store, **spool) as recorder:
            recorder.attach(problem_graph(InMemorySaver())).invoke({"user_prompt": "one"}, thread("kept"))
            recorder.attach(problem_graph(InMemorySaver())).invoke({"user_prompt": "one"}, thread("erased"))
        assert store.count() == 2
        server.stop()
        recorder = SessionRecorder(store, **spool)
        recorder.attach(problem_graph(InMemorySaver())).invoke({"user_prompt": "two"}, thread("kept"))
        recorder.attach(problem_graph(InMemorySaver())).invoke({"user_prompt": "two"}, thread("erased"))
        assert not recorder.close(timeout=0.2)
        server.start()
        assert store.erase(thread_id="erased") == 1
        with SessionRecorder(store, **spool) as late:
            deadline = time.monotonic() + 120
            while late.stats().pending and time.monotonic() < deadline:
                late.flush(1)
            assert late.stats().pending == 0
            assert store.get("erased") is None
            assert store.versions("erased") == []
            assert store.get("kept")["user_prompt"] == "two"  # type: ignore[index]
            late.attach(problem_graph(InMemorySaver())).invoke({"user_prompt": "three"}, thread("erased"))
            assert store.get("erased")["user_prompt"] == "three"  # type: ignore[index]


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}
