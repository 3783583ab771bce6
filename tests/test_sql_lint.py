"""No statement of ours is one that Citus or a pooler in transaction mode refuses: all that the package sends is parsed and judged."""

from __future__ import annotations

import importlib.util
import os
import re
import string
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import httpx
import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from psycopg.sql import Composable
from sql_lint import complaints, keys
from test_original_table import State, connected, make
from typer.testing import CliRunner

from langgraph_session_store import (
    AsyncSessionStore,
    Column,
    ProblemSession,
    SessionRecord,
    SessionRecorder,
    SessionStore,
    backfill,
)
from langgraph_session_store.cli import app
from langgraph_session_store.queries import analytics, reads, schema
from langgraph_session_store.query import Table
from langgraph_session_store.record import table_columns
from langgraph_session_store.web import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store.query import Query

PACKAGE = Path(str(importlib.util.find_spec("langgraph_session_store").submodule_search_locations[0]))
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=1)
VALUES = {
    "boolean": True,
    "integer": 3,
    "double precision": 1.5,
    "numeric(10,2)": 1.5,
    "timestamptz": LATER,
    "uuid": UUID(int=1),
}
MANY = {"in": True, "notin": True}


class Odd(SessionRecord, table="odd"):
    """A record that uses what ProblemSession does not."""

    question: Annotated[str | None, Column(index="trigram")] = None
    sources: Annotated[list[str] | None, Column(index="gin", versioned=True)] = None
    price: Annotated[float | None, Column(sql="numeric(10,2)")] = None
    at: datetime | None = None


class Odder(Odd, table="odd"):
    """The same, a field later."""

    mood: str | None = None


# --- what the package sends ---


@contextmanager
def captured() -> Iterator[dict[str, None]]:
    """Collect, in order, every statement that psycopg is given."""
    texts: dict[str, None] = {}

    def noting(execute: Any) -> Any:
        def noted(self: Any, query: Any, *args: Any, **options: Any) -> Any:
            text = query.as_bytes(None) if isinstance(query, Composable) else query
            texts[text.decode() if isinstance(text, bytes) else text] = None
            return execute(self, query, *args, **options)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for cursor in (psycopg.Cursor, psycopg.ServerCursor, psycopg.AsyncCursor, psycopg.AsyncServerCursor):
            for method in ("execute", "executemany"):
                if method in vars(cursor):
                    patch.setattr(cursor, method, noting(vars(cursor)[method]))
        yield texts


def filters(table: Table) -> Iterator[dict[str, Any]]:
    """One filter for every operator of every column."""
    for column in reads.vocabulary(table).describe():
        for operator in column["ops"]:
            value = VALUES.get(str(column["type"]), "x")
            if operator in MANY:
                value = [value]
            elif operator in {"isnull", "has"}:
                value = True if operator == "isnull" else {"a": 1}
            yield {f"{column['name']}__{operator}": value}


def composed(table: Table) -> Iterator[Query[Any]]:
    """Statements that no store here would run: every filter and order, and the numbers of a distributed table."""
    words = reads.vocabulary(table)
    for each in filters(table):
        yield reads.page(table, each)
    for column in words.describe():
        if column["sortable"]:
            yield reads.page(table, {}, order_by=f"-{column['name']}")
        for bucket in (None, "hour", "day", "week"):
            by = words.columns([column["name"]]) if column["name"] in {"topic", "question", "tests_passed"} else ()
            yield analytics.analytics(table, words.where({}), group_by=by, bucket=bucket, spread=True)
    yield reads.number(table, {"thread_id": "t"}, any_of=[{"error__isnull": True}, {"error__contains": "%"}])


async def use_everything(dsn: str, name: str, folder: Path) -> None:
    """Do with a schema, which holds the original project's table, whatever the package can do."""
    with SessionStore(dsn, schema=name, record=Odd) as odd:
        odd.setup()
        odd.setup(distributed=True)
    with SessionStore(dsn, schema=name, record=Odder) as odder:
        odder.setup()
    with SessionStore(dsn, schema=name) as store, SessionRecorder(store, spool_dir=folder / "spool") as recorder:
        use_store(store, folder)
        use_recorder(recorder, store)
        await use_web(store)
        use_commands(dsn, name, folder)
    async with AsyncSessionStore(dsn, schema=name) as astore:
        await astore.save("a", {"topic": "graphs"})
        assert [session async for session in astore.iter(thread_id="a")]
        await anext(astore.changes(since=LONG_AGO))


