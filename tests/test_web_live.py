"""The stream of changes: at least once, in order of ids, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import psycopg
import pytest
from chaos.fleet import until
from chaos.pair import Bouncer
from conftest import open_folder
from proxy import reserve
from psycopg.conninfo import conninfo_to_dict
from web_serving import served

from langgraph_session_store.queries.reads import LOOK_BACK, Tail
from langgraph_session_store.query import Table
from langgraph_session_store.session import Session
from langgraph_session_store.store import SessionStore
from langgraph_session_store.web import live
from langgraph_session_store.web.reads import ReadStore

if TYPE_CHECKING:
    from collections.abc import Iterator


class Listener:
    """Reads events in a thread, as a client would."""

    def __init__(self, client: httpx.Client, last: str | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.ended = threading.Event()
        self.last: str | None = None
        self._news = threading.Condition()
        self._headers = {"Last-Event-ID": last} if last else {}
        self._client = client
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._open.wait(120)

    def _run(self) -> None:
        try:
            with self._client.stream("GET", "/api/sessions/events", headers=self._headers, timeout=120) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                self._answer = answer
                for line in answer.iter_lines():
                    self._take(line)
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()
            self._open.set()

    def _take(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            if line.startswith("id: "):
                assert self.last is None or int(line[4:]) > int(self.last), "ids must grow"
                self.last = line[4:]
                self._open.set()
            if line.startswith("data: "):
                self.events.append(json.loads(line[6:]))
            self._news.notify_all()

    def wait(self, *threads: str) -> None:
        """Wait until each of *threads* was told."""
        with self._news:
            told = self._news.wait_for(lambda: set(threads) <= {event["thread_id"] for event in self.events}, 120)
        assert told, f"only {[event['thread_id'] for event in self.events]}"

    def stop(self) -> None:
        self._client.close()


@pytest.fixture
def url(store: SessionStore) -> Iterator[str]:
    with served(store) as client:
        yield str(client.base_url)


@contextmanager
def listening(url: str, last: str | None = None) -> Iterator[Listener]:
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield Listener(client, last)


def test_changes_are_told_as_they_happen(store: SessionStore, url: str) -> None:
    store.save("before", {"code": "1"})
    with listening(url) as listener:
        store.save("new", {"code": "1"})
        listener.wait("new")
        store.save("new", {"code": "2"}, workflow_status="completed")
        store.save("last", {"code": "1"})
        listener.wait("last")
        events = [event for event in listener.events if event["thread_id"] == "new"]
    assert [event["workflow_status"] for event in events] == ["running", "completed"]
    assert events[0]["version"] < events[1]["version"]
    assert set(events[0]) == {"thread_id", "workflow_status", "updated_at", "version"}
    assert "before" not in {event["thread_id"] for event in listener.events}


def test_who_resumes_misses_nothing(store: SessionStore, url: str) -> None:
    with listening(url) as listener:
        store.save("seen", {"code": "1"})
        listener.wait("seen")
        last = listener.last
    store.save_many([{"thread_id": f"missed-{number}", "code": "1"} for number in range(1200)])
    with listening(url, last) as listener:
        store.save("after", {"code": "1"})
        listener.wait("after", *(f"missed-{number}" for number in range(1200)))


def test_who_resumes_at_another_server_misses_nothing(store: SessionStore) -> None:
    with served(store) as client, listening(str(client.base_url)) as listener:
        store.save("seen", {"code": "1"})
        listener.wait("seen")
        last = listener.last
    store.save("missed", {"code": "1"})
    with served(store) as client, listening(str(client.base_url), last) as listener:
        listener.wait("missed")


@pytest.mark.parametrize("last", ["x", "-1", "9" * 30, "1.5", "", "\u0663".encode()])
def test_an_id_that_is_none_is_refused(url: str, last: str | bytes) -> None:
    answer = httpx.get(f"{url}/api/sessions/events", headers={"Last-Event-ID": last})
    assert answer.status_code == 422
    assert "Last-Event-ID" in answer.json()["detail"]


@pytest.mark.parametrize("last", ["0", "9" * 16])
def test_ids_of_long_ago_and_of_times_to_come(store: SessionStore, url: str, last: str) -> None:
    store.save("old", {"code": "1"})
    with listening(url, last) as listener:
        store.save("new", {"code": "1"})
        listener.wait("new", *(["old"] if last == "0" else []))


class Polls:
    """What a `Tail` tells of rows that it is given, poll by poll."""

    def __init__(self, since: datetime) -> None:
        self.rows: dict[str, datetime] = {}
        self.since = since
        self.tail = Tail(Table("t", ()), since)

    def poll(self, seconds: float) -> list[str]:
        """Return the rows that are told when *seconds* have passed."""
        params = dict(self.tail.query().params)
        after = params["updated_at"], params["id"]
        ids = {name: UUID(int=1 + number) for number, name in enumerate(self.rows)}
        found = [Session(id=ids[name], updated_at=at, name=name) for name, at in self.rows.items()]
        behind = sorted((row["updated_at"], row["id"], row) for row in found if (row["updated_at"], row["id"]) > after)
        return [row["name"] for row in self.tail.tell([row for *_, row in behind], self.at(seconds))]

    def at(self, seconds: float) -> datetime:
        return self.since + timedelta(seconds=seconds)


def test_a_transaction_that_stays_open_is_told_within_ten_polls() -> None:
    polls = Polls(datetime(2026, 1, 1, tzinfo=UTC))
    polls.rows["quick"] = polls.at(100)
    assert polls.poll(100) == ["quick"]
    polls.rows["late"] = polls.at(100 - LOOK_BACK.total_seconds() + 1)
    assert [told for _ in range(10) for told in polls.poll(101)] == ["late"]
    assert [told for _ in range(20) for told in polls.poll(102)] == []


def test_a_time_to_come_hides_no_change() -> None:
    polls = Polls(datetime(2026, 1, 1, tzinfo=UTC))
    polls.rows["ahead"] = polls.at(3600)
    assert polls.poll(1) == ["ahead"]
    polls.rows["now"] = polls.at(2)
    assert polls.poll(2) == ["now"]
    assert polls.poll(3) == []


def test_a_transaction_that_commits_late_is_told(store: SessionStore, url: str, dsn: str, schema: str) -> None:
    store.save("late", {"code": "1"})
    with psycopg.connect(dsn) as slow, listening(url) as listener:
        slow.execute(f"UPDATE {schema}.session_states SET code = 'late' WHERE thread_id = 'late'")
        store.save("quick", {"code": "1"})  # later, and committed first
        listener.wait("quick")
        time.sleep(2 * live.POLL)
        slow.commit()
        listener.wait("late")


def test_streams_begun_at_once_share_one_reader(store: SessionStore, url: str) -> None:
    clients = [httpx.Client(base_url=url, trust_env=False) for _ in range(20)]
    listeners = [Listener(client) for client in clients]
    assert "session_store_streams 20.0" in httpx.get(f"{url}/metrics").text
    store.save("new", {"code": "1"})
    for listener in listeners:
        listener.wait("new")
    readers = [task for task in threading.enumerate() if "events" in task.name]
    assert len(readers) <= 1
    for listener in listeners:
        listener.stop()


async def test_a_client_that_does_not_read_is_dropped(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WAITING", 5)
    reads = ReadStore(store, 5)
    hub = live.Hub(reads)

    async def blocked(message: Any) -> None:  # a full socket
        await asyncio.Event().wait()

    async def connected() -> Any:
        await asyncio.Event().wait()

    stuck = live.EventStream(await hub.join(None), hub)
    answer = asyncio.create_task(stuck({"type": "http"}, connected, blocked))
    store.save_many([{"thread_id": f"t-{number}", "code": "1"} for number in range(6)])
    await asyncio.wait_for(answer, 120)
    assert hub.dropped == 1
    assert stuck._client not in hub._clients
    await hub.close()
    await reads.close()


def test_silence_is_broken_by_a_heartbeat(store: SessionStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.2)
    with listening(url) as listener:
        until(lambda: any(line.startswith(":") for line in listener.lines))


def test_an_outage_ends_no_stream_and_loses_no_change(server: Any) -> None:
    with SessionStore(server.dsn) as store, served(store) as client, listening(str(client.base_url)) as listener:
        store.save("first", {"code": "1"})
        listener.wait("first")
        server.stop()
        until(lambda: ": away" in listener.lines)
        server.start()
        store.save("second", {"code": "1"})
        listener.wait("second")
        assert not listener.ended.is_set()


def test_a_server_that_stops_ends_its_streams(dsn: str, schema: str) -> None:
    program = f"""
