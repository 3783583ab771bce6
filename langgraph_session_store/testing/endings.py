"""The endings of a LangGraph run as a conformance suite: how to get to each, and the row that must stand there then."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langgraph.runtime import RunControl
from langgraph.types import Command

from .graph import BoomError, problem_graph

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from langchain_core.runnables import RunnableConfig

    from .callers import Caller
    from .graph import Behaviour, ProblemState


@dataclass(frozen=True)
class Subject:
    """A recorder under test: how it attaches to a graph, and how the row of a thread is read back (None without one)."""

    attach: Callable[[Any], Any]
    read: Callable[[str], Awaitable[Mapping[str, Any] | None]]
    config: Callable[[RunnableConfig], RunnableConfig]


@dataclass(frozen=True)
class Bench:
    """What a case runs with."""

    subject: Subject
    call: Caller
    checkpointer: Any
    thread_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def here(self) -> RunnableConfig:
        """The config of the case's thread."""
        return {"configurable": {"thread_id": self.thread_id}}

    def graph(self, **options: Any) -> Any:
        """Return the suite's graph, attached."""
        return self.subject.attach(problem_graph(self.checkpointer, asynchronous=self.call.asynchronous, **options))

    def state(self, behave: Behaviour = "ok") -> ProblemState:
        """Return an input that makes the graph behave so."""
        return {"user_prompt": "sort a list", "topic": "lists", "behave": behave}


@dataclass(frozen=True)
class Case:
    """An ending: how to get there, and the row that must stand there then, with a checkpointer and (``bare``) without.

    ``bare`` None: the case needs a checkpointer. ``only``: the colour that has such an end.
    """

    name: str
    run: Callable[[Bench], Awaitable[None]]
    row: Mapping[str, object]
    bare: Mapping[str, object] | None
    only: Literal["sync", "async"] | None = None

    def __str__(self) -> str:
        return self.name

    def applies(self, call: Caller, checkpointer: Any) -> bool:
        """Return whether the case exists for this colour and checkpointer."""
        colour = "async" if call.asynchronous else "sync"
        return self.only in (None, colour) and (checkpointer is not None or self.bare is not None)

    async def check(self, bench: Bench) -> None:
        """Run the case and assert its row."""
        await self.run(bench)
        row = await bench.subject.read(bench.thread_id)
        assert row is not None, f"{self.name}: no row"
        expected = self.row if bench.checkpointer is not None else self.bare or {}
        found = {name: row.get(name) for name in expected}
        assert found == dict(expected), f"{self.name}: {found} instead of {dict(expected)}"
        paused = expected["workflow_status"] == "interrupted"
        assert (row.get("finished_at") is None) == paused, f"{self.name}: finished_at is {row.get('finished_at')}"


async def _swallow(awaitable: Awaitable[Any], *errors: type[BaseException]) -> None:
    try:
        await awaitable
    except errors:
        return
    raise AssertionError(f"none of {errors} was raised")


async def _normal(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(), bench.state(), bench.here)


def _streamed(mode: Any) -> Callable[[Bench], Awaitable[None]]:
    async def run(bench: Bench) -> None:
        async for _ in bench.call.stream(bench.graph(), bench.state(), bench.here, stream_mode=mode):
            pass

    return run


async def _batch(bench: Bench) -> None:
    others: list[Any] = [{"configurable": {"thread_id": uuid.uuid4().hex}} for _ in range(2)]
    await bench.call.batch(bench.graph(), [bench.state()] * 3, [*others, bench.here])


async def _events(bench: Bench) -> None:
    async for _ in bench.graph().astream_events(bench.state(), bench.here, version="v2"):
        pass


async def _narrow(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(narrow=True), bench.state(), bench.here)


async def _output_keys(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(), bench.state(), bench.here, output_keys=["log"])


async def _output_key(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(), bench.state(), bench.here, output_keys="log")


async def _raises(bench: Bench) -> None:
    await _swallow(bench.call.invoke(bench.graph(), bench.state("raise"), bench.here), BoomError)


async def _fails_then_succeeds(bench: Bench) -> None:
    graph = bench.graph()
    await _swallow(bench.call.invoke(graph, bench.state("raise"), bench.here), BoomError)
    await bench.call.invoke(graph, bench.state(), bench.here)


async def _recursion(bench: Bench) -> None:
    config: RunnableConfig = {**bench.here, "recursion_limit": 5}
    await _swallow(bench.call.invoke(bench.graph(), bench.state("loop"), config), RecursionError)


async def _interrupted(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(), bench.state("interrupt"), bench.here)


async def _resumed(bench: Bench) -> None:
    await _interrupted(bench)
    await bench.call.invoke(bench.graph(), Command(resume=True), bench.here)


async def _static_interrupt(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(interrupt_before=["check"]), bench.state(), bench.here)


async def _static_resumed(bench: Bench) -> None:
    await _static_interrupt(bench)
    await bench.call.invoke(bench.graph(), None, bench.here)


async def _interrupt_after_last(bench: Bench) -> None:
    await bench.call.invoke(bench.graph(interrupt_after=["check"]), bench.state(), bench.here)


