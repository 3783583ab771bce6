"""One run of a graph as its handlers see it, and the rows that its start and its end become; no I/O."""

from __future__ import annotations

import asyncio
import concurrent.futures
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langgraph.errors import GraphBubbleUp, GraphDrained, GraphInterrupt, ParentCommand
from pydantic_core import from_json

from ..clock import to_iso
from ..encode import clean_text, thread_key, to_json
from ..mlflow_run import RUN_ID_KEY
from ..redact import redact_keys, redact_text
from ..row import Row, Shape, Value, own, per_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from ..columns import Status
    from ..extract import Fields
    from .graphs import RecordedGraph

    Tick = tuple[int, int, bool]
    _Shapes = tuple[Callable[[Shape], Shape], ...]

MAX_ERROR: Final = 2_000
"""Characters of an error that are kept: enough for a message, not for a dump of the state that some messages carry."""

_INTERNAL: Final = ("langgraph_", "checkpoint_", "__", "ls_", "lc_", "seq:", "graph:step:")
_NOT_METADATA: Final = frozenset({"thread_id", "task_id", RUN_ID_KEY})


@dataclass(slots=True, eq=False)
class Run:
    """What is known of a run between its start and its end."""

    id: UUID
    thread_id: str
    begun: int
    monotonic: int
    graph_name: str | None
    checkpointed_as: str
    graph: RecordedGraph | None = None
    user_id: str | None = None
    mlflow_run_id: str | None = None
    metadata: str | None = None
    in_coroutine: bool = False
    interrupted_by: Any = None
    rejected: dict[str, dict[str, object]] | None = None
    superseded: bool = False
    wall: float = 0.0


class Ending(NamedTuple):
    """How a run ended, when, and from where its row was taken."""

    status: Status
    started: int
    finished: int
    error: str | None = None
    trace_id: str | None = None
    checkpoint_id: str | None = None


def thread_of(metadata: Mapping[str, Any], root: UUID) -> str:
    """Return the thread that a run belongs to: its config's, or the id of the *root* run where it has none."""
    thread_id = metadata.get("thread_id")
    return thread_key(root if thread_id is None or thread_id == "" else thread_id)


def describe(metadata: Mapping[str, Any], tags: Sequence[str] | None) -> str | None:
    """Return the caller's own metadata and tags as JSON, without what LangGraph added and with secrets masked."""
    kept = {key: metadata[key] for key in _own_keys(tuple(metadata))}
    if tags and (own_tags := [tag for tag in tags if not str(tag).startswith(_INTERNAL)]):
        kept["tags"] = own_tags
    # Secrets may stand inside of objects: only their JSON shows all keys.
    return to_json(redact_keys(from_json(to_json(kept)))) if kept else None


@lru_cache(maxsize=256)
def _own_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key not in _NOT_METADATA and not str(key).startswith(_INTERNAL))


def start_row(run: Run, fields: Fields, tick: Tick, trace_id: str | None) -> Row:
    """Return the row of a run that starts: running, with what an earlier run of the thread left cleared."""
    run.rejected = fields.rejected
    begun = to_iso(run.begun)
    rejected = to_json(fields.rejected) if fields.rejected else None
    # A row that an outage delays is as old as its run. Others' rows have the column's own default.
    values = "running", trace_id, run.graph_name, begun, None, None, run.metadata, rejected, begun
    return _row(run, fields, tick, _AT_START, values)


def end_row(run: Run, fields: Fields, tick: Tick, ending: Ending) -> Row:
    """Return the row of a run that ended. A pause has no finish."""
    rejected = fields.rejected
    if run.rejected:
        carried = {slot.name for slot in fields.shape}
        rejected = {name: why for name, why in run.rejected.items() if name not in carried} | rejected
    values = (
        ending.status,
        ending.trace_id,
        run.graph_name,
        to_iso(ending.started),
        None if ending.status == "interrupted" else to_iso(ending.finished),
        ending.error,
        run.metadata,
        to_json(rejected) if rejected else None,
        ending.checkpoint_id,
    )
    return _row(run, fields, tick, _AT_END, values)


def _row(run: Run, fields: Fields, tick: Tick, shapes: _Shapes, values: tuple[Value, ...]) -> Row:
    # What is not known now erases nothing that was known before.
    known = 0
    if run.mlflow_run_id is not None:
        known, values = 1, (*values, run.mlflow_run_id)
    if run.user_id is not None:
        known, values = known + 2, (*values, run.user_id)
    recorded_at, monotonic, anchored = tick
    shape = shapes[known](fields.shape)
    return Row(run.thread_id, recorded_at, run.begun, monotonic, anchored, shape, (*values, *fields.values))


def _shapes(head: Shape) -> _Shapes:
    """Return what puts *head* before a record's own slots: alone, with the run's id, with its user, and with both."""
    run_id, user_id = own("run_id"), own("user_id")
    return tuple(per_shape(partial(add, (*head, *known))) for known in ((), (run_id,), (user_id,), (run_id, user_id)))


_ALWAYS: Final = tuple(
    map(
        own,
        ("workflow_status", "trace_id", "graph_name", "started_at", "finished_at", "error", "metadata", "rejected"),
    )
)
_AT_START: Final = _shapes((*_ALWAYS, own("created_at", "default")))
_AT_END: Final = _shapes((*_ALWAYS, own("checkpoint_id")))


def status_of(error: BaseException) -> Status:
    """Return the status of a run that LangGraph ended with *error*: not all of them are failures.

    A drained graph can be resumed; a nested graph raises its interrupt; a command for the parent graph is how a nested
    one hands over; a closed stream, a cancelled task and Ctrl-C are the caller's own stop.
    """
    if isinstance(error, (GraphDrained, GraphInterrupt)):
        return "interrupted"
    if isinstance(error, ParentCommand):
        return "completed"
    if isinstance(error, GraphBubbleUp):
        return "interrupted"
    if isinstance(error, (asyncio.CancelledError, concurrent.futures.CancelledError)):
        return "cancelled"
    return "failed" if isinstance(error, Exception) else "cancelled"


def error_text(error: BaseException) -> str:
    """Return ``Type: message`` of *error*, cleaned, with secrets masked, at most `MAX_ERROR` characters."""
    try:
        message = str(error)
    except Exception:
        message = "(its message could not be read)"
    name = type(error).__name__
    text = redact_text(clean_text(f"{name}: {message[: 4 * MAX_ERROR]}" if message else name))
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 1] + "…"
