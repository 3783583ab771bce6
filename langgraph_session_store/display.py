"""Notebook tables: small pieces of HTML in which every text is escaped, since it comes from users and models."""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from difflib import unified_diff
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_LINE: Final = 60  # characters of a cell in a list
_LINES: Final = 40  # of code that is not folded
_FULL: Final = 20_000  # characters of a value that is unfolded; also what a diff is made of
_STYLES: Final = {
    "completed": "color:var(--jp-success-color0,#2f8a3a);font-weight:600",
    "failed": "color:var(--jp-error-color1,#d64541);font-weight:600",
    "running": "color:var(--jp-info-color0,#0a84a8);font-weight:600",
    "interrupted": "color:var(--jp-warn-color0,#bf6a00);font-weight:600",
    "cancelled": "opacity:.7;font-weight:600",
    "abandoned": "opacity:.7;font-weight:600",
}
_SYNTAX: Final = {
    "Keyword": "color:var(--jp-mirror-editor-keyword-color,#2f8a3a);font-weight:600",
    "Operator.Word": "color:var(--jp-mirror-editor-keyword-color,#2f8a3a);font-weight:600",
    "Literal.String": "color:var(--jp-mirror-editor-string-color,#d64541)",
    "Literal.Number": "color:var(--jp-mirror-editor-number-color,#2f8a3a)",
    "Comment": "opacity:.7;font-style:italic",
}
"""Of what Pygments calls tokens. The notebook's theme sets the variables; the colors behind them read well on light and dark."""
_PRE: Final = (
    '<pre style="white-space:pre-wrap;text-align:left;margin:0;font-family:monospace;background:none;color:inherit">'
)
_NARROW: Final = 40  # characters of a cell that does not wrap
_TAG: Final = re.compile("<[^>]*>")
DURATIONS: Final = frozenset({"duration_seconds", "duration_p50", "duration_p95"})
_ROUND: Final = 1000  # from here on digits behind the point say nothing
_LARGE: Final = 1e15  # from here on a float has no digit that is sure
_MINUTES: Final = 120  # seconds that are told with a decimal


def number(value: float) -> str:
    """Return a number with as many digits as say something."""
    return f"{value:,.0f}" if _ROUND <= abs(value) < _LARGE else f"{value:.4g}"


def percentage(share: float) -> str:
    """Return a *share* of 1 as percent, never so rounded that none or all seem to be meant."""
    if 0 < share < 0.01:  # noqa: PLR2004
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"  # noqa: PLR2004


def seconds(value: float) -> str:
    """Return a duration."""
    if value < 1:
        return f"{value * 1000:.2g}ms" if value < 0.01 else f"{value * 1000:.0f}ms"  # noqa: PLR2004
    if value < _MINUTES:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s"


def as_text(value: object) -> str:
    """Return *value* as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").replace("+00:00", "Z")
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str, ensure_ascii=False, indent=2)  # orjson refuses large integers
    return str(value)


def line(value: object, name: str = "") -> str:
    """Return *value* as one short line of HTML; a duration, which the column's *name* tells, with its unit."""
    text = seconds(value) if name in DURATIONS and isinstance(value, float) else as_text(value)
    short = " ".join(text[: 4 * _LINE].split())
    cut = len(text) > 4 * _LINE or len(short) > _LINE
    shown = escape(short[:_LINE] + "…" if cut else short)
    style = _STYLES.get(text)
    return f'<span style="{style}">{shown}</span>' if style else shown


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
    return line(value, name) if name in DURATIONS else block(value)


def whole(text: str) -> str:
    """Return *text* as HTML, however long."""
    return escape(text)


def numeric(values: Iterable[object]) -> bool:
    """Return whether *values* are numbers, which stand at the right of their column."""
    known = [value for value in values if value is not None]
    return bool(known) and all(
        isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) for value in known
    )


def _code(text: str) -> str:
    """Return Python as HTML, in colors where there is Pygments, which comes with every notebook."""
    try:
        from pygments.lexers import PythonLexer  # type: ignore[import-untyped,unused-ignore]  # typed only with its stubs
    except ImportError:
        colored = escape(text[:_FULL])
    else:
        tokens = PythonLexer(stripnl=False, ensurenl=False).get_tokens(text[:_FULL])
        colored = "".join(_token(str(kind).removeprefix("Token."), piece) for kind, piece in tokens)
    rest = f"\n… {len(text) - _FULL:,} more characters" if len(text) > _FULL else ""
    whole = f"{_PRE}{colored.rstrip()}{rest}</pre>"
    return whole if text.count("\n") < _LINES else f"<details><summary>{line(text)}</summary>{whole}</details>"


def _token(kind: str, text: str) -> str:
    style = next((style for name, style in _SYNTAX.items() if kind.startswith(name)), "")
    return f'<span style="{style}">{escape(text)}</span>' if style else escape(text)


def difference(old: object, new: object) -> str:
    """Return what became of *old* as HTML: a line diff where both are texts of several lines, NULL being one without lines."""
    before, after = ("" if value is None else as_text(value) for value in (old, new))
    if "\n" not in before + after or len(before) + len(after) > _FULL:
        return f"{line(old)} → {block(new)}"
    lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))[2:]
    return f"{_PRE}{escape(chr(10).join(lines))}</pre>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()) -> str:
    """Return a table; *caption* and *head* are text, the cells of *rows* are HTML. Columns named in *right* hold numbers."""
    sides = ["right" if name in right else "left" for name in head]
    start = f'<table><caption style="text-align:left;white-space:nowrap">{escape(caption)}</caption>'
    titles = "".join(
        f'<th style="text-align:{side}">{escape(name)}</th>' for side, name in zip(sides, head, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row, sides or ['left'] * len(row)))}</tr>" for row in rows)
    return f"{start}{f'<thead><tr>{titles}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _cell(html: str, side: str) -> str:
    """Return a cell in which a short text stays in its line, and a long one gets room to wrap."""
    room = "white-space:nowrap" if len(_TAG.sub("", html)) <= _NARROW else "min-width:16em"
    return f'<td style="text-align:{side};vertical-align:top;{room}">{html}</td>'
