"""Attaching: every shape in which a graph is used gives one row, and leaves the caller's own callbacks alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import operator
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.context import collect_runs
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from langgraph_session_store import Column, ConfigError, MessagesSession, SessionRecord, SessionRecorder, SessionStore
from langgraph_session_store.callbacks import BoundCallbacks
from langgraph_session_store.testing import BoomError, problem_graph

if TYPE_CHECKING:
    from pathlib import Path

INPUT = {"user_prompt": "sort a list", "topic": "lists"}


def here(thread_id: Any = "t") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}


class Seen(BaseCallbackHandler):
    """A caller's own handler: counts the chain events of whole graphs."""

    run_inline = True

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chain_start(self, *args: Any, name: str | None = None, metadata: Any = None, **kwargs: Any) -> None:
        if "langgraph_node" not in (metadata or {}):
            self.events.append("start")

    def on_chain_end(self, *args: Any, parent_run_id: Any = None, **kwargs: Any) -> None:
        if parent_run_id is None:
            self.events.append("end")


def events_of(recorder: SessionRecorder) -> int:
    assert recorder.flush(120)
    return recorder.stats().accepted


def test_the_class_is_kept(recorder: SessionRecorder) -> None:
    graph = problem_graph()
    assert type(recorder.attach(graph)) is type(graph)


