"""The pages: a public shell without data, assets from memory, and the fragments that the shell's script asks for."""

from __future__ import annotations

import asyncio
import mimetypes
from hashlib import blake2b
from importlib.resources import files
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, HTTPException
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations
from starlette.responses import Response

from ...errors import FilterError
from ...queries import reads as queries
from ..params import Asked
from ..problems import ProblemRoute, problem
from . import listing, markup, view
from .charts import charts

if TYPE_CHECKING:
    from ..reads import ReadStore
    from .overview import Numbers

_WORDS: Final = ("fields", "order_by", "cursor", "_q")
_FRAGMENT: Final = {"Cache-Control": "no-store"}
_SLOW: Final = 1.0  # seconds of a search after which the page says how to make it quick
_WEEK: Final = "public, max-age=604800, immutable"  # the address of an asset has its content's hash


class Assets:
    """The files of the page, read once."""

    def __init__(self) -> None:
        folder = files(__package__).joinpath("static")
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.version = blake2b(b"".join(self._files[name] for name in sorted(self._files)), digest_size=6).hexdigest()

    def answer(self, name: str) -> Response:
        """Return a file; HTTPException where there is none."""
        if (body := self._files.get(name)) is None:
            raise HTTPException(404, "There is no such file.")
        kind = {"js": "text/javascript", "woff2": "font/woff2"}.get(name.rpartition(".")[2]) or mimetypes.guess_type(
            name
        )[0]
        return Response(body, media_type=kind, headers={"Cache-Control": _WEEK})


def environment() -> Environment:
    """Return the templates: all text is escaped, and a name that is missing is an error."""
    env = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        enable_async=False,
    )
    shown = (
        markup.label,
        markup.number,
        markup.duration,
        markup.percent,
        markup.compact,
        markup.as_json,
        markup.lines_of,
        markup.diff,
        markup.parts_of,
    )
    env.globals |= {function.__name__: function for function in shown} | {"link": view.link}
    return env


def page_router(reads: ReadStore, numbers: Numbers, mlflow_uri: str | None) -> APIRouter:
    """Return the dashboard's routes."""
    router = APIRouter(route_class=ProblemRoute)
    assets, env = Assets(), environment()
    _add_shell(router, assets, env)
    _add_numbers(router, reads, numbers, env)
    _add_filters(router, reads, env)
    _add_table(router, reads, env)
    _add_session(router, reads, env, mlflow_uri)
    return router


def _add_shell(router: APIRouter, assets: Assets, env: Environment) -> None:
    shell = env.get_template("shell.html")
    texts = {page: shell.render(page=page, version=assets.version) for page in ("first", "session")}

    def answer(page: str) -> Response:  # a new one each time: what squeezes it changes its headers
        return Response(texts[page], media_type="text/html", headers={"Cache-Control": "no-cache"})

    @router.get("/")
    async def first_screen() -> Response:
        return answer("first")

    @router.get("/session")
    async def session_page() -> Response:
        return answer("session")

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        return assets.answer(name)

    @router.get("/favicon.ico")
    async def favicon() -> Response:
        return assets.answer("favicon.svg")


def _add_numbers(router: APIRouter, reads: ReadStore, numbers: Numbers, env: Environment) -> None:
    @router.get("/fragments/counters")
    async def counters(request: Request) -> Response:
        asked = _ask(reads, request)
        filters = {name: value for name, value in asked.filters.items() if name != "workflow_status"}
        counts, fresh = await numbers.counts(filters, asked.any_of)  # of every status: each can be chosen
        shown = view.counters(counts, request.query_params.multi_items())
        return _html(env, "counters.html", fresh, counters=shown, counts=counts)

    @router.get("/fragments/charts")
    async def drawn(request: Request) -> Response:
        asked = _ask(reads, request)
        found, fresh = await numbers.overview(asked.filters, asked.any_of)
        drawn, here = charts(found, numbers.axes), request.query_params.multi_items()
        return _html(env, "charts.html", fresh, charts=drawn, judged=numbers.axes.judged, here=here)


def _add_filters(router: APIRouter, reads: ReadStore, env: Environment) -> None:
    @router.get("/fragments/filters")
    async def filters(request: Request) -> Response:
        here = request.query_params.multi_items()
        try:
            asked, mistake = _ask(reads, request), None
        except FilterError as error:
            asked, mistake = Asked({}, None, {}), str(error)
        shown = asked.words.get("fields") or listing.default_columns(reads)
        chosen = queries.vocabulary(reads.table).columns(shown)
        return _html(
            env,
            "filters.html",
            chips=view.chips(here),
            fields=view.choices(reads.record, reads.table),
            columns=reads.table.columns,
            chosen=[column.name for column in chosen],
            query=request.query_params.get("_q", ""),
            rest=view.exported(here),
            here=here,
            mistake=mistake,
        )


def _add_table(router: APIRouter, reads: ReadStore, env: Environment) -> None:
    @router.get("/fragments/table")
    async def rows(request: Request) -> Response:
        asked = _ask(reads, request)
        began = monotonic()
        found = await reads.read(listing.page(reads, asked))
        spent = monotonic() - began
        here = request.query_params.multi_items()
        bare = not found.rows and not asked.filters and asked.any_of is None and "cursor" not in asked.words
        return _html(
            env,
            "table.html",
            heads=view.heads(reads.table, found.columns, asked.order_by, here),
            rows=[(row, [markup.cell(column, row[column.name]) for column in found.columns]) for row in found.rows],
            here=here,
            next_cursor=found.next_cursor,
            behind="cursor" in asked.words,
            empty=bare,
            record=reads.record.__name__,
            cut=listing.CUT,
            slow=spent if spent > _SLOW and "_q" in asked.words and not listing.searched(reads)[1] else None,
        )


def _ask(reads: ReadStore, request: Request) -> Asked:
    """Read the query string of the page, whose search box is one more filter."""
    asked = Asked.read(reads.table, request.query_params.multi_items(), _WORDS)
    if text := asked.words.get("_q", "").strip():
        if asked.any_of is not None:
            raise FilterError("any_of: the search box uses it, too; clear one of them")
        return Asked(asked.filters, listing.search(reads, text), asked.words)
    return asked


def _html(env: Environment, name: str, fresh: float = 0.0, **values: Any) -> Response:
    headers = {**_FRAGMENT, "X-Fresh-For": f"{fresh:.2f}"}  # seconds in which asking again would tell nothing new
    return Response(env.get_template(name).render(**values), media_type="text/html", headers=headers)


def _add_session(router: APIRouter, reads: ReadStore, env: Environment, mlflow_uri: str | None) -> None:
    @router.get("/fragments/session")
    async def session(request: Request) -> Response:
        thread_id = request.query_params.get("thread_id", "")
        row, versions = await asyncio.gather(reads.get(thread_id), reads.versions(thread_id))
        if row is None:
            return problem(404, "There is no session of this thread.", instance=request.url.path)
        values = view.session(reads, row, versions, mlflow_uri)
        template = env.get_template("session.html")
        text = await asyncio.to_thread(lambda: template.render(**values))  # colours and diffs take their time
        return Response(text, media_type="text/html", headers=_FRAGMENT)
