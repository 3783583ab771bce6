"""An agent behind a web server: ``GET /<n>`` runs the graph on thread ``<n>``. `asgi` with the recorder's lifespan, `wsgi` without."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from agent import Content, config, graph, inputs, log_everything, record, recorder

log_everything()
subject = recorder(os.environ["CHAOS_DSN"], os.environ["CHAOS_SCHEMA"], os.environ["CHAOS_SPOOL"])
runnable = subject.attach(graph())


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    number = environ["PATH_INFO"].strip("/")
    record(runnable, f"t-{number}", Content("served", int(number)))
    start_response("200 OK", [("Content-Length", "2"), ("Connection", "close")])
    return [b"ok"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        async with subject.lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    number = int(scope["path"].strip("/"))
    await runnable.ainvoke(inputs(Content("served", number)), config(f"t-{number}"))
    headers = [(b"content-length", b"2"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
