"""Tests that need what is not installed pass over it on a laptop, and fail where nobody would notice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDS_A_PACKAGE = "import pytest\n\ndef test_it():\n    pytest.importorskip('no_such_package')\n"
NEEDS_A_PROGRAM = "import pytest\n\n@pytest.mark.requires('no-such-program')\ndef test_it(): pass\n"


@pytest.mark.parametrize("test", [NEEDS_A_PACKAGE, NEEDS_A_PROGRAM], ids=["package", "program"])
@pytest.mark.parametrize("ci", ["", "true"])
def test_what_is_missing_fails_under_ci_only(test: str, ci: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(test)
    env = os.environ | {"CI": ci, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == bool(ci)
    assert ci or "1 skipped" in done.stdout
