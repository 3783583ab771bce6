"""The sink: events in a real Postgres, and what each of its refusals means for them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from langgraph_session_store import logs
from langgraph_session_store.clock import Clock
from langgraph_session_store.columns import LEADING, TRAILING, TableColumn
from langgraph_session_store.queries import schema as schema_module
from langgraph_session_store.query import Table
from langgraph_session_store.row import Row, Slot, own
from langgraph_session_store.sink import PostgresSink, classify
from langgraph_session_store.writer import Block, Poison, Retry, Writer, drain
from langgraph_session_store.writer import pump as pump_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COLUMNS = (
    *LEADING,
    TableColumn("topic", "varchar(50)", "field"),
    TableColumn("attempts", "integer", "field"),
    TableColumn("tests", "jsonb", "field"),
    TableColumn("code", "text", "versioned"),
    *TRAILING,
)
SLOTS = {column.name: Slot(column.name, column.sql_type, "set", column.kind) for column in COLUMNS}
SOON = 120.0


class Base:
    """A sink on a table in a fresh schema, and a second connection that plays tricks on it."""

    def __init__(self, dsn: str, schema: str, folder: Path) -> None:
        self.dsn, self.schema, self.root = dsn, schema, folder / "spool"
        self.table = Table("session_states", COLUMNS, schema)
        self.clock = Clock()
        self.user: dict[str, Any] = {}
        self.sink = self.make(self.clock)
        self.admin = psycopg.connect(dsn, autocommit=True)
        self.writer = Writer(self.sink, clock=self.clock, directory=self.root, min_free=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close(1)
        self.sink.close()
        self.admin.close()

    def make(self, clock: Clock, *, columns: bool = True, setup: bool = True) -> PostgresSink:
        table = self.table if columns else Table("session_states", (), self.schema)
        return PostgresSink(
            lambda: {**conninfo_to_dict(self.dsn), **self.user},
            table,
            clock=clock,
            setup=(lambda: schema_module.install(self.table)) if setup else None,
        )

    def row(self, thread: str, status: str = "completed", begun: int | None = None, **values: Any) -> Row:
        now, mono, anchored = self.clock.tick()
        shape = (own("workflow_status"), *(SLOTS[name] for name in values))
        return Row(thread, now, begun or now, mono, anchored, shape, (status, *values.values()))

    def execute(self, text: str) -> Any:
        where = sql.Identifier(self.schema, "session_states")
        cursor = self.admin.execute(sql.SQL(text).format(table=where, schema=sql.Identifier(self.schema)))
        return cursor.fetchall() if cursor.description else None

    def all(self, columns: str = "workflow_status") -> dict[str, Any]:
        return {thread: rest for thread, *rest in self.execute(f"SELECT thread_id, {columns} FROM {{table}}")}

    def backend(self) -> int:
        assert self.sink._connection is not None
        return self.sink._connection.info.backend_pid


@pytest.fixture
def base(dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Base]:
    monkeypatch.setattr(pump_module, "LINGER", 0.02)
    monkeypatch.setattr(pump_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pump_module, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(pump_module, "BLOCKED_PAUSE", 0.1)
    logs._last.clear()
    with Base(dsn, schema, tmp_path) as base:
        yield base


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_events_of_one_batch_merge_and_a_replay_changes_nothing(base: Base) -> None:
    start = base.row("a", "running", topic="trees")
    rows = [start, base.row("b", attempts=2), base.row("a", "completed", start.begun_at, code="x = 1")]
    base.sink.open()
    assert base.sink.write(rows) == (3, 0)
    before = base.all("workflow_status, topic, attempts, code, updated_at, xmin::text")
    assert before["a"][:4] == ["completed", "trees", None, "x = 1"]
    assert base.sink.write(rows) == (0, 3)
    assert base.all("workflow_status, topic, attempts, code, updated_at, xmin::text") == before


def test_history_comes_from_the_events_and_not_from_what_they_merge_to(base: Base) -> None:
    rows = [base.row("a", code=code) for code in ("one", "two", "two", "three")]
    base.sink.open()
    base.sink.write(rows)
    base.sink.write(rows)
    lines = base.execute("SELECT count(*) FROM {schema}.session_states_versions")
    assert lines == [(3,)]


def test_connecting_anchors_the_clock(base: Base) -> None:
    base.clock._origin -= 3_600_000_000
    base.sink.open()
    ((now,),) = base.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint")
    tick, _, anchored = base.clock.tick()
    assert anchored
    assert abs(tick - now) < 5_000_000


def test_events_from_before_the_first_contact_are_on_the_databases_clock(base: Base) -> None:
    base.clock._origin += 3_600_000_000
    base.writer.submit(base.row("early"))
    assert base.writer.flush(SOON)
    base.writer.submit(base.row("late"))
    assert base.writer.flush(SOON)
    ages = base.all("abs(extract(epoch FROM clock_timestamp() - recorded_at))")
    assert ages["early"][0] < 60


def test_a_dead_processes_rows_are_drained_without_their_record_class(base: Base) -> None:
    base.sink.open()
    base.user = {"host": "/nowhere"}
    base.sink.close()
    base.writer.submit(base.row("a", topic="graphs", code="x"))
    base.writer.close(0)
    assert base.writer._thread is not None
    base.writer._thread.join(SOON)
    base.user = {}
    clock = Clock()
    stats = drain(base.root, base.make(clock, columns=False, setup=False), clock=clock)
    assert (stats.stored, stats.pending) == (1, 0)
    assert base.all("topic, code") == {"a": ["graphs", "x"]}


# What Postgres refuses


POISON = {
    "an overlong varchar": {"topic": "x" * 51},
    "an integer that overflows": {"attempts": 2**31},
    "an integer of no int8": {"attempts": 2**70},
    "text for an integer": {"attempts": "many"},
    "NUL in text": {"code": "a\0b"},
    "a lone surrogate": {"code": "\ud800"},
    "broken JSON": {"tests": "{"},
    "NaN in JSON": {"tests": "[NaN]"},
    "NUL in JSON": {"tests": '"\\u0000"'},
    "JSON nested too deeply": {"tests": "[" * 100_000 + "]" * 100_000},
    "an SQL type that is none": None,
}
NO_JSON = {"an integer of no int8", "a lone surrogate"}  # not even the spool takes them: degraded when they come in


@pytest.mark.parametrize("name", POISON)
def test_a_bad_value_is_poison_and_leaves_the_connection_usable(base: Base, name: str) -> None:
    base.sink.open()
    row = base.row("bad", **(POISON[name] or {}))
    if POISON[name] is None:
        slot = Slot("code", "text); DROP TABLE session_states; --", "set", "versioned")
        row = Row("bad", row.recorded_at, row.begun_at, 0, True, (slot,), ("x",))
    with pytest.raises(Poison):
        base.sink.write([row])
    assert base.sink.write([base.row("good")]) == (1, 0)
    assert base.all() == {"good": ["completed"]}


def test_poison_among_good_rows_stays_visible(base: Base) -> None:
    base.user = {"host": "/nowhere"}
    values = [value for value in POISON.values() if value]
    for n in range(300):
        base.writer.submit(base.row(f"t-{n:03}", **(values[n // 33] if n % 33 == 7 else {"topic": "good"})))
    base.user = {}
    assert base.writer.flush(SOON)
    rows = base.all("topic, rejected")
    bad = {thread for thread, (_, rejected) in rows.items() if rejected}
    assert len(rows) == 300
    assert bad == {f"t-{n:03}" for n in range(300) if n % 33 == 7}
    stats = base.writer.stats()
    assert stats.quarantined == len(list((base.root / "quarantine").iterdir())) == len(bad) - len(NO_JSON)
    assert stats.stored == 300 - stats.quarantined


BROKEN = {
    "column": ("ALTER TABLE {table} RENAME COLUMN topic TO theme", "ALTER TABLE {table} RENAME COLUMN theme TO topic"),
    "table": ("ALTER TABLE {table} RENAME TO gone", "ALTER TABLE {schema}.gone RENAME TO session_states"),
    "key": (
        "ALTER TABLE {table} DROP CONSTRAINT session_states_thread_id_key",
        "ALTER TABLE {table} ADD CONSTRAINT session_states_thread_id_key UNIQUE (thread_id)",
    ),
    "new column": ("ALTER TABLE {table} ADD tenant text NOT NULL", "ALTER TABLE {table} DROP tenant"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_table_that_does_not_fit_blocks_until_it_is_repaired(base: Base, what: str) -> None:
    breaks, repairs = BROKEN[what]
    base.sink.open()
    base.sink._setup = None  # which would repair some of it
    base.execute(breaks)
    for n in range(12):
        base.writer.submit(base.row(f"t-{n}", topic="trees"))
    until(lambda: base.writer.stats().state == "blocked")
    assert base.writer.stats().quarantined == 0
    base.execute(repairs)
    assert base.writer.flush(SOON)
    assert len(base.all()) == 12
    assert base.writer.stats().quarantined == 0


def test_a_table_that_is_gone_is_set_up_again(base: Base) -> None:
    base.sink.open()
    base.execute("DROP TABLE {table} CASCADE")
    base.writer.submit(base.row("a"))
    assert base.writer.flush(SOON)
    assert set(base.all()) == {"a"}


def test_a_right_that_is_revoked_blocks(base: Base) -> None:
    base.sink.open()
    role = f"r_{base.schema}"
    base.admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        assert base.sink._connection is not None
        base.sink._connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        with pytest.raises(Block) as caught:
            base.sink.write([base.row("a")])
        assert caught.value.code == "42501"
        base.sink.open()
        assert base.sink.write([base.row("a")]) == (1, 0)
    finally:
        base.admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_standby_is_left_for_another_server(base: Base) -> None:
    base.sink.open()
    assert base.sink._connection is not None
    base.sink._connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(Retry) as caught:
        base.sink.write([base.row("a")])
    assert caught.value.code == "25006"
    base.sink.open()
    assert base.sink.write([base.row("a")]) == (1, 0)


def test_a_lock_that_is_held_is_waited_for(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph_session_store.sink.LIMITS", b"SELECT set_config('lock_timeout', '50ms', true)")
    base.sink.open()
    with psycopg.connect(base.dsn) as other:
        other.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(base.schema, "session_states")))
        base.writer.submit(base.row("a"))
        until(lambda: base.writer.stats().last_error == "55P03")
        other.rollback()
    assert base.writer.flush(SOON)
    assert set(base.all()) == {"a"}


def test_a_statement_that_takes_too_long_is_split(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph_session_store.sink.LIMITS", b"SELECT set_config('statement_timeout', '50ms', true)")
    base.sink.open()
    with psycopg.connect(base.dsn) as other:
        other.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(base.schema, "session_states")))
        with pytest.raises(Retry) as caught:
            base.sink.write([base.row("a")])
        other.rollback()
    assert (caught.value.code, caught.value.split) == ("57014", True)


def test_the_limits_do_not_outlive_the_transaction(base: Base) -> None:
    base.sink.open()
    base.sink.write([base.row("a")])
    assert base.sink._connection is not None
    row = base.sink._connection.execute("SHOW lock_timeout").fetchone()
    assert row == ("0",)


def test_a_connection_that_is_killed_in_a_batch_costs_nothing(base: Base) -> None:
    # A sequence forgets nothing in a rollback, so exactly the first three batches lose their server process half-way.
    base.sink.open()
    base.execute("CREATE SEQUENCE {schema}.batches")
    base.execute(
        "CREATE FUNCTION {schema}.killed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('{schema}.batches') <= 3 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$"
    )
    base.execute(
        "CREATE TRIGGER killed AFTER INSERT ON {schema}.session_states"
        " FOR EACH STATEMENT EXECUTE FUNCTION {schema}.killed()"
    )
    for n in range(300):
        base.writer.submit(base.row(f"t-{n}", code="x" * 2000))
    assert base.writer.flush(SOON)
    assert base.writer.stats().retries >= 3
    assert len(base.all()) == 300
    assert base.execute("SELECT count(*) FROM {schema}.session_states_versions") == [(300,)]
    stats = base.writer.stats()
    assert stats.accepted == stats.stored + stats.superseded == 300


def test_a_login_that_is_refused_is_an_outage_first_and_blocks_later(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.user = {"dbname": "no_such_database"}
    with pytest.raises(Retry):
        base.sink.open()
    monkeypatch.setattr("langgraph_session_store.sink.LOGIN", 0.0)
    with pytest.raises(Block):
        base.sink.open()


@pytest.mark.parametrize(
    "options", [{"host": "/nowhere"}, {"host": "127.0.0.1", "port": "1"}, {"hostaddr": "no address"}]
)
def test_a_server_that_cannot_be_reached_is_an_outage(
    base: Base, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    monkeypatch.setattr("langgraph_session_store.sink.LOGIN", 0.0)
    base.user = options
    with pytest.raises(Retry) as caught:
        base.sink.open()
    assert "nowhere" not in str(caught.value)


def test_no_error_says_what_was_in_a_row(base: Base) -> None:
    base.sink.open()
    with pytest.raises(Poison) as caught:
        base.sink.write([base.row("secret-thread", topic="sk-secret" * 10)])
    error: BaseException | None = caught.value
    assert str(error) == "22001"
    assert error is not None
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_two_writers_on_the_same_threads_do_not_deadlock(base: Base) -> None:
    base.sink.open()
    errors: list[BaseException] = []

    def work() -> None:
        sink = base.make(base.clock, setup=False)
        try:
            sink.open()
            for _ in range(40):
                sink.write([base.row(f"t-{n}", code=str(n)) for n in range(30)][:: 1 if _ % 2 else -1])
        except BaseException as error:
            errors.append(error)
        sink.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.AdminShutdown(), Retry),
        (psycopg.errors.DiskFull(), Retry),
        (psycopg.errors.DeadlockDetected(), Retry),
        (psycopg.errors.LockNotAvailable(), Retry),
        (psycopg.errors.DuplicatePreparedStatement(), Retry),
        (psycopg.errors.InternalError_(), Retry),
        (psycopg.OperationalError(), Retry),
        (psycopg.InterfaceError(), Retry),
        (ConnectionResetError(), Retry),
        (psycopg.errors.UndefinedColumn(), Block),
        (psycopg.errors.InsufficientPrivilege(), Block),
        (psycopg.errors.InvalidColumnReference(), Block),
        (psycopg.errors.DatatypeMismatch(), Block),
        (psycopg.errors.DataCorrupted(), Block),
        (psycopg.errors.FeatureNotSupported(), Block),
        (KeyError("unknown"), Block),
        (psycopg.errors.StringDataRightTruncation(), Poison),
        (psycopg.errors.NotNullViolation(), Poison),
        (psycopg.errors.ProgramLimitExceeded(), Poison),
        (psycopg.errors.CardinalityViolation(), Poison),
        (psycopg.DataError(), Poison),
        (psycopg.ProgrammingError(), Poison),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "surrogate"), Poison),
        (RecursionError(), Poison),
        (OverflowError(), Poison),
    ],
)
def test_the_kinds_of_errors(error: Exception, kind: type[Exception]) -> None:
    assert classify(error)[0] is kind
