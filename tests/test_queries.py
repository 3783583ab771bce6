"""The statements and steps: what events do to rows and history, in any order, in any batches, from any number of writers."""

from __future__ import annotations

import itertools
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from langgraph_session_store.clock import to_datetime
from langgraph_session_store.errors import DataError, FilterError
from langgraph_session_store.queries import schema as ddl
from langgraph_session_store.queries import writes
from langgraph_session_store.queries.history import Line, changes, new_lines
from langgraph_session_store.queries.upsert import upsert
from langgraph_session_store.query import Query, Steps, Table, drive, short, statement
from langgraph_session_store.record import table_columns
from langgraph_session_store.records import ProblemSession
from langgraph_session_store.row import Row, Slot
from langgraph_session_store.sql import load

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000_000_000
COLUMNS = {column.name: column for column in table_columns(ProblemSession)}


class Database:
    """One connection, and the table in a schema."""

    def __init__(self, dsn: str, schema: str) -> None:
        self.dsn = dsn
        self.table = Table("session_states", table_columns(ProblemSession), schema)
        self.conn = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)

    @classmethod
    @contextmanager
    def installed(cls, dsn: str, schema: str) -> Iterator[Self]:
        """Set the table up; close the connection in the end."""
        database = cls(dsn, schema)
        database.transaction(ddl.install(database.table))
        yield database
        database.conn.close()

    def run(self, query: Query[Any]) -> Any:
        cursor = self.conn.execute(query.sql, query.params)
        return query.read(cursor.fetchall() if cursor.description else [], cursor.rowcount)

    def transaction(self, steps: Steps[Any]) -> Any:
        with self.conn.transaction():
            return drive(steps, self.run)

    def write(self, *events: Row, guarded: bool = True) -> list[writes.Written]:
        return [self.transaction(writes.write(self.table, b, guarded=guarded)) for b in writes.batches(events)]

    def rows(self, text: str, **params: Any) -> list[dict[str, Any]]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            text = text.replace("$t", self.table.full.as_string()).replace("$v", self.table.versions.as_string())
            return cursor.execute(text, params).fetchall()

    def row(self, thread_id: str = "t") -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM $t WHERE thread_id = %(thread_id)s", thread_id=thread_id)
        return row

    def codes(self, thread_id: str = "t") -> list[Any]:
        lines = self.rows("SELECT code FROM $v WHERE thread_id = %(t)s ORDER BY recorded_at", t=thread_id)
        return [line["code"] for line in lines]


@pytest.fixture
def db(dsn: str, schema: str) -> Iterator[Database]:
    with Database.installed(dsn, schema) as database:
        yield database


def slot(name: str, mode: str = "set") -> Slot:
    column = COLUMNS[name]
    return Slot(name, column.sql_type, mode, column.kind)


def event(at: int, thread_id: str = "t", begun: int | None = None, **columns: Any) -> Row:
    """Make an event at microsecond *at*; a column is its value or (mode, value)."""
    carried = [(name, *(value if isinstance(value, tuple) else ("set", value))) for name, value in columns.items()]
    shape = tuple(slot(name, mode) for name, mode, _ in carried)
    begun_at = NOW + (at if begun is None else begun)
    return Row(thread_id, NOW + at, begun_at, 0, True, shape, tuple(value for *_, value in carried))


# --- one event after another ---


def test_a_newer_event_overwrites_what_it_carries_and_nothing_else(db: Database) -> None:
    db.write(event(1, run_id="r1", topic="arrays", code="a"))
    db.write(event(2, run_id="r2", code=None))
    row = db.row()
    assert (row["run_id"], row["topic"], row["code"]) == ("r2", "arrays", None)
    assert row["recorded_at"] == to_datetime(NOW + 2)


def test_an_older_event_fills_fields_that_are_null_and_nothing_else(db: Database) -> None:
    db.write(event(5, topic="graphs"))
    (written,) = db.write(
        event(3, topic="arrays", difficulty="hard", run_id="old", workflow_status="running", error="no")
    )
    row = db.row()
    assert (row["topic"], row["difficulty"]) == ("graphs", "hard")
    assert (row["run_id"], row["workflow_status"], row["error"]) == (None, None, None)
    assert row["recorded_at"] == to_datetime(NOW + 5)
    assert (written.stored, written.superseded) == (1, 0)


