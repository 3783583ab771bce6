"""The original project's table, with its rows in it: set up in place, with every row, id and instant."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

import psycopg
import pytest
from langgraph.graph import END, START, StateGraph
from psycopg.conninfo import make_conninfo
from test_schema import catalog, install, run, table

from langgraph_session_store import SessionRecorder, SessionStore
from langgraph_session_store.errors import DataError, PrivilegeError, SchemaError, UnavailableError
from langgraph_session_store.queries import schema as ddl
from langgraph_session_store.query import drive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Connection = psycopg.Connection[tuple[Any, ...]]

TABLE = """
CREATE TABLE session_states (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamp DEFAULT CURRENT_TIMESTAMP, updated_at timestamp DEFAULT CURRENT_TIMESTAMP,
    thread_id varchar(255) UNIQUE NOT NULL, run_id varchar(255),
    user_prompt text NOT NULL, topic varchar(50) NOT NULL, difficulty varchar(20) NOT NULL,
    problem_description text, problem_tests jsonb, code text,
    tests_passed boolean DEFAULT false, code_attempts integer DEFAULT 0, problem_attempts integer DEFAULT 0,
    workflow_status varchar(20) DEFAULT 'running',
    CONSTRAINT valid_topic CHECK (topic = ANY ('{arrays,strings,graphs,trees}')),
    CONSTRAINT valid_difficulty CHECK (difficulty = ANY ('{easy,medium,hard}')),
    CONSTRAINT valid_workflow_status CHECK (workflow_status = ANY ('{running,completed,failed}'))
)
"""
INDEXES = """
CREATE INDEX idx_session_states_thread_id ON session_states (thread_id);
CREATE INDEX idx_session_states_run_id ON session_states (run_id);
CREATE INDEX idx_session_states_created_at ON session_states (created_at);
CREATE INDEX idx_session_states_topic ON session_states (topic);
CREATE INDEX idx_session_states_difficulty ON session_states (difficulty);
CREATE INDEX idx_session_states_workflow_status ON session_states (workflow_status)
"""
TRIGGER = """
CREATE FUNCTION update_session_states_updated_at() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.updated_at = CURRENT_TIMESTAMP; RETURN NEW; END';
CREATE TRIGGER trigger_update_session_states_updated_at BEFORE UPDATE ON session_states
    FOR EACH ROW EXECUTE FUNCTION update_session_states_updated_at()
"""
SUMMARY = """
CREATE VIEW session_states_summary AS
SELECT id, thread_id, run_id, created_at, updated_at, user_prompt, topic, difficulty,
    CASE WHEN problem_description IS NULL THEN 'Not Generated' ELSE 'Generated' END AS problem_status,
    CASE WHEN code IS NULL THEN 'Not Generated' ELSE 'Generated' END AS code_status,
    tests_passed, code_attempts, problem_attempts, workflow_status,
    jsonb_array_length(coalesce(problem_tests, '[]')) AS test_cases_count
FROM session_states ORDER BY created_at DESC
"""
UPSERT = """
INSERT INTO session_states (thread_id, run_id, user_prompt, topic, difficulty, code, tests_passed, code_attempts, workflow_status)
VALUES (%s, 'run-1', 'Please', 'arrays', 'easy', 'pass', true, 2, 'completed')
ON CONFLICT (thread_id) DO UPDATE SET code_attempts = excluded.code_attempts, updated_at = CURRENT_TIMESTAMP
"""
MOMENTS = ["2024-01-15 12:00:00.123456+00", "2024-07-15 12:00+00", "2024-03-10 06:59:59+00", "2024-03-10 07:00+00"]
"""Winter, summer, and both sides of the night in which New York's clocks go forward."""


@pytest.fixture
def database(dsn: str) -> Iterator[str]:
    """A database of the test's own, whose TimeZone it may set."""
    name = f"d_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        yield make_conninfo(dsn, dbname=name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def connected(dsn: str, schema: str = "public") -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        conn.execute(f"SELECT set_config('search_path', '{schema}', false)".encode())
        yield conn


