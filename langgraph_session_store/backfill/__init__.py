"""Rows for threads that a LangGraph checkpointer already holds.

From the bottom: `sources` (the threads of any checkpointer, page by page), `thread` (what one of them says, as a row), `plan` (which of the
rows say something new), `job` (all of them, resumable), `one` (a single thread, after ``update_state``).
"""

from .job import BackfillReport, abackfill, backfill
from .one import async_thread, sync_thread

__all__ = ["BackfillReport", "abackfill", "async_thread", "backfill", "sync_thread"]
