"""The verbs that change something: init, delete, erase, purge; and serve and demo, which run something."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..queries.schema import script
from . import exits
from .options import Source, Yes, past, read_filters, read_moment, with_source
from .output import Output, plural, stamp

if TYPE_CHECKING:
    from ..store import SessionStore


@with_source
def init(
    at: Source,
    out: Output,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the SQL for an empty database instead; needs no database.")
    ] = False,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Keys that Citus can distribute, and distribute where there is Citus.")
    ] = False,
) -> None:
    """Create or upgrade the table.

    With its indexes, summary view, history and tombstones. Safe to run again, and while others write. 'session-store init --print | psql' is the same for who may not run this.
    """
    if print_only:
        out.line(script(at.table, distributed=distributed).rstrip("\n"))
        return
    with at.open(setup=True) as store:
        report = store.setup(distributed=distributed)
        where = f"{store.table.name} on {store.target.describe()}"
    if out.json:
        out.document({"table": at.table.name, "done": report.done, "notes": report.notes})
    elif "001_table" in report.done:
        out.say(("Created ", "green"), where)
    elif report.done:
        out.say(("Upgraded ", "green"), where, (f" ({', '.join(dict.fromkeys(report.done))})", "dim"))
    else:
        out.say(("Up to date: ", "green"), where)


@with_source
def delete(
    at: Source,
    out: Output,
    thread_ids: Annotated[list[str], typer.Argument(metavar="THREAD_ID", help="The sessions' thread ids.")],
    yes: Yes = False,
) -> None:
    """Delete sessions by thread id.

    With their history. Events from before that are still on their way are not stored any more. Exits with 1 where one was not there.
    """
    with at.open() as store:
        what = f"session {thread_ids[0]}" if len(thread_ids) == 1 else plural(len(thread_ids), "session")
        out.confirm(f"Delete {what} and all history, in {_where(store)}?", yes=yes, verb="delete")
        deleted = [thread_id for thread_id in thread_ids if store.delete(thread_id)]
    _removed(out, len(deleted), missing=[thread_id for thread_id in thread_ids if thread_id not in deleted])


@with_source
def erase(
    at: Source,
    out: Output,
    words: Annotated[
        list[str], typer.Argument(metavar="FILTER", help="field=value or field__op=value, as in user_id=u-17.")
    ],
    yes: Yes = False,
) -> None:
    """Delete sessions that match, such as one user's.

    With their history. What was erased stays erased, also when older events arrive later. A filter that matches every session is refused.
    """
    with at.open() as store:
        filters = read_filters(store.table, words)
        if not yes:
            count = store.count(**filters)
            out.confirm(
                f"Erase {plural(count, 'session')} and all history, in {_where(store)}?", yes=not count, verb="erase"
            )
        erased = store.erase(**filters)
    _removed(out, erased)


@with_source
def purge(
    at: Source,
    out: Output,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="WHEN",
            help="What did not change for 12h, 30d, 4w, or since a date.",
            show_default=False,
        ),
    ],
    yes: Yes = False,
) -> None:
    """Delete sessions that did not change for a while."""
    age = read_moment(older_than, "--older-than")
    with at.open() as store:
        before = past(store, age, "--older-than")
        if not yes:
            count = store.count(updated_at__lt=before)
            question = f"Delete {plural(count, 'session')} not changed since {stamp(before)}, and all history, in {_where(store)}?"
            out.confirm(question, yes=not count, verb="purge")
        purged = store.purge(older_than=before)
    _removed(out, purged)


@with_source
def serve(
    at: Source,
    out: Output,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Where to listen; others than the loopback need SESSION_STORE_TOKEN."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", metavar="PORT", min=0, max=65535, help="On which port.")] = 8000,
) -> None:
    """Serve the REST interface and the live dashboard."""
    from .. import web

    def ready(url: str) -> None:
        if out.json:
            out.document({"url": url})
            sys.stdout.flush()
        else:
            out.note(("Listening ", "green"), f"on {url} for {_where(store)}; Ctrl-C ends")

    with at.open() as store:
        web.serve(store, host=host, port=port, ready=ready)


@with_source
def demo(
    at: Source,
    out: Output,
    runs: Annotated[int, typer.Option("--runs", "-n", metavar="N", min=1, max=1000, help="How many runs.")] = 12,
    yes: Yes = False,
) -> None:
    """Record a few runs of a tiny agent.

    To have something to look at. Its sessions have thread ids demo-1, demo-2 ... and user_id demo; 'session-store erase user_id=demo' removes them.
    """
    from . import demonstration

    with at.open(setup=True) as store:
        if store.target.source not in ("default", "embedded"):
            out.confirm(f"Write {plural(runs, 'demo session')} into {_where(store)}?", yes=yes, verb="demo")
        demonstration.run(store, out, runs)


def _where(store: SessionStore) -> str:
    return f"{store.table.full.as_string(None)} on {store.target.describe()}"


def _removed(out: Output, count: int, missing: list[str] | None = None) -> None:
    if out.json:
        out.document({"deleted": count, "not_found": missing} if missing is not None else {"deleted": count})
    else:
        out.say(f"Deleted {plural(count, 'session')}")
    if missing:
        if not out.json:
            exits.complain(f"there is no session {', '.join(missing)}")
        raise typer.Exit(exits.MISSING)
