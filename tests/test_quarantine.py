"""What Postgres refused can be stored once the cause is repaired, by `session-store drain --retry`; what it still refuses stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from typer.testing import CliRunner

from langgraph_session_store.cli import app
from langgraph_session_store.row import dumps
from langgraph_session_store.spool.aside import POISON, put_aside
from langgraph_session_store.testing import problem_graph
from langgraph_session_store.writer import Block, Retry, Written
from langgraph_session_store.writer.retry import retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from langgraph_session_store import SessionRecorder
    from langgraph_session_store.row import Row
    from langgraph_session_store.store import SessionStore


@pytest.fixture
def call(dsn: str, schema: str, tmp_path: Path) -> Callable[..., Any]:
    def call(*words: str) -> Any:
        env = {"DATABASE_URL": dsn, "FORCE_COLOR": None}
        return CliRunner(env=env).invoke(app, [*words, "--schema", schema, "--spool-dir", str(tmp_path / "spool")])

    return call


@pytest.fixture
def alter(store: SessionStore, dsn: str) -> Callable[[str], None]:
    store.setup()

    def alter(change: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"ALTER TABLE {store.table.full.as_string(None)} {change}".encode())

    return alter


@pytest.fixture
def quarantine(store: SessionStore, schema: str, tmp_path: Path) -> Callable[[], list[Path]]:
    folder = tmp_path / "spool" / store.target.key(schema, store.table.name) / "quarantine"
    return lambda: sorted(folder.iterdir())


def run(recorder: SessionRecorder, thread_id: str, topic: str) -> None:
    config = {"configurable": {"thread_id": thread_id}}
    recorder.attach(problem_graph()).invoke({"user_prompt": "Sort", "topic": topic}, config)
    assert recorder.flush(60)


def refuse(alter: Callable[[str], None]) -> None:
    alter("ADD CONSTRAINT no_poison CHECK (topic <> 'poison')")


def repair(alter: Callable[[str], None]) -> None:
    alter("DROP CONSTRAINT no_poison")


def test_what_is_repaired_is_stored(store: Any, recorder: Any, call: Any, alter: Any, quarantine: Any) -> None:
    refuse(alter)
    run(recorder, "t-1", "poison")
    assert len(quarantine()) == 2, "its start and its end"
    before = store.get("t-1")
    assert (before["workflow_status"], before["topic"], list(before["rejected"])) == ("completed", None, ["*"])
    repair(alter)
    done = call("drain", "--retry", "--json")
    assert (done.exit_code, json.loads(done.stdout)["retried"]) == (0, {"stored": 2, "superseded": 0, "left": {}})
    after = store.get("t-1")
    assert (after["topic"], after["code"], after["tests_passed"]) == ("poison", "def f(): ...", True)
    assert (after["workflow_status"], after["rejected"]) == ("completed", None)
    assert (after["id"], after["started_at"]) == (before["id"], before["started_at"])
    assert [version.values["code"] for version in store.versions("t-1")] == ["def f(): ..."]
    assert quarantine() == []
    assert call("drain", "--retry").stdout == "Retried 0 events: 0 stored\n"


def test_what_is_still_refused_stays(store: Any, recorder: Any, call: Any, alter: Any, quarantine: Any) -> None:
    refuse(alter)
    run(recorder, "t-1", "poison")
    before, kept = store.get("t-1"), {path: path.read_bytes() for path in quarantine()}
    for _ in range(2):
        result = call("drain", "--retry")
        assert result.exit_code == 1
        assert result.stdout == "Retried 2 events: 0 stored, 2 still in quarantine\n"
        assert all(f"{path.name}: 23514" in result.stderr for path in kept)
    assert {path: path.read_bytes() for path in quarantine()} == kept
    assert store.get("t-1") == before


def test_a_dry_run_names_what_is_there_and_writes_nothing(
    store: Any, recorder: Any, call: Any, alter: Any, quarantine: Any
) -> None:
    refuse(alter)
    run(recorder, "t-1", "poison")
    repair(alter)
    before, kept = store.get("t-1"), quarantine()
    told = json.loads(call("drain", "--retry", "--dry-run", "--json").stdout)["quarantined"]
    assert [(one["file"], one["thread_id"]) for one in told] == [(path.name, "t-1") for path in kept]
    assert {one["workflow_status"] for one in told} == {"running", "completed"}
    assert "Would retry 2 events in quarantine" in call("drain", "--retry", "--dry-run").stdout
    assert (store.get("t-1"), quarantine()) == (before, kept)


def test_what_came_later_wins(store: Any, recorder: Any, call: Any, alter: Any, quarantine: Any) -> None:
    refuse(alter)
    for thread_id in ("again", "erased"):
        run(recorder, thread_id, "poison")
    run(recorder, "again", "arrays")
    assert store.delete("erased")
    repair(alter)
    before = store.get("again")
    result = call("drain", "--retry")
    assert (result.exit_code, quarantine()) == (0, [])
    assert store.get("again") == before
    assert store.get("erased") is None


def test_a_retry_that_was_killed_is_repeated_without_harm(
    store: Any, recorder: Any, call: Any, alter: Any, quarantine: Any
) -> None:
    refuse(alter)
    run(recorder, "t-1", "poison")
    repair(alter)
    kept = {path: path.read_bytes() for path in quarantine()}
    assert call("drain", "--retry").exit_code == 0
    stored, history = store.get("t-1"), store.versions("t-1")
    store.update("t-1", topic="corrected")
    for path, payload in kept.items():
        path.write_bytes(payload)
    assert call("drain", "--retry").exit_code == 0
    after = store.get("t-1")
    assert (after["topic"], after["recorded_at"]) == ("corrected", stored["recorded_at"])
    assert store.versions("t-1") == history
    assert quarantine() == []


class Faulty:
    """A sink that has a failure for each write, or none."""

    def __init__(self, failures: Sequence[Exception | None]) -> None:
        self.failures = list(failures)

    def open(self) -> None: ...

    def write(self, rows: Sequence[Row]) -> Written:
        if failure := self.failures.pop(0):
            raise failure
        return Written(len(rows))

    def close(self) -> None: ...

    def forget(self) -> None: ...


@pytest.mark.parametrize("failure", [Retry("08006"), Block("42P01")])
def test_an_outage_leaves_the_rest(tmp_path: Path, store: SessionStore, failure: Exception) -> None:
    for number in range(3):
        put_aside(tmp_path, POISON, dumps(store._event(f"t-{number}", {}, {})))
    sink = Faulty([None, failure])
    done = retry(tmp_path, sink)
    assert (done.stored, set(done.left.values())) == (1, {str(failure)})
    assert len(list((tmp_path / "quarantine").iterdir())) == 2
    assert sink.failures == [], "nobody asks a server that is away again and again"


def test_one_that_takes_too_long_does_not_hold_up_the_others(tmp_path: Path, store: SessionStore) -> None:
    for number in range(2):
        put_aside(tmp_path, POISON, dumps(store._event(f"t-{number}", {}, {})))
    done = retry(tmp_path, Faulty([Retry("57014", split=True), None]))
    assert (done.stored, list(done.left.values())) == (1, ["57014"])


def test_what_another_version_wrote_and_what_is_damaged_stay(tmp_path: Path) -> None:
    put_aside(tmp_path, POISON, b"from the future")
    put_aside(tmp_path, "corrupt", b"noise")
    assert list(retry(tmp_path, Faulty([])).left.values()) == ["unreadable"]
    assert len(list((tmp_path / "quarantine").iterdir())) == 2