def test_an_older_event_that_has_nothing_to_fill_is_superseded(db: Database) -> None:
    db.write(event(5, topic="graphs"))
    before = db.rows("SELECT xmin, ctid, * FROM $t")
    (written,) = db.write(event(3, topic="arrays", run_id="old"))
    assert (written.ids, written.stored, written.superseded) == ({}, 0, 1)
    assert db.rows("SELECT xmin, ctid, * FROM $t") == before


def test_a_replay_does_not_touch_the_row_and_does_not_undo_a_correction(db: Database) -> None:
    happened = event(5, topic="graphs", difficulty=None, code="x")
    db.write(happened)
    db.rows("UPDATE $t SET topic = 'trees', difficulty = 'hard' WHERE thread_id = 't' RETURNING 1")
    before = db.rows("SELECT xmin, ctid, * FROM $t")
    (written,) = db.write(happened)
    assert written.superseded == 1
    assert db.rows("SELECT xmin, ctid, * FROM $t") == before
    assert db.codes() == ["x"]


def test_modes(db: Database) -> None:
    db.write(event(1, topic=("default", "arrays"), difficulty=("fill", "easy"), code_attempts=("default", 0)))
    row = db.row()
    assert (row["topic"], row["difficulty"], row["code_attempts"]) == ("arrays", "easy", 0)
    db.write(event(2, topic=("default", "graphs"), difficulty=("fill", "hard"), user_prompt=("fill", "hello")))
    row = db.row()
    assert (row["topic"], row["difficulty"], row["user_prompt"]) == ("arrays", "easy", "hello")


def test_a_later_fill_of_an_own_column_keeps_what_is_known(db: Database) -> None:
    db.write(event(1, run_id="r1"))
    db.write(event(2, run_id=("fill", "r2"), user_id=("fill", "u")))
    db.write(event(1, graph_name=("fill", "g"), topic="arrays"))
    assert [db.row()[name] for name in ("run_id", "user_id", "graph_name")] == ["r1", "u", None]


def test_unguarded_wins_over_what_is_newer_and_keeps_its_time(db: Database) -> None:
    db.write(event(9, topic="graphs", code="x"))
    (written,) = db.write(event(1, topic="arrays"), guarded=False)
    assert list(written.ids) == ["t"]
    row = db.row()
    assert (row["topic"], row["code"], row["recorded_at"]) == ("arrays", "x", to_datetime(NOW + 9))
    db.write(event(2, begun=2, code="y"), event(3, begun=2, code="z"), guarded=False)
    assert (db.row()["code"], db.codes()) == ("z", ["x", "y", "z"])


