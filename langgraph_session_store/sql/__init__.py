"""The statements and migrations, one ``.sql`` file each.

A file's first line is ``-- name: what it does``. Values are ``%(name)s``, identifiers and fragments ``{slot}``; a literal percent
sign is ``%%``, a literal brace is doubled.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from psycopg.sql import SQL


@cache
def load(name: str) -> SQL:
    """Return the statement of ``<name>.sql``, without its header."""
    header, _, statement = files(__name__).joinpath(f"{name}.sql").read_text("utf-8").partition("\n")
    assert header.startswith(f"-- {name}: "), f"{name}.sql does not begin with '-- {name}: ...'"
    return SQL(statement.strip())
