"""The LangGraph handlers: what they see of a run (start, interrupt, end, error) becomes rows.

Two handlers share one `Tracker`. The inline one does everything that needs no wait, in the caller's own thread or on the event loop:
only there is MLflow's active run the caller's. Where an end may have to wait (a checkpointer to ask, a commit to await) on
a loop, the waiting one does it in the executor. A synchronous run has nowhere else to be, so there the inline one waits itself.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, cast

from langchain_core.callbacks.base import BaseCallbackHandler, BaseCallbackManager
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent
from langgraph.channels import LastValue
from langgraph.types import Command

from . import checkpoints, mlflow_run
from .extract import Fields, extract
from .record import SessionRecord, record_fields
from .runs import Ending, Run, describe, end_row, error_text, start_row, status_of, thread_of

if TYPE_CHECKING:
    from uuid import UUID

    from .clock import Clock
    from .columns import Status
    from .row import Row

KEPT: Final = 1_000
"""Runs whose end was a stop and may still turn out to be a completion, and ends left for a waiting handler."""

_wait_wanted: ContextVar[bool] = ContextVar("langgraph_session_store_wait", default=False)


class Tracker:
    """Follow the runs of one recorder and hand the row of each event to *emit*.

    *settle* is called after the last row of a run where its caller must wait until that row is durable. *report* gets every
    exception: none leaves a handler.
    """

    def __init__(
        self,
        record: type[SessionRecord],
        emit: Callable[[Row], object],
        clock: Clock,
        *,
        settle: Callable[[], object] | None = None,
        report: Callable[[str, BaseException], object],
        user_id: str | None = None,
        run_id: mlflow_run.RunIdSource = None,
        redact: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._record = record
        self._emit = emit
        self._clock = clock
        self._settle = settle
        self._report = report
        self._user_id = user_id
        self._run_id = run_id
        self._redact = redact
        self._lock = threading.Lock()
        self._runs: dict[UUID, Run] = {}
        self._newest: dict[str, Run] = {}
        self._stopped: dict[UUID, Run] = {}
        self._waiting: dict[UUID, Callable[[], None]] = {}

    def started(
        self,
        graph: Any,
        inputs: Any,
        *,
        run_id: UUID,
        metadata: Mapping[str, Any],
        tags: Sequence[str] | None,
        name: str | None,
        in_coroutine: bool,
    ) -> None:
        """Take the start of a run. *graph* is None for a handler that was only listed in a config."""
        nested = "langgraph_node" in metadata
        if graph is None and (nested or "ls_integration" not in metadata):
            return
        tick = self._clock.tick()
        run = Run(
            id=run_id,
            thread_id=thread_of(metadata, run_id),
            checkpointed_as=str(metadata.get("thread_id", run_id)),
            begun=tick[0],
            monotonic=tick[1],
            graph_name=_short(name),
            graph=graph,
            in_coroutine=in_coroutine,
        )
        if not self._admit(run, nested=nested):
            return
        run.user_id = _short(metadata.get("user_id", self._user_id))
        run.mlflow_run_id = mlflow_run.resolve(metadata, self._run_id)
        run.metadata = describe(metadata, tags)
        state = None if inputs is None or isinstance(inputs, Command) else inputs
        fields = extract(self._record, state, reducers=_reducers(graph, state), start=True, redact=self._redact)
        self._emit(start_row(run, fields, tick, mlflow_run.active_trace_id()))

    def _admit(self, run: Run, *, nested: bool) -> bool:
        """Register *run*, unless another handler has, or it is a part of a run of the same thread."""
        with self._lock:
            known = self._runs.get(run.id)
            if known is not None:
                known.graph = known.graph or run.graph
                return False
            earlier = self._newest.get(run.thread_id)
            if earlier is not None:
                if nested:
                    return False
                # A stream that nobody closed ends here; when it is collected later, its GeneratorExit is no news.
                earlier.superseded = True
            self._runs[run.id] = self._newest[run.thread_id] = run
            return True

    def interrupted(self, event: GraphInterruptEvent) -> None:
        """Note that a run pauses; LangGraph reports its end right after, as if it had finished."""
        run = self._runs.get(event.run_id) if event.run_id else None
        if run is not None:
            run.interrupted_by = event

    def ended(self, run_id: UUID, outputs: Any) -> None:
        """Take the end of a run, which may also be a pause."""
        run = self._claim(run_id, completed=True)
        if run is None:
            return
        pause = run.interrupted_by
        fields = extract(self._record, outputs, redact=self._redact)
        status = "interrupted" if pause else _completed(fields)
        ending = self._ending(run, status, checkpoint_id=pause.checkpoint_id if pause else None)
        after = pause is not None and pause.status == "interrupt_after"
        self._close(run, fields, ending, outputs, ask=after or _hides(self._record, run.graph, outputs, fields))

    def failed(self, run_id: UUID, error: BaseException) -> None:
        """Take the error of a run, which may also be a pause or the caller's own stop."""
        status = status_of(error)
        run = self._claim(run_id, completed=False, keep=status == "cancelled")
        if run is None or (run.superseded and status == "cancelled"):
            return
        text = error_text(error) if status in ("failed", "cancelled") else None
        fields = extract(self._record, None, redact=self._redact)
        self._close(run, fields, self._ending(run, status, error=text), None, ask=True)

    def _claim(self, run_id: UUID, *, completed: bool, keep: bool = False) -> Run | None:
        """Return the run if nobody has ended it: the first end counts, but a completion wins over an earlier stop."""
        with self._lock:
            run = self._runs.pop(run_id, None) or (self._stopped.pop(run_id, None) if completed else None)
            if run is None:
                return None
            if self._newest.get(run.thread_id) is run:
                del self._newest[run.thread_id]
            if keep:
                _keep(self._stopped, run_id, run)
            return run

    def _ending(
        self, run: Run, status: Status, *, error: str | None = None, checkpoint_id: str | None = None
    ) -> Ending:
        if run.mlflow_run_id is None and not run.in_coroutine:
            # A run that a node opened. On a loop it could be another task's.
            run.mlflow_run_id = mlflow_run.active_run_id()
        # Both on the clock as it is known now: the first contact with the database may lie between them.
        started, finished = self._clock.at(run.monotonic), self._clock.tick()[0]
        return Ending(status, started, finished, error, mlflow_run.active_trace_id(), checkpoint_id)

    def _close(self, run: Run, fields: Fields, ending: Ending, outputs: Any, *, ask: bool) -> None:
        """Write the last row of *run*: at once what is known, and after a wait what only the checkpointer knows."""
        ask = ask and not run.superseded and checkpoints.has_checkpointer(run.graph)
        if run.in_coroutine and (ask or self._settle):
            self._emit(end_row(run, fields, self._clock.tick(), ending))
            _keep(self._waiting, run.id, lambda: self._complete(run, fields, ending, outputs, ask=ask))
            _wait_wanted.set(True)
            return
        if not ask:
            self._emit(end_row(run, fields, self._clock.tick(), ending))
        self._complete(run, fields, ending, outputs, ask=ask)

    def _complete(self, run: Run, fields: Fields, ending: Ending, outputs: Any, *, ask: bool) -> None:
        if ask:
            try:
                fields, ending = self._asked(run, fields, ending, outputs)
            except Exception as error:
                self._report("the graph's checkpointer could not be asked for the last state", error)
            self._emit(end_row(run, fields, self._clock.tick(), ending))
        if self._settle:
            self._settle()

    def _asked(self, run: Run, fields: Fields, ending: Ending, outputs: Any) -> tuple[Fields, Ending]:
        """Return fields and ending completed by the run's newest checkpoint."""
        seen = checkpoints.snapshot(run.graph, run.checkpointed_as)
        if seen is None or seen.created < run.wall or run.superseded:
            return fields, ending  # a checkpoint of an earlier run, or of a later one
        if not _channels(self._record, run.graph):
            return fields, ending
        outputs = outputs if isinstance(outputs, Mapping) else {}
        fields = extract(self._record, {**seen.values, **outputs}, redact=self._redact)
        status = ending.status
        if seen.finished and status in ("cancelled", "interrupted"):
            status = _completed(fields)
            ending = replace(ending, error=None)
        return fields, replace(ending, status=status, checkpoint_id=seen.checkpoint_id)

    def wait(self, run_id: UUID) -> None:
        """Do what the end of a run on a loop left to the executor; nothing where there is nothing left."""
        if complete := self._waiting.pop(run_id, None):
            complete()

    def guarded(self, what: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call *what*; an exception is reported and goes no further."""
        try:
            what(*args, **kwargs)
        except Exception as error:
            self._report("an event of a run could not be recorded", error)


class InlineHandler(GraphCallbackHandler):
    """Sees starts, interrupts and ends in the caller's own thread or on its loop."""

    run_inline = True
    raise_error = False
    ignore_chain = False
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, tracker: Tracker, graph: Any = None) -> None:
        super().__init__()
        self._tracker = tracker
        self._graph = graph

    def on_chain_start(
        self,
        serialized: Any,  # noqa: ARG002 - LangChain's signature
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        """Take a start. Whether a coroutine called says where the ends of this run may wait."""
        in_coroutine = bool(sys._getframe(1).f_code.co_flags & inspect.CO_COROUTINE)  # noqa: SLF001 - nothing else knows
        _wait_wanted.set(False)
        self._tracker.guarded(
            self._tracker.started,
            self._graph,
            inputs,
            run_id=run_id,
            metadata=metadata or {},
            tags=tags,
            name=name,
            in_coroutine=in_coroutine,
        )

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Take a pause."""
        self._tracker.guarded(self._tracker.interrupted, event)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Take an end."""
        self._tracker.guarded(self._tracker.ended, run_id, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Take an error."""
        self._tracker.guarded(self._tracker.failed, run_id, error)


class WaitingHandler(BaseCallbackHandler):
    """Does in the executor what an end on a loop has to wait for; otherwise ignored, which spares the hop."""

    run_inline = False
    raise_error = False
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    @property
    def ignore_chain(self) -> bool:
        """Whether nothing waits. Read in a task that copied the context in which the inline handler has just run."""
        return not _wait_wanted.get()

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002 - LangChain's signature
        """Finish the end of a run."""
        self._tracker.guarded(self._tracker.wait, run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        """Finish the error of a run."""
        self._tracker.guarded(self._tracker.wait, run_id)


class BoundCallbacks(BaseCallbackManager):
    """A callback manager for a graph's own config, whose handlers no node inherits: two events a run.

    MLflow's autolog adds its tracer to every manager that is made. One that is kept in a graph would share that tracer among all
    runs, so copies and merges of this one hold only what they were given; the manager of each run gets a tracer of its own.
    """

    @classmethod
    def of(cls, *handlers: BaseCallbackHandler) -> Self:
        """Return a manager that holds just *handlers*, not to be inherited."""
        manager = cls(handlers=[])
        manager.handlers, manager.inheritable_handlers = list(handlers), []
        return manager

    def copy(self) -> Self:
        """Return a copy that holds the same handlers."""
        copy = super().copy()
        copy.handlers, copy.inheritable_handlers = self.handlers.copy(), self.inheritable_handlers.copy()
        return copy

    def merge(self, other: BaseCallbackManager) -> Self:
        """Return a manager that holds the handlers of both."""
        merged = super().merge(other)
        merged.handlers = list({*self.handlers, *other.handlers})
        merged.inheritable_handlers = list({*self.inheritable_handlers, *other.inheritable_handlers})
        return merged


def _completed(fields: Fields) -> Status:
    # extract() lets only statuses through
    return cast("Status", fields.status or "completed")


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    while len(kept) > KEPT:
        kept.pop(next(iter(kept)), None)


def _short(value: Any) -> str | None:
    return None if value is None else str(value)[:255]


def _reducers(graph: Any, state: Any) -> frozenset[str]:
    """Return the channels of *state* whose input is not yet their value.

    Without the graph, containers are taken for such: a list is most often added to what is there.
    """
    if graph is not None:
        return frozenset(name for name, channel in graph.channels.items() if not isinstance(channel, LastValue))
    if isinstance(state, Mapping):
        return frozenset(name for name, value in state.items() if isinstance(value, (list, dict, set, tuple)))
    return frozenset()


def _channels(record: type[SessionRecord], graph: Any) -> frozenset[str]:
    """Return the channels of *graph* that fields of *record* may come from."""
    channels = frozenset(graph.channels)
    named = {name for field in record_fields(record) for name in field.channels}
    computed = any(field.computed for field in record_fields(record))
    return channels if computed else channels & named


def _hides(record: type[SessionRecord], graph: Any, outputs: Any, fields: Fields) -> bool:
    """Return whether *graph* may know fields of *record* that its *outputs* leave out."""
    if graph is None:
        return False
    present = set(outputs) if isinstance(outputs, Mapping) else set()
    carried = {slot.name for slot, value in zip(fields.shape, fields.values, strict=True) if value is not None}
    computed = [field.name for field in record_fields(record) if field.computed]
    if computed and carried.isdisjoint(computed):
        return True
    return any(
        not present.intersection(field.channels) and not set(graph.channels).isdisjoint(field.channels)
        for field in record_fields(record)
        if not field.computed
    )