def test_duration_is_derived_and_null_while_running(db: Database) -> None:
    times = {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T00:00:02.5+00:00"}
    db.write(event(1, duration_seconds=99.0, **times))
    assert db.row()["duration_seconds"] == 2.5
    db.write(event(2, finished_at=None))
    assert db.row()["duration_seconds"] is None


def test_updated_at_never_goes_back(db: Database) -> None:
    db.write(event(1, topic="a"))
    future = datetime.now(UTC) + timedelta(hours=1)
    with db.conn.transaction():
        db.conn.execute(f"ALTER TABLE {db.table.full.as_string()} DISABLE TRIGGER USER")
        db.conn.execute(f"UPDATE {db.table.full.as_string()} SET updated_at = %s", [future])
        db.conn.execute(f"ALTER TABLE {db.table.full.as_string()} ENABLE TRIGGER USER")
    db.write(event(2, topic="b"))
    assert db.row()["updated_at"] >= future


# --- values ---


def test_every_kind_of_value_and_columns_of_only_nulls(db: Database) -> None:
    values = {
        "problem_tests": '[{"in": "[1, 2]", "out": 3}]',
        "tests_passed": True,
        "code_attempts": 3,
        "metadata": '{"tags": ["x"]}',
        "started_at": "2026-01-01T01:00:00+01:00",
    }
    nulls = dict.fromkeys(values)
    db.write(event(1, "full", **values), event(1, "empty", **nulls), event(1, "empty too", **nulls))
    row = db.row("full")
    assert row["problem_tests"] == [{"in": "[1, 2]", "out": 3}]
    assert (row["tests_passed"], row["code_attempts"], row["metadata"]) == (True, 3, {"tags": ["x"]})
    assert row["started_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert all(db.row("empty")[name] is None for name in values)


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"topic": "x" * 51}, "22001"),
        ({"code_attempts": 2**31}, "22003"),
        ({"problem_tests": "{"}, "22P02"),
        ({"started_at": "yesterday, about noon"}, "22007"),
        ({"user_prompt": "a\0b"}, "22021"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_cut(db: Database, columns: dict[str, Any], code: str) -> None:
    with pytest.raises(psycopg.DataError) as refused:
        db.write(event(1, **columns))
    assert refused.value.sqlstate == code
    assert db.rows("SELECT 1 FROM $t") == []


@pytest.mark.parametrize("sql_type", ["text); DROP TABLE x; --", "text'", "", "int;", 'in"t'])
def test_a_slot_cannot_smuggle_sql_in_its_type(sql_type: str) -> None:
    row = Row("t", NOW, NOW, 0, True, (Slot("code", sql_type, "set", "field"),), ("x",))
    with pytest.raises(DataError):
        upsert(Table("t"), row.shape, {})


def test_names_are_quoted(db: Database) -> None:
    hostile = Table('se"ssion; DROP TABLE x --%s', table_columns(ProblemSession), db.table.schema)
    db.transaction(ddl.install(hostile))
    db.table = hostile
    db.write(event(1, topic="arrays", code="x"))
    assert db.rows("SELECT topic FROM $t") == [{"topic": "arrays"}]
    assert db.codes() == ["x"]


def test_long_names_stay_apart() -> None:
    assert short("x" * 63) == "x" * 63
    one, other = short("x" * 70 + "a"), short("x" * 70 + "b")
    assert one != other
    assert len(one.encode()) <= 63 >= len(short("é" * 60).encode())


# --- batches ---


def test_a_batch_merges_a_run_and_groups_by_shape() -> None:
    events = [
        event(2, "b", topic="x"),
        event(1, "a", 1, topic="x"),
        event(3, "a", 1, topic="y"),
        event(1, "c", code="z"),
    ]
    shaped = writes.batches(events)
    assert [[row.thread_id for row in batch.rows] for batch in shaped] == [["a", "b"], ["c"]]
    assert shaped[0].rows[0].values == ("y",)
    assert len(shaped[0].events) == 3


def test_runs_of_a_thread_are_written_one_after_the_other() -> None:
    interleaved = [event(at, "a", run, topic=f"{at}") for at, run in ((1, 1), (2, 1), (3, 3), (4, 1), (5, 5))]
    turns = writes.batches(reversed(interleaved))
    assert [[row.values for row in batch.rows] for batch in turns] == [[("2",)], [("3",)], [("4",)], [("5",)]]


def test_an_old_run_in_the_batch_of_a_new_one_does_not_win_over_another_process(db: Database) -> None:
    db.write(event(2, topic="of another process"))
    db.write(event(1, topic="old", difficulty="easy"), event(3, code="new"))
    row = db.row()
    assert (row["topic"], row["difficulty"], row["code"]) == ("of another process", "easy", "new")


def test_writers_with_overlapping_batches_do_not_deadlock(db: Database) -> None:
    threads = [f"t{index}" for index in range(40)]

    def writer(seed: int) -> None:
        mine = Database(db.dsn, db.table.schema)
        for at in range(20):
            order = random.Random(seed * 1000 + at).sample(threads, 40)
            mine.write(*(event(at * 10 + seed, thread, topic=f"{seed}", code=f"{at}") for thread in order))
        mine.conn.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(writer, range(6)))
    assert {row["topic"] for row in db.rows("SELECT topic FROM $t")} == {"5"}


MODES = {
    "run_id": ["set"],
    "user_id": ["set"],
    "topic": ["set", "fill"],
    "difficulty": ["set", "fill"],
    "code": ["set", "fill"],
}


