"""Two sinks as one: the table is as one alone would leave it, whatever goes wrong on either connection, and each event is counted once."""

from __future__ import annotations

import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from chaos.pair import Bouncer
from conftest import open_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from test_look_ahead import Eager, left_by_the_dead
from test_queries import Database, event
from test_sink import Base

from langgraph_session_store import logs
from langgraph_session_store.clock import Clock
from langgraph_session_store.queries import schema as ddl
from langgraph_session_store.queries import writes
from langgraph_session_store.query import Table
from langgraph_session_store.sink import PostgresSink
from langgraph_session_store.writer import Block, PairedSink, Poison, Retry, Written, drain
from langgraph_session_store.writer import pair as pair_module
from langgraph_session_store.writer import pump as pump_module
from langgraph_session_store.writer import writer as writer_module
from langgraph_session_store.writer.delivery import Delivery
from langgraph_session_store.writer.pair import divided

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langgraph_session_store.row import Row
    from langgraph_session_store.writer import WriterStats

SOON = 120.0
PROPERTY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_module, "ROWS", 8)
    monkeypatch.setattr(pump_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(writer_module, "BULK", 1)
    monkeypatch.setattr(pair_module, "WORTH", 2)
    logs._last.clear()


def events(count: int, **columns: Any) -> list[Row]:
    return [event(at, f"t{at}", **(columns or {"code": "x"})) for at in range(count)]


def balanced(stats: WriterStats) -> bool:
    return stats.accepted == sum((stats.stored, stats.superseded, stats.quarantined, stats.pending, stats.dropped))


# Who gets what


@given(threads=st.lists(st.integers(0, 9), max_size=60))
def test_a_thread_is_in_one_half_and_its_events_stay_in_order(threads: list[int]) -> None:
    rows = [event(at, f"t{thread}") for at, thread in enumerate(threads)]
    halves = divided(rows)
    assert sorted((*halves[0], *halves[1]), key=lambda row: row.recorded_at) == rows
    ids = [{row.thread_id for row in half} for half in halves]
    assert not ids[0] & ids[1]
    assert all(list(half) == sorted(half, key=lambda row: row.recorded_at) for half in halves)
    if len(rows) < pair_module.WORTH or len(set(threads)) < 2:
        assert halves[0] is rows
    else:
        assert len(ids[0]) - len(ids[1]) in (0, 1)


def test_a_few_events_are_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "WORTH", 4)
    second = Eager()
    pair = PairedSink(Eager(), second)
    pair.coming = lambda: ()
    pair.open()
    assert pair.write(events(3)) == (3, 0)
    assert (second.opened, second.writes) == (0, [])
    assert sum(pair.write(events(4))) == 4
    assert [len(rows) for rows in second.writes] == [2]


# Two sinks that know no database


class Met(Eager):
    """Waits in each write until the other sink is in one too."""

    barrier: threading.Barrier

    def write(self, rows: Sequence[Row]) -> Written:
        self.barrier.wait(SOON)
        return super().write(rows)


def test_both_halves_are_written_at_once(tmp_path: Path) -> None:
    first, second = Met(), Met()
    first.barrier = second.barrier = threading.Barrier(2)
    stats = drain(left_by_the_dead(tmp_path / "s", events(20)), PairedSink(first, second), clock=Clock())
    assert (stats.stored, stats.pending) == (20, 0)
    assert [len(rows) for rows in first.writes] == [len(rows) for rows in second.writes] == [4, 4, 2]
    assert first.rows.keys() | second.rows.keys() == {f"t{at}" for at in range(20)}
    # What each is promised in its first and second write is what the next one brings.
    assert (first.kept, second.kept) == (2, 2)
    assert (first.opened, first.closed, second.closed) == (3, 1, 1)


