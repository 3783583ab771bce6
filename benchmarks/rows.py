"""A million sessions of about 1 KB each, made by Postgres itself, and the table of a first version beside them.

The same rows for the same count: nothing here is random but `hashtext`. They lie in the order of their times over a year. The topic
``legacy`` ended long ago: all its rows are in the first sixth of the year.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
from common import without_indexes
from psycopg.sql import SQL, Identifier

from langgraph_session_store import Column, ProblemSession, SessionStore

if TYPE_CHECKING:
    from psycopg.sql import Composed


class IndexedProblem(ProblemSession, table="bench_sessions"):
    """A problem whose prompt and tests are searched."""

    user_prompt: Annotated[str | None, Column(index="trigram")] = None
    problem_tests: Annotated[
        list[Any] | None, Column(("problem.tests", "problem_tests"), versioned=True, index="gin")
    ] = None


FIRST = "first_version"
FIRST_INDEXES = ("run_id", "created_at", "topic", "difficulty", "workflow_status")
"""What the original project indexed, each column alone."""
LEGACY = "legacy"
SPAN_SECONDS = 365 * 86_400

_ROWS = SQL("""
INSERT INTO {table} (thread_id, created_at, updated_at, started_at, finished_at, recorded_at, run_id, workflow_status, user_id,
    user_prompt, topic, difficulty, problem_description, problem_tests, code, tests_passed, code_attempts, problem_attempts, metadata)
SELECT 'thread-' || n, at, at + took, at, CASE WHEN status <> 'running' THEN at + took END, at + took, md5('run' || n), status,
    'user-' || abs(hashtext('user' || n)) %% 5000,
    'Write a function to sort request ' || n || ' by ' || (ARRAY['length', 'weight', 'date', 'name', 'price'])[1 + a %% 5]
        || ' and return the ' || (ARRAY['first', 'last', 'largest', 'median'])[1 + b %% 4] || ' element',
    CASE WHEN n <= {count} / 6 AND a %% 20 = 0 THEN {legacy}
        ELSE (ARRAY['arrays', 'strings', 'numbers', 'graphs', 'dates', 'mappings', 'geometry', 'other'])[1 + b %% 8] END,
    (ARRAY['easy', 'easy', 'medium', 'medium', 'hard'])[1 + c %% 5],
    'Given a list of requests, ' || repeat(md5('d' || n) || ' ', 9),
    jsonb_build_array(
        jsonb_build_object('case', n, 'input', md5('i' || n), 'expected', a %% 1000),
        jsonb_build_object('case', n + 1, 'input', md5('j' || n), 'expected', b %% 1000)),
    'def solve(values):' || chr(10) || repeat('    values = ' || md5('c' || n) || chr(10), 4),
    CASE WHEN status = 'completed' THEN true WHEN status = 'failed' THEN false END,
    1 + (d %% 100) / 40 + (d %% 7) / 5, 1 + (d %% 10) / 8, jsonb_build_object('model', 'm' || a %% 3)
FROM (
    SELECT n, a, b, c, d, {begin}::timestamptz + n * {span} / {count} * interval '1 second' AS at,
        interval '1 second' * (0.5 + exp((d %% 10000) / 1600.0) / 7) AS took,
        CASE WHEN n %% 1000 = 0 THEN 'running' WHEN d %% 100 < 18 THEN 'failed' WHEN d %% 100 < 20 THEN 'interrupted'
            ELSE 'completed' END AS status
    FROM (
        SELECT n, abs(hashtext('a' || n)) AS a, abs(hashtext('b' || n)) AS b, abs(hashtext('c' || n)) AS c, abs(hashtext('d' || n)) AS d
        FROM generate_series(%(low)s::bigint, %(high)s::bigint) AS n
    ) AS drawn
) AS rows
""")


def fill(dsn: str, count: int) -> SessionStore:
    """Return a store of *count* sessions; they are made unless they are there."""
    store = SessionStore(dsn, record=IndexedProblem, schema="bench", pool_size=2)
    store.setup()
    with psycopg.connect(dsn, autocommit=True) as connection:
        first, making, table = Identifier("bench", FIRST), Identifier("bench", "making"), store.table.full
        (there,) = connection.execute(SQL("SELECT count(*) FROM {}").format(table)).fetchone() or (0,)
        (whole,) = connection.execute("SELECT to_regclass(%s)", [first.as_string(connection)]).fetchone() or (None,)
        if there == count and whole:
            return store
        begin = time.perf_counter()
        for name in (first, making):  # the last thing that is made: where it is, nothing was interrupted
            connection.execute(SQL("DROP TABLE IF EXISTS {}").format(name))
        connection.execute(SQL("TRUNCATE {}").format(table))
        connection.execute("SET synchronous_commit = off")
        with without_indexes(connection, table.as_string(connection)):
            for low in range(1, count + 1, 50_000):
                high = min(low + 49_999, count)
                connection.execute(_statement(table, count), {"low": low, "high": high})
                print(f"\r{high:,} rows, {time.perf_counter() - begin:,.0f} s", end="", file=sys.stderr, flush=True)
        connection.execute(SQL("CREATE TABLE {} AS TABLE {}").format(making, table))
        connection.execute(SQL("ALTER TABLE {} ADD PRIMARY KEY (id), ADD UNIQUE (thread_id)").format(making))
        for column in FIRST_INDEXES:
            connection.execute(SQL("CREATE INDEX ON {} ({})").format(making, Identifier(column)))
        for each in (table, making):
            connection.execute(SQL("VACUUM ANALYZE {}").format(each))
        connection.execute(SQL("ALTER TABLE {} RENAME TO {}").format(making, Identifier(FIRST)))
        print(f"\r{count:,} rows, {time.perf_counter() - begin:,.0f} s in all", file=sys.stderr)
    return store


def _statement(table: SQL, count: int) -> Composed:
    return _ROWS.format(
        table=table, count=SQL(str(count)), legacy=LEGACY, begin="2025-01-01T00:00:00Z", span=SQL(str(SPAN_SECONDS))
    )