@st.composite
def histories(draw: Any, *, runs: bool = False) -> list[Row]:
    """Events of two threads at distinct times, of which with *runs* some belong together."""
    count = draw(st.integers(1, 7))
    times = draw(st.permutations(range(1, count + 1)))
    made = []
    for at in times:
        names = draw(st.sets(st.sampled_from(sorted(MODES)), min_size=1))
        columns = {
            name: (draw(st.sampled_from(MODES[name])), draw(st.sampled_from([None, "1", "2", "3"])))
            for name in sorted(names)
        }
        begun = draw(st.sampled_from([0, 1])) if runs else at
        made.append(event(at, draw(st.sampled_from("ab")), begun, **columns))
    return made


def split(draw: Any, events: list[Row]) -> list[list[Row]]:
    cuts = sorted(draw(st.sets(st.integers(0, len(events)))))
    return [events[a:b] for a, b in itertools.pairwise([0, *cuts, len(events)])]


def contents(db: Database) -> Any:
    columns = ", ".join(["thread_id", "recorded_at", *MODES])
    lines = db.rows("SELECT thread_id, recorded_at, code FROM $v ORDER BY thread_id, recorded_at")
    return db.rows(f"SELECT {columns} FROM $t ORDER BY thread_id"), lines


def clear(db: Database) -> None:
    db.conn.execute(f"DELETE FROM {db.table.full.as_string()}")
    db.conn.execute(f"DELETE FROM {db.table.versions.as_string()}")


PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@PROPERTY
@given(st.data())
def test_in_the_order_of_their_times_batches_do_not_matter(db: Database, data: st.DataObject) -> None:
    """One statement for all, one for each, and anything in between leave the same rows and the same history."""
    events = sorted(data.draw(histories(runs=True)), key=lambda made: made.recorded_at)
    clear(db)
    for made in events:
        db.write(made)
    one_by_one = contents(db)
    clear(db)
    for part in split(data.draw, events):
        db.write(*part)
    assert contents(db) == one_by_one


@PROPERTY
@given(st.data())
def test_in_any_order_with_replays_the_newest_event_has_the_last_word(db: Database, data: st.DataObject) -> None:
    """What is promised whatever comes when.

    The time is the newest event's. The columns that it sets have its values, fields that it sets to NULL aside, which an older
    event may fill. A field that only one event carries has that value. No field has a value that no event gave it. Two lines of
    history that follow one another differ. Writing the last batch again touches nothing, unless a field became NULL that it may fill.
    """
    events = data.draw(histories())
    again = data.draw(st.lists(st.sampled_from(events), max_size=4))
    parts = split(data.draw, data.draw(st.permutations([*events, *again])))
    clear(db)
    for part in parts:
        db.write(*part)
    for thread_id, group in itertools.groupby(sorted(events, key=lambda e: e.thread_id), lambda e: e.thread_id):
        of_thread = sorted(group, key=lambda made: made.recorded_at)
        row, newest = db.row(thread_id), of_thread[-1]
        assert row["recorded_at"] == to_datetime(newest.recorded_at)
        for name in MODES:
            given_ = [made.get(name) for made in of_thread if any(s.name == name for s in made.shape)]
            assert row[name] in {None, *given_}
            for s in newest.shape:
                if s.name == name and s.mode == "set" and (s.kind == "own" or newest.get(name) is not None):
                    assert row[name] == newest.get(name)
            if len(given_) == 1 and COLUMNS[name].kind != "own":
                assert row[name] == given_[0]
        assert all(one != other for one, other in itertools.pairwise(db.codes(thread_id)))
    if any(made.get(s.name) is None for made in events for s in made.shape if s.kind != "own"):
        return
    before = (db.rows("SELECT xmin, ctid, * FROM $t ORDER BY id"), contents(db))
    db.write(*parts[-1])
    assert (db.rows("SELECT xmin, ctid, * FROM $t ORDER BY id"), contents(db)) == before


@PROPERTY
@given(st.data())
def test_events_that_carry_everything_end_alike_in_any_order(db: Database, data: st.DataObject) -> None:
    times = data.draw(st.permutations(range(1, 6)))
    events = [event(at, run_id=f"{at}", topic=f"{at % 3}", code=f"{at % 2}", workflow_status="running") for at in times]
    clear(db)
    for part in split(data.draw, events):
        db.write(*part)
    row = db.row()
    assert [row[name] for name in ("run_id", "topic", "code")] == ["5", "2", "1"]


# --- history ---


def test_history_has_a_line_for_each_change_of_content(db: Database) -> None:
    db.write(event(1, code="a"), event(2, code="b"), event(3, topic="x"), event(4, code="b"), event(5, code="a"))
    assert db.codes() == ["a", "b", "a"]