from langgraph_session_store.store import SessionStore
from langgraph_session_store.web import serve
serve(SessionStore({dsn!r}, schema={schema!r}), port=0, ready=lambda url: print(url, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        with listening(url) as listener:
            process.send_signal(signal.SIGTERM)
            assert listener.ended.wait(120)
        assert process.wait(120) == 0


def test_uvicorn_alone_ends_the_streams_too(dsn: str, schema: str) -> None:
    reserved = reserve()
    port = reserved.getsockname()[1]
    program = ["-m", "uvicorn", "--factory", "langgraph_session_store.web:create_app", "--port"]
    command = [sys.executable, *program, str(port)]
    environ = {"DATABASE_URL": dsn, "PGOPTIONS": f"-c search_path={schema}", "PATH": "/usr/bin:/bin"}
    with reserved, subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "running on" in line:
                break
        with listening(f"http://127.0.0.1:{port}") as listener:
            process.send_signal(signal.SIGTERM)
            assert listener.ended.wait(120)
        process.stderr.read()
        process.wait(120)


def test_two_workers_tell_the_same_changes(store: SessionStore, dsn: str, schema: str) -> None:
    reserved = reserve()
    url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    program = ["-m", "uvicorn", "--factory", "langgraph_session_store.web:create_app", "--workers", "2", "--port"]
    environ = {"DATABASE_URL": dsn, "PGOPTIONS": f"-c search_path={schema}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, *program, url.rpartition(":")[2]]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process, ExitStack() as stack:
        stack.callback(reserved.close)
        stack.callback(process.terminate)
        assert process.stderr
        for line in process.stderr:
            if "startup complete" in line:
                break
        until(lambda: answers(url))
        listeners: list[Listener] = []
        while len(listeners) < 100:  # the kernel chooses the worker
            listeners.append(stack.enter_context(listening(url)))
            streams = float(httpx.get(f"{url}/metrics").text.partition("\nsession_store_streams ")[2].split()[0])
            if 0 < streams < len(listeners):
                break
        assert 0 < streams < len(listeners), "one worker has them all"
        store.save("new", {"code": "1"})
        for listener in listeners:
            listener.wait("new")
        process.send_signal(signal.SIGTERM)
        assert all(listener.ended.wait(120) for listener in listeners)
        process.stderr.read()
        assert process.wait(120) == 0


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.requires("pgbouncer")
def test_a_pooler_in_transaction_mode_is_no_hindrance(store: SessionStore, dsn: str, schema: str) -> None:
    store.save("before", {"code": "1"})
    target = conninfo_to_dict(dsn)
    place = str(target["host"]), int(target.get("port", 5432)), str(target["user"]), str(target["dbname"])
    with (
        Bouncer(open_folder(), *place) as way,
        SessionStore(way.dsn, schema=schema) as pooled,
        served(pooled) as client,
        listening(str(client.base_url)) as listener,
    ):
        for number in range(3):
            pooled.save(f"new-{number}", {"code": "1"})
            assert len(client.get("/api/sessions").json()["sessions"]) == number + 2
            assert client.get(f"/api/sessions/new-{number}").json()["code"] == "1"
            assert len(client.get("/api/sessions/export.ndjson").text.splitlines()) == number + 2
        listener.wait("new-0", "new-1", "new-2")


async def test_the_reader_rests_when_nobody_listens(store: SessionStore) -> None:
    reads = ReadStore(store, 5)
    hub = live.Hub(reads)
    client = await hub.join(None)
    task = hub._task
    assert task is not None
    hub.leave(client)
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert hub.clients == 0
    again = await hub.join(None)
    store.save("new", {"code": "1"})
    await asyncio.wait_for(again.news.wait(), 120)
    await hub.close()
    await reads.close()
