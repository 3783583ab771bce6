"""The agent's graph: plan, write, test, and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from .problems import Problem, classify
from .sandbox import run_tests

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from .authors import Author

CODE_ATTEMPTS = 3
"""Solutions that the agent writes before it plans the problem anew."""

PROBLEM_ATTEMPTS = 2
"""Plans that it makes before it gives up."""


class ProblemState(TypedDict, total=False):
    """What the agent knows; it starts with the user's prompt alone."""

    user_prompt: str
    topic: str
    difficulty: str
    problem: Problem
    code: str
    tests_passed: bool
    code_attempts: int
    problem_attempts: int
    feedback: str


def build_graph(
    author: Author, checkpointer: BaseCheckpointSaver[Any] | None = None
) -> CompiledStateGraph[ProblemState, None, ProblemState, ProblemState]:
    """Compile the graph that solves problems with the help of *author*."""

    def plan(state: ProblemState) -> ProblemState:
        prompt = state["user_prompt"]
        topic, difficulty = classify(prompt)
        return {
            "topic": topic,
            "difficulty": difficulty,
            "problem": author.plan(prompt, state.get("feedback", "")),
            "problem_attempts": state.get("problem_attempts", 0) + 1,
            "feedback": "",
        }

    def write(state: ProblemState) -> ProblemState:
        attempt = state.get("code_attempts", 0) + 1
        return {
            "code": author.write(state["problem"], attempt, state.get("feedback", "")),
            "code_attempts": attempt,
        }

    def test(state: ProblemState) -> ProblemState:
        report = run_tests(state["problem"], state["code"])
        return {"tests_passed": report.passed, "feedback": "\n".join(report.failures)}

    graph = StateGraph(ProblemState)
    graph.add_node("plan", plan)
    graph.add_node("write", write)
    graph.add_node("test", test)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    graph.add_edge("write", "test")
    graph.add_conditional_edges("test", _next_step, ["write", "plan", END])
    return graph.compile(checkpointer=checkpointer, name="problem_agent")


def _next_step(state: ProblemState) -> str:
    if state["tests_passed"]:
        return END
    if state["code_attempts"] < CODE_ATTEMPTS * state["problem_attempts"]:
        return "write"
    return "plan" if state["problem_attempts"] < PROBLEM_ATTEMPTS else END
