"""Both stores, through one set of tests: the async one behind a loop of its own."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Self

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from langgraph_session_store.errors import (
    ConfigError,
    DataError,
    FilterError,
    LoginError,
    PrivilegeError,
    SchemaError,
    StoreError,
    UnavailableError,
)
from langgraph_session_store.query import Query
from langgraph_session_store.record import Column, SessionRecord
from langgraph_session_store.row import Row, Slot, own
from langgraph_session_store.store import AsyncSessionStore, SessionStore, base

STATE = {
    "user_prompt": "sort it",
    "topic": "arrays",
    "difficulty": "easy",
    "problem": {"description": "Sort.", "tests": [{"in": [2, 1], "out": [1, 2]}]},
    "code": "sorted",
    "tests_passed": True,
    "code_attempts": 2,
}


class Twin:
    """An async store that is called like a sync one."""

    def __init__(self, store: AsyncSessionStore) -> None:
        self.store = store
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.store, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            if isinstance(result, Coroutine):
                return self._wait(result)
            return self._items(result) if isinstance(result, AsyncIterator) else result

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self.store.close())
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def _items(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._wait(items.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._wait(items.aclose())


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, dsn: str, schema: str) -> Iterator[Any]:
    """A function that makes stores of one colour."""
    made: list[Any] = []

    def make_store(conninfo: str = dsn, **options: Any) -> Any:
        options = {"schema": schema, **options}
        colour = SessionStore if request.param == "sync" else AsyncSessionStore
        store = colour(conninfo, **options)
        made.append(store if isinstance(store, SessionStore) else Twin(store))
        return made[-1]

    yield make_store
    for store in made:
        store.__exit__()


@pytest.fixture
def store(make: Any) -> Any:
    return make()


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"r_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name}")
        yield name
        conn.execute(f"DROP OWNED BY {name}")
        conn.execute(f"DROP ROLE {name}")


def sql(dsn: str, text: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []


# --- saving and reading ---


def test_save_and_get(store: Any) -> None:
    row_id = store.save("t-1", STATE, run_id="r-1", user_id="ada", metadata={"tags": ["x"]})
    session = store.get("t-1")
    assert session["id"] == row_id
    assert (session["thread_id"], session["run_id"], session["user_id"]) == ("t-1", "r-1", "ada")
    assert (session["workflow_status"], session["metadata"]) == ("running", {"tags": ["x"]})
    assert session["problem_tests"] == [{"in": [2, 1], "out": [1, 2]}]
    assert session["problem_description"] == "Sort."
    assert abs(datetime.now(UTC) - session["recorded_at"]) < timedelta(minutes=1)
    assert store.get("t-2") is None


def test_save_again_keeps_what_is_not_said(store: Any) -> None:
    first = store.save("t", STATE, run_id="r", workflow_status="completed", user_id="ada")
    assert store.save("t", {"code_attempts": 3}) == first
    session = store.get("t")
    assert (session["workflow_status"], session["run_id"], session["user_id"]) == ("completed", "r", "ada")
    assert (session["topic"], session["code_attempts"]) == ("arrays", 3)


def test_save_explains_what_it_could_not_keep(store: Any) -> None:
    store.save("t", {"topic": "x" * 60, "code_attempts": "many"})
    session = store.get("t")
    assert (session["topic"], session["code_attempts"]) == (None, None)
    assert set(session["rejected"]) == {"topic", "code_attempts"}
    store.save("t", {"topic": "arrays"})
    assert store.get("t")["rejected"] is None


def test_save_refuses_what_a_column_cannot_hold_without_telling_the_value(store: Any) -> None:
    with pytest.raises(DataError) as refused:
        store.save("t", {}, run_id="secret" * 100)
    assert "secret" not in str(refused.value)
    assert refused.value.__context__ is None
    assert store.get("t") is None


def test_every_thread_id_finds_its_row_again(store: Any) -> None:
    for thread_id in (7, uuid.uuid4(), "a\0b", "x" * 300, "\ud800", "ü 😀", "a/b?c=%d"):
        row_id = store.save(thread_id, {"topic": "t"})
        assert store.get(thread_id)["id"] == row_id
        assert store.count(thread_id=thread_id) == 1
        assert store.update(thread_id, code="x")
        assert len(store.versions(thread_id)) == 1
        assert store.delete(thread_id)


def test_save_many(store: Any) -> None:
    rows = [
        {"thread_id": f"t{n}", "topic": "arrays", "code_attempts": n, "workflow_status": "completed"}
        for n in range(1100)
    ]
    rows += [
        {"thread_id": "t1", "topic": "graphs"},
        {"thread_id": "flat", "problem_description": "d", "user_id": "ada"},
    ]
    assert store.save_many(rows) >= 1101
    assert store.count() == 1101
    session = store.get("t1")
    assert (session["topic"], session["code_attempts"], session["workflow_status"]) == ("graphs", 1, "completed")
    assert (store.get("flat")["problem_description"], store.get("flat")["user_id"]) == ("d", "ada")
    with pytest.raises(FilterError, match="thread_id"):
        store.save_many([{"topic": "x"}])


def test_no_thread_is_no_session(store: Any) -> None:
    with pytest.raises(FilterError, match="thread_id"):
        store.save(None, {})
    assert store.count() == 0


def test_an_empty_schema_is_none() -> None:
    assert SessionStore("host=nowhere", schema="").table.schema is None


def test_a_saved_session_can_be_saved_elsewhere(store: Any, make: Any) -> None:
    store.save("t", STATE, workflow_status="completed", run_id="r")
    copy = make(table="copies")
    copy.save_many([store.get("t")])
    moved = {"id", "updated_at", "recorded_at"}
    original, copied = store.get("t"), copy.get("t")
    assert {k: v for k, v in original.items() if k not in moved} == {k: v for k, v in copied.items() if k not in moved}


class Everything(SessionRecord):
    """A field of every kind that JSON has no type for."""

    moment: datetime | None = None
    day: date | None = None
    price: Annotated[Decimal | None, Column(sql="numeric(10, 2)")] = None
    key: uuid.UUID | None = None
    passed: bool | None = None
    tests: list[Any] | None = None


def test_what_was_exported_can_be_saved_elsewhere(make: Any) -> None:
    store = make(record=Everything, table="originals")
    when = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))
    store.save(
        "t",
        {
            "moment": when,
            "day": when.date(),
            "price": Decimal("12.30"),
            "key": uuid.UUID(int=7),
            "passed": False,
            "tests": [{"in": [1.5, None, 2**70]}],
        },
        workflow_status="failed",
        run_id="r",
        started_at=when,
        finished_at=when + timedelta(seconds=2.5),
        error="ValueError: no",
        metadata={"release": "1.0"},
    )
    store.save_many([{"thread_id": "empty"}])
    out = io.BytesIO()
    assert store.export(out, "ndjson") == 2
    copy = make(record=Everything, table="copies")
    assert copy.save_many(map(json.loads, out.getvalue().splitlines())) == 2
    moved = {"id", "updated_at", "recorded_at"}
    for thread in ("t", "empty"):
        original, copied = store.get(thread), copy.get(thread)
        for name in original.keys() - moved:
            assert original[name] == copied[name], name
    assert store.get("t")["duration_seconds"] == 2.5
    with pytest.raises(FilterError, match="started_at: expected a time"):
        copy.save_many([{"thread_id": "t", "started_at": "yesterday"}])


def test_json_that_others_wrote_is_read_exactly(store: Any, dsn: str, schema: str) -> None:
    store.save("t", {})
    deep = "[" * 400 + "]" * 400
    texts = {"metadata": f'{{"large": {2**70 + 1}, "deep": {deep}}}', "rejected": '{"tenth": 0.1, "small": 1.5e-7}'}
    for column, text in texts.items():
        sql(dsn, f"UPDATE {schema}.session_states SET {column} = %s::jsonb", text)
        assert store.get("t")[column] == json.loads(text)
        (session,) = store.iter()
        assert session[column] == json.loads(text)


def test_save_many_takes_events_which_do_not_win_over_newer_ones(store: Any) -> None:
    store.save("t", {"topic": "newer"})
    slot = Slot("topic", "varchar(50)", "set", "field")
    old = Row("t", 1_000_000, 1_000_000, 0, True, (slot, own("run_id")), ("older", "r"))
    assert store.save_many([old]) == 0
    assert store.get("t")["topic"] == "newer"


def test_update_sets_declared_fields_and_nothing_else(store: Any) -> None:
    store.save("t", STATE, workflow_status="completed")
    before = store.get("t")
    assert store.update("t", tests_passed=False, problem_tests=[1])
    after = store.get("t")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"tests_passed", "problem_tests", "updated_at"}
    assert next(version.changes for version in store.versions("t")).keys() == {"tests_passed", "problem_tests"}
    assert not store.update("nobody", code="x")
    assert store.versions("nobody") == []


@pytest.mark.parametrize("fields", [{}, {"no_such": 1}, {"workflow_status": "completed"}, {"id": "x"}])
def test_update_refuses_what_is_not_declared(store: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(FilterError, match="Valid: user_prompt"):
        store.update("t", **fields)


def test_update_refuses_what_does_not_fit(store: Any) -> None:
    store.save("t", STATE)
    with pytest.raises(DataError, match="code_attempts"):
        store.update("t", code_attempts="many")
    assert len(store.versions("t")) == 1


def test_a_declared_default_is_for_new_rows(make: Any) -> None:
    class Ticket(SessionRecord, table="tickets"):
        question: Annotated[str | None, Column("messages.0.content")] = None
        resolved: bool = False

    tickets = make(record=Ticket)
    tickets.save("t", {"messages": [{"content": "why?"}]})
    assert (tickets.get("t")["question"], tickets.get("t")["resolved"]) == ("why?", False)
    tickets.update("t", resolved=True)
    tickets.save("t", {"messages": [{"content": "how?"}]})
    assert (tickets.get("t")["question"], tickets.get("t")["resolved"]) == ("how?", True)
    assert tickets.analytics().success_rate is None


def test_link_run(store: Any) -> None:
    store.save("t", {})
    assert store.link_run("t", "r-9")
    assert store.get("t")["run_id"] == "r-9"
    assert not store.link_run("nobody", "r-9")


def test_mark_abandoned(store: Any, dsn: str) -> None:
    for thread_id, status in (("old", "running"), ("done", "completed"), ("new", "running")):
        store.save(thread_id, {}, workflow_status=status)
    sql(
        dsn,
        f"UPDATE {store.table.full.as_string()} SET recorded_at = now() - interval '2 days' WHERE thread_id <> 'new'",
    )
    assert store.mark_abandoned(timedelta(days=1)) == 1
    assert {s["thread_id"]: s["workflow_status"] for s in store.query()} == {
        "old": "abandoned",
        "done": "completed",
        "new": "running",
    }


# --- finding ---


@pytest.fixture
def many(store: Any) -> Any:
    store.save_many(
        {
            "thread_id": f"t{n:03}",
            "topic": ["arrays", "graphs", None][n % 3],
            "tests_passed": n % 2 == 0,
            "code_attempts": n % 5,
            "workflow_status": "completed" if n % 2 == 0 else "failed",
        }
        for n in range(60)
    )
    return store


def test_pages_hold_every_match_once(many: Any) -> None:
    seen, cursor = [], None
    while True:
        page = many.query(topic="arrays", order_by=["-code_attempts", "topic"], limit=7, cursor=cursor)
        seen += [(session["code_attempts"], session["thread_id"]) for session in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 20
    assert [attempts for attempts, _ in seen] == sorted((a for a, _ in seen), reverse=True)


def test_fields_choose_columns_and_the_cursor_still_works(many: Any) -> None:
    page = many.query(fields=["thread_id", "topic"], limit=10)
    assert {frozenset(session) for session in page} == {frozenset({"thread_id", "topic"})}
    rest = many.query(fields=["thread_id", "topic"], limit=100, cursor=page.next_cursor)
    assert len({session["thread_id"] for session in [*page, *rest]}) == 60


def test_query_count_and_iter_agree(many: Any) -> None:
    filters = {"code_attempts__gte": 3, "any_of": [{"topic": "arrays"}, {"topic__isnull": True}]}
    threads = {session["thread_id"] for session in many.query(**filters, limit=1000)}
    assert {session["thread_id"] for session in many.iter(**filters)} == threads
    assert many.count(**filters) == len(threads) == 16


def test_mistakes_in_filters_are_told(many: Any) -> None:
    for call in (
        lambda: many.query(no_such=1),
        lambda: list(many.iter(topic__like="x")),
        lambda: many.count(any_of=[{}]),
        lambda: many.query(limit=1001),
        lambda: many.query(cursor="x"),
        lambda: many.analytics(bucket="year"),
        lambda: many.analytics(group_by="no_such"),
    ):
        with pytest.raises(FilterError):
            call()


def test_a_stream_is_read_in_pieces_and_may_be_left(store: Any) -> None:
    store.save_many({"thread_id": f"t{n}"} for n in range(1200))
    for _ in range(20):  # more often than there are connections
        stream = store.iter()
        assert len(list(islice(stream, 3))) == 3
        stream.close()
    assert sum(1 for _ in store.iter()) == 1200


# --- numbers ---


def test_analytics(many: Any) -> None:
    numbers = many.analytics()
    assert (numbers.total, numbers.by_status) == (60, {"completed": 30, "failed": 30})
    assert numbers.success_rate == 0.5
    assert numbers.average_code_attempts == 2.0
    assert numbers["by_topic"] == {"arrays": 20, "graphs": 20, None: 20}
    assert numbers.by_difficulty == {None: 60}
    assert numbers.numeric["code_attempts"].max == 4
    assert numbers.first_seen is not None
    assert (numbers.groups, numbers.series) == ([], [])


def test_analytics_by_group_and_bucket(many: Any, dsn: str) -> None:
    sql(dsn, f"UPDATE {many.table.full.as_string()} SET created_at = '2026-01-05T23:30:00Z' WHERE topic = 'arrays'")
    sql(dsn, f"UPDATE {many.table.full.as_string()} SET created_at = '2026-01-06T00:30:00Z' WHERE topic IS NULL")
    numbers = many.analytics(group_by=["topic", "tests_passed"], bucket="day", created_at__lt="2026-02-01")
    assert numbers.total == 40
    assert {(group.key["topic"], group.key["tests_passed"]): group.total for group in numbers.groups} == {
        ("arrays", True): 10,
        ("arrays", False): 10,
        (None, True): 10,
        (None, False): 10,
    }
    assert all(
        group.by_status == {"completed" if group.key["tests_passed"] else "failed": 10} for group in numbers.groups
    )
    assert [(part.start, part.key["topic"], part.total) for part in numbers.series] == [
        (datetime(2026, 1, 5, tzinfo=UTC), "arrays", 10),
        (datetime(2026, 1, 5, tzinfo=UTC), "arrays", 10),
        (datetime(2026, 1, 6, tzinfo=UTC), None, 10),
        (datetime(2026, 1, 6, tzinfo=UTC), None, 10),
    ]
    by_json = many.analytics(group_by="metadata")
    assert [(group.key, group.total) for group in by_json.groups] == [({"metadata": None}, 60)]


def test_analytics_of_nothing(store: Any) -> None:
    numbers = store.analytics(group_by="topic", bucket="hour")
    assert (numbers.total, numbers.success_rate, numbers.groups, numbers.by_status) == (0, None, [], {})


def test_durations(store: Any) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(1, 5):
        store.save(f"t{n}", {}, started_at=start, finished_at=start + timedelta(seconds=n))
    assert store.analytics().duration_p50 == 2.5


# --- removing ---


def test_delete_takes_the_history_along(store: Any) -> None:
    store.save("t", STATE)
    assert store.delete("t")
    assert not store.delete("t")
    assert (store.get("t"), store.versions("t")) == (None, [])


def test_a_run_that_starts_after_a_delete_writes_again(store: Any) -> None:
    slot = Slot("topic", "varchar(50)", "set", "field")
    for _ in range(20):
        store.save("t", {})
        before, *_ = store.clock.tick()
        store.delete("t")
        after, *_ = store.clock.tick()
        old = Row("t", after, before, 0, True, (slot,), ("in flight",))
        assert store.save_many([old]) == 0
        assert store.save_many([Row("t", after, after, 0, True, (slot,), ("new",))]) == 1


def test_erase_needs_a_filter_that_restricts(many: Any) -> None:
    empty: list[dict[str, Any]] = [{"topic__startswith": ""}, {"any_of": [{"topic": "x"}, {"user_id__contains": ""}]}]
    for filters in ({}, {"topic__notin": []}, *empty):
        with pytest.raises(FilterError, match=r"filter|empty"):
            many.erase(**filters)
    assert many.count() == 60
    assert many.erase(topic="arrays") == 20
    assert (many.count(), many.count(topic="arrays")) == (40, 0)


def test_erase_and_purge_more_than_one_chunk(store: Any) -> None:
    store.save_many({"thread_id": f"t{n}", "topic": "x" if n else None} for n in range(2300))
    assert store.erase(topic="x") == 2299
    assert store.purge(older_than=timedelta(days=1)) == 0
    assert store.purge(older_than=timedelta(0)) == 1
    with pytest.raises(FilterError):
        store.purge(older_than=30)


@pytest.mark.parametrize("than", [timedelta(days=-1), timedelta(microseconds=-1), datetime(9999, 1, 1, tzinfo=UTC)])
def test_an_age_that_every_row_has_purges_and_marks_nothing(store: Any, than: Any) -> None:
    store.save("t", {}, workflow_status="running")
    with pytest.raises(FilterError, match="every row"):
        store.purge(older_than=than)
    with pytest.raises(FilterError, match="every row"):
        store.mark_abandoned(than)
    assert store.get("t")["workflow_status"] == "running"


# --- following ---


def test_changes_tells_every_change_after_since(store: Any) -> None:
    store.save("before", {})
    since = store.get("before")["updated_at"]
    changes = store.changes(since=since, poll=0.01)
    store.save("a", {})
    store.save("b", {})
    assert [session["thread_id"] for session in islice(changes, 2)] == ["a", "b"]
    store.update("a", code="x")
    assert next(changes)["code"] == "x"
    changes.close()


def test_changes_of_a_sync_store_begin_with_the_call(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema) as store:
        changes = store.changes(poll=0.01)
        store.save("after the call", {})
        assert next(changes)["thread_id"] == "after the call"


def test_changes_tells_what_is_committed_late(store: Any, dsn: str) -> None:
    store.save("t0", {})
    changes = store.changes(since=store.get("t0")["updated_at"], poll=0.01)
    name = store.table.full.as_string()
    with psycopg.connect(dsn) as late:
        late.execute(f"INSERT INTO {name} (thread_id) VALUES ('late')")
        store.save("t1", {})
        assert next(changes)["thread_id"] == "t1"
        late.commit()
        assert next(changes)["thread_id"] == "late"
    changes.close()


# --- waiting for recorders ---


class Backlog:
    """Holds one row until somebody waits."""

    def __init__(self, deliver: Any) -> None:
        self.pending, self.deliver, self.timeouts = True, deliver, []

    def wait(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        self.deliver()
        self.pending = False
        return True


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.get("t") is not None,
        lambda store: len(store.query()) == 1,
        lambda store: len(list(store.iter())) == 1,
        lambda store: store.count() == 1,
        lambda store: store.analytics().total == 1,
        lambda store: len(store.versions("t")) == 1,
        lambda store: store.link_run("t", "r"),
        lambda store: store.update("t", code="y"),
        lambda store: store.delete("t"),
        lambda store: store.erase(topic="x") == 1,
    ],
)
def test_reads_wait_for_what_recorders_hold(
    store: Any, dsn: str, schema: str, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the waits of a user
    with SessionStore(dsn, schema=schema) as behind:
        backlog = Backlog(lambda: behind.save("t", {"topic": "x", "code": "x"}))
        store.add_backlog(backlog)
        assert read(store)
    assert all(0 < timeout <= 1 for timeout in backlog.timeouts)


# --- connecting ---


def test_constructing_a_store_does_not_connect() -> None:
    for colour in (SessionStore, AsyncSessionStore):
        store = colour("host=127.0.0.1 port=1 dbname=nowhere password=secret user=u")
        assert "secret" not in repr(store)
        assert "port 1" in repr(store)


def test_a_table_name_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="dot"):
        SessionStore("host=x", table="a.b")


def test_unreachable(make: Any) -> None:
    with pytest.raises(UnavailableError, match="port 1"):
        make("host=127.0.0.1 port=1 user=u dbname=d password=secret").get("t")


def test_an_unknown_database_or_role_is_a_login_error(make: Any, dsn: str) -> None:
    with pytest.raises(LoginError):
        make(make_conninfo(dsn, dbname="no_such_database")).get("t")


def test_setup_false_never_creates(make: Any) -> None:
    store = make(setup=False)
    assert store.setup_queries is None
    with pytest.raises(SchemaError, match="session-store init"):
        store.get("t")
    assert store.setup().done
    assert store.get("t") is None


def test_a_missing_column_is_told(store: Any, dsn: str) -> None:
    store.save("t", {})
    sql(dsn, f"ALTER TABLE {store.table.full.as_string()} DROP COLUMN metadata CASCADE")
    with pytest.raises(SchemaError, match="column is missing"):
        store.get("t")


def test_a_table_of_another_shape_is_told(make: Any, dsn: str, schema: str) -> None:
    sql(dsn, f"CREATE TABLE {schema}.session_states (id int)")
    with pytest.raises(SchemaError, match="no table of this package"):
        make().get("t")


def test_a_role_that_may_read_needs_no_other_right(make: Any, dsn: str, schema: str, role: str) -> None:
    make().save("t", STATE)
    sql(dsn, f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.session_states TO {role}")
    reader = make(make_conninfo(dsn, options=f"-c role={role}"))
    assert reader.get("t")["topic"] == "arrays"
    for write in (lambda: reader.save("t", {}), lambda: reader.delete("t"), lambda: reader.update("t", topic="x")):
        with pytest.raises(PrivilegeError, match="GRANT"):
            write()


def test_a_role_that_may_not_create_is_told(make: Any, dsn: str, schema: str, role: str) -> None:
    sql(dsn, f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    with pytest.raises(PrivilegeError, match="setup=False"):
        make(make_conninfo(dsn, options=f"-c role={role}")).save("t", {})


def test_a_read_only_session_and_a_time_out_are_told(make: Any, dsn: str) -> None:
    make().save("t", {})
    with pytest.raises(PrivilegeError, match="no writes"):
        make(make_conninfo(dsn, options="-c default_transaction_read_only=on")).save("t", {})
    slow = make(make_conninfo(dsn, options="-c lock_timeout=20"))
    name = slow.table.full.as_string()
    slow.get("t")
    with psycopg.connect(dsn) as other:
        other.execute(f"LOCK TABLE {name}")
        with pytest.raises(UnavailableError, match="lock"):
            slow.get("t")


def test_a_connection_that_was_cut_is_replaced(store: Any, dsn: str) -> None:
    store.save("t", {})
    sql(
        dsn,
        "SELECT pg_terminate_backend(pid, 120000) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
        f"%{store.table.schema}%",
    )
    assert store.get("t") is not None


def test_an_error_in_a_transaction_leaves_nothing_and_the_connection_works(store: Any) -> None:
    with pytest.raises(StoreError):
        store.save_many([{"thread_id": "a", "run_id": "r"}, {"thread_id": "b", "run_id": "r" * 300}])
    assert store.count() == 0
    store.save("a", {})
    assert store.count() == 1


def test_a_closed_store_opens_again(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema) as store:
        store.save("t", {})
    assert store.get("t") is not None
    store.close()


def test_connections_prepare_what_asks_for_it_and_set_nothing(store: Any) -> None:
    for n in range(10):
        store.save(f"t{n}", {})
        store.get(f"t{n}")
        store.count(topic=f"t{n}")
    what = b"SELECT array(SELECT statement FROM pg_prepared_statements), (SELECT count(*) FROM pg_settings WHERE source = 'session')"
    prepared, settings = store.run(Query(what, {}, lambda rows, _: rows[0]))
    assert settings == 0
    assert len(prepared) == 1
    assert prepared[0].rstrip().endswith("WHERE thread_id = $1")


def test_a_connection_keeps_the_cursor_of_get_and_none_of_its_rows(dsn: str, schema: str) -> None:
    def look(connection: Any) -> Any:
        assert connection.kept.pgresult.ntuples == 0
        return connection.kept

    with SessionStore(dsn, schema=schema, pool_size=1) as store:
        store.save("t", {"code": "x"})
        kept = []
        for _ in range(2):
            assert store.get("t")["code"] == "x"  # type: ignore[index]  # it is there
            with store._connection() as connection:
                kept.append(look(connection))
    assert kept[0] is kept[1]

    async def same() -> None:
        async with AsyncSessionStore(dsn, schema=schema, pool_size=1) as store:
            kept = []
            for _ in range(2):
                assert (await store.get("t"))["code"] == "x"  # type: ignore[index]  # it is there
                async with store._connection() as connection:
                    kept.append(look(connection))
        assert kept[0] is kept[1]

    asyncio.run(same())


def test_behind_a_pooler_nothing_is_prepared(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    another = Query(b"SELECT false, 0", {}, lambda rows, _: rows[0])
    monkeypatch.setattr(base.schema, "surroundings", lambda: another)  # than the process that greeted
    for _ in range(10):
        store.get("t")
    assert store.run(Query(b"SELECT count(*) FROM pg_prepared_statements", {}, lambda rows, _: rows[0][0])) == 0


def test_a_type_that_changes_under_a_prepared_statement(store: Any, dsn: str) -> None:
    store.save("t", {"topic": "lists"})
    assert store.get("t")["topic"] == "lists"
    table = store.table.full.as_string(None)
    sql(dsn, f"DROP VIEW {store.table.summary.as_string(None)}")
    sql(dsn, f"ALTER TABLE {table} ALTER COLUMN topic TYPE varchar(60)")
    assert store.get("t")["topic"] == "lists"


def test_threads_share_a_store(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, pool_size=3) as store:
        gate = threading.Barrier(12)
        failures: list[Exception] = []

        def worker(index: int) -> None:
            try:
                gate.wait()
                for n in range(5):
                    store.save(f"t{index}", {"code_attempts": n})
                    assert store.get(f"t{index}") is not None
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=worker, args=[index]) for index in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.count(code_attempts=4) == 12


def test_an_async_store_serves_one_loop_after_the_other(dsn: str, schema: str) -> None:
    store = AsyncSessionStore(dsn, schema=schema)

    async def use(thread_id: str) -> int:
        await asyncio.gather(*(store.save(f"{thread_id}{n}", {}) for n in range(10)))
        return await store.count()

    async def use_and_close(thread_id: str) -> int:
        async with store:
            return await use(thread_id)

    assert asyncio.run(use("a")) == 10
    assert asyncio.run(use_and_close("b")) == 20
    gc.collect()


def test_a_fork_gets_connections_of_its_own(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema) as store:
        store.save("parent", {})
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store.save("child", {})
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert store.count() == 2


@pytest.mark.parametrize("close", ["", "store.close()"])
def test_a_script_ends_without_a_word(dsn: str, schema: str, close: str) -> None:
    script = f"""
from langgraph_session_store.store import SessionStore
store = SessionStore({dsn!r}, schema={schema!r})
store.save("t", {{}})
{close}
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_logs_hold_no_values(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "langgraph_session_store"):
        store.save("t", {"topic": "secret topic"}, run_id="secret-run")
        store.query(topic="secret topic")
    assert "secret" not in caplog.text


def test_the_twins_have_the_same_methods() -> None:
    def public(colour: type) -> set[str]:
        return {name for name in dir(colour) if not name.startswith("_")}

    assert public(SessionStore) == public(AsyncSessionStore)
