"""From what LangGraph tells its handlers to rows.

From the bottom: `graphs` (what is known of an attached graph), `runs` (one run, and the rows of its start and end), `tracker` (all runs
of a recorder), `handlers` (what LangGraph calls).
"""

from .graphs import RecordedGraph
from .handlers import BoundCallbacks, InlineHandler, WaitingHandler
from .tracker import Tracker

__all__ = ["BoundCallbacks", "InlineHandler", "RecordedGraph", "Tracker", "WaitingHandler"]
