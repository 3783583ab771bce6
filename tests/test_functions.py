"""The six functions, on a default store made from the environment."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from langgraph_session_store import functions
from langgraph_session_store.errors import ConfigError, DataError, UnavailableError
from langgraph_session_store.functions import (
    delete_session_state,
    get_db_connection,
    get_session_analytics,
    get_session_state,
    get_session_states_by_criteria,
    save_session_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def environment(dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    url = make_conninfo(dsn, options=f"-c search_path={schema}")
    monkeypatch.setenv("DATABASE_URL", url)
    yield url
    if functions._default is not None:
        functions._default[2].close()
    monkeypatch.setattr(functions, "_default", None)


def test_a_session_comes_and_goes() -> None:
    row_id = save_session_state("t", {"topic": "arrays", "code_attempts": 2, "tests_passed": True}, run_id="r")
    assert isinstance(row_id, str)
    session = get_session_state("t")
    assert type(session) is dict
    assert (str(session["id"]), session["topic"], session["run_id"]) == (row_id, "arrays", "r")
    assert session["workflow_status"] == "running"
    assert save_session_state("t", {}, workflow_status="completed") == row_id
    assert (get_session_state("t") or {})["workflow_status"] == "completed"
    assert delete_session_state("t") is True
    assert delete_session_state("t") is False
    assert get_session_state("t") is None


def test_criteria_newest_first() -> None:
    for n in range(4):
        save_session_state(f"t{n}", {"topic": "ab"[n % 2], "difficulty": "easy", "tests_passed": n < 2})
    found = get_session_states_by_criteria()
    assert [session["thread_id"] for session in found] == ["t3", "t2", "t1", "t0"]
    assert all(type(session) is dict for session in found)
    found = get_session_states_by_criteria("a", "easy", "running", tests_passed=False)
    assert [session["thread_id"] for session in found] == ["t2"]
    assert len(get_session_states_by_criteria(limit=3)) == 3
    assert get_session_states_by_criteria(limit=0) == []
    assert get_session_states_by_criteria("none") == []


def test_more_than_one_page_of_them() -> None:
    functions._store().save_many({"thread_id": f"t{n}"} for n in range(1205))
    assert len({session["thread_id"] for session in get_session_states_by_criteria(limit=1200)}) == 1200


def test_analytics() -> None:
    save_session_state("t", {"topic": "arrays", "code_attempts": 2, "tests_passed": True}, workflow_status="completed")
    numbers = get_session_analytics()
    assert (numbers["total"], numbers["success_rate"], numbers["average_code_attempts"]) == (1, 1.0, 2.0)
    assert numbers["by_topic"] == {"arrays": 1}


def test_the_connection_gives_dicts() -> None:
    save_session_state("t", {"topic": "arrays"})
    with get_db_connection() as connection:
        rows = connection.execute("SELECT topic FROM session_states").fetchall()
    assert rows == [{"topic": "arrays"}]
    assert connection.closed


def test_failures_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        save_session_state("t", {}, run_id="x" * 300)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/d")
    for call in (get_db_connection, get_session_analytics, lambda: get_session_state("t")):
        with pytest.raises(UnavailableError) as refused:
            call()
        assert "secret" not in str(refused.value)
    monkeypatch.setenv("DATABASE_URL", "mysql://x")
    with pytest.raises(ConfigError):
        get_session_state("t")


def test_the_parts_of_the_environment_and_their_change(
    environment: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_session_state("t", {})
    first = functions._store()
    assert functions._store() is first
    parts = psycopg.conninfo.conninfo_to_dict(environment)
    monkeypatch.delenv("DATABASE_URL")
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password", "DB": "dbname"}
    for name, option in names.items():
        if parts.get(option):
            monkeypatch.setenv(f"POSTGRES_{name}", str(parts[option]))
    monkeypatch.setenv("PGOPTIONS", f"-c search_path={schema}")
    assert get_session_state("t") is not None
    assert functions._store() is not first


def test_threads_share_the_default_store() -> None:
    gate, stores = threading.Barrier(8), []

    def use() -> None:
        gate.wait()
        stores.append(functions._store())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, stores))) == 1


def test_debug_logging(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("langgraph_session_store")
    monkeypatch.setattr(log, "level", logging.NOTSET)
    save_session_state("t", {})
    assert caplog.text == ""
    functions._default = None
    monkeypatch.setenv("DEBUG_SESSION_STATES", "1")
    with get_db_connection() as connection:
        connection.execute("DROP VIEW session_states_summary")
    save_session_state("t", {"topic": "secret"})
    assert "set up: create_summary" in caplog.text
    assert "secret" not in caplog.text
