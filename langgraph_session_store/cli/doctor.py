"""`session-store doctor`: runs the checks of the database and of the machine, and shows what they find."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from ..conninfo import resolve
from ..errors import SessionStoreError
from . import exits
from .checks_database import database
from .checks_machine import mlflow, program, spool
from .findings import told
from .options import Source, SpoolDir, with_source
from .output import Output, plural

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .findings import Finding

_SIGNS: Final = {
    "ok": ("ok", "green"),
    "note": ("note", "blue"),
    "warning": ("warn", "yellow"),
    "problem": ("FAIL", "bold red"),
}


@with_source
def doctor(
    at: Source,
    out: Output,
    spool_dir: SpoolDir = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
) -> None:
    """Check that all is well, and say how to repair what is not.

    Looks at connection, server, pooler, clock, table, rights, spool and MLflow. Changes nothing. Exits with 1 where it finds a problem. In a pipe: status, check, message and fix, tab-separated. With --json:
    {"ok": ..., "findings": [{"check", "status", "message", "fix"}]}; status is ok, note, warning or problem.
    """
    findings = []
    for finding in check_all(at, spool_dir):
        findings.append(finding)
        if out.rich:
            _draw(out, finding)
        elif not out.json:
            out.fields([finding.status, finding.check, finding.message, finding.fix])
    bad = [f for f in findings if f.status == "problem" or (strict and f.status == "warning")]
    if out.json:
        out.document({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    elif out.rich:
        warnings = sum(finding.status == "warning" for finding in findings)
        sums = f"{plural(len(bad), 'problem')}, {plural(warnings, 'warning')}."
        out.print()
        out.say((sums if bad or warnings else "Everything is well.", "bold"))
    if bad:
        raise typer.Exit(exits.MISSING)


def check_all(at: Source, spool_dir: Path | None) -> Iterator[Finding]:
    """Yield all findings, the database's first; what cannot be looked at is not told."""
    yield program()
    try:
        target, table = resolve(at.dsn), at.table
    except SessionStoreError as error:
        yield told("settings", error)
    else:
        yield from database(at, target, table)
        yield from spool(target, table, spool_dir)
    yield mlflow()


def _draw(out: Output, finding: Finding) -> None:
    sign, style = _SIGNS[finding.status]
    head = Text.assemble((f"{sign:<4}", style), "  ", (f"{finding.check:<10}", "bold"), "  ")
    out.hanging(head, Text(finding.message))
    if finding.fix:
        out.hanging(Text(" " * 18), Text.assemble(("fix: ", "yellow"), finding.fix))
