"""The table: made fresh, upgraded, grown, by several at once, and by a role that may do nothing."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest

from langgraph_session_store.errors import SchemaError
from langgraph_session_store.queries import schema as ddl
from langgraph_session_store.query import Table, drive
from langgraph_session_store.record import Column, SessionRecord, table_columns, table_name
from langgraph_session_store.records import ProblemSession

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store.query import Query

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def conn(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def table(schema: str, record: type[SessionRecord] = ProblemSession) -> Table:
    return Table(table_name(record), table_columns(record), schema)


def run(conn: Connection, query: Query[Any]) -> Any:
    cursor = conn.execute(query.sql, query.params)
    return query.read(cursor.fetchall() if cursor.description else [], cursor.rowcount)


def install(conn: Connection, made: Table, **options: Any) -> ddl.Report:
    with conn.transaction():
        return drive(ddl.install(made, **options), lambda query: run(conn, query))


def catalog(conn: Connection, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the catalogs know of a schema, without its name and without the order of columns."""
    statements = {
        "columns": "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, "
        "generation_expression FROM information_schema.columns WHERE table_schema = %s",
        "indexes": "SELECT tablename, indexname, replace(indexdef, schemaname, '') FROM pg_indexes WHERE schemaname = %s",
        "constraints": "SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint AS c "
        "JOIN pg_namespace AS n ON n.oid = connamespace WHERE nspname = %s",
        "triggers": "SELECT tgname, replace(pg_get_triggerdef(t.oid), nspname, '') FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid "
        "JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = %s",
        "views": "SELECT viewname, replace(definition, schemaname, '') FROM pg_views WHERE schemaname = %s",
        "comments": "SELECT relname, obj_description(c.oid, 'pg_class') FROM pg_class AS c "
        "JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = %s",
        "compression": "SELECT relname, attname, attcompression FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid "
        "JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = %s AND attnum > 0",
    }
    with conn.transaction():
        conn.execute("SET LOCAL search_path = pg_catalog")  # definitions are then told with their schemas
        return {name: sorted(conn.execute(text, [schema]).fetchall(), key=repr) for name, text in statements.items()}


@pytest.fixture
def second(conn: Connection, schema: str) -> Iterator[str]:
    yield f"{schema}_b"
    conn.execute(f'DROP SCHEMA IF EXISTS "{schema}_b" CASCADE')


# --- fresh ---


