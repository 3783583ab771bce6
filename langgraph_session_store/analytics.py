"""Numbers about many sessions: one statement, one pass over the table, folded into `Analytics`. Pure.

The statement groups by several sets of dimensions at once; which set a row belongs to is told by the bits of GROUPING(), so that a
topic that is NULL and a row about all topics are not mistaken for one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from psycopg.sql import SQL, Composable, Composed

from .errors import FilterError
from .query import Query, Rows, Table, name, statement
from .session import Analytics, AnalyticsGroup, NumericSummary, success_rate
from .sql import load
from .sqltypes import sql_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .columns import TableColumn
    from .paging import Condition

BUCKETS: Final = ("hour", "day", "week")

_START: Final = "bucket"  # no column may have this name
_COUNTED: Final = ("topic", "difficulty")
_MEASURES: Final = (
    "count(*)",
    "count(*) FILTER (WHERE workflow_status IN ('completed', 'failed'))",
    "percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds)",
    "percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds)",
    "min(created_at)",
    "max(created_at)",
)
_PASSED: Final = "count(*) FILTER (WHERE tests_passed AND workflow_status IN ('completed', 'failed'))"


@dataclass(frozen=True)
class _Plan:
    """The dimensions in the order of the statement, and the sets of them that are grouped by."""

    table: Table
    group_by: tuple[TableColumn, ...]
    bucket: str | None

    @property
    def names(self) -> list[str]:
        present = {column.name for column in self.table.columns}
        wanted = ["workflow_status", *(word for word in _COUNTED if word in present), *self.groups]
        return [*dict.fromkeys(wanted), *([_START] if self.bucket else [])]

    @property
    def groups(self) -> list[str]:
        return [column.name for column in self.group_by]

    @property
    def sets(self) -> list[frozenset[str]]:
        """The sets to group by, each once; a group or bucket also by status."""
        slices = [frozenset[str]()]
        if self.group_by:
            slices.append(frozenset(self.groups))
        if self.bucket:
            slices.append(frozenset({*self.groups, _START}))
        counted = [frozenset({word}) for word in self.names if word in _COUNTED]
        return list(dict.fromkeys([*slices, *(part | {"workflow_status"} for part in slices), *counted]))

    @property
    def numeric(self) -> list[str]:
        columns = self.table.columns
        return [
            column.name for column in columns if column.kind != "own" and sql_type(column.sql_type).family == "number"
        ]

    @property
    def scored(self) -> bool:
        return any(column.name == "tests_passed" and column.sql_type == "boolean" for column in self.table.columns)


def analytics(
    table: Table, condition: Condition, *, group_by: Sequence[TableColumn] = (), bucket: str | None = None
) -> Query[Analytics]:
    """Read numbers about the sessions that meet *condition*, by *group_by* and per *bucket* of UTC; FilterError on another bucket."""
    if bucket is not None and bucket not in BUCKETS:
        raise FilterError(f"bucket: expected one of {', '.join(BUCKETS)}")
    plan = _Plan(table, tuple(group_by), bucket)
    text = statement(
        load("analytics"),
        table=table.full,
        condition=condition.sql,
        dimensions=SQL(", ").join(_dimension(dimension, bucket) for dimension in plan.names),
        keys=SQL(", ").join(map(_key, plan.names)),
        measures=SQL(", ").join(_measures(plan)),
        sets=SQL(", ").join(_set(plan, part) for part in plan.sets),
    )
    return Query(text, condition.params, lambda rows, _: _fold(plan, rows))


def _dimension(dimension: str, bucket: str | None) -> Composed:
    value: Composable = name(dimension)
    if dimension == _START:
        value = SQL(f"date_trunc('{bucket}', created_at, 'UTC')")
    return SQL("{} AS {}").format(value, _key(dimension))


def _key(dimension: str) -> Composable:
    return name(f"key__{dimension}")  # a field's name has no double underscore


def _set(plan: _Plan, part: frozenset[str]) -> Composed:
    return SQL("({})").format(SQL(", ").join(_key(dimension) for dimension in plan.names if dimension in part))


def _measures(plan: _Plan) -> Iterable[Composable]:
    yield from map(SQL, _MEASURES)
    yield SQL(_PASSED if plan.scored else "NULL")
    for column in plan.numeric:
        for function in ("avg", "min", "max"):
            yield SQL("{}({})::double precision").format(SQL(function), name(column))


def _fold(plan: _Plan, rows: Rows) -> Analytics:
    """Return what the *rows* say: by set of dimensions, and in a set by their values."""
    sets: dict[frozenset[str], list[_Cell]] = {part: [] for part in plan.sets}
    for row in rows:
        cell = _Cell.read(plan, row)
        sets[frozenset(cell.values)].append(cell)
    (total,) = sets[frozenset()]
    counts = {
        dimension: {cell.values[dimension]: cell.total for cell in sets.get(frozenset({dimension}), ())}
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
        return repr([self.values[dimension] for dimension in sorted(part)])

    def summary(self, plan: _Plan) -> dict[str, Any]:
        total, finished, p50, p95, first, last, passed, *rest = self.measures
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        numeric = {column: NumericSummary(*triple) for column, triple in zip(plan.numeric, triples, strict=True)}
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
