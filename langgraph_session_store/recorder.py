"""The composition root: a recorder wires store, spool, writer and handlers together, and owns their life.

Nothing here decides anything about rows; it is wiring and life cycle only.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from langgraph.pregel import Pregel

from . import mlflow_run
from .callbacks import BoundCallbacks, InlineHandler, RecordedGraph, Tracker, WaitingHandler
from .errors import ConfigError
from .record import SessionRecord, record_fields
from .records import MessagesSession, ProblemSession
from .sink import PostgresSink
from .spool import spool_home
from .store import AsyncSessionStore, SessionStore
from .writer import Durability, FlushReport, Sink, Writer, WriterStats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from langchain_core.callbacks.base import BaseCallbackHandler
    from langchain_core.runnables import RunnableConfig

GraphT = TypeVar("GraphT", bound=Pregel[Any, Any, Any, Any])


class SessionRecorder(InlineHandler):
    """Turn the runs of every graph that it is attached to into rows of *store*'s table.

    *durability* says what a finished run survives before the graph returns: ``"memory"`` nothing, ``"spool"`` (default) the death of
    the process and a database that is down, ``"fsync"`` a power loss, ``"sync"`` the loss of the machine: the row is committed, or
    spooled after *sync_timeout* seconds without an answer. *spool_dir* holds the spool (default: the user's state directory).
    *user_id* and *run_id* (a value, or a callable for the MLflow run) serve runs whose config names none. *redact* is called
    with each field's name and value before anything is written and returns what may be kept.

    No argument connects to anything. With ``SESSION_STORE_DISABLED=1`` in the environment the recorder does nothing.
    """

    def __init__(
        self,
        store: SessionStore | AsyncSessionStore,
        *,
        durability: Durability = "spool",
        spool_dir: str | os.PathLike[str] | None = None,
        user_id: str | None = None,
        run_id: mlflow_run.RunIdSource = None,
        redact: Callable[[str, Any], Any] | None = None,
        sync_timeout: float = 2.0,
        sink: Sink | None = None,
    ) -> None:
        self.disabled = os.environ.get("SESSION_STORE_DISABLED", "") not in ("", "0")
        self._store = store
        self._run_id = run_id
        self._writer = Writer(
            sink or PostgresSink(store.target.kwargs, store.table, clock=store.clock, setup=store.setup_queries),
            clock=store.clock,
            directory=(Path(spool_dir) if spool_dir else spool_home())
            / store.target.key(store.table.schema, store.table.name),
            owner=f"table {store.table.full.as_string(None)}, {store.target.describe()}",
            durability=durability,
            sync_timeout=sync_timeout,
        )
        tracker = Tracker(
            store.record,
            self._writer.submit,
            store.clock,
            settle=self._writer.settle if self._writer.waits else None,
            report=self._writer.fault,
            user_id=user_id,
            run_id=run_id,
            redact=redact,
        )
        super().__init__(tracker)
        self.ignore_chain = self.disabled
        self._waiting = WaitingHandler(tracker)
        if not self.disabled:
            store.add_backlog(self._writer)

    def attach(self, graph: GraphT) -> GraphT:
        """Return a copy of the compiled *graph*, of the same class, whose runs are recorded.

        Works for a compiled StateGraph, ``create_agent`` and ``@entrypoint``. Raises ConfigError for anything else. A checkpointer that
        the graph is given only later is used by its runs, but never asked for what their outputs leave out.
        """
        if not isinstance(graph, Pregel):
            raise ConfigError(
                f"attach() takes a compiled graph, not {type(graph).__name__}: "
                "call .compile() first; a remote graph is recorded where it runs"
            )
        if self.disabled:
            return graph
        self._writer.start()
        recorded = RecordedGraph(graph, self._store.record)
        waits = recorded.has_checkpointer or self._writer.waits  # else every end is written at once
        handlers = [InlineHandler(self._tracker, recorded), *([self._waiting] if waits else [])]
        return graph.with_config(callbacks=BoundCallbacks.of(*handlers))

    @property
    def callbacks(self) -> list[BaseCallbackHandler]:
        """The handlers for ``config={"callbacks": recorder.callbacks}``, for graphs that cannot be attached.

        They have no graph to ask: without it the last state of a failed run, and fields that the output schema leaves out, stay unknown.
        """
        return [] if self.disabled else [InlineHandler(self._tracker), self._waiting]

    def config(self, config: RunnableConfig | None = None) -> RunnableConfig:
        """Return *config* with the MLflow run of this thread, and the thread of a child graph, in its metadata.

        For calls whose callbacks run where the caller's MLflow run cannot be seen: ``batch``, a stream that another thread
        drains, interleaved asyncio tasks; and for a nested graph with a thread of its own.
        """
        given: dict[str, Any] = {**(config or {})}
        if not self.disabled:
            metadata = {**(given.get("metadata") or {})}
            if run_id := mlflow_run.resolve(metadata, self._run_id):
                metadata[mlflow_run.RUN_ID_KEY] = run_id
            if (thread_id := (given.get("configurable") or {}).get("thread_id")) is not None:
                metadata.setdefault("thread_id", thread_id)
            given["metadata"] = metadata
        return given  # type: ignore[return-value]  # the same keys as the RunnableConfig that came in

    def flush(self, timeout: float = 5.0) -> FlushReport:
        """Wait at most *timeout* seconds until all that was recorded before the call is in Postgres."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Flush and stop the writer; return whether nothing is left. What is left stays in the spool for the next process."""
        return self._writer.close(timeout)

    def stats(self) -> WriterStats:
        """Return the counters: ``accepted = stored + superseded + quarantined + pending + dropped``."""
        return self._writer.stats()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002 - the signature ASGI frameworks call
        """Close the recorder when an ASGI application shuts down: ``FastAPI(lifespan=recorder.lifespan)``.

        Servers that are stopped by SIGTERM run no exit handlers, only this. It takes at most 5 seconds, and less than one in an outage.
        """
        try:
            yield
        finally:
            await asyncio.to_thread(self._writer.close, hasty=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r}, durability={self.stats().mode!r})"


def attach(
    graph: GraphT,
    store: SessionStore | AsyncSessionStore | None = None,
    *,
    record: type[SessionRecord] | None = None,
    **recorder_options: Any,
) -> GraphT:
    """Return *graph* with its runs recorded, in one line and without a store to name.

    Without a *store* rows go where the environment says (see `SessionStore`), into the table of *record*: by default
    ``MessagesSession`` for a graph with a ``messages`` channel and none of ``ProblemSession``'s fields, else ``ProblemSession``. What is
    still pending is flushed at exit. *recorder_options* are those of `SessionRecorder`.
    """
    if store is None:
        store = SessionStore(record=record or _record_for(graph))
    return SessionRecorder(store, **recorder_options).attach(graph)


def _record_for(graph: Any) -> type[SessionRecord]:
    channels = set(getattr(graph, "channels", ()))
    problem = {name for field in record_fields(ProblemSession) for name in field.channels}
    return MessagesSession if "messages" in channels and channels.isdisjoint(problem) else ProblemSession
