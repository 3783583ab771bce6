"""History lines that are copied from the row say what they would say if their contents had been sent once more."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.sql import SQL
from test_queries import NOW, Database, event

from langgraph_session_store.queries import lines, schema, writes
from langgraph_session_store.queries.history import Line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langgraph_session_store.query import Query, Steps
    from langgraph_session_store.row import Row

CONTENTS: dict[str, list[Any]] = {
    "problem_description": [None, "", "sort", "é" * 3000],
    "problem_tests": [None, "[]", "[1]", "[1.0]", '[{"a": 1, "b": [2.50]}]', '[{"b":[2.5],"a":1}]'],
    "code": [None, "x", "y", "z" * 9000],
    "tests_passed": [None, True, False],
}


@pytest.fixture
def db(dsn: str, schema: str) -> Iterator[Watched]:
    with Watched.installed(dsn, schema) as database:
        yield database


class Watched(Database):
    """Notes what is run."""

    def __init__(self, dsn: str, schema: str) -> None:
        super().__init__(dsn, schema)
        self.ran: list[Query[Any]] = []

    def run(self, query: Query[Any]) -> Any:
        self.ran.append(query)
        return super().run(query)

    @property
    def copies(self) -> int:
        """How many statements copied lines."""
        return sum(query.sql == lines._copying(self.table, tuple(CONTENTS)) for query in self.ran)


def whole(at: int, thread: str = "t", begun: int | None = None, **columns: Any) -> Row:
    values = {"problem_description": "d", "problem_tests": "[1]", "code": "x", "tests_passed": True}
    return event(at, thread, begun, **{**values, **columns})


@pytest.mark.parametrize("seed", range(12))
def test_copied_and_sent_lines_are_the_same(dsn: str, db: Watched, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Watched(dsn, str(db.table.schema))
    other.table = replace(db.table, name="others")
    other.transaction(schema.install(other.table))
    for change in random_changes(random.Random(seed)):
        change(other)
        with monkeypatch.context() as patch:
            patch.setattr(writes, "add_lines", sending)
            change(db)
    columns = f"thread_id, recorded_at, run_id, content__digests, {', '.join(CONTENTS)}"
    text = f"SELECT {columns} FROM $v ORDER BY thread_id, recorded_at"
    assert other.rows(text) == db.rows(text)
    assert other.copies > 0
    assert db.copies == 0
    other.conn.close()


def sending(table: Any, said: Any, runs: Any, _: object, **options: Any) -> Steps[None]:
    """Add lines as if no row held what they say, with all that is known read back."""
    steps = lines.add_lines(table, said, runs, {}, **options)
    answer: Any = None
    while True:
        try:
            query = steps.send(answer)
        except StopIteration:
            return
        if "partial" in query.params:
            query = replace(query, params={**query.params, "partial": query.params["threads"]})
        answer = yield query


def random_changes(dice: random.Random) -> Iterator[Any]:
    past: list[Row] = []
    for number in range(60):
        thread, at = dice.choice("abc"), 10 * number + dice.randrange(10)
        if dice.random() < 0.15:
            correction = event(at, thread, code=dice.choice(CONTENTS["code"]))
            yield lambda db, row=correction: db.transaction(writes.amend(db.table, row))
        elif dice.random() < 0.1:  # behind the store's back
            text = f"UPDATE $t SET code = 'drifted', tests_passed = NULL WHERE thread_id = '{thread}' RETURNING 1"
            yield lambda db, text=text: db.rows(text)
        elif dice.random() < 0.1:
            saved = random_event(dice, at, thread)
            yield lambda db, row=saved: db.write(row, guarded=False)
        else:
            late = dice.choice([0, 0, dice.randrange(300)])
            run = [random_event(dice, at + turn - late, thread, at - late) for turn in range(dice.randrange(1, 4))]
            batch = [*run, random_event(dice, at, dice.choice("defg")), *dice.sample(past, min(len(past), 2))]
            past += run
            yield lambda db, batch=batch: db.write(*batch)


def random_event(dice: random.Random, at: int, thread: str, begun: int | None = None) -> Row:
    names: Sequence[str] = list(CONTENTS)
    modes = ["set"]
    if dice.random() < 0.4:
        names, modes = dice.sample(names, dice.randrange(5)), ["set", "fill", "default"]
    columns: dict[str, Any] = {name: (dice.choice(modes), dice.choice(CONTENTS[name])) for name in names}
    if dice.random() < 0.5:
        columns["run_id"] = (dice.choice(["set", "fill"]), dice.choice([None, "r1", "r2"]))
    return event(at, thread, begun, topic="arrays", **columns)


def test_what_a_run_ends_with_is_sent_once(db: Watched) -> None:
    db.write(event(1, begun=1, workflow_status="running"), whole(2, begun=1, code="once"))
    sent = [query for query in db.ran for values in query.params.values() if "once" in values]
    assert (len(sent), db.copies) == (1, 1)
    db.write(whole(3, code="twice"))
    assert db.codes() == ["once", "twice"]


def test_contents_nearby_are_read_only_where_something_of_them_remains(db: Watched) -> None:
    db.write(whole(1, "a"), whole(1, "b"))
    at = {thread: [NOW + 2] for thread in "ab"}
    found = db.run(lines.near_lines(db.table, at, {"code": "text"}, ["b"]))
    assert [(thread, line.contents) for thread, (line,) in sorted(found.items())] == [
        ("a", {"code": None}),
        ("b", {"code": "x"}),
    ]
    db.write(event(2, "a", tests_passed=False))
    assert db.codes("a") == ["x", "x"]


def test_no_whole_table_is_read_for_a_few_lines(db: Watched) -> None:
    db.conn.execute(
        SQL(
            "INSERT INTO {} (thread_id, code) SELECT 't-' || n, md5(n::text) FROM generate_series(1, 20000) AS n"
        ).format(db.table.full)
    )
    db.conn.execute(SQL("VACUUM ANALYZE {}").format(db.table.full))
    line = Line("t-7", NOW, None, {"code": "x"}, {"code": "x"})
    query = lines._copy(db.table, [line], {"code": "text"})
    (plan,) = db.conn.execute(b"EXPLAIN (FORMAT JSON) " + query.sql, query.params).fetchone() or ((),)
    assert "Index Scan" in str(plan)
    assert "Seq Scan" not in str(plan)


def test_the_history_is_compressed_as_its_table_is(db: Watched) -> None:
    """Where it is not, what is copied stays as it is, but what is sent costs twice as much."""
    text = schema.script(db.table)
    (of_table,), (of_versions,) = (
        re.findall(rf"ALTER TABLE {re.escape(full.as_string())} (ALTER COLUMN .* SET COMPRESSION lz4.*);", text)
        for full in (db.table.full, db.table.versions)
    )
    assert [name for name in CONTENTS if f'"{name}"' in of_table] == ["problem_description", "problem_tests", "code"]
    assert [name for name in CONTENTS if f'"{name}"' in of_versions] == ["problem_description", "problem_tests", "code"]
