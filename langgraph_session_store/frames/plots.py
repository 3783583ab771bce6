"""Pictures of sessions for a notebook or a report; each function returns a matplotlib Figure.

They draw without pyplot: no global state, no window, safe in threads and servers. What they take is a DataFrame, anything with
``to_pandas()`` (a page), or an iterable of sessions. Times are in UTC, and success is what the analytics call so: tests passed, among
the completed and failed. Without rows the figure says so. All read well in grey.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ..display import number, percentage
from ..errors import ConfigError
from .drawing import (
    INK,
    LOOKS,
    PALE,
    QUIET,
    bars,
    bins,
    box,
    canvas,
    categories,
    dark,
    dates,
    heading,
    heat,
    key,
    labels,
    line,
    nothing,
    percent,
    shades,
    short,
    volume,
    whole,
)
from .tables import extra

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from matplotlib.figure import Figure

_LEVELS: Final = ("easy", "beginner", "low", "medium", "intermediate", "hard", "advanced", "high", "expert")
_MOST_ROWS: Final = 20
_MOST_STEPS: Final = 6  # attempts that are told apart
_DAYS: Final = {"hour": 1 / 24, "day": 1.0, "week": 7.0}
_UNITS: Final = ((7200, "hours", 3600), (180, "minutes", 60), (0.1, "seconds", 1), (0, "milliseconds", 0.001))
_HOURLY_UNTIL: Final = 2.0  # days that a plot spans
_DAILY_UNTIL: Final = 90.0


def success_over_time(sessions: Any, *, bucket: str | None = None) -> Figure:
    """Draw the success rate per *bucket* (``hour``, ``day`` or ``week``; by default what fits the span) over the number of sessions."""
    pandas, frame = _frame(sessions, "created_at", "workflow_status", "tests_passed")
    title = "Success over time"
    frame = frame[frame["created_at"].notna()]
    if frame.empty:
        return nothing(title)
    # Texts of a csv may have seconds with digits and without.
    moments = pandas.to_datetime(frame["created_at"], utc=True, format="ISO8601")
    bucket = bucket or _bucket(moments)
    starts = _starts(moments, bucket)
    finished, passed = _finished(frame)
    counts = (
        pandas.DataFrame({"all": 1, "finished": finished, "passed": passed}).astype(int).groupby(starts.array).sum()
    )
    step = pandas.Timedelta(days=_DAYS[bucket])
    counts = counts.reindex(pandas.date_range(counts.index[0], counts.index[-1], freq=step), fill_value=0)
    rates = [row.passed / row.finished if row.finished else None for row in counts.itertuples()]
    figure, (top, bottom) = canvas(7.5, 4.2, rows=2, heights=(3, 1))
    heading(figure, title, f"Share of finished sessions whose tests passed, per {bucket} (UTC)")
    line(top, counts.index, rates, LOOKS[0])
    percent(top)
    volume(bottom, counts.index, counts["all"], _DAYS[bucket], f"Sessions\nper {bucket}")
    return figure


def attempts_by_difficulty(sessions: Any) -> Figure:
    """Draw how many code attempts sessions took, as shares for each difficulty."""
    _, frame = _frame(sessions, "difficulty", "code_attempts")
    title = "Attempts by difficulty"
    frame = frame[frame["code_attempts"].notna()]
    if frame.empty:
        return nothing(title)
    attempts = frame["code_attempts"].astype(float)
    steps = attempts.clip(upper=_MOST_STEPS).astype(int)
    levels = _ordered(frame["difficulty"])
    figure, (axes,) = canvas(7.5, 1.5 + 0.5 * len(levels))
    heading(figure, title, "Share of sessions by their number of code attempts")
    values = sorted(set(steps))
    colors = shades(values)
    for place, (_, chosen) in enumerate(levels):
        left, size = 0.0, int(chosen.sum())
        for value in values:
            share = float((steps[chosen] == value).sum()) / size
            axes.barh(place, share, left=left, height=0.68, color=colors[value], edgecolor="white", linewidth=0.8)
            if share >= 0.07:  # noqa: PLR2004 - narrower ones have no room for it
                color = "white" if dark(colors[value]) else INK
                axes.text(left + share / 2, place, percentage(share), ha="center", va="center", color=color, fontsize=9)
            left += share
        told = f"mean {attempts[chosen].mean():.1f}   n = {size:,}"
        axes.text(1.01, place, told, va="center", fontsize=9, color=INK)
    categories(axes, [name for name, _ in levels])
    axes.set_xlim(0, 1)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    names = [f"{value}+" if value == _MOST_STEPS else str(value) for value in values]
    key(figure, [(colors[value], name) for value, name in zip(values, names, strict=True)], "attempts")
    return figure


def topic_by_difficulty(sessions: Any) -> Figure:
    """Draw the success rate of each topic at each difficulty as a heat map, with the number of finished sessions."""
    _, frame = _frame(sessions, "topic", "difficulty", "workflow_status", "tests_passed")
    title = "Success by topic and difficulty"
    finished, passed = _finished(frame)
    frame, passed = frame[finished], passed[finished]
    if frame.empty:
        return nothing(title, "No finished sessions")
    levels = _ordered(frame["difficulty"])
    topics = _ordered(frame["topic"], by_size=True)
    shown = topics[:_MOST_ROWS]
    figure, (axes,) = canvas(max(5.4, 2.6 + 1.15 * len(levels)), 1.5 + 0.42 * len(shown))
    more = f"; {len(topics) - len(shown)} rarer topics are left out" if len(topics) > len(shown) else ""
    heading(figure, title, f"Share of finished sessions whose tests passed; n in brackets{more}")
    for row, (_, of_topic) in enumerate(shown):
        for column, (_, of_level) in enumerate(levels):
            chosen = of_topic & of_level
            size = int(chosen.sum())
            rate = float(passed[chosen].mean()) if size else 0.0
            color = heat(rate) if size else "white"
            axes.add_patch(box(column, row, color))
            ink = "white" if size and dark(color) else INK if size else QUIET
            told = f"{percentage(rate)} ({size:,})" if size else "-"
            axes.text(column, row, told, ha="center", va="center", fontsize=9, color=ink)
    axes.set_xlim(-0.5, len(levels) - 0.5)
    categories(axes, [name for name, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xticks(range(len(levels)), [name for name, _ in levels])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def durations(sessions: Any) -> Figure:
    """Draw how long sessions took, with the median and the 95th percentile."""
    _, frame = _frame(sessions, "duration_seconds")
    title = "Durations"
    seconds = frame["duration_seconds"].dropna().astype(float)
    if seconds.empty:
        return nothing(title, "No session has a duration")
    median, late = float(seconds.quantile(0.5)), float(seconds.quantile(0.95))
    unit, divisor = next((unit, size) for least, unit, size in _UNITS if median >= least)
    values = seconds / divisor
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high / low > 50  # noqa: PLR2004 - a few slow ones would press the rest into one bar
    figure, (axes,) = canvas(7.5, 3.6)
    heading(figure, title, f"{len(values):,} sessions; of the latest run of each")
    axes.hist(values, bins=bins(low, high, len(values), logarithmic=logarithmic), color=PALE, edgecolor="white")
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(short)
    for value, name, style in ((median, "median", "-"), (late, "95 %", "--")):
        told = f"{name}: {number(value / divisor)} {unit}"
        axes.axvline(value / divisor, color=INK, linestyle=style, linewidth=1.2, label=told)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    axes.set_xlabel(f"Duration ({unit}{', logarithmic' if logarithmic else ''})")
    axes.set_ylabel("Sessions")
    whole(axes.yaxis)
    return figure


def plot(analytics: Any) -> Figure:
    """Draw *analytics*: its series as lines, else its groups as bars, else its statuses as bars."""
    if not analytics.total:
        return nothing("Sessions")
    if analytics.series:
        return _plot_series(analytics)
    if analytics.groups:
        return _plot_groups(analytics)
    figure, axes = canvas(7.5, 1.5 + 0.36 * len(analytics.by_status))
    heading(figure, "Sessions by status", f"{analytics.total:,} sessions")
    items = sorted(analytics.by_status.items(), key=lambda item: -item[1])
    bars(axes[0], labels([status] for status, _ in items), [count for _, count in items])
    axes[0].set_xlabel("Sessions")
    return figure


def _plot_series(analytics: Any) -> Figure:
    groups: dict[str, list[Any]] = {}
    for part in analytics.series:
        groups.setdefault(repr(part.key), []).append(part)  # a value may be jsonb, which has no hash
    ranked = sorted(groups.values(), key=lambda parts: -sum(part.total for part in parts))
    largest = ranked[: len(LOOKS)]
    rated = any(part.success_rate is not None for part in analytics.series)
    figure, (top, *below) = canvas(
        7.5, 4.2 if rated else 3.4, rows=2 if rated else 1, heights=(3, 1) if rated else (1,)
    )
    more = f"; the {len(largest)} largest of {len(groups)} groups" if len(groups) > len(largest) else ""
    measure = "Share of finished sessions whose tests passed" if rated else "Sessions per bucket"
    heading(figure, "Success over time" if rated else "Sessions over time", f"{measure} (UTC){more}")
    starts, days = _buckets(analytics)
    edges = _edges(starts, timedelta(days=days))
    names = labels(list(parts[0].key.values()) for parts in largest)
    for parts, name, look in zip(largest, names, LOOKS, strict=False):
        points = {part.start: part.success_rate if rated else part.total for part in parts}
        line(top, edges, [points.get(start, None if rated else 0) for start in edges], look, name)
    if rated:
        percent(top)
        totals = [sum(part.total for part in analytics.series if part.start == start) for start in starts]
        volume(below[0], starts, totals, days, "Sessions")
    else:
        top.set_ylim(bottom=0)
        whole(top.yaxis)
        top.set_ylabel("Sessions")
        dates(top, starts, days)
    if len(groups) > 1:
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _buckets(analytics: Any) -> tuple[list[datetime], float]:
    """Return when the buckets of a series begin that hold sessions, and how many days a bucket has."""
    starts = sorted({part.start for part in analytics.series if part.start is not None})
    gaps = [(after - before).total_seconds() / 86_400 for before, after in pairwise(starts)]
    return starts, _DAYS.get(analytics.bucket) or min(gaps, default=1.0)


def _edges(starts: Sequence[datetime], step: timedelta) -> list[datetime]:
    """Return *starts* and, where buckets without sessions lie between them, the first and the last of these."""
    near = {start + aside for start in starts for aside in (-step, timedelta(0), step)}
    return sorted(start for start in near if starts[0] <= start <= starts[-1])


def _plot_groups(analytics: Any) -> Figure:
    groups = sorted(analytics.groups, key=lambda group: -group.total)
    shown = groups[:_MOST_ROWS]
    rated = any(group.success_rate is not None for group in shown)
    by = ", ".join(column.name for column in analytics.group_columns) or "group"
    figure, axes = canvas(7.5, 1.5 + 0.36 * len(shown), columns=2 if rated else 1)
    more = f"; the {len(shown)} largest of {len(groups):,} groups" if len(groups) > len(shown) else ""
    heading(figure, f"Sessions by {by}".replace("_", " "), f"{analytics.total:,} sessions{more}")
    bars(axes[0], labels(list(group.key.values()) for group in shown), [group.total for group in shown])
    axes[0].set_xlabel("Sessions")
    if rated:
        bars(axes[1], [""] * len(shown), [group.success_rate for group in shown], told=percentage)
        axes[1].set_xlim(0, 1.15)
        axes[1].set_xlabel("Success rate of the finished")
    return figure


def _frame(sessions: Any, *needed: str) -> tuple[Any, pd.DataFrame]:
    """Return pandas and *sessions* as a frame; ConfigError where it lacks a *needed* column."""
    pandas = extra("a plot", "pandas")
    if not isinstance(sessions, pandas.DataFrame):
        sessions = sessions.to_pandas() if hasattr(sessions, "to_pandas") else pandas.DataFrame(list(sessions))
    if sessions.empty and not len(sessions.columns):
        sessions = pandas.DataFrame({name: [] for name in needed})
    if missing := [name for name in needed if name not in sessions]:
        raise ConfigError(f"this plot needs the column {missing[0]}; there are {', '.join(map(str, sessions.columns))}")
    return pandas, sessions


def _finished(frame: pd.DataFrame) -> tuple[pd.Series[bool], pd.Series[bool]]:
    """Return which sessions count for the success rate, and which of these succeeded."""
    finished = frame["workflow_status"].isin(["completed", "failed"]).astype(bool)
    return finished, finished & frame["tests_passed"].eq(True).fillna(False).astype(bool)


def _bucket(moments: pd.Series[Any]) -> str:
    days = (moments.max() - moments.min()).total_seconds() / 86_400
    return "hour" if days <= _HOURLY_UNTIL else "day" if days <= _DAILY_UNTIL else "week"


def _starts(moments: pd.Series[Any], bucket: str) -> Any:
    if bucket not in _DAYS:
        raise ConfigError(f"bucket is hour, day or week, not {bucket!r}")
    if bucket == "hour":
        return moments.dt.floor("h")
    days = moments.dt.floor("D")
    return days if bucket == "day" else days - days.dt.day_of_week.astype("timedelta64[D]")


def _ordered(column: pd.Series[Any], *, by_size: bool = False) -> list[tuple[str, Any]]:
    """Return the values of *column* as labels in a sensible order, each with where it holds; what has none comes last."""
    values = [value for value in column.dropna().unique() if (column == value).any()]

    def rank(value: Any) -> tuple[Any, ...]:
        known = str(value).lower() in _LEVELS
        return (
            -int((column == value).sum()) if by_size else 0,
            _LEVELS.index(str(value).lower()) if known else 99,
            str(value),
        )

    values = sorted(values, key=rank)
    chosen = [(column == value).fillna(False).astype(bool) for value in values]
    if column.isna().any():
        values, chosen = [*values, None], [*chosen, column.isna()]
    return list(zip(labels([value] for value in values), chosen, strict=True))
