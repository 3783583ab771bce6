"""What stats shows: numbers with their names, counts with bars, groups and series as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from ..display import number, percentage, seconds
from .output import STATUS_STYLES, Column, plain, plural, printable, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..session import Analytics, Summary
    from .output import Output

_BAR: Final = 24  # columns
_MOST: Final = 15  # values of one column


def analytics(out: Output, numbers: Analytics) -> None:
    """Draw the numbers: the whole, counts with bars, then groups or the series."""
    if not numbers.total:
        out.note(("No sessions match.", "dim"))
        return
    facts = [("sessions", f"{numbers.total:,}"), *_facts(numbers)]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        out.say((f"{name:<{width}}", "cyan"), f"  {value}")
    for name, counts in (
        ("status", numbers.by_status),
        ("topic", {} if _grouped(numbers, "topic") else numbers.by_topic),
        ("difficulty", {} if _grouped(numbers, "difficulty") else numbers.by_difficulty),
    ):
        _counts(out, name, counts, numbers.total)
    rows, table = numbers.table()
    if numbers.series or numbers.groups:
        out.print()
        known = [column for column in table if any(row[column.name] is not None for row in rows)]
        keys = {column.name for column in numbers.group_columns} | {"start", "total", "success_rate"}
        skip = {"average_code_attempts", "average_problem_attempts", "first_seen", "last_seen"}
        wanted = [
            Column(column.name, optional=column.name not in keys, right=column.name in ("total", "success_rate"))
            for column in known
            if not (column.name in skip or column.name.endswith(("_min", "_max")))
        ]
        told = [{**row, "start": stamp(row["start"])[:16] if row.get("start") else None} for row in rows]
        for row in told:
            row["total"] = f"{row['total']:,}"
            row["success_rate"] = None if row["success_rate"] is None else percentage(row["success_rate"])
        out.rows(wanted, told)


def plain_analytics(out: Output, numbers: Analytics) -> None:
    """Write the rows of groups or series under their names, or a line per number."""
    if numbers.sliced:
        rows, table = numbers.table()
        out.fields(column.name for column in table)
        for row in rows:
            out.fields(row[column.name] for column in table)
        return
    for name, value in numbers.flat().items():
        out.fields([name, value])
    for name in ("by_status", "by_topic", "by_difficulty"):
        for key, count in numbers[name].items():
            out.fields([f"{name}.{plain(key)}", count])


def _grouped(numbers: Analytics, name: str) -> bool:
    return any(column.name == name for column in numbers.group_columns)


def _facts(numbers: Summary) -> list[tuple[str, str]]:
    facts = []
    if numbers.success_rate is not None:
        facts.append(("success", f"{percentage(numbers.success_rate)} of what ended"))
    if numbers.duration_p50 is not None and numbers.duration_p95 is not None:
        facts.append(("duration", f"{seconds(numbers.duration_p50)} median, {seconds(numbers.duration_p95)} p95"))
    for name, summary in numbers.numeric.items():
        if summary.mean is not None and summary.min is not None and summary.max is not None:
            spread = f"{number(summary.mean)} mean, {number(summary.min)} to {number(summary.max)}"
            facts.append((name, spread))
    if numbers.first_seen and numbers.last_seen:
        facts.append(("created", f"{stamp(numbers.first_seen)} to {stamp(numbers.last_seen)}"))
    return facts


def _counts(out: Output, name: str, counts: Mapping[str | None, int], total: int) -> None:
    if not counts:
        return
    out.print()
    most = max(counts.values())
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    labels = {key: printable("-" if key is None else key)[:28] for key, _ in ordered[:_MOST]}
    width = max(len(name), *map(len, labels.values()))
    digits = len(f"{most:,}")
    out.console.print(Text(name, style="cyan"))
    for key, count in ordered[:_MOST]:
        bar = "█" * max(1, round(_BAR * count / most))
        style = STATUS_STYLES.get(key or "", "") if name == "status" else "blue"
        out.console.print(
            Text.assemble(
                f"  {labels[key]:<{width}}  {count:>{digits},}  {percentage(count / total):>4}  ", (bar, style)
            )
        )
    if len(ordered) > _MOST:
        out.say((f"  ... {plural(len(ordered) - _MOST, 'more value')}", "dim"))
