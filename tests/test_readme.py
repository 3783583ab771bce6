"""The README tells the truth: its code runs, and its tables, commands and links name what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from langgraph_session_store import ProblemSession
from langgraph_session_store.record import table_columns

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PRELUDE = (
    "from problem_agent import ReferenceAuthor, build_graph, load_entries; "
    f"entries = load_entries(__import__('pathlib').Path({str(ROOT / 'examples/problems.jsonl')!r})); "
    "graph = build_graph(ReferenceAuthor(entries)); prompt = entries[0]['prompt']"
)


def blocks(language: str) -> str:
    """Return the README with everything but the code blocks of *language* blanked: its line numbers stay."""
    lines, inside = [], False
    for line in README.splitlines():
        if line.startswith("```"):
            inside = line == f"```{language}"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


def first_cells(heading: str) -> list[str]:
    """Return what stands in backticks in the first column of the table under *heading*."""
    section = re.split(r"^## ", README, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_python_blocks_run_in_order(dsn: str, schema: str, tmp_path: Path) -> None:
    database = make_conninfo(dsn, options=f"-c search_path={schema}")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "examples"),
        "DATABASE_URL": database,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    script = tmp_path / "README.py"
    code = blocks("python")
    assert code.count("import") > 3
    script.write_text(PRELUDE + code, encoding="utf-8")
    done = subprocess.run([sys.executable, script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT thread_id, workflow_status FROM session_states ORDER BY 1").fetchall()
    assert rows == [("t-1", "completed"), ("t-2", "completed")]


def test_the_row_is_the_real_one() -> None:
    assert set(first_cells("The row")) == {column.name for column in table_columns(ProblemSession)}


def test_the_settings_are_those_that_the_code_reads() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("langgraph_session_store/**/*.py"))
    read = set(
        re.findall(
            r"[\"']((?:SESSION_STORE|LGSS|POSTGRES|XDG)_[A-Z_]+|PG[A-Z]+|DATABASE_URL|DEBUG_SESSION_STATES|MLFLOW_RUN_ID)[\"']",
            sources,
        )
    )
    assert set(first_cells("Settings")) == read


def test_the_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"^make ([\w-]+)", blocks("sh"), re.MULTILINE)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    assert set(commands) <= set(targets)


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?://)([^)#]+)\)", README))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()
