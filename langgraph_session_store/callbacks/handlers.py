"""The LangGraph handlers: they see starts, interrupts, ends and errors, and pass them to a `Tracker`.

The inline handler does everything that needs no wait, in the caller's own thread or on the event loop: only there is MLflow's active
run the caller's. Where an end may have to wait (a checkpointer to ask, a commit to await) on a loop, the waiting handler does it
in the executor. A synchronous run has nowhere else to be, so there the inline handler waits itself.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from langchain_core.callbacks.base import BaseCallbackHandler, BaseCallbackManager
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent

if TYPE_CHECKING:
    from uuid import UUID

    from .graphs import RecordedGraph
    from .tracker import Tracker


_COPIED: Final = frozenset(
    {
        "parent_run_id",
        "handlers",
        "inheritable_handlers",
        "tags",
        "inheritable_tags",
        "metadata",
        "inheritable_metadata",
    }
)
"""The attributes of a manager that `BoundCallbacks.copy` names; those of another LangChain are found as it goes."""


class InlineHandler(GraphCallbackHandler):
    """Sees starts, interrupts and ends in the caller's own thread or on its loop."""

    run_inline = True
    raise_error = False
    ignore_chain = False
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, tracker: Tracker, graph: RecordedGraph | None = None) -> None:
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
        try:
            self._tracker.started(
                self._graph,
                inputs,
                run_id=run_id,
                metadata=metadata or {},
                tags=tags,
                name=name,
                in_coroutine=in_coroutine,
            )
        except Exception as error:
            self._tracker.stumbled(error)

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Take a pause."""
        try:
            self._tracker.interrupted(event)
        except Exception as error:
            self._tracker.stumbled(error)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Take an end."""
        try:
            self._tracker.ended(run_id, outputs)
        except Exception as error:
            self._tracker.stumbled(error)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Take an error."""
        try:
            self._tracker.failed(run_id, error)
        except Exception as mishap:
            self._tracker.stumbled(mishap)


class WaitingHandler(BaseCallbackHandler):
    """Does in the executor what an end on a loop has to wait for; otherwise ignored."""

    raise_error = False
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    @property
    def run_inline(self) -> bool:  # type: ignore[override]  # LangChain's is a plain attribute, and only read
        """Whether nothing waits: ignored inline it costs no task, whose cancellation would leave a start without an end."""
        return not self._tracker.waits()

    @property
    def ignore_chain(self) -> bool:
        """Whether nothing waits. Read after the inline handler, in its context or in a task that copied it."""
        return not self._tracker.waits()

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002 - LangChain's signature
        """Finish the end of a run."""
        try:
            self._tracker.wait(run_id)
        except Exception as mishap:
            self._tracker.stumbled(mishap)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        """Finish the error of a run."""
        try:
            self._tracker.wait(run_id)
        except Exception as mishap:
            self._tracker.stumbled(mishap)


class BoundCallbacks(BaseCallbackManager):
    """A callback manager for a graph's own config, whose handlers no node inherits: two events a run.

    MLflow's autolog adds its tracer to every manager that is made. One that is kept in a graph would share that tracer among all
    runs, so copies and merges of this one hold only what they were given; the manager of each run gets a tracer of its own.
    """

    _others: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, *handlers: BaseCallbackHandler) -> Self:
        """Return a manager that holds just *handlers*, not to be inherited."""
        manager = cls(handlers=[])
        BoundCallbacks._others = tuple(vars(manager).keys() - _COPIED)
        manager.handlers, manager.inheritable_handlers = list(handlers), []
        return manager

    def copy(self) -> Self:
        """Return a copy that holds the same handlers, without MLflow's `__init__`.

        LangGraph makes one for each node of a run, and one more: attributes by their names cost a third of a loop over a dict.
        """
        copy = object.__new__(type(self))
        copy.parent_run_id = self.parent_run_id
        copy.handlers = self.handlers.copy()
        copy.inheritable_handlers = self.inheritable_handlers.copy()
        copy.tags = self.tags.copy()
        copy.inheritable_tags = self.inheritable_tags.copy()
        copy.metadata = self.metadata.copy()
        copy.inheritable_metadata = self.inheritable_metadata.copy()
        for name in self._others:
            value = getattr(self, name)
            setattr(copy, name, value.copy() if isinstance(value, (list, dict)) else value)
        return copy

    def merge(self, other: BaseCallbackManager) -> Self:
        """Return a manager that holds the handlers of both."""
        merged = super().merge(other)
        merged.handlers = list({*self.handlers, *other.handlers})
        merged.inheritable_handlers = list({*self.inheritable_handlers, *other.inheritable_handlers})
        return merged
