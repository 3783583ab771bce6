"""A real Postgres for every test: $LGSS_TEST_DSN, else one of the test run's own, which all xdist workers share."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, settings
from psycopg.conninfo import make_conninfo

from langgraph_session_store.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store.recorder import SessionRecorder
    from langgraph_session_store.store import SessionStore

# An example may take as long as a loaded machine needs for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

pytest_plugins = ["langgraph_session_store.testing.fixtures"]  # schema, module_schema

# A kill harms nothing without fsync; synchronous_commit stays, since what was acknowledged must survive a kill.
SETTINGS = {"fsync": "off", "max_connections": "200"}


class Server:
    """A private Postgres that a test may stop and kill."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.embedded = EmbeddedServer(folder, system=True, settings=SETTINGS | (settings or {}))
        self.dsn = ""

    def start(self) -> None:
        self.dsn = make_conninfo(**self.embedded.start())

    def stop(self) -> None:
        self.embedded.stop()

    @property
    def postmaster(self) -> psutil.Process:
        (pidfile,) = self.folder.glob("pg*/data/postmaster.pid")
        return psutil.Process(int(pidfile.read_text().splitlines()[0]))

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, as a power cut or the OOM killer would."""
        psutil.wait_procs(self.signal(signal.SIGKILL), timeout=120)

    def signal(self, number: signal.Signals) -> list[psutil.Process]:
        """Send a signal to the postmaster and all its children; return who they were."""
        postmaster = self.postmaster
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):  # some come and go, and all end when they miss their parent
                process.send_signal(number)
        return family


def open_folder() -> Path:
    """A new folder that the user who serves for root may enter, which tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="lgss-"))
    folder.chmod(0o755)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores Ctrl-C for what it runs in the background, and processes inherit that; tests that press it do not mean to.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI"):
        pytest.importorskip = importlib.import_module  # type: ignore[assignment]  # there, what is missing is no reason to pass
    config.addinivalue_line("markers", "requires(*programs): skip, and under CI fail, where a program is not installed")
    if not hasattr(config, "workerinput"):
        os.environ["LGSS_TEST_HOME"] = str(open_folder())


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    home = Path(os.environ.pop("LGSS_TEST_HOME"))
    if any(home.glob("shared/pg*/data")):  # a worker that crashed left the server to us
        server = EmbeddedServer(home / "shared", system=True, settings=SETTINGS)
        server.start()
        server.stop()
    shutil.rmtree(home, ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    programs = [name for marker in item.iter_markers("requires") for name in marker.args]
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    if missing := [name for name in programs if shutil.which(name, path=where) is None]:
        why = f"not installed: {', '.join(missing)}"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """The database that all tests share; each has its own `schema` in it."""
    if given := os.environ.get("LGSS_TEST_DSN"):
        yield given
        return
    server = EmbeddedServer(Path(os.environ["LGSS_TEST_HOME"]) / "shared", system=True, settings=SETTINGS)
    yield make_conninfo(**server.start())
    server.stop()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read waits for what was recorded as long as a busy machine takes, where a user's gives up after a second."""
    monkeypatch.setattr("langgraph_session_store.store.base.SETTLE", 60.0)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """A writer that was told to stop has stopped, so that the next test's log is its own."""
    yield
    module = sys.modules.get("langgraph_session_store.writer.writer")
    for writer in list(getattr(module, "_writers", ())):
        if writer._stop.is_set() and writer._thread is not None:
            writer._thread.join(60)


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """What a test leaves in the environment is taken away: MLflow's `set_experiment` writes to it, and the next test's processes inherit that."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        if name != "PYTEST_CURRENT_TEST":
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def server() -> Iterator[Server]:
    """A private Postgres, started."""
    folder = open_folder()
    private = Server(folder / "pg")
    try:
        private.start()
        yield private
    finally:
        private.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[SessionStore]:
    """A store of its own schema."""
    from langgraph_session_store.store import SessionStore

    with SessionStore(dsn, schema=schema) as store:
        yield store


@pytest.fixture
def recorder(store: SessionStore, tmp_path: Path) -> Iterator[SessionRecorder]:
    """A recorder on `store`, with a spool of its own."""
    from langgraph_session_store.recorder import SessionRecorder

    with SessionRecorder(store, spool_dir=tmp_path / "spool") as recorder:
        yield recorder