def set_zone(database: str, zone: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET TimeZone = '{zone}'".encode())


def make(conn: Connection, ddl: str = TABLE) -> None:
    for text in (ddl, INDEXES, TRIGGER, SUMMARY):
        conn.execute(text.encode())


def fill(conn: Connection) -> None:
    """Write rows as the original did: now, and at moments whose local time the connection's zone gives."""
    conn.execute(UPSERT, ["now"])
    for moment in MOMENTS:
        conn.execute(UPSERT, [moment])
        conn.execute("ALTER TABLE session_states DISABLE TRIGGER USER")
        times = "created_at = %s::timestamptz::timestamp, updated_at = %s::timestamptz::timestamp"
        conn.execute(f"UPDATE session_states SET {times} WHERE thread_id = %s".encode(), [moment, moment, moment])
        conn.execute("ALTER TABLE session_states ENABLE TRIGGER USER")


def rows(conn: Connection) -> list[tuple[Any, ...]]:
    """Everything that the original's columns hold, with the instants that the connection's zone makes of its times."""
    fields = "thread_id, id, run_id, user_prompt, topic, difficulty, code, tests_passed, code_attempts, workflow_status"
    times = "extract(epoch FROM created_at::timestamptz), extract(epoch FROM updated_at::timestamptz)"
    return conn.execute(f"SELECT {fields}, {times} FROM session_states ORDER BY thread_id".encode()).fetchall()


@pytest.fixture
def conn(dsn: str, schema: str) -> Iterator[Connection]:
    with connected(dsn, schema) as conn:
        yield conn


@pytest.fixture
def second(conn: Connection, schema: str) -> Iterator[str]:
    yield f"{schema}_b"
    conn.execute(f"DROP SCHEMA IF EXISTS {schema}_b CASCADE".encode())


# --- rows and instants ---


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("options", ["", "-c TimeZone=Asia/Tokyo"])
def test_every_row_id_and_instant_is_kept(database: str, zone: str, options: str) -> None:
    """The times are local ones of the database's zone, and not of the connection that sets the table up."""
    set_zone(database, zone)
    with connected(database) as conn:
        make(conn)
        fill(conn)
        before = rows(conn)
        with SessionStore(make_conninfo(database, options=options or None)) as store:
            assert "000_original" in store.setup().done
            assert store.setup().done == ()
            kept = [store.get(moment) for moment in MOMENTS]
        assert rows(conn) == before
    assert [session["created_at"] for session in kept] == [datetime.fromisoformat(moment) for moment in MOMENTS]
    assert all(session["created_at"] == session["updated_at"] == session["recorded_at"] for session in kept)


def test_times_that_are_missing_are_filled_from_the_others(conn: Connection, schema: str) -> None:
    make(conn)
    for thread, created, updated in (
        ("both", None, None),
        ("created", MOMENTS[0], None),
        ("updated", None, MOMENTS[1]),
    ):
        conn.execute(UPSERT, [thread])
        conn.execute("ALTER TABLE session_states DISABLE TRIGGER USER")
        times = "created_at = %s::timestamptz::timestamp, updated_at = %s::timestamptz::timestamp"
        conn.execute(f"UPDATE session_states SET {times} WHERE thread_id = %s".encode(), [created, updated, thread])
        conn.execute("ALTER TABLE session_states ENABLE TRIGGER USER")
    install(conn, table(schema))
    query = "SELECT thread_id, created_at, updated_at, recorded_at FROM session_states"
    found = {thread: times for thread, *times in conn.execute(query.encode()).fetchall()}
    assert set(found["created"]) == {datetime.fromisoformat(MOMENTS[0])}
    assert set(found["updated"]) == {datetime.fromisoformat(MOMENTS[1])}
    assert len(set(found["both"])) == 1


@pytest.mark.parametrize("odd", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_times_that_python_does_not_have_count_as_missing(conn: Connection, dsn: str, schema: str, odd: str) -> None:
    """The driver could not read them, so that not one page of sessions with such a row could be had."""
    make(conn)
    conn.execute(UPSERT, ["odd"])
    conn.execute("ALTER TABLE session_states DISABLE TRIGGER USER")
    conn.execute("UPDATE session_states SET created_at = %s, updated_at = '2024-01-15 12:00'", [odd])
    with SessionStore(dsn, schema=schema) as store:
        (kept,) = store.query()
    assert kept["created_at"] == kept["updated_at"] == kept["recorded_at"]


def test_a_time_to_come_does_not_shut_out_the_runs_until_then(conn: Connection, dsn: str, schema: str) -> None:
    """An application whose zone is east of the database's wrote times that are hours ahead."""
    make(conn)
    conn.execute(UPSERT, ["ahead"])
    conn.execute("ALTER TABLE session_states DISABLE TRIGGER USER")
    conn.execute("UPDATE session_states SET created_at = '2200-01-01', updated_at = '2200-01-01'")
    with SessionStore(dsn, schema=schema) as store:
        store.setup()
        assert store.save_many([store._event("ahead", {"code": "later"}, {})]) == 1
        kept = store.get("ahead")
    assert (kept["code"], kept["created_at"].year) == ("later", 2200)


def test_a_zone_that_cannot_be_told_is_asked_for(database: str) -> None:
    """The role may not read the server's files, and its connection hides what they say."""
    role = f"r_{uuid.uuid4().hex[:16]}"
    asking = make_conninfo(database, options=f"-c role={role} -c TimeZone=Asia/Tokyo")
    with connected(database) as conn:
        make(conn)
        conn.execute(f"CREATE ROLE {role}".encode())
        try:
            for what in (
                "TABLE session_states",
                "VIEW session_states_summary",
                "FUNCTION update_session_states_updated_at()",
            ):
                conn.execute(f"ALTER {what} OWNER TO {role}".encode())
            conn.execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
            before = catalog(conn, "public")
            with SessionStore(asking) as store, pytest.raises(SchemaError, match="ALTER DATABASE"):
                store.setup()
            assert catalog(conn, "public") == before
            set_zone(database, "Asia/Kolkata")
            with SessionStore(asking) as store:
                assert "000_original" in store.setup().done
        finally:
            conn.execute(f"DROP OWNED BY {role}".encode())
            conn.execute(f"DROP ROLE {role}".encode())


# --- the table ---


def test_the_table_is_then_as_a_fresh_one(conn: Connection, schema: str, second: str) -> None:
    make(conn)
    fill(conn)
    install(conn, table(schema))
    assert install(conn, table(schema)) == ddl.Report()
    install(conn, table(second))
    fresh = catalog(conn, second)
    for what, upgraded in catalog(conn, schema).items():
        assert upgraded == fresh[what], what


@pytest.mark.parametrize(
    ("was", "instead"),
    [
        ("thread_id varchar(255) UNIQUE NOT NULL", "thread_id text UNIQUE NOT NULL"),
        ("run_id varchar(255)", "run_id varchar(64)"),
        ("topic varchar(50)", "topic text"),
        ("user_prompt text", "user_prompt varchar(1000)"),
        ("created_at timestamp DEFAULT CURRENT_TIMESTAMP", "created_at timestamptz DEFAULT CURRENT_TIMESTAMP"),
        ("DEFAULT gen_random_uuid()", "DEFAULT uuid_generate_v4()"),
        ("created_at timestamp DEFAULT", "created_at timestamp(3) NOT NULL DEFAULT"),
    ],
)
def test_small_differences_from_the_original_end_the_same(
    conn: Connection, schema: str, second: str, was: str, instead: str
) -> None:
    conn.execute("CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'")
    assert was in TABLE
    make(conn, TABLE.replace(was, instead))
    fill(conn)
    before = [row[:-2] for row in rows(conn)]
    install(conn, table(schema))
    assert [row[:-2] for row in rows(conn)] == before
    install(conn, table(second))
    for what in ("columns", "indexes", "constraints"):
        assert catalog(conn, schema)[what] == catalog(conn, second)[what], what


def test_a_unique_index_does_for_a_constraint(conn: Connection, schema: str) -> None:
    conn.execute(TABLE.replace("UNIQUE NOT NULL", "NOT NULL").encode())
    conn.execute("CREATE UNIQUE INDEX idx_session_states_thread_id ON session_states (thread_id)")
    install(conn, table(schema))
    assert install(conn, table(schema)).done == ()
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("INSERT INTO session_states (thread_id) VALUES ('a'), ('a')")


def test_the_table_alone_without_its_companions(conn: Connection, schema: str) -> None:
    conn.execute(TABLE.encode())
    assert "000_original" in install(conn, table(schema)).done
    assert install(conn, table(schema)).done == ()


def test_what_users_added_stays(conn: Connection, schema: str) -> None:
    """A column, an index, a table that refers to it, a trigger, and the trigger function where another table uses it."""
    make(conn)
    conn.execute("ALTER TABLE session_states ADD rating int DEFAULT 3; CREATE INDEX mine ON session_states (rating)")
    fill(conn)
    conn.execute(
        "CREATE TABLE notes (thread_id varchar(255) REFERENCES session_states (thread_id), updated_at timestamp)"
    )
    conn.execute(
        "CREATE TRIGGER touch BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION update_session_states_updated_at()"
    )
    conn.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fired''; END';"
        "CREATE TRIGGER mine BEFORE UPDATE ON session_states FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    conn.execute("INSERT INTO notes (thread_id) VALUES ('now')")
    install(conn, table(schema))
    assert conn.execute("SELECT DISTINCT rating FROM session_states").fetchall() == [(3,)]
    assert conn.execute("SELECT to_regclass('mine') IS NOT NULL").fetchone() == (True,)
    moved = conn.execute("UPDATE notes SET thread_id = thread_id RETURNING updated_at IS NOT NULL").fetchall()
    assert moved == [(True,)]
    with pytest.raises(psycopg.errors.RaiseException, match="fired"):
        conn.execute("UPDATE session_states SET code = ''")


def test_rows_that_the_original_refused_can_be_written(conn: Connection, schema: str) -> None:
    make(conn)
    install(conn, table(schema))
    statuses = "('a', 'abandoned'), ('b', 'interrupted'), ('c', NULL)"
    conn.execute(f"INSERT INTO session_states (thread_id, workflow_status) VALUES {statuses}".encode())
    conn.execute("INSERT INTO session_states (thread_id, topic, difficulty) VALUES ('d', 'knots', 'impossible')")
    faked = "tests_passed IS NOT NULL OR code_attempts IS NOT NULL OR problem_attempts IS NOT NULL"
    assert conn.execute(f"SELECT count(*) FROM session_states WHERE {faked}".encode()).fetchone() == (0,)


@pytest.mark.parametrize(
    "fields",
    [("code text,", "code text NOT NULL DEFAULT '',"), ("run_id varchar(255)", "run_id varchar(255) NOT NULL")],
)
@pytest.mark.parametrize("numbers", ["code_attempts integer", "workflow_status varchar(20)"])
def test_no_column_of_the_record_refuses_a_row_or_fakes_it(
    conn: Connection, schema: str, second: str, fields: tuple[str, str], numbers: str
) -> None:
    make(conn, TABLE.replace(*fields).replace(numbers, f"{numbers} NOT NULL"))
    fill(conn)
    install(conn, table(schema))
    install(conn, table(second))
    assert catalog(conn, schema)["columns"] == catalog(conn, second)["columns"]


# --- what is recorded onto old rows ---


class State(TypedDict, total=False):
    user_prompt: str
    topic: str
    code: str
    tests_passed: bool
    code_attempts: int


def test_runs_are_recorded_onto_old_rows(conn: Connection, dsn: str, schema: str, tmp_path: Path) -> None:
    make(conn)
    fill(conn)
    conn.execute("""UPDATE session_states SET problem_tests = '{"no": "array"}' WHERE thread_id = 'now'""")
    graph = StateGraph(State)
    graph.add_node("solve", lambda _: {"code": "done", "tests_passed": False, "code_attempts": 7})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    ids = {row[0]: row[1] for row in rows(conn)}
    with SessionStore(dsn, schema=schema) as store, SessionRecorder(store, spool_dir=tmp_path) as recorder:
        attached = recorder.attach(graph.compile())
        for thread in ("now", "new"):
            attached.invoke({"user_prompt": "Again", "topic": "graphs"}, {"configurable": {"thread_id": thread}})
        old, new = store.get("now"), store.get("new")
        assert (old["id"], old["run_id"], old["code_attempts"]) == (ids["now"], "run-1", 7)
        assert (old["workflow_status"], old["topic"], old["problem_tests"]) == ("failed", "graphs", {"no": "array"})
        assert old["created_at"] < old["started_at"] < old["updated_at"]
        assert new["run_id"] is None
        assert {session["thread_id"] for session in store.query(topic="graphs")} == {"now", "new"}
        assert store.count(workflow_status="completed") == len(MOMENTS)
        assert store.analytics(group_by="topic").total == len(MOMENTS) + 2
        assert [version.values["code"] for version in store.versions("now")] == ["done"]
        assert store.update(MOMENTS[0], code="better")
        assert store.delete(MOMENTS[1])
        summary = conn.execute("SELECT thread_id, test_cases_count FROM session_states_summary").fetchall()
    assert dict(summary)["now"] == 0


def test_code_of_the_original_goes_on_writing_while_and_after(dsn: str, conn: Connection, schema: str) -> None:
    """Six stores set the table up at once, and nobody who writes in the meantime gets an error."""
    make(conn)
    fill(conn)
    stop, written = threading.Event(), threading.Semaphore(0)

    def original(name: str) -> int:
        with connected(dsn, schema) as mine:
            count = 0
            while not stop.is_set():
                mine.execute(UPSERT, [f"{name}-{count}"])
                mine.execute("SELECT count(*) FROM session_states_summary").fetchall()
                count += 1
                written.release()
            return count

    def setup(_: int) -> bool:
        with SessionStore(dsn, schema=schema) as store:
            return bool(store.setup().done)

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(original, name) for name in ("a", "b")]
        try:
            for _ in range(4):
                assert written.acquire(timeout=60)
            assert sum(pool.map(setup, range(6))) == 1
            for _ in range(4):
                assert written.acquire(timeout=60)
        finally:
            stop.set()
        counts = [writer.result(60) for writer in writers]
    assert conn.execute("SELECT count(*) FROM session_states").fetchone() == (sum(counts) + 1 + len(MOMENTS),)


def cut_off_after(cuts: int, dsn: str, conn: Connection, schema: str) -> bool:
    """Set up over a connection that the server ends after so many statements; return whether there were no more."""
    with psycopg.connect(dsn, autocommit=True) as mine:
        left = iter(range(cuts))

        def execute(query: Any) -> Any:
            if next(left, None) is None:
                conn.execute("SELECT pg_terminate_backend(%s, 120000)", [mine.info.backend_pid])
            return run(mine, query)

        try:
            with mine.transaction():
                drive(ddl.install(table(schema)), execute)
        except psycopg.OperationalError:
            return False
        return True


def test_cut_off_after_any_statement_nothing_has_happened(dsn: str, conn: Connection, schema: str) -> None:
    make(conn)
    fill(conn)
    before = catalog(conn, schema), rows(conn)
    cuts = 0
    while not cut_off_after(cuts, dsn, conn, schema):
        assert (catalog(conn, schema), rows(conn)) == before, cuts
        cuts += 1
    assert cuts > 20, "there are as many statements"
    assert rows(conn) == before[1]
    assert install(conn, table(schema)).done == ()


# --- what is not the original, or in the way ---


@pytest.mark.parametrize(
    ("was", "instead", "says"),
    [
        ("id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "id serial PRIMARY KEY", "id is integer, not uuid"),
        ("created_at timestamp DEFAULT CURRENT_TIMESTAMP", "created_at bigint", "created_at is bigint"),
        ("thread_id varchar(255) UNIQUE", "thread_id varchar(255)", "thread_id is not unique"),
        ("code text,", "code text, tenant text NOT NULL,", "tenant is NOT NULL without a default"),
        ("code_attempts integer DEFAULT 0", "code_attempts text DEFAULT '0'", "code_attempts is text, not integer"),
        ("run_id varchar(255)", "mlflow_run varchar(255)", "it has no column run_id"),
    ],
)
def test_a_table_that_is_not_the_original_is_left_alone(
    conn: Connection, schema: str, was: str, instead: str, says: str
) -> None:
    assert was in TABLE
    conn.execute(TABLE.replace(was, instead).encode())
    before = catalog(conn, schema)
    with pytest.raises(SchemaError, match=says):
        install(conn, table(schema))
    assert catalog(conn, schema) == before


@pytest.mark.parametrize("reads", ["thread_id FROM session_states_summary", "created_at FROM session_states"])
@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_in_the_way_is_named_and_not_dropped(conn: Connection, schema: str, reads: str, kind: str) -> None:
    make(conn)
    conn.execute(f"CREATE {kind} mine AS SELECT {reads}".encode())
    conn.execute("CREATE VIEW harmless AS SELECT thread_id, topic FROM session_states")
    before = catalog(conn, schema)
    with pytest.raises(SchemaError, match=r"drop .*mine, run setup\(\) again"):
        install(conn, table(schema))
    assert catalog(conn, schema) == before
    conn.execute(f"DROP {kind} mine".encode())
    install(conn, table(schema))
    assert conn.execute("SELECT count(*) FROM harmless").fetchone() == (0,)


@pytest.mark.parametrize(
    "what",
    [
        "CREATE INDEX mine ON session_states (date_trunc('day', created_at))",
        "CREATE INDEX mine ON session_states (topic) WHERE created_at > '2024-01-01'",
        "ALTER TABLE session_states ADD age interval GENERATED ALWAYS AS (updated_at - created_at) STORED",
        "CREATE POLICY mine ON session_states USING (created_at > '2024-01-01')",
        "CREATE TRIGGER mine BEFORE UPDATE OF updated_at ON session_states FOR EACH ROW EXECUTE FUNCTION update_session_states_updated_at()",
        "CREATE TABLE mine (was session_states)",
    ],
)
def test_what_uses_a_time_and_cannot_stay_is_told(conn: Connection, dsn: str, schema: str, what: str) -> None:
    make(conn)
    conn.execute(what.encode())
    before = catalog(conn, schema)
    with SessionStore(dsn, schema=schema) as store, pytest.raises(SchemaError, match=r"policy.* drop it"):
        store.setup()
    assert catalog(conn, schema) == before


def test_a_thread_id_that_is_too_long_stops_it(conn: Connection, dsn: str, schema: str) -> None:
    make(conn, TABLE.replace("thread_id varchar(255)", "thread_id text"))
    conn.execute(UPSERT, ["x" * 256])
    before = catalog(conn, schema)
    with SessionStore(dsn, schema=schema) as store, pytest.raises(DataError, match="does not fit"):
        store.setup()
    assert catalog(conn, schema) == before


def test_a_transaction_that_stays_open_does_not_make_it_wait_for_ever(conn: Connection, dsn: str, schema: str) -> None:
    make(conn)
    before = catalog(conn, schema)
    hasty = make_conninfo(dsn, options="-c lock_timeout=50")
    with SessionStore(hasty, schema=schema) as store:
        with connected(dsn, schema) as other, other.transaction():
            other.execute("SELECT FROM session_states")
            with pytest.raises(UnavailableError, match="open holds a lock"):
                store.setup()
        assert catalog(conn, schema) == before
    with SessionStore(dsn, schema=schema) as store:  # a patient one: other tests set tables up, one at a time
        assert "000_original" in store.setup().done


def test_another_role_s_table_is_a_clear_error(conn: Connection, dsn: str, schema: str) -> None:
    make(conn)
    before = catalog(conn, schema)
    role = f"r_{uuid.uuid4().hex[:16]}"
    conn.execute(
        f"CREATE ROLE {role}; GRANT ALL ON SCHEMA {schema} TO {role}; GRANT ALL ON session_states TO {role}".encode()
    )
    try:
        asking = make_conninfo(dsn, options=f"-c role={role}")
        with SessionStore(asking, schema=schema) as store, pytest.raises(PrivilegeError, match="let an owner set"):
            store.setup()
        assert catalog(conn, schema) == before
    finally:
        conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
