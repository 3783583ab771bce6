"""The notebook runs from its first cell to its last, and what is committed of it shows what it should and nothing of a machine."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOK = nbformat.read(EXAMPLES / "past_runs.ipynb", as_version=4)
QUESTIONS = [cell.source.splitlines()[0] for cell in NOTEBOOK.cells if re.match(r"## \d+\. .+\?", cell.source)]


def kinds(notebook: Any) -> list[set[str]]:
    """Return the kinds of output of each cell, numbered as the cells are."""
    found = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        assert not [output for output in outputs if output.output_type in ("error", "stream")], cell.source
        found.append({kind for output in outputs for kind in output.data})
    return found


def test_the_committed_outputs_answer_ten_questions() -> None:
    assert [int(re.findall(r"\d+", question)[0]) for question in QUESTIONS] == list(range(1, 11))
    shown = kinds(NOTEBOOK)
    assert sum("image/png" in kind for kind in shown) >= 5
    assert sum("text/html" in kind for kind in shown) >= 10
    for cell in NOTEBOOK.cells:
        for output in cell.get("outputs", []):
            if picture := output.data.get("image/png"):
                assert len(base64.b64decode(picture)) > 5_000


def test_the_committed_outputs_tell_nothing_of_a_machine() -> None:
    text = "\n".join(str(cell.get("outputs", "")) for cell in NOTEBOOK.cells)
    assert not re.findall(r"/(?:tmp|root|home|work|var|Users)/|[A-Z]:\\\\Users|localhost|past-runs-\w", text)


@pytest.mark.timeout(900)
def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", "24")
    monkeypatch.delenv("PROBLEMS", raising=False)
    again = nbformat.from_dict(NOTEBOOK)
    place = {"metadata": {"path": str(EXAMPLES)}}
    NotebookClient(again, timeout=600, startup_timeout=600, kernel_name="python3", resources=place).execute()
    assert kinds(again) == kinds(nbformat.read(EXAMPLES / "past_runs.ipynb", as_version=4))
