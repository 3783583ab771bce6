"""What a database holds under the table's names, and whether it is what a table of ours has there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..query import Query, short
from ..sql import load
from .ddl import modifiers, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..columns import TableColumn
    from ..query import Table

MARK: Final = "langgraph-session-store: schema {}"
"""The table's comment: the last migration that it has seen."""


@dataclass(frozen=True)
class Found:
    """What a database holds under the table's names; by default nothing."""

    schema_exists: bool = True
    kind: str | None = None
    version: int = 0
    columns: Mapping[str, Mapping[str, Any]] | None = None
    wanted: Mapping[str, int] | None = None
    keys: Sequence[Mapping[str, Any]] = ()
    indexes: Sequence[str] = ()
    versions: Sequence[str] | None = None
    erased: bool = False
    summary: Sequence[str] | None = None
    view_options: Sequence[str] = ()
    readers: Sequence[str] = ()
    trigger: bool = False
    citus: bool = False
    trigram: bool = True

    @classmethod
    def read(cls, row: dict[str, Any]) -> Found:
        """Return the answer of ``inspect.sql``."""
        mark = re.match(re.escape(MARK).replace(r"\{\}", r"(\d+)"), row.pop("comment") or "")
        lists: dict[str, Any] = {word: row.pop(word) or () for word in ("keys", "indexes", "view_options", "readers")}
        return cls(version=int(mark[1]) if mark else 0, **lists, **row)

    def key(self, *columns: str) -> Mapping[str, Any] | None:
        """Return the unique key over exactly *columns*."""
        return next((key for key in self.keys if key["columns"] == sorted(columns)), None)


def inspect(table: Table) -> Query[Found]:
    """Read what the database holds of *table*, from the catalogs alone."""
    params = {
        "schema": table.schema,
        "table": plain(table.full),
        "versions": plain(table.versions),
        "erased": plain(table.erased),
        "summary": plain(table.summary),
        "trigger": trigger(table),
        "names": [column.name for column in table.columns],
        "types": [column.sql_type for column in table.columns],
    }
    return Query(load("inspect").as_bytes(None), params, lambda rows, _: Found.read(rows[0][0]))


def same_type(column: TableColumn, found: Found) -> bool:
    """Return whether *column*, which is there, has the type that is declared."""
    is_, wanted = (found.columns or {})[column.name], (found.wanted or {})[column.name]
    return bool(is_["base"] == wanted) and modifiers(is_["type"]) == modifiers(column.sql_type)


def trigger(table: Table) -> str:
    """Return the name of the table's trigger."""
    return short(f"trigger_{table.name}_touch")