def test_the_table_is_as_documented(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    found = conn.execute(
        "SELECT column_name, data_type, character_maximum_length FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = 'session_states' ORDER BY ordinal_position",
        [schema],
    ).fetchall()
    assert found == [
        ("id", "uuid", None),
        ("created_at", "timestamp with time zone", None),
        ("updated_at", "timestamp with time zone", None),
        ("thread_id", "character varying", 255),
        ("run_id", "character varying", 255),
        ("workflow_status", "character varying", 20),
        ("user_prompt", "text", None),
        ("topic", "character varying", 50),
        ("difficulty", "character varying", 20),
        ("problem_description", "text", None),
        ("problem_tests", "jsonb", None),
        ("code", "text", None),
        ("tests_passed", "boolean", None),
        ("code_attempts", "integer", None),
        ("problem_attempts", "integer", None),
        ("user_id", "character varying", 255),
        ("trace_id", "character varying", 255),
        ("graph_name", "character varying", 255),
        ("started_at", "timestamp with time zone", None),
        ("finished_at", "timestamp with time zone", None),
        ("duration_seconds", "double precision", None),
        ("error", "text", None),
        ("checkpoint_id", "character varying", 255),
        ("metadata", "jsonb", None),
        ("rejected", "jsonb", None),
        ("recorded_at", "timestamp with time zone", None),
    ]


def test_every_documented_column_leads_an_index(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    leading = conn.execute(
        "SELECT DISTINCT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
        "WHERE indrelid = to_regclass(%s)",
        [f"{schema}.session_states"],
    ).fetchall()
    wanted = {"thread_id", "run_id", "created_at", "topic", "difficulty", "workflow_status", "updated_at", "user_id"}
    assert wanted <= {name for (name,) in leading}


def test_the_summary_view(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    conn.execute(
        f"""INSERT INTO "{schema}".session_states (thread_id, problem_description, problem_tests)
        VALUES ('a', 'd', '[1, 2]'), ('b', NULL, '{{"no": "array"}}')"""
    )
    cursor = conn.execute(f'SELECT * FROM "{schema}".session_states_summary ORDER BY thread_id')
    names = [column.name for column in cursor.description or ()]
    assert names == [
        *("id", "thread_id", "run_id", "created_at", "updated_at", "user_prompt", "topic", "difficulty"),
        *("problem_status", "code_status", "tests_passed", "code_attempts", "problem_attempts", "workflow_status"),
        *("test_cases_count", "user_id", "duration_seconds"),
    ]
    one, other = (dict(zip(names, row, strict=True)) for row in cursor.fetchall())
    assert (one["problem_status"], one["code_status"], one["test_cases_count"]) == ("Generated", "Not Generated", 2)
    assert (other["problem_status"], other["test_cases_count"]) == ("Not Generated", 0)


def test_hand_written_updates_move_updated_at(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    conn.execute(f"""INSERT INTO "{schema}".session_states (thread_id) VALUES ('a')""")
    conn.execute(f"""UPDATE "{schema}".session_states SET topic = 'x', updated_at = '2000-01-01'""")
    (row,) = conn.execute(f'SELECT updated_at > created_at FROM "{schema}".session_states').fetchall()
    assert row == (True,)


def test_large_columns_are_compressed_by_lz4_where_the_server_has_it(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    (has,) = conn.execute(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    ).fetchone() or (False,)
    (used,) = conn.execute(
        "SELECT attcompression FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'code'",
        [f"{schema}.session_states"],
    ).fetchone() or ("",)
    assert used == ("l" if has else "")


def test_setting_up_again_runs_nothing(conn: Connection, schema: str) -> None:
    assert install(conn, table(schema)).done
    before = catalog(conn, schema)
    assert install(conn, table(schema)) == ddl.Report()
    assert catalog(conn, schema) == before


def test_a_schema_that_is_missing_is_made(conn: Connection, second: str) -> None:
    assert "create_schema" in install(conn, table(second)).done


def test_without_a_schema_the_search_path_says_where(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True, options=f"-c search_path={schema}") as conn:
        made = Table("session_states", table_columns(ProblemSession))
        assert install(conn, made).done
        assert install(conn, made).done == ()
        assert conn.execute("SELECT to_regclass(%s)", [f"{schema}.session_states"]).fetchone() != (None,)
        conn.execute("SET search_path = ''")
        with pytest.raises(SchemaError, match="search_path"):
            install(conn, made)


def test_eight_installers_at_once(dsn: str, conn: Connection, schema: str, second: str) -> None:
    gate = threading.Barrier(8)

    def installer(_: int) -> tuple[str, ...]:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as mine:
            gate.wait()
            return install(mine, table(second)).done

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(installer, range(8)))
    assert sum(bool(steps) for steps in done) == 1
    install(conn, table(schema))
    assert catalog(conn, second)["columns"] == catalog(conn, schema)["columns"]


# --- migrations ---


def test_an_upgraded_table_equals_a_fresh_one(conn: Connection, schema: str, second: str) -> None:
    """The first migration alone, then the rest."""
    old, statements = table(schema), ddl._statements(table(schema), ddl.Found(), distributed=False)
    for name, text in statements:
        if name.startswith("001"):
            conn.execute(text, {})
    conn.execute(f"COMMENT ON TABLE {old.full.as_string()} IS 'langgraph-session-store: schema 1'")
    conn.execute(f"INSERT INTO {old.full.as_string()} (thread_id) VALUES ('kept')")
    done = install(conn, old).done
    assert "002_versions" in done
    assert "001_table" not in done
    conn.execute(next(text for name, text in statements if name == "compress"), {})
    install(conn, table(second))
    for what, upgraded in catalog(conn, schema).items():
        assert upgraded == catalog(conn, second)[what], what
    assert conn.execute(f"SELECT thread_id FROM {old.full.as_string()}").fetchall() == [("kept",)]


def test_the_printed_script_makes_the_same(dsn: str, conn: Connection, schema: str, second: str) -> None:
    install(conn, table(schema))
    subprocess.run(["psql", dsn, "-q", "-v", "ON_ERROR_STOP=1"], input=ddl.script(table(second)), text=True, check=True)
    for what, printed in catalog(conn, second).items():
        assert printed == catalog(conn, schema)[what], what
    assert install(conn, table(second)).done == ()


# --- evolution ---


def record(**fields: Any) -> type[SessionRecord]:
    """Make a record of the table ``tickets``; a field is its annotation."""
    namespace = {"__annotations__": fields, **dict.fromkeys(fields)}
    return type("Tickets", (SessionRecord,), namespace, table="tickets")


def test_an_added_field_becomes_a_column_of_table_history_and_view(conn: Connection, schema: str, second: str) -> None:
    text, versioned = str | None, Annotated[str | None, Column(versioned=True)]
    indexed = Annotated[str | None, Column(sql="varchar(50)", index=True)]
    install(conn, table(schema, record(question=text)))
    grown = record(question=text, answer=versioned, intent=indexed)
    assert set(install(conn, table(schema, grown)).done) == {
        "lock_summary",
        "add_columns",
        "compress",
        "create_index",
        "create_summary",
    }
    assert install(conn, table(schema, grown)).done == ()
    install(conn, table(second, grown))
    for what in ("columns", "indexes", "constraints", "compression"):
        assert catalog(conn, schema)[what] == catalog(conn, second)[what], what


def test_the_view_is_locked_before_its_table_as_its_readers_do(conn: Connection, schema: str) -> None:
    """A reader of the view has it while it waits for the table: had we the table then and waited for the view, one of both would die."""

    class Grown(ProblemSession, table="session_states"):
        rating: int | None = None

    install(conn, table(schema))
    held = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND mode = 'AccessExclusiveLock' AND pid = pg_backend_pid()"
    seen = []

    def watch(query: Query[Any]) -> Any:
        if b"ADD COLUMN" in query.sql:
            seen.append(conn.execute(held, [f"{schema}.session_states_summary"]).fetchone())
        return run(conn, query)

    with conn.transaction():
        drive(ddl.install(table(schema, Grown)), watch)
    assert seen == [(1,)]


@pytest.mark.parametrize(("asked", "waits"), [("0", "10s"), ("3s", "3s")])
def test_a_lock_of_others_is_not_waited_for_without_end(conn: Connection, schema: str, asked: str, waits: str) -> None:
    """Who waits for a table makes all wait who come later, readers too."""
    conn.execute("SELECT set_config('lock_timeout', %s, false)", [asked])
    with conn.transaction():
        drive(ddl.install(table(schema)), lambda query: run(conn, query))
        assert conn.execute("SHOW lock_timeout").fetchone() == (waits,)
    assert conn.execute("SHOW lock_timeout").fetchone() == (asked,)


def test_a_removed_field_leaves_its_column_and_a_returning_one_finds_it(conn: Connection, schema: str) -> None:
    both, one = record(a=str | None, b=int | None), record(a=str | None)
    install(conn, table(schema, both))
    conn.execute(f"""INSERT INTO "{schema}".tickets (thread_id, b) VALUES ('t', 7)""")
    assert install(conn, table(schema, one)).done == ()
    assert install(conn, table(schema, both)).done == ()
    assert conn.execute(f'SELECT b FROM "{schema}".tickets').fetchall() == [(7,)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Annotated[int | None, Column(versioned=True)], Annotated[str | None, Column(versioned=True)]),
        (Annotated[str | None, Column(sql="varchar(50)")], Annotated[str | None, Column(sql="varchar(80)")]),
        (Annotated[float | None, Column(sql="numeric(10,2)")], float | None),
    ],
)
def test_a_changed_type_is_refused_with_the_statement_that_changes_it(
    conn: Connection, schema: str, old: Any, new: Any
) -> None:
    install(conn, table(schema, record(size=old)))
    with pytest.raises(SchemaError, match="ALTER TABLE") as refused:
        install(conn, table(schema, record(size=new)))
    conn.execute(str(refused.value).partition("or run: ")[2])
    assert install(conn, table(schema, record(size=new))).done == ("create_summary",)


def test_spellings_of_one_type_are_one_type(conn: Connection, schema: str) -> None:
    fields = {
        "a": Annotated[str | None, Column(sql="character varying(20)")],
        "b": Annotated[float | None, Column(sql="NUMERIC(10, 2)")],
        "c": Annotated[int | None, Column(sql="int8")],
        "d": Annotated[float | None, Column(sql="float8")],
    }
    install(conn, table(schema, record(**fields)))
    assert install(conn, table(schema, record(**fields))).done == ()


def test_gin_and_trigram_indexes(conn: Connection, schema: str) -> None:
    fields = {
        "sources": Annotated[list[str] | None, Column(index="gin")],
        "question": Annotated[str | None, Column(index="trigram")],
    }
    report = install(conn, table(schema, record(**fields)))
    found = dict(conn.execute("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s", [schema]).fetchall())
    assert "jsonb_path_ops" in found["idx_tickets_sources"]
    if "create_trigram" in report.done:
        assert "gin_trgm_ops" in found["idx_tickets_question"]
        assert install(conn, table(schema, record(**fields))).done == ()
    else:
        assert "pg_trgm" in "".join(report.notes)


# --- what is not ours ---


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("CREATE TABLE {} (id int)", "has no column thread_id"),
        ("CREATE TABLE {} (thread_id varchar(255), created_at timestamp)", "created_at is timestamp without time zone"),
        ("CREATE VIEW {} AS SELECT 1 AS id", "no table"),
    ],
)
def test_a_table_of_another_shape_is_left_alone(conn: Connection, schema: str, made: str, says: str) -> None:
    conn.execute(made.format(f'"{schema}".session_states'))
    before = catalog(conn, schema)
    with pytest.raises(SchemaError, match=says):
        install(conn, table(schema))
    assert catalog(conn, schema) == before


