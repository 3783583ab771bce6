"""What lies in the spool on this machine's disk, read without a database and without changing anything."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..row import loads
from ..spool import spool_home
from ..spool.aside import LOSSES, QUARANTINE
from ..spool.journal import OPEN_RUNS, SUFFIX
from ..spool.lease import Lease, check, on_network
from ..spool.segment import Frame, scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..conninfo import Target
    from ..query import Table

_COUNTED: Final = 64 << 20  # bytes of a spool whose events are counted one by one


@dataclass(frozen=True)
class SpoolState:
    """One spool: how many processes write to it, what the dead left, and what could not be stored."""

    folder: Path
    live: int = 0
    dead: int = 0
    pending_bytes: int = 0
    left_bytes: int = 0
    """Of the pending ones, those of dead processes."""
    events: int | None = 0
    """None where there are too many to count."""
    oldest: int | None = None
    """When the oldest event was recorded, in microseconds since the epoch."""
    open_runs: int = 0
    quarantined: int = 0
    losses: tuple[str, ...] = ()
    network: bool = False
    free_bytes: int = 0


def folder_of(target: Target, table: Table, spool_dir: Path | None) -> Path:
    """Return the spool's folder, which the recorder chooses in the same way."""
    return (spool_dir or spool_home()) / target.key(table.schema, table.name)


def inspect(folder: Path) -> SpoolState:
    """Look at the spool in *folder*; SpoolError where it is not safe to use."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    about = {"network": on_network(existing), "free_bytes": shutil.disk_usage(existing).free}
    if not folder.exists():
        return SpoolState(folder, **about)  # type: ignore[arg-type]
    check(folder)
    parts = [path for path in folder.iterdir() if path.is_dir() and path.name not in (QUARANTINE, LOSSES)]
    dead = _dead(folder)
    segments = [segment for part in parts for segment in sorted(part.glob(f"*{SUFFIX}"))]
    pending = sum(map(_size, segments))
    counted = [_events(segment) for segment in segments] if pending <= _COUNTED else None
    firsts = [first for first in map(_first, segments) if first is not None]
    return SpoolState(
        folder,
        live=len(parts) - len(dead),
        dead=len(dead),
        pending_bytes=pending,
        left_bytes=sum(_size(segment) for segment in segments if segment.parent.name in dead),
        events=None if counted is None else sum(counted),
        oldest=min(firsts, default=None),
        open_runs=sum(_events(part / OPEN_RUNS) for part in parts if part.name in dead),
        quarantined=sum(1 for _ in _files(folder / QUARANTINE)),
        losses=tuple(_losses([*_files(folder / LOSSES), *(part / "losses" for part in parts)])),
        **about,  # type: ignore[arg-type]
    )


def others(folder: Path) -> dict[Path, int]:
    """Return the pending bytes of the spools beside *folder*: of other servers, databases, schemas or tables."""
    found = {}
    with suppress(OSError):
        for beside in folder.parent.iterdir():
            if beside != folder and beside.is_dir() and (waiting := sum(map(_size, beside.glob(f"*/*{SUFFIX}")))):
                found[beside] = waiting
    return found


def pending(folder: Path) -> int:
    """Return the bytes that wait in *folder*."""
    return sum(map(_size, folder.glob(f"*/*{SUFFIX}")))


def _dead(folder: Path) -> set[str]:
    names = set()
    for lease in Lease.adopt(folder):
        names.add(lease.path.name)
        lease.close()
    return names


def _first(segment: Path) -> int | None:
    with suppress(OSError, ValueError, KeyError, TypeError), segment.open("rb") as file:
        for found in scan(file.fileno(), 0, _size(segment)):
            if isinstance(found, Frame):
                return loads(found.payload).recorded_at
    return None


def _events(segment: Path) -> int:
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
