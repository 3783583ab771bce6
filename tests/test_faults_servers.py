"""Servers that fail over, freeze, stand by, or hide behind a pooler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from chaos.agent import Content, balanced, graph, record, recorder
from chaos.fleet import LONG, Fleet, size, tell, until
from chaos.pair import Bouncer, Pair
from conftest import open_folder
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from test_faults import contents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Server

pytestmark = pytest.mark.timeout(600)

CHAOS = Path(__file__).parent / "chaos"


@pytest.fixture(params=["synchronous"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with Pair(open_folder(), synchronous=request.param == "synchronous") as pair:
        yield pair


both = pytest.mark.parametrize("pair", ["synchronous", "asynchronous"], indirect=True)


@both
def test_a_promotion_in_the_middle_of_a_load(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """200 runs a second; an asynchronous standby may lack what the primary had acknowledged, and nothing else."""
    runs, synchronous = size(200, 2000), "async" not in request.node.name
    pair.execute("a", "CREATE SCHEMA failover")
    with recorder(pair.dsn, "failover", tmp_path) as subject:
        runnable, promoted, due = subject.attach(graph()), [], time.monotonic()

        def promote() -> None:
            pair.promote()
            promoted.append(time.monotonic())

        timer = threading.Timer(0.5, promote)
        for number in range(runs):
            if number == runs // 2:
                shipped = subject.stats().stored
                pair.kill("a")
                timer.start()
            record(runnable, f"t-{number % 50}", Content("f", number))
            assert balanced(subject)
            due = max(due + 0.005, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
        ended = time.monotonic()
        timer.join()
        assert subject.flush(120)
        drained = time.monotonic() - max(promoted[0], ended)
        assert balanced(subject)
    found = contents(pair.dsn_of("b"), "failover")
    lost = {Content("f", number) for number in range(runs)} - found
    tell(runs=runs, lost=len(lost), stored_at_the_kill=shipped // 2, seconds_until_all_is_stored=f"{drained:.1f}")
    assert found <= {Content("f", number) for number in range(runs)}
    assert all(content.number < runs // 2 for content in lost)
    assert not (lost and synchronous)
    assert Fleet(pair.dsn_of("b"), "failover", tmp_path).stale() == []
    assert not LONG or drained <= 10


@both
def test_what_a_dead_primary_had_not_shipped(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A primary that commits without its standby and dies takes those rows along; one that waits for it does not."""
    synchronous = "async" not in request.node.name
    pair.execute("a", "CREATE SCHEMA failover")
    with recorder(pair.dsn, "failover", tmp_path) as subject:
        runnable = subject.attach(graph())
        record(runnable, "t-0", Content("before", 0))
        assert subject.flush(120)
        until(lambda: contents(pair.dsn_of("b"), "failover") == {Content("before", 0)})
        pair.cut()
        until(lambda: not pair.connected)
        for number in range(10):
            record(runnable, f"t-{number}", Content("alone", number))
        assert bool(subject.flush(3 if synchronous else 30)) == (not synchronous)
        pair.kill("a")
        pair.promote()
        record(runnable, "t-0", Content("after", 0))
        assert subject.flush(120)
        assert balanced(subject)
        assert subject.stats().dropped == 0
    alone = {Content("alone", number) for number in range(10)} if synchronous else set()
    assert contents(pair.dsn_of("b"), "failover") == {Content("before", 0), Content("after", 0)} | alone


def test_a_standby_takes_nothing_and_nothing_is_lost(pair: Pair, tmp_path: Path) -> None:
    pair.execute("a", "CREATE SCHEMA standby")
    until(lambda: pair.ask("b", "SELECT FROM pg_namespace WHERE nspname = 'standby'"))
    with recorder(pair.dsn_of("b"), "standby", tmp_path) as subject:
        runnable = subject.attach(graph())
        for number in range(20):
            record(runnable, f"t-{number}", Content("s", number))
        until(lambda: subject.stats().last_error == "25006")
        stats = subject.stats()
        assert (stats.pending, stats.quarantined, stats.state) == (40, 0, "retrying")
        pair.promote()
        assert subject.flush(120)
        assert balanced(subject)
    assert contents(pair.dsn_of("b"), "standby") == {Content("s", number) for number in range(20)}


