"""The suite's graph: a small problem solver that ends as its input tells it to."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

Behaviour = Literal["ok", "raise", "interrupt", "loop", "slow", "ctrl-c", "drain"]


class ProblemState(TypedDict, total=False):
    """The state of the suite's graph: a small problem solver that ends as it is told to."""

    user_prompt: str
    topic: str
    behave: Behaviour
    code: str
    code_attempts: int
    tests_passed: bool
    log: Annotated[list[str], operator.add]


class NarrowOutput(TypedDict, total=False):
    """An output schema that leaves out most of the state."""

    log: list[str]


class BoomError(RuntimeError):
    """What the failing node raises."""


def _write(state: ProblemState) -> dict[str, Any]:
    return {"code": "def f(): ...", "code_attempts": state.get("code_attempts", 0) + 1, "log": ["write"]}


def _check(state: ProblemState) -> dict[str, Any]:
    behave = state.get("behave", "ok")
    if behave == "raise":
        raise BoomError("the tests could not run")
    if behave == "ctrl-c":
        raise KeyboardInterrupt
    if behave == "interrupt":
        return {"tests_passed": bool(interrupt("is this right?")), "log": ["answered"]}
    return {"tests_passed": True, "log": ["check"]}


def _next(state: ProblemState) -> str:
    return "write" if state.get("behave") == "loop" else END


def problem_graph(
    checkpointer: Any = None,
    *,
    asynchronous: bool = False,
    narrow: bool = False,
    reached: Callable[[], object] | None = None,
    **compile_options: Any,
) -> Any:
    """Return the suite's compiled graph: ``write`` then ``check``, which behaves as the input's ``behave`` says.

    *reached* is called where the asynchronous graph begins to be slow.
    """

    async def acheck(state: ProblemState) -> dict[str, Any]:
        if state.get("behave") == "slow":
            if reached is not None:
                reached()
            await asyncio.sleep(60)
        return _check(state)

    builder = StateGraph(ProblemState, output_schema=NarrowOutput) if narrow else StateGraph(ProblemState)
    builder.add_node("write", _write)
    builder.add_node("check", acheck if asynchronous else _check)
    builder.add_edge(START, "write")
    builder.add_edge("write", "check")
    builder.add_conditional_edges("check", _next, ["write", END])
    return builder.compile(checkpointer=checkpointer, **compile_options)
