"""The graph that the fault tests run, and what each of its runs must leave in the table: a content that proves itself."""

from __future__ import annotations

import hashlib
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from langgraph.graph import END, START, StateGraph

from langgraph_session_store import SessionRecorder, SessionStore

if TYPE_CHECKING:
    from pathlib import Path

BODY = "def solve(values):\n    return sorted(values)\n" * 160  # the reference state: 8 KB
CANARY = "canary-in-the-state"


class State(TypedDict, total=False):
    user_prompt: str
    topic: str
    code: str
    code_attempts: int
    tests_passed: bool


class Content(NamedTuple):
    """Who wrote a version, and which of its runs that was."""

    slot: str
    number: int

    def text(self) -> str:
        head = f"{self.slot}:{self.number}"
        return f"{head}:{hashlib.sha256(head.encode()).hexdigest()}:{BODY}"

    @classmethod
    def parse(cls, text: str) -> Content | None:
        """Return what *text* says, None if it is torn."""
        slot, number, *_ = [*text.split(":", 3), "", ""]
        content = cls(slot, int(number)) if number.isdecimal() else None
        return content if content is not None and content.text() == text else None


def write(state: State) -> State:
    _, slot, number = state["user_prompt"].split("|")
    return {"code": Content(slot, int(number)).text(), "code_attempts": 1}


def graph() -> Any:
    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_node("check", lambda state: {"tests_passed": True})
    builder.add_edge(START, "write")
    builder.add_edge("write", "check")
    builder.add_edge("check", END)
    return builder.compile()


def inputs(content: Content) -> State:
    return {"user_prompt": f"{CANARY}|{content.slot}|{content.number}", "topic": "arrays"}


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def record(runnable: Any, thread: str, content: Content) -> None:
    """Run the graph once; its result must be what it is without a recorder."""
    result = runnable.invoke(inputs(content), config(thread))
    if result != {**inputs(content), "code": content.text(), "code_attempts": 1, "tests_passed": True}:
        raise AssertionError("the graph's result is another one")


def recorder(dsn: str, schema: str, spool: str | Path, **options: Any) -> SessionRecorder:
    return SessionRecorder(SessionStore(dsn, schema=schema), spool_dir=spool, **options)


def balanced(subject: SessionRecorder) -> bool:
    stats = subject.stats()
    return stats.accepted == stats.stored + stats.superseded + stats.quarantined + stats.pending + stats.dropped


def log_everything() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="%(name)s %(message)s")