def test_an_event_keeps_what_it_does_not_carry(db: Database) -> None:
    db.write(event(1, code="a", tests_passed=False))
    db.write(event(2, tests_passed=True))
    lines = db.rows("SELECT code, tests_passed FROM $v ORDER BY recorded_at")
    assert [tuple(line.values()) for line in lines] == [("a", False), ("a", True)]


def test_null_is_no_content(db: Database) -> None:
    db.write(event(1, code=None, tests_passed=None))
    assert db.codes() == []


def test_a_late_event_takes_its_place_in_time(db: Database) -> None:
    db.write(event(5, code="b"))
    db.write(event(9, code="c"))
    db.write(event(1, code="a"), event(7, code="b"))
    assert db.codes() == ["a", "b", "c"]


def test_json_of_another_spelling_is_the_same_content(db: Database) -> None:
    db.write(event(1, problem_tests='[{"a": 1.0, "b": 1e3, "c": "x"}]'))
    db.write(event(2, problem_tests='[ {"c":"x","b":1000,"a":1} ]'))
    assert len(db.rows("SELECT 1 FROM $v")) == 1
    db.write(event(3, problem_tests='[{"a": "1", "b": 1000, "c": "x"}]'))
    assert len(db.rows("SELECT 1 FROM $v")) == 2


def test_the_line_names_the_run_that_made_it(db: Database) -> None:
    db.write(event(1, begun=1, run_id="r1", topic="x"))
    db.write(event(2, begun=1, code="a"))
    db.write(event(4, begun=3, run_id="r2", code="b"))
    db.write(event(3, begun=2, code="late, of another run"))
    lines = db.rows("SELECT run_id, code FROM $v ORDER BY recorded_at")
    assert [tuple(line.values()) for line in lines] == [("r1", "a"), (None, "late, of another run"), ("r2", "b")]


def test_eight_racing_writers_of_one_content_leave_one_line_and_one_row(db: Database) -> None:
    gate = threading.Barrier(8)

    def writer(index: int) -> None:
        mine = Database(db.dsn, db.table.schema)
        gate.wait()
        mine.write(event(random.Random(index).randrange(1000) * 8 + index, code="same", tests_passed=True))
        mine.conn.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(writer, range(8)))
    assert db.codes() == ["same"]
    assert len(db.rows("SELECT 1 FROM $t")) == 1


def test_lines_of_a_table_whose_record_is_unknown_keep_their_columns(db: Database) -> None:
    db.write(event(1, code="a", tests_passed=True))
    db.table = Table("session_states", schema=db.table.schema)
    db.table = db.run(ddl.describe(db.table))
    assert {column.name for column in db.table.versioned} == {
        "problem_description",
        "problem_tests",
        "code",
        "tests_passed",
    }
    db.write(event(2, code="b"))
    assert db.rows("SELECT tests_passed FROM $v ORDER BY recorded_at") == [{"tests_passed": True}] * 2


def test_new_lines_is_pure() -> None:
    known = [Line("t", NOW + 1, None, {"code": None}, {"code": None})]
    assert new_lines(known, changes([event(1, code="x")])) == []
    assert len(known) == 1


# --- erasure ---


def test_what_was_erased_is_not_brought_back_by_older_events(db: Database) -> None:
    ago, soon = -60_000_000, 3_600_000_000
    start = (datetime.now(UTC) - to_datetime(NOW)) // timedelta(microseconds=1)
    db.write(event(start + ago, begun=start + ago, code="a"))
    assert db.transaction(writes.erase(db.table, ["t"], NOW)).rows == 1
    (written,) = db.write(event(start + soon, begun=start + ago, code="b"))
    assert (written.stored, written.superseded) == (0, 1)
    assert db.rows("SELECT 1 FROM $t") == [] == db.rows("SELECT 1 FROM $v")
    mixed = [event(start + soon, begun=start + ago, topic="old"), event(start + soon + 1, begun=start + soon, code="c")]
    written = db.write(*mixed)
    assert [(part.stored, part.superseded) for part in written] == [(0, 1), (1, 0)]
    assert (db.row()["code"], db.row()["topic"], db.codes()) == ("c", None, ["c"])


