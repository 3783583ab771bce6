"""Forks, full disks, changed servers: the faults around a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chaos.agent import Content, balanced, graph, record, recorder
from chaos.fleet import Fleet, size, tell, until
from proxy import Proxy
from test_faults import contents, rows

from langgraph_session_store import logs
from langgraph_session_store.writer import intake as intake_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store import SessionRecorder

pytestmark = pytest.mark.timeout(600)

CHAOS = Path(__file__).parent / "chaos"


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


def test_forks_while_threads_record(dsn: str, schema: str, tmp_path: Path) -> None:
    forks = size(20, 50)
    options = {"dsn": dsn, "schema": schema, "spool": str(tmp_path / "spool"), "forks": forks}
    command = [sys.executable, str(CHAOS / "forks.py"), json.dumps(options)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    expected = {Content("child", number) for number in range(forks)}
    expected |= {Content(f"p{thread}", number + 1) for thread in range(4) for number in range(said["made"][thread])}
    adopted = until(lambda: contents(dsn, schema) >= expected)
    until(lambda: len(list((tmp_path / "spool").glob("*/*-*"))) == 1)  # each directory found its heir
    _, errors = process.communicate(b"\n", timeout=120)
    codes = rows(dsn, schema, "SELECT code FROM {versions} WHERE code IS NOT NULL")
    tell(forks=forks, runs=len(expected), lines=len(codes), adopted_seconds=f"{adopted:.1f}")
    assert said["codes"] == [0] * forks
    assert said["flushed"]
    assert said["balanced"]
    assert {Content.parse(code) for (code,) in codes} == expected
    assert len(codes) == len(expected)  # no effect twice
    assert Fleet(dsn, schema, tmp_path).stale() == []
    assert b"Traceback" not in errors
    assert b"canary" not in errors


# The disk


def make(proxy: Proxy, schema: str, spool: Path) -> SessionRecorder:
    """A recorder that may fill its disk to the last byte."""
    subject = recorder(proxy.dsn, schema, spool)
    subject._writer._spool_options["min_free"] = 0
    subject._writer._begin()
    return subject


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def spools(root: Path) -> list[Path]:
    return [path for path in root.rglob("losses") if path.is_file()] + list(root.glob("*/losses/*"))


def test_a_full_disk(  # noqa: PLR0917 - fixtures
    proxy: Proxy, dsn: str, schema: str, disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(intake_module, "MEMORY_ROWS", 60)
    logs._last.clear()
    proxy.refuse()
    with make(proxy, schema, disk) as subject:
        runnable = subject.attach(graph())
        for number in range(200):  # 3 MB of events; the graph's result is checked by `record`
            record(runnable, f"t-{number}", Content("full", number))
            assert balanced(subject)
        stats = subject.stats()
        assert stats.mode == "memory"
        assert stats.dropped > 0
        listed = b"".join(path.read_bytes() for path in spools(disk)).decode().replace("\0", "")
        dropped = [line.split()[-1] for line in listed.splitlines() if " dropped " in line]
        proxy.open()
        assert subject.flush(120)
        until(lambda: subject._writer._intake.spool._bytes < 100_000)
        for number in range(20):  # it recovers by itself
            record(runnable, f"t-{number}", Content("again", number))
        assert subject.stats().mode == "spool"
        assert subject.flush(120)
        assert balanced(subject)
        assert subject.stats().dropped == stats.dropped
    found = contents(dsn, schema)
    gone = {f"t-{n}" for n in range(200) if Content("full", n) not in found}
    tell(runs=220, dropped_events=stats.dropped, lost_runs=len(gone), names_listed=len(dropped))
    assert gone <= set(dropped)  # each run that is not there is named
    assert {Content("again", number) for number in range(20)} <= found
    assert "ENOSPC" in caplog.text
    assert "canary" not in caplog.text


def test_a_disk_that_is_read_only(proxy: Proxy, dsn: str, schema: str, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with make(proxy, schema, disk) as subject:
        runnable = subject.attach(graph())
        for number in range(20):
            record(runnable, f"t-{number}", Content("during", number))
        assert subject.stats().mode == "memory"
        assert subject.flush(120)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        until(lambda: record(runnable, "t-0", Content("after", 0)) or subject.stats().mode == "spool", 10, 0.3)
        assert subject.flush(120)
        assert balanced(subject)
        assert subject.stats().dropped == 0
    assert {Content("after", 0), *(Content("during", number) for number in range(20))} <= contents(dsn, schema)


def test_a_file_size_limit(proxy: Proxy, dsn: str, schema: str, tmp_path: Path) -> None:
    """EFBIG in the middle of a frame: what a quota does to a process that did nothing wrong."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    proxy.refuse()
    with make(proxy, schema, tmp_path) as subject:
        runnable = subject.attach(graph())
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            for number in range(40):
                record(runnable, f"t-{number}", Content("limit", number))
                assert balanced(subject)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert subject.stats().dropped == 0
        proxy.open()
        assert subject.flush(120)
        assert balanced(subject)
        assert subject.stats().corrupt == 0
    assert contents(dsn, schema) == {Content("limit", number) for number in range(40)}


