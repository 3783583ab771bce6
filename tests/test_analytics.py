"""The numbers are those that pandas computes of the same rows, and nothing of a call reaches the statement but known names."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal  # noqa: TC003 - the record reads it
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL

from langgraph_session_store import Column, FilterError, MessagesSession, ProblemSession, SessionRecord, SessionStore
from langgraph_session_store.queries.analytics import analytics

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = datetime(2026, 3, 1, tzinfo=UTC)
GROUPS = ["topic", "difficulty", "tests_passed", "code_attempts", "workflow_status", "user_id", "metadata"]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "topic": st.sampled_from([None, "lists", "graphs", ""]),
            "difficulty": st.sampled_from([None, "easy", "hard"]),
            "workflow_status": st.sampled_from(["completed", "failed", "running", "cancelled"]),
            "tests_passed": st.sampled_from([None, True, False]),
            "code_attempts": st.none() | st.integers(0, 2**31 - 1) | st.integers(1, 4),
            "problem_attempts": st.none() | st.integers(1, 3),
            "user_id": st.sampled_from([None, "ada", "grace"]),
            "metadata": st.sampled_from([None, {"a": 1}, {"a": 1.0}, [1]]),
            "created_at": st.integers(0, 20 * 24 * 60).map(lambda minutes: BASE + timedelta(minutes=minutes)),
            "seconds": st.none() | st.integers(0, 500) | st.floats(0.001, 5000).map(lambda value: round(value, 6)),
        }
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def shared(dsn: str, module_schema: str) -> Iterator[SessionStore]:
    with SessionStore(dsn, schema=module_schema, pool_size=1) as store:
        store.setup()
        yield store


def fill(store: SessionStore, given_rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make *given_rows* all that is there, and return them as a frame."""
    with psycopg.connect(**store.target.kwargs(), autocommit=True) as connection:
        connection.execute(SQL("TRUNCATE {}").format(store.table.full))
    written = []
    for number, row in enumerate(given_rows):
        seconds = row["seconds"]
        end = None if seconds is None else BASE + timedelta(seconds=seconds)
        own = {name: value for name, value in row.items() if name != "seconds"}
        written.append({"thread_id": f"t{number}", "started_at": BASE, "finished_at": end, **own})
    assert store.save_many(written) == len(written)
    return pd.DataFrame(given_rows, columns=[*rows_columns(), "seconds"]).astype(object)


def rows_columns() -> list[str]:
    return [*GROUPS, "problem_attempts", "created_at"]


def near(value: float | None, expected: float) -> bool:
    if value is None:
        return math.isnan(expected)
    return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9)


def agree(numbers: Any, frame: pd.DataFrame) -> None:
    """Compare one summary with pandas."""
    assert numbers.total == len(frame)
    status = frame["workflow_status"]
    assert numbers.by_status == status.value_counts().to_dict()
    finished = frame[status.isin(["completed", "failed"])]
    rate = (finished["tests_passed"] == True).mean() if len(finished) else math.nan  # noqa: E712 - pandas compares so
    assert near(numbers.success_rate, rate)
    for name in ("code_attempts", "problem_attempts"):
        values = frame[name].dropna().astype(float)
        assert near(numbers[f"average_{name}"], values.mean())
        assert near(numbers.numeric[name].min, values.min())
        assert near(numbers.numeric[name].max, values.max())
    seconds = frame["seconds"].dropna().astype(float)
    assert near(numbers.duration_p50, seconds.quantile(0.5))
    assert near(numbers.duration_p95, seconds.quantile(0.95))
    moments = list(frame["created_at"])
    assert (numbers.first_seen, numbers.last_seen) == (min(moments, default=None), max(moments, default=None))


def plain(value: Any) -> Any:
    return "null" if value is None else repr(value).replace("1.0", "1") if isinstance(value, (dict, list)) else value


def start_of(moment: datetime, bucket: str) -> datetime:
    if bucket == "hour":
        return moment.replace(minute=0)
    day = moment.replace(hour=0, minute=0)
    return day if bucket == "day" else day - timedelta(days=day.weekday())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.lists(st.sampled_from(GROUPS), unique=True, max_size=3), st.sampled_from([None, "hour", "day", "week"]))
