"""Notebook tables: small pieces of HTML in which every text is escaped, since it comes from users and models."""

from __future__ import annotations

import json
from datetime import datetime
from difflib import unified_diff
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LINE: Final = 60  # characters of a cell in a list
_LINES: Final = 40  # of code that is not folded
_FULL: Final = 20_000  # characters of a value that is unfolded; also what a diff is made of
_COLORS: Final = {
    "completed": "#2e7d32",
    "failed": "#c62828",
    "running": "#1565c0",
    "interrupted": "#b26a00",
    "cancelled": "#6a6a6a",
    "abandoned": "#6a6a6a",
}
_PRE: Final = '<pre style="white-space:pre-wrap;text-align:left;margin:0">'


def as_text(value: object) -> str:
    """Return *value* as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"  # noqa: PLR2004
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str, ensure_ascii=False, indent=2)  # orjson refuses large integers
    return str(value)


def line(value: object) -> str:
    """Return *value* as one short line of HTML."""
    text = as_text(value)
    short = " ".join(text[: 4 * _LINE].split())
    cut = len(text) > 4 * _LINE or len(short) > _LINE
    shown = escape(short[:_LINE] + "…" if cut else short)
    color = _COLORS.get(text)
    return f'<span style="color:{color};font-weight:600">{shown}</span>' if color else shown


def block(value: object) -> str:
    """Return *value* as HTML that unfolds where it is long."""
    text = as_text(value)
    if len(text) <= _LINE and "\n" not in text:
        return line(value)
    rest = f"\n… {len(text) - _FULL:,} more characters" if len(text) > _FULL else ""
    return f"<details><summary>{line(value)}</summary>{_PRE}{escape(text[:_FULL] + rest)}</pre></details>"


def field(name: str, value: object) -> str:
    """Return the value of a session's field as HTML: code in its colors, a list of texts as one, what is long unfolding."""
    if isinstance(value, str) and name == "code":
        return _code(value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return f"{_PRE}{escape(chr(10).join(value)[:_FULL])}</pre>"
    return block(value)


def _code(text: str) -> str:
    """Return Python as HTML, in colors where there is Pygments, which comes with every notebook."""
    try:
        from pygments import highlight  # type: ignore[import-untyped,unused-ignore]  # typed only with its stubs
        from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped,unused-ignore]
        from pygments.lexers import PythonLexer  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        colored = escape(text[:_FULL])
    else:
        colored = highlight(text[:_FULL], PythonLexer(), HtmlFormatter(noclasses=True, nowrap=True))
    rest = f"\n… {len(text) - _FULL:,} more characters" if len(text) > _FULL else ""
    whole = f"{_PRE}{colored.rstrip()}{rest}</pre>"
    return whole if text.count("\n") < _LINES else f"<details><summary>{line(text)}</summary>{whole}</details>"


def difference(old: object, new: object) -> str:
    """Return what became of *old* as HTML: a line diff where both are texts of several lines."""
    before, after = as_text(old), as_text(new)
    if "\n" not in before + after or len(before) + len(after) > _FULL:
        return f"{line(old)} → {block(new)}"
    lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))[2:]
    return f"{_PRE}{escape(chr(10).join(lines))}</pre>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; *caption* and *head* are text, the cells of *rows* are HTML."""
    start = f'<table><caption style="text-align:left">{escape(caption)}</caption>'
    titles = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"{start}{f'<thead><tr>{titles}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
