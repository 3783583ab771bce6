"""Numbers about many sessions: one statement, one pass over the table, folded into `Analytics`. Pure.

The statement groups by several sets of dimensions at once; which set a row belongs to is told by the bits of GROUPING(), so that a
topic that is NULL and a row about all topics are not mistaken for one another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from psycopg.sql import NULL, SQL, Composable, Composed

from ..errors import FilterError
from ..filters.sqltypes import sql_type
from ..query import Query, Rows, Table, name, statement
from ..session import Analytics, AnalyticsGroup, NumericSummary, success_rate
from ..sql import load
from .ddl import COVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..columns import TableColumn
    from ..filters.paging import Condition

BUCKETS: Final = ("hour", "day", "week")

_START: Final = "bucket"  # no column may have this name
_COUNTED: Final = ("topic", "difficulty")
_MOST: Final = 31
"""Arguments that GROUPING takes."""
_EXACT: Final = Context(prec=150_000)  # more than numeric has
_FINISHED: Final = SQL("key__workflow_status IN ('completed', 'failed')")


@dataclass(frozen=True)
class _Plan:
    """The dimensions in the order of the statement, and the sets of them that are grouped by."""

    table: Table
    group_by: tuple[TableColumn, ...]
    bucket: str | None
    whole: bool
    """Whether nothing but the numbers of the whole table is wanted, which indexes hold."""

    @property
    def names(self) -> list[str]:
        present = {column.name for column in self.table.columns}
        wanted = [*(word for word in _COUNTED if word in present), "workflow_status", *self.groups]
        return [*dict.fromkeys(wanted), *([_START] if self.bucket else [])]

    @property
    def groups(self) -> list[str]:
        return [column.name for column in self.group_by]

    @property
    def slices(self) -> list[frozenset[str]]:
        """The sets that all numbers are wanted of."""
        found = [frozenset[str](), frozenset(self.groups)]
        return list(dict.fromkeys([*found, frozenset({*self.groups, _START})] if self.bucket else found))

    @property
    def sets(self) -> list[frozenset[str]]:
        """The sets to group by, each once; a slice also by status."""
        counted = [frozenset({word}) for word in self.names if word in _COUNTED]
        return list(dict.fromkeys([*self.slices, *(part | {"workflow_status"} for part in self.slices), *counted]))

    @property
    def numeric(self) -> list[TableColumn]:
        columns = self.table.columns
        return [column for column in columns if column.kind != "own" and sql_type(column.sql_type).family == "number"]

    @property
    def scored(self) -> bool:
        return any(column.name == "tests_passed" and column.sql_type == "boolean" for column in self.table.columns)

    @property
    def folded(self) -> list[str]:
        """Columns of few values, which cells are told apart by, too: so they are all of the index that covers them."""
        present = {column.name for column in self.table.columns}
        return [column for column in COVERED if column not in self.names] if present.issuperset(COVERED) else []


def analytics(
    table: Table,
    condition: Condition,
    *,
    group_by: Sequence[TableColumn] = (),
    bucket: str | None = None,
    spread: bool = False,
) -> Query[Analytics]:
    """Read numbers about the sessions that meet *condition*, by *group_by* and per *bucket* of UTC; FilterError on another bucket.

    *spread* says that the table may be distributed, which needs a statement that asks less of it.
    """
    if bucket is not None and bucket not in BUCKETS:
        raise FilterError(f"bucket: expected one of {', '.join(BUCKETS)}")
    whole = not (condition.restricts or group_by or bucket or spread)
    plan = _Plan(table, tuple(group_by), bucket, whole)
    if len(plan.names) > _MOST:
        raise FilterError(f"group_by: too many columns; at most {_MOST - len(plan.names) + len(plan.groups)} here")
    measures = list(_measures(plan))
    text = statement(
        load("analytics_whole" if plan.whole else "analytics"),
        table=table.full,
        condition=condition.sql,
        dimensions=_listed(_dimension(dimension, bucket) for dimension in plan.names),
        columns=_listed(_columns(plan)),
        keys=_listed(map(_key, plan.names)),
        parts=_listed(_parts(plan)),
        cell=_listed([*map(_key, plan.names), *map(name, plan.folded)]),
        measures=_listed(measures),
        sets=_listed(_set(plan, part) for part in plan.sets),
        slice_keys=_listed(_key(word) if word in _sliced(plan) else NULL for word in plan.names),
        slice_bits=_bits(plan),
        nothing=_listed([NULL] * len(measures)),
        slices=_listed(_set(plan, part) for part in plan.slices),
    )
    return Query(text, condition.params, lambda rows, _: _fold(plan, rows))


def _listed(parts: Iterable[Composable]) -> Composed:
    return SQL(", ").join(parts)


def _dimension(dimension: str, bucket: str | None) -> Composed:
    value: Composable = name(dimension)
    if dimension == _START:
        value = SQL(f"date_trunc('{bucket}', created_at, 'UTC')")
    return SQL("{} AS {}").format(value, _key(dimension))


def _key(dimension: str) -> Composable:
    return name(f"key__{dimension}")  # a field's name has no double underscore


def _set(plan: _Plan, part: frozenset[str]) -> Composed:
    return SQL("({})").format(_listed(_key(dimension) for dimension in plan.names if dimension in part))


def _sliced(plan: _Plan) -> frozenset[str]:
    return frozenset[str]().union(*plan.slices)


def _bits(plan: _Plan) -> Composed:
    """Return GROUPING of all names where those that no slice has are no part of the grouping."""
    sliced, size = _sliced(plan), len(plan.names)
    bits = (
        SQL("(GROUPING({}) << {})").format(_key(word), SQL(str(place))) if word in sliced else SQL(str(1 << place))
        for word, place in zip(plan.names, reversed(range(size)), strict=True)
    )
    return SQL(" + ").join(bits)


def _columns(plan: _Plan) -> Iterable[Composable]:
    """Yield what is read of a session beside its dimensions."""
    yield SQL("created_at, duration_seconds")
    if plan.scored:
        yield SQL("tests_passed")
    for column in plan.numeric:
        yield name(column.name)


def _parts(plan: _Plan) -> Iterable[Composable]:
    """Yield what is known of a cell."""
    yield SQL("count(*) AS n__")
    if not plan.whole:
        yield SQL("min(created_at) AS first__, max(created_at) AS last__")
    if plan.scored:
        passed = (
            "CASE WHEN tests_passed THEN count(*) END"
            if "tests_passed" in plan.folded
            else "count(*) FILTER (WHERE tests_passed)"
        )
        yield SQL(passed + " AS passed__")
    for number, column in enumerate(plan.numeric):
        parts = (
            "{0}::numeric * count(*) AS sum__{1}, CASE WHEN {0} IS NOT NULL THEN count(*) END AS n__{1}, {0} AS min__{1}, {0} AS max__{1}"
            if column.name in plan.folded
            else "sum({0}) AS sum__{1}, count({0}) AS n__{1}, min({0}) AS min__{1}, max({0}) AS max__{1}"
        )
        yield SQL(parts).format(name(column.name), SQL(str(number)))


def _measures(plan: _Plan) -> Iterable[Composable]:
    """Yield the numbers of a set, made of its cells."""
    yield SQL("coalesce(sum(n__), 0)::bigint")
    yield SQL("coalesce(sum(n__) FILTER (WHERE {}), 0)::bigint").format(_FINISHED)
    for function, part in (("min", "first__"), ("max", "last__")):
        text = "(SELECT {0}(created_at) FROM {2})" if plan.whole else "{0}({1})"
        yield SQL(text).format(SQL(function), SQL(part), plan.table.full)
    passed = SQL("coalesce(sum(passed__) FILTER (WHERE {}), 0)::bigint").format(_FINISHED)
    yield passed if plan.scored else NULL
    for number in map(SQL, map(str, range(len(plan.numeric)))):
        yield SQL("(sum(sum__{0}) / nullif(sum(n__{0}), 0))::double precision").format(number)
        yield SQL("min(min__{0})::double precision").format(number)
        yield SQL("max(max__{0})::double precision").format(number)


def _fold(plan: _Plan, rows: Rows) -> Analytics:
    """Return what the *rows* say: by set of dimensions, and in a set by their values."""
    sets: dict[frozenset[str], list[_Cell]] = {part: [] for part in plan.sets}
    percentiles: dict[tuple[frozenset[str], str], Sequence[float]] = {}
    for row in rows:
        cell = _Cell.read(plan, row)
        part = frozenset(cell.values)
        if cell.measures[0] is None:
            percentiles[part, cell.at(part)] = cell.measures[-2:]
        else:
            sets[part].append(cell)
    for part, cells in sets.items():
        sets[part] = [replace(cell, percentiles=percentiles.get((part, cell.at(part)))) for cell in cells]
    (total,) = sets[frozenset()]
    counts = {
        dimension: {
            cell.values[dimension]: cell.total
            for cell in sorted(sets.get(frozenset({dimension}), ()), key=attrgetter("total"), reverse=True)
        }
        for dimension in ("workflow_status", *_COUNTED)
    }
    groups = _slices(plan, sets, frozenset(plan.groups)) if plan.group_by else []
    series = _slices(plan, sets, frozenset({*plan.groups, _START})) if plan.bucket else []
    return Analytics(
        **total.summary(plan),
        by_status=counts["workflow_status"],
        by_topic=counts["topic"],
        by_difficulty=counts["difficulty"],
        groups=sorted(groups, key=lambda group: -group.total),
        series=sorted(series, key=attrgetter("start")),
        group_columns=plan.group_by,
        bucket=plan.bucket,
    )


def _slices(plan: _Plan, sets: Mapping[frozenset[str], list[_Cell]], part: frozenset[str]) -> list[AnalyticsGroup]:
    statuses: dict[str, dict[str | None, int]] = {}
    for cell in sets[part | {"workflow_status"}]:
        statuses.setdefault(cell.at(part), {})[cell.values["workflow_status"]] = cell.total
    return [
        AnalyticsGroup(
            **cell.summary(plan),
            by_status=statuses[cell.at(part)],
            key={column: cell.values[column] for column in plan.groups},
            start=cell.values.get(_START),
        )
        for cell in sets[part]
    ]


@dataclass(frozen=True)
class _Cell:
    """One row: the values of the dimensions that it is about, and what was measured."""

    values: dict[str, Any]
    measures: Sequence[Any]
    percentiles: Sequence[float] | None = None

    @classmethod
    def read(cls, plan: _Plan, row: tuple[Any, ...]) -> _Cell:
        size = len(plan.names)
        bits = row[size]
        values = {
            dimension: row[place]
            for place, dimension in enumerate(plan.names)
            if not bits >> (size - 1 - place) & 1  # the last one is the lowest bit, and set where it is not grouped by
        }
        return cls(values, row[size + 1 :])

    @property
    def total(self) -> int:
        return int(self.measures[0])

    def at(self, part: frozenset[str]) -> str:
        """Name the place of the cell in *part*; values of jsonb cannot be keys themselves."""
        return repr([_same(self.values[dimension]) for dimension in sorted(part)])

    def summary(self, plan: _Plan) -> dict[str, Any]:
        total, finished, first, last, passed, *rest, p50, p95 = self.measures
        if self.percentiles:
            p50, p95 = self.percentiles
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        numeric = {column.name: NumericSummary(*triple) for column, triple in zip(plan.numeric, triples, strict=True)}
        return {
            "total": total,
            "success_rate": success_rate(passed, finished) if plan.scored else None,
            "average_code_attempts": numeric.get("code_attempts", NumericSummary()).mean,
            "average_problem_attempts": numeric.get("problem_attempts", NumericSummary()).mean,
            "duration_p50": p50,
            "duration_p95": p95,
            "first_seen": first,
            "last_seen": last,
            "numeric": numeric,
        }


def _same(value: object) -> object:
    """Return one spelling for values that Postgres groups together, of which it may show another one each time: 1, 1.0 and 1.00."""
    if isinstance(value, dict):
        return sorted((key, repr(_same(item))) for key, item in value.items())
    if isinstance(value, list):
        return [_same(item) for item in value]
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return f"number {_EXACT.normalize(Decimal(str(value))) or 0}"
    return value
