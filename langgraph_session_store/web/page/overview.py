"""The numbers of the first screen: exact counts by status, and the latest sessions in one bounded pass, both cached for a moment."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from psycopg.sql import SQL, Composable

from ...filters.paging import fingerprint
from ...filters.sqltypes import sql_type
from ...queries.reads import vocabulary
from ...query import Query, name, statement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ...columns import TableColumn
    from ...filters.paging import Condition
    from ...query import Rows, Table
    from ..reads import ReadStore

LATEST: Final = 50_000
"""Sessions that the charts are about, so that their cost has a bound; the counters are about all."""
_FRESH: Final = 1.0  # seconds that numbers are good for, at least
_PATIENCE: Final = 10.0  # times as long as they took
_KEPT: Final = 64  # filters
_SHORT: Final = 100  # characters of a field whose values are worth comparing
_WHOLE, _BUCKET, _FIELDS, _STEP, _BIN, _CAUSE = (
    31,
    15,
    23,
    27,
    29,
    30,
)  # GROUPING()'s bits are set where it is not grouped by


class Part(NamedTuple):
    """Some sessions: how many, how many of them finished, and how many of those well."""

    total: int
    finished: int
    good: int

    @property
    def rate(self) -> float | None:
        """The share of the finished that went well."""
        return self.good / self.finished if self.finished else None


NOBODY: Final = Part(0, 0, 0)


@dataclass(frozen=True)
class Overview:
    """What the charts show, about the latest sessions."""

    whole: Part = NOBODY
    since: datetime | None = None
    p50: float | None = None
    p95: float | None = None
    stride: timedelta = timedelta(hours=1)
    width: int = 1
    buckets: dict[datetime, Part] = field(default_factory=dict)
    cells: dict[tuple[Any, Any], Part] = field(default_factory=dict)
    steps: dict[int, Part] = field(default_factory=dict)
    bins: dict[int, Part] = field(default_factory=dict)
    causes: dict[str, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """All sessions by status, and what finished within the last hour."""

    by_status: dict[str | None, int]
    hour: Part

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_status.values())


class Axes(NamedTuple):
    """The columns that the charts of a table compare."""

    first: str
    second: str
    number: str | None
    judged: bool
    """Whether tests tell success, or the status alone."""

    @classmethod
    def of(cls, reads: ReadStore) -> Axes:
        """Choose them: short texts and choices, then whose run it was; the first whole number."""
        declared = [column for column in reads.table.columns if column.kind != "own"]
        short = [column.name for column in declared if _is_short(column, reads.large)]
        first, second = [*short, "graph_name", "user_id"][:2]
        whole = [column.name for column in declared if column.sql_type in ("integer", "bigint", "smallint")]
        judged = any(column.name == "tests_passed" and column.sql_type == "boolean" for column in declared)
        return cls(first, second, whole[0] if whole else None, judged)


class Numbers:
    """Asks for numbers, each once at a time and again only after a moment that grows with what they cost."""

    def __init__(self, reads: ReadStore) -> None:
        self._reads = reads
        self.axes = Axes.of(reads)
        self._kept: OrderedDict[str, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def counts(self, filters: Mapping[str, object], any_of: Any = None) -> tuple[Counts, float]:
        """Return the counts of what matches, and the seconds until they are asked for again."""
        condition = self._condition(filters, any_of)

        async def ask() -> Counts:
            since = self._reads.now() - timedelta(hours=1)
            by_status, hour = await asyncio.gather(
                self._reads.run(_tally(self._reads.table, condition)),
                self._reads.run(_hour(self._reads.table, condition, self.axes, since)),
            )
            return Counts(by_status, hour)

        return await self._once("counts", condition, ask)

    async def overview(self, filters: Mapping[str, object], any_of: Any = None) -> tuple[Overview, float]:
        """Return what the charts show of the latest that match, and the seconds until it is asked for again."""
        condition = self._condition(filters, any_of)
        return await self._once(
            "overview", condition, lambda: self._reads.run(overview(self._reads.table, condition, self.axes))
        )

    def _condition(self, filters: Mapping[str, object], any_of: Any) -> Condition:
        return vocabulary(self._reads.table).where(filters, any_of)

    async def _once(self, what: str, condition: Condition, ask: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
        await self._reads.ensure()
        key = what + fingerprint(condition, vocabulary(self._reads.table).order())
        until, task = self._kept.get(key, (0.0, None))
        if task is None or (task.done() and (time.monotonic() > until or task.cancelled() or task.exception())):

            async def timed() -> Any:
                began = time.monotonic()
                found = await ask()
                now = time.monotonic()
                self._kept[key] = (now + max(_FRESH, _PATIENCE * (now - began)), self._kept[key][1])
                return found

            task = asyncio.create_task(timed())
            self._kept[key] = (time.monotonic(), task)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        found = await asyncio.shield(task)
        return found, max(0.0, self._kept.get(key, (0.0, task))[0] - time.monotonic())


def overview(table: Table, condition: Condition, axes: Axes) -> Query[Overview]:
    """Read what the charts show."""
    text = statement(
        _load("overview"),
        table=table.full,
        condition=condition.sql,
        first=name(axes.first),
        second=name(axes.second),
        number=SQL("{}::double precision").format(name(axes.number)) if axes.number else SQL("NULL::double precision"),
        passed=_passed(axes),
    )
    return Query(text, {**condition.params, "most": LATEST}, lambda rows, _: _fold(rows))


def _fold(rows: Rows) -> Overview:
    kinds: dict[int, dict[Any, Part]] = {_BUCKET: {}, _FIELDS: {}, _STEP: {}, _BIN: {}, _CAUSE: {}}
    about: dict[str, Any] = {}
    for kind, bucket, first, second, step, bin_, cause, total, finished, good, p50, p95, since, stride, width in rows:
        part = Part(total, finished, good)
        if kind == _WHOLE:
            about = {"whole": part, "since": since, "p50": p50, "p95": p95, "stride": timedelta(seconds=stride or 3600), "width": int(width or 1)}  # fmt: skip
        else:
            key = {_BUCKET: bucket, _FIELDS: (first, second), _STEP: step, _BIN: bin_, _CAUSE: cause}[kind]
            if key is not None:
                kinds[kind][key] = part
    ordered = {kind: dict(sorted(kinds[kind].items())) for kind in (_BUCKET, _STEP, _BIN)}
    return Overview(
        **about,
        buckets=ordered[_BUCKET],
        cells=kinds[_FIELDS],
        steps=ordered[_STEP],
        bins=ordered[_BIN],
        causes=dict(sorted(kinds[_CAUSE].items(), key=lambda item: -item[1].total)),
    )


def _tally(table: Table, condition: Condition) -> Query[dict[str | None, int]]:
    text = statement(_load("tally"), table=table.full, condition=condition.sql)
    return Query(text, condition.params, lambda rows, _: {status: count for status, count in rows})  # noqa: C416


def _hour(table: Table, condition: Condition, axes: Axes, since: datetime) -> Query[Part]:
    text = statement(_load("hour"), table=table.full, condition=condition.sql, passed=_passed(axes))

    def read(rows: Rows, _: int) -> Part:
        ((finished, good),) = rows
        return Part(finished, finished, good)

    return Query(text, {**condition.params, "since": since}, read)


def _passed(axes: Axes) -> Composable:
    return SQL("tests_passed") if axes.judged else SQL("workflow_status = 'completed'")


def _is_short(column: TableColumn, large: frozenset[str]) -> bool:
    family, _, size = column.sql_type.partition("(")
    if family == "varchar" and size:
        return int(size.rstrip(")")) <= _SHORT
    return (family in ("text", "varchar") and (column.index is True or column.name not in large)) or (
        sql_type(column.sql_type).family == "boolean" and column.name != "tests_passed"
    )


@cache
def _load(what: str) -> SQL:
    _, _, text = files(__package__).joinpath("sql", f"{what}.sql").read_text("utf-8").partition("\n")
    return SQL(text)
