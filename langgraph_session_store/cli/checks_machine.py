"""The checks of `session-store doctor` that look at this machine: versions, spool and MLflow."""

from __future__ import annotations

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import pq

from ..display import seconds
from ..errors import SessionStoreError
from ..spool import inspect, others
from . import spools
from .findings import Finding, told
from .output import plural, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..conninfo import Target
    from ..query import Table
    from ..spool import SpoolState

_FREE: Final = 512 << 20  # bytes below which the recorder writes no more to the disk


def program() -> Finding:
    """Return which versions these are."""
    from .. import __version__

    libpq = pq.version()
    what = f"langgraph-session-store {__version__}, Python {platform.python_version()}, psycopg {psycopg.__version__}"
    return Finding("program", "ok", f"{what}, libpq {libpq // 10000}.{libpq % 10000}")


def spool(target: Target, table: Table, spool_dir: Path | None) -> Iterator[Finding]:
    """Yield what waits on the disk, what was put aside, and whether there is room."""
    folder = spools.folder_of(target, table, spool_dir)
    try:
        state = inspect(folder)
    except SessionStoreError as error:
        yield told("spool", error)
        return
    except OSError as error:
        yield Finding("spool", "problem", f"{folder} cannot be read ({error.strerror})", f"chmod 700 {folder.parent}")
        return
    yield from _backlog(state)
    yield from _put_aside(state)
    if state.network:
        yield Finding(
            "spool",
            "warning",
            f"{folder} is on a network file system",
            "put it on a local disk: spool_dir= or XDG_STATE_HOME",
        )
    if state.free_bytes < _FREE:
        what = f"{size(state.free_bytes)} are free; below {size(_FREE)} the recorder keeps events in memory"
        yield Finding("disk", "problem", what, "free some room")
    for one in others(folder):
        what = f"{size(one.pending_bytes)} wait in {one.folder} for {one.owner or 'another server, schema or table'}"
        yield Finding("spool", "note", what, "session-store drain with its --dsn, --table and --schema")


def _backlog(state: SpoolState) -> Iterator[Finding]:
    drain = "session-store drain"
    if not state.pending_bytes:
        writing = f"; {plural(state.live, 'process', 'processes')}" + " write to it" if state.live else ""
        yield Finding("spool", "ok", f"nothing waits in {state.folder}{writing}")
    else:
        events = "events" if state.payloads is None else plural(state.payloads, "event")
        oldest = spools.oldest(state)
        age = f", the oldest {seconds(max(0.0, time.time() - oldest / 1e6))} old" if oldest else ""
        what = f"{events} wait in {state.folder} ({size(state.pending_bytes)}{age})"
        if state.left_bytes:
            yield Finding("spool", "warning", f"{what}; dead processes left {size(state.left_bytes)} of it", drain)
        else:
            yield Finding("spool", "note", f"{what}; the processes that recorded them store them", None)
    if state.open_runs:
        yield Finding(
            "spool", "warning", f"{plural(state.open_runs, 'run')} in flight of dead processes are not closed", drain
        )


def _put_aside(state: SpoolState) -> Iterator[Finding]:
    if state.quarantined:
        where = state.folder / "quarantine"
        what = f"{plural(state.quarantined, 'event')} could not be stored as recorded and lie in {where}"
        fix = f"repair what Postgres refused, then session-store drain --retry; rm -r {where} gives them up"
        yield Finding("quarantine", "warning", what, fix)
    if state.losses:
        what = f"{plural(len(state.losses), 'event')} lost for want of room, the last: {state.losses[-1]}"
        yield Finding(
            "losses", "warning", what, f"give the spool more room; rm -r {state.folder / 'losses'} once it is noted"
        )


def mlflow() -> Finding:
    """Return whether runs can be linked."""
    found = {name: v for name in ("mlflow", "mlflow-skinny", "mlflow-tracing") if (v := _version(name))}
    install_it = "pip install --force-reinstall 'langgraph-session-store[mlflow]'"
    if len(set(found.values())) > 1:
        what = ", ".join(f"{name} {v}" for name, v in found.items())
        return Finding("mlflow", "problem", f"{what} share one folder and break one another", install_it)
    if "mlflow" in found:
        return Finding("mlflow", "ok", f"mlflow {found['mlflow']}")
    if found:
        name, v = next(iter(found.items()))
        return Finding("mlflow", "ok", f"{name} {v}")
    what = "not installed: run_id comes from the config's metadata, run_id= or MLFLOW_RUN_ID alone"
    return Finding("mlflow", "note", what, "pip install 'langgraph-session-store[mlflow]' to link MLflow runs")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
