"""Every error this package raises, as one tree.

::

    SessionStoreError
    ├── ConfigError            what was set or declared is wrong, before any database is asked
    │   ├── MissingExtraError  an optional dependency is not installed
    │   └── RecordError        a record class that no table can hold
    ├── FilterError            a filter, order, cursor or limit that cannot be understood
    ├── SpoolError             the local spool cannot be used
    └── StoreError             Postgres said no
        ├── UnavailableError   it cannot be reached, or not in time
        ├── LoginError         it refuses the user, the password or the database's name
        ├── PrivilegeError     the role may not do this
        ├── SchemaError        the table is missing or has another shape
        └── DataError          it refuses these values

Messages name what was wrong and what to do. They never hold a password, a value of a row, or the text of a driver's
error, which may hold both.
"""

from __future__ import annotations


class SessionStoreError(Exception):
    """Base of every error of this package."""


class ConfigError(SessionStoreError, ValueError):
    """What was set or declared is wrong."""


class MissingExtraError(ConfigError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the [{extra}] extra: pip install 'langgraph-session-store[{extra}]'")
        self.extra = extra


class RecordError(ConfigError):
    """A record class declares what no table can hold."""


class FilterError(SessionStoreError, ValueError):
    """A filter, order, cursor or limit cannot be understood."""


class SpoolError(SessionStoreError):
    """The local spool cannot be used."""


class StoreError(SessionStoreError):
    """Postgres said no."""


class UnavailableError(StoreError):
    """Postgres cannot be reached, or not in time."""


class LoginError(StoreError):
    """Postgres refuses the user, the password or the database's name."""


class PrivilegeError(StoreError):
    """The role may not do this."""


class SchemaError(StoreError):
    """The table is missing or has another shape."""


class DataError(StoreError):
    """Postgres refuses these values."""
