"""All runs of a recorder between their starts and their ends: which of them make rows, once each, and when.

An end writes at once what is known. What only the checkpointer knows, and what the durability mode wants to wait for, comes after: in the
caller's thread where the run is synchronous, else left for the waiting handler, off the loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.types import Command

from .. import mlflow_run
from ..encode import clean_text
from ..extract import Fields, extract
from .graphs import containers
from .runs import Ending, Run, describe, end_row, error_text, start_row, status_of, thread_of

if TYPE_CHECKING:
    from uuid import UUID

    from langgraph.callbacks import GraphInterruptEvent

    from ..clock import Clock
    from ..columns import Status
    from ..record import SessionRecord
    from ..row import Row
    from .graphs import RecordedGraph

KEPT: Final = 1_000
"""Runs whose end was a stop and may still turn out to be a completion."""
WAITING: Final = 100_000
"""Ends left for a waiting handler: as many as may end at once. Where the recorder alone is listed, nobody takes them."""

_within: ContextVar[UUID | None] = ContextVar("langgraph_session_store_within", default=None)
"""The last recorded run that started in this context, for graphs that its nodes call without a thread."""
_ending: ContextVar[UUID | None] = ContextVar("langgraph_session_store_ending", default=None)
"""The run whose end waits, in the context of its handlers and in tasks that copied it."""


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
        report: Callable[[str, Exception], object],
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
        self._threads: dict[str, list[Run]] = {}
        self._stopped: dict[UUID, Run] = {}
        self._waiting: dict[UUID | None, Callable[[], object]] = {}

    def started(
        self,
        graph: RecordedGraph | None,
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
        # Not a graph's run: what a listed handler sees of others, and the writers that update_state calls.
        if "ls_integration" not in metadata or (graph is None and nested):
            return
        tick = self._clock.tick()
        root = run_id
        if nested and (outer := _within.get()) and outer in self._runs:
            root = outer
        run = Run(
            id=run_id,
            thread_id=thread_of(metadata, root),
            checkpointed_as=str(metadata.get("thread_id", run_id)),
            begun=tick[0],
            monotonic=tick[1],
            wall=time.time(),
            graph_name=_short(name),
            graph=graph,
            in_coroutine=in_coroutine,
        )
        if not self._admit(run, nested=nested):
            return
        _within.set(run_id)
        run.user_id = _short(metadata.get("user_id", self._user_id))
        run.mlflow_run_id = mlflow_run.resolve(metadata, self._run_id)
        run.metadata = describe(metadata, tags)
        state = None if inputs is None or isinstance(inputs, Command) else inputs
        reducers = containers(state) if graph is None else graph.reducers
        fields = extract(self._record, state, reducers=reducers, start=True, redact=self._redact)
        self._emit(start_row(run, fields, tick, mlflow_run.active_trace_id()))

    def _admit(self, run: Run, *, nested: bool) -> bool:
        """Register *run*, unless another handler has, or it is a part of a run of the same thread."""
        with self._lock:
            known = self._runs.setdefault(run.id, run)
            if known is not run:
                known.graph = known.graph or run.graph
                return False
            in_flight = self._threads.setdefault(run.thread_id, [])
            if in_flight:
                if nested:
                    del self._runs[run.id]
                    return False
                # A stream that nobody closed ends here; when it is collected later, its GeneratorExit is no news.
                in_flight[-1].superseded = True
            in_flight.append(run)
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
        after = pause is not None and pause.status == "interrupt_after"
        asks = run.graph is not None and run.graph.has_checkpointer and (after or run.graph.hides(outputs, fields))
        if pause is None:
            self._close(run, fields, _completed(fields), outputs, ask=asks)
        else:
            self._close(run, fields, "interrupted", outputs, ask=asks, checkpoint_id=pause.checkpoint_id)

    def failed(self, run_id: UUID, error: BaseException) -> None:
        """Take the error of a run, which may also be a pause or the caller's own stop."""
        status = status_of(error)
        run = self._claim(run_id, completed=False, keep=status == "cancelled")
        if run is None or (run.superseded and status == "cancelled"):
            return
        text = error_text(error) if status in ("failed", "cancelled") else None
        fields = extract(self._record, None, redact=self._redact)
        self._close(run, fields, status, None, ask=True, error=text)

    def _claim(self, run_id: UUID, *, completed: bool, keep: bool = False) -> Run | None:
        """Return the run if nobody has ended it: the first end counts, but a completion wins over an earlier stop."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            if run is None:
                return self._stopped.pop(run_id, None) if completed else None
            in_flight = self._threads[run.thread_id]
            in_flight.remove(run)
            if not in_flight:
                del self._threads[run.thread_id]
            if keep:
                _keep(self._stopped, run_id, run, KEPT)
            return run

    def _close(
        self,
        run: Run,
        fields: Fields,
        status: Status,
        outputs: Any,
        *,
        ask: bool,
        error: str | None = None,
        checkpoint_id: str | None = None,
    ) -> None:
        """Write the last row of *run*: at once what is known, and after a wait what only the checkpointer knows."""
        if run.mlflow_run_id is None and not run.in_coroutine:
            # A run that a node opened. On a loop it could be another task's.
            run.mlflow_run_id = mlflow_run.active_run_id()
        # Both on the clock as it is known now: the first contact with the database may lie between them.
        started, tick = self._clock.at(run.monotonic), self._clock.tick()
        ending = Ending(status, started, tick[0], error, mlflow_run.active_trace_id(), checkpoint_id)
        ask = ask and not run.superseded and run.graph is not None and run.graph.has_checkpointer
        # Without a checkpointer to ask nothing of the run is kept.
        rest = partial(self._complete, run, fields, ending, outputs) if ask else self._settle
        later = run.in_coroutine and rest is not None
        if later or not ask:
            self._emit(end_row(run, fields, tick, ending))
        if later:
            _keep(self._waiting, run.id, rest, WAITING)
            _ending.set(run.id)
        elif rest is not None:
            rest()

    def _complete(self, run: Run, fields: Fields, ending: Ending, outputs: Any) -> None:
        try:
            fields, ending = self._asked(run, fields, ending, outputs)
        except Exception as error:
            self._report("the graph's checkpointer could not be asked for the last state", error)
        finally:  # also when Ctrl-C ends the wait
            self._emit(end_row(run, fields, self._clock.tick(), ending))
        if self._settle:
            self._settle()

    def _asked(self, run: Run, fields: Fields, ending: Ending, outputs: Any) -> tuple[Fields, Ending]:
        """Return fields and ending completed by the run's newest checkpoint."""
        assert run.graph is not None
        seen = run.graph.snapshot(run.checkpointed_as)
        if seen is None or seen.created < run.wall or run.superseded:
            return fields, ending  # a checkpoint of an earlier run, or of a later one
        if run.graph.feeds:
            outputs = outputs if isinstance(outputs, Mapping) else {}
            fields = extract(self._record, {**seen.values, **outputs}, redact=self._redact)
        status = ending.status
        if seen.finished and status in ("cancelled", "interrupted"):
            status = _completed(fields)
            ending = ending._replace(error=None)
        return fields, ending._replace(status=status, checkpoint_id=seen.checkpoint_id)

    def waits(self) -> bool:
        """Return whether the run that ends in this context left something to the executor."""
        return _ending.get() in self._waiting

    def wait(self, run_id: UUID) -> None:
        """Do what the end of a run on a loop left to the executor; nothing where there is nothing left."""
        if complete := self._waiting.pop(run_id, None):
            complete()

    def tell(self, read: Callable[..., Row | None]) -> bool:
        """Write the row that *read* makes for this recorder's record, clock, user and redaction; return whether there is one."""
        row = read(self._record, self._clock, user_id=self._user_id, redact=self._redact)
        if row is not None:
            self._emit(row)
        return row is not None

    def stumbled(self, error: Exception) -> None:
        """Report what a handler caught: it goes no further."""
        self._report("an event of a run could not be recorded", error)


def _completed(fields: Fields) -> Status:
    # extract() lets only statuses through
    return cast("Status", fields.status or "completed")


def _keep(kept: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.pop(next(iter(kept)), None)


def _short(value: Any) -> str | None:
    return None if value is None else clean_text(str(value))[:255]
