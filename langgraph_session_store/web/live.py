"""Changes as server-sent events: one reader of the table for all clients, none of which can hold it up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.responses import Response

from ..clock import to_datetime, to_microseconds
from ..errors import SessionStoreError, UnavailableError
from ..logs import once_a_minute
from ..queries.reads import LOOK_BACK, OVERLAP, Change, Tail, changes
from ..query import Table
from .problems import dumps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from starlette.types import Receive, Scope, Send

    from ..session import Session
    from .reads import ReadStore

log = logging.getLogger(__name__)

POLL: Final = 0.5
"""Seconds between two looks at the table."""
HEARTBEAT: Final = 15.0
MOST_CLIENTS: Final = 1000
WAITING: Final = 1000
"""Events that may wait for one client; one that is further behind is dropped, and resumes by its last id."""
MOST_AGE: Final = 3600.0
"""Seconds after which a stream ends, so that a token that was taken back is not good for ever."""
_AWAY: Final = 5.0  # most seconds between two tries while the database is away
_PAGE: Final = 500
_COLUMNS: Final = ("id", "thread_id", "workflow_status", "updated_at")


class Event(NamedTuple):
    """One change: when, in microseconds since the epoch, and what clients are told."""

    at: int
    data: bytes


class Client:
    """What waits to be sent to one client."""

    def __init__(self, since: int, replay: datetime | None) -> None:
        self.last = since
        """The id that was sent last; later ones are larger."""
        self.replay = replay
        self.waiting: deque[Event] = deque()
        self.news = asyncio.Event()
        self.over = asyncio.Event()
        self.notes: deque[bytes] = deque(maxlen=4)

    def put(self, events: Iterable[Event]) -> None:
        """Let *events* wait; the client is dropped where it is too far behind."""
        self.waiting.extend(events)
        if len(self.waiting) > WAITING:
            self.over.set()
        self.news.set()

    def tell(self, note: bytes) -> None:
        """Send a comment."""
        self.notes.append(b": " + note + b"\n\n")
        self.news.set()

    def frame(self, event: Event) -> bytes:
        """Return *event* for the wire, under an id that grows and says where to resume."""
        self.last = max(self.last + 1, event.at)
        return b"id: %d\ndata: %b\n\n" % (self.last, event.data)


class Hub:
    """Reads what changed while there are clients, and tells each of them.

    Ids are microseconds of the database's clock, so that every worker and every later process understands them. Nothing is
    missed: a change that was committed late is found in what `Tail` reads again, and a client that resumes begins as long before its
    last id. So a change may be told twice; its version says so.
    """

    def __init__(self, reads: ReadStore) -> None:
        self._reads = reads
        columns = tuple(column for column in reads.table.columns if column.name in _COLUMNS)
        self._table = Table(reads.table.name, columns, reads.table.schema)
        self._clients: set[Client] = set()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._tail: Tail | None = None
        self._closed = False
        self.dropped = 0

    @property
    def clients(self) -> int:
        """How many listen."""
        return len(self._clients)

    async def join(self, last: int | None) -> Client:
        """Return a new client, to whom all is told that changes from now on, and what changed since the event *last*."""
        if self._closed or len(self._clients) >= MOST_CLIENTS:
            raise UnavailableError("no room for another stream")
        async with self._starting:
            if self._task is None or self._task.done():
                await self._start()
        now = to_microseconds(self._reads.now())
        if last is None:
            client = Client(now, None)
        else:
            client = Client(min(last, now), to_datetime(min(last, now)) - LOOK_BACK - OVERLAP)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """Forget *client*; the reader rests when there is none left."""
        self._clients.discard(client)
        if not self._clients and self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """End all streams, and the reader."""
        self._end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def missed(self, since: datetime) -> AsyncIterator[list[Event]]:
        """Yield what changed after *since*, page by page."""
        place = Change(since)
        while True:
            sessions = await self._reads.run(changes(self._table, place, _PAGE))
            yield [_event(session) for session in sessions]
            if len(sessions) < _PAGE:
                return
            place = Change(sessions[-1]["updated_at"], sessions[-1]["id"])

    async def _start(self) -> None:
        """Take what is there now as known, and watch."""
        await self._reads.ensure()
        self._tail = Tail(self._table, self._reads.now() - LOOK_BACK)
        await self._look()
        self._task = asyncio.create_task(self._watch(), name="session-store-events")

    async def _look(self) -> list[Event]:
        assert self._tail is not None
        found: list[Event] = []
        while True:
            found += map(_event, self._tail.tell(await self._reads.run(self._tail.query()), self._reads.now()))
            if self._tail.drained:
                return found

    async def _watch(self) -> None:
        pause, away = POLL, False
        while not _stopping():
            await asyncio.sleep(pause)
            try:
                found = await self._look()
            except Exception as error:
                why = str(error) if isinstance(error, SessionStoreError) else type(error).__name__
                once_a_minute(log, "events", "the stream of changes waits for the database: %s", why)
                pause, away = min(2 * pause, _AWAY), True
                self._tell_all(b"away")
                continue
            if away:
                self._tell_all(b"back")
            pause, away = POLL, False
            self._publish(found)
        self._end()

    def _end(self) -> None:
        self._closed = True
        for client in self._clients:
            client.over.set()

    def _tell_all(self, note: bytes) -> None:
        for client in self._clients:
            client.tell(note)

    def _publish(self, events: list[Event]) -> None:
        for client in list(self._clients) if events else ():
            client.put(events)
            if client.over.is_set():
                self.dropped += 1
                self._clients.discard(client)


class EventStream(Response):
    """The answer to one client, until it leaves, falls behind or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, client: Client, hub: Hub) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._client = client
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send what changes."""
        head: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        tasks = [
            asyncio.create_task(self._send(send, head)),
            asyncio.create_task(_gone(receive)),
            asyncio.create_task(self._client.over.wait()),
        ]
        try:
            await asyncio.wait(tasks, timeout=MOST_AGE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.leave(self._client)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # a client that does not read gets no farewell
            await asyncio.wait_for(send({"type": "http.response.body", "body": b"", "more_body": False}), 0.5)

    async def _send(self, send: Send, head: dict[str, Any]) -> None:
        await send(head)
        client = self._client
        await send(_body(b"retry: 2000\nid: %d\n\n" % client.last))
        if client.replay is not None:
            async for events in self._hub.missed(client.replay):
                await send(_body(b"".join(map(client.frame, events)) or b":\n\n"))
        while True:
            client.news.clear()
            parts = [*client.notes, *map(client.frame, client.waiting)]
            client.notes.clear()
            client.waiting.clear()
            if parts:
                await send(_body(b"".join(parts)))
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await client.news.wait()
            except TimeoutError:
                client.tell(b"")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


def _event(session: Session) -> Event:
    at = to_microseconds(session["updated_at"])
    told = {name: session[name] for name in ("thread_id", "workflow_status", "updated_at")}
    return Event(at, dumps({**told, "version": at}))


def _stopping() -> bool:
    """Return whether uvicorn, which waits for its streams to end before it says so to the application, is stopping."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
