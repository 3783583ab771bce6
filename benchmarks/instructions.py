"""What recording adds to each run in instructions, which no neighbour on the machine can blur: `python benchmarks/instructions.py`.

Valgrind (a package of every Linux) counts what the process executes outside of the kernel. Each candidate has two processes, one of which
runs the graph *--runs* times more: the difference is theirs. What the kernel does for a write, and how long an instruction takes that
is met once a run, is not in it; the hot path's times are. *Caller* stands before a database that does not answer, so that the graph's own
thread does all there is; *with the background* before one that takes rows and throws them away.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from agent import Workload
from candidates import Candidate, Setting, nothing, written
from common import arguments, finish, positive, scratch

from langgraph_session_store import SessionRecorder, SessionStore
from langgraph_session_store.writer import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langgraph_session_store.row import Row

MODES = ("sync", "async")
WARM = 40
"""Runs of both processes: after them every cache is filled, and what Python specialises is."""


class Silent:
    """A sink whose database never answers."""

    def open(self) -> None:
        """Wait for ever."""
        threading.Event().wait()

    def write(self, rows: Sequence[Row]) -> Written:
        """Take the rows."""
        return Written(len(rows))

    def close(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""


class Discarding(Silent):
    """A sink that takes all and keeps nothing."""

    def open(self) -> None:
        """Do nothing."""


def recorded(sink: Silent) -> Callable[[Setting, str], Candidate]:
    """Return what attaches a recorder before *sink*."""

    def make(setting: Setting, mode: str) -> Candidate:
        store = SessionStore(setting.dsn)
        recorder = SessionRecorder(store, spool_dir=tempfile.mkdtemp(prefix="lgss-"), sink=sink)
        return Candidate("spool", recorder.attach(setting.graph(mode)), flush=lambda: recorder.flush(5))

    return make


CANDIDATES: dict[str, Callable[[Setting, str], Candidate]] = {
    "bare": lambda setting, mode: Candidate("bare", setting.graph(mode)),
    "nothing, root only, inline": lambda setting, mode: next(nothing(setting, mode, None)),
    "JSON in a file, root only": written,
    "session store, spool, caller": recorded(Silent()),
    "session store, spool, with the background": recorded(Discarding()),
}


def child(name: str, mode: str, runs: int, workload: Workload) -> None:
    """Run the graph, and end at once: what an exit does is nobody's."""
    candidate = CANDIDATES[name](Setting("postgresql://127.0.0.1:1/none", "", workload), mode)
    inputs = [workload.input(number) for number in range(16)]
    loop = asyncio.new_event_loop()
    for number in range(WARM + runs):
        if mode == "sync":
            candidate.invoke(inputs[number % 16], f"t-{number}")
        else:
            loop.run_until_complete(candidate.ainvoke(inputs[number % 16], f"t-{number}"))
    if "background" in name:
        candidate.flush()
    os._exit(0)


def count(name: str, mode: str, runs: int, words: Sequence[str]) -> int:
    """Return the instructions of a process that runs the graph *runs* times."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    command += [__file__, "--child", name, mode, str(runs), *words]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)  # noqa: S603 - this file
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found, done.stderr
    return int(found[1].replace(",", ""))


def measure(runs: int, words: Sequence[str], modes: Sequence[str] = MODES) -> list[dict[str, Any]]:
    """Return a line for each candidate in each mode."""
    tasks = [(mode, name) for mode in modes for name in CANDIDATES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        few = list(pool.map(lambda task: count(task[1], task[0], 0, words), tasks))
        many = list(pool.map(lambda task: count(task[1], task[0], runs, words), tasks))
    each = {task: (more - less) / runs for task, less, more in zip(tasks, few, many, strict=True)}
    return [
        {
            "mode": mode,
            "candidate": name,
            "instructions": round(each[mode, name]),
            "ratio": round(each[mode, name] / each[mode, "bare"], 4),
        }
        for mode, name in tasks
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Count, and say what each candidate adds."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()])
    parser.add_argument("--runs", type=positive, help="runs that count (default 200; 10 with --quick)")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--kilobytes", type=float, default=8)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    workload = Workload(options.nodes, options.kilobytes)
    if options.child:
        name, mode, runs = options.child
        child(name, mode, int(runs), workload)
    runs = options.runs or {"quick": 10, "short": 200, "long": 200}[options.form]
    sizes = ["--nodes", str(options.nodes), "--kilobytes", str(options.kilobytes)]
    begin = time.monotonic()
    lines, why = [], {}
    if shutil.which("valgrind"):
        with scratch():
            lines = measure(runs, sizes, MODES[:1] if options.form == "quick" else MODES)
    else:
        why = {"valgrind": "valgrind is not installed"}
        print(why["valgrind"], file=sys.stderr)
    for line in lines:
        print(f"{line['mode']:6}{line['candidate']:44}{line['instructions']:12,}{line['ratio']:9.4f}")
    print(f"{time.monotonic() - begin:.0f} s")
    settings = {"runs": runs, "nodes": options.nodes, "kb": options.kilobytes}
    finish("instructions", options, {"settings": settings, "lines": lines, "not_available": why})


if __name__ == "__main__":
    main()
