"""Run a page of documentation as its reader would: its Python, shell and SQL blocks, one after the other, from top to bottom.

    python tests/pages.py page.md

Python blocks share their names. Before a shell or SQL block all that was recorded is stored, as it is by the time a person gets to it.
A block under ``<!-- not run: why -->`` is left out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from patient import be_patient

FENCE = re.compile(r"^(\s*)```\s*(\w*)\s*$")
NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->$")
RUN = ("python", "sh", "bash", "sql")


class Block(NamedTuple):
    """A fenced block: its language, its text, the line that it begins in, and why it is not run (None: it is)."""

    language: str
    text: str
    line: int
    why: str | None = None


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    language, start, indent, why = None, 0, "", None
    lines = page.splitlines()
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and language is None:
            indent, language, start = fence[1], fence[2], number + 1
            marked = NOT_RUN.search(lines[number - 1]) if number else None
            why = marked[1] if marked else None
        elif fence and language is not None:
            text = "\n".join(row.removeprefix(indent) for row in lines[start:number])
            found.append(Block(language, text, start, why))
            language = None
    return found


def settle() -> None:
    module = sys.modules.get("langgraph_session_store.writer.writer")
    for writer in list(getattr(module, "_writers", ())):
        assert writer.flush(120)


def run(path: Path) -> None:
    be_patient()
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.why:
            continue
        where = f"{path.name}:{block.line}"
        print(f"--- {where}", flush=True)  # noqa: T201
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, path, "exec", dont_inherit=True), names)
            continue
        settle()
        if block.language in ("sh", "bash"):
            subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=True, stdin=subprocess.DEVNULL)
        elif block.language == "sql":
            import psycopg

            with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
                connection.execute(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
