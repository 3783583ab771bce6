"""The verbs that look: list, show, stats, versions, watch, export, clusters."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import exits, tallies, views
from .options import Fields, Order, Source, Thread, Words, past, read_filters, read_moment, with_source
from .output import Output, plural

if TYPE_CHECKING:
    from ..clusters import Clusters

Group = Annotated[
    str | None,
    typer.Option(
        "--group-by", "-g", metavar="NAME,...", help="Numbers for each value of these columns.", show_default=False
    ),
]
Bucket = Annotated[
    Literal["hour", "day", "week"] | None,
    typer.Option(
        "--bucket",
        "-b",
        metavar="hour|day|week",
        help="Numbers over time, by hour, day or week of UTC.",
        show_default=False,
    ),
]
Format = Annotated[
    Literal["csv", "ndjson", "parquet"] | None,
    typer.Option(
        "--format",
        metavar="csv|ndjson|parquet",
        help="By default what the file's name ends in; ndjson for standard output.",
        show_default=False,
    ),
]


@with_source
def list_sessions(
    at: Source,
    out: Output,
    words: Words = None,
    *,
    fields: Fields = None,
    order_by: Order = "-created_at",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many, up to 1,000.")] = 50,
    cursor: Annotated[
        str | None,
        typer.Option("--cursor", metavar="TEXT", help="Go on where the page before ended.", show_default=False),
    ] = None,
) -> None:
    """List sessions, newest first.

    In a pipe: a tab-separated line each, without a head; --fields says which columns. With --json: {"sessions": [...], "count":
    sessions here, "next_cursor": what --cursor takes, or null}. For all that match, without a limit, use export.
    """
    with at.open() as store:
        columns = views.columns(store.table, fields, at.record)
        wanted = fields if out.json else [column.name for column in columns]
        page = store.query(
            **read_filters(store.table, words), fields=wanted, order_by=order_by, limit=limit, cursor=cursor
        )
    if out.json:
        out.document({"sessions": list(page), "count": len(page), "next_cursor": page.next_cursor})
        return
    if page:
        out.rows(columns, page)
    elif out.rich:
        out.note(("No sessions match.", "dim"))
    if page.next_cursor:
        out.note((f"{len(page)} shown, there are more: --limit, or --cursor {page.next_cursor}", "dim"))


@with_source
def show(at: Source, out: Output, thread_id: Thread, fields: Fields = None) -> None:
    """Show one session: fields, code, tests, times, history.

    In a pipe: a line per column, name and value; with one column in --fields just its value, as it is, so that
    'session-store show t-1 -f code > solution.py' works.
    """
    with at.open() as store:
        session = store.get(thread_id)
        wanted = views.vocabulary_columns(store.table, fields)
        history = store.versions(thread_id) if session and out.rich and not fields and store.table.versioned else []
    if session is None:
        exits.fail(f"there is no session {thread_id}", exits.MISSING)
    chosen = {column.name: session[column.name] for column in wanted}
    if out.json:
        out.document(chosen)
    elif out.rich:
        views.session(out, store.table, chosen, history, at.command("versions", thread_id), whole=fields is None)
    elif len(chosen) == 1 and fields:
        (value,) = chosen.values()
        out.line(views.raw(value))
    else:
        for name, value in chosen.items():
            out.fields([name, value])


@with_source
def stats(at: Source, out: Output, words: Words = None, *, group_by: Group = None, bucket: Bucket = None) -> None:
    """Count sessions: success, attempts, durations, over time.

    In a pipe: the rows of the groups or of the series, tab-separated, under a line of names; without those a line per number.
    """
    with at.open() as store:
        numbers = store.analytics(**read_filters(store.table, words), group_by=group_by, bucket=bucket)
    if out.json:
        out.document(numbers.to_dict())
    elif out.rich:
        tallies.analytics(out, numbers)
    else:
        tallies.plain_analytics(out, numbers)


@with_source
def versions(at: Source, out: Output, thread_id: Thread) -> None:
    """Show how a session changed, newest first.

    In a pipe: number, time, MLflow run and the changed fields of each version. With --json: {"versions": [...]}.
    """
    with at.open() as store:
        history = store.versions(thread_id)
        if not history and store.get(thread_id) is None:
            exits.fail(f"there is no session {thread_id}", exits.MISSING)
    if out.json:
        keys = ("version", "recorded_at", "run_id", "values", "changes")
        out.document({"versions": [{key: getattr(version, key) for key in keys} for version in history]})
    elif out.rich:
        views.history(out, history)
    else:
        for version in history:
            out.fields([version.version, version.recorded_at, version.run_id, ",".join(version.changes)])


@with_source
def watch(
    at: Source,
    out: Output,
    words: Words = None,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Begin with what changed since 10m, 2h or a date.", show_default=False
        ),
    ] = None,
    poll: Annotated[float, typer.Option("--poll", metavar="SECONDS", min=0.1, help="Ask every so often.")] = 1.0,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="End after so many.", show_default=False)
    ] = None,
) -> None:
    """Print sessions as they change, until Ctrl-C.

    In a pipe: time of the change, thread, status, fields, tab-separated. With --json: a session per line.
    """
    moment = read_moment(since, "--since") if since else None
    seen = 0
    with at.open() as store:
        filters = read_filters(store.table, words)
        own = next(key for key in ("id", "id__eq", "id__in") if key not in filters)
        columns = views.watched(store.table, at.record)
        store.count(**filters)
        changes = store.changes(past(store, moment, "--since") if moment else None, poll=poll)
        if out.rich:
            out.note((f"Watching {store.table.name} on {store.target.describe()}; Ctrl-C ends.", "dim"))
        for session in changes:
            if filters and not store.count(**filters, **{own: [session["id"]] if own == "id__in" else session["id"]}):
                continue
            views.change(out, columns, session)
            seen += 1
            if seen == limit:
                break


@with_source
def export(
    at: Source,
    out: Output,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The file to write, or - for standard output.", show_default=False)
    ],
    words: Words = None,
    *,
    file_format: Format = None,
    fields: Fields = None,
    order_by: Order = "-created_at",
) -> None:
    """Write sessions to a csv, ndjson or parquet file.

    All that match, in constant memory. A file is renamed into place when it is whole. csv cells that a spreadsheet would take for formulas get
    an apostrophe.
    """
    from .. import export as exporting

    to_output = path == "-"
    if not to_output and file_format is None:
        exporting.format_of(path)
    with at.open() as store, out.progress("Exporting", quiet=to_output and out.console.is_terminal) as progress:
        filters = read_filters(store.table, words)
        columns = views.vocabulary_columns(store.table, fields)
        rows = store.iter(**filters, fields=fields, order_by=order_by)
        total = store.count(**filters) if progress else None
        try:
            written = exporting.export(
                rows,
                columns,
                sys.stdout.buffer if to_output else path,
                file_format or ("ndjson" if to_output else None),
                progress=lambda done: progress(done, total) if progress else None,
            )
        except OSError as error:  # a full disk names no file
            exits.fail(f"{path} cannot be written: {error.strerror or type(error).__name__}", exits.MISSING)
    if not to_output and out.json:
        out.document({"path": path, "sessions": written})
    elif not to_output:
        out.note(f"{plural(written, 'session')} in {path}")


@with_source
def clusters(
    at: Source,
    out: Output,
    words: Words = None,
    *,
    text: Annotated[
        str, typer.Option("--text", metavar="NAME,...", help="The text columns that are compared.")
    ] = "user_prompt",
    categorical: Annotated[
        str | None,
        typer.Option(
            "--categorical", metavar="NAME,...", help="Columns whose values count as well.", show_default=False
        ),
    ] = None,
    groups: Annotated[
        int | None,
        typer.Option(
            "--groups", metavar="N", min=1, help="How many; by default as many as the texts say.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Of the newest so many.")] = 10_000,
) -> None:
    """Find groups of similar sessions by what was asked.

    In a pipe: a line per session, its thread id and the number and name of its group. With --json: the groups and their sessions.
    """
    from ..clusters import cluster_sessions

    texts, kinds = text.split(","), categorical.split(",") if categorical else []
    with at.open() as store, out.progress("Reading", quiet=out.json):
        own = [name for name in ("workflow_status", "tests_passed") if any(c.name == name for c in store.table.columns)]
        fields = list(dict.fromkeys(["thread_id", *own, *texts, *kinds]))
        rows = list(islice(store.iter(**read_filters(store.table, words), fields=fields), limit))
    _tell_clusters(out, cluster_sessions(rows, text=texts, categorical=kinds, groups=groups), len(rows))


def _tell_clusters(out: Output, found: Clusters, total: int) -> None:
    members: dict[int, list[str]] = {group.number: [] for group in found}
    for thread_id, number in found.members:
        members[number].append(thread_id)
    if out.json:
        told = [{**asdict(group), "thread_ids": members[group.number]} for group in found]
        out.document({"clusters": told, "silhouette": found.silhouette, "count": total})
    elif out.rich:
        views.clusters(out, found, total)
    else:
        for thread_id, number in found.members:
            out.fields([thread_id, number, found[number].name])
