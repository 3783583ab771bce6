"""Each run of a LangGraph agent as one typed row in your own Postgres, tied to its MLflow run."""

from typing import TYPE_CHECKING, Any

from .attempts import attempts
from .backfill import BackfillReport, abackfill, async_thread, backfill, sync_thread
from .errors import (
    ConfigError,
    DataError,
    FilterError,
    LoginError,
    MissingExtraError,
    PrivilegeError,
    RecordError,
    SchemaError,
    SessionStoreError,
    SpoolError,
    StoreError,
    UnavailableError,
)
from .functions import (
    delete_session_state,
    get_db_connection,
    get_session_analytics,
    get_session_state,
    get_session_states_by_criteria,
    save_session_state,
)
from .record import Column, SessionRecord
from .records import MessagesSession, ProblemSession
from .session import Analytics, Session, SessionPage, SessionVersion
from .store import AsyncSessionStore, SessionStore
from .writer import FlushReport, WriterStats

if TYPE_CHECKING:
    from .recorder import SessionRecorder, attach

__version__ = "0.1.0"

__all__ = [
    "Analytics",
    "AsyncSessionStore",
    "BackfillReport",
    "Column",
    "ConfigError",
    "DataError",
    "FilterError",
    "FlushReport",
    "LoginError",
    "MessagesSession",
    "MissingExtraError",
    "PrivilegeError",
    "ProblemSession",
    "RecordError",
    "SchemaError",
    "Session",
    "SessionPage",
    "SessionRecord",
    "SessionRecorder",
    "SessionStore",
    "SessionStoreError",
    "SessionVersion",
    "SpoolError",
    "StoreError",
    "UnavailableError",
    "WriterStats",
    "abackfill",
    "async_thread",
    "attach",
    "attempts",
    "backfill",
    "delete_session_state",
    "get_db_connection",
    "get_session_analytics",
    "get_session_state",
    "get_session_states_by_criteria",
    "save_session_state",
    "sync_thread",
]

_RECORDING = ("SessionRecorder", "attach")  # they bring langgraph, a second of imports that readers can do without


def __getattr__(name: str) -> Any:
    if name not in _RECORDING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import recorder

    globals().update({each: getattr(recorder, each) for each in _RECORDING})
    recorder.SessionRecorder.__module__ = __name__
    return globals()[name]


for _name in __all__:
    # Tracebacks and help() show the public path, not the room that a name lives in.
    if isinstance(_public := globals().get(_name), type):
        _public.__module__ = __name__
del _name, _public
