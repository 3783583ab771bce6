"""Whatever a user could attach to a graph, each as published and set up as its own documentation says."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from agent import State, Workload
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager

from langgraph_session_store import SessionRecorder, SessionStore

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from langgraph_session_store.writer import Durability

DURABILITIES: tuple[Durability, ...] = ("memory", "spool", "fsync", "sync")
SAVER_DURABILITIES = ("exit", "async", "sync")


@dataclass(frozen=True)
class Setting:
    """Where the candidates send things to, a database and a server that discards, and the graph that they watch."""

    dsn: str
    url: str
    workload: Workload

    def graph(self, mode: str, checkpointer: Any = None) -> Any:
        """Return the compiled graph for *mode*, sync or async."""
        return self.workload.compile(asynchronous=mode == "async", checkpointer=checkpointer)

    def dumps(self) -> str:
        """Return the setting as text."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Setting:
        """Return the setting that `dumps` wrote."""
        raw = json.loads(text)
        return cls(raw["dsn"], raw["url"], Workload(**raw["workload"]))


@dataclass
class Candidate:
    """A graph with something attached: *config* and *options* go into each call, *flush* ends what a run left to the background.

    *after* (in async turns *aafter*) is called after each run with its result; *active* surrounds each block.
    """

    name: str
    graph: Any
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    flush: Callable[[], object] = lambda: None
    after: Callable[[str, State], object] | None = None
    aafter: Callable[[str, State], Awaitable[object]] | None = None
    active: Callable[[], AbstractContextManager[object]] = nullcontext

    def invoke(self, state: State, thread_id: str) -> None:
        """Run the graph once."""
        result = self.graph.invoke(state, {"configurable": {"thread_id": thread_id}, **self.config}, **self.options)
        if self.after:
            self.after(thread_id, result)

    async def ainvoke(self, state: State, thread_id: str) -> None:
        """Run the graph once."""
        config = {"configurable": {"thread_id": thread_id}, **self.config}
        result = await self.graph.ainvoke(state, config, **self.options)
        if self.aafter:
            await self.aafter(thread_id, result)


class Nothing(BaseCallbackHandler):
    """Takes the same two events as ours and does nothing."""

    def __init__(self, *, inline: bool) -> None:
        self.run_inline = inline

    def on_chain_start(self, *args: Any, **more: Any) -> None:
        """Do nothing."""

    def on_chain_end(self, *args: Any, **more: Any) -> None:
        """Do nothing."""


class Written(Nothing):
    """Puts each start and end on the local disk as bare JSON: what nothing that loses no run can do without."""

    def __init__(self) -> None:
        super().__init__(inline=True)
        self._file = os.open(tempfile.mkstemp(prefix="lgss-")[1], os.O_WRONLY | os.O_APPEND)

    def on_chain_start(self, _serialized: Any, inputs: Any, **_more: Any) -> None:
        """Write what the run starts with."""
        os.write(self._file, orjson.dumps(inputs))

    def on_chain_end(self, outputs: Any, **_more: Any) -> None:
        """Write what the run ends with."""
        os.write(self._file, orjson.dumps(outputs))