def use_store(store: SessionStore, folder: Path) -> None:
    store.save("t", {"topic": "arrays", "code": "x", "tests_passed": True}, run_id="r", metadata={"a": 1})
    store.save_many([{"thread_id": f"t{n}", "topic": "graphs", "code": "y", "code_attempts": n} for n in range(5)])
    store.update("t", code="z")
    store.link_run("t", "s")
    assert store.get("t")
    page = store.query(limit=2, order_by=["topic", "-code_attempts"])
    store.query(limit=2, order_by=["topic", "-code_attempts"], cursor=page.next_cursor)
    store.query(
        order_by="-duration_seconds", fields=["thread_id"], any_of=[{"topic": "arrays"}, {"code__contains": "y"}]
    )
    assert list(store.iter())
    assert store.count(topic="graphs")
    store.to_arrow()
    store.export(folder / "all.ndjson")
    for options in ({}, {"group_by": "topic"}, {"bucket": "day", "topic": "graphs"}):
        store.analytics(**options)
    assert store.versions("t")
    assert next(store.changes(since=LONG_AGO))
    store.mark_abandoned(timedelta(hours=1))
    store.mark_abandoned(datetime.now(UTC))
    versioned = {"problem": {"description": "d", "tests": []}, "tests_passed": True}
    for code in ("1", "0"):  # the second is older than what is known
        store.save_many([store._event("late", {**versioned, "code": code}, {})._replace(recorded_at=int(code) + 1)])
    store.delete("t4")
    store.erase(thread_id="t3")
    store.purge(older_than=timedelta(days=1))


