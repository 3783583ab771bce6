"""What a column is, and the columns that the store itself keeps: the table on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["own", "field", "versioned"]
"""*own*: kept by the store; *field*: declared by the record; *versioned*: a field whose changes make history."""

Status = Literal["running", "completed", "failed", "interrupted", "cancelled", "abandoned"]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of the session table: its name, SQL type, kind and index (``False``, ``True`` or an index method)."""

    name: str
    sql_type: str
    kind: Kind = "own"
    index: bool | str = False


LEADING: Final = (
    TableColumn("id", "uuid"),
    TableColumn("created_at", "timestamptz", index=True),
    TableColumn("updated_at", "timestamptz", index=True),
    TableColumn("thread_id", "varchar(255)"),
    TableColumn("run_id", "varchar(255)", index=True),
    TableColumn("workflow_status", "varchar(20)", index=True),
)
"""The store's columns before the record's fields."""

TRAILING: Final = (
    TableColumn("user_id", "varchar(255)", index=True),
    TableColumn("trace_id", "varchar(255)"),
    TableColumn("graph_name", "varchar(255)"),
    TableColumn("started_at", "timestamptz"),
    TableColumn("finished_at", "timestamptz"),
    TableColumn("duration_seconds", "double precision", index=True),
    TableColumn("error", "text"),
    TableColumn("checkpoint_id", "varchar(255)"),
    TableColumn("metadata", "jsonb"),
    TableColumn("rejected", "jsonb"),
    TableColumn("recorded_at", "timestamptz"),
)
"""The store's columns after the record's fields."""

OWN: Final = {column.name: column for column in (*LEADING, *TRAILING)}

CALL_WORDS: Final = frozenset(
    {
        *("limit", "order_by", "cursor", "any_of", "fields", "group_by", "bucket", "path", "format", "older_than"),
        *("arrow", "progress", "self"),
    }
)
"""Words of the store's calls, which filters share their keywords with."""

RESERVED: Final = frozenset(OWN) | CALL_WORDS
"""Names that no field may have."""