def test_a_spool_that_is_deleted(proxy: Proxy, dsn: str, schema: str, tmp_path: Path, caplog: Any) -> None:
    logs._last.clear()
    proxy.refuse()
    with make(proxy, schema, tmp_path / "spool") as subject:
        runnable = subject.attach(graph())
        for number in range(20):
            record(runnable, f"t-{number}", Content("before", number))
        shutil.rmtree(tmp_path / "spool")
        until(lambda: "deleted" in caplog.text)
        for number in range(20):
            record(runnable, f"t-{number}", Content("after", number))
        assert list((tmp_path / "spool").rglob("*.seg"))
        proxy.open()
        assert subject.flush(120)
        assert balanced(subject)
        assert subject.stats().dropped == 0
    # The files were open, so that even what stood in them is there.
    assert contents(dsn, schema) == {Content(slot, n) for slot in ("before", "after") for n in range(20)}


def test_a_disk_that_fails_to_read(
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".seg":
            raise OSError(5, "Input/output error")
        return real(descriptor, length, offset)

    proxy.refuse()
    with make(proxy, schema, tmp_path) as subject:
        runnable = subject.attach(graph())
        monkeypatch.setattr(os, "pread", pread)
        for number in range(10):
            record(runnable, f"t-{number}", Content("eio", number))
        proxy.open()
        until(lambda: subject.stats().dropped > 0)
        monkeypatch.setattr(os, "pread", real)
        for number in range(10):
            record(runnable, f"t-{number}", Content("after", number))
        assert subject.flush(120)
        assert balanced(subject)
    assert {Content("after", number) for number in range(10)} <= contents(dsn, schema)


# Clocks and contacts of dead processes


def test_what_a_dead_process_did_keeps_its_order(
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start from before its first contact and an end from after it, adopted by a process whose contact is two seconds off."""
    first = recorder(proxy.dsn, schema, tmp_path)
    first._store.setup()
    first._writer.start = lambda: None  # it dies before it sends anything
    runnable = first.attach(graph())
    clock = first._store.clock
    clock.anchored = False
    builder_nodes = runnable.nodes["check"]
    assert builder_nodes is not None
    real = first._tracker._emit

    def emit(row: Any) -> None:
        real(row)
        if not clock.anchored:
            now = time.time_ns() // 1000
            clock.anchor(now, time.monotonic_ns() // 1000)

    first._tracker._emit = emit
    record(runnable, "t", Content("dead", 1))
    first._writer._intake.spool.forget()  # as its death would
    second = recorder(proxy.dsn, schema, tmp_path)
    real_anchor = second._store.clock.anchor
    monkeypatch.setattr(second._store.clock, "anchor", lambda now, at: real_anchor(now + 2_000_000, at))
    with second:
        second._writer.start()
        until(lambda: Content("dead", 1) in contents(dsn, schema))
        until(lambda: second.stats().pending == 0)
    assert rows(dsn, schema, "SELECT workflow_status FROM {sessions}") == [("completed",)]


def test_a_run_that_died_does_not_win_over_the_next_one_a_moment_later(
    proxy: Proxy, dsn: str, schema: str, tmp_path: Path
) -> None:
    proxy.refuse()
    first = recorder(proxy.dsn, schema, tmp_path)
    first._writer.start = lambda: None
    metadata = {"ls_integration": "langgraph", "thread_id": "t"}
    first.callbacks[0].on_chain_start({}, {}, run_id=uuid.uuid4(), metadata=metadata, name="agent")
    first._writer._intake.spool.forget()  # kill -9, in the middle of a run
    time.sleep(0.1)
    with recorder(proxy.dsn, schema, tmp_path) as second:
        record(second.attach(graph()), "t", Content("next", 1))
        proxy.open()
        until(lambda: second.stats().abandoned == 1)
        assert second.flush(120)
        assert balanced(second)
    assert rows(dsn, schema, "SELECT workflow_status FROM {sessions}") == [("completed",)]
