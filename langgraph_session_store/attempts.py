"""Every attempt of a run, read from the checkpoints that the graph's own checkpointer holds."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from .extract import extract
from .mlflow_run import RUN_ID_KEY
from .records import ProblemSession
from .session import SessionVersion, changes, session_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .record import SessionRecord
    from .row import Slot, Value


def attempts(graph: Any, thread_id: object, *, record: type[SessionRecord] = ProblemSession) -> list[SessionVersion]:
    """Return each content that the versioned fields of *record* had in a thread, newest first, as `SessionStore.versions` does.

    Where history keeps what runs ended with, this also knows what they tried on the way, as long as the *graph*'s checkpointer keeps it.
    Raises what the checkpointer raises, ValueError without one.
    """
    lines: list[tuple[datetime, str | None, Mapping[str, Any]]] = []
    config = {"configurable": {"thread_id": str(thread_id)}}
    for state in reversed(list(graph.get_state_history(config))):
        fields = extract(record, state.values)
        slots = zip(fields.shape, fields.values, strict=True)
        values = {
            slot.name: _read(slot, value) for slot, value in slots if slot.kind == "versioned" and value is not None
        }
        if changes(lines[-1][2] if lines else {}, values):
            run_id = (state.metadata or {}).get(RUN_ID_KEY)
            lines.append((datetime.fromisoformat(state.created_at), run_id, values))
    return session_versions(lines)


def _read(slot: Slot, value: Value) -> Any:
    return orjson.loads(value) if slot.sql_type == "jsonb" and isinstance(value, str) else value
