"""Six functions on one table, for code that wants no object: a default store made from the environment."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from .conninfo import connection_errors, resolve
from .store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIXES = ("DATABASE_URL", "POSTGRES_", "PG")
_PAGE = 1000

_lock = threading.Lock()
_default: tuple[dict[str, str], int, SessionStore] | None = None


def get_db_connection() -> psycopg.Connection[dict[str, Any]]:
    """Return a new connection to the default store's database, whose rows are dicts; the caller commits and closes it."""
    target = resolve()
    with connection_errors(target):
        return psycopg.connect(**target.kwargs(), row_factory=dict_row, prepare_threshold=None)


def save_session_state(
    thread_id: object, state: object, run_id: str | None = None, workflow_status: str | None = "running"
) -> str:
    """Write what *state* says about a thread now and return the row's id; see `SessionStore.save`."""
    return str(_store().save(thread_id, state, run_id=run_id, workflow_status=workflow_status))


def get_session_state(thread_id: object) -> dict[str, Any] | None:
    """Return the session of a thread, None if there is none."""
    session = _store().get(thread_id)
    return None if session is None else dict(session)


def get_session_states_by_criteria(
    topic: str | None = None,
    difficulty: str | None = None,
    workflow_status: str | None = None,
    tests_passed: bool | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Return at most *limit* sessions that match, newest first; a criterion that is None matches all."""
    criteria: Mapping[str, object] = {
        "topic": topic,
        "difficulty": difficulty,
        "workflow_status": workflow_status,
        "tests_passed": tests_passed,
    }
    filters: dict[str, Any] = {name: value for name, value in criteria.items() if value is not None}
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        page = _store().query(**filters, limit=min(limit - len(found), _PAGE), cursor=cursor)
        found += map(dict, page)
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def delete_session_state(thread_id: object) -> bool:
    """Remove a session and its history; return whether there was one."""
    return _store().delete(thread_id)


def get_session_analytics() -> dict[str, Any]:
    """Return numbers about all sessions; see `SessionStore.analytics`."""
    return _store().analytics().to_dict()


def _store() -> SessionStore:
    """Return the default store, a new one where the environment or the process is another than before."""
    global _default  # noqa: PLW0603 - the one default store of this process
    settings = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)}
    with _lock:
        if _default is not None and _default[:2] == (settings, os.getpid()):
            return _default[2]
        if os.environ.get("DEBUG_SESSION_STATES", "") not in ("", "0"):
            _log_everything()
        store = SessionStore()
        if _default is not None:
            _default[2].close()
        _default = (settings, os.getpid(), store)
        return store


def _log_everything() -> None:
    log = logging.getLogger(__package__)
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        log.addHandler(logging.StreamHandler())
