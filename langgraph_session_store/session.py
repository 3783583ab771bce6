"""What comes back from a store: sessions, pages of them, their versions and analytics, each with a notebook display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from . import display
from .columns import TableColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    import pandas as pd

_SHOWN_ROWS: Final = 50
_ASIDE: Final = frozenset(
    {
        "id",
        "updated_at",
        "trace_id",
        "started_at",
        "finished_at",
        "checkpoint_id",
        "metadata",
        "rejected",
        "recorded_at",
    }
)
"""Columns that the display of a page of whole rows leaves out, as it does what is NULL in all of them."""


class Session(dict[str, Any]):
    """One row, by column name."""

    def __repr__(self) -> str:
        told = [f"{name}={self[name]!r}" for name in ("thread_id", "workflow_status") if name in self]
        size = "1 column" if len(self) == 1 else f"{len(self)} columns"
        return f"Session({', '.join([*told, size])})"

    def _repr_html_(self) -> str:
        rows = [(display.line(name), display.field(name, value)) for name, value in self.items() if value is not None]
        if empty := [name for name, value in self.items() if value is None]:
            rows.append(("without a value", display.whole(", ".join(empty))))
        return display.table(f"Session {self.get('thread_id', '')}", (), rows)


class SessionPage(list[Session]):
    """Sessions in order. ``next_cursor`` continues the query behind them, None where nothing is left."""

    def __init__(
        self,
        sessions: Iterable[Session] = (),
        *,
        next_cursor: str | None = None,
        columns: Iterable[TableColumn] = (),
    ) -> None:
        super().__init__(sessions)
        self.next_cursor = next_cursor
        self.columns = tuple(columns)

    def to_pandas(self) -> pd.DataFrame:
        """Return the page as a DataFrame with the columns' types; needs pandas."""
        from . import frames

        return frames.to_pandas(self, self.columns)

    def with_mlflow(self, *, tracking_uri: str | None = None) -> pd.DataFrame:
        """Return the page as a DataFrame with the params, metrics and name of each row's MLflow run; needs pandas and mlflow.

        Rows whose run is unknown or deleted keep their place. *tracking_uri* defaults to MLflow's own.
        """
        from . import frames

        return frames.with_mlflow(self.to_pandas(), tracking_uri=tracking_uri)

    def to_arrow(self) -> Any:
        """Return the page as an Arrow table with the columns' types; needs pyarrow."""
        from . import frames

        return frames.to_arrow(self, self.columns)

    def __repr__(self) -> str:
        return f"SessionPage({self._caption()})"

    def _caption(self) -> str:
        count = "1 session" if len(self) == 1 else f"{len(self):,} sessions"
        return f"{count}, more behind next_cursor" if self.next_cursor else count

    def _repr_html_(self) -> str:
        shown = self[:_SHOWN_ROWS]
        names = dict.fromkeys(name for session in shown for name in session)
        if names.keys() >= _ASIDE:
            names = dict.fromkeys(
                name for name in names if name not in _ASIDE and any(session.get(name) is not None for session in shown)
            )
        caption = self._caption() + (f"; the first {_SHOWN_ROWS}" if len(self) > _SHOWN_ROWS else "")
        return _table(caption if self else "No sessions match", names, shown)


@dataclass(frozen=True, slots=True)
class SessionVersion:
    """The versioned fields as one event left them; ``changes`` maps each that differs to its old and new value."""

    version: int
    recorded_at: datetime
    run_id: str | None
    values: dict[str, Any]
    changes: dict[str, tuple[Any, Any]]

    def _repr_html_(self) -> str:
        caption = f"Version {self.version}, {display.as_text(self.recorded_at)}, run {self.run_id or '-'}"
        rows = [(display.line(name), display.difference(old, new)) for name, (old, new) in self.changes.items()]
        if not rows:
            return display.table(f"{caption}: the same again", (), ())
        return display.table(caption, ("field", "change"), rows)


class SessionVersions(list[SessionVersion]):
    """The versions of a session, newest first."""

    def _repr_html_(self) -> str:
        return "".join(version._repr_html_() for version in self) or "No versions"


def session_versions(lines: Iterable[tuple[datetime, str | None, Mapping[str, Any]]]) -> SessionVersions:
    """Return history *lines* ``(recorded_at, run_id, values)``, oldest first, as versions from 1, newest first."""
    versions = SessionVersions()
    before: Mapping[str, Any] = {}
    for number, (recorded_at, run_id, values) in enumerate(lines, start=1):
        versions.append(SessionVersion(number, recorded_at, run_id, dict(values), changes(before, values)))
        before = values
    versions.reverse()
    return versions


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which *new* differs from *old*, with both values; a field that one lacks counts as None."""
    names = dict.fromkeys((*new, *old))
    return {name: (old.get(name), new.get(name)) for name in names if not _same(old.get(name), new.get(name))}


def _same(old: object, new: object) -> bool:
    """Compare as jsonb does, to which 1 is not true as it is to Python."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return isinstance(old, bool) == isinstance(new, bool) and old == new


def success_rate(passed: int, finished: int) -> float | None:
    """Return *passed* of *finished* as a fraction from 0 to 1, None where nothing finished."""
    return passed / finished if finished else None


