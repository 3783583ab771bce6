"""What the graph's own checkpointer knows of a run: its last state, and whether it had finished after all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A thread's newest checkpoint: its values, its id, when it was made, and whether nothing is left to do."""

    values: Mapping[str, Any]
    checkpoint_id: str | None
    finished: bool
    created: float


def has_checkpointer(graph: Any) -> bool:
    """Return whether *graph* holds a checkpointer of its own that can be asked."""
    return isinstance(getattr(graph, "checkpointer", None), BaseCheckpointSaver)


def snapshot(graph: Any, thread_id: str) -> Snapshot | None:
    """Return the newest checkpoint of *thread_id*, None where there is none.

    No checkpoint id is asked for: the config of a run that travels in time would return the old checkpoint.
    """
    state = graph.get_state({"configurable": {"thread_id": thread_id}})
    if not state.created_at:
        return None
    return Snapshot(
        values=state.values if isinstance(state.values, dict) else {},
        checkpoint_id=state.config.get("configurable", {}).get("checkpoint_id"),
        finished=not state.next and not any(task.error or task.interrupts for task in state.tasks),
        created=datetime.fromisoformat(state.created_at).timestamp(),
    )
