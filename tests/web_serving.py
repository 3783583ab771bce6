"""A real uvicorn on a real port, for the tests of the web."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from langgraph_session_store.web import create_app
from langgraph_session_store.web.app import _Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve *app* in a thread; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=3)
    server = _Server(config, app, None, "") if hasattr(app.state, "hub") else uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(120)
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def served(store: Any, **options: Any) -> Iterator[httpx.Client]:
    """Serve `create_app` on *store*; yields a client."""
    with (
        running(create_app(store, **options)) as url,
        httpx.Client(base_url=url, timeout=120, trust_env=False) as client,
    ):
        yield client


def problem_rows(count: int, **more: Any) -> list[dict[str, Any]]:
    """Rows as the problem agent leaves them."""
    return [
        {
            "thread_id": f"t-{number:04d}",
            "user_prompt": f"Write function {number}",
            "topic": ("arrays", "graphs", "strings")[number % 3],
            "difficulty": ("easy", "hard")[number % 2],
            "problem_description": "d" * 500,
            "problem_tests": ["assert f(1) == 2"],
            "code": "def f(x):\n    return x + 1\n",
            "tests_passed": number % 4 != 0,
            "code_attempts": 1 + number % 5,
            "workflow_status": "completed" if number % 4 else "failed",
            **more,
        }
        for number in range(count)
    ]