class Shaky(Eager):
    """Fails as planned, after a part of the rows; only an open one is written to, as with a connection."""

    def __init__(self, table: dict[str, Row], plan: list[tuple[str, int] | None]) -> None:
        super().__init__()
        self.rows, self.plan = table, plan
        self.bad = lambda row: row.get("code") == "bad"
        self.connected = False

    def open(self) -> None:
        self.connected = True

    def write(self, rows: Sequence[Row]) -> Written:
        assert self.connected
        planned = self.plan.pop(0) if self.plan else None
        if planned is None:
            return super().write(rows)
        kind, part = planned
        done = rows[: min(part, len(rows) - 1)]
        written = Written()
        with suppress(Poison):
            written = super().write(done) if done else Written()
        rest = rows[len(done) :] if any(written) else None
        self.connected = kind in ("poison", "split")
        if kind == "poison":
            raise Poison("22001", written=written, rest=rest)
        if kind == "block":
            raise Block("42501", written=written, rest=rest)
        raise Retry("57014", split=kind == "split", written=written, rest=rest)


PLAN = st.lists(
    st.none() | st.tuples(st.sampled_from(["poison", "block", "split", "outage"]), st.integers(0, 3)), max_size=6
)


@PROPERTY
@given(threads=st.lists(st.integers(0, 11), min_size=1, max_size=30), first=PLAN, second=PLAN, bad=st.integers(0, 40))
def test_each_event_ends_in_one_counter_whatever_either_sink_does(
    threads: list[int], first: list[Any], second: list[Any], bad: int
) -> None:
    rows = [event(at, f"t{thread}", code="bad" if at == bad else "x") for at, thread in enumerate(threads)]
    table: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = left_by_the_dead(Path(folder) / "s", rows)
        pair = PairedSink(Shaky(table, first), Shaky(table, second))
        for _ in range(len(first) + len(second) + 2):  # a sink that blocks ends a drain, nothing else does
            stats = drain(root, pair, clock=Clock())
            assert balanced(stats)
            assert (stats.pending == 0) == (stats.state != "blocked")
            if not stats.pending:
                break
        assert stats.pending == 0
        assert not list(root.glob("*/*.seg"))
    assert set(table) == {row.thread_id for row in rows}


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (None, Retry("08006"), "08006"),
        (Retry("57014", split=True), None, "57014"),
        (Poison("22001"), Retry("08006"), "08006"),
        (Retry("08006"), Poison("22001"), "08006"),
        (Poison("22001"), Retry("57014", split=True), "22001"),
        (Retry("08006"), Retry("57014", split=True), "08006"),
        (Retry("08006"), Block("42501"), "42501"),
        (Block("42501"), Poison("22001"), "42501"),
    ],
)
def test_two_failures_are_one_error_about_all_that_is_left(
    mine: Exception | None, theirs: Exception | None, said: str
) -> None:
    first, second = Eager(), Eager()
    first.fails, second.fails = [mine] if mine else [], [theirs] if theirs else []
    pair = PairedSink(first, second)
    pair.coming = lambda: ()
    rows = events(8)
    with pytest.raises((Retry, Block, Poison)) as caught:
        pair.write(rows)
    left = [row for half, error in zip(divided(rows), (mine, theirs), strict=True) if error for row in half]
    assert (caught.value.code, caught.value.rest, caught.value.written) == (said, left, (8 - len(left), 0))
    assert caught.value in (mine, theirs)


def test_ctrl_c_waits_for_the_other_half() -> None:
    begun, go = threading.Event(), threading.Event()

    class Interrupted(Eager):
        def write(self, rows: Sequence[Row]) -> Written:
            assert begun.wait(SOON)
            threading.Timer(0.05, go.set).start()
            raise KeyboardInterrupt

    class Slow(Eager):
        def write(self, rows: Sequence[Row]) -> Written:
            begun.set()
            assert go.wait(SOON)
            return super().write(rows)

    second = Slow()
    pair = PairedSink(Interrupted(), second)
    pair.coming = lambda: ()
    with pytest.raises(KeyboardInterrupt):
        pair.write(events(8))
    assert sorted(second.rows) == ["t1", "t3", "t5", "t7"]


