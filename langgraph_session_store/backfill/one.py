"""One thread, as its checkpoint says it now: what ``update_state`` changed, which LangGraph tells no handler."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ..encode import thread_key
from ..errors import ConfigError, DataError
from .job import checkpointer_of
from .sources import Failed, source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..record import SessionRecord
    from ..row import Row
    from ..store import AsyncSessionStore, SessionStore


def sync_thread(graph: Any, thread_id: object, store: SessionStore | None = None) -> bool:
    """Record the state that *thread_id* has in the *graph*'s checkpointer now; call it after ``graph.update_state(...)``.

    The row of an attached graph goes the way of its recorder, with a *store* straight there. Return whether there is such a thread, and
    False where it was erased since. Where the checkpoint does not show how the run ended, the row keeps the status that it has.
    Raises ConfigError for a graph that is neither attached nor given a store, DataError for a checkpoint that cannot be read.
    """
    read = partial(_row, graph, thread_id, None)
    if store is None:
        return _tell(graph, read)
    store.ensure()
    row = read(store.record, store.clock)
    return row is not None and store.save_many([row]) > 0


async def async_thread(graph: Any, thread_id: object, store: AsyncSessionStore | None = None) -> bool:
    """Do what `sync_thread` does for asyncio, after ``await graph.aupdate_state(...)``."""
    read = partial(_row, graph, thread_id, asyncio.get_running_loop())
    if store is None:
        return await asyncio.to_thread(_tell, graph, read)
    await store.ensure()
    row = await asyncio.to_thread(read, store.record, store.clock)
    return row is not None and await store.save_many([row]) > 0


def _tell(graph: Any, read: Callable[..., Row | None]) -> bool:
    """Let the recorder that is attached to *graph* write the row."""
    from ..callbacks import InlineHandler

    if os.environ.get("SESSION_STORE_DISABLED", "") not in ("", "0"):
        return False
    callbacks = (getattr(graph, "config", None) or {}).get("callbacks") or ()
    for handler in getattr(callbacks, "handlers", callbacks):
        if isinstance(handler, InlineHandler):
            return handler._tracker.tell(read)  # noqa: SLF001 - a handler of this package
    raise ConfigError("no recorder is attached to this graph: attach one, or pass a store")


def _row(
    graph: Any,
    thread_id: object,
    loop: asyncio.AbstractEventLoop | None,
    record: type[SessionRecord],
    clock: Clock,
    **options: Any,
) -> Row | None:
    """Return the row of a thread as of now, None where there is no such thread."""
    from .thread import Reader  # which brings langgraph

    saver = checkpointer_of(None, graph)
    held = next(iter(source_of(saver, loop).read([str(thread_id)])), None)
    if held is None:
        return None
    reader = Reader(record, graph=graph, saver=saver, **options)
    found = held if isinstance(held, Failed) else reader.row(held, clock.tick(), latest=True)
    if isinstance(found, Failed):
        raise DataError(f"thread {thread_key(thread_id)}: {found.reason}")
    return found
