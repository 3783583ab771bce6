"""What a run tried on the way, from its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_session_store import attempts
from langgraph_session_store.testing import problem_graph

if TYPE_CHECKING:
    from langgraph_session_store import SessionRecorder, SessionStore


def test_each_attempt_once_where_history_has_the_end_only(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver()))
    config: Any = {"configurable": {"thread_id": "t"}, "metadata": {"mlflow_run_id": "run"}}
    graph.invoke({"user_prompt": "sort"}, config)
    graph.invoke({"user_prompt": "sort again"}, config)
    tried = attempts(graph, "t")
    assert [attempt.values for attempt in tried] == [
        {"code": "def f(): ...", "tests_passed": True},
        {"code": "def f(): ..."},
    ]
    assert [attempt.changes for attempt in tried] == [{"tests_passed": (None, True)}, {"code": (None, "def f(): ...")}]
    assert {attempt.run_id for attempt in tried} == {"run"}
    assert [version.values["tests_passed"] for version in store.versions("t")] == [True]


def test_without_a_checkpointer() -> None:
    with pytest.raises(ValueError, match="checkpointer"):
        attempts(problem_graph(), "t")
