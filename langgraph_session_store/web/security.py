"""The guard in front of every route: who may ask, from where, how much; what every answer tells the browser.

It is a middleware with a short list of what is public, so that no route can be forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

from .problems import as_problem, problem
from .settings import is_loopback

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .settings import Settings

log = logging.getLogger("langgraph_session_store.access")

PUBLIC: Final = frozenset({"/", "/session", "/healthz", "/readyz", "/favicon.ico"})
"""What is served without a token: the shell of the page and the health of the server. None of it holds data."""
PUBLIC_FOLDER: Final = "/static/"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_KNOWN: Final = _SAFE | {"POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_FORWARDED: Final = frozenset({"forwarded", "x-forwarded-for", "x-real-ip"})
_DRAINED: Final = 64 << 20  # bytes of a body too large that are read away, so that its sender reads our answer
_PEERS: Final = 10_000
_IN_PROCESS: Final = "testclient"  # what Starlette's client calls itself; a socket's peer is always an address


class Buckets:
    """How much each peer may still do: *rate* per second, at most *burst* at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}

    def allows(self, peer: str, cost: float = 1.0) -> bool:
        """Take *cost* from *peer*'s share; return whether there was that much. No cost asks only."""
        now = time.monotonic()
        left, then = self._left.pop(peer, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= max(cost, 1.0)
        self._left[peer] = (left - cost if allowed else left, now)
        if len(self._left) > _PEERS:
            self._left.pop(next(iter(self._left)))
        return allowed


class Guard:
    """Middleware that lets through what *settings* allow, and logs each request without its query and headers."""

    def __init__(self, app: ASGIApp, settings: Settings, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path.rstrip("/")
        self._settings = settings
        limits = settings.limits
        self._requests = Buckets(limits.requests, 2 * limits.requests)
        self._failures = Buckets(limits.failures, 10 * limits.failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if self._root_path and not scope.get("root_path"):
            scope = {**scope, "root_path": self._root_path}
        answer = _Answer(send, private=not _is_public(_path(scope)))
        began = time.perf_counter()
        try:
            await self._serve(scope, receive, answer)
        except Exception as error:
            if not answer.status:
                await as_problem(error)(scope, receive, answer)
            else:  # the server closes the connection of an answer without an end, so that nobody takes the part for the whole
                log.warning("%s while an answer was sent", type(error).__name__)
        finally:
            spent = 1000 * (time.perf_counter() - began)
            log.info("%s %s %r %d %.1f ms", _peer(scope) or "-", scope["method"], scope["path"], answer.status, spent)

    async def _serve(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and _length(headers) > self._settings.limits.body:
            await _drain(receive)
            refusal = problem(413, f"A body may have {self._settings.limits.body} bytes; no route needs one.")
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _Measured(receive, self._settings.limits.body), send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return why the request is not answered, None if it is."""
        peer = _peer(scope)
        if scope["method"] not in _KNOWN:
            return problem(405, "There is no such method.", headers={"Allow": "GET, HEAD, DELETE"})
        if not self._requests.allows(peer):
            return _slower()
        if len(scope["query_string"]) > self._settings.limits.query:
            return problem(414, f"A query string may have {self._settings.limits.query} bytes.")
        host = headers.get("host", "")
        if peer != _IN_PROCESS and not self._settings.knows(host):
            return problem(
                400, "This server does not know the name in the Host header: allow it with SESSION_STORE_HOSTS."
            )
        if _is_public(_path(scope)) and scope["method"] in _SAFE:
            return None
        return self._foreign(headers, host) or self._unauthorized(scope, headers, peer)

    def _foreign(self, headers: Headers, host: str) -> Response | None:
        origin = headers.get("origin")
        if origin is None or urlsplit(origin).netloc.lower() == host.lower() != "":
            return None
        name = urlsplit(origin).hostname or ""
        if name in self._settings.hosts and not is_loopback(name):
            return None  # named by us, and the proxy in between changed the Host header
        return problem(403, "A page of another origin may not ask here.")

    def _unauthorized(self, scope: Scope, headers: Headers, peer: str) -> Response | None:
        if not self._settings.guarded:
            # behind a proxy on this machine all the world would come from the loopback
            local = peer in {_IN_PROCESS, ""} or (is_loopback(peer) and not _FORWARDED & set(headers.keys()))
            return (
                None if local else problem(403, "Without a token only this machine may ask: set SESSION_STORE_TOKEN.")
            )
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            return _who("This needs a token: Authorization: Bearer ...")
        granted = self._settings.scope_of(token.strip())
        if granted is None:
            return _who("The token is not valid.") if self._failures.allows(peer) else _slower()
        if granted == "read" and scope["method"] not in _SAFE:
            return problem(
                403, "This token may only read.", headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
            )
        return None


class _Answer:
    """Sends messages on, with the headers that every answer has."""

    def __init__(self, send: Send, *, private: bool) -> None:
        self._send = send
        self._private = private
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if self._private:
                headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


class _Measured:
    """Receives a body that does not say how long it is, up to *most* bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._left = most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        return {"type": "http.disconnect"} if self._left < 0 else message


async def _drain(receive: Receive) -> None:
    left = _DRAINED
    try:
        async with asyncio.timeout(10):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdigit() else 0


def _path(scope: Scope) -> str:
    """Return the path behind the prefix that a proxy or a mount put before it."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :] or "/"
    return path


def _is_public(path: str) -> bool:
    return path in PUBLIC or (path.startswith(PUBLIC_FOLDER) and ".." not in path)


def _peer(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else ""


def _who(detail: str) -> Response:
    return problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="session-store"'})


def _slower() -> Response:
    return problem(429, "Too many requests.", headers={"Retry-After": "1"})
