"""What no hand could keep right: the pages of the command and of REST, made while MkDocs builds, and the drawing of the layers.

python docs/generated.py        draws images/layers.svg again, after the contract in pyproject.toml changed
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_REST = """`session-store serve` and `create_app(store)` serve these routes; the document itself is at `/openapi.json`, with the types of
your own record. Where a token is set, all but `/healthz`, `/readyz` and the page ask for `Authorization: Bearer ...`. Errors are
`application/problem+json` (RFC 9457). `GET /api/sessions/events` is the live stream
(server-sent events), `/` the dashboard. HEAD answers what GET would, without the body."""
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?:examples|tests|benchmarks|[A-Z])[^)]*)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, make in {"reference/cli.md": command_page, "reference/rest.md": rest_page}.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name what a link outside of the documentation leads to: the site has no copy of it."""
    return _OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2].lstrip('./')}` in the repository)", markdown)


def command_page() -> str:
    """Return the page of `session-store`: every verb with every argument and option."""
    import typer

    from langgraph_session_store.cli import app
    from langgraph_session_store.cli.exits import CODES
    from langgraph_session_store.cli.helping import SECTIONS

    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="session-store")
    verbs = {name: group.get_command(context, name) for name in group.list_commands(context)}
    lines = ["# The command `session-store`", "", group.help, "", "Options that all verbs share:", ""]
    shared = set.intersection(*({opt(param) for param in verb.params if is_option(param)} for verb in verbs.values()))
    some = next(iter(verbs.values()))
    lines += table((opt(param), param.help) for param in some.params if is_option(param) and opt(param) in shared)
    lines += ["Exit codes:", "", *table((f"`{code}`", what) for code, what in CODES.items())]
    placed = {name: heading for heading, names in SECTIONS.items() for name in names}
    for heading in dict.fromkeys([*SECTIONS, *(placed.get(name, "More") for name in verbs)]):
        names = [name for name in verbs if placed.get(name, "More") == heading]
        lines += [f"## {heading}", ""]
        for name in names:
            lines += verb_section(verbs[name], typer.Context(verbs[name], info_name=name, parent=context), shared)
    return "\n".join(lines)


def verb_section(verb: Any, context: Any, shared: set[str]) -> Iterator[str]:
    """Yield the lines of one verb."""
    yield from (f"### `{verb.name}`", "", " ".join(verb.help.split()), "")
    yield from ("```text", f"session-store {verb.name} {' '.join(verb.collect_usage_pieces(context))}", "```", "")
    own = [param for param in verb.params if not (is_option(param) and opt(param) in shared)]
    if own:
        yield from table((opt(param), told(param)) for param in own)


def is_option(param: Any) -> bool:
    """Tell whether *param* is an option, not an argument."""
    return bool(param.param_type_name == "option")


def opt(param: Any) -> str:
    """Return how *param* is written."""
    if not is_option(param):
        return f"`{param.metavar or param.name.upper()}`"
    value = "" if getattr(param, "is_flag", False) else f" {param.metavar or ''}".rstrip()
    return ", ".join(f"`{name}{value}`" for name in (*param.opts, *param.secondary_opts))


def told(param: Any) -> str:
    """Return what *param* means, and its default."""
    default = param.default if is_option(param) and param.default not in (None, False) else None
    return f"{param.help or ''}{f' Default: `{default}`.' if default is not None else ''}"


def table(rows: Any) -> list[str]:
    """Return *rows* of two cells as a table."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return ["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in cells), ""]


def rest_page() -> str:
    """Return the page of the REST API: every route of the OpenAPI document, for the default record."""
    from langgraph_session_store import SessionStore
    from langgraph_session_store.web import create_app

    store = SessionStore("host=nowhere.invalid")
    document = create_app(store, token="-" * 40).openapi()
    columns = {column.name for column in store.table.columns}
    lines = [
        "# The REST API",
        "",
        _REST,
        "",
    ]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            lines += route_section(path, method, route, columns)
    return "\n".join(lines)


def route_section(path: str, method: str, route: dict[str, Any], columns: set[str]) -> Iterator[str]:
    """Yield the lines of one route; of its filters only that there are some."""
    yield from (f"## `{method.upper()} {path}`", "", f"{route['summary']}.", "")
    if (about := route.get("description")) and not about.startswith(route["summary"]):
        yield from (" ".join(about.split()), "")
    parameters = route.get("parameters", [])
    filters = [param for param in parameters if param["in"] == "query" and param["name"].split("__")[0] in columns]
    rows = [
        (f"`{param['name']}` ({param['in']})", param.get("description") or param["schema"].get("title", ""))
        for param in parameters
        if param not in filters
    ]
    if filters:
        rows.append(("`field=value`, `field__op=value`", "[Filters](../querying.md#filters); all must hold."))
    if rows:
        yield from table(rows)
    answers = ", ".join(f"`{code}` {answer['description'].rstrip('.')}" for code, answer in route["responses"].items())
    yield from (f"Answers: {answers}.", "")


HERE = Path(__file__).parent
_ROW, _GAP, _LEFT, _WIDTH = 40, 8, 20, 840


def layers_drawing() -> str:
    """Return the layers of the import contract as a drawing, the uppermost first, in the style of the other drawings."""
    contract = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [re.findall(r"\w+", layer) for layer in contract["contracts"][0]["layers"]]
    style = re.search(r"  <style>.*?</style>\n", (HERE / "images" / "rooms.svg").read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    height = 2 * _LEFT + len(layers) * (_ROW + _GAP) - _GAP
    parts = [f'<rect class="page" x=".5" y=".5" width="{_WIDTH + 2 * _LEFT - 1}" height="{height - 1}" rx="10"/>']
    for level, names in enumerate(layers):
        width = (_WIDTH - (len(names) - 1) * _GAP) / len(names)
        top = _LEFT + level * (_ROW + _GAP)
        for place, name in enumerate(names):
            left = _LEFT + place * (width + _GAP)
            parts.append(f'<rect class="box" x="{left:g}" y="{top}" width="{width:g}" height="{_ROW}" rx="6"/>')
            parts.append(f'<text class="code middle" x="{left + width / 2:g}" y="{top + 25}">{name}</text>')
    told = "; ".join(", ".join(names) for names in layers)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 2 * _LEFT} {height}" role="img" '
        'aria-labelledby="title text">\n  <title id="title">The layers</title>\n'
        f'  <desc id="text">From top to bottom, each importing only from below: {told}.</desc>\n'
    )
    return head + style[0] + "".join(f"  {part}\n" for part in parts) + "</svg>\n"


if __name__ == "__main__":
    (HERE / "images" / "layers.svg").write_text(layers_drawing(), encoding="utf-8")
