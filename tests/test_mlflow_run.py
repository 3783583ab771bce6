"""The MLflow run of a row is the caller's, in every shape of call, with a real local MLflow."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypedDict

import mlflow
import pytest
from langgraph.graph import START, StateGraph

from langgraph_session_store import SessionRecorder, SessionStore, mlflow_run
from langgraph_session_store.testing import problem_graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INPUT = {"user_prompt": "sort a list", "topic": "lists"}


def here(thread_id: str = "t", **metadata: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}, "metadata": metadata}


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of an MLflow store; making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    return uri


@pytest.fixture(autouse=True)
def experiment(tracking: str) -> Iterator[None]:
    mlflow.set_tracking_uri(tracking)
    mlflow.set_experiment("tests")
    yield
    while mlflow.active_run():
        mlflow.end_run()


def run_of(store: SessionStore, thread_id: str = "t") -> Any:
    row = store.get(thread_id)
    assert row is not None
    return row["run_id"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_active_run(asynchronous: bool, recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    with mlflow.start_run() as run:
        asyncio.run(graph.ainvoke(INPUT, here())) if asynchronous else graph.invoke(INPUT, here())
    assert run_of(store) == run.info.run_id


def test_the_environment_is_asked_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    assert mlflow_run.resolve({}) is None
    monkeypatch.setenv("MLFLOW_RUN_ID", "one")
    assert mlflow_run.resolve({}) == "one"
    monkeypatch.setitem(os.environ, "MLFLOW_RUN_ID", "two")
    assert mlflow_run.resolve({}) == "two"
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert mlflow_run.resolve({}) is None
    monkeypatch.setattr(os, "environ", {"MLFLOW_RUN_ID": "three"})
    assert mlflow_run.resolve({}) == "three"


def test_a_nested_run_is_the_innermost(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    with mlflow.start_run() as outer:
        with mlflow.start_run(nested=True) as inner:
            graph.invoke(INPUT, here("inner"))
        graph.invoke(INPUT, here("outer"))
    assert run_of(store, "inner") == inner.info.run_id
    assert run_of(store, "outer") == outer.info.run_id


def test_each_thread_has_its_own(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    client = mlflow.MlflowClient()
    experiment = mlflow.get_experiment_by_name("tests").experiment_id
    ids = {f"t{i}": client.create_run(experiment).info.run_id for i in range(4)}
    together = threading.Barrier(4)

    def work(thread_id: str) -> None:
        with mlflow.start_run(run_id=ids[thread_id]):
            together.wait()
            graph.invoke(INPUT, here(thread_id))
            together.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ids))
    assert {thread_id: run_of(store, thread_id) for thread_id in ids} == ids


def test_a_run_that_ended_before_the_graph(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    with mlflow.start_run() as run:
        chunks = graph.stream(INPUT, here())
        next(chunks)
    list(chunks)
    assert run_of(store) == run.info.run_id


def test_a_run_that_a_node_opens(recorder: SessionRecorder, store: SessionStore) -> None:
    class State(TypedDict, total=False):
        user_prompt: str
        code: str

    builder = StateGraph(State)
    builder.add_node("open", lambda state: {"code": mlflow.start_run().info.run_id})
    builder.add_edge(START, "open")
    recorder.attach(builder.compile()).invoke({"user_prompt": "x"}, here())
    row = store.get("t")
    assert row is not None
    assert row["run_id"] == row["code"]


async def test_two_tasks_with_explicit_metadata(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph(asynchronous=True))
    runs = {f"t{i}": f"run-{i}" for i in range(40)}
    await asyncio.gather(*(graph.ainvoke(INPUT, here(t, mlflow_run_id=r)) for t, r in runs.items()))
    rows = await asyncio.to_thread(store.query, limit=100)
    assert {row["thread_id"]: row["run_id"] for row in rows} == runs


def test_batch_through_config(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    with mlflow.start_run() as run:
        graph.batch([INPUT] * 3, [recorder.config(here(f"t{i}")) for i in range(3)])
    assert {row["run_id"] for row in store.query()} == {run.info.run_id}


def test_a_stream_drained_in_another_thread(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    with mlflow.start_run() as run, ThreadPoolExecutor(1) as pool:
        pool.submit(list, graph.stream(INPUT, recorder.config(here()))).result()
    assert run_of(store) == run.info.run_id


def test_an_unknown_run_never_erases_a_known_one(recorder: SessionRecorder, store: SessionStore) -> None:
    graph = recorder.attach(problem_graph())
    graph.invoke(INPUT, here(mlflow_run_id="known"))
    graph.invoke(INPUT, here())
    assert run_of(store) == "known"


def test_the_recorders_own(store: SessionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "from-the-environment")
    with SessionRecorder(store, spool_dir=tmp_path, run_id=lambda: "from-the-recorder") as recorder:
        recorder.attach(problem_graph()).invoke(INPUT, here("a"))
    with SessionRecorder(store, spool_dir=tmp_path) as recorder:
        recorder.attach(problem_graph()).invoke(INPUT, here("b"))
    assert run_of(store, "a") == "from-the-recorder"
    assert run_of(store, "b") == "from-the-environment"


def test_linked_after_the_graph_ended(recorder: SessionRecorder, store: SessionStore) -> None:
    recorder.attach(problem_graph()).invoke(INPUT, here())
    with mlflow.start_run() as run:
        assert store.link_run("t", run.info.run_id)
    assert run_of(store) == run.info.run_id
    assert not store.link_run("nobody", run.info.run_id)


def test_autolog_makes_one_trace_a_run_and_the_row_knows_it(recorder: SessionRecorder, store: SessionStore) -> None:
    pytest.importorskip("langchain")  # autolog wants it
    mlflow.langchain.autolog()
    try:
        graph = recorder.attach(recorder.attach(problem_graph()))
        for i in range(2):
            graph.invoke(INPUT, here(f"t{i}"))
        mlflow.flush_trace_async_logging()
        traces = mlflow.search_traces(return_type="list")
        by_thread = {trace.info.trace_metadata["mlflow.trace.session"]: trace for trace in traces}
        assert sorted(by_thread) == ["t0", "t1"]
        for thread_id, trace in by_thread.items():
            assert [span.name for span in trace.data.spans].count("LangGraph") == 1
            row = store.get(thread_id)
            assert row is not None
            assert row["trace_id"] == trace.info.trace_id
    finally:
        mlflow.langchain.autolog(disable=True)


@pytest.mark.parametrize("module", [None, types.ModuleType("mlflow"), types.SimpleNamespace(active_run=lambda: 1 / 0)])
def test_absent_half_imported_or_broken(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if module is None:
        monkeypatch.delitem(sys.modules, "mlflow.tracking.fluent")
        monkeypatch.delitem(sys.modules, "mlflow.tracing.fluent")
    else:
        monkeypatch.setitem(sys.modules, "mlflow.tracking.fluent", module)
        monkeypatch.setitem(sys.modules, "mlflow.tracing.fluent", module)
    assert mlflow_run.resolve({}) is None
    assert mlflow_run.active_trace_id() is None


@pytest.mark.parametrize("run_id", ["", "a b", "../x", 7, "x" * 300, None])
def test_what_is_no_run_id(run_id: Any) -> None:
    assert mlflow_run.resolve({"mlflow_run_id": run_id}) is None


def test_importing_loads_neither_mlflow_nor_pandas_nor_fastapi() -> None:
    program = (
        "import sys, langgraph_session_store; "
        "print([m for m in ('mlflow', 'pandas', 'fastapi', 'pyarrow', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
