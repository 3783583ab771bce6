"""What operators ask: is it alive, is it ready, and numbers for Prometheus."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from ..errors import SchemaError, SessionStoreError, StoreError
from ..query import Query
from ..spool import spool_home
from ..spool.journal import SUFFIX
from ..spool.queue import IDLE
from .problems import Json, ProblemRoute, described, problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from .live import Hub
    from .page import Numbers
    from .reads import ReadStore

_CHECKED: Final = 1.0  # seconds that an answer of /readyz holds, which anybody may ask for
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def spool_folder(reads: ReadStore) -> Path:
    """Return where recorders of this machine spool for the table, unless they were told another place."""
    return spool_home() / reads.target.key(reads.table.schema, reads.table.name)


def spool_state(folder: Path, *, up: bool) -> tuple[int, float]:
    """Return the bytes that wait in a spool, and the seconds since the oldest was written.

    A writer gives a file that it has stored back after `IDLE`. So while the database is *up*, the last file of a process counts
    only when it has been left alone for longer.
    """
    now = oldest = time.time()
    size = 0
    for process in folder.glob("*/"):
        files = sorted(process.glob(f"*{SUFFIX}"))
        for path in files:
            with suppress(OSError):  # a writer removes what it has stored
                found = path.stat()
                if up and path == files[-1] and now - found.st_mtime < 2 * IDLE:
                    continue
                size += found.st_size
                oldest = min(oldest, found.st_mtime) if found.st_size else oldest
    return size, now - oldest if size else 0.0


class Readiness:
    """Whether the database answers and has the table."""

    def __init__(self, reads: ReadStore) -> None:
        self._reads = reads
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._checks: dict[str, Any] = {}

    async def checks(self) -> dict[str, Any]:
        """Return the state of each part."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._checks = await self._ask()
                self._until = time.monotonic() + _CHECKED
        return self._checks

    async def _ask(self) -> dict[str, Any]:
        checks: dict[str, Any] = {"database": "ok", "schema": "ok"}
        table = self._reads.table
        try:
            await self._reads.ensure()
            await self._reads.run(
                Query(b"SELECT FROM " + table.full.as_bytes(None) + b" LIMIT 0", {}, lambda _, __: None)
            )
        except SchemaError:
            checks["schema"] = "missing"
        except (StoreError, SessionStoreError):
            checks |= {"database": "away", "schema": "unknown"}
        up = checks["schema"] == "ok"
        size, age = await asyncio.to_thread(spool_state, spool_folder(self._reads), up=up)
        return {**checks, "spool": {"bytes": size, "age_seconds": round(age, 1)}}


class Meter:
    """Prometheus' view of one application: each scrape asks for the counts, which are cached."""

    def __init__(self, reads: ReadStore, numbers: Numbers, hub: Hub) -> None:
        self._reads = reads
        self._numbers = numbers
        self._hub = hub
        self._counts: dict[str | None, int] | None = None
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "session_store_query_seconds", "Time of the server's statements", registry=self.registry, buckets=_BUCKETS
        )
        self.registry.register(self)
        reads.observe = self.latency.observe

    async def scrape(self) -> bytes:
        """Return the numbers in Prometheus' text format."""
        try:
            counts, _ = await self._numbers.counts({})
            self._counts = counts.by_status
        except StoreError:
            self._counts = None
        return await asyncio.to_thread(generate_latest, self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what is measured when it is asked for."""
        up = GaugeMetricFamily("session_store_up", "Whether the database answers")
        up.add_metric([], float(self._counts is not None))
        yield up
        sessions = GaugeMetricFamily("session_store_sessions", "Sessions by status", labels=["status"])
        for status, count in (self._counts or {}).items():
            sessions.add_metric([status or ""], count)
        yield sessions
        size, age = spool_state(spool_folder(self._reads), up=self._counts is not None)
        yield GaugeMetricFamily("session_store_spool_bytes", "Bytes in this machine's spool of the table", size)
        yield GaugeMetricFamily("session_store_spool_age_seconds", "Age of the oldest file in the spool", age)
        yield GaugeMetricFamily("session_store_streams", "Clients of the stream of changes", self._hub.clients)
        yield CounterMetricFamily("session_store_streams_dropped", "Clients that were too slow", self._hub.dropped)
        yield from self._recorders()

    def _recorders(self) -> Iterator[Metric]:
        """Yield the counters of the recorders in this process."""
        stats = [backlog.stats().as_dict() for backlog in self._reads.recorders]
        for name in ("accepted", "stored", "superseded", "quarantined", "dropped", "retries"):
            total = sum(each[name] for each in stats)
            yield CounterMetricFamily(f"session_store_recorder_{name}", f"Events of this process: {name}", total)
        yield GaugeMetricFamily(
            "session_store_recorder_pending", "Events that wait", sum(each["pending"] for each in stats)
        )


def ops_router(readiness: Readiness, meter: Meter) -> APIRouter:
    """Return /healthz, /readyz and /metrics."""
    router = APIRouter(route_class=ProblemRoute, tags=["operations"])

    @router.get("/healthz", summary="Whether the server is alive", responses=described(400, 429))
    async def healthz() -> Response:
        return Json({"status": "ok"})

    @router.get("/readyz", summary="Whether it can answer", responses=described(400, 429, 503))
    async def readyz() -> Response:
        checks = await readiness.checks()
        if checks["schema"] == "ok":
            return Json({"status": "ok", "checks": checks})
        why = "The database cannot be reached." if checks["database"] != "ok" else "The table is missing."
        return problem(503, why, headers={"Retry-After": "2"}, checks=checks)

    @router.get(
        "/metrics",
        summary="Numbers for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {}}, "description": "Text format."},
            **described(400, 401, 403, 429, 500, 503),
        },
    )
    async def metrics() -> Response:
        return Response(await meter.scrape(), media_type=CONTENT_TYPE_LATEST)

    return router
