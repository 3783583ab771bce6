"""Sessions in Postgres: the two stores.

From the bottom: `base` (settings, and rows from what the caller gives), `engine` (connections, and three primitives on them for threads and for
asyncio), `sync` and `aio` (the stores, twins).
"""

from .aio import AsyncSessionStore
from .sync import SessionStore

__all__ = ["AsyncSessionStore", "SessionStore"]
