"""Which spool belongs to a table, and what its payloads are to the command line: events."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..row import loads
from ..spool import spool_home

if TYPE_CHECKING:
    from pathlib import Path

    from ..conninfo import Target
    from ..query import Table
    from ..spool import SpoolState


def folder_of(target: Target, table: Table, spool_dir: Path | None) -> Path:
    """Return the spool's folder, which the recorder chooses in the same way."""
    return (spool_dir or spool_home()) / target.key(table.schema, table.name)


def oldest(state: SpoolState) -> int | None:
    """Return when the oldest event that waits was recorded, in microseconds since the epoch."""
    times = []
    for payload in state.firsts:
        with suppress(ValueError, TypeError):
            times.append(loads(payload).recorded_at)
    return min(times, default=None)
