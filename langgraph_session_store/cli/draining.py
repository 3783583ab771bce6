"""The verb drain: what dead recorders left on this disk, and what lies in the quarantine, into the table."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..clock import to_datetime
from ..queries.schema import describe
from ..query import Table
from ..sink import PostgresSink
from ..spool import inspect, others, pending
from ..writer import PairedSink
from ..writer import drain as drain_spool
from ..writer.retry import quarantined
from ..writer.retry import retry as retry_quarantine
from . import exits, spools
from .options import DryRun, Source, SpoolDir, with_source
from .output import Column, Output, plural, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..spool import SpoolState
    from ..store import SessionStore
    from ..writer import WriterStats
    from ..writer.retry import Retried

_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0,
        help="Give up after so long; by default only when Postgres refuses.",
        show_default=False,
    ),
]
_Retry = Annotated[
    bool, typer.Option("--retry", help="Then also what is in quarantine, once you repaired why Postgres refused it.")
]


@with_source
def drain(  # noqa: PLR0917 - options
    at: Source,
    out: Output,
    spool_dir: SpoolDir = None,
    timeout: _Timeout = None,
    retry: _Retry = False,
    dry_run: DryRun = False,
) -> None:
    """Store what recorders that died left on this disk.

    Needs no record class. Recorders that live store their own. Writes on two connections, or on one where the server allows no second.
    Exits with 1 where something is left.
    """
    with at.open() as store:
        folder = spools.folder_of(store.target, store.table, spool_dir)
        state = inspect(folder)
        if dry_run:
            _foretell(out, state, retry=retry)
            return
        with closing(_sink(store)) as sink:
            with _bar(out, state):
                stats = drain_spool(folder, sink, clock=store.clock, timeout=timeout)
            retried = retry_quarantine(folder, sink) if retry else None
    _tell(out, state, stats, retried)
    left = inspect(folder).left_bytes  # also of what there was no time to read
    if stats.pending or left or stats.state == "blocked":
        why = f" ({stats.last_error})" if stats.last_error else ""
        what = plural(stats.pending, "event") if stats.pending else size(left)
        exits.fail(f"{what} left{why}: see session-store doctor", exits.MISSING)
    if retried is not None and retried.left:
        raise typer.Exit(exits.MISSING)


def _sink(store: SessionStore) -> PairedSink:
    table = store.run(describe(Table(store.table.name, (), store.table.schema)))
    first, second = (PostgresSink(store.target.kwargs, table, clock=store.clock) for _ in range(2))
    return PairedSink(first, second)


@contextmanager
def _bar(out: Output, before: SpoolState) -> Iterator[None]:
    """Show how much of what waited is stored."""
    done = threading.Event()
    with out.progress("Storing bytes") as progress:

        def look() -> None:
            while progress and not done.wait(0.2):
                progress(max(0, before.pending_bytes - pending(before.folder)), before.pending_bytes)

        if progress and before.pending_bytes:
            threading.Thread(target=look, daemon=True).start()
        try:
            yield
        finally:
            done.set()


def _foretell(out: Output, state: SpoolState, *, retry: bool) -> None:
    """Say what would be stored."""
    aside = list(_aside(state.folder)) if retry else []
    if out.json:
        left = {"left_bytes": state.left_bytes, "open_runs": state.open_runs, "live_processes": state.live}
        out.document({"spool": str(state.folder), **left, **({"quarantined": aside} if retry else {})})
        return
    if state.left_bytes or state.open_runs:
        runs = f" and close {plural(state.open_runs, 'run')}" if state.open_runs else ""
        out.say(("Would store ", "green"), f"{size(state.left_bytes)}{runs} of dead processes, from {state.folder}")
    else:
        out.say(f"Nothing to store in {state.folder}")
    if retry:
        out.say(("Would retry ", "green"), f"{plural(len(aside), 'event')} in quarantine")
        out.rows([Column(name) for name in ("file", "thread_id", "workflow_status", "recorded_at")], aside)


def _aside(folder: Path) -> Iterator[dict[str, object]]:
    for path, row in quarantined(folder):
        yield {
            "file": path.name,
            "thread_id": row and row.thread_id,
            "workflow_status": row and row.get("workflow_status"),
            "recorded_at": row and to_datetime(row.recorded_at),
        }


def _tell(out: Output, before: SpoolState, stats: WriterStats, retried: Retried | None) -> None:
    elsewhere = others(before.folder)
    if out.json:
        about = {"spool": str(before.folder), "live_processes": before.live, "other_spools": len(elsewhere)}
        again = {} if retried is None else {"retried": asdict(retried)}
        out.document({**about, **stats.as_dict(), **again})
        return
    if stats.accepted or stats.pending:
        names = ("stored", "superseded", "quarantined", "abandoned", "pending", "dropped")
        counts = {name: getattr(stats, name) for name in names}
        out.say(("Drained ", "green"), f"{plural(stats.accepted, 'event')}: {_told(counts)}")
    elif retried is None and not before.left_bytes:
        out.say(f"Nothing to store in {before.folder}")
    if retried is not None:
        _tell_retried(out, retried)
    if elsewhere:
        where = before.folder.parent
        out.note((f"{plural(len(elsewhere), 'other spool')} in {where} (--dsn, --schema, --table):", "dim"))
        for one in elsewhere:
            out.note((f"  {size(one.pending_bytes)} of {one.owner or one.folder.name}", "dim"))


def _tell_retried(out: Output, retried: Retried) -> None:
    counts = {"stored": retried.stored, "superseded": retried.superseded, "still in quarantine": len(retried.left)}
    out.say(("Retried ", "green"), f"{plural(sum(counts.values()), 'event')}: {_told(counts)}")
    for name, why in retried.left.items():
        exits.complain(f"{name}: {why}")


def _told(counts: dict[str, int]) -> str:
    first = next(iter(counts))
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == first)
