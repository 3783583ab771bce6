"""The durable local log: opaque payloads on disk, which knows neither Postgres nor what a row means.

From the bottom: `segment` (frames in a file), `lease` (whose directory it is), `aside` (what could not be kept, by name),
`journal` (reading back, adopting what the dead left), `queue` (appending: the hot path); `inspection` looks at it all from outside.
"""

from .inspection import SpoolState, inspect, others, pending
from .journal import Counts, Orphan
from .queue import Spool, reason, spool_home

__all__ = ["Counts", "Orphan", "Spool", "SpoolState", "inspect", "others", "pending", "reason", "spool_home"]
