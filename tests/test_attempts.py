"""What a run tried on the way, from its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from langgraph_session_store import Column, SessionRecord, attempts
from langgraph_session_store.testing import problem_graph

if TYPE_CHECKING:
    from langgraph_session_store import SessionRecorder, SessionStore

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    problem: dict[str, Any]
    code: str
    tests_passed: bool
    code_attempts: int
    at: int


def scripted(*steps: dict[str, Any]) -> Any:
    """A graph whose steps write *steps*, one after the other."""

    def step(state: State) -> dict[str, Any]:
        at = state.get("at", 0)
        return {**steps[at], "at": at + 1}

    graph = StateGraph(State)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["at"] >= len(steps) else "step", ["step", END])
    return graph.compile(checkpointer=InMemorySaver())


def tried(inputs: dict[str, Any], *steps: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
    """Run *steps*, and return problem, code and outcome of each attempt, oldest first."""
    graph = scripted(*steps)
    graph.invoke({"at": 0, **inputs}, CONFIG)
    found = attempts(graph, "t")
    assert [attempt.version for attempt in found] == list(range(len(found), 0, -1))
    names = ("problem_description", "code", "tests_passed")
    return [tuple(attempt.values.get(name) for name in names) for attempt in reversed(found)]


def plan(text: str, **more: Any) -> dict[str, Any]:
    return {"problem": {"description": text, "tests": ["assert f()"]}, **more}


def write(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, **more}


FAIL, PASS = {"tests_passed": False}, {"tests_passed": True}
ALL_SIX = [plan("p"), *[write("a"), FAIL] * 3, plan("q"), *[write("b"), FAIL] * 2, write("c"), PASS]
SIX_TOLD = [("p", "a", False)] * 3 + [("q", "b", False)] * 2 + [("q", "c", True)]


def test_each_attempt_is_a_line_also_with_the_same_code_and_has_its_own_outcome():
    assert tried({}, *ALL_SIX) == SIX_TOLD
    assert tried({}, plan("p"), write("a"), FAIL, write("b")) == [("p", "a", False), ("p", "b", None)]
    assert tried({}, plan("p"), write("a"), FAIL, plan("p")) == [("p", "a", False), ("p", None, None)]
    assert tried({}, plan("p"), plan("q"), write("a"), PASS) == [("p", None, None), ("q", "a", True)]
    assert tried({}, write("a", **FAIL), write("a", **FAIL)) == [(None, "a", False)] * 2
    assert tried({}, plan("p"), write("a"), FAIL, plan("q"), PASS) == [("p", "a", False), ("q", "a", True)]


@pytest.mark.parametrize("defaults", [{"code": "", **FAIL}, FAIL, {"code": "", "problem": {}, **FAIL}])
def test_what_a_state_begins_with_is_no_attempt(defaults):
    assert tried(defaults, *ALL_SIX) == tried({}, defaults, *ALL_SIX) == SIX_TOLD
    assert tried({}, plan("p", **defaults) | plan("p"), *ALL_SIX[1:]) == SIX_TOLD


def test_a_step_that_starts_over_may_reset_what_follows():
    again = [plan("q", code="", **FAIL), write("b"), PASS]
    assert tried({}, plan("p"), write("a"), FAIL, *again) == [("p", "a", False), ("q", "b", True)]
    assert tried({}, plan("p"), write("a"), FAIL, write("", **FAIL), *again)[-1] == ("q", "b", True)


def test_what_came_in_counts_where_it_says_something():
    assert tried(plan("p"), write("a"), FAIL, write("a"), PASS) == [("p", "a", False), ("p", "a", True)]
    assert tried(FAIL, FAIL) == []
    graph = scripted(plan("p"), write("a"), FAIL)
    graph.invoke({"at": 0, "code": ""}, CONFIG)
    graph.invoke({"at": 0, "code": "", **FAIL}, CONFIG)
    assert [attempt.values["tests_passed"] for attempt in attempts(graph, "t")] == [False, False]
    graph.update_state(CONFIG, {"code": "by hand"})
    assert [attempt.values["code"] for attempt in attempts(graph, "t")] == ["by hand", "a", "a"]


def test_a_thread_that_is_taken_up_in_its_past():
    graph = scripted(*ALL_SIX[:3], write("a"), PASS)
    graph.invoke({"at": 0}, CONFIG)
    past = next(state.config for state in graph.get_state_history(CONFIG) if state.values.get("at") == 3)
    branch = graph.update_state(past, {"at": 3})
    assert [attempt.values["tests_passed"] for attempt in attempts(graph, "t")] == [True, False]
    graph.invoke(None, branch)
    assert [attempt.values["tests_passed"] for attempt in attempts(graph, "t")] == [True, True, False]


def test_fields_from_a_part_of_a_channel():
    class First(SessionRecord, table="firsts"):
        """The first of what is collected: a step that adds to it writes nothing anew."""

        first: Annotated[str | None, Column("log.0", versioned=True)] = None
        passed: Annotated[bool, Column("tests_passed", versioned=True)] = True

    graph = problem_graph(InMemorySaver())
    graph.invoke({}, CONFIG)
    assert [attempt.values for attempt in attempts(graph, "t", record=First)] == [{"first": "write", "passed": True}]


def test_each_attempt_once_where_history_has_the_end_only(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver()))
    config: Any = {**CONFIG, "metadata": {"mlflow_run_id": "run"}}
    graph.invoke({"user_prompt": "sort"}, config)
    graph.invoke({"user_prompt": "sort again"}, config)
    found = attempts(graph, "t")
    assert [attempt.values for attempt in found] == [{"code": "def f(): ...", "tests_passed": True}] * 2
    assert [attempt.changes for attempt in found] == [
        {},
        {"code": (None, "def f(): ..."), "tests_passed": (None, True)},
    ]
    assert {attempt.run_id for attempt in found} == {"run"}
    assert [version.values["tests_passed"] for version in store.versions("t")] == [True]


def test_without_a_checkpointer() -> None:
    with pytest.raises(ValueError, match="checkpointer"):
        attempts(problem_graph(), "t")
