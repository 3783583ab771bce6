"""Which Postgres is used, what is added, and that no password ever comes out."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import socket
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from conftest import Server, open_folder
from hypothesis import given
from hypothesis import strategies as st
from proxy import reserve

from langgraph_session_store import conninfo as module
from langgraph_session_store.conninfo import connection_errors, resolve
from langgraph_session_store.embedded import EmbeddedServer, EmbeddedWarning
from langgraph_session_store.errors import ConfigError, LoginError, SessionStoreError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "CANARY"


def everything(error: BaseException | None) -> str:
    """All that an error may show: its text, its pickle, and the same of every error behind it."""
    shown = ""
    while error is not None:
        shown += repr(error) + str(error) + repr(pickle.dumps(error)) + "".join(traceback.format_exception_only(error))
        assert error.__cause__ is None
        error = error.__context__
    return shown


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PG", "POSTGRES_")) or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def test_the_argument_wins_over_the_environment() -> None:
    environ = {"DATABASE_URL": "postgresql://b/two", "POSTGRES_HOST": "c", "PGHOST": "d"}
    assert resolve("postgresql://a/one", environ=environ).kwargs()["host"] == "a"
    assert resolve(environ=environ).kwargs()["host"] == "b"
    assert resolve(environ=environ | {"DATABASE_URL": " "}).kwargs()["host"] == "c"
    assert "host d," in resolve(environ={"PGHOST": "d"}).describe()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("POSTGRES_HOST", "host"),
        ("POSTGRES_DB", "dbname"),
        ("POSTGRES_USER", "user"),
        ("POSTGRES_PASSWORD", "password"),
        ("POSTGRES_PORT", "port"),
    ],
)
def test_any_part_of_the_environment_counts(name: str, option: str) -> None:
    kwargs = resolve(environ={name: "123"}).kwargs()
    assert kwargs[option] == "123"
    assert not {"host", "dbname", "user", "password", "port"} - {option} & set(kwargs)


def test_nothing_named_is_an_error_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "wheel_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"DATABASE_URL.*POSTGRES_HOST.*\[embedded\]"):
        resolve(environ={})
    with pytest.raises(ConfigError):
        resolve(environ={"PGUSER": "me", "PGPASSWORD": "x"})


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg"])
def test_every_scheme_of_postgres_is_accepted(scheme: str) -> None:
    kwargs = resolve(f"{scheme}://u:p%40%25@h:5433/d?sslmode=require").kwargs()
    wanted = {"user": "u", "password": "p@%", "host": "h", "port": "5433", "dbname": "d", "sslmode": "require"}
    assert wanted.items() <= kwargs.items()


def test_a_key_value_string_is_accepted() -> None:
    wanted = {"host": "h", "password": "it's a secret"}
    assert wanted.items() <= resolve(r"host=h password='it\'s a secret'").kwargs().items()


def test_time_outs_are_added_where_none_are_set() -> None:
    kwargs = resolve("postgresql://h/d").kwargs()
    assert kwargs["connect_timeout"] == 5
    assert kwargs["tcp_user_timeout"] == 10_000
    assert kwargs["keepalives"] == 1
    assert kwargs["application_name"] == "langgraph-session-store"
    assert not {"options", "target_session_attrs"} & set(kwargs)
    mine = resolve("postgresql://h/d?connect_timeout=9", environ={"PGAPPNAME": "mine"}).kwargs()
    assert mine["connect_timeout"] == "9"
    assert "application_name" not in mine
    assert resolve("service=mine").kwargs() == {"service": "mine", "client_encoding": "UTF8"}


def test_what_is_sent_is_utf_8_whatever_anybody_sets() -> None:
    for dsn in ("postgresql://h/d", "host=h client_encoding=LATIN1", "service=mine"):
        assert resolve(dsn, environ={"PGCLIENTENCODING": "SQL_ASCII"}).kwargs()["client_encoding"] == "UTF8"


def test_several_hosts_ask_for_the_one_that_writes() -> None:
    kwargs = resolve("postgresql://a:1,b:2/d").kwargs()
    assert (kwargs["host"], kwargs["port"], kwargs["target_session_attrs"]) == ("a,b", "1,2", "read-write")
    assert resolve("postgresql://a,b/d?target_session_attrs=any").kwargs()["target_session_attrs"] == "any"
    assert "target_session_attrs" not in resolve("host=a,b", environ={"PGTARGETSESSIONATTRS": "any"}).kwargs()


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:p@{SECRET}@h/d",
        f"postgresql://u:{SECRET}@x@h/d",
        f"postgresql://u:x/{SECRET}@h/d",
        f"postgresql://u:12/{SECRET}@h/d",
        f"postgresql://u:{SECRET}/x@h/d",
        f"postgresql://u:x%{SECRET}@h/d",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:x {SECRET}@h/d",
        f"postgresql://u:x\n{SECRET}@h/d",
        f"postgresql://u:x\0{SECRET}@h/d",
        f"postgresql://u:{SECRET}",
        f"postgresql://u:{SECRET}@h/d?{SECRET}=1",
        f"postgresql://u:{SECRET}@h:99999/d",
        f"postgres//u:{SECRET}@h/d",
        f"mysql://u:{SECRET}@h/d",
        f"host=h password=x {SECRET}",
        f"host=h {SECRET}=1",
        f"host=h password='{SECRET}",
        f"host=postgresql://u:{SECRET}@h/d",
        f"host=u:{SECRET}@h",
        f"dbname=postgresql://u:{SECRET}@h/d",
        f"host=h port={SECRET}",
        SECRET,
    ],
)
@pytest.mark.parametrize("source", ["argument", "environment"])
def test_what_cannot_be_understood_is_never_quoted(text: str, source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(text) if source == "argument" else resolve(environ={"DATABASE_URL": text})
    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize("name", ["POSTGRES_HOST", "POSTGRES_DB", "POSTGRES_PORT"])
def test_a_url_in_the_wrong_variable_is_never_quoted(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(environ={name: f"postgresql://u:{SECRET}@h/d"})
    assert SECRET not in everything(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.text("@/%?#: '=\\&", max_size=4))
def test_a_password_is_understood_or_refused_but_never_shown(head: str, tail: str) -> None:
    password = f"{head}{SECRET}{tail}{SECRET}"
    for text in (f"postgresql://u:{password}@h:5432/d", f"host=h user=u password={password} dbname=d"):
        try:
            target = resolve(text, environ={})
        except ConfigError as error:
            shown = everything(error)
        else:
            shown = repr(target) + str(target) + target.describe() + target.key("s", "t")
        assert SECRET not in shown


def test_a_target_is_not_pickled_nor_copied() -> None:
    target = resolve(f"postgresql://u:{SECRET}@h/d")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(target)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_argument_is_not_silently_passed_over(empty: str) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        resolve(empty, environ={"DATABASE_URL": "postgresql://h/d"})


def test_a_key_stands_for_the_table_and_not_for_the_login() -> None:
    key = resolve("postgresql://u:p@H/d").key("s", "t")
    assert key == resolve("host=h dbname=d user=other port=5432").key("s", "t")
    assert key == resolve(environ={"POSTGRES_HOST": "h", "POSTGRES_DB": "d"}).key("s", "t")
    different = [resolve("postgresql://h/e").key("s", "t"), resolve("postgresql://h:1/d").key("s", "t")]
    different += [resolve("postgresql://h/d").key(*names) for names in ((None, "t"), ("s", "u"), ("st", ""))]
    assert len({key, *different}) == 6
    assert key.isalnum()


def test_the_embedded_one_is_started_by_kwargs_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder()
    server = EmbeddedServer(folder / "pg", system=True, settings={"fsync": "off"})
    monkeypatch.setattr(module, "embedded_server", lambda: server)
    monkeypatch.setattr(module, "wheel_installed", lambda: True)
    target = resolve(environ={})
    assert str(folder) in target.describe()
    assert target.key(None, "t")
    assert not (folder / "pg").exists()
    found: list[object] = []
    try:
        monkeypatch.setattr("langgraph_session_store.embedded.server._warned", False)
        with pytest.warns(EmbeddedWarning):
            target.kwargs()
        threads = [threading.Thread(target=lambda: found.append(target.kwargs())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [target.kwargs()] * 4
        psycopg.connect(**target.kwargs()).close()
        assert resolve(embedded=server).kwargs()["host"] == target.kwargs()["host"]
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tcp() -> Iterator[int]:
    """The port of a server that wants a password, on the loopback."""
    folder = open_folder()
    hba = folder / "hba.conf"
    hba.write_text("local all all peer map=session_store\nhost reachable all 127.0.0.1/32 scram-sha-256\n"
                   "host postgres all 127.0.0.1/32 scram-sha-256\nhost gone all 127.0.0.1/32 scram-sha-256\n")  # fmt: skip
    hba.chmod(0o644)
    reserved = reserve()
    port = int(reserved.getsockname()[1])
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(hba)}
    server = Server(folder / "pg", settings)
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("CREATE ROLE me LOGIN PASSWORD 'right'")
        conn.execute("CREATE DATABASE closed")
    yield port
    server.stop()
    reserved.close()
    shutil.rmtree(folder)


def failure(dsn: str) -> SessionStoreError:
    target = resolve(dsn, environ={})
    with pytest.raises(SessionStoreError) as caught, connection_errors(target):
        psycopg.connect(**target.kwargs())
    assert SECRET not in everything(caught.value)
    assert caught.value.__context__ is None, "the driver's own words"
    return caught.value


def test_the_right_password_connects(tcp: int) -> None:
    target = resolve(f"postgresql://me:right@127.0.0.1:{tcp}/postgres")
    with connection_errors(target), psycopg.connect(**target.kwargs()) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("me",)


@pytest.mark.parametrize(
    ("login", "database", "says"),
    [
        (f"me:{SECRET}", "postgres", "refuses the password"),
        (f"nosuch:{SECRET}", "postgres", "refuses the password"),  # scram does not tell who exists
        ("me", "postgres", "refuses the password"),
        ("me:right", "gone", "no database of that name"),
        ("me:right", "closed", "does not let the user in"),
    ],
)
def test_a_refused_login_is_a_login_error(tcp: int, login: str, database: str, says: str) -> None:
    error = failure(f"postgresql://{login}@127.0.0.1:{tcp}/{database}")
    assert type(error) is LoginError
    for part in (says, "127.0.0.1", str(tcp), database, login.partition(":")[0], "the connection string"):
        assert part in str(error)


def test_a_role_that_does_not_exist_is_a_login_error(dsn: str) -> None:
    error = failure(f"{dsn} user=nosuchrole")
    assert type(error) is LoginError
    assert "nosuchrole" in str(error)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("host=127.0.0.1 port={closed}", "nothing listens there"),
        ("host=/nonexistent", "nothing listens there"),
        ("host=no.such.host.invalid", "name is unknown"),
    ],
)
def test_a_server_that_is_not_there_is_unavailable(where: str, says: str) -> None:
    with reserve() as closed:
        error = failure(where.format(closed=closed.getsockname()[1]) + f" dbname=d user=u password={SECRET}")
    assert type(error) is UnavailableError
    assert says in str(error)
    assert "database d, user u" in str(error)


def test_a_host_that_never_answers_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = failure(f"host=127.0.0.1 port={port} dbname=d user=u connect_timeout=2 password={SECRET}")
    assert type(error) is UnavailableError
    assert "does not answer in time" in str(error)


@pytest.mark.parametrize("option", [f"sslmode={SECRET}", f"connect_timeout={SECRET}", f"service={SECRET}"])
def test_an_option_that_libpq_refuses_is_a_config_error(option: str) -> None:
    target = resolve(f"host=127.0.0.1 port=1 {option}", environ={})
    with pytest.raises(ConfigError) as caught, connection_errors(target):
        psycopg.connect(**target.kwargs())
    assert caught.value.__context__ is None
    assert "service" in option or SECRET not in everything(caught.value)


def test_a_killed_server_is_unavailable_and_back_after_a_start(server: Server) -> None:
    target = resolve(server.dsn, environ={})
    server.kill()
    with pytest.raises(UnavailableError), connection_errors(target):
        psycopg.connect(**target.kwargs())
    server.start()
    with connection_errors(target):
        psycopg.connect(**target.kwargs()).close()


def test_another_error_passes_through() -> None:
    with pytest.raises(KeyError), connection_errors(resolve("host=h")):
        raise KeyError


def test_resolving_touches_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resolve("postgresql://h/d").describe()
    assert not list(Path(tmp_path).iterdir())
