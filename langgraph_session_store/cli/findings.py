"""What `session-store doctor` found: one thing that was looked at, how it is, and what to do where it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..errors import SessionStoreError

Status = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. Only a *problem* makes the exit code 1."""

    check: str
    status: Status
    message: str
    fix: str | None = None


def told(check: str, error: SessionStoreError) -> Finding:
    """Return what an error says as a problem, with the part that says what to do apart."""
    what, found, fix = str(error).rpartition("; check ")
    if found:
        return Finding(check, "problem", what, f"check {fix}")
    what, found, fix = str(error).partition(": run ")
    return Finding(check, "problem", what, f"run {fix}") if found else Finding(check, "problem", str(error))
