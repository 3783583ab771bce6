"""How Postgres runs what we ask: through which index, and without a sort where the index has the order."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest
from psycopg.sql import SQL

from langgraph_session_store import Column, ProblemSession, SessionStore
from langgraph_session_store.queries import reads as queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store.query import Query

COUNT = 50_000
ROWS = SQL("""
INSERT INTO {} (thread_id, created_at, recorded_at, started_at, finished_at, workflow_status, topic, difficulty, tests_passed,
    code_attempts, problem_attempts, user_prompt, problem_tests, code)
SELECT 't' || n, at, at, at, at + n %% 977 * interval '1 second', CASE WHEN n %% 5 = 0 THEN 'failed' ELSE 'completed' END,
    CASE WHEN n <= 2000 THEN 'legacy' ELSE (ARRAY['lists', 'strings', 'graphs'])[1 + n %% 3] END,
    (ARRAY['easy', 'medium', 'hard'])[1 + n / 3 %% 3], n %% 5 <> 0, 1 + n %% 4, 1 + n %% 2,
    'Sort request ' || n || ' by ' || md5(n::text), jsonb_build_array(jsonb_build_object('case', n)), repeat(md5(n::text), 8)
FROM (SELECT n, '2026-01-01Z'::timestamptz + n * interval '1 minute' AS at FROM generate_series(1, %(count)s) AS n) AS rows
""")

VISIBLE = "SELECT relallvisible >= relpages FROM pg_class WHERE oid = %s::regclass"


class Searched(ProblemSession, table="searched"):
    """A problem whose prompt and tests are searched."""

    user_prompt: Annotated[str | None, Column(index="trigram")] = None
    problem_tests: Annotated[
        list[Any] | None, Column(("problem.tests", "problem_tests"), versioned=True, index="gin")
    ] = None


class Plans:
    """The store, and what Postgres says that it would do."""

    def __init__(self, store: SessionStore, connection: psycopg.Connection[Any]) -> None:
        self.store = store
        self._connection = connection

    def of(self, query: Query[Any]) -> str:
        lines = self._connection.execute(b"EXPLAIN (COSTS OFF) " + query.sql, query.params).fetchall()
        return "\n".join(line for (line,) in lines)

    def page(self, **options: Any) -> str:
        words = {"order_by", "limit", "cursor", "any_of", "fields"}
        filters = {name: options.pop(name) for name in [*options] if name not in words}
        return self.of(queries.page(self.store.table, filters, **options))


@pytest.fixture(scope="module")
def plans(dsn: str, module_schema: str) -> Iterator[Plans]:
    with (
        SessionStore(dsn, record=Searched, schema=module_schema) as store,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        store.setup()
        connection.execute(ROWS.format(store.table.full), {"count": COUNT})
        for _ in range(2000):  # another test's transaction may keep pages from being all visible, which plans look at
            connection.execute(SQL("VACUUM ANALYZE {}").format(store.table.full))
            if connection.execute(VISIBLE, [f"{module_schema}.searched"]).fetchone() == (True,):
                break
            time.sleep(0.2)
        yield Plans(store, connection)


@pytest.mark.parametrize("topic", ["lists", "legacy"])
def test_the_documented_filter_is_read_in_the_order_of_its_index(plans: Plans, topic: str) -> None:
    plan = plans.page(topic=topic, difficulty="hard", tests_passed=True)
    assert "Index Scan using idx_searched_topic_difficulty_tests_passed" in plan
    assert "Sort" not in plan
    page = plans.store.query(topic=topic, difficulty="hard", tests_passed=True, limit=50)
    assert len(page) == 50
    plan = plans.page(topic=topic, difficulty="hard", tests_passed=True, cursor=page.next_cursor)
    assert "(ROW(created_at, id) <" in plan
    assert "Sort" not in plan


def test_a_page_far_behind_begins_at_its_place(plans: Plans) -> None:
    cursor = None
    for _ in range(20):
        cursor = plans.store.query(limit=1000, fields="id", cursor=cursor).next_cursor
    plan = plans.page(cursor=cursor)
    assert "Index Scan using idx_searched_created_at" in plan
    assert "Index Cond: (ROW(created_at, id) <" in plan
    assert "Sort" not in plan
    assert "Filter" not in plan


def test_the_slowest_sessions_come_from_an_index(plans: Plans) -> None:
    plan = plans.page(order_by="-duration_seconds")
    assert "Index Scan using idx_searched_duration_seconds" in plan
    assert "Seq Scan" not in plan


def test_one_session_is_found_by_its_key(plans: Plans) -> None:
    assert "Index Scan using searched_thread_id_key" in plans.of(queries.get(plans.store.table, "t7"))


def test_the_numbers_of_the_whole_table_come_from_indexes_alone(plans: Plans) -> None:
    plan = plans.of(plans.store._numbers({}, None, None, None))
    assert "Index Only Scan using idx_searched_topic_difficulty_workflow_status" in plan
    assert "using idx_searched_duration_seconds" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan


def test_the_numbers_of_some_sessions_read_these_once(plans: Plans) -> None:
    filters = {"created_at__gte": "2026-02-01", "created_at__lt": "2026-02-02"}
    plan = plans.of(plans.store._numbers(filters, None, "topic", "hour"))
    assert plan.count(" on searched") == 1
    assert "idx_searched_created_at" in plan


def test_containment_and_search_use_the_index_that_was_asked_for(plans: Plans) -> None:
    assert "idx_searched_problem_tests" in plans.page(problem_tests__has=[{"case": 777}])
    for operator in ("contains", "icontains"):
        assert "idx_searched_user_prompt" in plans.page(**{f"user_prompt__{operator}": "request 40777 "})
    assert [row["thread_id"] for row in plans.store.query(problem_tests__has=[{"case": 777}])] == ["t777"]
    assert [row["thread_id"] for row in plans.store.query(user_prompt__icontains="REQUEST 40777 ")] == ["t40777"]


@pytest.mark.parametrize(
    ("operator", "phrase", "looked_up"),
    [
        ("contains", "request 40777 ", "~~ '%req_est_40777_%'"),
        ("icontains", "REQUEST 40777 by", "~~* '%REQ_EST_40777___%'"),
        ("startswith", "Sort request 40777 by", "~~ 'Sort_req_est_40777___%'"),
    ],
)
def test_a_phrase_is_looked_up_by_the_ends_of_its_words(
    plans: Plans, operator: str, phrase: str, looked_up: str
) -> None:
    filters = {f"user_prompt__{operator}": phrase}
    condition = next(line for line in plans.page(**filters).splitlines() if "Index Cond" in line)
    assert looked_up in condition
    assert phrase not in condition
    assert [row["thread_id"] for row in plans.store.query(**filters)] == ["t40777"]
    near = {f"user_prompt__{operator}": phrase.replace("e", "_", 2).replace("E", "_", 2)}
    assert plans.store.query(**near) == []  # what the index finds is compared with the phrase itself


def test_what_many_prompts_hold_is_looked_for_in_the_order_of_the_answer(plans: Plans) -> None:
    plan = plans.page(user_prompt__contains="Sort request")
    assert "Index Scan using idx_searched_created_at" in plan
    assert "Sort Key" not in plan


def test_a_statement_is_composed_in_few_steps(plans: Plans) -> None:
    steps = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal steps
        steps += event == "call"

    filters = {"topic": "lists", "difficulty": "hard", "tests_passed": True}
    before = sys.getprofile()
    for _ in range(2):  # what does not depend on the values is there the second time
        steps = 0
        sys.setprofile(count)
        try:
            queries.page(plans.store.table, filters)
        finally:
            sys.setprofile(before)
    assert 0 < steps < 1000  # with the names of all columns quoted anew they are twice as many