@example([], [], None)
@example([], ["topic"], "week")
def test_the_numbers_are_those_of_pandas(
    shared: SessionStore, given_rows: list[dict[str, Any]], group_by: list[str], bucket: str | None
) -> None:
    frame = fill(shared, given_rows)
    everything = {"thread_id__startswith": "t"}
    for filters in ({}, everything):  # the whole table has a statement of its own
        numbers = shared.analytics(group_by=group_by or None, bucket=bucket, **filters)
        agree(numbers, frame)
        for name in ("topic", "difficulty"):
            assert numbers[f"by_{name}"] == Counter(row[name] for row in given_rows)
        keys = [tuple(plain(row[name]) for name in group_by) for row in given_rows]
        found = {tuple(plain(group.key[name]) for name in group_by): group for group in numbers.groups}
        assert found.keys() == (set(keys) if group_by else set())
        assert len(found) == len(numbers.groups)
        for key, group in found.items():
            agree(group, frame[[mine == key for mine in keys]])
        if bucket:
            starts = [start_of(row["created_at"], bucket) for row in given_rows]
            assert sum(part.total for part in numbers.series) == len(frame)
            for part in numbers.series:
                place = (part.start, tuple(plain(part.key[name]) for name in group_by))
                agree(part, frame[[mine == place for mine in zip(starts, keys, strict=True)]])
        else:
            assert numbers.series == []


def test_both_statements_say_the_same(shared: SessionStore) -> None:
    fill(shared, [dict.fromkeys([*rows_columns(), "seconds"]) | {"seconds": n, "created_at": BASE} for n in range(40)])
    condition = shared._restricting({"thread_id": "t"}, None)
    whole, spread = (
        shared.run(analytics(shared.table, type(condition)(SQL("TRUE"), {}, restricts=False), spread=spread))
        for spread in (False, True)
    )
    assert whole == spread
    assert (whole.duration_p50, whole.duration_p95) == (19.5, pytest.approx(37.05))


class Priced(SessionRecord, table="priced"):
    """Numbers of other kinds, and names that the statement has words for, too."""

    price: Decimal | None = None
    ratio: Annotated[float | None, Column(sql="double precision")] = None
    total: int | None = None
    start: str | None = None
    n: int | None = None


def test_other_records(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, record=Priced) as store:
        prices = ["1.0", "1.00", "99999999999999999999999999999.5", None]
        store.save_many(
            {"thread_id": f"t{n}", "price": price, "ratio": 0.5, "total": n, "start": "x", "n": 2**62}
            for n, price in enumerate(prices)
        )
        numbers = store.analytics(group_by=["price", "start"])
        assert sorted(group.total for group in numbers.groups) == [1, 1, 2]
        assert numbers.numeric["n"].mean == 2**62
        assert numbers.numeric["ratio"].mean == 0.5
        assert store.analytics().numeric == numbers.numeric
        assert list(numbers.to_pandas()["group_start"]) == ["x"] * 3
    with SessionStore(dsn, schema=schema, record=MessagesSession) as store:
        store.save("t", {"messages": [("human", "hi")]})
        numbers = store.analytics(bucket="day", group_by="models")
        assert (numbers.total, numbers.success_rate, numbers.numeric["message_count"].mean) == (1, None, 1.0)
        assert "topic" not in numbers.by_topic


@pytest.mark.parametrize(
    "call",
    [
        {"group_by": "topic; DROP TABLE session_states"},
        {"group_by": 'topic" FROM pg_user --'},
        {"group_by": ["topic", "1"]},
        {"group_by": []},
        {"group_by": "key__topic"},
        {"bucket": "day', created_at); DROP TABLE session_states --"},
        {"bucket": "month"},
        {"bucket": ""},
        {"group_by": "bucket"},
        {"topic__or_1_eq_1": "x"},
    ],
)
def test_what_is_no_name_is_refused(store: SessionStore, call: dict[str, Any]) -> None:
    with pytest.raises(FilterError, match=next(iter(call)).partition("__")[0]):
        store.analytics(**call)
    assert store.count() == 0


def test_more_groups_than_postgres_takes(dsn: str, schema: str) -> None:
    wide = type(
        "Wide",
        (SessionRecord,),
        {"__annotations__": {f"c{n}": str | None for n in range(40)}} | {f"c{n}": None for n in range(40)},
    )
    with SessionStore(dsn, schema=schema, record=wide) as store, pytest.raises(FilterError, match="at most 30"):
        store.analytics(group_by=[f"c{n}" for n in range(40)])


@pytest.mark.parametrize("asked", [{"group_by": "topic"}, {"bucket": "day"}, {"group_by": "topic", "bucket": "day"}])
def test_no_sessions_are_no_rows_of_the_same_columns(store: SessionStore, asked: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    empty = store.analytics(**asked)
    store.save("t", {"topic": "arrays"})
    for nothing in (empty, store.analytics(**asked, topic="nope")):
        assert nothing.table() == ([], store.analytics(**asked).table()[1])
        assert nothing.to_pandas().dtypes.equals(store.analytics(**asked).to_pandas().dtypes)
    assert len(store.analytics(topic="nope").to_pandas()) == 1


def test_a_null_group_is_no_total(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, record=ProblemSession) as store:
        store.save_many({"thread_id": f"t{n}", "code_attempts": n} for n in range(4))
        (group,) = store.analytics(group_by=["topic", "difficulty"]).groups
        assert (group.key, group.total) == ({"topic": None, "difficulty": None}, 4)