def use_recorder(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = StateGraph(State)
    graph.add_node("solve", lambda _: {"code": "done", "tests_passed": True})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    attached = recorder.attach(graph.compile(checkpointer=InMemorySaver()))
    attached.invoke({"topic": "trees"}, {"configurable": {"thread_id": "recorded"}})
    assert recorder.flush(60).pending == 0
    backfill(store, graph=attached)


async def use_web(store: SessionStore) -> None:
    transport = httpx.ASGITransport(create_app(store), client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in ("/api/sessions?count=exact&topic=arrays", "/api/sessions/t", "/api/sessions/t/versions"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/api/sessions/analytics?group_by=topic", "/api/sessions/export.csv", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("counters", "charts", "filters", "table", "session?thread_id=t", "charts?topic=arrays"):
            assert (await client.get(f"/fragments/{path}")).status_code == 200, path
        assert (await client.delete("/api/sessions/t2")).is_success


def use_commands(dsn: str, name: str, folder: Path) -> None:
    env = {"DATABASE_URL": dsn, "XDG_STATE_HOME": str(folder), "FORCE_COLOR": None}
    invoke = partial(CliRunner(env=env).invoke, app)
    for words in (
        "init",
        "doctor",
        "list",
        "show t",
        "stats -g topic",
        "versions t",
        "export -",
        "drain",
        "doctor --strict",
    ):
        done = invoke([*words.split(), "--schema", name, *(["--format", "csv"] if "export" in words else [])])
        assert done.exit_code in {0, 1}, (words, done.output)


async def sent(dsn: str, name: str, folder: Path) -> list[str]:
    """Return every statement that the package sends, and those that it sends to other servers and tables than these."""
    with connected(dsn, name) as conn:
        make(conn)
    with captured() as texts:
        await use_everything(dsn, name, folder)
    tables = [Table(record.__name__.lower(), table_columns(record), name) for record in (ProblemSession, Odd)]
    queries = [query.sql for table in tables for query in composed(table)]
    queries += [text for table in tables for text in setup_of(table, distributed=True)]
    return [*dict.fromkeys([*texts, *(text.decode() for text in queries)])]


def setup_of(table: Table, *, distributed: bool) -> list[bytes]:
    found = schema.Found(schema_exists=False)
    return [text for _, text in schema._statements(table, found, distributed=distributed)]


@pytest.fixture(scope="module")
def volatile(dsn: str) -> frozenset[str]:
    with psycopg.connect(dsn) as conn:
        found = conn.execute("SELECT proname FROM pg_proc GROUP BY 1 HAVING bool_or(provolatile = 'v')").fetchall()
    return frozenset(name for (name,) in found)


def files() -> dict[str, str]:
    """Return the statements of all ``.sql`` files by path, without their headers."""
    paths = sorted(PACKAGE.rglob("*.sql"))
    return {str(path.relative_to(PACKAGE)): path.read_text("utf-8").partition("\n")[2].strip() for path in paths}


def pattern(text: str) -> re.Pattern[str]:
    """Return what a statement looks like that was made of the file's *text*."""
    parts = [
        re.escape(fixed) + (".*" if slot is not None else "") for fixed, slot, *_ in string.Formatter().parse(text)
    ]
    return re.compile("".join(parts), re.DOTALL)


# --- the package ---


async def test_nothing_is_sent_that_citus_or_a_pooler_refuses(
    dsn: str, schema: str, tmp_path: Path, volatile: frozenset[str]
) -> None:
    texts = await sent(dsn, schema, tmp_path)
    assert {text: said for text in texts if (said := complaints(text, volatile))} == {}
    assert "clock_timestamp" in volatile
    own = {path: text for path, text in files().items() if not path.startswith("backfill/")}
    unseen = [path for path, text in own.items() if not any(pattern(text).fullmatch(each.strip()) for each in texts)]
    assert unseen == [], "no statement made of these files was judged"


@pytest.mark.parametrize("path", [path for path in files() if re.match(r"backfill/.*postgres", path)])
def test_what_is_sent_to_a_checkpointer_is_nothing_that_a_pooler_refuses(path: str) -> None:
    text = files()[path]
    condition = "SELECT FROM checkpoints " if text.startswith("WHERE") else ""
    assert complaints(condition + text, citus=False) == []


@pytest.mark.parametrize("record", [ProblemSession, Odd])
def test_every_key_of_a_distributed_table_has_its_thread(record: type[SessionRecord]) -> None:
    table = Table("x", table_columns(record), "s")
    made = [key for text in setup_of(table, distributed=True) for key in keys(text)]
    assert {name for name, _ in made} == {"x", "x_versions", "x_erased"}
    assert [name for name, columns in made if "thread_id" not in columns] == ["x_erased"], "which is not distributed"
    assert [columns for text in setup_of(table, distributed=False) for _, columns in keys(text)][:2] == [
        {"id"},
        {"thread_id"},
    ]


def test_the_printed_script_leaves_nothing_behind_in_its_session(volatile: frozenset[str]) -> None:
    for distributed in (False, True):
        text = schema.script(Table("x", table_columns(Odd), "s"), distributed=distributed)
        body = text.removeprefix("BEGIN;").removesuffix("COMMIT;\n")
        assert set(complaints(body, volatile)) == {"several statements in one string"}


def test_connections_ask_for_nothing_at_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler refuses ``options`` and most parameters, and hands the session to somebody else."""
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)
    with SessionStore("postgresql://u:p@h/d") as store:
        asked = store.target.kwargs().keys() - {"host", "port", "user", "password", "dbname", "connect_timeout"}
    assert {name for name in asked if not name.startswith(("keepalives", "tcp_"))} <= {
        "application_name",
        "client_encoding",
    }, "which PgBouncer keeps per client"


# --- the linter ---


BAD = {
    "SET x = 1": "for the session",
    "SET SESSION x = 1": "for the session",
    "SET TIME ZONE 'UTC'": "for the session",
    "RESET ALL": "for the session",
    "SELECT set_config('a', 'b', false)": "set_config",
    "SELECT set_config('a', 'b', %(local)s)": "set_config",
    "SELECT pg_advisory_lock(1)": "pg_advisory_lock()",
    "SELECT pg_catalog.pg_try_advisory_lock_shared(1)": "pg_try_advisory_lock_shared()",
    "SELECT pg_advisory_unlock_all()": "pg_advisory_unlock_all()",
    "LISTEN x": "LISTEN",
    "UNLISTEN *": "LISTEN",
    "NOTIFY x": "NOTIFY",
    "PREPARE p AS SELECT 1": "prepared",
    "EXECUTE p": "prepared",
    "DEALLOCATE ALL": "prepared",
    "DISCARD ALL": "DISCARD",
    "LOAD 'auto_explain'": "LOAD",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1": "WITH HOLD",
    "CREATE TEMP TABLE x (a int)": "temporary",
    "CREATE TEMP TABLE x AS SELECT 1": "temporary",
    "SELECT 1 AS a INTO TEMP x": "temporary",
    "CREATE TEMP VIEW x AS SELECT 1": "temporary",
    "SELECT 1; SELECT 2": "several statements",
    "BEGIN; SELECT 1": "several statements",
    "BEGIN; SET x = 1": "several statements",
    "INSERT INTO t AS s (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = now()": "now in DO UPDATE",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = CURRENT_TIMESTAMP": "SQLValueFunction in DO UPDATE",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = (SELECT 1)": "SubLink in DO UPDATE",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b::timestamptz": "TypeCast in DO UPDATE",
    "INSERT INTO t AS s (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1 WHERE s.b < random()": "random in DO UPDATE",
    "INSERT INTO t AS s (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = s.b + excluded.c": "A_Expr in DO UPDATE",
    "UPDATE t SET a = clock_timestamp()": "volatile",
    "UPDATE t SET a = 1 WHERE b < random()": "volatile",
    "UPDATE t SET thread_id = 'x'": "distribution column",
    "SELECT 1 FROM t FOR UPDATE": "FOR UPDATE",
    "SELECT 1 FROM t FOR SHARE SKIP LOCKED": "FOR UPDATE",
    "SELECT 1 FROM unnest(ARRAY[1]) AS a, LATERAL (SELECT 1 FROM t LIMIT 1) AS b": "LATERAL",
    "SELECT a FROM t GROUP BY GROUPING SETS ((a), ())": "GROUPING SETS",
    "SELECT a FROM t GROUP BY ROLLUP (a)": "GROUPING SETS",
    "WITH c AS (SELECT 1) SELECT a FROM c, t GROUP BY CUBE (a)": "GROUPING SETS",
    "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT 1 FROM r": "RECURSIVE",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE": "MERGE",
    "CREATE TABLE t (a int REFERENCES s)": "foreign key",
    "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES s (a)": "foreign key",
    "SELECT reltuples FROM pg_class": "reltuples",
    "INSERT INTO t (a) VALUES (1) RETURNING xmax = 0": "xmax",
    "WITH up AS (UPDATE t SET a = 1 RETURNING a) SELECT pg_notify('a', 'b') FROM up": "NOTIFY",
    "DO $$ BEGIN SET x = 1; END $$": "for the session",
    "DO $$ DECLARE a int; BEGIN a := pg_advisory_lock(1); END $$": "pg_advisory_lock()",
    "DO $$ BEGIN IF pg_try_advisory_lock(1) THEN NULL; END IF; END $$": "pg_try_advisory_lock()",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('a', 'b'); RETURN NEW; END $$": "NOTIFY",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY a; RETURN NEW; END $$": "NOTIFY",
}


@pytest.mark.parametrize("text", BAD)
def test_the_linter_finds(text: str, volatile: frozenset[str]) -> None:
    assert any(BAD[text] in said for said in complaints(text, volatile)), complaints(text, volatile)


GOOD = [
    "SET LOCAL x = 1",
    b"BEGIN READ ONLY; SET LOCAL statement_timeout = 10",
    "SELECT set_config('a', 'b', true), '100%%' WHERE a = %(a)b::text[]",
    "SELECT pg_advisory_xact_lock_shared(1)",
    "DECLARE c CURSOR FOR SELECT 1",
    "INSERT INTO t AS s (a) VALUES (%(a)s) ON CONFLICT (a) DO UPDATE SET b = coalesce(s.b, %(a)s) WHERE excluded.r > s.r",
    "INSERT INTO t AS s (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = CASE WHEN s.b IS NULL THEN 1 ELSE greatest(s.b, 2) END",
    "UPDATE t SET a = 1 WHERE thread_id = 'x' AND b < now()",
    "WITH c AS MATERIALIZED (SELECT a FROM t) SELECT a FROM c GROUP BY GROUPING SETS ((a), ())",
    "CREATE TABLE v (thread_id text, FOREIGN KEY (thread_id) REFERENCES t ON DELETE CASCADE)",
]


@pytest.mark.parametrize("text", GOOD)
def test_the_linter_lets_pass(text: str | bytes, volatile: frozenset[str]) -> None:
    assert complaints(text, volatile) == []
