"""One server for several processes: the first one starts it, the last one out stops it.

Kill -9 of any of them, or of the server, harms nothing. What holds that together:

* A server is ours and alive when it answers on our socket and names our data folder. The pid in postmaster.pid may
  belong to anybody by now; it is never signalled, and only asked about to clear the file away.
* Each process that uses the server holds a shared flock on users.lock, which the kernel drops even on kill -9.
  Whoever gets it exclusively is the last one. Starting and stopping happen under start.lock.
* No TCP, no password: a socket in a folder that only the server's user may enter, and peer authentication for the
  owner and root. As root the server runs as $LGSS_PG_USER, postgres or nobody.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.pq import Ping

from ..errors import ConfigError, UnavailableError
from .cluster import Cluster, make_folder
from .programs import wheel_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EmbeddedServer", "EmbeddedWarning", "default_folder", "embedded_server", "wheel_installed"]


class EmbeddedWarning(UserWarning):
    """Sessions are kept in a database on this machine, because nothing names another."""


class EmbeddedServer:
    """One data folder and the server on it, shared by every process that starts it.

    `path` defaults to `default_folder()`. `system` also accepts a Postgres that the machine brings. `settings` are
    settings of Postgres, for the process that happens to start the server.
    """

    def __init__(
        self, path: Path | None = None, *, system: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self.path = (path or default_folder()).resolve()
        self._system = system
        self._settings = dict(settings or {})
        self._lock = threading.RLock()
        self._users: int | None = None  # the descriptor that holds our shared flock
        self._cluster: Cluster | None = None
        _servers.append(self)

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.path)!r})"

    def start(self) -> dict[str, Any]:
        """Start the server unless it runs; return the arguments of psycopg.connect.

        Idempotent and cheap when it runs. ConfigError: no server can run here; UnavailableError: it did not start.
        """
        with self._lock:
            if self._users is None or self._cluster is None or self._cluster.ping() != Ping.OK:
                if _exiting:
                    raise UnavailableError("the embedded Postgres is not started while Python shuts down")
                with self._starting():
                    self._cluster = self._cluster or Cluster.open(self.path, self._system, self._settings)
                    self._users = self._users or _lock_file(self.path / "users.lock", shared=True)
                    try:
                        self._cluster.start()
                    except BaseException:
                        self._release()
                        raise
            return dict(self._cluster.connect_kwargs)

    def stop(self) -> None:
        """Let go of the server, and stop it when no other process uses it."""
        with self._lock:
            if self._users is None or self._cluster is None:
                return
            with self._starting():
                if self._release():
                    self._cluster.stop()

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        make_folder(self.path)
        fd = _lock_file(self.path / "start.lock")
        try:
            yield
        finally:
            _unlock(fd)

    def _release(self) -> bool:
        """Drop our lock; tell whether nobody else holds one. Under start.lock nobody can come in between."""
        import fcntl

        fd, self._users = self._users, None
        assert fd is not None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            _unlock(fd)
        return True

    def _after_fork_in_child(self) -> None:
        # Closed and never unlocked: an unlock here would release the parent's lock, which is the same open file.
        fd, self._users = self._users, None
        if fd is not None:
            os.close(fd)
        self._lock = threading.RLock()


def default_folder() -> Path:
    """Return where the data is kept unless a path is given: a folder of the user's, under /var/lib for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/langgraph-session-store")
    try:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "langgraph-session-store"
    except RuntimeError:
        raise ConfigError("no home folder for an embedded Postgres: set XDG_DATA_HOME, or DATABASE_URL") from None


def embedded_server(path: Path | None = None, *, system: bool = False) -> EmbeddedServer:
    """Return this process's server for a folder: the same one for the same folder."""
    folder = (path or default_folder()).resolve()
    with _servers_lock:
        known = (server for server in _servers if server.path == folder)
        return next(known, None) or EmbeddedServer(folder, system=system)


def warn_once(server: EmbeddedServer) -> None:
    """Say where the data is, and what to set for production."""
    global _warned  # noqa: PLW0603 - once per process
    if not _warned:
        _warned = True
        warnings.warn(
            f"No database is named, so sessions are kept in a Postgres of this machine, in {server.path}. "
            "Set DATABASE_URL for production; SessionStore.embedded() says that this is meant.",
            EmbeddedWarning,
            stacklevel=3,
        )


def _lock_file(path: Path, *, shared: bool = False) -> int:
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    return fd


def _unlock(fd: int) -> None:
    import fcntl

    # A child that was forked meanwhile holds the same open file; closing ours alone would leave it locked.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _stop_all() -> None:
    global _exiting  # noqa: PLW0603 - the process ends once
    _exiting = True
    for server in _servers:
        with contextlib.suppress(Exception):
            server.stop()


def _after_fork_in_child() -> None:
    global _servers_lock  # noqa: PLW0603 - another thread may have held it at the fork
    _servers_lock = threading.Lock()
    for server in _servers:
        server._after_fork_in_child()  # noqa: SLF001


_servers: list[EmbeddedServer] = []
_servers_lock = threading.Lock()
_warned = False
_exiting = False
# At import and not at the first start: exit handlers run in reverse, so that recorders flush before the server stops.
atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
