"""HEAD, which FastAPI's routes refuse: what GET would answer, without the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Middleware that asks for the GET of a HEAD, and ends it after the headers: a stream or an export does not go on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        headers = _Headers(send)
        try:
            await self._app({**scope, "method": "GET"}, receive, headers)
        except Exception:
            if not headers.ended:
                raise


class _Headers:
    """Sends the start of an answer and none of its body, for which the client is as good as gone."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.ended = False

    async def __call__(self, message: Message) -> None:
        if not self.ended and message["type"] != "http.response.body":
            await self._send(message)
            return
        if not self.ended:
            self.ended = True
            await self._send({"type": "http.response.body"})
        if message.get("more_body"):
            raise OSError("HEAD wants no more")  # what a server raises where the client has left
