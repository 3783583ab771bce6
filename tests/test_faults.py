"""Nothing lost: real graphs and a real Postgres, while servers, processes and networks fail."""

from __future__ import annotations

import gc
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from chaos.agent import BODY, Content, balanced, config, graph, inputs, record, recorder
from chaos.fleet import LONG, Fleet, size, tell, until
from proxy import Proxy
from psycopg import sql

from langgraph_session_store import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Server

pytestmark = pytest.mark.timeout(size(600, 1800))


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


def rows(dsn: str, schema: str, text: str) -> list[Any]:
    where = sql.Identifier(schema, "session_states")
    versions = sql.Identifier(schema, "session_states_versions")
    with psycopg.connect(dsn) as connection:
        return connection.execute(sql.SQL(text).format(sessions=where, versions=versions)).fetchall()


def contents(dsn: str, schema: str) -> set[Content | None]:
    try:
        found = rows(dsn, schema, "SELECT code FROM {versions} WHERE code IS NOT NULL")
    except psycopg.errors.UndefinedTable:  # nobody was in contact yet, or a standby has not heard of it
        return set()
    return {Content.parse(code) for (code,) in found}


def test_kill_9_of_the_server_and_of_workers_at_random(server: Server, tmp_path: Path) -> None:
    runs, kills = size((600, 3), (10_000, 20))
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA chaos")
    with Proxy(server.dsn) as way:
        # Paced so that the 20 kills take about 10,000 runs, of which the machine would make three times as many.
        fleet = Fleet(way.dsn, "chaos", tmp_path, threads=size(60, 500), pause=size(0.01, 0.03))
        dice = random.Random()
        with fleet.running():
            until(lambda: all(fleet.read(slot, "done") for slot in fleet.names))
            for fault in range(kills):
                goal = runs * (fault + 1) // (kills + 1)
                until(lambda goal=goal: fleet.count() >= goal, 300)
                fleet.kill(dice.choice(fleet.names))
                time.sleep(dice.uniform(0, 0.5))
                server.kill()
                time.sleep(dice.uniform(0, size(0.5, 3)))
                server.start()
                time.sleep(dice.uniform(0, 0.5))
            until(lambda: fleet.count() >= runs, 300)
        drained = fleet.settle(180)
        verdict = fleet.judge()
    tell(
        runs=verdict.accepted, server_kills=kills, worker_kills=kills, lost=len(verdict.lost), stale=len(verdict.stale), behind=len(verdict.behind),
        torn=verdict.torn, invented=len(verdict.invented), drained_seconds=f"{drained:.1f}", secrets=fleet.secrets,
    )  # fmt: skip
    assert verdict.clean, verdict
    assert fleet.secrets == 0
    assert not LONG or drained <= 30  # last, so that a slow machine does not hide what was lost


def test_a_database_that_is_down_for_all_runs_costs_neither_rows_nor_memory(
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path
) -> None:
    runs = size(500, 5000)
    proxy.refuse()
    with recorder(proxy.dsn, schema, tmp_path) as subject:
        runnable, process = subject.attach(graph()), psutil.Process()
        for number in range(50):
            record(runnable, f"t-{number}", Content("warm", number))
        gc.collect()
        before = process.memory_info().rss
        for number in range(runs):
            record(runnable, f"t-{number % 500}", Content("down", number))
            if number % 100 == 0:
                assert balanced(subject)
        gc.collect()
        down = process.memory_info().rss - before
        stats = subject.stats()
        assert (stats.accepted, stats.pending, stats.dropped) == (2 * runs + 100, 2 * runs + 100, 0)
        proxy.open()
        began = time.monotonic()
        assert subject.flush(120)
        drained = time.monotonic() - began
        gc.collect()
        growth = process.memory_info().rss - before
        assert balanced(subject)
    tell(
        runs=runs, growth_while_down=f"{down / 2**20:.1f} MiB", growth_in_all=f"{growth / 2**20:.1f} MiB",
        drained_seconds=f"{drained:.1f}",
    )  # fmt: skip
    assert {Content("down", number) for number in range(runs)} <= contents(dsn, schema)
    assert down < 20 << 20
    assert growth < 20 << 20


