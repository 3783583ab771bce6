"""What the writer tells about itself: reports and counters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Durability = Literal["memory", "spool", "fsync", "sync"]
State = Literal["ok", "retrying", "blocked"]


@dataclass(frozen=True, slots=True)
class FlushReport:
    """Whether all that was accepted before the call is settled; if not, how much is left and why."""

    flushed: bool
    pending: int
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.flushed


@dataclass(frozen=True, slots=True)
class WriterStats:
    """Counters since the process began: ``accepted = stored + superseded + quarantined + pending + dropped``, always.

    *retries* counts failed attempts, *corrupt* and *torn* damaged places in the spool, *abandoned* runs of dead processes.
    *oldest_age* and *clock_offset* (the database's clock minus this machine's) are seconds; *last_error* is an SQLSTATE or the name
    of an exception; *mode* is ``"memory"`` also while the disk cannot be used. *errors* counts what a handler could not make an event of.
    """

    accepted: int
    stored: int
    superseded: int
    quarantined: int
    pending: int
    dropped: int
    retries: int
    corrupt: int
    torn: int
    abandoned: int
    spool_bytes: int
    oldest_age: float | None
    last_error: str | None
    clock_offset: float
    mode: Durability
    state: State
    errors: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the counters by name."""
        return asdict(self)
