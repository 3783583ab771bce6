"""The REST routes: sessions by filter and by thread, numbers, histories, files, changes, and what can be asked for."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response, StreamingResponse

from ..encode import thread_key
from ..export import make_encoder
from ..filters.paging import check_limit
from ..queries import reads as queries
from ..queries.analytics import BUCKETS
from . import schema
from .live import EventStream, Hub
from .params import Asked
from .problems import Json, ProblemRoute, described, dumps
from .reads import ReadStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..export import Encoder, Format
    from ..session import Session
    from ..store import AsyncSessionStore, SessionStore

MOST: Final = 100
"""Sessions of one page."""
_BATCH: Final = 500
_MEDIA: Final[dict[str, str]] = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_LIST: Final = """One page of the sessions that match.

Filters are `field=value` or `field__op=value`; `GET /api/schema` names all of them. The next page is the same request with
`cursor` set to this one's `next_cursor`, which the `Link` header (`rel="next"`) holds ready.
"""
_FIXED: Final = frozenset({"analytics", "events", *(f"export.{kind}" for kind in _MEDIA)})
_OTHERS: Final = ("POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE")
_ERRORS: Final = described(400, 401, 403, 413, 414, 422, 429, 500, 503)


def session_router(store: SessionStore | AsyncSessionStore, *, statement_timeout: float = 10.0) -> APIRouter:
    """Return the routes under ``/api`` for an application of one's own, which does the authentication.

    A statement that reads may take *statement_timeout* seconds.
    """
    reads = ReadStore(store, statement_timeout)
    return make_router(reads, Hub(reads))


def make_router(reads: ReadStore, hub: Hub) -> APIRouter:
    """Return the routes on *reads*, whose changes *hub* tells; both end with the application."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await hub.close()
            await reads.close()

    router = APIRouter(prefix="/api", route_class=ProblemRoute, tags=["sessions"], lifespan=lifespan)
    _add_lists(router, reads)
    _add_exports(router, reads)
    _add_events(router, hub)
    _add_schema(router, reads)
    _add_session(router, reads)  # last: its path takes what is left
    return router


def _add_lists(router: APIRouter, reads: ReadStore) -> None:
    table = reads.table
    filters = schema.filter_parameters(table)
    page = [
        schema.fields_parameter(table, about="What to return; by default everything but large columns."),
        schema.order_parameter(table),
        schema.plain_parameter(
            "limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}, "Page size."
        ),
        schema.plain_parameter("count", {"enum": ["exact"]}, "Count all that match, too."),
    ]

    @router.get(
        "/sessions",
        summary="List sessions",
        description=_LIST,
        responses={200: {"model": schema.listing_model(reads.record, table)}, **_ERRORS},
        openapi_extra={"parameters": [*page, *filters]},
    )
    async def list_sessions(request: Request) -> Response:
        asked = Asked.read(
            table, request.query_params.multi_items(), ("fields", "order_by", "limit", "cursor", "count")
        )
        exact = asked.choice("count", "exact")
        query = queries.page(
            table,
            asked.filters,
            any_of=asked.any_of,
            fields=asked.words.get("fields") or schema.small_columns(table),
            order_by=asked.order_by,
            limit=check_limit(asked.words.get("limit", 50), MOST),
            cursor=asked.words.get("cursor"),
        )
        found = await reads.read(query)
        answer = {"sessions": found, "count": len(found), "next_cursor": found.next_cursor}
        if exact:
            answer["total"] = await reads.read(queries.number(table, asked.filters, any_of=asked.any_of))
        return Json(answer, headers=_next(request, found.next_cursor))

    @router.get(
        "/sessions/analytics",
        summary="Numbers about sessions",
        description="Counts, success rate and durations of the sessions that match, by group and over time where asked.",
        responses={200: {"model": schema.AnalyticsModel}, **_ERRORS},
        openapi_extra={
            "parameters": [
                schema.fields_parameter(table, "group_by", "Fields to group by."),
                schema.plain_parameter("bucket", {"enum": list(BUCKETS)}, "A series of numbers per bucket, in UTC."),
                *filters,
            ]
        },
    )
    async def numbers(request: Request) -> Response:
        asked = Asked.read(table, request.query_params.multi_items(), ("group_by", "bucket"))
        bucket = asked.choice("bucket", *BUCKETS)
        found = await reads.analytics(
            group_by=asked.words.get("group_by"), bucket=bucket, any_of=asked.any_of, **asked.filters
        )
        return Json(found.to_dict())


