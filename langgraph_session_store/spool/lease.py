"""One process's directory in a spool: created, held by a lock, adopted from the dead, removed when empty.

A lock on ``owner.lock`` says that the owner lives; a process id would not, ids are used again. The lock is a flock, which belongs to
the open file: it goes when the last process that has it open ends. So a forked child must close its copy, and must never unlock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from ..errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_LOCK: Final = "owner.lock"
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs", "beegfs")


class Lease:
    """A directory below the spool's *root* that this process holds until `close` or `remove`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, root: Path, owner: str = "") -> Self:
        """Make a new directory and hold it, and say in its lock whose the spool is.

        SpoolError if *root* is not safe to write to, OSError if it cannot be written.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        check(root)
        for _ in range(10):
            path = root / f"{_host()}-{_boot()}-{os.getpid()}-{secrets.token_hex(4)}"
            path.mkdir(mode=0o700)
            # Another process may take the directory for an orphan before it is locked; then this one tries again.
            if (lock := _hold(path)) is not None:
                with suppress(OSError):  # a full disk: then nobody says it
                    os.pwrite(lock, owner.encode(), 0)
                return cls(path, lock)
        raise SpoolError(f"no directory could be held in {root}")

    @classmethod
    def adopt(cls, root: Path, but: Container[str] = ()) -> Iterator[Self]:
        """Yield the directories below *root*, *but* some, whose owners are dead, each held by this process from now on."""
        with suppress(OSError, SpoolError):
            check(root)
            for path in sorted(root.iterdir()):
                ours = path.name.count("-") >= 3 and path.name not in but and path.is_dir()  # noqa: PLR2004 - as `create` names it
                if ours and (lock := _hold(path)) is not None:
                    yield cls(path, lock)

    @property
    def same_boot(self) -> bool:
        """Whether the directory was made since this machine started, so that its monotonic times are comparable."""
        return f"-{_boot()}-" in self.path.name

    def remove(self) -> None:
        """Remove the directory if nothing but the lock is left in it, and let go of it."""
        with suppress(OSError):
            if [path.name for path in self.path.iterdir()] == [_LOCK]:
                (self.path / _LOCK).unlink()
                self.path.rmdir()
        self.close()

    def close(self) -> None:
        """Let go of the directory, which stays for another process to adopt; also right in a forked child."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            with suppress(OSError):
                os.close(lock)


def check(root: Path) -> None:
    """Raise SpoolError unless *root* is a directory of ours that nobody else can write to."""
    state = os.lstat(root)
    if not stat.S_ISDIR(state.st_mode):
        raise SpoolError(f"the spool {root} is no directory")
    if state.st_uid != os.geteuid():
        raise SpoolError(f"the spool {root} belongs to another user")
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolError(f"the spool {root} can be written by others: chmod 700 it")


def owner(root: Path) -> str | None:
    """Return whose spool *root* is, as the processes whose directories are left said; None if none did."""
    with suppress(OSError):
        for lock in root.glob(f"*/{_LOCK}"):
            if text := lock.read_text("utf-8", errors="replace"):
                return text
    return None


def on_network(path: Path) -> bool:
    """Return whether *path* is on a network file system, whose locks and caches may not keep what the spool promises."""
    best, kind = "", ""
    try:
        where = os.path.realpath(path)
        with open("/proc/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - no Path needed
            for line in mounts:
                _, mount, filesystem, *_ = line.split(" ")
                if os.path.commonpath((mount, where)) == mount and len(mount) >= len(best):
                    best, kind = mount, filesystem
    except (OSError, ValueError):
        return False
    return kind.startswith(_NETWORK)


def size(root: Path, but: Path | None = None) -> int:
    """Return the bytes of all files below *root*, without those in the directory *but*."""
    total = 0
    for folder, folders, files in os.walk(root):
        if but is not None and but.name in folders:
            folders.remove(but.name)
        for name in files:
            with suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total


def _hold(path: Path) -> int | None:
    """Return the locked descriptor of *path*'s lock, None if another process has it or the directory is gone."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last owner may have removed the file between the two calls above: that lock would hold nothing.
        if os.path.samestat(os.fstat(lock), os.lstat(path / _LOCK)):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def _host() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:40] or "host"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:  # no Linux: when the monotonic clock began, to the minute
        return f"b{(time.time() - time.monotonic()) // 60:.0f}"
