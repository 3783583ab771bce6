"""The graph that the benchmarks run: nodes in a row that do nothing but hand on a state of a given size."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

BEGINNINGS = (
    "re",
    "sort",
    "list",
    "gra",
    "con",
    "pre",
    "value",
    "de",
    "in",
    "max",
    "weigh",
    "de",
    "un",
    "time",
    "key",
    "p",
)
ENDINGS = (
    "",
    "s",
    "ed",
    "ph",
    "tion",
    "ing",
    "sive",
    "ter",
    "mum",
    "_of",
    "= [",
    ")",
    "():\n    ",
    "turn",
    "ble",
    "fix",
)
VOCABULARY = [beginning + ending for beginning in BEGINNINGS for ending in ENDINGS]
TEXT = " ".join(random.Random(7).choices(VOCABULARY, k=20_000))  # noqa: S311 - the same for everybody
"""Prose to a compressor: pglz makes a half of it."""


class State(TypedDict, total=False):
    """A coding problem on its way: the fields of `ProblemSession`."""

    user_prompt: str
    topic: str
    difficulty: str
    problem_description: str
    problem_tests: list[dict[str, Any]]
    code: str
    tests_passed: bool
    code_attempts: int
    problem_attempts: int


@dataclass(frozen=True)
class Workload:
    """*nodes* in a row, at the end a state of about *kilobytes*; each node waits *pause* seconds, as one that calls a model does."""

    nodes: int = 5
    kilobytes: float = 8
    pause: float = 0.0

    def state(self, number: int = 0) -> State:
        """Return the state at the end of run *number*, a quarter of it description, half of it code, the rest ten tests."""
        size = int(self.kilobytes * 1024)
        at = number * 997 % len(TEXT)
        text = f"request {number}: {TEXT[at:]}{TEXT * (size // len(TEXT) + 1)}"
        case = text[: max(8, size // 5 // 10 - 60)]
        return State(
            user_prompt=text[: min(200, size // 4)],
            topic="arrays",
            difficulty="hard",
            problem_description=text[: size // 4],
            problem_tests=[{"case": n, "input": case, "expected": [n, n + 1]} for n in range(10)],
            code=f"def solve(values):\n    {text[: size // 2]}",
            tests_passed=True,
            code_attempts=2,
            problem_attempts=1,
        )

    def input(self, number: int = 0) -> State:
        """Return what run *number* starts with."""
        return State(user_prompt=self.state(number)["user_prompt"], topic="arrays", difficulty="hard")

    def compile(
        self, *, asynchronous: bool = False, checkpointer: BaseCheckpointSaver[Any] | None = None
    ) -> CompiledStateGraph[State, None, State, State]:
        """Return the graph; its nodes hand over the state piece by piece, the last ones nothing."""
        state = self.state()
        updates: list[dict[str, Any]] = [
            {"problem_description": state["problem_description"], "problem_attempts": 1},
            {"problem_tests": state["problem_tests"]},
            {"code": state["code"]},
            {"tests_passed": True, "code_attempts": 2},
        ]
        while len(updates) > max(1, self.nodes):
            last = updates.pop()
            updates[-1].update(last)
        builder = StateGraph(State)
        before = START
        for number in range(self.nodes):
            name = f"node_{number}"
            update = updates[number] if number < len(updates) else {"code_attempts": 2}
            builder.add_node(name, partial(_anode if asynchronous else _node, update=update, pause=self.pause))
            builder.add_edge(before, name)
            before = name
        builder.add_edge(before, END)
        return builder.compile(checkpointer=checkpointer)


def _node(_state: State, *, update: dict[str, Any], pause: float) -> dict[str, Any]:
    if pause:
        time.sleep(pause)
    return update


async def _anode(_state: State, *, update: dict[str, Any], pause: float) -> dict[str, Any]:
    if pause:
        await asyncio.sleep(pause)
    return update