async def _broken_early(bench: Bench) -> None:
    chunks: Any = bench.call.stream(bench.graph(), bench.state(), bench.here, stream_mode="updates")
    await anext(chunks)
    await chunks.aclose()


async def _broken_at_the_last_chunk(bench: Bench) -> None:
    chunks: Any = bench.call.stream(bench.graph(), bench.state(), bench.here, stream_mode="updates")
    async for chunk in chunks:
        if "check" in chunk:
            break
    await chunks.aclose()


async def _slow(bench: Bench) -> asyncio.Future[Any]:
    """Start a run, and return it where it sleeps in its second node, with what the first one wrote in a checkpoint."""
    reached = asyncio.Event()
    graph = bench.graph(reached=reached.set)
    task = asyncio.ensure_future(bench.call.invoke(graph, bench.state("slow"), bench.here))
    while not task.done():
        saved = bench.checkpointer is None or (await graph.aget_state(bench.here)).next == ("check",)
        if saved and reached.is_set():
            break
        await asyncio.sleep(0.01)
    return task


async def _cancelled(bench: Bench) -> None:
    task = await _slow(bench)
    task.cancel()
    await _swallow(task, asyncio.CancelledError)


async def _timed_out(bench: Bench) -> None:
    await _swallow(asyncio.wait_for(await _slow(bench), 0.01), TimeoutError)


async def _ctrl_c(bench: Bench) -> None:
    await _swallow(bench.call.invoke(bench.graph(), bench.state("ctrl-c"), bench.here), KeyboardInterrupt)


async def _drained(bench: Bench) -> None:
    control = RunControl()
    control.request_drain("the server stops")
    await _swallow(bench.call.invoke(bench.graph(), bench.state(), bench.here, control=control), Exception)


_WHOLE = {
    "workflow_status": "completed",
    "user_prompt": "sort a list",
    "topic": "lists",
    "code": "def f(): ...",
    "code_attempts": 1,
    "tests_passed": True,
    "error": None,
}
_INPUTS = {"user_prompt": "sort a list", "topic": "lists", "code": None}
_WRITTEN = {"user_prompt": "sort a list", "code": "def f(): ...", "tests_passed": None}
_FAILED = {"workflow_status": "failed", "error": "BoomError: the tests could not run"}
_PAUSED = {"workflow_status": "interrupted", "error": None}
_STOPPED = {"workflow_status": "cancelled"}
_MODES = ("values", "updates", "messages", "custom", "debug", "tasks", "checkpoints")

CASES: tuple[Case, ...] = (
    Case("normal end", _normal, _WHOLE, _WHOLE),
    *(Case(f"stream {mode}", _streamed(mode), _WHOLE, _WHOLE) for mode in _MODES if mode != "checkpoints"),
    Case("stream checkpoints", _streamed("checkpoints"), _WHOLE, None),
    Case("stream two modes", _streamed(["values", "updates"]), _WHOLE, _WHOLE),
    Case("batch", _batch, _WHOLE, _WHOLE),
    Case("astream_events", _events, _WHOLE, _WHOLE, only="async"),
    Case("narrower output schema", _narrow, _WHOLE, {"workflow_status": "completed", **_INPUTS}),
    Case("output_keys", _output_keys, _WHOLE, {"workflow_status": "completed", **_INPUTS}),
    Case("one output key", _output_key, _WHOLE, {"workflow_status": "completed", **_INPUTS}),
    Case("node raises", _raises, {**_FAILED, **_WRITTEN}, {**_FAILED, **_INPUTS}),
    Case("fails, then succeeds", _fails_then_succeeds, {**_WHOLE, "code_attempts": 2}, _WHOLE),
    Case("recursion limit", _recursion, {"workflow_status": "failed"}, {"workflow_status": "failed"}),
    Case("interrupt()", _interrupted, {**_PAUSED, **_WRITTEN}, {**_PAUSED, **_WRITTEN}),
    Case("resumed", _resumed, _WHOLE, None),
    Case("interrupt_before", _static_interrupt, {**_PAUSED, **_WRITTEN}, None),
    Case("resumed with None", _static_resumed, _WHOLE, None),
    Case("interrupt_after the last node", _interrupt_after_last, _WHOLE, None),
    Case("stream closed early", _broken_early, {**_STOPPED, **_WRITTEN}, {**_STOPPED, **_INPUTS}),
    Case("stream closed at the last chunk", _broken_at_the_last_chunk, _WHOLE, {**_STOPPED, **_INPUTS}),
    Case("task cancelled", _cancelled, {**_STOPPED, **_WRITTEN}, {**_STOPPED, **_INPUTS}, only="async"),
    Case("timeout", _timed_out, {**_STOPPED, **_WRITTEN}, {**_STOPPED, **_INPUTS}, only="async"),
    Case("Ctrl-C", _ctrl_c, {**_STOPPED, **_WRITTEN}, {**_STOPPED, **_INPUTS}, only="sync"),
    Case("drained", _drained, _PAUSED, _PAUSED),
)
"""The endings that LangGraph knows."""