def test_a_second_sink_that_cannot_open_is_asked_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Eager(), Eager()
    second.down = Retry("53300")
    stats = drain(left_by_the_dead(tmp_path / "s", events(30)), PairedSink(first, second), clock=Clock())
    assert (stats.stored, stats.retries, second.opened, second.writes) == (30, 0, 1, [])
    assert "53300" in caplog.text


# With Postgres


@pytest.fixture
def base(dsn: str, schema: str, tmp_path: Path) -> Iterator[Base]:
    with Base(dsn, schema, tmp_path) as base:
        yield base


def second_of(base: Base, **connection: Any) -> PostgresSink:
    """A second sink on the base's table, whose connection can be told from the first one's."""
    arguments = {**conninfo_to_dict(base.dsn), "application_name": "second", **connection}
    return PostgresSink(lambda: arguments, base.table, clock=base.clock)


def on_insert(base: Base, body: str) -> None:
    """Run *body* for each statement that inserts rows, which are `new`."""
    base.sink.open()  # sets the table up
    base.execute(
        "CREATE FUNCTION {schema}.tricks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        + body
        + "; RETURN NULL; END $$"
    )
    base.execute(
        "CREATE TRIGGER tricks AFTER INSERT ON {schema}.session_states REFERENCING NEW TABLE AS new"
        " FOR EACH STATEMENT EXECUTE FUNCTION {schema}.tricks()"
    )


def lines(base: Base) -> Any:
    return base.execute("SELECT thread_id, code FROM {schema}.session_states_versions ORDER BY thread_id, recorded_at")