@pytest.mark.parametrize("fault", ["refused", "black hole", "reset", "half open", "slow", "killed"])
def test_a_network_fault_in_the_middle_of_a_load(  # noqa: PLR0917 - fixtures
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, fault: str
) -> None:
    logs._last.clear()
    caplog.set_level("DEBUG")
    with recorder(proxy.dsn, schema, tmp_path) as subject, monkeypatch.context() as hasty:
        hasty.setattr("langgraph_session_store.sink.Connection.answer", 1.0)
        runnable = subject.attach(graph())
        for number in range(20):
            record(runnable, f"t-{number}", Content("before", number))
        assert subject.flush(120)
        for number in range(60):
            if number == 20:
                _begin(proxy, dsn, fault)
            record(runnable, f"t-{number % 10}", Content("during", number))
            assert balanced(subject)
            time.sleep(0.01)
        time.sleep(0.5)
        proxy.delay = 0.0
        proxy.open()
        hasty.undo()  # a connection that is in a black hole is given up all the same: its deadline is set
        assert subject.flush(120)
        assert balanced(subject)
        assert subject.stats().dropped == 0
    expected = {Content("before", n) for n in range(20)} | {Content("during", n) for n in range(60)}
    assert contents(dsn, schema) == expected
    assert "canary" not in caplog.text


def _begin(proxy: Proxy, dsn: str, fault: str) -> None:
    match fault:
        case "refused":
            proxy.refuse()
        case "black hole":
            proxy.black_hole()
        case "reset":
            proxy.reset()
        case "half open":
            proxy.half_open()
        case "slow":
            proxy.delay = 0.2
        case "killed":
            with psycopg.connect(dsn, autocommit=True) as connection:
                text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
                assert connection.execute(text, [proxy.name]).fetchall()


def test_an_event_while_the_writer_is_closing_opens_it_again(
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path
) -> None:
    rounds = size(20, 300)
    with recorder(proxy.dsn, schema, tmp_path) as subject:
        runnable = subject.attach(graph())
        for number in range(rounds):
            record(runnable, f"t-{number}", Content("early", number))
            closing = threading.Thread(target=subject.close, args=(5,))
            closing.start()
            time.sleep(random.uniform(0, 0.004))
            record(runnable, f"t-{number}", Content("late", number))
            closing.join()
            until(lambda: subject.stats().pending == 0, pause=0.01)  # nobody asks for it
            assert balanced(subject)
        expected = {Content(slot, number) for slot in ("early", "late") for number in range(rounds)}
        until(lambda: contents(dsn, schema) >= expected)


