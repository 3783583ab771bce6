"""The REST routes: sessions by filter and by thread, numbers, histories, files, changes, and what can be asked for."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response

from ..encode import thread_key
from ..errors import FilterError
from ..filters.paging import check_limit, is_genuine
from ..queries import reads as queries
from ..queries.analytics import BUCKETS
from . import schema
from .choices import closed_sets
from .exports import add_exports
from .live import EventStream, Hub
from .params import Asked
from .problems import ERRORS, Json, ProblemRoute, described, dumps
from .reads import ReadStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..store import AsyncSessionStore, SessionStore

MOST: Final = 100
"""Sessions of one page."""
_LIST: Final = """One page of the sessions that match.

Filters are `field=value` or `field__op=value`; `GET /api/schema` names all of them. The next page is the same request with
`cursor` set to this one's `next_cursor`, which the `Link` header (`rel="next"`) holds ready. A cursor that was made up is a 422 or, where it
looks like one, a 404.
"""
_OTHERS: Final = ("POST", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE")
_EVENTS: Final = """Server-sent events that do not end: each change of a session, at least once, and comments in between.

`id` grows; the header `Last-Event-ID` with the last one that was seen resumes without a gap (a browser's `EventSource` sends it by
itself). `data` is JSON as the schema says; drop repeats by `thread_id` and `version`. A comment `away` says that the database cannot be
reached, `back` that it can again. A transaction that stays open for longer than a minute is not told. The stream ends after an hour.
"""


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
    _add_list(router, reads)
    _add_analytics(router, reads)
    add_exports(router, reads)
    _add_events(router, hub)
    _add_schema(router, reads)
    _add_versions(router, reads)  # from here on a path with {thread_id} takes what is left
    _add_detail(router, reads)
    _add_delete(router, reads)
    _add_others(router)
    return router


def _add_list(router: APIRouter, reads: ReadStore) -> None:
    table = reads.table
    parameters = [
        schema.fields_parameter(table, about="What to return; by default everything but large columns."),
        schema.order_parameter(table),
        schema.plain_parameter("limit", schema.page_size(MOST), "Page size."),
        schema.plain_parameter("cursor", schema.CURSOR, "The `next_cursor` of the page before."),
        schema.plain_parameter("count", {"enum": ["exact"]}, "Count all that match, too."),
        *schema.filter_parameters(reads.record, table),
    ]

    @router.get(
        "/sessions",
        summary="List sessions",
        description=_LIST,
        responses={200: {"model": schema.listing_model(reads.record, table)}, **ERRORS, **described(404)},
        openapi_extra={"parameters": parameters},
    )
    async def list_sessions(request: Request) -> Response:
        words = ("fields", "order_by", "limit", "cursor", "count")
        asked = Asked.read(table, request.query_params.multi_items(), words)
        exact = asked.choice("count", "exact")
        query = queries.page(
            table,
            asked.filters,
            any_of=asked.any_of,
            fields=asked.words.get("fields") or schema.small_columns(reads),
            order_by=asked.order_by,
            limit=check_limit(asked.words.get("limit", 50), MOST),
            cursor=_place(asked.words.get("cursor")),
        )
        found = await reads.read(query)
        answer = {"sessions": found, "count": len(found), "next_cursor": found.next_cursor}
        if exact:
            answer["total"] = await reads.read(queries.number(table, asked.filters, any_of=asked.any_of))
        return Json(answer, headers=_next(request, found.next_cursor))


def _add_analytics(router: APIRouter, reads: ReadStore) -> None:
    table = reads.table
    parameters = [
        schema.fields_parameter(table, "group_by", "Fields to group by."),
        schema.plain_parameter("bucket", {"enum": list(BUCKETS)}, "A series of numbers per bucket, in UTC."),
        *schema.filter_parameters(reads.record, table),
    ]

    @router.get(
        "/sessions/analytics",
        summary="Numbers about sessions",
        description="Counts, success rate and durations of the sessions that match, by group and over time where asked.",
        responses={200: {"model": schema.AnalyticsModel}, **ERRORS},
        openapi_extra={"parameters": parameters},
    )
    async def analytics(request: Request) -> Response:
        asked = Asked.read(table, request.query_params.multi_items(), ("group_by", "bucket"))
        bucket = asked.choice("bucket", *BUCKETS)
        group_by = asked.words.get("group_by")
        found = await reads.analytics(group_by=group_by, bucket=bucket, any_of=asked.any_of, **asked.filters)
        return Json(found.to_dict())


def _add_events(router: APIRouter, hub: Hub) -> None:
    @router.get(
        "/sessions/events",
        summary="Follow changes",
        description=_EVENTS,
        response_class=Response,
        responses={200: schema.EVENTS, **ERRORS},
        openapi_extra={"parameters": [schema.LAST_EVENT]},
    )
    async def events(request: Request) -> Response:
        return EventStream(await hub.join(_last_event(request)), hub)


def _add_schema(router: APIRouter, reads: ReadStore) -> None:
    kinds = {column.name: column.kind for column in reads.table.columns}
    closed = closed_sets(reads.record, reads.table)
    fields = []
    for entry in queries.vocabulary(reads.table).describe():
        name = str(entry["name"])
        values = {"values": closed[name]} if name in closed else {}
        fields.append({**entry, "kind": kinds[name], **values})
    answer = {"record": reads.record.__name__, "description": reads.record.__doc__ or "", "fields": fields}

    @router.get(
        "/schema",
        summary="Fields and operators",
        responses={200: {"model": schema.Vocabulary}, **ERRORS},
    )
    async def describe() -> Response:
        return Json(answer)


def _add_versions(router: APIRouter, reads: ReadStore) -> None:
    @router.get(
        "/sessions/{thread_id:path}/versions",
        summary="History of a session",
        responses={200: {"model": schema.Versions}, **ERRORS, **described(404)},
    )
    async def versions(thread_id: str) -> Response:
        found = await reads.versions(thread_id)
        if not found and await reads.get(thread_id) is None:
            raise _missing()
        names = ("version", "recorded_at", "run_id", "values", "changes")
        lines = [{name: getattr(version, name) for name in names} for version in found]
        return Json({"thread_id": thread_key(thread_id), "versions": lines})


def _add_detail(router: APIRouter, reads: ReadStore) -> None:
    known: dict[int | str, dict[str, Any]] = {304: {"description": "It is as `If-None-Match` knows it."}}

    @router.get(
        "/sessions/{thread_id:path}",
        summary="One session",
        responses={
            200: {"model": schema.session_model(reads.record, reads.table)},
            **known,
            **ERRORS,
            **described(404),
        },
    )
    async def detail(thread_id: str, request: Request) -> Response:
        session = await reads.get(thread_id)
        if session is None:
            raise _missing()
        body = dumps(session)
        etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
        head = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if _is_known(etag, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=head)
        return Response(body, headers=head, media_type="application/json")


def _add_delete(router: APIRouter, reads: ReadStore) -> None:
    @router.delete(
        "/sessions/{thread_id:path}",
        summary="Remove a session and its history",
        responses={200: {"model": schema.Deleted}, **ERRORS, **described(404)},
    )
    async def delete(thread_id: str) -> Response:
        if not await reads.delete(thread_id):
            raise _missing()
        return Json({"thread_id": thread_key(thread_id), "deleted": True})


def _add_others(router: APIRouter) -> None:
    """Refuse other methods; else the refusal would name the methods of one route only."""
    alone = {route.path for route in router.routes if isinstance(route, ProblemRoute) and "{" not in route.path}

    @router.api_route("/sessions/{thread_id:path}", methods=list(_OTHERS), include_in_schema=False)
    async def other(thread_id: str) -> Response:
        only_get = f"{router.prefix}/sessions/{thread_id}" in alone or thread_id.endswith("/versions")
        raise HTTPException(405, headers={"Allow": "GET" if only_get else "GET, DELETE"})


def _place(cursor: str | None) -> str | None:
    """Return *cursor*; HTTPException where it looks like one and names no page, because it was made up or cut."""
    if cursor is not None and re.fullmatch(schema.CURSOR["pattern"], cursor) and not is_genuine(cursor):
        raise HTTPException(404, "cursor: there is no such page; start again from the first one.")
    return cursor


def _last_event(request: Request) -> int | None:
    """Return the id that the client has seen last, None if it has seen none; FilterError on what is no id."""
    text = request.headers.get("last-event-id")
    if text is not None and not re.fullmatch(schema.LAST_EVENT["schema"]["pattern"], text):
        raise FilterError("Last-Event-ID: not an id of this stream; leave it out to begin now")
    return None if text is None else int(text)


def _is_known(etag: str, known: str) -> bool:
    """Return whether an If-None-Match header names *etag*; weak and strong ones count alike."""
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return known == "*" or etag.removeprefix("W/") in tags


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
