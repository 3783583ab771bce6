"""However a process ends, under real servers too: every accepted run is there after the next start at the latest."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chaos.agent import Content, recorder
from chaos.fleet import LONG, tell, until
from proxy import Proxy
from test_faults import contents

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)

CHAOS = Path(__file__).parent / "chaos"
RUNS = 20
SERVERS = {
    "uvicorn": ["uvicorn", "served:asgi", "--uds", "{socket}"],
    "uvicorn --workers 2": ["uvicorn", "served:asgi", "--uds", "{socket}", "--workers", "2"],
    "gunicorn sync": ["gunicorn", "served:wsgi", "-b", "unix:{socket}", "-w", "2"],
    "gunicorn --preload": ["gunicorn", "served:wsgi", "-b", "unix:{socket}", "-w", "2", "--preload"],
    "gunicorn uvicorn worker": ["gunicorn", "served:asgi", "-b", "unix:{socket}", "-w", "2", "-k", "{asgi_worker}"],
}
SCRIPTS = ["plain", "end", "_exit", "asyncio", "fork", "spawn", "forkserver"]
DATABASES = ["down", "up", "black hole"] if LONG else ["down"]


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


class Started:
    """A process with the agent in it, and what it wrote to stderr."""

    def __init__(self, command: list[str], proxy: Proxy, schema: str, folder: Path) -> None:
        self.log = folder / "log"
        env = os.environ | {"CHAOS_DSN": proxy.dsn, "CHAOS_SCHEMA": schema, "CHAOS_SPOOL": str(folder / "spool")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=CHAOS, env=env, stderr=log, stdout=subprocess.PIPE
            )

    def stop(self) -> float:
        """Send SIGTERM unless it has ended; return how long it took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(120)
        return time.monotonic() - began

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def ask(path: str, number: int) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(120)
        try:
            client.connect(path)
        except OSError:
            return False
        client.sendall(f"GET /{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client.recv(100).startswith(b"HTTP/1.1 200")


def asgi_worker() -> str:
    try:
        import uvicorn_worker  # noqa: F401
    except ImportError:
        return "uvicorn.workers.UvicornWorker"
    return "uvicorn_worker.UvicornWorker"


def check(proxy: Proxy, dsn: str, schema: str, started: Started, took: float) -> None:
    log = started.log.read_text()
    at_exit = len(contents(dsn, schema))
    proxy.open()
    with recorder(proxy.dsn, schema, started.log.parent / "spool") as subject:
        subject._store.setup()
        subject._writer.start()
        until(lambda: len(contents(dsn, schema)) >= RUNS)
    tell(at_exit=at_exit, after_the_next_start=len(contents(dsn, schema)), exit_seconds=f"{took:.2f}")
    assert contents(dsn, schema) == {Content("served", number) for number in range(RUNS)}
    assert "Traceback" not in log, log
    assert "canary" not in log
    assert took < 60  # a hang, not a measurement: that is in docs/reliability.md


def prepare(proxy: Proxy, database: str) -> None:
    match database:
        case "down":
            proxy.refuse()
        case "black hole":
            proxy.black_hole()


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("server", SERVERS)
def test_sigterm_to_a_server(proxy: Proxy, dsn: str, schema: str, tmp_path: Path, server: str, database: str) -> None:  # noqa: PLR0917 - fixtures
    prepare(proxy, database)
    path = str(tmp_path / "s")
    words = [word.format(socket=path, asgi_worker=asgi_worker()) for word in SERVERS[server]]
    started = Started(["-m", *words], proxy, schema, tmp_path)
    try:
        until(lambda: ask(path, 0))
        assert all(ask(path, number) for number in range(RUNS))
        took = started.stop()
    finally:
        started.end()
    check(proxy, dsn, schema, started, took)


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("how", SCRIPTS)
def test_the_end_of_a_script(proxy: Proxy, dsn: str, schema: str, tmp_path: Path, how: str, database: str) -> None:  # noqa: PLR0917 - fixtures
    prepare(proxy, database)
    started = Started(["script.py", how], proxy, schema, tmp_path)
    try:
        assert started.process.stdout is not None
        assert started.process.stdout.readline() == b"ready\n", started.log.read_text()
        began = time.monotonic()
        if how in ("end", "_exit"):
            started.process.wait(120)
        else:
            started.stop()
        took = time.monotonic() - began
    finally:
        started.end()
    check(proxy, dsn, schema, started, took)
