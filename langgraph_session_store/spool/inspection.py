"""What lies in a spool, read without changing anything: for the command line, which explains it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..errors import SpoolError
from .aside import LOSSES, QUARANTINE
from .journal import OPEN_RUNS, SUFFIX
from .lease import Lease, check, on_network, owner
from .segment import Frame, scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_COUNTED: Final = 64 << 20  # bytes of a spool whose payloads are counted one by one


@dataclass(frozen=True)
class SpoolState:
    """One spool: how many processes write to it, what the dead left, and what could not be stored."""

    folder: Path
    owner: str | None = None
    """Whose it is, in words; None where no process is left that said so."""
    live: int = 0
    dead: int = 0
    pending_bytes: int = 0
    left_bytes: int = 0
    """Of the pending ones, those of dead processes."""
    payloads: int | None = 0
    """None where there are too many to count."""
    firsts: tuple[bytes, ...] = ()
    """The first payload of each segment, of which one is the oldest."""
    open_runs: int = 0
    quarantined: int = 0
    losses: tuple[str, ...] = ()
    network: bool = False
    free_bytes: int = 0


def inspect(folder: Path) -> SpoolState:
    """Look at the spool in *folder*; SpoolError where it is not safe to use."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    nothing = SpoolState(folder, network=on_network(existing), free_bytes=shutil.disk_usage(existing).free)
    if not folder.exists():
        return nothing
    check(folder)
    parts = [path for path in folder.iterdir() if path.is_dir() and path.name not in (QUARANTINE, LOSSES)]
    dead = _dead(folder)
    segments = [segment for part in parts for segment in sorted(part.glob(f"*{SUFFIX}"))]
    pending = sum(map(_size, segments))
    counted = [_count(segment) for segment in segments] if pending <= _COUNTED else None
    return replace(
        nothing,
        owner=owner(folder),
        live=len(parts) - len(dead),
        dead=len(dead),
        pending_bytes=pending,
        left_bytes=sum(_size(segment) for segment in segments if segment.parent.name in dead),
        payloads=None if counted is None else sum(counted),
        firsts=tuple(first for first in map(_first, segments) if first is not None),
        open_runs=sum(_count(part / OPEN_RUNS) for part in parts if part.name in dead),
        quarantined=sum(1 for _ in _files(folder / QUARANTINE)),
        losses=tuple(_losses([*_files(folder / LOSSES), *(part / "losses" for part in parts)])),
    )


def others(folder: Path) -> list[SpoolState]:
    """Return the spools beside *folder*, of other tables, in which something waits: whose they are and how many bytes."""
    try:
        beside = sorted(path for path in folder.parent.iterdir() if path != folder and _is_safe(path))
    except OSError:
        return []
    return [SpoolState(path, owner=owner(path), pending_bytes=waiting) for path in beside if (waiting := pending(path))]


def pending(folder: Path) -> int:
    """Return the bytes that wait in *folder*."""
    return sum(map(_size, folder.glob(f"*/*{SUFFIX}")))


def _is_safe(path: Path) -> bool:
    with suppress(OSError, SpoolError):
        check(path)
        return True
    return False


def _dead(folder: Path) -> set[str]:
    names = set()
    for lease in Lease.adopt(folder):
        names.add(lease.path.name)
        lease.close()
    return names


def _first(segment: Path) -> bytes | None:
    with suppress(OSError), segment.open("rb") as file:
        return next(
            (found.payload for found in scan(file.fileno(), 0, _size(segment)) if isinstance(found, Frame)), None
        )
    return None


def _count(segment: Path) -> int:
    with suppress(OSError), segment.open("rb") as file:
        return sum(isinstance(found, Frame) for found in scan(file.fileno(), 0, _size(segment)))
    return 0


def _files(folder: Path) -> Iterable[Path]:
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_file())


def _losses(ledgers: Iterable[Path]) -> Iterable[str]:
    for ledger in ledgers:
        with suppress(OSError):
            for line in ledger.read_bytes().replace(b"\0", b"").decode(errors="replace").splitlines():
                if line.strip():
                    yield line.strip()


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
