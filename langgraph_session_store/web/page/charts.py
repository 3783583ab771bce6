"""Charts as numbers that a template draws: shares of a height, words, and the filter that each mark leads to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .markup import compact, duration, label, percent
from .overview import LATEST, NOBODY

if TYPE_CHECKING:
    from .overview import Axes, Overview, Part

_ROWS, _COLUMNS = 8, 5
_MOST_BARS: Final = 120
_CAUSES: Final = 6
_EVERY: Final = {5: "5 seconds", 60: "minute", 600: "10 minutes", 3600: "hour", 86_400: "day", 604_800: "week"}
_LEVELS: Final = ("trivial", "easy", "beginner", "low", "medium", "intermediate", "hard", "advanced", "high", "expert")

Link = dict[str, str]
"""Filters that a mark leads to, by name."""


class Bar(NamedTuple):
    """One bar: heights from 0 to 100 of what went well, of what failed and of all else, and what they are."""

    good: float
    bad: float
    rest: float
    rate: float | None
    label: str
    title: str
    link: Link


class Square(NamedTuple):
    """One cell of the heat map; *shade* from 0 (nothing failed) to 9 (all did), None without a finished session."""

    text: str
    shade: int | None
    title: str
    link: Link


@dataclass(frozen=True)
class Charts:
    """Everything that the first screen draws."""

    time: list[Bar]
    line: list[str]
    """Points of the success rate, one polyline for each stretch without a gap."""
    dots: list[tuple[float, float]]
    """Places of rates that stand alone."""
    ends: tuple[str, str]
    every: str
    number: str
    steps: list[Bar]
    durations: list[Bar]
    p50: str
    p95: str
    columns: list[str]
    rows: list[tuple[str, list[Square | None]]]
    axes: tuple[str, str]
    more: int
    causes: list[tuple[str, str, int, Link]]
    whole: Part
    since: datetime | None = None
    rate: str = ""
    capped: bool = False
    """Whether there may be more sessions than these, which are the latest."""


def charts(found: Overview, axes: Axes) -> Charts:
    """Return *found* as charts."""
    time = _time(found)
    columns, rows, more = _heat(found, axes)
    line, dots = _line(time)
    return Charts(
        time=time,
        line=line,
        dots=dots,
        ends=_ends(found),
        every=_EVERY.get(int(found.stride.total_seconds()), "4 weeks"),
        number=label(axes.number) if axes.number else "",
        steps=_steps(found, axes),
        durations=_durations(found),
        p50=duration(found.p50),
        p95=duration(found.p95),
        columns=columns,
        rows=rows,
        axes=(label(axes.first), label(axes.second)),
        more=more,
        causes=_causes(found, axes),
        whole=found.whole,
        since=found.since,
        rate=percent(found.whole.rate),
        capped=found.whole.total >= LATEST,
    )


def _bar(part: Part, top: int, name: str, title: str, link: Link) -> Bar:
    scale = 100 / top if top else 0
    bad = part.finished - part.good
    told = f"{title}: {part.total:,} sessions"
    if part.finished:
        told += f", {percent(part.rate)} of {part.finished:,} finished went well"
    return Bar(
        round(part.good * scale, 2),
        round(bad * scale, 2),
        round((part.total - part.finished) * scale, 2),
        part.rate,
        name,
        told,
        link,
    )


def _time(found: Overview) -> list[Bar]:
    if not found.buckets:
        return []
    starts, start, last = [], min(found.buckets), max(found.buckets)
    while start <= last:
        starts.append(start)
        start += found.stride
    starts = starts[-_MOST_BARS:]
    top = max(part.total for part in found.buckets.values())
    return [
        _bar(
            found.buckets.get(at, NOBODY),
            top,
            "",
            _moment(at, found.stride),
            {"created_at__gte": _iso(at), "created_at__lt": _iso(at + found.stride)},
        )
        for at in starts
    ]


def _line(bars: list[Bar]) -> tuple[list[str], list[tuple[float, float]]]:
    """Return the rates as stretches of points; x counts bars, y from 0 (all went well) to 100."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for place, bar in enumerate(bars):
        if bar.rate is None:
            stretches.append([])
        else:
            stretches[-1].append((place + 0.5, round(100 - 100 * bar.rate, 1)))
    lines = [" ".join(f"{x},{y}" for x, y in points) for points in stretches if len(points) > 1]
    return lines, [points[0] for points in stretches if len(points) == 1]


def _ends(found: Overview) -> tuple[str, str]:
    if not found.buckets:
        return "", ""
    return _moment(min(found.buckets), found.stride), _moment(max(found.buckets), found.stride)


