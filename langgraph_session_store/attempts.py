"""Every attempt of a run, read from the checkpoints that the graph's own checkpointer holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import orjson

from .extract import extract
from .mlflow_run import RUN_ID_KEY
from .records import ProblemSession
from .session import SessionVersion, changes, session_versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .record import SessionRecord
    from .row import Slot, Value

_INPUT: Final = "__start__"  # the task that writes what came in


@dataclass(frozen=True, slots=True)
class _Step:
    """A checkpoint: the versioned fields that it left, which of them its step wrote, and whether that step was the input."""

    at: datetime
    run_id: str | None
    values: Mapping[str, Any]
    written: frozenset[str]
    given: bool


def attempts(graph: Any, thread_id: object, *, record: type[SessionRecord] = ProblemSession) -> list[SessionVersion]:
    """Return what each attempt of a thread left in the versioned fields of *record*, newest first, as `SessionStore.versions` does.

    Where history keeps what runs ended with, this also knows what they tried on the way, as long as the *graph*'s checkpointer keeps it.
    Fields have the order in which the thread first wrote them, say problem, code, outcome. A step that writes a field again begins an
    attempt, also where the value is the same; what comes behind that field told of the attempt before, and is left out until it is
    written too. No results are empty texts and lists, nor False and 0 in the input or before anything else was written.
    Raises what the checkpointer raises, ValueError without one.
    """
    steps = list(_steps(graph, thread_id, record))
    told = _results(steps)
    ranks = _ranks(told)
    lines: dict[int, tuple[datetime, str | None, Mapping[str, Any]]] = {}
    number, far = 1, -1  # the attempt, and the rank up to which it has come
    for step, names in zip(steps, told, strict=True):
        written = {ranks[name] for name in step.written if name in ranks}
        results = {ranks[name] for name in names}
        if not written:
            continue
        first = min(written)
        if first <= far:
            number += 1
        if first in results:
            far = next(rank for rank in count(first) if rank + 1 not in results)
            known = {name: value for name, value in step.values.items() if ranks.get(name, far + 1) <= far}
            lines[number] = (step.at, step.run_id, known)
    return session_versions(lines.values())


def _results(steps: Sequence[_Step]) -> list[set[str]]:
    """Return the fields of each step that it wrote a result to, rather than what a state begins with or is reset to."""
    found: list[set[str]] = []
    begun = False
    for at, step in enumerate(steps):
        names = {name for name in step.written if step.values.get(name)}
        doubtful = {name for name in step.written if step.values.get(name) in (False, 0)}
        if not (begun or step.given):  # a False beside the first result is one if it always comes with that
            later = [other.written for other in steps[at:]]
            doubtful = {name for name in doubtful if all(names & others for others in later if name in others)}
        found.append(names if step.given else names | doubtful)
        begun = begun or bool(names)
    return found


def _ranks(told: Sequence[set[str]]) -> dict[str, int]:
    """Return the place of each field in the order in which steps first wrote a result to it; one step's fields share it."""
    ranks: dict[str, int] = {}
    for names in told:
        ranks |= dict.fromkeys(names - ranks.keys(), len(set(ranks.values())))
    return ranks


def _steps(graph: Any, thread_id: object, record: type[SessionRecord]) -> Iterator[_Step]:
    """Yield the checkpoints of a thread, oldest first."""
    states = list(graph.get_state_history({"configurable": {"thread_id": str(thread_id)}}))[::-1]
    tasks: dict[Any, Any] = {}
    known: dict[Any, Mapping[str, Any]] = {}
    for state in states:
        metadata, parent = state.metadata or {}, _id(state.parent_config)
        values = _versioned(record, state.values)
        tasks[_id(state.config)], known[_id(state.config)] = state.tasks, values
        done = tasks.get(parent, ()) if metadata.get("source") in ("input", "loop") else ()
        wrote = [_versioned(record, task.result) for task in done if task.result is not None]
        same = {name for each in wrote for name in each if not changes({name: each[name]}, {name: values.get(name)})}
        written = same | changes(known.get(parent, {}), values).keys()
        given = any(task.name == _INPUT for task in done)
        at = datetime.fromisoformat(state.created_at)
        yield _Step(at, metadata.get(RUN_ID_KEY), values, frozenset(written), given)


def _id(config: Any) -> Any:
    return (config or {}).get("configurable", {}).get("checkpoint_id")


def _versioned(record: type[SessionRecord], state: Any) -> dict[str, Any]:
    """Return the versioned fields that *state* holds."""
    fields = extract(record, state)
    slots = zip(fields.shape, fields.values, strict=True)
    return {
        slot.name: _read(slot, value)
        for slot, value in slots
        if slot.kind == "versioned" and slot.mode != "default" and value is not None
    }


def _read(slot: Slot, value: Value) -> Any:
    return orjson.loads(value) if slot.sql_type == "jsonb" and isinstance(value, str) else value
