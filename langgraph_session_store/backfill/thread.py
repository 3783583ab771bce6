"""What a thread's latest checkpoint says, as the row that a recorder would have written at the end of that run; no I/O.

With the graph its own ``get_state`` decides: values, what is next, errors, questions. Without it the checkpoint's values are the state, its
pending writes tell errors and questions, and its control channels whether anything is left to do.
"""

from __future__ import annotations

import ast
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.checkpoint.base import BaseCheckpointSaver

from .. import mlflow_run
from ..callbacks.graphs import containers
from ..callbacks.runs import MAX_ERROR, Ending, Run, describe, end_row, error_text
from ..clock import to_iso
from ..encode import clean_text, thread_key
from ..extract import Fields, extract
from ..redact import redact_text
from ..row import Row, Slot, Value, own
from .sources import Failed, time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.types import StateSnapshot

    from ..callbacks.runs import Tick
    from ..columns import Status
    from ..record import SessionRecord
    from .sources import Held

_START: Final = "__start__"
_UNTOLD: Final = frozenset({"finished_at", "error"})
"""What a checkpoint does not know of a run whose end it does not show."""
_KNOWN: Final = frozenset({"graph_name", "metadata"})
"""What stays as it is where the checkpoint says nothing."""
_CREATED: Final = own("created_at", "default")
_STATUS: Final = own("workflow_status", "default")
_STARTED: Final = own("started_at", "fill")
_FINISHED: Final = own("finished_at", "fill")
_QUIET: Final = 3_600_000_000
"""Microseconds after which a run that made no checkpoint, and left work undone, counts as dead."""
_BOOKKEEPING: Final = frozenset(
    {"source", "step", "parents", "writes", "score", "counters_since_delta_snapshot", "delta_writes_versioned"}
)
_CALL: Final = re.compile(r"([A-Za-z_]\w*)\((.*?),?\)", re.DOTALL)


class UnfitError(Exception):
    """A checkpoint that makes no row; the message says why."""


@dataclass(frozen=True)
class Reading:
    """What a checkpoint says: the state, and how the run stands. *left*: something is still to be done."""

    state: Any
    left: bool
    errors: Sequence[Any] = ()
    asks: bool = False
    pauses: bool = False
    graph_name: str | None = None


class Reader:
    """Reads checkpoints into rows of *record*; with a *graph*, as that graph does. *redact* is a recorder's."""

    def __init__(
        self,
        record: type[SessionRecord],
        *,
        graph: Any = None,
        saver: BaseCheckpointSaver[Any] | None = None,
        redact: Callable[[str, Any], Any] | None = None,
        user_id: str | None = None,
    ) -> None:
        self._record = record
        self._redact = redact
        self._user_id = user_id
        self._graph = None if graph is None else _GraphView(graph, saver or graph.checkpointer)

    def row(self, held: Held, tick: Tick, *, latest: bool = False) -> Row | Failed:
        """Return the row of a thread, recorded when its checkpoint was made, or (*latest*) now; never later than now, which *tick* says.

        A thread fails that is another graph's or record's, or that the graph itself cannot read.
        """
        try:
            return self._row(held, tick, latest=latest)
        except UnfitError as error:
            return Failed(held.thread_id, str(error))
        except Exception as error:
            return Failed(held.thread_id, f"its checkpoint cannot be understood: {type(error).__name__}")

    def _row(self, held: Held, tick: Tick, *, latest: bool) -> Row:
        saved, now = held.checkpoint, tick[0]
        values = dict(saved.checkpoint.get("channel_values") or {})
        made = time_of(saved.checkpoint.get("ts"))
        if made is None:
            raise UnfitError("its checkpoint does not say when it was made")
        reading = _by_itself(saved, values) if self._graph is None else self._graph.read(held)
        fields = self._fields(reading.state, values)
        if self._graph is None and all(slot.mode == "default" for slot in fields.shape):
            raise UnfitError(f"its state has no field of {self._record.__name__}")
        source = (saved.metadata or {}).get("source")
        status = _status(reading, fields, source)
        error = _told(reading.errors[0]) if reading.errors else None
        # The times of SQL checkpointers are their ids', which are made a little after the checkpoint.
        started = None if held.begun is None else min(held.begun, made)
        created = min(at for at in (held.created, started, made) if at is not None)
        run = self._run(held, reading, made if source == "update" else started or created)
        ending = Ending(
            status=status or ("abandoned" if now - made > _QUIET else "running"),
            started=started or made,
            finished=min(made, now),
            error=error,
            checkpoint_id=saved.config.get("configurable", {}).get("checkpoint_id"),
        )
        row = end_row(run, fields, tick if latest else (min(made, now), 0, True), ending)
        row = _finish(row, known=status is not None, updated=source == "update", timed=started is not None)
        return row._replace(shape=(*row.shape, _CREATED), values=(*row.values, to_iso(min(created, now))))

    def _fields(self, state: Any, values: Mapping[str, Any]) -> Fields:
        if _START in values and not _own(values):  # nothing has run yet: what came in says it, as at a start
            inputs = values[_START]
            return extract(self._record, inputs, reducers=containers(inputs), start=True, redact=self._redact)
        return extract(self._record, state, redact=self._redact)

    def _run(self, held: Held, reading: Reading, begun: int) -> Run:
        metadata: Mapping[str, Any] = held.checkpoint.metadata or {}
        named = reading.graph_name or metadata.get("lc_agent_name") or metadata.get("graph_id")
        user_id = metadata.get("user_id", self._user_id)
        return Run(
            id=uuid.UUID(int=0),
            thread_id=thread_key(held.thread_id),
            begun=begun,
            monotonic=0,
            graph_name=None if named is None else clean_text(str(named))[:255],
            checkpointed_as=held.thread_id,
            user_id=None if user_id is None else clean_text(str(user_id))[:255],
            mlflow_run_id=mlflow_run.named(metadata),
            metadata=describe({key: value for key, value in metadata.items() if key not in _BOOKKEEPING}, None),
        )