@dataclass(frozen=True, slots=True)
class NumericSummary:
    """A numeric column over some sessions; None where none has a value."""

    mean: float | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary(Mapping[str, Any]):
    """Numbers about some sessions, read by attribute and by key.

    ``success_rate`` is the fraction, from 0 to 1, of the completed and failed whose ``tests_passed`` is true. Durations are seconds.
    What the record has no field for is None or empty; ``numeric`` holds its numeric columns.
    """

    total: int
    by_status: dict[str | None, int] = field(default_factory=dict)
    success_rate: float | None = None
    average_code_attempts: float | None = None
    average_problem_attempts: float | None = None
    duration_p50: float | None = None
    duration_p95: float | None = None
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    numeric: dict[str, NumericSummary] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name not in set(self):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (item.name for item in fields(self) if item.repr)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain dicts and lists."""
        return {name: _plain(value) for name, value in self.items()}

    def flat(self) -> dict[str, Any]:
        """Return its single numbers as one row."""
        line = {column.name: self[column.name] for column in _METRICS}
        for name, summary in self.numeric.items():
            line |= {f"{name}_mean": summary.mean, f"{name}_min": summary.min, f"{name}_max": summary.max}
        return line


_METRICS: Final = (
    TableColumn("total", "bigint"),
    TableColumn("success_rate", "double precision"),
    TableColumn("average_code_attempts", "double precision"),
    TableColumn("average_problem_attempts", "double precision"),
    TableColumn("duration_p50", "double precision"),
    TableColumn("duration_p95", "double precision"),
    TableColumn("first_seen", "timestamptz"),
    TableColumn("last_seen", "timestamptz"),
)


@dataclass(frozen=True, kw_only=True)
class AnalyticsGroup(Summary):
    """The sessions of one group, of one bucket of time that begins at ``start``, or of both."""

    key: dict[str, Any] = field(default_factory=dict)
    start: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Analytics(Summary):
    """Numbers about all sessions of a filter, by group where asked (``groups``) and over time (``series``).

    ``by_topic`` and ``by_difficulty`` count sessions per value, NULL under None.
    """

    by_topic: dict[str | None, int] = field(default_factory=dict)
    by_difficulty: dict[str | None, int] = field(default_factory=dict)
    groups: list[AnalyticsGroup] = field(default_factory=list)
    series: list[AnalyticsGroup] = field(default_factory=list)
    group_columns: tuple[TableColumn, ...] = field(default=(), repr=False)
    bucket: str | None = field(default=None, repr=False)

    @property
    def sliced(self) -> bool:
        """Whether it was asked by group or over time, also where nothing matched."""
        return bool(self.group_columns or self.bucket or self.groups or self.series)

    def table(self) -> tuple[list[dict[str, Any]], tuple[TableColumn, ...]]:
        """Return rows and their columns: of the series if one was asked for, else of the groups, else one row of it all."""
        slices = self.series or self.groups
        start = (TableColumn("start", "timestamptz"),) if self.bucket or self.series else ()
        keys = tuple(replace(column, name=_key_name(column.name)) for column in self.group_columns)
        numeric = [f"{name}_{part}" for name in self.numeric for part in ("mean", "min", "max")]
        columns = (*start, *keys, *_METRICS, *(TableColumn(name, "double precision") for name in numeric))
        if not self.sliced:
            return [self.flat()], columns
        empty = dict.fromkeys(numeric)
        rows = [
            {
                "start": part.start,
                **{_key_name(name): value for name, value in part.key.items()},
                **empty,
                **part.flat(),
            }
            for part in slices
        ]
        return [{column.name: row[column.name] for column in columns} for row in rows], columns

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows of `table` as a DataFrame; needs pandas."""
        from . import frames

        return frames.to_pandas(*self.table())

    def plot(self) -> Any:
        """Draw the series or the groups; needs matplotlib."""
        from .frames import plots

        return plots.plot(self)

    def _repr_html_(self) -> str:
        facts = [(name, value) for name, value in self.items() if name not in ("numeric", "groups", "series")]
        facts += self.numeric.items()
        rows = [
            (display.line(name), _counts(value) if isinstance(value, dict) else _told(name, value))
            for name, value in facts
            if value is not None and value != {}
        ]
        whole = display.table("Analytics", (), rows)
        if not (self.groups or self.series):
            return whole
        lines, columns = self.table()
        told = [column.name for column in columns if any(line[column.name] is not None for line in lines)]
        shown = lines[:_SHOWN_ROWS]
        caption = f"{len(lines):,} rows" + (f"; the first {_SHOWN_ROWS}" if len(lines) > _SHOWN_ROWS else "")
        return whole + _table(caption, told, shown, _told)


def _key_name(name: str) -> str:
    """Name a group's column beside the metrics; a field may be called like one of them."""
    return f"group_{name}" if name == "start" or any(name == metric.name for metric in _METRICS) else name


def _plain(value: object) -> Any:
    if isinstance(value, Summary):
        return value.to_dict()
    if isinstance(value, NumericSummary):
        return {"mean": value.mean, "min": value.min, "max": value.max}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _table(
    caption: str,
    names: Iterable[str],
    rows: Sequence[Mapping[str, Any]],
    told: Callable[[str, Any], str] = lambda name, value: display.line(value, name),
) -> str:
    """Return the columns *names* of *rows* as HTML, each value as *told* writes it, numbers at the right."""
    wanted = list(names)
    right = {name for name in wanted if display.numeric(row.get(name) for row in rows)}
    return display.table(caption, wanted, [[told(name, row.get(name)) for name in wanted] for row in rows], right=right)


def _counts(counts: Mapping[Any, int]) -> str:
    parts = [f"{display.line(key)}: {count:,}" for key, count in counts.items()]
    return ", ".join(parts[:_SHOWN_ROWS]) + (" …" if len(parts) > _SHOWN_ROWS else "")


def _told(name: str, value: object) -> str:
    """Return one of the numbers about sessions as HTML."""
    if isinstance(value, NumericSummary):
        mean, low, high = (display.as_text(number) for number in (value.mean, value.min, value.max))
        return display.whole(f"{mean} mean, {low} to {high}")
    if name == "success_rate" and isinstance(value, float):
        return display.line(display.percentage(value))
    return f"{value:,}" if name == "total" else display.line(value, name)