def test_the_graph_itself_is_not_changed(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = problem_graph()
    recorder.attach(graph)
    graph.invoke(INPUT, here())
    assert store.get("t") is None


def test_what_is_added_to_a_copy_of_the_graphs_callbacks_stays_there(recorder: SessionRecorder) -> None:
    bound = recorder.attach(problem_graph()).config["callbacks"]
    before = {name: value.copy() if isinstance(value, (list, dict)) else value for name, value in vars(bound).items()}
    copy = bound.copy()
    assert type(copy) is type(bound)
    assert vars(copy) == before
    copy.add_handler(Seen())
    copy.add_tags(["tag"])
    copy.add_metadata({"key": "value"})
    assert vars(bound) == before


def test_a_copy_of_the_graphs_callbacks_has_what_a_newer_langchain_keeps_there(
    recorder: SessionRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BaseCallbackManager.__init__

    def newer(self: Any, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        self.later, self.kept = ["later"], recorder

    monkeypatch.setattr(BoundCallbacks, "_others", ())
    monkeypatch.setattr(BaseCallbackManager, "__init__", newer)
    bound = recorder.attach(problem_graph()).config["callbacks"]
    copy = bound.copy().copy()
    assert vars(copy) == vars(bound)
    assert copy.kept is recorder
    copy.later.append("added")
    assert bound.later == ["later"]


def test_get_right_after_invoke_sees_the_finished_row(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    for i in range(20):
        graph.invoke(INPUT, here(f"t{i}"))
        row = store.get(f"t{i}")
        assert row is not None
        assert row["workflow_status"] == "completed"


def test_a_run_adds_two_events(recorder: SessionRecorder) -> None:
    recorder.attach(problem_graph()).invoke(INPUT, here())
    assert events_of(recorder) == 2


def test_three_attachments_count_once(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(recorder.attach(problem_graph()))
    graph.invoke(INPUT, {**here(), "callbacks": [recorder, *recorder.callbacks]})
    assert events_of(recorder) == 2
    assert store.count() == 1


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("listed", ["callbacks", "plain list", "manager"])
def test_listed_in_a_config(listed: str, asynchronous: bool, recorder: SessionRecorder, store: SessionStore) -> None:
    seen = Seen()
    callbacks: Any = {
        "callbacks": [*recorder.callbacks, seen],
        "plain list": [recorder, seen],
        "manager": CallbackManager(handlers=[recorder, seen], inheritable_handlers=[]),
    }[listed]
    config = {**here(), "callbacks": callbacks}
    graph = problem_graph()
    asyncio.run(graph.ainvoke(INPUT, config)) if asynchronous else graph.invoke(INPUT, config)
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["code_attempts"]) == ("completed", 1)
    assert events_of(recorder) == 2
    assert seen.events.count("start") >= 1


def test_the_callers_own_callbacks_stay(recorder: SessionRecorder, store: SessionStore) -> None:
    bound, called = Seen(), Seen()
    graph = recorder.attach(problem_graph().with_config(callbacks=[bound]))
    graph.invoke(INPUT, {**here(), "callbacks": [called]})
    assert bound.events == called.events == ["start", "end"]
    assert store.count() == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_tracers_of_the_context_still_see_the_graph(asynchronous: bool, recorder: SessionRecorder) -> None:
    graph = recorder.attach(problem_graph())
    with collect_runs() as runs:
        asyncio.run(graph.ainvoke(INPUT, here())) if asynchronous else graph.invoke(INPUT, here())
    assert [run.name for run in runs.traced_runs] == ["LangGraph"]


def test_survives_with_config_and_copy(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph()).with_config(tags=["x"]).copy({"checkpointer": InMemorySaver()})
    graph.invoke(INPUT, here())
    row = store.get("t")
    assert row is not None
    assert row["metadata"] == {"tags": ["x"]}


def test_no_thread_id_uses_the_runs_own(recorder: SessionRecorder, store: SessionStore) -> None:
    run_id = uuid.uuid4()
    recorder.attach(problem_graph()).invoke(INPUT, {"run_id": run_id})
    assert store.get(str(run_id)) is not None


@pytest.mark.parametrize("thread_id", [7, uuid.UUID(int=5), "x" * 3_000, "a\x00b", "\ud800"], ids=repr)
def test_odd_thread_ids(thread_id: Any, recorder: SessionRecorder, store: SessionStore) -> None:
    recorder.attach(problem_graph()).invoke(INPUT, here(thread_id))
    row = store.get(thread_id)
    assert row is not None
    assert row["workflow_status"] == "completed"
    assert len(store.query()) == 1


class PydanticState(BaseModel):
    user_prompt: str
    topic: str = "lists"
    code: str | None = None


@dataclasses.dataclass
class DataclassState:
    user_prompt: str
    topic: str = "lists"
    code: str | None = None


@pytest.mark.parametrize("state", [PydanticState, DataclassState])
def test_state_classes(state: Any, recorder: SessionRecorder, store: SessionStore) -> None:
    builder = StateGraph(state)
    builder.add_node("write", lambda state: {"code": state.user_prompt.upper()})
    builder.add_edge(START, "write")
    recorder.attach(builder.compile()).invoke(state(user_prompt="sort"), here())
    row = store.get("t")
    assert row is not None
    assert (row["user_prompt"], row["topic"], row["code"]) == ("sort", "lists", "SORT")


def test_entrypoint(recorder: SessionRecorder, store: SessionStore) -> None:
    @task
    def solve(prompt: str) -> str:
        return prompt.upper()

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(inputs: dict[str, str]) -> dict[str, Any]:
        return {"user_prompt": inputs["user_prompt"], "code": solve(inputs["user_prompt"]).result()}

    graph = recorder.attach(workflow)
    assert graph.invoke({"user_prompt": "sort"}, here()) == {"user_prompt": "sort", "code": "SORT"}
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["code"]) == ("completed", "SORT")


@tool
def shout(text: str) -> str:
    """Shout."""
    return text.upper()


class FakeModel(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def test_create_agent_is_a_messages_session(dsn: str, schema: str, tmp_path: Path) -> None:
    agents = pytest.importorskip("langchain.agents")  # asks for a newer langgraph than we do
    calls = [{"name": "shout", "args": {"text": "hi"}, "id": "1"}]
    usage: Any = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    model = FakeModel(
        messages=iter([AIMessage("", tool_calls=calls, usage_metadata=usage), AIMessage("HI!", usage_metadata=usage)])
    )
    with SessionStore(dsn, schema=schema, record=MessagesSession) as store:
        with SessionRecorder(store, spool_dir=tmp_path) as recorder:
            agent = recorder.attach(agents.create_agent(model, [shout], name="shouter"))
            agent.invoke({"messages": [("user", "say hi")]}, here())
        row = store.get("t")
    assert row is not None
    assert {name: row[name] for name in ("user_prompt", "answer", "message_count", "tool_calls", "graph_name")} == {
        "user_prompt": "say hi",
        "answer": "HI!",
        "message_count": 4,
        "tool_calls": 1,
        "graph_name": "shouter",
    }
    assert (row["input_tokens"], row["output_tokens"]) == (6, 4)


class ParentState(TypedDict, total=False):
    user_prompt: str
    topic: str
    code: str
    behave: str
    tests_passed: bool
    code_attempts: int
    log: Annotated[list[str], operator.add]


def nested(child: Any, *, as_call: Any = None) -> Any:
    builder = StateGraph(ParentState)
    if as_call is None:
        builder.add_node("child", child)
    else:

        def call(state: ParentState) -> Any:
            return {"code": child.invoke(INPUT, as_call())["code"]}

        builder.add_node("child", call)
    builder.add_edge(START, "child")
    builder.add_edge("child", END)
    return builder.compile(name="parent")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("attached", ["parent", "both", "child", "listed"])
def test_a_graph_as_a_node_is_one_row(
    attached: str, asynchronous: bool, recorder: SessionRecorder, store: SessionStore
) -> None:
    child = problem_graph(name="child")
    if attached in ("both", "child"):
        child = recorder.attach(child)
    graph = nested(child)
    if attached in ("both", "parent"):
        graph = recorder.attach(graph)
    config: Any = {**here(), "callbacks": recorder.callbacks} if attached == "listed" else here()
    asyncio.run(graph.ainvoke(INPUT, config)) if asynchronous else graph.invoke(INPUT, config)
    row = store.get("t")
    assert row is not None
    assert row["graph_name"] == ("child" if attached == "child" else "parent")
    assert (row["workflow_status"], row["code"]) == ("completed", "def f(): ...")
    assert store.count() == 1
    assert events_of(recorder) == 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_without_a_thread_the_root_runs_id_serves_its_children_too(
    asynchronous: bool, recorder: SessionRecorder, store: SessionStore
) -> None:
    child = recorder.attach(problem_graph(name="child"))
    for parent in (nested(child), nested(child, as_call=dict)):
        graph = recorder.attach(parent)
        asyncio.run(graph.ainvoke(INPUT)) if asynchronous else graph.invoke(INPUT)
    assert [row["graph_name"] for row in store.query()] == ["parent", "parent"]


def test_a_child_stays_part_of_a_run_whose_thread_another_run_used(
    recorder: SessionRecorder, store: SessionStore
) -> None:
    child = recorder.attach(problem_graph(name="child"))

    with ThreadPoolExecutor() as pool:  # a context of its own: the other run is no child

        def other() -> dict[str, Any]:
            pool.submit(recorder.attach(problem_graph()).invoke, INPUT, here()).result()
            return {}

        graph = recorder.attach(nested(child, as_call=other))
        graph.invoke(INPUT, here())
    assert events_of(recorder) == 4
    row = store.get("t")
    assert row is not None
    assert row["graph_name"] == "parent"


def test_a_child_with_a_thread_of_its_own_has_its_own_row(recorder: SessionRecorder, store: SessionStore) -> None:
    child = recorder.attach(problem_graph())
    graph = recorder.attach(nested(child, as_call=lambda: recorder.config(here("child"))))
    graph.invoke(INPUT, here("parent"))
    assert {row["thread_id"]: row["workflow_status"] for row in store.query()} == {
        "child": "completed",
        "parent": "completed",
    }


def test_in_a_tool_and_as_an_lcel_step(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())

    @tool
    def solve(prompt: str) -> str:
        """Solve."""
        return str(graph.invoke({"user_prompt": prompt}, here("tool"))["code"])

    solve.invoke("sort")
    (RunnableLambda(lambda prompt: {"user_prompt": prompt}) | graph).invoke("sort", here("lcel"))
    assert {row["thread_id"] for row in store.query()} == {"tool", "lcel"}


def test_listed_in_lcel_records_the_graph_only(recorder: SessionRecorder, store: SessionStore) -> None:
    chain = (
        RunnableLambda(lambda prompt: {"user_prompt": prompt}) | problem_graph() | RunnableLambda(lambda s: s["code"])
    )
    assert chain.invoke("sort", {**here(), "callbacks": [recorder]}) == "def f(): ..."
    assert [row["graph_name"] for row in store.query()] == ["LangGraph"]
    assert events_of(recorder) == 2


def test_with_retry_ends_completed(recorder: SessionRecorder, store: SessionStore) -> None:
    attempts: list[int] = []

    def flaky(state: Any) -> Any:
        attempts.append(1)
        if len(attempts) < 3:
            raise BoomError
        return {"code": "ok"}

    builder = StateGraph(ParentState)
    builder.add_node("flaky", flaky)
    builder.add_edge(START, "flaky")
    recorder.attach(builder.compile()).with_retry(wait_exponential_jitter=False).invoke(INPUT, here())
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["error"], row["code"]) == ("completed", None, "ok")


def test_resumed_by_another_process(recorder: SessionRecorder, store: SessionStore, tmp_path: Path) -> None:
    saver = InMemorySaver()
    recorder.attach(problem_graph(saver, interrupt_before=["check"])).invoke(INPUT, here())
    with SessionRecorder(store, spool_dir=tmp_path / "other") as other:
        other.attach(problem_graph(saver)).invoke(None, here())
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["user_prompt"], row["tests_passed"]) == ("completed", "sort a list", True)


def test_a_stream_never_closed_ends_when_its_thread_runs_again(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    forgotten = graph.stream(INPUT, here(), stream_mode="updates")
    next(forgotten)
    graph.invoke({**INPUT, "topic": "graphs"}, here())
    del forgotten
    gc.collect()
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["topic"]) == ("completed", "graphs")


async def test_a_synchronous_call_inside_a_coroutine(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver(), narrow=True))
    graph.invoke(INPUT, here())
    row = await asyncio.to_thread(store.get, "t")
    assert row is not None
    assert (row["workflow_status"], row["code"]) == ("completed", "def f(): ...")


@pytest.mark.parametrize("extra", ["attached twice", "beside a manager"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_end_is_lost_when_merging_shuffles_handlers(
    extra: str, asynchronous: bool, recorder: SessionRecorder, store: SessionStore
) -> None:
    graph = recorder.attach(problem_graph(InMemorySaver(), narrow=True))
    if extra == "attached twice":
        graph = recorder.attach(graph)
    for i in range(20):
        config: Any = here(f"t{i}")
        if extra == "beside a manager":
            config["callbacks"] = CallbackManager(handlers=[Seen()], inheritable_handlers=[])
        asyncio.run(graph.ainvoke(INPUT, config)) if asynchronous else graph.invoke(INPUT, config)
    rows = store.query(limit=100)
    assert [(row["workflow_status"], row["code"]) for row in rows] == [("completed", "def f(): ...")] * 20


async def test_a_cancel_while_the_end_is_delivered_stays_completed(
    recorder: SessionRecorder, store: SessionStore
) -> None:
    class Slow(BaseCallbackHandler):
        async def on_chain_end(self, *args: Any, parent_run_id: Any = None, **kwargs: Any) -> None:
            if parent_run_id is None:
                await asyncio.Event().wait()  # until it is cancelled

    graph = recorder.attach(problem_graph())
    run = asyncio.ensure_future(graph.ainvoke(INPUT, {**here(), "callbacks": [Slow()]}))
    while not recorder.stats().accepted >= 2:  # noqa: ASYNC110 - the end has been seen, its delivery goes on
        await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    row = await asyncio.to_thread(store.get, "t")
    assert row is not None
    assert row["workflow_status"] == "completed"


async def test_a_task_cancelled_at_any_step_leaves_no_run_behind(
    recorder: SessionRecorder, store: SessionStore
) -> None:
    graph = recorder.attach(problem_graph(asynchronous=True))
    for steps in range(12):
        task = asyncio.create_task(graph.ainvoke(INPUT, here(f"t{steps}")))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert events_of(recorder) > 0
    assert {row["workflow_status"] for row in store.query()} <= {"cancelled", "completed"}


async def test_no_end_is_lost_when_very_many_wait_at_once(recorder: SessionRecorder, store: SessionStore) -> None:
    runs, reached, go = 1_100, 0, asyncio.Event()

    async def meet(state: ParentState) -> dict[str, Any]:
        nonlocal reached
        reached += 1
        if reached == runs:
            go.set()
        await go.wait()
        return {"code": "x"}

    class Nothing(TypedDict, total=False):
        log: list[str]

    builder = StateGraph(ParentState, output_schema=Nothing)
    builder.add_node("meet", meet)
    builder.add_edge(START, "meet")
    graph = recorder.attach(builder.compile(checkpointer=InMemorySaver()))
    await asyncio.gather(*(graph.ainvoke(INPUT, here(f"t{i}")) for i in range(runs)))
    assert recorder.flush(120)
    assert store.count(code="x") == runs


class Halves(SessionRecord):
    shown: Annotated[int | None, Column(lambda state: state["shown"])] = None
    hidden: Annotated[int | None, Column(lambda state: state["hidden"])] = None


def test_one_callable_finds_nothing_in_a_narrow_output(dsn: str, schema: str, tmp_path: Path) -> None:
    class State(TypedDict, total=False):
        shown: int
        hidden: int

    class Narrow(TypedDict, total=False):
        shown: int

    builder = StateGraph(State, output_schema=Narrow)
    builder.add_node("n", lambda state: {"shown": 1, "hidden": 2})
    builder.add_edge(START, "n")
    with (
        SessionStore(dsn, schema=schema, record=Halves) as store,
        SessionRecorder(store, spool_dir=tmp_path) as recorder,
    ):
        recorder.attach(builder.compile(checkpointer=InMemorySaver())).invoke({"shown": 0}, here())
        row = store.get("t")
    assert row is not None
    assert (row["shown"], row["hidden"]) == (1, 2)


class Stopped(InMemorySaver):
    """A checkpointer that waits until the user loses patience."""

    failed = False

    def get_tuple(self, config: Any) -> Any:
        if self.failed:
            raise KeyboardInterrupt
        return super().get_tuple(config)


def test_ctrl_c_while_the_checkpointer_is_asked(recorder: SessionRecorder, store: SessionStore) -> None:
    saver = Stopped()

    def boom(state: ParentState) -> None:
        saver.failed = True
        raise BoomError

    builder = StateGraph(ParentState)
    builder.add_node("boom", boom)
    builder.add_edge(START, "boom")
    with pytest.raises(KeyboardInterrupt):
        recorder.attach(builder.compile(checkpointer=saver)).invoke(INPUT, here())
    row = store.get("t")
    assert row is not None
    assert (row["workflow_status"], row["error"]) == ("failed", "BoomError")


def test_eight_threads(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())

    def work(worker: int) -> None:
        for i in range(10):
            graph.invoke({**INPUT, "topic": f"w{worker}"}, here(f"{worker}-{i}"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = store.query(limit=200)
    assert {row["thread_id"]: row["topic"] for row in rows} == {
        f"{n}-{i}": f"w{n}" for n in range(8) for i in range(10)
    }


def test_what_cannot_be_attached(recorder: SessionRecorder) -> None:
    not_compiled: Any = StateGraph(ParentState)
    with pytest.raises(ConfigError, match="compile"):
        recorder.attach(not_compiled)


def test_disabled(monkeypatch: pytest.MonkeyPatch, store: SessionStore, tmp_path: Path) -> None:
    monkeypatch.setenv("SESSION_STORE_DISABLED", "1")
    recorder = SessionRecorder(store, spool_dir=tmp_path)
    graph = problem_graph()
    assert recorder.attach(graph) is graph
    graph.invoke(INPUT, {**here(), "callbacks": [recorder]})
    assert recorder.stats().accepted == 0
    assert not list(tmp_path.iterdir())


def test_user_tags_and_metadata(store: SessionStore, tmp_path: Path) -> None:
    with SessionRecorder(store, spool_dir=tmp_path, user_id="default") as recorder:
        graph = recorder.attach(problem_graph())
        graph.invoke(INPUT, {**here("a"), "metadata": {"user_id": "ann", "plan": 3, "api_key": "sk-1"}, "tags": ["x"]})
        graph.invoke(INPUT, here("b"))
    a, b = store.get("a"), store.get("b")
    assert a is not None
    assert b is not None
    assert (a["user_id"], b["user_id"]) == ("ann", "default")
    assert a["metadata"]["plan"] == 3
    assert a["metadata"]["tags"] == ["x"]
    assert "sk-1" not in str(a["metadata"])


def test_what_the_caller_says_of_a_run_is_made_storable(recorder: SessionRecorder, store: SessionStore) -> None:
    metadata = {"user_id": "ada\x00\ud800", "big": 10**400}
    recorder.attach(problem_graph()).invoke(INPUT, {**here(), "run_name": "a\x00b", "metadata": metadata})
    row = store.get("t")
    assert row is not None
    assert (row["user_id"], row["graph_name"]) == ("ada\ufffd\ufffd", "a\ufffdb")
    assert row["metadata"]["big"] == 10**400
    assert recorder.stats().quarantined == recorder.stats().errors == 0


def test_a_config_whose_parts_are_none(recorder: SessionRecorder) -> None:
    config: Any = {"metadata": None, "configurable": None, "tags": None}
    assert recorder.config(config) == {**config, "metadata": {}}


def test_an_error_is_kept_without_its_secrets(recorder: SessionRecorder, store: SessionStore) -> None:
    def fail(state: Any) -> Any:
        raise BoomError("login to postgresql://me:hunter2@db failed" + "!" * 5_000)

    builder = StateGraph(ParentState)
    builder.add_node("fail", fail)
    builder.add_edge(START, "fail")
    with pytest.raises(BoomError):
        recorder.attach(builder.compile()).invoke(INPUT, here())
    row = store.get("t")
    assert row is not None
    assert row["error"].startswith("BoomError: login to")
    assert "hunter2" not in row["error"]
    assert len(row["error"]) <= 2_000


async def test_a_checkpointer_that_comes_later_leaves_nothing_of_the_runs_in_memory(recorder: SessionRecorder) -> None:
    class Out(TypedDict):
        code: str

    builder = StateGraph(ParentState, output_schema=Out)
    builder.add_node("write", lambda state: {"code": "x"})
    builder.add_edge(START, "write")
    given = builder.compile()
    graph = recorder.attach(given)
    given.checkpointer = graph.checkpointer = InMemorySaver()
    for thread in ("a", "b"):
        await graph.ainvoke(INPUT, here(thread))
    assert events_of(recorder) == 4
    assert recorder._tracker._waiting == {}