def test_a_frozen_server_is_left_and_holds_up_no_exit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA frozen")
    subject = recorder(server.dsn, "frozen", tmp_path / "spool")
    runnable = subject.attach(graph())
    record(runnable, "t-0", Content("z", 0))
    assert subject.flush(120)
    server.signal(signal.SIGSTOP)
    monkeypatch.setattr("langgraph_session_store.sink.Connection.answer", 1.0)
    try:
        for number in range(1, 20):
            record(runnable, f"t-{number}", Content("z", number))
        until(lambda: subject.stats().retries > 0)  # the connection is given up
        env = os.environ | {"CHAOS_DSN": server.dsn, "CHAOS_SCHEMA": "frozen", "CHAOS_SPOOL": str(tmp_path / "other")}
        script = subprocess.Popen([sys.executable, CHAOS / "script.py", "end"], env=env, stdout=subprocess.PIPE)
        assert script.stdout is not None
        assert script.stdout.readline() == b"ready\n"
        script.stdout.close()
        began = time.monotonic()
        assert script.wait(120) == 0
        tell(exit_seconds=f"{time.monotonic() - began:.2f}")
    finally:
        monkeypatch.undo()
        server.signal(signal.SIGCONT)
    assert subject.flush(120)
    assert subject.close(120)
    assert contents(server.dsn, "frozen") == {Content("z", number) for number in range(20)}


@pytest.mark.requires("pgbouncer")
@pytest.mark.parametrize("prepared", [None, "0", "200"])
def test_a_pooler_in_transaction_mode(dsn: str, schema: str, tmp_path: Path, prepared: str | None) -> None:
    """*prepared*: how many prepared statements it keeps, which it can from 1.21 on; None leaves that to its version."""
    if prepared is not None and Bouncer.version() < (1, 21):
        pytest.skip("this PgBouncer knows no prepared statements")
    target = conninfo_to_dict(dsn)
    way = Bouncer(
        open_folder(), str(target["host"]), int(target.get("port", 5432)), str(target["user"]), str(target["dbname"]),
        settings={} if prepared is None else {"max_prepared_statements": prepared},
    )  # fmt: skip
    count, runs = 4, size(40, 400)
    with way:
        named = make_conninfo(way.dsn, application_name=schema)  # which the pooler hands on
        subjects = [recorder(named, schema, tmp_path / f"{number}") for number in range(count)]
        subjects[0]._store.setup()

        def work(slot: int) -> None:
            runnable = subjects[slot].attach(graph())
            for number in range(runs):
                record(runnable, f"t-{number % 10}", Content(f"w{slot}", number))
                if number == runs // 2 and slot == 0:
                    _kill_backends(dsn, schema)

        threads = [threading.Thread(target=work, args=(slot,)) for slot in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(subject.flush(120) for subject in subjects)
        assert all(balanced(subject) for subject in subjects)
        assert all(subject.stats().quarantined == 0 for subject in subjects)
        for subject in subjects:
            subject.close()
    assert contents(dsn, schema) == {Content(f"w{slot}", number) for slot in range(count) for number in range(runs)}
    assert Fleet(dsn, schema, tmp_path).stale() == []


def _kill_backends(dsn: str, schema: str) -> None:
    """End what the pooler has open in the server, which is asked about nothing but this test's schema."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        assert connection.execute(text, [schema]).fetchall()


def test_four_at_once_set_up_a_table_that_is_not_there(dsn: str, schema: str, tmp_path: Path) -> None:
    subjects = [recorder(dsn, schema, tmp_path / f"{number}") for number in range(4)]
    graphs = [subject.attach(graph()) for subject in subjects]
    for number, runnable in enumerate(graphs):
        record(runnable, f"t-{number}", Content("setup", number))
    assert all(subject.flush(120) for subject in subjects)
    assert [subject.stats().quarantined for subject in subjects] == [0] * 4
    for subject in subjects:
        subject.close()
    assert contents(dsn, schema) == {Content("setup", number) for number in range(4)}


def test_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    import langgraph_session_store  # noqa: F401

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
