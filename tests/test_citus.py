"""A real Citus, where $LGSS_CITUS_DSN names its coordinator: the table is distributed, and all that a store does works on it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from test_original_table import State, connected, fill, make

from langgraph_session_store import ProblemSession, SessionRecorder, SessionStore

if TYPE_CHECKING:
    from pathlib import Path

DSN = os.environ.get("LGSS_CITUS_DSN", "")
pytestmark = pytest.mark.skipif(not DSN, reason="LGSS_CITUS_DSN names no Citus coordinator")


class Grown(ProblemSession, table="session_states"):
    rating: int | None = None


@pytest.fixture(scope="session")
def dsn() -> str:
    """The coordinator, for the fixture `schema`."""
    return DSN


def distributed(schema: str) -> list[str]:
    """Return the tables of the schema that are distributed by thread, all in one group."""
    query = """
        SELECT c.relname, p.colocationid FROM pg_dist_partition AS p JOIN pg_class AS c ON c.oid = p.logicalrelid
        WHERE c.relnamespace = to_regnamespace(%s) AND column_to_column_name(p.logicalrelid, p.partkey) = 'thread_id'
    """
    with psycopg.connect(DSN) as conn:
        found = conn.execute(query, [schema]).fetchall()
    assert len({group for _, group in found}) == 1
    return sorted(name for name, _ in found)


def rebalance(schema: str) -> None:
    """Move a shard of the table to another worker, if there is another."""
    query = """
        SELECT citus_move_shard_placement(s.shardid, s.nodename, s.nodeport::int, n.nodename, n.nodeport, 'block_writes')
        FROM citus_shards AS s JOIN pg_dist_node AS n ON (n.nodename, n.nodeport) <> (s.nodename, s.nodeport::int)
        WHERE s.table_name = %s::regclass AND n.shouldhaveshards AND n.isactive LIMIT 1
    """
    with psycopg.connect(DSN, autocommit=True) as conn:
        conn.execute(query, [f"{schema}.session_states"])


def test_a_distributed_table_does_all_that_a_table_does(schema: str, tmp_path: Path) -> None:
    graph = StateGraph(State)
    graph.add_node("solve", lambda _: {"code": "done", "tests_passed": True, "code_attempts": 2})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    with SessionStore(DSN, schema=schema) as store, SessionRecorder(store, spool_dir=tmp_path) as recorder:
        assert store.setup(distributed=True).notes == ()
        assert distributed(schema) == ["session_states", "session_states_versions"]
        assert set(store.setup(distributed=True).done) <= {"unsafe_triggers", "distribute"}
        attached = recorder.attach(graph.compile())
        for number in range(20):
            attached.invoke({"topic": "graphs"}, {"configurable": {"thread_id": f"run-{number}"}})
        store.save_many(
            [{"thread_id": f"t-{n}", "topic": "arrays", "code": str(n), "user_id": "u"} for n in range(200)]
        )
        ids = {session["thread_id"]: session["id"] for session in store.iter()}
        assert len(ids) == 220
        rebalance(schema)
        assert store.save("t-1", {"code": "again"}, run_id="r") == ids["t-1"]
        assert store.update("t-2", code="better")
        assert store.link_run("t-3", "linked")
        assert [version.values["code"] for version in store.versions("t-1")] == ["again", "1"]
        assert store.get("run-7")["workflow_status"] == "completed"
        assert next(store.changes(since=datetime(2020, 1, 1, tzinfo=UTC)))["id"] in ids.values()
        read_everything(store)
        event = store._event("t-4", {"code": "late"}, {})
        assert store.delete("t-4")
        assert store.save_many([event]) == 0
        assert store.erase(user_id="u") == 199
        assert store.purge(older_than=timedelta(0)) == 20
        assert (store.count(), store.versions("t-1")) == (0, [])


def read_everything(store: SessionStore) -> None:
    seen: list[Any] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        page = store.query(limit=37, cursor=cursor, order_by="-created_at")
        seen += [session["thread_id"] for session in page]
        cursor = page.next_cursor
    assert len(seen) == len(set(seen)) == 220
    whole = store.analytics()
    assert (whole.total, whole.by_topic) == (220, {"arrays": 200, "graphs": 20})
    assert store.analytics(group_by="topic", bucket="day").total == 220
    assert store.analytics(topic="graphs").success_rate == 1.0
    assert store.count(topic="graphs", any_of=[{"code_attempts__gte": 2}, {"code__contains": "x"}]) == 20
    assert store.to_arrow(fields=["thread_id", "topic"]).num_rows == 220


def test_a_distributed_table_grows(schema: str) -> None:
    with SessionStore(DSN, schema=schema) as store:
        store.setup(distributed=True)
        store.save("a", {"code": "x"})
    with SessionStore(DSN, schema=schema, record=Grown) as grown:
        assert "add_columns" in grown.setup().done
        assert grown.update("a", rating=5)
        assert grown.get("a")["rating"] == 5


def test_the_original_project_s_table_is_upgraded_and_distributed(schema: str) -> None:
    with connected(DSN, schema) as conn:
        make(conn)
        fill(conn)
    with SessionStore(DSN, schema=schema) as store:
        assert {"000_original", "rekey", "distribute"} <= set(store.setup(distributed=True).done)
        assert distributed(schema) == ["session_states", "session_states_versions"]
        assert store.get("now")["run_id"] == "run-1"
        store.save("now", {"code": "new"})
        assert len(store.versions("now")) == 1
