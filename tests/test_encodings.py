"""Databases whose encoding is not UTF8: all that they can hold is stored, and what they cannot is refused by row, visibly."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from chaos.agent import Content, balanced, config, graph, inputs, recorder
from psycopg import sql
from psycopg.conninfo import make_conninfo

from langgraph_session_store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAIN, WESTERN, EMOJI = "plain", "Grüße, señor", "😀 日本"


@contextmanager
def database(dsn: str, encoding: str) -> Iterator[str]:
    name = f"e_{uuid.uuid4().hex[:12]}"
    quoted = sql.Identifier(name)
    with psycopg.connect(dsn, autocommit=True) as admin:
        provider = "LOCALE_PROVIDER libc" if admin.info.server_version >= 150_000 else ""
        admin.execute(
            sql.SQL(f"CREATE DATABASE {{}} ENCODING {{}} LOCALE 'C' {provider} TEMPLATE template0").format(
                quoted, sql.Literal(encoding)
            )
        )
        try:
            yield make_conninfo(dsn, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def encoding(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_what_the_encoding_can_hold_comes_back(
    dsn: str, encoding: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with database(dsn, encoding) as where, SessionStore(where) as store:
        for text in (PLAIN, WESTERN):
            store.save(text, {"user_prompt": text, "problem_tests": [{"in": text}]}, metadata={"note": text})
            session = store.get(text)
            assert session is not None
            assert (session["thread_id"], session["user_prompt"]) == (text, text)
            assert (session["problem_tests"], session["metadata"]) == ([{"in": text}], {"note": text})
        assert store.count(user_prompt__contains="señor") == 1
        assert [one["thread_id"] for one in store.query(order_by="thread_id")] == [WESTERN, PLAIN]
        assert store.to_arrow().num_rows == 2
        assert store.analytics().total == 2
    assert [record.getMessage() for record in caplog.records if encoding in record.getMessage()] != []


def test_a_utf8_database_gets_no_warning(store: SessionStore, caplog: pytest.LogCaptureFixture) -> None:
    store.save("t", {"user_prompt": EMOJI})
    assert [record for record in caplog.records if "encoding" in record.getMessage()] == []


def test_a_recorder_stores_what_it_can_and_shows_what_it_cannot(dsn: str, encoding: str, tmp_path: Path) -> None:
    with database(dsn, encoding) as where, recorder(where, "public", tmp_path) as subject:
        runnable = subject.attach(graph())
        for number, text in enumerate((PLAIN, WESTERN, EMOJI)):
            runnable.invoke(inputs(Content("e", number)) | {"topic": text}, config(f"t-{number}"))
        assert subject.flush(120)
        assert balanced(subject)
        with psycopg.connect(where, client_encoding="UTF8") as connection:
            text = "SELECT topic, workflow_status, rejected::text FROM session_states ORDER BY thread_id"
            *good, (topic, status, why) = connection.execute(text).fetchall()
    assert good == [(PLAIN, "completed", None), (WESTERN, "completed", None)]
    if encoding == "SQL_ASCII":
        assert (topic, status, why) == (EMOJI, "completed", None)
    else:
        assert (topic, status) == (None, "completed")
        assert "22P05" in why
