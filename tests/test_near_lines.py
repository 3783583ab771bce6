"""A thread's history is read where its events stand, and what they add is what they would add to all of it."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.sql import SQL
from test_queries import NOW, Database, event

from langgraph_session_store.clock import to_datetime
from langgraph_session_store.queries.history import Line, changes, new_lines
from langgraph_session_store.queries.lines import near_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store.row import Row

COLUMNS = {"code": "text", "tests_passed": "boolean"}


@pytest.fixture
def db(dsn: str, schema: str) -> Iterator[Database]:
    with Database.installed(dsn, schema) as database:
        yield database


def read(db: Database, threads: dict[str, list[Row]]) -> dict[str, list[Line]]:
    times = {thread: [one.recorded_at for one in of] for thread, of in threads.items()}
    found: dict[str, list[Line]] = db.run(near_lines(db.table, times, COLUMNS, list(times)))
    return found


def whole(db: Database) -> dict[str, list[Line]]:
    lines: dict[str, list[Line]] = defaultdict(list)
    for row in db.rows("SELECT *, (extract(epoch FROM recorded_at) * 1000000)::bigint AS at FROM $v"):
        known = {column: None if row[column] is None else str(row[column]).lower() for column in COLUMNS}
        lines[row["thread_id"]].append(Line(row["thread_id"], row["at"], None, row["content__digests"], known))
    return lines


@pytest.mark.parametrize("seed", range(12))
def test_what_stands_near_the_events_is_enough(db: Database, seed: int) -> None:
    dice = random.Random(seed)
    stood = [random_event(dice, dice.choice("abcdef")) for _ in range(120)]
    for made in sorted(stood, key=lambda one: one.recorded_at):
        db.write(made)
    for _ in range(10):
        threads: dict[str, list[Row]] = defaultdict(list)
        for _ in range(dice.randrange(1, 9)):
            made = random_event(dice, dice.choice("abcdefg"))  # nothing is known of g
            threads[made.thread_id].append(made)
        near, every = read(db, threads), whole(db)
        for thread, of in threads.items():
            said = changes(of)
            assert new_lines(near.get(thread, ()), said) == new_lines(every.get(thread, ()), said)


def random_event(dice: random.Random, thread: str) -> Row:
    columns: dict[str, Any] = {"code": (dice.choice(["set", "fill"]), dice.choice([None, "x", "y", "z"]))}
    if dice.random() < 0.5:
        columns["tests_passed"] = dice.choice([None, True, False])
    return event(dice.randrange(60), thread, **columns)


def test_a_long_history_is_not_read(db: Database) -> None:
    """Two lines of two thousand: contents of 8 KB each are what made a drain slow."""
    db.conn.execute(
        SQL(
            "INSERT INTO {} (thread_id, recorded_at, content__digests, code)"
            " SELECT 'deep', %s + n * interval '1 s', '{{}}', 'x' FROM generate_series(1, 2000) AS n"
        ).format(db.table.versions),
        [to_datetime(NOW)],
    )
    at = {"first": 500_500_000, "between": 1_000_000_000, "behind all": 3_600_000_000, "before all": -1}
    counts = {where: len(read(db, {"deep": [event(time, "deep")]}).get("deep", ())) for where, time in at.items()}
    assert counts == {"first": 2, "between": 2, "behind all": 1, "before all": 1}


def test_no_whole_table_is_read_for_one_thread(db: Database) -> None:
    db.conn.execute(
        SQL(
            "INSERT INTO {} (thread_id, recorded_at, content__digests, code)"
            " SELECT 't-' || t, %s + n * interval '1 s', '{{}}', repeat(md5((n * t)::text), 64)"
            " FROM generate_series(1, 200) AS n, generate_series(1, 50) AS t"
        ).format(db.table.versions),
        [to_datetime(NOW)],
    )
    db.conn.execute(SQL("VACUUM ANALYZE {}").format(db.table.versions))
    query = near_lines(db.table, {"t-7": [NOW + 77_500_000]}, COLUMNS, [])
    (plan,) = db.conn.execute(b"EXPLAIN (FORMAT JSON) " + query.sql, query.params).fetchone() or ((),)
    scans = [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == "session_states_versions"]
    assert len(scans) == 2
    assert [scan["Node Type"] for scan in scans if scan["Node Type"] == "Seq Scan"] == []


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)
