"""A second try for what lies in the quarantine, once somebody repaired the cause: for ``session-store drain --retry``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..row import Row, loads
from ..spool.aside import POISON, kept
from .delivery import SinkError, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .delivery import Sink


@dataclass(frozen=True)
class Retried:
    """What became of the events in a quarantine: ``stored``, said nothing new, or ``left`` there, each file with the reason."""

    stored: int
    superseded: int
    left: Mapping[str, str]


def quarantined(root: Path) -> Iterator[tuple[Path, Row | None]]:
    """Yield the events in the quarantine of the spool *root*, the oldest first; None where this version cannot read one."""
    for path in kept(root, POISON):
        try:
            yield path, loads(path.read_bytes())
        except FileNotFoundError:
            continue  # another process stored it just now
        except (ValueError, TypeError):
            yield path, None


def retry(root: Path, sink: Sink) -> Retried:
    """Write the quarantined events of the spool *root* to *sink*, one by one; a file goes when its event is stored.

    In an outage, or where nobody can write, the rest stays as it is.
    """
    written, left = Written(), dict[str, str]()
    hopeless: str | None = None
    for path, row in quarantined(root):
        why = "unreadable" if row is None else hopeless
        if row is not None and not why:
            try:
                sink.open()
                # The row that was written in its place has its time: as it was, the event would be a replay. A microsecond later
                # it wins over that row, and over no event that came after. After a crash the same moment is a replay again.
                written += sink.write([row._replace(recorded_at=row.recorded_at + 1)])
            except SinkError as error:
                why = error.code
                if not error.split:  # a time-out may be its own
                    hopeless = why
        if why:
            left[path.name] = why
        else:
            path.unlink(missing_ok=True)
    return Retried(written.stored, written.superseded, left)
