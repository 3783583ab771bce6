"""Whole results as files: the endpoints ``/api/sessions/export.*``, streamed in constant memory."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response, StreamingResponse

from ..export import Format, make_encoder
from ..queries import reads as queries
from . import schema
from .params import Asked
from .problems import ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fastapi import APIRouter
    from starlette.types import Receive, Scope, Send

    from ..export import Encoder
    from ..session import Session
    from .reads import ReadStore

MEDIA: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_BATCH: Final = 500


def add_exports(router: APIRouter, reads: ReadStore) -> None:
    """Add one endpoint for each format."""
    for kind in MEDIA:
        _add_export(router, reads, kind)


def _add_export(router: APIRouter, reads: ReadStore, kind: Format) -> None:
    table = reads.table
    file = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', table.name)}.{kind}"
    answer = {"content": {MEDIA[kind].partition(";")[0]: {}}, "description": "The file, streamed."}
    parameters = [
        schema.fields_parameter(table, about="What to export; by default everything."),
        schema.order_parameter(table),
        *schema.filter_parameters(reads.record, table),
    ]

    @router.get(
        f"/sessions/export.{kind}",
        name=f"export_{kind}",
        summary=f"Export sessions as {kind}",
        response_class=Response,
        responses={200: answer, **ERRORS},
        openapi_extra={"parameters": parameters},
    )
    async def export(request: Request) -> Response:
        asked = Asked.read(table, request.query_params.multi_items(), ("fields", "order_by"))
        fields = asked.words.get("fields")
        query = queries.every(table, asked.filters, any_of=asked.any_of, fields=fields, order_by=asked.order_by)
        encoder = await asyncio.to_thread(make_encoder, kind, queries.vocabulary(table).columns(fields))
        parts = _pieces(encoder, reads.stream(query))
        first = await anext(parts)  # an error before the first byte is a problem, one behind it breaks the stream
        head = {"Content-Disposition": f'attachment; filename="{file}"'}
        return _File(first, parts, media_type=MEDIA[kind], headers=head)


class _File(StreamingResponse):
    """A streamed file. However its answer ends, its *parts* end with it: else they hold their connection until they are collected."""

    def __init__(self, first: bytes, parts: AsyncGenerator[bytes, None], **options: Any) -> None:
        super().__init__(_joined(first, parts), **options)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        async with aclosing(self._parts):
            await super().__call__(scope, receive, send)


async def _pieces(encoder: Encoder, sessions: AsyncGenerator[Session, None]) -> AsyncGenerator[bytes, None]:
    """Yield the file of *sessions*; encoding does not hold the event loop up."""
    batch: list[Session] = []
    async with aclosing(sessions):
        async for session in sessions:
            batch.append(session)
            if len(batch) == _BATCH:
                yield await asyncio.to_thread(encoder.encode, batch)
                batch = []
    rest = await asyncio.to_thread(encoder.encode, batch) if batch else b""
    yield rest + await asyncio.to_thread(encoder.finish)


async def _joined(first: bytes, parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for part in parts:
        if part:
            yield part
