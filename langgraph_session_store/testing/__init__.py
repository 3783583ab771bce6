"""Test recording: the endings of a LangGraph run as a conformance suite, a recorder in memory, and a schema for each test.

`CASES` run a real graph to each of the ends that LangGraph knows and say which row must come out. Any recorder can be put through them:
a `Subject` says how it attaches to a graph and how its row is read back.
"""

from .callers import AsyncCaller, Caller, SyncCaller, run_without_loop
from .endings import CASES, Bench, Case, Subject
from .graph import Behaviour, BoomError, NarrowOutput, ProblemState, problem_graph
from .memory import MemoryRecorder, MemorySink
from .schemas import fresh_schema

__all__ = [
    "CASES",
    "AsyncCaller",
    "Behaviour",
    "Bench",
    "BoomError",
    "Caller",
    "Case",
    "MemoryRecorder",
    "MemorySink",
    "NarrowOutput",
    "ProblemState",
    "Subject",
    "SyncCaller",
    "fresh_schema",
    "problem_graph",
    "run_without_loop",
]