class _Shown(BaseCheckpointSaver[Any]):
    """A checkpointer that holds one checkpoint, for a graph to read; the history of channels that need one is the real *saver*'s."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=saver.serde)
        self.shown: CheckpointTuple | None = None
        self._saver = saver

    def get_tuple(self, config: Any) -> CheckpointTuple | None:  # noqa: ARG002 - the one that is shown
        return self.shown

    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        return self._saver.get_delta_channel_history(config=config, channels=channels)


class _GraphView:
    """A compiled graph as the judge of checkpoints: it reads those that were loaded, not its own checkpointer's."""

    def __init__(self, graph: Any, saver: BaseCheckpointSaver[Any]) -> None:
        self._saver = _Shown(saver)
        self._graph = graph.copy(update={"checkpointer": self._saver})
        self._name = graph.get_name()

    def read(self, held: Held) -> Reading:
        saved = held.checkpoint
        self._claim(saved)
        self._saver.shown = saved
        state = self._graph.get_state({"configurable": {"thread_id": held.thread_id, "checkpoint_ns": ""}})
        return Reading(
            state=state.values,
            left=bool(state.next),
            errors=[task.error for task in state.tasks if task.error],
            asks=bool(state.interrupts),
            pauses=self._pauses(state, saved),
            graph_name=self._name,
        )

    def _claim(self, saved: CheckpointTuple) -> None:
        """Raise UnfitError for a thread none of whose nodes or channels the graph knows."""
        ran = _own(saved.checkpoint.get("versions_seen") or ())
        channels = _own(saved.checkpoint.get("channel_versions") or ())
        if (ran and ran.isdisjoint(self._graph.nodes)) or (channels and channels.isdisjoint(self._graph.channels)):
            raise UnfitError("another graph's thread")

    def _pauses(self, state: StateSnapshot, saved: CheckpointTuple) -> bool:
        """Return whether the graph was compiled to stop here: before what is next, or after what ran last."""
        seen = saved.checkpoint.get("versions_seen") or {}
        ran = {node: max(map(str, seen[node].values())) for node in _own(seen) if seen[node]}
        last = {node for node, version in ran.items() if version == max(ran.values())}
        stops = ((self._graph.interrupt_before_nodes, set(state.next)), (self._graph.interrupt_after_nodes, last))
        return any(bool(nodes) if stop == "*" else not nodes.isdisjoint(stop) for stop, nodes in stops)


def _by_itself(saved: CheckpointTuple, values: dict[str, Any]) -> Reading:
    """Read a checkpoint without its graph."""
    state: Any = {name: value for name, value in values.items() if name in _own(values)}
    if not state:
        state = values.get("__root__", values.get("__end__", {}))
    done, errors, asks = set(), {}, set()
    for task_id, channel, value in saved.pending_writes or ():
        if channel == "__error__":
            errors[task_id] = value
        elif channel == "__interrupt__":
            asks.add(task_id)
        elif not channel.startswith("__"):
            done.add(task_id)
    left = any(name == _START or name.startswith(("branch:", "start:")) for name in values) or bool(
        values.get("__pregel_tasks")
    )
    return Reading(state, left, errors=list(errors.values()), asks=bool(asks - done))


def _own(names: Any) -> set[str]:
    """Return those of *names* that are the graph's own nodes or channels, not LangGraph's."""
    return {name for name in names if not name.startswith(("__", "branch:", "start:"))}


def _status(reading: Reading, fields: Fields, source: str | None) -> Status | None:
    """Return how the run stands; None where it was stopped, or still runs, in a way that leaves no trace."""
    if reading.errors:
        return "failed"
    if reading.asks:
        return "interrupted"
    if not reading.left:
        return cast("Status", fields.status or "completed")  # extract() lets only statuses through
    # A checkpoint that update_state made waits to be resumed, as one does where the graph stops itself.
    return "interrupted" if reading.pauses or source in ("update", "fork") else None


def _finish(row: Row, *, known: bool, updated: bool, timed: bool) -> Row:
    """Return *row* without what a checkpoint cannot tell: where the end is not *known*, status and end stay as they are in a row that is there.

    What update_state changed (*updated*) was no run, and leaves the times of the last one. *timed*: the start is known.
    """
    carried: list[tuple[Slot, Value]] = []
    for slot, value in zip(row.shape, row.values, strict=True):
        if slot.name == "trace_id" or (slot.name in _KNOWN and value is None) or (slot.name in _UNTOLD and not known):
            continue
        if slot.name == "workflow_status" and not known:
            carried.append((_STATUS, value))
        elif slot.name == "started_at":
            carried.append((_STARTED if updated else slot, value if timed else None))
        elif slot.name == "finished_at" and value is not None and updated:
            carried.append((_FINISHED, value))
        else:
            carried.append((slot, value))
    return row._replace(shape=tuple(slot for slot, _ in carried), values=tuple(value for _, value in carried))


def _told(error: Any) -> str:
    """Return ``Type: message`` of an error, of which a checkpoint keeps the ``repr``."""
    if isinstance(error, BaseException):
        return error_text(error)
    text = str(error)[: 4 * MAX_ERROR]
    if call := _CALL.fullmatch(text):
        name, inside = call.groups()
        try:
            message = ast.literal_eval(inside) if inside else ""
        except Exception:  # a class that says itself in its own way
            message = None
        if isinstance(message, (str, tuple)):
            said = repr(message) if name == "KeyError" else str(message)
            text = f"{name}: {said}" if said else name
    text = redact_text(clean_text(text))
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 1] + "…"
