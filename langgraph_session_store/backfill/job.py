"""All threads of a checkpointer, page by page: read, compared with what is there, written. Any page may be the last before a kill."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError, DataError
from .plan import Plan, sort_out
from .sources import Failed, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..query import Steps
    from ..row import Row
    from ..store import AsyncSessionStore, SessionStore
    from .sources import Source

PAGE: Final = 500
"""Threads of a page."""
_BUDGET: Final = 8 << 20  # characters of rows that are held before they are written
_NAMED: Final = 1_000  # failures that a report names


@dataclass
class BackfillReport:
    """What became of the threads: how many of each, and why some *failed*, by thread; at most 1,000 are named.

    *after* is the id of the last thread of the last page that is done: where to go on after a kill. A *dry_run* says what would be.
    """

    threads: int = 0
    created: int = 0
    updated: int = 0
    filled: int = 0
    unchanged: int = 0
    erased: int = 0
    failed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    after: str = ""
    dry_run: bool = False

    def count(self, plan: Plan) -> None:
        """Add what *plan* says."""
        for name in ("created", "updated", "filled", "unchanged", "erased"):
            setattr(self, name, getattr(self, name) + len(getattr(plan, name)))

    def fail(self, thread_id: str, reason: str) -> None:
        """Add a thread that made no row."""
        self.failed += 1
        if len(self.failures) < _NAMED:
            self.failures[thread_id] = reason


def backfill(
    store: SessionStore,
    checkpointer: Any = None,
    *,
    graph: Any = None,
    after: str = "",
    dry_run: bool = False,
    redact: Callable[[str, Any], Any] | None = None,
    user_id: str | None = None,
    progress: Callable[[BackfillReport, int], object] | None = None,
) -> BackfillReport:
    """Write a row for every thread that *checkpointer* holds (default: the *graph*'s own), and return what became of them.

    With the *graph* rows are what it would say of each thread; without it what the checkpoints say by themselves. Nothing newer is
    overwritten and nothing erased comes back, so that it can be run again at any time, also while graphs run; fields that are NULL, such as a
    record's new ones, are filled. A thread that fails is reported and the rest is done. *redact* and *user_id* are those of a
    `SessionRecorder`. *progress* is called after each page of 500 threads with the report so far and the number of threads in all;
    *after* goes on behind a thread id, as a report of an earlier one says it.

    Raises what the checkpointer raises where its threads cannot be listed, ConfigError where it has no tables, and a `StoreError`
    where Postgres cannot be written to.
    """
    store.ensure()
    job = _Job(store, checkpointer, graph, None, redact=redact, user_id=user_id)
    job.transaction, job.save = store.transaction, store.save_many
    return job.run(after, progress, dry_run=dry_run)


async def abackfill(
    store: AsyncSessionStore,
    checkpointer: Any = None,
    *,
    graph: Any = None,
    after: str = "",
    dry_run: bool = False,
    redact: Callable[[str, Any], Any] | None = None,
    user_id: str | None = None,
    progress: Callable[[BackfillReport, int], object] | None = None,
) -> BackfillReport:
    """Do what `backfill` does for asyncio, with a checkpointer of either kind; *progress* is called in another thread.

    Decoding is work: it is done in a thread, which asks this loop for what has to be awaited.
    """
    await store.ensure()
    loop = asyncio.get_running_loop()
    job = _Job(store, checkpointer, graph, loop, redact=redact, user_id=user_id)
    job.transaction = lambda steps: asyncio.run_coroutine_threadsafe(store.transaction(steps), loop).result()
    job.save = lambda rows: asyncio.run_coroutine_threadsafe(store.save_many(rows), loop).result()
    try:
        return await asyncio.to_thread(job.run, after, progress, dry_run=dry_run)
    finally:
        job.stopped.set()


class _Job:
    """One backfill: what it reads from and writes to, whichever colour either has."""

    transaction: Callable[[Steps[Plan]], Plan]
    save: Callable[[Iterable[Row]], int]

    def __init__(
        self,
        store: SessionStore | AsyncSessionStore,
        checkpointer: Any,
        graph: Any,
        loop: asyncio.AbstractEventLoop | None,
        **options: Any,
    ) -> None:
        from .thread import Reader  # which brings langgraph

        saver = checkpointer_of(checkpointer, graph)
        self._store = store
        self._loop = loop
        self._saver = saver
        self._reader = Reader(store.record, graph=graph, saver=saver, **options)
        self.stopped = threading.Event()

    def run(
        self, after: str, progress: Callable[[BackfillReport, int], object] | None, *, dry_run: bool
    ) -> BackfillReport:
        """Do all threads behind *after*."""
        source = source_of(self._saver, self._loop)
        report = BackfillReport(after=after, dry_run=dry_run)
        total = source.count(after) if progress else 0
        while not self.stopped.is_set() and (threads := source.threads(report.after, PAGE)):
            for rows in self._rows(source, threads, report):
                self._write(rows, report)
            report.threads += len(threads)
            report.after = threads[-1]
            if progress:
                progress(report, max(total, report.threads))
        return report

    def _rows(self, source: Source, threads: Sequence[str], report: BackfillReport) -> Iterator[list[Row]]:
        """Yield the rows of a page, in as many parts as memory wants."""
        rows: list[Row] = []
        size = 0
        for held in source.read(threads):
            found = held if isinstance(held, Failed) else self._reader.row(held, self._store.clock.tick())
            if isinstance(found, Failed):
                report.fail(*found)
                continue
            rows.append(found)
            size += sum(len(value) for value in found.values if isinstance(value, str))
            if size > _BUDGET:
                yield rows
                rows, size = [], 0
        yield rows

    def _write(self, rows: list[Row], report: BackfillReport) -> None:
        if not rows:
            return
        plan = self.transaction(sort_out(self._store.table, rows, dry_run=report.dry_run))
        if not report.dry_run:
            try:
                self.save(plan.rows)
            except DataError:
                self._one_by_one(plan, report)
        report.count(plan)

    def _one_by_one(self, plan: Plan, report: BackfillReport) -> None:
        """Write the rows of *plan*, of which one is refused, each by itself, and take what is refused out of it."""
        for rows in (plan.created, plan.updated, plan.filled):
            for row in list(rows):
                try:
                    self.save([row])
                except DataError as error:
                    rows.remove(row)
                    report.fail(row.thread_id, str(error))


def checkpointer_of(checkpointer: Any, graph: Any) -> Any:
    """Return the checkpointer that was given, else the *graph*'s; ConfigError for what is none."""
    from langgraph.checkpoint.base import BaseCheckpointSaver

    saver = checkpointer if checkpointer is not None else getattr(graph, "checkpointer", None)
    if not isinstance(saver, BaseCheckpointSaver):
        raise ConfigError(
            f"backfill needs a checkpointer, or a graph that was compiled with one, not {type(saver).__name__}"
        )
    return saver
