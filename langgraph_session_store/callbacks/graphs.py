"""What a recorder knows of the graph that it is attached to: its channels, and what its own checkpointer holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from langgraph.channels import LastValue
from langgraph.checkpoint.base import BaseCheckpointSaver

from ..record import record_fields

if TYPE_CHECKING:
    from ..extract import Fields
    from ..record import SessionRecord


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A thread's newest checkpoint: its values, its id, when it was made, and whether nothing is left to do."""

    values: Mapping[str, Any]
    checkpoint_id: str | None
    finished: bool
    created: float


class RecordedGraph:
    """A compiled *graph*, seen by the fields of *record*."""

    def __init__(self, graph: Any, record: type[SessionRecord]) -> None:
        self._graph = graph
        self.has_checkpointer = isinstance(getattr(graph, "checkpointer", None), BaseCheckpointSaver)
        """Whether the graph held a checkpointer of its own, which can be asked, when it was attached."""
        fields = record_fields(record)
        channels = frozenset(graph.channels)
        self.reducers = frozenset(
            name for name, channel in graph.channels.items() if not isinstance(channel, LastValue)
        )
        """The channels whose input is not yet their value."""
        self._computed = frozenset(field.name for field in fields if field.computed)
        self._sources = [
            field.channels & channels for field in fields if not field.computed and field.channels & channels
        ]
        self.feeds = bool(self._computed or self._sources)
        """Whether any field may come from a channel of the graph."""

    def hides(self, outputs: Any, fields: Fields) -> bool:
        """Return whether the graph may know fields that its *outputs*, from which *fields* were taken, leave out."""
        if self._computed:
            told = {
                slot.name: value for slot, value in zip(fields.shape, fields.values, strict=True) if slot.mode == "set"
            }
            if not told.keys() >= self._computed or all(told[name] is None for name in self._computed):
                return True
        present = outputs.keys() if isinstance(outputs, Mapping) else ()
        return any(source.isdisjoint(present) for source in self._sources)

    def snapshot(self, thread_id: str) -> Snapshot | None:
        """Return the newest checkpoint of *thread_id*, None where there is none.

        No checkpoint id is asked for: the config of a run that travels in time would return the old checkpoint.
        """
        state = self._graph.get_state({"configurable": {"thread_id": thread_id}})
        if not state.created_at:
            return None
        return Snapshot(
            values=state.values if isinstance(state.values, dict) else {},
            checkpoint_id=state.config.get("configurable", {}).get("checkpoint_id"),
            finished=not state.next and not any(task.error or task.interrupts for task in state.tasks),
            created=datetime.fromisoformat(state.created_at).timestamp(),
        )


def containers(state: Any) -> frozenset[str]:
    """Return the keys of *state* that may be inputs of reducers, where the graph is not known: lists are most often added to."""
    if not isinstance(state, Mapping):
        return frozenset()
    return frozenset(name for name, value in state.items() if isinstance(value, (list, dict, set, tuple)))