def _add_exports(router: APIRouter, reads: ReadStore) -> None:
    table = reads.table
    parameters = [
        schema.fields_parameter(table, about="What to export; by default everything."),
        schema.order_parameter(table),
        *schema.filter_parameters(table),
    ]

    def add(kind: Format) -> None:
        media = _MEDIA[kind]

        @router.get(
            f"/sessions/export.{kind}",
            name=f"export_{kind}",
            summary=f"Export sessions as {kind}",
            response_class=Response,
            responses={
                200: {"content": {media.partition(";")[0]: {}}, "description": "The file, streamed."},
                **_ERRORS,
            },
            openapi_extra={"parameters": parameters},
        )
        async def export(request: Request) -> Response:
            asked = Asked.read(table, request.query_params.multi_items(), ("fields", "order_by"))
            fields = asked.words.get("fields")
            query = queries.every(table, asked.filters, any_of=asked.any_of, fields=fields, order_by=asked.order_by)
            encoder = await asyncio.to_thread(make_encoder, kind, queries.vocabulary(table).columns(fields))
            parts = _pieces(encoder, reads.stream(query))
            first = await anext(parts)  # an error before the first byte is a problem, one behind it breaks the stream
            head = {"Content-Disposition": f'attachment; filename="{table.name}.{kind}"'}
            return StreamingResponse(_joined(first, parts), media_type=media, headers=head)

    for kind in ("csv", "ndjson", "parquet"):
        add(kind)


async def _pieces(encoder: Encoder, sessions: AsyncIterator[Session]) -> AsyncIterator[bytes]:
    """Yield the file of *sessions*; encoding does not hold the event loop up."""
    batch: list[Session] = []
    async for session in sessions:
        batch.append(session)
        if len(batch) == _BATCH:
            yield await asyncio.to_thread(encoder.encode, batch)
            batch = []
    rest = await asyncio.to_thread(encoder.encode, batch) if batch else b""
    yield rest + await asyncio.to_thread(encoder.finish)


async def _joined(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        if part:
            yield part


def _add_events(router: APIRouter, hub: Hub) -> None:
    # OpenAPI has no words for an answer that does not end, and generated clients would wait for its end
    @router.get("/sessions/events", include_in_schema=False)
    async def events(request: Request) -> Response:
        last = request.headers.get("last-event-id")
        return EventStream(await hub.join(last), hub)


def _add_schema(router: APIRouter, reads: ReadStore) -> None:
    kinds = {column.name: column.kind for column in reads.table.columns}
    fields = [{**entry, "kind": kinds[str(entry["name"])]} for entry in queries.vocabulary(reads.table).describe()]
    answer = {"record": reads.record.__name__, "description": reads.record.__doc__ or "", "fields": fields}

    @router.get(
        "/schema",
        summary="Fields and operators",
        responses={200: {"model": schema.Vocabulary}, **_ERRORS},
    )
    async def describe() -> Response:
        return Json(answer)


def _add_session(router: APIRouter, reads: ReadStore) -> None:
    model = schema.session_model(reads.record, reads.table)
    errors = {**_ERRORS, **described(404)}

    @router.get(
        "/sessions/{thread_id:path}/versions",
        summary="History of a session",
        responses={200: {"model": schema.Versions}, **errors},
    )
    async def versions(thread_id: str) -> Response:
        found = await reads.versions(thread_id)
        if not found and await reads.get(thread_id) is None:
            raise _missing()
        lines = [
            {name: getattr(version, name) for name in ("version", "recorded_at", "run_id", "values", "changes")}
            for version in found
        ]
        return Json({"thread_id": thread_key(thread_id), "versions": lines})

    @router.get(
        "/sessions/{thread_id:path}",
        summary="One session",
        responses={200: {"model": model}, 304: {"description": "It is as `If-None-Match` knows it."}, **errors},
    )
    async def detail(thread_id: str, request: Request) -> Response:
        session = await reads.get(thread_id)
        if session is None:
            raise _missing()
        body = dumps(session)
        etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
        head = {"ETag": etag, "Cache-Control": "private, no-cache"}
        known = request.headers.get("if-none-match", "")
        if known == "*" or etag.removeprefix("W/") in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
            return Response(status_code=304, headers=head)
        return Response(body, headers=head, media_type="application/json")

    @router.delete(
        "/sessions/{thread_id:path}",
        summary="Remove a session and its history",
        responses={200: {"model": schema.Deleted}, **errors},
    )
    async def delete(thread_id: str) -> Response:
        if not await reads.delete(thread_id):
            raise _missing()
        return Json({"thread_id": thread_key(thread_id), "deleted": True})

    # without this an answer to another method would name the methods of one route only
    @router.api_route("/sessions/{thread_id:path}", methods=list(_OTHERS), include_in_schema=False)
    async def other(thread_id: str) -> Response:
        alone = thread_id in _FIXED or thread_id.endswith("/versions")
        raise HTTPException(405, headers={"Allow": "GET" if alone else "GET, DELETE"})


def _next(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the header that leads to the next page."""
    if cursor is None:
        return {}
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    return {"Link": f'<?{urlencode([*pairs, ("cursor", cursor)], errors="replace")}>; rel="next"'}


def _missing() -> HTTPException:
    return HTTPException(
        404, "There is no session of this thread. GET /api/sessions?thread_id=... finds ids that look like a route."
    )
