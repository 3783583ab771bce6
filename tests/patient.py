"""Run a script as its reader would, on a machine that is busier than any reader's: `python tests/patient.py script.py arguments`.

A read waits for what was recorded, and the end of the process for the writer, as long as that takes, where a user's give up after a second.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from langgraph_session_store.store import base
from langgraph_session_store.writer import writer


def be_patient() -> None:
    base.SETTLE = writer.EXIT = 60.0  # type: ignore[misc]  # Final is said to users


if __name__ == "__main__":
    be_patient()
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