def test_a_drain_writes_on_two_connections_and_has_the_next_batch_ready_on_both(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: list[writes.Batch] = []
    make = writes.Batch.make_ready
    monkeypatch.setattr(writes.Batch, "make_ready", lambda batch: ready.append(batch) or make(batch))
    base.execute("CREATE TABLE {schema}.who (name text, rows bigint)")
    on_insert(base, "INSERT INTO {schema}.who SELECT current_setting('application_name'), count(*) FROM new")
    rows = [base.row(f"t{number}", code=f"c{number}") for number in range(40)]
    second = second_of(base)
    stats = drain(left_by_the_dead(base.root, rows), PairedSink(base.sink, second), clock=base.clock)
    assert (stats.stored, stats.pending, stats.retries) == (40, 0, 0)
    sums = base.execute("SELECT name = 'second', sum(rows)::int FROM {schema}.who GROUP BY 1 ORDER BY 1")
    assert sums == [(False, 20), (True, 20)]
    assert lines(base) == sorted((f"t{number}", f"c{number}") for number in range(40))
    assert {row.thread_id for batch in ready for row in batch.rows} == {f"t{number}" for number in range(8, 40)}
    assert (base.sink._connection, second._connection) == (None, None)


@pytest.mark.parametrize("killed", ["second", "first", "either"])
def test_a_connection_that_is_killed_costs_nothing(base: Base, killed: str) -> None:
    condition = {"second": "=", "first": "<>", "either": "IS NOT DISTINCT FROM"}[killed]
    who = "current_setting('application_name')"
    base.execute("CREATE SEQUENCE {schema}.deaths")  # forgets nothing in a rollback
    on_insert(
        base,
        f"IF {who} {condition} {who if killed == 'either' else repr('second')}"
        " AND nextval('{schema}.deaths') <= 3 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF",
    )
    rows = [base.row(f"t{number}", code=f"c{number}") for number in range(60)]
    stats = drain(left_by_the_dead(base.root, rows), PairedSink(base.sink, second_of(base)), clock=base.clock)
    assert (stats.accepted, stats.stored, stats.superseded, stats.pending) == (60, 60, 0, 0)
    assert stats.retries >= 2
    assert base.execute("SELECT last_value >= 3 FROM {schema}.deaths") == [(True,)]
    assert len(base.all()) == 60
    assert lines(base) == sorted((f"t{number}", f"c{number}") for number in range(60))


@pytest.mark.parametrize("bad", [(5,), (4,), (4, 5), (0, 1, 2, 3, 21), (38, 39)])
def test_poison_in_either_half_is_found_and_counted(base: Base, bad: tuple[int, ...]) -> None:
    rows = [base.row(f"t{number}", code="a\0b" if number in bad else "x") for number in range(40)]
    stats = drain(left_by_the_dead(base.root, rows), PairedSink(base.sink, second_of(base)), clock=base.clock)
    assert (stats.accepted, stats.pending, stats.quarantined) == (40, 0, len(bad))
    assert balanced(stats)
    assert {name for name, (code,) in base.all("code").items() if code is None} == {f"t{number}" for number in bad}
    assert len(base.all()) == 40
    assert len(lines(base)) == 40 - len(bad)


def test_poison_in_one_half_while_the_other_loses_its_connection(base: Base) -> None:
    base.execute("CREATE SEQUENCE {schema}.deaths")
    on_insert(
        base,
        "IF current_setting('application_name') = 'second' AND nextval('{schema}.deaths') <= 2"
        " THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF",
    )
    rows = [base.row(f"t{number}", code="a\0b" if number == 2 else "x") for number in range(20)]
    stats = drain(left_by_the_dead(base.root, rows), PairedSink(base.sink, second_of(base)), clock=base.clock)
    assert (stats.accepted, stats.pending, stats.quarantined) == (20, 0, 1)
    assert balanced(stats)
    assert len(base.all()) == 20


def test_rights_that_only_the_second_lacks_block_and_lose_nothing(base: Base) -> None:
    base.sink.open()
    second = second_of(base)
    second.open()
    assert second._connection is not None
    role = sql.Identifier(f"r_{base.schema}")
    base.admin.execute(sql.SQL("CREATE ROLE {}").format(role))
    try:
        second._connection.execute(sql.SQL("SET ROLE {}").format(role))
        rows = [base.row(f"t{number}", code="x") for number in range(20)]
        pair = PairedSink(base.sink, second)
        stats = drain(left_by_the_dead(base.root, rows), pair, clock=base.clock)
        assert (stats.stored, stats.state, stats.last_error) == (0, "blocked", "42501")
        assert stats.accepted == stats.pending  # of which four are in the table
        assert set(base.all()) == {"t0", "t2", "t4", "t6"}
        stats = drain(base.root, pair, clock=base.clock)
    finally:
        pair.close()
        base.admin.execute(sql.SQL("DROP ROLE {}").format(role))
    assert (stats.accepted, stats.stored, stats.superseded, stats.pending) == (20, 16, 4, 0)
    assert len(base.all()) == len(lines(base)) == 20


def test_a_role_with_one_connection_drains_on_it(base: Base) -> None:
    base.sink.open()
    base.sink.close()
    name = f"r_{base.schema}"
    role, schema = sql.Identifier(name), sql.Identifier(base.schema)
    base.admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 1").format(role))
    base.admin.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
    base.admin.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA {} TO {}").format(schema, role))
    login = {**conninfo_to_dict(base.dsn), "user": name, "password": "hunter2"}
    first, second = (PostgresSink(lambda: login, base.table, clock=base.clock) for _ in range(2))
    try:
        rows = [base.row(f"t{number}", code="x") for number in range(40)]
        stats = drain(left_by_the_dead(base.root, rows), PairedSink(first, second), clock=base.clock)
        assert (stats.stored, stats.pending, stats.retries) == (40, 0, 0)
        assert second._connection is None
    finally:
        first.close()
        base.admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
        base.admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.mark.requires("pgbouncer")
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_with_one_connection_to_the_server(base: Base, mode: str) -> None:
    """Between transactions it serves both by turns; where a connection is one client's to its end, there is no second."""
    base.sink.open()
    base.sink.close()
    target = conninfo_to_dict(base.dsn)
    way = Bouncer(
        open_folder(), str(target["host"]), int(target.get("port", 5432)), str(target["user"]), str(target["dbname"]),
        settings={"pool_mode": mode, "default_pool_size": "1", **({"query_wait_timeout": "3"} if mode == "session" else {})},
    )  # fmt: skip
    with way:
        first, second = (PostgresSink(lambda: conninfo_to_dict(way.dsn), base.table, clock=base.clock) for _ in "12")
        pair = PairedSink(first, second)
        rows = [base.row(f"t{number}", code="x") for number in range(40)]
        stats = drain(left_by_the_dead(base.root, rows), pair, clock=base.clock, timeout=SOON)
    assert (stats.accepted, stats.stored, stats.pending) == (40, 40, 0)
    assert pair._alone == (mode == "session")
    assert len(lines(base)) == 40


def test_a_statement_that_takes_too_long_is_written_in_parts_at_once(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_insert(base, "IF (SELECT count(*) FROM new) > 2 THEN RAISE query_canceled; END IF")
    parts = Delivery([base.row(f"t{number}") for number in range(8)], lambda _: None)
    while not parts.finished:
        parts.step(base.sink)
    assert parts.written == (8, 0)


def test_eraser_and_drain_do_not_lock_each_other_out(base: Base) -> None:
    """Who erases waits between the two halves' shared locks; neither waits for the other's connection in turn."""
    base.sink.open()
    stop, errors = threading.Event(), list[BaseException]()

    def erase() -> None:
        try:
            with psycopg.connect(base.dsn, autocommit=True) as connection:
                while not stop.is_set():
                    with connection.transaction():
                        key = {"key": f"langgraph_session_store:{base.table.name}"}
                        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))", key)
        except BaseException as error:
            errors.append(error)

    eraser = threading.Thread(target=erase)
    eraser.start()
    try:
        rows = [base.row(f"t{number}", code="x") for number in range(200)]
        stats = drain(left_by_the_dead(base.root, rows), PairedSink(base.sink, second_of(base)), clock=base.clock)
    finally:
        stop.set()
        eraser.join(SOON)
    assert (errors, stats.stored, stats.retries, stats.pending) == ([], 200, 0, 0)


