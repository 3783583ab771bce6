"""The whole application, and the server that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from ..errors import ConfigError
from ..store import AsyncSessionStore, SessionStore
from . import problems
from .api import make_router
from .head import Head
from .keeping import keeping_router
from .live import Hub
from .ops import Meter, Readiness, ops_router
from .page import Numbers, page_router
from .reads import ReadStore
from .security import Guard
from .settings import Settings, check_bind, is_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ABOUT: Final = "Each run of a LangGraph agent as one typed row."
_DAY: Final = timedelta(days=1)
_LEAVE: Final = 5  # seconds that requests in flight have when the server stops
_SQUEEZED: Final = 5  # gzip's level: larger ones cost more than they save


def create_app(
    store: SessionStore | AsyncSessionStore | None = None,
    *,
    token: str | None = None,
    read_token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    root_path: str = "",
    mlflow_uri: str | None = None,
    statement_timeout: float = 10.0,
    abandon_after: timedelta | None = _DAY,
) -> FastAPI:
    """Return the REST API, the stream of changes and the dashboard on *store*, by default the one that the environment names.

    *token* may read and delete, *read_token* only read; by default ``SESSION_STORE_TOKEN`` and ``SESSION_STORE_READ_TOKEN``, or the
    files that ``SESSION_STORE_TOKEN_FILE`` and ``SESSION_STORE_READ_TOKEN_FILE`` name. Without one only this machine is answered.
    *allowed_hosts* (and ``SESSION_STORE_HOSTS``) are names that the server goes by, *root_path* is the prefix that a proxy takes away,
    *mlflow_uri* the MLflow server that run ids link to (default: ``MLFLOW_TRACKING_URI`` where it is http). A statement that
    reads may take *statement_timeout* seconds. ``running`` sessions of which nothing was heard for *abandon_after* are marked as
    abandoned every ten minutes, unless it is None.
    """
    settings = Settings.make(token, read_token, allowed_hosts)
    reads = ReadStore(store or SessionStore(), statement_timeout)
    hub, numbers = Hub(reads), Numbers(reads)
    app = FastAPI(
        title=f"Sessions: {reads.record.__name__}",
        description=_ABOUT,
        version=_version(),
        docs_url=None,  # their pages come from elsewhere; the document is at /openapi.json
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.include_router(make_router(reads, hub))
    app.include_router(ops_router(Readiness(reads), Meter(reads, numbers, hub)))
    app.include_router(page_router(reads, numbers, mlflow_uri or _mlflow()), include_in_schema=False)
    if abandon_after is not None:
        app.include_router(keeping_router(reads, abandon_after))  # the last one: it ends first
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=_SQUEEZED)
    app.add_middleware(Head)
    app.add_middleware(Guard, settings=settings, root_path=root_path)
    app.state.hub = hub
    if settings.guarded:
        _declare_tokens(app)
    return app


def serve(
    store: SessionStore | AsyncSessionStore | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    token: str | None = None,
    read_token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    root_path: str = "",
    mlflow_uri: str | None = None,
    statement_timeout: float = 10.0,
    abandon_after: timedelta | None = _DAY,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `create_app` on *host* and *port* (0: any free one) until SIGINT or SIGTERM; *ready* is told the address.

    ConfigError: the host can be reached from elsewhere and there is no token, or the port cannot be had.
    """
    check_bind(host, Settings.make(token, read_token))
    named = () if is_address(host.strip("[]")) else (host,)
    app = create_app(
        store,
        token=token,
        read_token=read_token,
        allowed_hosts=(*allowed_hosts, *named),
        root_path=root_path,
        mlflow_uri=mlflow_uri,
        statement_timeout=statement_timeout,
        abandon_after=abandon_after,
    )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=_LEAVE, lifespan="on"
    )
    with _listening(host, port) as listener:
        server = _Server(config, app, ready, _url(host, listener.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """A server that says when it listens, and ends the streams when it stops, which would else keep it waiting."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[str], None] | None, url: str) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None and self.started:
            self._ready(self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.hub.close()
        await super().shutdown(sockets)
        vars(self).get(
            "_captured_signals", []
        ).clear()  # uvicorn would die of the signal now, and skip the exit handlers


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror or 'unknown host'}") from None
    return listener


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{port}"


def _declare_tokens(app: FastAPI) -> None:
    """Say in OpenAPI that everything but the health of the server needs a token."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
            for path in ("/healthz", "/readyz"):
                document["paths"][path]["get"]["security"] = []
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _mlflow() -> str | None:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith(("http://", "https://")) else None


def _version() -> str:
    try:
        return version("langgraph-session-store")
    except PackageNotFoundError:  # run from its sources
        return "0"
