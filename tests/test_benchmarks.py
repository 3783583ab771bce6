"""The benchmarks run, in a form that takes seconds and proves nothing about speed, and the page is what their results say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def run(*words: str, tmp_path: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LGSS_", "MLFLOW_"))}
    env |= {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "TMPDIR": "/tmp"}  # the server's user goes there
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "finds"),
    [
        ("hot_path", {"bare", "spool", "sync", "nothing, listed", "PostgresSaver, exit", "connect and INSERT per run"}),
        (
            "ingest",
            {
                "ours",
                "ours, one connection",
                "ours, start and end of each run",
                "COPY, text, rendered before",
                "executemany, 1000 rows",
            },
        ),
        ("reads", {"store.get", "store.query", "store.analytics"}),
        ("growth", {"spool", "bare"}),
        ("start", {"import langgraph_session_store", "first run"}),
    ],
)
def test_it_runs(name: str, finds: set[str], tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    run("benchmarks", "--quick", "--only", name, "--results", str(tmp_path), "--page", str(page), tmp_path=tmp_path)
    text = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
    assert all(f'"{each}"' in text for each in finds)
    found = json.loads(text)
    assert found["machine"]["cores"]
    assert str(ROOT) not in text
    for line in found.get("lines", ()):
        assert line["runs"] > 0
        assert line["wall_us"] > 0
    shown = page.read_text(encoding="utf-8")
    assert all(each in shown for each in finds)
    for picture in (page.parent / "images").glob("*.svg"):
        assert f"images/{picture.name}" in shown
        ET.parse(picture)


def test_what_is_not_installed_is_not_available(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
    script += "import candidates as c\nc.FAMILIES['x'] = c.Family(c.ours, ('no_such_module.sub',))\nprint(c.missing('x'), c.missing('ours'))"
    assert run("-c", script, tmp_path=tmp_path).split("\n")[0] == "no_such_module is not installed None"


def test_what_sends_nothing_is_no_candidate(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
    script += """
import dataclasses, hot_path
hot_path.FAMILIES["nothing"] = dataclasses.replace(hot_path.FAMILIES["nothing"], sends=True)
with hot_path.discarding_server() as url:
    try:
        list(hot_path.measure(["nothing"], hot_path.Setting("", url, hot_path.Workload()), 1, 0.01, ["sync"]))
    except SystemExit as error:
        print(error)
"""
    assert run("-c", script, tmp_path=tmp_path) == "nothing sent nothing in its turn\n"


def test_instructions_are_what_the_longer_process_has_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tmp_path / "valgrind"  # runs what it is given, and says what is easily checked
    counts.write_text('#!/bin/sh\nshift 3\n"$@" || exit\necho "==1== I   refs:      $((1000 + 70 * $6))" >&2\n')
    counts.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    results = tmp_path / "instructions.json"
    run("benchmarks/instructions.py", "--quick", "--json", str(results), tmp_path=tmp_path)
    lines = json.loads(results.read_text(encoding="utf-8"))["lines"]
    assert len(lines) == 5
    assert {(line["instructions"], line["ratio"]) for line in lines} == {(70, 1.0)}


def test_without_valgrind_there_are_no_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    results = tmp_path / "instructions.json"
    run("benchmarks/instructions.py", "--quick", "--json", str(results), tmp_path=tmp_path)
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["lines"] == []
    assert found["not_available"]["valgrind"]


@pytest.mark.skipif(not RESULTS.exists(), reason="no results yet")
def test_the_page_is_what_the_results_say(tmp_path: Path) -> None:
    said = run(
        "benchmarks/report.py", "--results", str(RESULTS), "--page", str(tmp_path / "benchmarks.md"), tmp_path=tmp_path
    )
    assert "to reach" in said
    page = ROOT / "docs" / "benchmarks.md"
    assert (tmp_path / "benchmarks.md").read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
