"""Run the tests of a solution in a process of its own, in an empty directory, with limits on time and memory.

The limits stop mistakes: endless loops, runaway memory, children left behind. They are no wall against malice: code from a
model that you do not trust belongs into a container.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .problems import Problem

CPU_SECONDS = 10
"""What a solution may compute; the same on a busy machine as on an idle one."""

WALL_SECONDS = 60.0
"""What it may take in all; only a solution that sleeps or waits gets here."""

_CHILD = Path(__file__).with_name("sandbox_child.py")


@dataclass(frozen=True, slots=True)
class TestReport:
    """How the tests of a solution went: one line for each that failed, or for what stopped them all."""

    __test__ = False  # pytest: a report, no test

    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Tell whether every test ran and held."""
        return not self.failures


def run_tests(
    problem: Problem, code: str, *, cpu_seconds: int = CPU_SECONDS, wall_seconds: float = WALL_SECONDS
) -> TestReport:
    """Run *code* and then each test of *problem* against it; report failures, and never raise for what the code does."""
    job = {"imports": problem["imports"], "code": code, "tests": problem["tests"], "cpu_seconds": cpu_seconds}
    with tempfile.TemporaryDirectory(prefix="problem-", ignore_cleanup_errors=True) as folder:
        status, output = _run_child(json.dumps(job), folder, wall_seconds)
    if status is None:
        return TestReport((f"stopped after {wall_seconds:g} s",))
    try:
        failures = json.loads(output)
    except ValueError:
        return TestReport((_obituary(status, cpu_seconds),))
    return TestReport(tuple(failures))


def _run_child(job: str, folder: str, wall_seconds: float) -> tuple[int | None, str]:
    """Return the exit status (None: stopped) and the output of a child that knows nothing of this environment."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter, our own file
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ},
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(job, timeout=wall_seconds)
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            _kill_group(process)
        return process.returncode, output


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the child and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    except AttributeError:  # no process groups on Windows
        process.kill()


def _obituary(status: int, cpu_seconds: int) -> str:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"stopped after {cpu_seconds} s of computing"
    return f"ended before its tests did, with exit status {status}"
