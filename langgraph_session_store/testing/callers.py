"""Two colours of calling a graph behind one set of names, so that each ending is written once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


class Caller(Protocol):
    """One colour of calling a graph."""

    asynchronous: bool

    async def invoke(self, graph: Any, state: Any, config: Any, **options: Any) -> Any:
        """Run *graph* to its end."""

    def stream(self, graph: Any, state: Any, config: Any, **options: Any) -> AsyncIterator[Any]:
        """Stream *graph*."""

    async def batch(self, graph: Any, states: list[Any], configs: list[Any]) -> Any:
        """Run *graph* on several inputs."""


class SyncCaller:
    """Calls ``invoke``, ``stream`` and ``batch``; its coroutines never wait, so that no event loop is needed."""

    asynchronous = False

    async def invoke(self, graph: Any, state: Any, config: Any, **options: Any) -> Any:
        """Run *graph* to its end."""
        return graph.invoke(state, config, **options)

    async def stream(self, graph: Any, state: Any, config: Any, **options: Any) -> AsyncIterator[Any]:
        """Stream *graph*; closing this closes its stream."""
        chunks = graph.stream(state, config, **options)
        try:
            for chunk in chunks:
                yield chunk
        finally:
            chunks.close()

    async def batch(self, graph: Any, states: list[Any], configs: list[Any]) -> Any:
        """Run *graph* on several inputs."""
        return graph.batch(states, configs)


class AsyncCaller:
    """Calls ``ainvoke``, ``astream`` and ``abatch``."""

    asynchronous = True

    async def invoke(self, graph: Any, state: Any, config: Any, **options: Any) -> Any:
        """Run *graph* to its end."""
        return await graph.ainvoke(state, config, **options)

    async def stream(self, graph: Any, state: Any, config: Any, **options: Any) -> AsyncIterator[Any]:
        """Stream *graph*; closing this closes its stream."""
        chunks = graph.astream(state, config, **options)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    async def batch(self, graph: Any, states: list[Any], configs: list[Any]) -> Any:
        """Run *graph* on several inputs."""
        return await graph.abatch(states, configs)


def run_without_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits, in this thread and without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the coroutine waits: it needs an event loop")
