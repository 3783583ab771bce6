"""A log line at most once a minute for each problem: an outage must not flood the log that should explain it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

INTERVAL: Final = 60.0
"""Seconds between two lines about the same problem."""

_last: dict[tuple[str, str], float] = {}


def once_a_minute(log: logging.Logger, problem: str, message: str, *values: object) -> None:
    """Warn with *message* unless *problem* was logged by *log* less than `INTERVAL` seconds ago."""
    key = (log.name, problem)
    now = time.monotonic()
    if now - _last.get(key, -INTERVAL) >= INTERVAL:
        _last[key] = now
        log.warning(message, *values)