EVENT = st.tuples(
    st.sampled_from("abcdef"),  # thread
    st.integers(0, 60),  # moment
    st.integers(0, 2),  # its run
    st.dictionaries(st.sampled_from(["topic", "code", "error"]), st.sampled_from([None, "1", "2", "3"]), max_size=3),
    st.sampled_from(["running", "completed", "failed"]),
)


@pytest.fixture
def both(dsn: str, schema: str) -> Iterator[list[tuple[Database, Any]]]:
    """Two tables, with one sink and with two."""
    made, clock = [], Clock()
    for name, count in (("alone", 1), ("paired", 2)):
        database = Database(dsn, schema)
        database.table = Table(name, database.table.columns, schema)
        database.transaction(ddl.install(database.table))
        sinks = [PostgresSink(lambda: conninfo_to_dict(dsn), database.table, clock=clock) for _ in range(count)]
        made.append((database, PairedSink(*sinks) if count == 2 else sinks[0]))
    yield made
    for database, _ in made:
        database.conn.close()


@PROPERTY
@given(given_events=st.lists(EVENT, min_size=1, max_size=30))
def test_the_rows_and_the_history_are_as_one_connection_leaves_them(
    both: list[tuple[Database, Any]], given_events: list[Any]
) -> None:
    rows = [
        event(100 * run + at, thread, 100 * run, workflow_status=status, **columns)
        for thread, at, run, columns, status in given_events
    ]
    found = []
    for database, sink in both:
        database.conn.execute(sql.SQL("TRUNCATE {}, {}").format(database.table.full, database.table.versions))
        with tempfile.TemporaryDirectory() as folder:
            stats = drain(left_by_the_dead(Path(folder) / "s", rows), sink, clock=Clock())
        assert (stats.state, stats.pending, stats.quarantined) == ("ok", 0, 0)
        sessions = database.rows("SELECT * FROM $t ORDER BY thread_id")
        for session in sessions:
            for name in ("id", "created_at", "updated_at"):
                del session[name]
        history = database.rows("SELECT * FROM $v ORDER BY thread_id, recorded_at")
        found.append((sessions, history, stats.stored, stats.superseded, stats.abandoned))
    assert found[0] == found[1]
