"""Schemathesis against a running server, in a short form; every check that it has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from web_serving import problem_rows, served

if TYPE_CHECKING:
    from langgraph_session_store.store import SessionStore

TOKEN = "t" * 40
BINARY = Path(sys.executable).parent / "schemathesis"


@pytest.mark.skipif(not BINARY.exists() and not shutil.which("schemathesis"), reason="schemathesis is not installed")
@pytest.mark.parametrize(
    "options",
    [
        ["--phases", "fuzzing", "--max-examples", "12"],
        ["--phases", "coverage", "--include-path-regex", r"^/(healthz|readyz|metrics|api/schema|api/sessions/\{)"],
    ],
    ids=["fuzzing", "coverage"],
)
@pytest.mark.timeout(300)
def test_the_server_keeps_its_promises(store: SessionStore, tmp_path: Path, options: list[str]) -> None:
    store.save_many(problem_rows(20))
    with served(store, token=TOKEN) as client:
        command = [str(BINARY), "run", f"{client.base_url}openapi.json", "--checks", "all", "--no-color", "--seed", "3"]
        command = [part.replace("openapi.json", "/openapi.json").replace("//openapi", "/openapi") for part in command]
        found = subprocess.run(
            [*command, "--header", f"Authorization: Bearer {TOKEN}", *options],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:]
