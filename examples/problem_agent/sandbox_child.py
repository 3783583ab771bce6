"""The child of `sandbox`: reads a job from standard input, limits itself, runs the tests, prints what failed as JSON."""

import json
import os
import sys
from traceback import format_exception_only
from typing import Any

MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 20
LINE_LENGTH = 300


def limit(cpu_seconds: int) -> None:
    """Limit this process, where the system can."""
    try:
        import resource
    except ImportError:
        return
    limits = (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, value in limits:
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):  # not on this system, or a lower one is set
            continue


def failure(name: str, source: str, namespace: dict[str, Any]) -> str | None:
    """Run *source* in *namespace* and return what it raised as one line that begins with *name*."""
    try:
        exec(compile(source, "<solution>", "exec"), namespace)  # noqa: S102 - the purpose of this process
    except BaseException as error:
        return f"{name}: {format_exception_only(error)[-1].strip()}"[:LINE_LENGTH]
    return None


def main() -> None:
    """Run the job; what the solution prints goes nowhere."""
    job = json.load(sys.stdin)
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    limit(job["cpu_seconds"])
    namespace: dict[str, Any] = {"__name__": "solution"}
    broken = failure("the code itself", "\n".join([*job["imports"], job["code"]]), namespace)
    failures = [broken] if broken else [line for test in job["tests"] if (line := failure(test, test, namespace))]
    json.dump(failures, report)
    report.close()


main()