def test_a_column_that_would_refuse_new_rows_is_named(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    conn.execute(f'ALTER TABLE "{schema}".session_states ADD COLUMN tenant text NOT NULL')
    with pytest.raises(SchemaError, match="tenant is NOT NULL without a default"):
        install(conn, table(schema))


def test_a_lost_comment_is_written_again(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    conn.execute(f'COMMENT ON TABLE "{schema}".session_states IS NULL')
    install(conn, table(schema))
    assert install(conn, table(schema)).done == ()


def test_what_users_add_stays(conn: Connection, schema: str) -> None:
    install(conn, table(schema))
    conn.execute(
        f'ALTER TABLE "{schema}".session_states ADD COLUMN rating int; CREATE INDEX mine ON "{schema}".session_states (rating)'
    )
    assert install(conn, table(schema)).done == ()


# --- distributed ---


def keys(conn: Connection, schema: str) -> set[str]:
    found = conn.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype IN ('p', 'u')",
        [f"{schema}.session_states"],
    )
    return {text for (text,) in found}


def test_a_distributed_table_has_its_thread_in_every_key(conn: Connection, schema: str) -> None:
    report = install(conn, table(schema), distributed=True)
    assert keys(conn, schema) == {"PRIMARY KEY (thread_id)", "UNIQUE (id, thread_id)"}
    assert "no Citus" in "".join(report.notes)
    assert install(conn, table(schema)).done == ()


def test_a_plain_table_can_become_a_distributed_one(conn: Connection, schema: str, second: str) -> None:
    install(conn, table(schema))
    install(conn, table(schema), distributed=True)
    install(conn, table(second), distributed=True)
    assert keys(conn, schema) == keys(conn, second)