def test_who_erases_waits_for_a_writer_who_has_not_committed(db: Database, dsn: str) -> None:
    other = Database(dsn, db.table.schema)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(dsn, autocommit=True) as watch:
        with db.conn.transaction():
            drive(writes.write(db.table, writes.batches([event(1, code="a")])[0]), db.run)
            erased = pool.submit(other.transaction, writes.erase(db.table, ["t"], NOW))
            waiting = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
            while not watch.execute(waiting, [other.conn.info.backend_pid]).fetchall():
                assert not erased.done()
        assert erased.result().rows == 1
    assert db.rows("SELECT 1 FROM $t") == []
    other.conn.close()


def test_what_changed_after_it_was_found_is_not_erased(db: Database) -> None:
    old = writes.older("recorded_at", to_datetime(NOW + 5), to_datetime(NOW + 10))
    db.write(event(1, "a", code="a"), event(2, "b", code="b"), event(9, "c", code="c"))
    found = db.run(writes.matching(db.table, old))
    assert sorted(found) == ["a", "b"]
    db.write(event(8, "b", code="again"))
    assert db.transaction(writes.erase(db.table, found, NOW, old)).rows == 1
    assert [row["thread_id"] for row in db.rows("SELECT thread_id FROM $t ORDER BY 1")] == ["b", "c"]
    assert db.codes("a") == []
    assert db.codes("b") == ["b", "again"]
    assert db.transaction(writes.erase(db.table, found, NOW, old)).at is None
    assert len(db.rows(f"SELECT 1 FROM {db.table.erased.as_string()}")) == 1


@pytest.mark.parametrize("count", [0, 1, 200, 201, 450])
def test_parts_are_all_of_it(count: int) -> None:
    threads = [f"{number}" for number in range(count)]
    parts = list(writes.parts(threads))
    assert [thread for part in parts for thread in part] == threads
    assert all(0 < len(part) <= writes.PART for part in parts)


def test_the_hash_of_a_tombstone_is_that_of_the_database(db: Database) -> None:
    thread = "thread ü 😀"
    (row,) = db.rows("SELECT sha256(convert_to(%(thread)s, 'UTF8')) AS hash", thread=thread)
    assert bytes(row["hash"]) == writes.thread_hash(thread)


@pytest.mark.parametrize(
    "than",
    [
        *(30, "30d", None, datetime(2026, 1, 1)),  # noqa: DTZ001 - a naive one is the point
        *(timedelta(microseconds=-1), to_datetime(NOW + 60_000_001)),
    ],
)
def test_an_age_is_an_interval_or_a_moment_that_is_past(than: Any) -> None:
    with pytest.raises(FilterError):
        writes.older("updated_at", than, to_datetime(NOW))


@pytest.mark.parametrize("than", [timedelta(0), to_datetime(NOW), to_datetime(NOW + 60_000_000)])
def test_an_age_may_be_now(than: Any) -> None:
    assert writes.older("updated_at", than, to_datetime(NOW)).restricts


# --- the files ---

STATEMENTS = sorted(
    path.name.removesuffix(".sql")
    for path in files("langgraph_session_store.sql").iterdir()
    if path.name.endswith(".sql")
)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_keeps_no_state_in_its_session(name: str) -> None:
    text = load(name).as_string(None)
    assert not re.search(r"\b(NOTIFY|LISTEN|PREPARE|TEMP|TEMPORARY|pg_advisory_lock)\b", text, re.IGNORECASE)
    assert (
        not re.search(r"^\s*SET (?!CONSTRAINTS)", text.replace("DO UPDATE SET", ""), re.MULTILINE) or name == "update"
    )
    _, _, conflict = text.partition("DO UPDATE SET")
    assert not re.search(r"\b(now|clock_timestamp|random)\(", conflict)


def test_every_statement_is_used() -> None:
    package = Path(str(files("langgraph_session_store")))
    code = "".join(path.read_text() for path in package.rglob("*.py"))
    unused = [name for name in STATEMENTS if f'"{name}"' not in code]
    assert unused == []


def test_statement_fills_slots() -> None:
    assert (
        statement(load("create_schema"), schema=Table("x", schema="y").full) == b'CREATE SCHEMA IF NOT EXISTS "y"."x"'
    )
