"""What recording costs each run of a graph, beside what else a user could attach: `python benchmarks/hot_path.py [--only ours]`.

Each family of candidates has a process of its own, since some patch what all share; the processes take turns, one at a time, and in a turn
each candidate runs the graph for *--block* seconds. After every fourth turn they are new processes. Every process measures the bare graph too, twice: the ratios are to the bare graph
of the same turn, and what differs between the two is the noise. *+CPU* is what the whole process takes more than bare,
background threads and the flush after each block included; *own CPU* is the ratio of the calling thread's, which neighbours on the
machine hardly move. Candidates are set up as their documentation says; the servers they send to accept and discard.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import subprocess
import sys
import time
from itertools import count, product
from typing import TYPE_CHECKING, Any

from agent import Workload
from candidates import FAMILIES, Candidate, Setting, missing, versions
from common import arguments, finish, percentile, positive, private_database, quartiles, scratch, shuffled, some_of
from discard import discarding_server, received_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODES = ("sync", "async")
IN_A_PROCESS = 4
"""Turns after which all processes are new ones: where code and data lie in memory is another chance each time."""
BARE, AGAIN = "bare", "bare, again"


class Turns:
    """In a worker process: the candidates of one family, and their blocks."""

    def __init__(self, family: str, setting: Setting) -> None:
        self._setting = setting
        self._numbers = count()
        self._loop = asyncio.new_event_loop()
        self._candidates = {mode: self._open(family, mode) for mode in MODES}
        self._inputs = [setting.workload.input(number) for number in range(16)]

    def _open(self, family: str, mode: str) -> dict[str, Candidate]:
        bare = self._setting.graph(mode)
        opened = FAMILIES[family].open(self._setting, mode, self._loop)
        found = [Candidate(BARE, bare), Candidate(AGAIN, bare), *opened]
        return {candidate.name: candidate for candidate in found}

    def turn(self, mode: str, seconds: float, number: int) -> dict[str, Any]:
        """Run a block of each candidate, in another order each time; return walls and CPU in nanoseconds."""
        names = self._candidates[mode]
        blocks = {name: self._block(mode, names[name], seconds) for name in shuffled(names, number)}
        return {name: blocks[name] for name in names}

    def _block(self, mode: str, candidate: Candidate, seconds: float) -> dict[str, Any]:
        with candidate.active():
            gc.collect()
            cpu, own = time.process_time_ns(), time.thread_time_ns()
            if mode == "sync":
                walls = self._invoke(candidate, seconds)
            else:
                walls = self._loop.run_until_complete(self._ainvoke(candidate, seconds))
            own = time.thread_time_ns() - own
            candidate.flush()
            return {"walls": walls, "cpu": time.process_time_ns() - cpu, "own": own}

    def _invoke(self, candidate: Candidate, seconds: float) -> list[int]:
        walls: list[int] = []
        invoke, clock = candidate.invoke, time.perf_counter_ns
        end = clock() + seconds * 1e9
        while (begin := clock()) < end:
            number = next(self._numbers)
            invoke(self._inputs[number % 16], f"t-{number}")
            walls.append(clock() - begin)
        return walls

    async def _ainvoke(self, candidate: Candidate, seconds: float) -> list[int]:
        walls: list[int] = []
        ainvoke, clock = candidate.ainvoke, time.perf_counter_ns
        end = clock() + seconds * 1e9
        while (begin := clock()) < end:
            number = next(self._numbers)
            await ainvoke(self._inputs[number % 16], f"a-{number}")
            walls.append(clock() - begin)
        return walls


class Worker:
    """The coordinator's end of a worker process."""

    def __init__(self, family: str, setting: Setting) -> None:
        self.family = family
        self._url = setting.url if FAMILIES[family].sends else ""
        command = [sys.executable, __file__, "--worker", family, "--setting", setting.dumps()]
        self._process = subprocess.Popen(  # noqa: S603 - this file
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *question: Any) -> Any:
        """Send a question, if there is one, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if question:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("@"):  # some candidates print
                return json.loads(line[1:])
        raise SystemExit(f"the process of {self.family} ended: {self._process.wait()}")

    def turn(self, *question: Any) -> Any:
        """Have a turn taken; who sends must have sent, since nothing is faster than what failed."""
        before = received_bytes(self._url) if self._url else -1
        answer = self.ask(*question)
        if self._url and received_bytes(self._url) == before:
            raise SystemExit(f"{self.family} sent nothing in its turn")
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process.kill()


def work(family: str, setting: Setting) -> None:
    """Be a worker: answer the questions on standard input."""
    turns = Turns(family, setting)
    print("@true", flush=True)
    for line in sys.stdin:
        print("@" + json.dumps(turns.turn(*json.loads(line))), flush=True)


def measure(
    families: Sequence[str], setting: Setting, rounds: int, seconds: float, modes: Sequence[str] = MODES
) -> Iterator[dict[str, Any]]:
    """Yield one line of results for each candidate, after all of them took their turns, in new processes after every fourth."""
    turns: dict[tuple[str, str], list[Any]] = {(family, mode): [] for family in families for mode in modes}
    for first in range(0, rounds, IN_A_PROCESS):
        numbers = range(first, min(first + IN_A_PROCESS, rounds))
        with contextlib.ExitStack() as stack:
            workers = [Worker(family, setting) for family in families]
            for worker in workers:
                stack.callback(worker.close)
            for worker in workers:
                worker.ask()  # whether it is ready
            for mode, worker in product(modes, workers):
                worker.turn(mode, seconds / 2, -1)  # warms up
            for number, mode, worker in product(numbers, modes, workers):
                turns[worker.family, mode].append(worker.turn(mode, seconds, number))
                print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for (family, mode), blocks in turns.items():
        yield from (_line(family, mode, name, blocks) for name in blocks[0])


def _line(family: str, mode: str, name: str, blocks: list[Any]) -> dict[str, Any]:
    walls = sorted(wall for block in blocks for wall in block[name]["walls"])
    bare = sorted(wall for block in blocks for wall in block[BARE]["walls"])
    ratios = [statistics.median(block[name]["walls"]) / statistics.median(block[BARE]["walls"]) for block in blocks]
    added = [_each(block[name], "cpu") - _each(block[BARE], "cpu") for block in blocks]
    own = [_each(block[name], "own") / _each(block[BARE], "own") for block in blocks]
    return {
        "family": family,
        "mode": mode,
        "candidate": name,
        "runs": len(walls),
        "wall_us": round(statistics.median(walls) / 1e3, 1),
        "p99_us": round(percentile(walls, 0.99) / 1e3, 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": quartiles(ratios, 3),
        "p99_ratio": round(percentile(walls, 0.99) / percentile(bare, 0.99), 3),
        "own_cpu_ratio": round(statistics.median(own), 3),
        "cpu_us": round(statistics.median(_each(block[name], "cpu") for block in blocks), 1),
        "added_cpu_us": round(statistics.median(added), 1),
        "added_cpu_us_quartiles": quartiles(added, 1),
    }


def _each(block: Any, name: str) -> float:
    """Return the microseconds of a run."""
    return float(block[name]) / 1e3 / len(block["walls"])


def show(lines: Sequence[dict[str, Any]]) -> None:
    """Print the lines as a table."""
    for mode in MODES:
        print(
            f"\n{mode:34}{'median':>10}{'p99':>10}{'ratio':>8}  {'quartiles':15}{'p99 ratio':>9}{'own CPU':>9}{'+CPU µs':>10}{'runs':>9}"
        )
        for line in lines:
            if line["mode"] == mode:
                low, high = line["ratio_quartiles"]
                print(
                    f"{line['family'] + ': ' + line['candidate']:34}{line['wall_us']:10,.0f}{line['p99_us']:10,.0f}"
                    f"{line['ratio']:8.3f}  {f'{low:.3f} - {high:.3f}':15}{line['p99_ratio']:9.2f}"
                    f"{line['own_cpu_ratio']:9.3f}{line['added_cpu_us']:10,.0f}{line['runs']:9,}"
                )


def set_out() -> list[str]:
    """Return the families that a full run holds against one another."""
    return [family for family in FAMILIES if family != "spool"]  # one of ours, alone


def main(words: Sequence[str] | None = None) -> None:
    """Let the candidates take turns, and say what each costs."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[arguments()])
    parser.add_argument(
        "--only", type=some_of(FAMILIES), default=",".join(set_out()), help=f"some of {','.join(FAMILIES)}"
    )
    parser.add_argument("--rounds", type=positive, help="turns of each candidate (default 4; 40 with --long)")
    parser.add_argument("--block", type=float, help="seconds of a turn (default 0.4)")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--kilobytes", type=float, default=8)
    parser.add_argument("--pause", type=float, default=0.0, help="milliseconds that each node waits")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.worker:
        work(options.worker, Setting.loads(options.setting))
        return
    families = [family for family in options.only if not missing(family)]
    rounds = options.rounds or {"quick": 1, "short": 4, "long": 40}[options.form]
    block = options.block or {"quick": 0.05, "short": 0.4, "long": 0.4}[options.form]
    workload = Workload(options.nodes, options.kilobytes, options.pause / 1e3)
    with scratch(), private_database() as dsn, discarding_server() as url:
        lines = list(measure(families, Setting(dsn, url, workload), rounds, block))
    show(lines)
    finish(
        "hot_path",
        options,
        {
            "settings": {
                "rounds": rounds,
                "block_seconds": block,
                "nodes": options.nodes,
                "kb": options.kilobytes,
                "pause_ms": options.pause,
            },
            "not_available": {family: why for family in options.only if (why := missing(family))},
            "versions": versions(families),
            "lines": lines,
        },
    )


if __name__ == "__main__":
    main()