def test_poison_among_good_runs(dsn: str, schema: str, tmp_path: Path) -> None:
    runs = size(300, 1000)
    with recorder(dsn, schema, tmp_path) as subject:
        subject._store.setup()
        with psycopg.connect(dsn, autocommit=True) as connection:
            table = sql.Identifier(schema, "session_states")
            connection.execute(sql.SQL("ALTER TABLE {} ADD CHECK (topic <> 'poison')").format(table))
        runnable = subject.attach(graph())
        bad = set(random.sample(range(runs), runs * 3 // 100))
        for number in range(runs):
            state = inputs(Content("p", number)) | {"topic": "poison" if number in bad else "arrays"}
            runnable.invoke(state, config(f"t-{number}"))
        assert subject.flush(120)
        assert balanced(subject)
        stats = subject.stats()
    seen = rows(dsn, schema, "SELECT thread_id, workflow_status, topic, rejected::text FROM {sessions}")
    degraded = {int(thread[2:]) for thread, _, _, why in seen if why is not None and "23514" in why}
    good = {
        int(thread[2:]) for thread, status, topic, why in seen if (status, topic, why) == ("completed", "arrays", None)
    }
    kept = [path for path in tmp_path.rglob("poison-*") if path.stat().st_size]
    tell(runs=runs, bad=len(bad), good=len(good), degraded=len(degraded), payloads_kept=len(kept))
    assert degraded == bad
    assert good == set(range(runs)) - bad
    assert all(status == "completed" for _, status, _, _ in seen)
    assert stats.quarantined == len(kept) == 2 * len(bad)  # a start and an end each


def test_writers_on_the_same_threads(dsn: str, schema: str, tmp_path: Path) -> None:
    seconds, count = size(5, 60), 8
    subjects = [recorder(dsn, schema, tmp_path / f"{number}") for number in range(count)]
    subjects[0]._store.setup()
    until_ = time.monotonic() + seconds
    made: list[set[Content]] = [set() for _ in subjects]
    errors: list[BaseException] = []

    def work(slot: int) -> None:
        runnable, number = subjects[slot].attach(graph()), 0
        try:
            while time.monotonic() < until_:
                number += 1
                content = Content(f"w{slot}", number)
                record(runnable, f"t-{random.randrange(20)}", content)
                made[slot].add(content)
                time.sleep(size(0.005, 0.04))
        except BaseException as error:
            errors.append(error)

    before = _deadlocks(dsn)
    workers = [threading.Thread(target=work, args=(slot,)) for slot in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(subject.close(120) for subject in subjects)
    assert errors == []
    stats = [subject.stats() for subject in subjects]
    deadlocks = _deadlocks(dsn) - before
    tell(writers=count, seconds=seconds, runs=sum(map(len, made)), deadlocks=deadlocks)
    assert [one.last_error for one in stats] == [None] * count
    assert all(balanced(subject) for subject in subjects)
    assert contents(dsn, schema) == set().union(*made)
    fleet = Fleet(dsn, schema, tmp_path)
    assert fleet.stale() == []


def _deadlocks(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT sum(deadlocks)::int FROM pg_stat_database").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("contact", ["before", "after"])
def test_the_newest_wins_however_wrong_the_clocks_are(  # noqa: PLR0917 - fixtures
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contact: str
) -> None:
    """*contact*: whether the processes have heard of the database before their runs, or only after them."""
    real, skews = time.time_ns, [5, -5, 3600]
    subjects = []
    for number, skew in enumerate(skews):  # each with a clock of its own, as three hosts have
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda skew=skew: real() + skew * 10**9)
            subjects.append(recorder(proxy.dsn, schema, tmp_path / f"{number}"))
    graphs = [subject.attach(graph()) for subject in subjects]
    if contact == "before":
        for number, subject in enumerate(subjects):
            record(graphs[number], f"hello-{number}", Content("hello", number))
            assert subject.flush(120)
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3600 * 10**9)
    else:
        proxy.refuse()
    newest: dict[str, Content] = {}
    monotonic, passed = time.monotonic_ns, 0
    origins = [subject._store.clock._origin for subject in subjects]
    apart = max(origins) - min(origins)  # microseconds: by what the contacts differ, half a round trip
    for number in range(size(60, 300)):
        thread, content = f"t-{number % 3}", Content("c", number)
        record(random.choice(graphs), thread, content)
        newest[thread] = content
        if contact == "before":
            time.sleep(2 * apart / 1e6)
        else:  # a minute passes, which is more than contacts that are still to come can differ
            passed += 60 * 10**9
            monkeypatch.setattr(time, "monotonic_ns", lambda passed=passed: monotonic() + passed)
    proxy.open()
    for subject in random.sample(subjects, len(subjects)):
        assert subject.close(120)
        assert balanced(subject)
    stored = {
        thread: (Content.parse(code), status)
        for thread, code, status in rows(dsn, schema, "SELECT thread_id, code, workflow_status FROM {sessions}")
        if thread.startswith("t-")
    }
    assert stored == {thread: (content, "completed") for thread, content in newest.items()}
    assert Fleet(dsn, schema, tmp_path).stale() == []


def test_the_bodies_are_of_the_reference_size() -> None:
    assert 7_000 < len(BODY) < 9_000