def _steps(found: Overview, axes: Axes) -> list[Bar]:
    if not axes.number or not found.steps:
        return []
    top = max(part.total for part in found.steps.values())
    bars = []
    for step in range(min(found.steps), max(found.steps) + 1):
        low, high = step * found.width, (step + 1) * found.width
        last = step == 11  # noqa: PLR2004 - the statement puts all that is larger there
        name = f"{low:,}+" if last else f"{low:,}" if found.width == 1 else f"{compact(low)}"
        link = {f"{axes.number}__gte": str(low)} | ({} if last else {f"{axes.number}__lt": str(high)})
        if found.width == 1 and not last:
            link = {axes.number: str(low)}
        span = name if found.width == 1 or last else f"{low:,} to {high - 1:,}"
        bars.append(_bar(found.steps.get(step, NOBODY), top, name, f"{label(axes.number)} {span}", link))
    return bars


def _durations(found: Overview) -> list[Bar]:
    """Return the histogram, without the few that are far out: they would press the others together."""
    if not found.bins:
        return []
    few = 0.004 * sum(part.total for part in found.bins.values())
    first, last = _without(few, sorted(found.bins), found), _without(few, sorted(found.bins, reverse=True), found)
    shown = {step: part for step, part in found.bins.items() if first <= step <= last}
    top = max(part.total for part in shown.values())
    bars = []
    for step in range(first, last + 1):
        low, high = 10 ** (step / 6), 10 ** ((step + 1) / 6)
        link = {"duration_seconds__gte": f"{low:.6g}", "duration_seconds__lt": f"{high:.6g}"}
        name = _ten(step // 6) if step % 6 == 0 else ""
        bars.append(_bar(shown.get(step, NOBODY), top, name, f"{duration(low)} to {duration(high)}", link))
    return bars


def _without(few: float, steps: list[int], found: Overview) -> int:
    """Return the first of *steps* behind which more than a *few* lie."""
    passed = 0
    for step in steps:
        passed += found.bins[step].total
        if passed > few:
            return step
    return steps[-1]


def _ten(power: int) -> str:
    return f"{10 ** (power + 3)} ms" if power < 0 else f"{10**power} s" if power < 4 else f"{10**power / 3600:.0f} h"  # noqa: PLR2004


def _heat(found: Overview, axes: Axes) -> tuple[list[str], list[tuple[str, list[Square | None]]], int]:
    firsts = _largest(found, 0)
    seconds = _largest(found, 1)[:_COLUMNS]
    if all(str(value).lower() in _LEVELS for value in seconds if value is not None):
        seconds.sort(key=lambda value: _LEVELS.index(str(value).lower()) if value is not None else 99)
    rows = []
    for first in firsts[:_ROWS]:
        squares = []
        for second in seconds:
            part = found.cells.get((first, second))
            link = {**_equals(axes.first, first), **_equals(axes.second, second)}
            squares.append(None if part is None else _square(part, f"{_name(first)}, {_name(second)}", link))
        rows.append((_name(first), squares))
    return [_name(second) for second in seconds], rows, max(0, len(firsts) - _ROWS)


def _square(part: Part, title: str, link: Link) -> Square:
    if part.rate is None:
        return Square("–", None, f"{title}: {part.total:,} sessions, none finished", link)  # noqa: RUF001
    shade = min(9, int((1 - part.rate) * 10)) if part.rate < 1 else 0
    shown = percent(part.rate)
    return Square(shown, shade, f"{title}: {shown} of {part.finished:,} finished went well", link)


def _causes(found: Overview, axes: Axes) -> list[tuple[str, str, int, Link]]:
    total = sum(part.total for part in found.causes.values())
    told = []
    for cause, part in list(found.causes.items())[:_CAUSES]:
        if cause:
            name, link = cause, {"error__startswith": cause}
        else:
            name = "Tests did not pass" if axes.judged else "No error told"
            link = {"error__isnull": "true"}
        told.append((name, f"{part.total:,}", round(100 * part.total / total), {"workflow_status": "failed", **link}))
    return told


def _largest(found: Overview, place: int) -> list[Any]:
    sums: dict[Any, int] = {}
    for key, part in found.cells.items():
        sums[key[place]] = sums.get(key[place], 0) + part.total
    return sorted(sums, key=lambda value: (value is None, -sums[value], str(value)))


def _equals(column: str, value: Any) -> Link:
    if value is None:
        return {f"{column}__isnull": "true"}
    return {column: str(value).lower() if isinstance(value, bool) else str(value)}


def _name(value: Any) -> str:
    return (
        "none" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value) or "(empty)"
    )


def _moment(at: datetime, stride: timedelta) -> str:
    at = at.astimezone(UTC)
    if stride < timedelta(days=1):
        return f"{at:%b} {at.day}, {at:%H:%M:%S}" if stride < timedelta(minutes=1) else f"{at:%b} {at.day}, {at:%H:%M}"
    return f"{at:%b} {at.day}" if stride < timedelta(days=7) else f"{at:%b} {at.day}, {at.year}"


def _iso(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
