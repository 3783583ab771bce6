"""How answers look: a table on a terminal, tab-separated lines in a pipe, JSON where asked."""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..clock import told
from ..display import DURATIONS, number, numeric, seconds
from ..encode import to_json
from ..sharing import once
from . import exits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

STATUS_STYLES: Final = {
    "completed": "green",
    "failed": "red",
    "running": "blue",
    "interrupted": "yellow",
    "cancelled": "dim",
    "abandoned": "dim",
}
_GAP: Final = 2
_WIDEST: Final = 60  # columns of a cell, at most
_NARROWEST: Final = 16  # columns of a text that is cut
_LEAST: Final = 4  # columns of anything
_LARGEST: Final = 1 << 30  # characters of a JSON value: what is stored is shown whole
_SKEW: Final = 60  # seconds that clocks may differ without a word
_DIGITS: Final = 16  # of a Decimal that is told exactly
_KIBI: Final = 1024
_AGES: Final = ((60, "s", 1), (3600, "m", 60), (86_400, "h", 3600), (86_400 * 100, "d", 86_400))


@dataclass(frozen=True)
class Column:
    """A column of a table. An *optional* one goes where the terminal is narrow, a *flexible* one is cut first; *right* is where numbers stand."""

    name: str
    optional: bool = False
    flexible: bool = False
    right: bool = False


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


