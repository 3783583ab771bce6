"""A fault in the recorder's own handlers: the graph does not notice, it is counted, and its words are not logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langgraph_session_store.callbacks.tracker import Tracker
from langgraph_session_store.testing import BoomError, ProblemState, problem_graph

if TYPE_CHECKING:
    from langgraph_session_store import SessionRecorder
    from langgraph_session_store.store import SessionStore

CASES = [("started", "ok"), ("ended", "ok"), ("failed", "raise"), ("interrupted", "interrupt")]
SECRET = "canary-of-a-value"


@pytest.fixture
def stumbling(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def stumble(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Tracker, request.param, stumble)


def given(behave: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"user_prompt": "sort", "behave": behave}, {"configurable": {"thread_id": "t-1"}}


@pytest.mark.parametrize(("stumbling", "behave"), CASES, indirect=["stumbling"])
@pytest.mark.usefixtures("stumbling")
def test_a_graph_runs_on(recorder: SessionRecorder, caplog: pytest.LogCaptureFixture, behave: str) -> None:
    bare, graph = problem_graph(InMemorySaver()), recorder.attach(problem_graph(InMemorySaver()))
    if behave == "raise":
        with pytest.raises(BoomError):
            graph.invoke(*given(behave))
    else:
        told = graph.invoke(*given(behave))
        told.pop("__interrupt__", None)  # each has an id of its own
        expected = bare.invoke(*given(behave))
        expected.pop("__interrupt__", None)
        assert told == expected
    assert recorder.stats().errors == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("stumbling", "behave"), [*CASES, ("wait", "ok"), ("wait", "raise")], indirect=["stumbling"])
@pytest.mark.usefixtures("stumbling")
async def test_a_graph_on_a_loop_runs_on(
    recorder: SessionRecorder, caplog: pytest.LogCaptureFixture, behave: str
) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver(), asynchronous=True, narrow=True))  # an end that has to ask
    if behave == "raise":
        with pytest.raises(BoomError):
            await graph.ainvoke(*given(behave))
    else:
        assert (await graph.ainvoke(*given(behave)))["log"][0] == "write"
    assert recorder.stats().errors >= 1
    assert SECRET not in caplog.text


class AskedOnce(InMemorySaver):
    """A checkpointer that serves the graph, and is away when the recorder asks."""

    asked = 0

    def get_tuple(self, config: Any) -> Any:
        self.asked += 1
        if self.asked > 1:
            raise OSError(SECRET)
        return super().get_tuple(config)


def test_a_checkpointer_that_cannot_be_asked_costs_only_what_it_knows(
    recorder: SessionRecorder, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.attach(problem_graph(AskedOnce(), narrow=True)).invoke(*given("ok"))
    row = store.get("t-1")
    assert row is not None
    assert (row["workflow_status"], row["user_prompt"], row["code"]) == ("completed", "sort", None)
    assert recorder.stats().errors == 1
    assert SECRET not in caplog.text


def test_what_was_refused_at_the_start_is_explained_at_the_end(recorder: SessionRecorder, store: SessionStore) -> None:
    state, config = given("ok")
    recorder.attach(problem_graph(narrow=True)).invoke({**state, "topic": "t" * 51}, config)
    row = store.get("t-1")
    assert row is not None
    assert (row["workflow_status"], row["topic"]) == ("completed", None)
    assert "50 characters" in row["rejected"]["topic"]["reason"]


class Wordless(Exception):  # noqa: N818 - an error that has none
    """What it says cannot be read."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


def test_an_error_that_cannot_say_what_it_is_has_its_name(recorder: SessionRecorder, store: SessionStore) -> None:
    def fail(_: Any) -> None:
        raise Wordless

    builder = StateGraph(ProblemState)
    builder.add_node("fail", fail)
    builder.add_edge(START, "fail")
    with pytest.raises(Wordless):
        recorder.attach(builder.compile()).invoke(*given("ok"))
    row = store.get("t-1")
    assert row is not None
    assert (row["workflow_status"], row["error"]) == ("failed", "Wordless: (its message could not be read)")
