"""What could not be stored: bytes put aside for ``session-store doctor``, and a list of every loss by name."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
QUARANTINE: Final = "quarantine"
POISON: Final = "poison"  # the kind of an event that the table refused; others are of damaged segments
LOSSES: Final = "losses"
AT_RISK: Final = "in memory only"  # lost if the process dies before it is stored
_LINE: Final = 128
_LINES: Final = 512


def put_aside(root: Path | None, kind: str, data: bytes) -> str | None:
    """Keep *data* in the quarantine of the spool *root*; return the file's name, None if it could not be written."""
    if root is None:
        return None
    name = f"{kind}-{time.time_ns() // 1000}-{secrets.token_hex(3)}"
    try:
        (root / QUARANTINE).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(root / QUARANTINE / name, os.O_WRONLY | NEW_FILE, 0o600)
        try:
            kept = os.write(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return name if kept == len(data) else None


def kept(root: Path, kind: str) -> Iterator[Path]:
    """Yield what `put_aside` kept of *kind*, the oldest first."""
    with suppress(OSError):
        yield from sorted((root / QUARANTINE).glob(f"{kind}-*"))


class LossLedger:
    """A file of fixed lines, allocated before it is needed: on a full disk it can still name what was dropped.

    Beyond `_LINES` lines it needs room on the disk again, and takes the lines of what was only `AT_RISK`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "losses"
        self._descriptor = os.open(self._path, os.O_WRONLY | NEW_FILE, 0o600)
        self._lines = 0
        self._risks: list[int] = []  # lines that say AT_RISK
        self._last = (b"", "")
        with suppress(OSError, AttributeError):  # macOS has no such call
            os.posix_fallocate(self._descriptor, 0, _LINE * _LINES)

    def record(self, key: bytes, reason: str) -> None:
        """Add a line that names *key*, when and why; OSError if not even that can be written."""
        if self._last == (key, reason):
            return  # a run has a start and an end
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{when} {reason[:24]} ".encode() + key
        spare = self._risks and self._lines >= _LINES and reason != AT_RISK
        at = self._risks.pop(0) if spare else self._lines
        os.pwrite(self._descriptor, line[: _LINE - 1].ljust(_LINE - 1) + b"\n", at * _LINE)
        self._last = key, reason
        self._lines += not spare
        if reason == AT_RISK and at < _LINES:
            self._risks.append(at)

    def close(self) -> None:
        """Close the file; also right in a forked child."""
        with suppress(OSError):
            os.close(self._descriptor)


def settle_losses(root: Path, folder: Path) -> None:
    """Move the ledger of *folder* to the losses of the spool *root*, or remove it if it lists none."""
    ledger = folder / "losses"
    with suppress(OSError):
        if ledger.read_bytes().strip(b"\0"):
            (root / LOSSES).mkdir(mode=0o700, exist_ok=True)
            ledger.rename(root / LOSSES / folder.name)
        else:
            ledger.unlink()