def nothing(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield handlers that do nothing: the floor of everything that is a callback."""
    graph = setting.graph(mode)
    root = CallbackManager(handlers=[Nothing(inline=True)])
    yield Candidate("nothing, root only, inline", graph.with_config(callbacks=root))
    yield Candidate("nothing, listed, inline", graph, {"callbacks": [Nothing(inline=True)]})
    yield Candidate("nothing, listed", graph, {"callbacks": [Nothing(inline=False)]})


def written(setting: Setting, mode: str) -> Candidate:
    """Return the limit of what loses no run."""
    root = CallbackManager(handlers=[Written()])
    return Candidate("JSON in a file, root only", setting.graph(mode).with_config(callbacks=root))


def ours(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield the floor, the limit of what is durable, and the recorder in each durability mode."""
    yield next(nothing(setting, mode, None))
    yield written(setting, mode)
    for durability in DURABILITIES:
        yield recorded(setting, mode, durability)


def recorded(setting: Setting, mode: str, durability: Durability = "spool") -> Candidate:
    """Return the graph with a recorder of its own."""
    store = SessionStore(setting.dsn, schema=f"{mode}_{durability}")
    recorder = SessionRecorder(store, durability=durability, spool_dir=tempfile.mkdtemp(prefix="lgss-"))
    return Candidate(durability, recorder.attach(setting.graph(mode)), flush=partial(_flush, recorder))


def spool(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield the recorder as it is by default."""
    yield recorded(setting, mode)


def _flush(recorder: SessionRecorder) -> None:
    assert recorder.flush(60).flushed, recorder.stats()


FIRST_VERSION = """
CREATE TABLE IF NOT EXISTS first_version (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), created_at timestamp DEFAULT now(),
    thread_id varchar(255) UNIQUE NOT NULL, workflow_status varchar(20), user_prompt text, topic varchar(50), difficulty varchar(20),
    problem_description text, problem_tests jsonb, code text, tests_passed boolean, code_attempts integer, problem_attempts integer)
"""
FIELDS = tuple(State.__annotations__)
INSERT = (
    f"INSERT INTO first_version (thread_id, workflow_status, {', '.join(FIELDS)}) VALUES (%s, 'completed'{', %s' * len(FIELDS)})"
    " ON CONFLICT (thread_id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in FIELDS)
)


def values(thread_id: str, state: State) -> list[Any]:
    """Return the parameters of `INSERT`."""
    return [thread_id, *(json.dumps(value) if isinstance(value, list) else value for value in map(state.get, FIELDS))]


def postgres(setting: Setting, mode: str, loop: asyncio.AbstractEventLoop) -> Iterator[Candidate]:
    """Yield what writes to Postgres while the run waits: a connection per run, and the checkpointer in its three modes."""

    def after(thread_id: str, state: State) -> None:
        with psycopg.connect(setting.dsn) as connection:
            connection.execute(INSERT, values(thread_id, state))

    async def aafter(thread_id: str, state: State) -> None:
        async with await psycopg.AsyncConnection.connect(setting.dsn) as connection:
            await connection.execute(INSERT, values(thread_id, state))

    with psycopg.connect(setting.dsn) as connection:
        connection.execute(FIRST_VERSION)
    yield Candidate("connect and INSERT per run", setting.graph(mode), after=after, aafter=aafter)
    saver = loop.run_until_complete(_async_saver(setting.dsn)) if mode == "async" else _saver(setting.dsn)
    for durability in SAVER_DURABILITIES:
        yield Candidate(f"PostgresSaver, {durability}", setting.graph(mode, saver), options={"durability": durability})


def _saver(dsn: str) -> Any:
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg.rows import dict_row

    connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0, row_factory=dict_row)
    saver = PostgresSaver(connection)
    saver.setup()
    return saver


async def _async_saver(dsn: str) -> Any:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row

    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=0, row_factory=dict_row)
    saver = AsyncPostgresSaver(connection)
    await saver.setup()
    return saver


def langfuse(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield Langfuse's handler."""
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    client = Langfuse(public_key="pk-lf-bench", secret_key="sk-lf-bench", base_url=setting.url)  # noqa: S106
    yield Candidate("handler", setting.graph(mode), {"callbacks": [CallbackHandler()]}, flush=client.flush)


def langsmith(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield LangSmith's tracer."""
    from langchain_core.tracers import LangChainTracer
    from langsmith import Client

    client = Client(api_url=setting.url, api_key="bench")
    tracer = LangChainTracer(client=client, project_name="bench")
    yield Candidate("tracer", setting.graph(mode), {"callbacks": [tracer]}, flush=client.flush)


def openinference(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield OpenInference's instrumentation, which patches every callback manager while it is active."""
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(setting.url + "/v1/traces")))

    @contextlib.contextmanager
    def active() -> Iterator[None]:
        LangChainInstrumentor().instrument(tracer_provider=provider)
        yield
        LangChainInstrumentor().uninstrument()

    yield Candidate("instrumentation", setting.graph(mode), flush=provider.force_flush, active=active)


def mlflow(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield MLflow's autolog with the store that it has by default, an SQLite file."""
    import mlflow as library

    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    library.set_tracking_uri(f"sqlite:///{tempfile.mkdtemp(prefix='lgss-')}/mlflow.db")
    library.set_experiment("bench")
    yield _autolog("autolog, SQLite", setting, mode)


def mlflow_otlp(setting: Setting, mode: str, _loop: object) -> Iterator[Candidate]:
    """Yield MLflow's autolog with a collector in place of its own store."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = setting.url + "/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    os.environ["MLFLOW_USE_DEFAULT_TRACER_PROVIDER"] = "false"  # then what it sends can be flushed

    def flush() -> None:
        from opentelemetry import trace

        trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]  # the API's type knows no SDK

    candidate = _autolog("autolog, OTLP", setting, mode)
    candidate.flush = flush
    yield candidate


def _autolog(name: str, setting: Setting, mode: str) -> Candidate:
    import mlflow as library

    @contextlib.contextmanager
    def active() -> Iterator[None]:
        library.langchain.autolog(silent=True)
        yield
        library.langchain.autolog(disable=True, silent=True)

    return Candidate(name, setting.graph(mode), flush=library.flush_trace_async_logging, active=active)


@dataclass(frozen=True)
class Family:
    """Candidates that share a process, and the modules without which they are not available; what *sends* is checked to have sent."""

    open: Callable[[Setting, str, asyncio.AbstractEventLoop], Iterator[Candidate]]
    needs: tuple[str, ...] = ()
    distribution: str = "langgraph"
    sends: bool = False


FAMILIES = {
    "ours": Family(ours),
    "spool": Family(spool),
    "nothing": Family(nothing),
    "postgres": Family(postgres, ("langgraph.checkpoint.postgres",), "langgraph-checkpoint-postgres"),
    "langfuse": Family(langfuse, ("langfuse",), "langfuse", sends=True),
    "langsmith": Family(langsmith, ("langsmith",), "langsmith", sends=True),
    "openinference": Family(
        openinference,
        ("openinference.instrumentation.langchain", "opentelemetry.sdk"),
        "openinference-instrumentation-langchain",
        sends=True,
    ),
    "mlflow": Family(mlflow, ("mlflow", "langchain"), "mlflow"),
    "mlflow_otlp": Family(
        mlflow_otlp, ("mlflow", "langchain", "opentelemetry.exporter.otlp.proto.http"), "mlflow", sends=True
    ),
}


def missing(family: str) -> str | None:
    """Return what *family* needs and is not installed, None if nothing."""
    for name in FAMILIES[family].needs:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{name.partition('.')[0]} is not installed"
    return None


def versions(families: Sequence[str]) -> dict[str, str]:
    """Return which version of what *families* brought."""
    names = ["langgraph", "langchain-core", "psycopg", *(FAMILIES[family].distribution for family in families)]
    return {name: importlib.metadata.version(name) for name in dict.fromkeys(names)}
