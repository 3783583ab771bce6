"""How --help looks: sections that belong together, aligned, with colours on a terminal."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Final

from typer.core import TyperCommand

SECTIONS: Final = {
    "Look": ("list", "show", "stats", "versions", "watch", "export", "clusters", "serve"),
    "Keep": ("init", "doctor", "drain", "backfill", "delete", "erase", "purge"),
    "Try": ("demo",),
}


class Verb(TyperCommand):
    """One verb, whose options stand under the headings that they name."""

    def get_help(self, ctx: Any) -> str:
        """Return the help text."""
        return colored(super().get_help(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each heading with its own."""
        sections: dict[str, list[tuple[str, str]]] = {}
        param: Any
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                sections.setdefault("Arguments", []).append((param.metavar or param.name, param.help))
            elif record := param.get_help_record(ctx):
                sections.setdefault(param.rich_help_panel or "Options", []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def write_verbs(commands: Any, ctx: Any, formatter: Any) -> None:
    """Write the verbs, by what they are for; *commands* finds one by name."""
    for heading, names in SECTIONS.items():
        with formatter.section(heading):
            formatter.write_dl([(name, commands(ctx, name).get_short_help_str(80)) for name in names])


def colored(text: str) -> str:
    """Return a help text with its headings and names in colour, where a terminal shows it."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    lines, listing = [], False
    for line in text.split("\n"):
        if line.endswith(":") and not line.startswith(" "):
            listing, told = True, f"\x1b[1m{line}\x1b[0m"
        elif listing and (entry := re.match(r"  (\S.*?)(?=  |$)", line)):
            told = f"  \x1b[36m{entry[1]}\x1b[0m{line[entry.end() :]}"
        else:
            listing = listing and bool(line)
            told = re.sub(r"^Usage:", "\x1b[1mUsage:\x1b[0m", line)
        lines.append(told)
    return "\n".join(lines)
