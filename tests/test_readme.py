"""The README tells the truth: its code and its commands run, and it names targets that there are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

ROOT = Path(__file__).resolve().parents[1]
PATIENT = Path(__file__).with_name("patient.py")
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
    done = subprocess.run(
        [sys.executable, PATIENT, script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    for line in re.findall(r"^session-store .*", blocks("sh"), re.MULTILINE):
        command = subprocess.run(
            line, shell=True, env={**env, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert command.returncode == 0, command.stdout + command.stderr
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT thread_id, workflow_status FROM session_states ORDER BY 1").fetchall()
    assert rows == [("t-1", "completed"), ("t-2", "completed")]


def test_the_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"^make ([\w-]+)", blocks("sh"), re.MULTILINE)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    assert set(commands) <= set(targets)
