"""A small TCP proxy in front of a Postgres, which makes the faults of a network: refusal, latency, reset, black hole, half open."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import uuid
from typing import TYPE_CHECKING, Any, Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Coroutine

Mode = Literal["open", "refused", "black hole"]


def reserve() -> socket.socket:
    """Take a port of 127.0.0.1 that refuses connections: nobody else gets it, and a server that is told its number may listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Proxy:
    """Listens on a port of 127.0.0.1, in a thread of its own, and forwards to the Postgres of *dsn*.

    Connections that are open live through a change of `delay`; a black hole swallows what is sent on them, for good.
    """

    def __init__(self, dsn: str) -> None:
        self._target = conninfo_to_dict(dsn)
        self.mode: Mode = "open"
        self.delay = 0.0
        self.connections = 0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._reserved = reserve()  # also while connections are refused
        self.port: int = self._reserved.getsockname()[1]
        self.name = f"proxy-{uuid.uuid4().hex[:16]}"
        """What its connections are called in the server."""
        self._call(self._listen())
        # A password that no server asks for: it must not appear in any log.
        self.dsn = make_conninfo(
            "",
            host="127.0.0.1",
            port=self.port,
            user=self._target["user"],
            dbname=self._target["dbname"],
            password="canary-in-the-dsn",
            application_name=self.name,
            sslmode="disable",
            gssencmode="disable",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._shut())
        self._call(self._cut(reset=False))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(120)
        self._reserved.close()

    def open(self) -> None:
        """Forward."""
        self._set("open")

    def refuse(self) -> None:
        """End all connections and refuse new ones, as a server that is stopped."""
        self._set("refused")
        self.reset()

    def black_hole(self) -> None:
        """Accept everything and answer nothing, on old connections and new ones."""
        self._set("black hole")

    def reset(self) -> None:
        """Reset all connections."""
        self._call(self._cut(reset=True))

    def half_open(self) -> None:
        """End the connections to the server, without a word to the clients."""
        self._call(self._halve())

    def _set(self, mode: Mode) -> None:
        self.mode = mode
        self._call(self._shut() if mode == "refused" else self._listen())

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self, *, reset: bool) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                if reset and (raw := writer.get_extra_info("socket")) and raw.family == socket.AF_INET:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _halve(self) -> None:
        for _, server in list(self._pairs):
            server.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            host, port = self._target["host"], self._target.get("port", 5432)
            if str(host).startswith("/"):
                from_server, to_server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                from_server, to_server = await asyncio.open_connection(host, int(port or 5432))
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, to_server)
        self._pairs.add(pair)
        up = asyncio.create_task(self._forward(reader, to_server))
        down = asyncio.create_task(self._forward(from_server, writer))
        # A client that ends takes its server connection along; a server that is cut off leaves the client waiting.
        await up
        to_server.transport.abort()
        await down
        writer.transport.abort()
        self._pairs.discard(pair)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                if self.mode == "black hole" or writer.transport.is_closing():
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
