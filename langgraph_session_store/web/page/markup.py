"""Values as a page shows them: short in a table, whole on a session's page; code with colours, two versions side by side."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from markupsafe import Markup, escape

from ...display import percentage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ...columns import TableColumn

_MOST: Final = 200_000
"""Characters of a value that a page shows."""
_COLOURED: Final = 60_000
_DIFFED: Final = 3_000  # lines
_CONTEXT: Final = 3
_CODE: Final = re.compile(r"(^|_)(code|source|script|sql|query|solution|program|snippet|patch)($|_)")
_KEYWORDS: Final = frozenset(
    {
        "and", "as", "assert", "async", "await", "break", "case", "class", "continue", "def", "del", "elif",
        "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "match",
        "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield", "function",
        "const", "let", "var", "new", "this", "typeof", "export", "default", "public", "private", "static",
        "void", "struct", "fn", "impl", "use", "select", "where", "group", "order", "by", "insert", "update",
        "delete", "into", "values",
    }
)  # fmt: skip
_ATOMS: Final = frozenset(("None", "True", "False", "null", "true", "false", "self", "undefined", "nil"))
_TOKENS: Final = re.compile(
    r"""(?P<c>\#[^\n]*|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z))
    |(?P<s>[rbfuRBFU]{0,2}(?:\"\"\"(?:[^\\"]|\\[\s\S]|"(?!""))*(?:\"\"\"|\Z)|'''(?:[^\\']|\\[\s\S]|'(?!''))*(?:'''|\Z)
        |"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?))
    |(?P<n>\b\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?\b)
    |(?P<d>@[A-Za-z_][\w.]*)
    |(?P<w>[A-Za-z_]\w*)""",
    re.VERBOSE,
)
_JSON: Final = re.compile(
    r'(?P<k>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<s>"(?:[^"\\]|\\.)*")|(?P<n>-?\b\d[\d.eE+-]*)|(?P<w>[a-z]+)'
)


def is_code(name: str) -> bool:
    """Return whether a field of this *name* holds code."""
    return bool(_CODE.search(name.lower()))


def as_json(value: object) -> str:
    """Return *value* as indented JSON."""
    return json.dumps(value, default=_plain, ensure_ascii=False, indent=2)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def lines_of(text: str, *, language: str = "code") -> list[Markup]:
    """Return *text* as lines of HTML in which words have the class of their kind."""
    text = text[:_MOST].replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > _COLOURED:
        return [escape(line) for line in text.split("\n")]
    lines: list[list[Markup]] = [[]]
    for kind, part in _tokens(text, _JSON if language == "json" else _TOKENS):
        for place, piece in enumerate(part.split("\n")):
            if place:
                lines.append([])
            if piece:
                lines[-1].append(Markup('<span class="t-{}">{}</span>').format(kind, piece) if kind else escape(piece))
    return [Markup("").join(line) for line in lines]


def _tokens(text: str, grammar: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    place, before = 0, ""
    for match in grammar.finditer(text):
        if match.start() > place:
            yield "", text[place : match.start()]
        kind, part = match.lastgroup or "", match.group()
        if kind == "w":
            kind = "k" if part in _KEYWORDS else "a" if part in _ATOMS else "f" if before in ("def", "class") else ""
            before = part
        yield kind, part
        place = match.end()
    yield "", text[place:]


class DiffLine(NamedTuple):
    """One line of two versions side by side; a side that has no such line has no number."""

    kind: str
    old_number: int | None
    old: Markup
    new_number: int | None
    new: Markup


def diff(old: object, new: object) -> list[DiffLine]:
    """Return what became of *old*, side by side, with a few lines around each change."""
    before, after = (_as_lines(value) for value in (old, new))
    matcher = SequenceMatcher(None, before, after, autojunk=len(before) + len(after) > 400)  # noqa: PLR2004
    lines: list[DiffLine] = []
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        if lines:
            lines.append(DiffLine("gap", None, Markup(""), None, Markup("")))
        for tag, *places in group:
            lines += _changed(tag, before, after, places)
    return lines


def _changed(tag: str, before: Sequence[str], after: Sequence[str], places: Sequence[int]) -> Iterator[DiffLine]:
    i1, i2, j1, j2 = places
    for step in range(max(i2 - i1, j2 - j1)):
        i = i1 + step if i1 + step < i2 else None
        j = j1 + step if j1 + step < j2 else None
        if tag == "replace" and i is not None and j is not None:
            old, new = _words(before[i], after[j])
        else:
            old = escape(before[i]) if i is not None else Markup("")
            new = escape(after[j]) if j is not None else Markup("")
        kind = tag if i is not None and j is not None else "delete" if i is not None else "insert"
        yield DiffLine(kind, None if i is None else i + 1, old, None if j is None else j + 1, new)


def _words(old: str, new: str) -> tuple[Markup, Markup]:
    """Return two lines in which the words that differ are marked."""
    if len(old) + len(new) > 600:  # noqa: PLR2004
        return escape(old), escape(new)
    before, after = re.findall(r"\w+|\s+|.", old), re.findall(r"\w+|\s+|.", new)
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for side, words in zip(sides, (before[i1:i2], after[j1:j2]), strict=True):
            text = escape("".join(words))
            side.append(text if tag == "equal" else Markup("<mark>{}</mark>").format(text) if text else text)
    return Markup("").join(sides[0]), Markup("").join(sides[1])


def _as_lines(value: object) -> list[str]:
    if value is None:
        return []
    text = value if isinstance(value, str) else as_json(value)
    return text[:_MOST].replace("\r\n", "\n").split("\n")[:_DIFFED]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and how it is shown."""

    name: str
    kind: str
    value: Any


def cell(column: TableColumn, value: Any) -> Cell:
    """Return how a table shows *value*."""
    base = column.sql_type.partition("(")[0]
    kinds = {
        "boolean": "bool",
        "timestamptz": "time",
        "date": "text",
        "integer": "number",
        "bigint": "number",
        "smallint": "number",
        "double precision": "number",
        "numeric": "number",
        "jsonb": "json",
        "uuid": "id",
    }
    special = {"workflow_status": "status", "duration_seconds": "duration", "thread_id": "thread", "run_id": "id", "trace_id": "id", "checkpoint_id": "id"}  # fmt: skip
    kind = special.get(column.name) or kinds.get(base, "text")
    return Cell(column.name, "none" if value is None else kind, value)


def number(value: Any) -> str:
    """Return a number as people read it."""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else str(value)


def duration(seconds: float | None) -> str:
    """Return *seconds* as people read them."""
    if seconds is None:
        return "–"  # noqa: RUF001
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:  # noqa: PLR2004
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s"


def percent(rate: float | None) -> str:
    """Return a share as people read it."""
    return "–" if rate is None else percentage(rate)  # noqa: RUF001


def compact(count: int) -> str:
    """Return a count in at most five characters."""
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (10_000, "k")):
        if count >= size:
            scaled = count / (1000 if unit == "k" else size)
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}".rstrip("0").rstrip(".") + unit  # noqa: PLR2004
    return f"{count:,}"


def label(name: str) -> str:
    """Return a column's name as a heading."""
    words = name.replace("_", " ").strip()
    return {"id": "ID", "run id": "Run ID", "user id": "User", "thread id": "Thread", "workflow status": "Status", "duration seconds": "Duration", "created at": "Created", "updated at": "Updated", "trace id": "Trace ID", "graph name": "Graph", "started at": "Started", "finished at": "Finished", "checkpoint id": "Checkpoint", "recorded at": "Recorded"}.get(words) or words[:1].upper() + words[1:]  # fmt: skip


def parts_of(value: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the items of a list as ``(language, text)``: texts as they are, all else as JSON."""
    return [("code", item) if isinstance(item, str) else ("json", as_json(item)) for item in value]
