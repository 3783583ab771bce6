"""The oracle of the fault tests: what it must call lost, torn, stale, and what it may call behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from chaos.agent import Content
from chaos.fleet import Fleet
from psycopg import sql

from langgraph_session_store.clock import to_iso
from langgraph_session_store.row import Row, Slot, own

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph_session_store import SessionStore

NOW = 1_700_000_000_000_000
CODE = Slot("code", "text", "set", "versioned")


@pytest.fixture
def fleet(store: SessionStore, dsn: str, schema: str, tmp_path: Path) -> Fleet:
    """Runs 1 and 2 of one slot on one thread, and the start of run 3, of which nothing was heard since; 2 was stored last."""
    fleet = Fleet(dsn, schema, tmp_path, slots=1)
    fleet.oracle.mkdir()
    (fleet.oracle / "s0.began").write_text("t 1\nt 2\nt 3\n")
    (fleet.oracle / "s0.done").write_text("t 1 0\nt 2 0\n")
    store.save_many([end(1, 10)])
    store.save_many([start(30)])
    store.save_many([end(2, 20)])
    return fleet


def start(at: int) -> Row:
    shape = (own("workflow_status"), own("started_at"), own("finished_at"))
    return Row("t", NOW + at, NOW + at, 0, True, shape, ("running", to_iso(NOW + at), None))


def end(number: int, at: int) -> Row:
    shape = (own("workflow_status"), own("finished_at"), CODE)
    values = ("completed", to_iso(NOW + at), Content("s0", number).text())
    return Row("t", NOW + at, NOW + at - 5, 0, True, shape, values)


def execute(fleet: Fleet, text: str, *values: Any) -> None:
    where = sql.Identifier(fleet.schema, "session_states"), sql.Identifier(fleet.schema, "session_states_versions")
    with psycopg.connect(fleet.dsn) as connection:
        connection.execute(sql.SQL(text).format(sessions=where[0], versions=where[1]), values)


def test_a_row_may_be_behind_while_a_newer_run_never_ended(fleet: Fleet) -> None:
    verdict = fleet.judge()
    assert (verdict.behind, verdict.stale, verdict.clean) == (["t"], [], True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {sessions} SET workflow_status = 'completed'",  # its last event was an end
        "UPDATE {sessions} SET finished_at = now()",
        "UPDATE {sessions} SET recorded_at = 'epoch'",  # nothing newer was heard
        "UPDATE {sessions} SET code = NULL",  # an older end fills it
        "UPDATE {sessions} SET code = 'of nobody'",
        "DELETE FROM {sessions}",
    ],
)
def test_any_other_row_that_is_not_the_newest_is_stale(fleet: Fleet, change: str) -> None:
    execute(fleet, change)
    verdict = fleet.judge()
    assert verdict.behind == []
    assert [thread for thread, *_ in verdict.stale] == ["t"]
    assert not verdict.clean


def test_a_row_is_not_behind_a_run_that_was_done(fleet: Fleet) -> None:
    (fleet.oracle / "s0.done").write_text("t 1 0\nt 2 0\nt 3 0\n")
    verdict = fleet.judge()
    assert (verdict.behind, len(verdict.stale), verdict.lost) == ([], 1, {Content("s0", 3)})


def test_behind_excuses_no_loss(fleet: Fleet) -> None:
    execute(fleet, "DELETE FROM {versions} WHERE code = %s", Content("s0", 2).text())
    assert fleet.judge().lost == {Content("s0", 2)}


def test_torn_and_invented(fleet: Fleet) -> None:
    execute(fleet, "UPDATE {versions} SET code = left(code, 500) WHERE code = %s", Content("s0", 1).text())
    execute(fleet, "UPDATE {versions} SET code = %s WHERE code = %s", Content("s0", 9).text(), Content("s0", 2).text())
    verdict = fleet.judge()
    assert (verdict.torn, verdict.invented) == (1, {Content("s0", 9)})
    assert verdict.lost == {Content("s0", 1), Content("s0", 2)}
