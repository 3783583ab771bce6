"""What Postgres says while it works, as our errors with what to do about it; never in its own words, which quote rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from .errors import DataError, PrivilegeError, SchemaError, StoreError, UnavailableError

if TYPE_CHECKING:
    from types import TracebackType

_SETUP: Final = "run store.setup() or `session-store init` as a role that may create tables"
_DEPLOY: Final = f"{_SETUP}; if it has run, another version of the record made this table"

_USED: Final = (
    "an index with an expression or a condition, or a policy, trigger, generated column, function or publication of yours, uses a "
    "column whose type changes: drop it, run setup() again, and create it anew"
)
_ZONE: Final = "unset PGTZ and options=, or run ALTER DATABASE ... SET TimeZone"

_CODES: Final[dict[str, tuple[type[StoreError], str]]] = {
    "25006": (
        PrivilegeError,
        "it takes no writes: a standby (name the primary, or set target_session_attrs), or a read-only role",
    ),
    "42501": (
        PrivilegeError,
        "this role may not do that: GRANT it the rights, or pass setup=False and let an owner set the table up",
    ),
    "42P01": (SchemaError, f"the table is missing: {_SETUP}"),
    "3F000": (SchemaError, f"the schema is missing: {_SETUP}"),
    "42703": (SchemaError, f"a column is missing: {_SETUP}"),
    "42P10": (SchemaError, f"thread_id is not unique: {_DEPLOY}"),
    "42804": (SchemaError, f"a column has another type: {_DEPLOY}"),
    "42883": (SchemaError, f"a column has another type: {_DEPLOY}"),
    "42846": (SchemaError, f"a column has another type: {_DEPLOY}"),
    "42809": (SchemaError, "something else has the table's name: pass another table= or schema="),
    "42P07": (
        SchemaError,
        "something else has the name of an index or a companion table: pass another table= or schema=",
    ),
    "2BP01": (SchemaError, "something of yours depends on what has to be replaced"),
    "428C9": (SchemaError, f"a generated column is in the way: {_DEPLOY}"),
    "57014": (UnavailableError, "it cancelled the statement, for its time-out or by hand"),
    "55P03": (
        UnavailableError,
        "a transaction that is open holds a lock for too long (pg_stat_activity names it); try again when it has ended",
    ),
    "40001": (UnavailableError, "others changed the same rows at the same time; try again"),
    "40P01": (UnavailableError, "others changed the same rows at the same time; try again"),
    "53100": (UnavailableError, "its disk is full"),
    "LG001": (
        SchemaError,
        f"its times are local ones, of a zone that cannot be told from a connection with one of its own: {_ZONE}",
    ),
    "LG002": (SchemaError, _USED),
}
_CLASSES: Final[dict[str, tuple[type[StoreError], str]]] = {
    "08": (UnavailableError, "the connection broke"),
    "22": (DataError, "a value does not fit its column"),
    "23": (DataError, "a constraint of the table refuses a value"),
    "25": (UnavailableError, "the transaction broke"),
    "40": (UnavailableError, "the transaction broke; try again"),
    "53": (UnavailableError, "it has run out of something"),
    "54": (DataError, "a value is larger than it can take"),
    "55": (UnavailableError, "it is not ready for that"),
    "57": (UnavailableError, "it is stopping"),
    "58": (UnavailableError, "its system failed"),
}


class translated:  # noqa: N801 - read like a function
    """Raise what a statement on *where* may end in as one of our errors; what is *passing* stays as it is."""

    def __init__(self, where: str, *passing: type[Exception]) -> None:
        self._where = where
        self._passing = passing

    def __enter__(self) -> None:
        return

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if not isinstance(error, (psycopg.Error, UnicodeError)) or isinstance(error, self._passing):
            return
        failure = translate(error, self._where)
        del error  # it quotes the row, and whoever reports a failure may show the locals of its frames
        try:
            raise failure from None
        finally:
            failure.__context__ = None


def translate(error: Exception, where: str) -> StoreError:
    """Return the error of ours for one of the driver's."""
    code = getattr(error, "sqlstate", None)
    if code is None:
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return UnavailableError(f"{where}: the connection broke, or there was none to be had")
        return DataError(
            f"{where}: a value cannot be sent to Postgres, or one of its times lies outside Python's years 1 to 9999 ({type(error).__name__})"
        )
    kind, why = _CODES.get(code) or _CLASSES.get(code[:2]) or (StoreError, "Postgres refuses the statement")
    column = error.diag.column_name if isinstance(error, psycopg.Error) else None
    return kind(f"{where}: {why}{f'; column {column}' if column else ''} (SQLSTATE {code})")
