"""Every recipe of docs/deployments.md, its code run where the page says: loaded, forked, stopped and frozen by the real thing."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nbformat
import psutil
import psycopg
import pytest
from chaos.fleet import until
from langgraph.checkpoint.memory import InMemorySaver
from nbclient import NotebookClient
from pages import blocks
from psycopg.conninfo import make_conninfo

from langgraph_session_store.testing import BoomError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph_session_store import SessionStore

pytestmark = pytest.mark.timeout(600)

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "deployments.md").read_text("utf-8")
CODE = [block.text for block in blocks(PAGE) if block.language == "python"]
FILES = {name[1]: text for text in CODE if (name := re.match(r"# ([\w.]+\.py)\b", text))}
RUNS = 8


@pytest.fixture
def place(store: SessionStore, dsn: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, in whose environment the table is set up."""
    store.setup()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setenv("DATABASE_URL", make_conninfo(dsn, options=f"-c search_path={schema}"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@contextmanager
def started(place: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module in the folder; what it and its children left is killed."""
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=place,
            env=os.environ | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        family = (
            [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else [process]
        )
        for one in family:
            one.kill()
        process.communicate()


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(120)


def check(store: SessionStore, place: Path) -> None:
    """All runs are there, once each, without another process that would store what was left."""
    assert store.count(workflow_status="completed") == store.count() == RUNS, (place / "log").read_text()
    assert "Traceback" not in (place / "log").read_text()


def test_all_of_the_page_is_run_here() -> None:
    assert set(FILES) == {"agent.py", "app.py", "wsgi.py", "gunicorn.conf.py", "tasks.py", "handler.py"}
    assert len(CODE) == len(FILES) + 1  # and the notebook's cell


async def test_a_graph_that_a_server_loads_and_copies(place: Path, store: SessionStore) -> None:
    spec = importlib.util.spec_from_file_location(f"agent_of_{place.name}", place / "agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served = module.graph.copy(update={"checkpointer": InMemorySaver(), "store": None})
    metadata = {"graph_id": "solver", "assistant_id": "a-1", "user_id": "u-1"}
    for behave in ("ok", "interrupt", "raise"):
        config: Any = {"configurable": {"thread_id": behave}, "metadata": metadata}
        try:
            await served.ainvoke({"user_prompt": "sort", "behave": behave}, config)
        except BoomError:
            continue
    assert module.recorder.close(120)
    rows = {row["thread_id"]: row for row in store.query()}
    assert {name: row["workflow_status"] for name, row in rows.items()} == {
        "ok": "completed",
        "interrupt": "interrupted",
        "raise": "failed",
    }
    assert all((row["user_prompt"], row["user_id"]) == ("sort", "u-1") for row in rows.values())
    assert rows["ok"]["metadata"]["graph_id"] == "solver"


def ask(path: Path, *, method: str) -> None:
    """Call the server on its socket, once it listens, for each thread."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://agent", timeout=120) as client:

        def up() -> bool:
            try:
                return client.request(method, f"/{'solve/' if method == 'POST' else ''}t-0").status_code == 200
            except httpx.TransportError:
                return False

        until(up)
        for number in range(1, RUNS):
            answer = client.request(method, f"/{'solve/' if method == 'POST' else ''}t-{number}")
            assert answer.status_code == 200, answer.text


def test_fastapi_and_uvicorn_workers(place: Path, store: SessionStore) -> None:
    with started(place, "uvicorn", "app:app", "--workers", "2", "--uds", str(place / "s")) as server:
        ask(place / "s", method="POST")
        stop(server)
    check(store, place)


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "each its own"])
def test_gunicorn(preload: bool, place: Path, store: SessionStore) -> None:
    words = ["gunicorn", "wsgi:app", "--workers", "2", "--bind", f"unix:{place / 's'}", "--timeout", "120"]
    with started(place, *words, *(["--preload"] if preload else [])) as server:
        ask(place / "s", method="GET")
        stop(server)
    check(store, place)


def test_celery(place: Path, store: SessionStore) -> None:
    (place / "data").mkdir()
    for name in ("data_in", "data_out"):  # of kombu's file system transport, which are two ends of one queue here
        (place / name).symlink_to("data")
    broker = {"CELERY_BROKER_URL": "filesystem://"}
    send = f"import tasks; [tasks.solve.delay(f't-{{number}}') for number in range({RUNS})]"
    subprocess.run([sys.executable, "-c", send], cwd=place, env=os.environ | broker, check=True)
    words = ["celery", "--app", "tasks", "worker", "--pool", "prefork", "--concurrency", "2"]
    with started(place, *words, "--without-gossip", "--without-mingle", "--without-heartbeat", **broker) as worker:
        until(lambda: store.count(workflow_status="completed") == RUNS)
        stop(worker)
    check(store, place)
    assert not list((place / "state").rglob("*.seg"))  # the children closed


def test_a_notebook(place: Path, store: SessionStore) -> None:
    (cell,) = (text for text in CODE if text not in FILES.values())
    notebook = nbformat.v4.new_notebook()
    again = "await agraph.ainvoke({'user_prompt': 'again'}, {'configurable': {'thread_id': 'cell-1'}})"
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in (cell, cell, again)]
    NotebookClient(
        notebook, timeout=600, startup_timeout=600, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    ).execute()
    shown = [output.data["text/html"] for output in notebook.cells[0].outputs if output.output_type == "execute_result"]
    assert len(shown) == 1
    assert "cell-1" in shown[0]
    assert "cell-2" in shown[0]
    rows = {row["thread_id"]: row for row in store.query()}
    assert {name: (row["workflow_status"], row["user_prompt"]) for name, row in rows.items()} == {
        "cell-1": ("completed", "again"),
        "cell-2": ("completed", "sort"),
    }


DRIVER = """
import json, sys
from handler import handler
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), None)), flush=True)
"""


def test_frozen_between_calls(place: Path, store: SessionStore, schema: str) -> None:
    text = FILES["handler.py"].replace("/tmp/spool", str(place / "spool"))
    # On a machine that is busy enough a commit takes longer than a Lambda would wait.
    text = text.replace('durability="sync"', 'durability="sync", sync_timeout=60')
    assert text.count(str(place)) == text.count("sync_timeout=60") == 1
    (place / "handler.py").write_text(text, "utf-8")
    (place / "driver.py").write_text(DRIVER, "utf-8")
    with started(place, "driver") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(4):
            process.stdin.write(f'{{"id": "t-{number}", "prompt": "sort"}}\n')
            process.stdin.flush()
            assert process.stdout.readline() == '{"code": "def f(): ..."}\n', (place / "log").read_text()
            process.send_signal(signal.SIGSTOP)
            until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
            row = store.get(f"t-{number}")  # it is there although the process can do nothing more for it
            assert row is not None
            assert row["workflow_status"] == "completed"
            if number % 2:
                cut(schema)
            time.sleep(0.1)
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGKILL)  # Lambda says nothing when it takes the machine away
        process.wait(120)
    assert store.count() == 4


def cut(schema: str) -> None:
    """End the connections of this test's processes, as a server does to those that were idle for long."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
            " AND query LIKE '%%session_states%%'",
            [f"%{schema}%"],
        )
