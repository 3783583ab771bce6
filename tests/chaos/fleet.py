"""Processes that record, an oracle of what they promised, and the verdict: what is lost, stale, torn or invented."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from .agent import Content, config, graph, inputs, recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKER = Path(__file__).with_name("worker.py")
LONG = bool(os.environ.get("LGSS_CHAOS"))
"""Whether the long form was asked for: `make chaos`."""


def size(short: Any, long: Any) -> Any:
    return long if LONG else short


def tell(**figures: object) -> None:
    """Print what was measured; `make chaos` shows it."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[2].partition(" (")[0]
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
    sys.stdout.write(f"\nFIGURES {test}: {said}\n")


def until(condition: Callable[[], bool], seconds: float = 120.0, pause: float = 0.05) -> float:
    """Wait for *condition*; return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come to pass"
        time.sleep(pause)
    return time.monotonic() - began


@dataclass
class Verdict:
    accepted: int
    lost: set[Content]
    invented: set[Content]
    torn: int
    stale: list[Any]
    behind: list[str]
    unbalanced: str

    @property
    def clean(self) -> bool:
        return not (self.lost or self.invented or self.torn or self.stale or self.unbalanced)


@dataclass
class Fleet:
    """Workers by slot. A slot's runs are numbered through all its processes, so their order is known."""

    dsn: str
    schema: str
    folder: Path
    slots: int = 4
    threads: int = 500
    pause: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def oracle(self) -> Path:
        return self.folder / "oracle"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self, slot: str, last: int = 1 << 40) -> None:
        self.oracle.mkdir(exist_ok=True)
        options = {
            "oracle": str(self.oracle), "slot": slot, "dsn": self.dsn, "schema": self.schema, "spool": str(self.spool),
            "first": max((number for _, number in self.read(slot, "began")), default=0), "last": last,
            "threads": self.threads, "pause": self.pause, **self.options,
        }  # fmt: skip
        with self.log.open("ab") as log:
            command = [sys.executable, str(WORKER), json.dumps(options)]
            self.processes[slot] = subprocess.Popen(command, stderr=log)

    @contextmanager
    def running(self, last: int = 1 << 40) -> Iterator[None]:
        """Run all slots, and stop them by SIGTERM, which leaves a plain script no time for anything."""
        for slot in self.names:
            self.start(slot, last)
        try:
            yield
        finally:
            for process in self.processes.values():
                process.terminate()
            for process in self.processes.values():
                process.wait(120)

    @property
    def names(self) -> list[str]:
        return [f"s{number}" for number in range(self.slots)]

    def kill(self, slot: str) -> None:
        self.processes[slot].send_signal(signal.SIGKILL)
        self.processes[slot].wait()
        self.start(slot)

    def read(self, slot: str, name: str) -> list[tuple[str, int]]:
        path = self.oracle / f"{slot}.{name}"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [(thread.decode(), int(number)) for thread, number, *_ in map(bytes.split, lines)]

    def count(self, name: str = "done") -> int:
        return sum(len(self.read(slot, name)) for slot in self.names)

    def promised(self, name: str = "done") -> set[Content]:
        return {Content(slot, number) for slot in self.names for _, number in self.read(slot, name)}

    def table(self, text: str) -> list[Any]:
        where = sql.Identifier(self.schema, "session_states"), sql.Identifier(self.schema, "session_states_versions")
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(sql.SQL(text).format(sessions=where[0], versions=where[1])).fetchall()

    def judge(self) -> Verdict:
        promised, began = self.promised(), self.promised("began")
        contents = [Content.parse(text) for (text,) in self.table("SELECT code FROM {versions} WHERE code IS NOT NULL")]
        found = {content for content in contents if content is not None and content.slot in self.names}
        wrong = [path.read_text() for path in self.oracle.glob("*.wrong")]
        torn = contents.count(None)
        return Verdict(
            len(promised), promised - found, found - began, torn, self.stale(), self.behind(), "".join(wrong)
        )

    def stale(self) -> list[Any]:
        """Return rows that do not hold the newest run, unless they are `behind`, and lines of one slot in a wrong order."""
        lines = self.table(
            "SELECT thread_id, code FROM {versions} WHERE code IS NOT NULL ORDER BY thread_id, recorded_at"
        )
        wrong: list[Any] = []
        last: dict[tuple[str, str], int] = {}
        for thread, text in lines:
            if (content := Content.parse(text)) is not None:
                if last.get((thread, content.slot), 0) > content.number:
                    wrong.append((thread, content))
                last[thread, content.slot] = content.number
        return wrong + [(thread, "not the newest", *self.about(thread)) for thread, legal in self._apart() if not legal]

    def behind(self) -> list[str]:
        """Return threads whose row heard of the start of a run that never ended, and after that of an older run's end.

        By design that fills only NULL: the row keeps the content from before both, and the history has all.
        """
        return [thread for thread, legal in self._apart() if legal]

    def _apart(self) -> list[tuple[str, bool]]:
        """Return threads whose row has another content than the last line, and whether it may: nothing else is legal."""
        newest = "SELECT DISTINCT ON (thread_id) * FROM {versions} WHERE code IS NOT NULL ORDER BY thread_id, recorded_at DESC"
        older = "EXISTS (SELECT FROM {versions} AS o WHERE o.thread_id = s.thread_id AND o.code = s.code)"
        found = self.table(
            "SELECT thread_id, coalesce(s.recorded_at > v.recorded_at AND s.workflow_status IN ('running', 'abandoned')"
            f" AND s.finished_at IS NULL AND {older}, false) FROM ({newest}) AS v LEFT JOIN {{sessions}} AS s"
            " USING (thread_id) WHERE s.code IS DISTINCT FROM v.code"
        )
        unfinished = self.unfinished()
        return [(thread, legal and thread in unfinished) for thread, legal in found]

    def unfinished(self) -> set[str]:
        """Return threads of runs that began and were not said to be done."""
        return {
            thread for slot in self.names for thread, _ in set(self.read(slot, "began")) - set(self.read(slot, "done"))
        }

    def settle(self, seconds: float = 120.0) -> float:
        """Start another process's recorder, which adopts what is left; return after how long nothing promised is missing."""
        with recorder(self.dsn, self.schema, self.spool) as subject:
            fresh = Content("fresh", time.monotonic_ns())
            promised = self.promised()
            subject.attach(graph()).invoke(inputs(fresh), config("fresh"))

            def complete() -> bool:
                # To look at contents is dear, and shall not hold up what it waits for: first their number has to be right.
                if self.table("SELECT count(*) FROM {versions}")[0][0] < len(promised):
                    return False
                text = "SELECT split_part(code, ':', 1), split_part(code, ':', 2)::bigint FROM {versions}"
                found = {Content(*row) for row in self.table(text + " WHERE code IS NOT NULL")}
                return fresh in found and promised <= found

            return until(complete, seconds, 0.5)

    def about(self, thread: str) -> list[Any]:
        """Return the row of *thread* and the last lines of its history, in short."""
        row = "SELECT recorded_at, workflow_status, started_at, split_part(code, ':', 1) || ':' || split_part(code, ':', 2)"
        line = "SELECT recorded_at, split_part(code, ':', 1) || ':' || split_part(code, ':', 2) FROM {versions}"
        with psycopg.connect(self.dsn) as connection:
            where = f" WHERE thread_id = {sql.Literal(thread).as_string(connection)}"
        return [self.table(f"{row} FROM {{sessions}}{where}"), self.table(f"{line}{where} ORDER BY 1 DESC LIMIT 4")]

    @property
    def secrets(self) -> int:
        """How often a canary of the DSN or of a state got into what was logged."""
        return self.log.read_bytes().count(b"canary") if self.log.exists() else 0