class Output:
    """Where a verb's answer goes."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.json = as_json

    @once
    def console(self) -> Console:
        """The standard output."""
        return _Console(highlight=False, markup=False, emoji=False)

    @once
    def aside(self) -> Console:
        """The standard error: progress, notes and questions, which are no answer."""
        return _Console(stderr=True, highlight=False, markup=False, emoji=False)

    @property
    def rich(self) -> bool:
        """Whether a person looks: colours, tables, ages."""
        return not self.json and self.console.is_terminal

    def document(self, value: object) -> None:
        """Write *value* as one JSON document: indented on a terminal, else a line."""
        text = json_line(value)
        if self.console.is_terminal:
            self.console.print_json(text)
        else:
            self.line(text)

    def line(self, text: str) -> None:
        """Write a line as it is."""
        sys.stdout.write(f"{text}\n")

    def fields(self, values: Iterable[object]) -> None:
        """Write a tab-separated line."""
        self.line("\t".join(plain(value) for value in values))

    def print(self, *parts: object, end: str = "\n") -> None:
        """Write what rich can draw; a text is no markup."""
        self.console.print(*parts, end=end)

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Write a line for a person: words, or words with a style."""
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def hanging(self, head: Text, body: Text) -> None:
        """Write *body* behind *head*, wrapped into the room on its right."""
        room = max(20, self.console.width - head.cell_len)
        for place, line in enumerate(body.wrap(self.console, room)):
            line.rstrip()
            self.console.print((head if not place else Text(" " * head.cell_len)) + line, no_wrap=True, crop=False)

    def note(self, *parts: str | tuple[str, str]) -> None:
        """Write a line to stderr."""
        self.aside.print(Text.assemble(*parts), soft_wrap=True)

    def rows(self, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write *rows*: as a table that fits the terminal, or a tab-separated line each."""
        if not self.rich:
            for row in rows:
                self.fields(row[column.name] for column in columns)
            return
        for line in layout(columns, rows, self.console.width):
            self.console.print(line, no_wrap=True, crop=False, overflow="ignore")

    @contextmanager
    def progress(self, doing: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None] | None]:
        """Show a bar on stderr while something takes time, told by calls with (done, total); None where nobody looks."""
        if quiet or not self.aside.is_terminal:
            yield None
            return
        parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*parts, console=self.aside, transient=True) as bar:
            task = bar.add_task(doing, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def confirm(self, question: str, *, yes: bool, verb: str) -> None:
        """Ask whether to go on, unless *yes* was said; ends the program otherwise, and where there is nobody to ask."""
        if yes:
            return
        if not (sys.stdin.isatty() and self.aside.is_terminal):
            exits.fail(f"{verb} asks before it goes on, and there is no terminal to ask on: add --yes", exits.USAGE)
        self.aside.print(Text.assemble((question, "bold"), " [y/N] "), end="", soft_wrap=True)
        if _answer().strip().lower() not in ("y", "yes"):
            self.note("Nothing was changed.")
            raise typer.Exit(exits.MISSING)


def _answer() -> str:
    """Read a line of the terminal. Ctrl-C ends the wait also where it comes just before, or to one of the store's threads."""
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    before = signal.set_wakeup_fd(waker.fileno())
    try:
        select.select([sys.stdin, woken], [], [])
        return sys.stdin.readline()
    finally:
        signal.set_wakeup_fd(before)
        woken.close()
        waker.close()


# --- values ---


def json_line(value: object) -> str:
    """Return *value* as JSON text with the times that the REST API tells."""
    return to_json(_timed(value), _LARGEST)


def _timed(value: object) -> object:
    if isinstance(value, datetime):
        return told(value)
    if isinstance(value, dict):
        return {key: _timed(item) for key, item in value.items()}
    return [_timed(item) for item in value] if isinstance(value, (list, tuple)) else value


def plain(value: object) -> str:
    """Return *value* for a program that reads lines: no tabs, newlines or control characters, nothing cut."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return told(value)
    text = to_json(value, _LARGEST) if isinstance(value, (dict, list)) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def shown(name: str, value: object) -> Text:  # noqa: PLR0911 - one for each type
    """Return *value* of the column *name* for a person, in one line."""
    if value is None:
        return Text("-", style="dim")
    if name in ("workflow_status", "status"):
        return Text(printable(str(value)), style=STATUS_STYLES.get(str(value), ""))
    if isinstance(value, bool):
        return Text("yes", style="green") if value else Text("no", style="red")
    if isinstance(value, datetime):
        return Text(age(value))
    if isinstance(value, float):
        return Text(seconds(value) if name in DURATIONS else number(value))
    if isinstance(value, Decimal):
        return Text(str(value) if len(str(value)) <= _DIGITS else f"{value:.6g}")
    if isinstance(value, (dict, list)):
        return Text(printable(json.dumps(value, ensure_ascii=False, default=str)[:500]))
    return Text(" ".join(printable(str(value)[:2000]).split()))


def printable(text: str) -> str:
    """Return *text* without what a terminal would take for orders; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago *moment* was, or its day where that says more."""
    if moment.tzinfo is None:
        return moment.isoformat(" ", "seconds")
    past = ((now or datetime.now(UTC)) - moment).total_seconds()
    if past < 0:
        return stamp(moment) if past < -_SKEW else "now"
    for limit, unit, size in _AGES:
        if past < limit:
            return f"{int(past / size)}{unit} ago"
    return moment.astimezone(UTC).date().isoformat()


def stamp(moment: datetime) -> str:
    """Return *moment* as a person reads it and a filter takes it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment.tzinfo else moment.isoformat(" ", "seconds")


def size(count: int) -> str:
    """Return a number of bytes."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < _KIBI:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIBI
    return f"{value:.1f} GiB"


def plural(count: int, word: str, words: str = "") -> str:
    """Return *count* and the word for so many."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {words or word + 's'}"


# --- tables ---


def layout(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    """Return the lines of a table of at most *width* columns: optional columns go, then texts are cut."""
    cells = {column.name: [shown(column.name, row[column.name]) for row in rows] for column in columns}
    widths = {
        name: min(_WIDEST, max([len(word) for word in _words(name)] + [cell.cell_len for cell in texts]))
        for name, texts in cells.items()
    }
    kept = list(columns)

    def excess() -> int:
        return sum(widths[column.name] + _GAP for column in kept) - _GAP - width

    for column in [column for column in columns if column.flexible]:
        widths[column.name] -= max(0, min(excess(), widths[column.name] - _NARROWEST))
    for column in [column for column in reversed(columns) if column.optional]:
        if excess() > 0:
            kept.remove(column)
    for column in [column for column in kept if column.flexible]:  # what the optional ones left
        natural = max((cell.cell_len for cell in cells[column.name]), default=0)
        widths[column.name] += max(0, min(-excess(), natural - widths[column.name]))
    while (
        excess() > 0 and (widest := max(kept, key=lambda column: widths[column.name])) and widths[widest.name] > _LEAST
    ):
        widths[widest.name] -= 1
    right = {column.name for column in kept if column.right or numeric(row[column.name] for row in rows)}
    heads = {column.name: _head(column.name, widths[column.name]) for column in kept}
    height = max(map(len, heads.values()), default=0)
    titles = {name: [""] * (height - len(lines)) + lines for name, lines in heads.items()}
    lines = [[Text(titles[c.name][place], style="bold") for c in kept] for place in range(height)]
    lines += [[cells[column.name][place] for column in kept] for place in range(len(rows))]
    return [_join(kept, widths, right, line) for line in lines]


def _join(columns: Sequence[Column], widths: Mapping[str, int], right: set[str], cells: Sequence[Text]) -> Text:
    line = Text()
    for column, cell in zip(columns, cells, strict=True):
        fitted = cell.copy()
        fitted.truncate(widths[column.name], overflow="ellipsis")
        room = " " * (widths[column.name] - fitted.cell_len)
        line.append_text(Text(room) + fitted if column.name in right else fitted + Text(room))
        line.append(" " * _GAP)
    line.rstrip()
    return line


def _head(name: str, width: int) -> list[str]:
    """Return a column's name in lines of at most *width*, where it can be broken."""
    if cell_len(name) <= width:
        return [name]
    lines = [""]
    for word in _words(name):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return [line[:width] for line in lines]


def _words(name: str) -> list[str]:
    return name.replace("_", "_ ").split()
