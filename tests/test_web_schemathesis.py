"""Schemathesis against a running server, with every check that it has.

In a short form; ``LGSS_SCHEMATHESIS=1`` runs the long one, all phases on all endpoints, and prints what it did:
``LGSS_SCHEMATHESIS=1 pytest -p no:xdist -rP tests/test_web_schemathesis.py`` (a quarter of an hour on two cores).
"""

from __future__ import annotations

import os
import re
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
BINARY = shutil.which("schemathesis", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
CONFIG = Path(__file__).with_name("schemathesis.toml")
LONG = os.environ.get("LGSS_SCHEMATHESIS") == "1"
SMALL = r"^/(healthz|readyz|metrics|api/schema|api/sessions/(\{|events))"
FORMS = {
    "fuzzing": ["--phases", "fuzzing", "--max-examples", "12"],
    "coverage": ["--phases", "coverage", "--include-path-regex", SMALL],
    "stateful": ["--phases", "stateful", "--max-examples", "10"],
}

pytestmark = pytest.mark.requires("schemathesis")


@pytest.mark.skipif(LONG, reason="the long form holds it")
@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
@pytest.mark.timeout(300)
def test_the_server_keeps_its_promises(store: SessionStore, tmp_path: Path, options: list[str]) -> None:
    found = schemathesis(store, tmp_path, options)
    assert found.returncode == 0, found.stdout[-6000:]


@pytest.mark.skipif(not LONG, reason="LGSS_SCHEMATHESIS=1 runs it")
@pytest.mark.timeout(3600)
def test_the_server_keeps_its_promises_for_long(store: SessionStore, tmp_path: Path) -> None:
    found = schemathesis(store, tmp_path, ["--max-examples", "100", "--continue-on-failure"])
    sys.stdout.write(found.stdout)
    assert found.returncode == 0
    (cases,) = re.findall(r"(\d+) generated", found.stdout)
    assert int(cases) >= 2000


def schemathesis(store: SessionStore, folder: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it on a server of *store*, with every check and the same seed each time."""
    store.save_many(problem_rows(30))
    with served(store, token=TOKEN) as client:
        url = f"{str(client.base_url).rstrip('/')}/openapi.json"
        command = [
            str(BINARY),
            "--config-file",
            str(CONFIG),
            "run",
            url,
            "--checks",
            "all",
            "--no-color",
            "--seed",
            "3",
        ]
        return subprocess.run(
            [*command, "--header", f"Authorization: Bearer {TOKEN}", *options],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
