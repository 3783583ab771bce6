"""Every error as RFC 9457 ``application/problem+json``, and answers as JSON; never the text of a driver's error."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..errors import FilterError, StoreError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "valid": {"type": "array", "items": {"type": "string"}, "description": "the names that would have been valid"},
    },
}
_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says about errors with these *statuses*."""
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
        for status in statuses
    }


ERRORS: Final = described(400, 401, 403, 413, 414, 422, 429, 500, 503)
"""What any endpoint of the API may answer."""


def dumps(value: object) -> bytes:
    """Return *value* as JSON, whatever a row may hold."""
    try:
        return orjson.dumps(value, default=str, option=_OPTIONS)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        return json.dumps(_plain(value)).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else "null" if key is None else str(key): _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return None
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return orjson.loads(orjson.dumps(value, default=str, option=_OPTIONS))


class Json(Response):
    """An answer as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return *content* as JSON."""
        return dumps(content)


def problem(
    status: int, detail: str, *, instance: str | None = None, headers: Mapping[str, str] | None = None, **more: object
) -> Response:
    """Return a problem; *more* are members of its own."""
    content: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if instance is not None:
        content["instance"] = instance
    return Response(dumps({**content, **more}), status, {**(headers or {})}, MEDIA_TYPE)


def as_problem(error: Exception, instance: str | None = None) -> Response:  # noqa: PLR0911 - one per kind of error
    """Return *error* as a problem."""
    if isinstance(error, FilterError):
        _, _, names = str(error).partition("Valid: ")
        if not names:
            return problem(422, str(error), instance=instance)
        return problem(422, str(error), instance=instance, valid=names.split(", "))
    if isinstance(error, UnavailableError):
        return problem(
            503, "The database cannot answer now. Try again.", instance=instance, headers={"Retry-After": "2"}
        )
    if isinstance(error, StoreError):
        log.error("%s", error)  # ours: it names the table and the cure, no value
        return problem(503, "The database refuses to answer; the server's log says why.", instance=instance)
    if isinstance(error, RequestValidationError):
        return problem(422, "; ".join(_told(item) for item in error.errors()), instance=instance)
    if isinstance(error, HTTPException):
        return problem(error.status_code, error.detail, instance=instance, headers=error.headers)
    log.error("%s in a request", type(error).__name__)
    return problem(500, "This is a mistake of the server's; its log names it.", instance=instance)


def _told(item: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}"


class ProblemRoute(APIRoute):
    """A route whose errors are problems, in whatever app it is included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                return as_problem(error, request.url.path)

        return answer


def install(app: FastAPI) -> None:
    """Make what goes wrong outside of a route, too, a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        return as_problem(error, request.url.path)

    for kind in (HTTPException, RequestValidationError, FilterError, StoreError):
        app.add_exception_handler(kind, answer)
