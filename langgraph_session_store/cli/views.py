"""What a terminal shows of one session, its history, a change, a group; and which columns a list has."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Final

from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from ..display import percentage, seconds
from ..filters.sqltypes import sql_type
from ..queries import reads
from ..record import record_fields
from .output import Column, age, json_line, plain, plural, printable, shown, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ..clusters import Clusters
    from ..columns import TableColumn
    from ..query import Table
    from ..record import SessionRecord
    from ..session import Session, SessionVersion
    from .output import Output

_LONG: Final = 200  # characters of a text that gets lines of its own
_LARGE: Final = 100_000  # characters of one value
_LINES: Final = 200  # of one value
_TIMES: Final = ("created_at", "updated_at", "started_at", "finished_at")
_THEME: Final = "ansi_dark"
_INDENT: Final = "  "


# --- which columns ---


def vocabulary_columns(table: Table, fields: str | None) -> tuple[TableColumn, ...]:
    """Return the columns that *fields* names, or all."""
    return reads.vocabulary(table).columns(fields)


def columns(table: Table, fields: str | None, record: type[SessionRecord] | None) -> list[Column]:
    """Return the columns of a list: those of *fields*, else what says most in a line, by *record* if there is one."""
    if fields is not None:
        return [Column(column.name, flexible=_is_long(column)) for column in vocabulary_columns(table, fields)]
    own = [column for column in table.columns if column.kind != "own"]
    choices = {field.name for field in record_fields(record) if field.choice} if record else set()
    short = [Column(column.name, optional=True) for column in own if column.name in choices or not _is_long(column)]
    text = [
        Column(column.name, flexible=True)
        for column in own
        if sql_type(column.sql_type).family == "text" and _is_long(column) and column.name not in choices
    ]
    return [
        Column("thread_id"),
        Column("workflow_status"),
        *short,
        Column("duration_seconds", optional=True),
        Column("created_at"),
        *text[:1],
    ]


def watched(table: Table, record: type[SessionRecord] | None) -> list[Column]:
    """Return the columns of a change: time, thread, status, and the fields that are short."""
    return [
        Column("updated_at"),
        *(c for c in columns(table, None, record) if c.name != "created_at" and not c.flexible),
    ]


def _is_long(column: TableColumn) -> bool:
    return column.sql_type in ("text", "jsonb", "json") or column.sql_type.endswith("[]")


# --- one session ---


def raw(value: object) -> str:
    """Return one value as it is: a text with its lines, nothing for NULL."""
    if isinstance(value, str):
        return value
    return (
        json.dumps(value, ensure_ascii=False, indent=2, default=str)
        if isinstance(value, (dict, list))
        else plain(value)
    )


def session(
    out: Output, table: Table, values: Mapping[str, Any], history: Sequence[SessionVersion], more: str, *, whole: bool
) -> None:
    """Draw one session: first what is short, then texts, code and JSON under their names, then its history.

    *more* is the command that tells more of the history.
    """
    if whole:
        _title(out, values)
    longer = {column.name for column in table.columns if _is_long(column)}
    short = {
        name: value
        for name, value in values.items()
        if not (whole and value is None) and not (name in longer and _is_block(value))
    }
    if whole:
        short = {
            name: value for name, value in short.items() if name not in ("thread_id", "workflow_status", "recorded_at")
        }
    width = max(map(len, short), default=0)
    for name, value in short.items():
        out.hanging(Text.assemble((f"{name:<{width}}", "cyan"), "  "), _short(name, value))
    for name, value in values.items():
        if name not in short and value is not None and _is_block(value) and name in longer:
            out.print()
            out.console.print(Text(name, style="cyan"))
            _block(out, name, value)
    if history:
        out.print()
        out.console.print(Text(f"versions ({len(history)})", style="cyan"))
        for version in history:
            out.hanging(Text(_INDENT), _version_line(version))
        out.say((f"{_INDENT}{printable(more)}", "dim"))


def _title(out: Output, values: Mapping[str, Any]) -> None:
    status = values["workflow_status"]
    title = Text.assemble((printable(values["thread_id"]), "bold"), "  ", shown("workflow_status", status))
    if values.get("duration_seconds") is not None:
        title.append(f"  {seconds(values['duration_seconds'])}", style="dim")
    out.console.print(title.append(f"  {age(values['updated_at'])}", style="dim"))
    out.print()


def _short(name: str, value: object) -> Text:
    if name in _TIMES or hasattr(value, "tzinfo"):
        moment: Any = value
        return Text.assemble(stamp(moment), (f"  {age(moment)}", "dim")) if value else shown(name, value)
    if name == "error" and value:
        return Text(printable(str(value)), style="red")
    if isinstance(value, (str, Decimal)):
        return Text(printable(str(value)))
    return shown(name, value)


def _is_block(value: object) -> bool:
    if isinstance(value, (dict, list)):
        return bool(value)
    return isinstance(value, str) and ("\n" in value or len(value) > _LONG)


def _block(out: Output, name: str, value: object) -> None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        lexer, text = (
            _lexer(name),
            "\n".join(f"{place}. {item}" if "\n" not in item else item for place, item in enumerate(value, 1)),
        )
    elif isinstance(value, (dict, list)):
        lexer, text = "json", json.dumps(value, ensure_ascii=False, indent=2, default=str)
    else:
        lexer, text = _lexer(name), str(value)
    lines = printable(text[:_LARGE].replace("\r\n", "\n")).rstrip("\n").split("\n")
    cut = text.rstrip("\n").count("\n") + 1 - min(len(lines), _LINES)
    body = "\n".join(lines[:_LINES])
    drawn = (
        Syntax(body, lexer, theme=_THEME, background_color="default", word_wrap=True)
        if lexer
        else Text(body, style="red" if name == "error" else "")
    )
    out.console.print(Padding(drawn, (0, 0, 0, len(_INDENT))))
    if cut > 0 or len(text) > _LARGE:
        out.say((f"{_INDENT}... there is more: -f {name} in a pipe has it all", "dim"))


def _lexer(name: str) -> str:
    """Return the language of a field: what is called code is Python, the rest is prose."""
    return "python" if name in ("code", "solution") or name.endswith(("_code", "_tests")) else ""


# --- history ---


def history(out: Output, versions: Sequence[SessionVersion]) -> None:
    """Draw each version and what it changed."""
    if not versions:
        out.note(("No versions: nothing of what is versioned was recorded.", "dim"))
    for place, version in enumerate(versions):
        if place:
            out.print()
        out.hanging(Text(), _version_line(version))
        for name, (old, new) in version.changes.items():
            _difference(out, name, old, new)


def _version_line(version: SessionVersion) -> Text:
    changed = ", ".join(version.changes) or "nothing"
    line = Text.assemble(
        (f"v{version.version}", "yellow"), f"  {stamp(version.recorded_at)}", (f"  {age(version.recorded_at)}", "dim")
    )
    if version.run_id:
        line.append(f"  run {printable(version.run_id)}", style="dim")
    return line.append(f"  {changed}")


def _difference(out: Output, name: str, old: object, new: object) -> None:
    before, after = map(_lines, (old, new))
    out.console.print(Text(f"{_INDENT}{name}", style="cyan"))
    marked = list(unified_diff(before, after, lineterm="", n=2))[2:] if before else [f"+{line}" for line in after]
    for line in marked[:_LINES]:
        style = {"+": "green", "-": "red", "@": "magenta"}.get(line[:1], "")
        out.hanging(Text(f"{_INDENT * 2}{line[:1]}", style=style), Text(printable(line[1:]), style=style))
    if len(marked) > _LINES:
        out.say((f"{_INDENT * 2}... {plural(len(marked) - _LINES, 'more line')}", "dim"))


def _lines(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [line for item in value for line in item.splitlines()]
    return raw(value).splitlines()


# --- changes ---


def change(out: Output, columns: Sequence[Column], session: Session) -> None:
    """Write one change, at once."""
    if out.json:
        out.line(json_line(session))
    elif out.rich:
        moment: datetime = session["updated_at"]
        line = Text.assemble((f"{moment.astimezone():%H:%M:%S}", "dim"), "  ")
        line.append_text(_fixed(shown("thread_id", session["thread_id"]), 24)).append("  ")
        line.append_text(_fixed(shown("workflow_status", session["workflow_status"]), 11))
        for column in columns[3:]:
            if session[column.name] is not None:
                label = "" if isinstance(session[column.name], str) else f"{column.name} "
                line.append("  ").append(label, style="dim").append_text(shown(column.name, session[column.name]))
        if session.get("error"):
            line.append("  ").append_text(Text(" ".join(printable(session["error"]).split()), style="red"))
        line.truncate(out.console.width, overflow="ellipsis")
        out.console.print(line, no_wrap=True, crop=False)
    else:
        out.fields(session[column.name] for column in columns)
    sys.stdout.flush()


def _fixed(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


# --- groups ---


def clusters(out: Output, found: Clusters, total: int) -> None:
    """Draw the groups: size, success, name, and what was asked."""
    if not total:
        out.note(("No sessions match.", "dim"))
        return
    told = "" if found.silhouette is None else f", silhouette {found.silhouette:.2f}"
    out.say((f"{plural(len(found), 'group')} of {plural(total, 'session')}{told}", "dim"))
    for group in found:
        out.print()
        rate = "" if group.success_rate is None else f"  {percentage(group.success_rate)} success"
        out.say((printable(group.name), "bold"), (f"  {plural(group.size, 'session')}{rate}", "dim"))
        for example in group.examples:
            text = Text(f"{_INDENT}{' '.join(printable(example).split())}")
            text.truncate(out.console.width, overflow="ellipsis")
            out.console.print(text, no_wrap=True, crop=False)
