"""What OpenAPI says about a table: models with the record's real types, and the parameters that its filters are."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field, create_model

from ..columns import LEADING
from ..filters import paging
from ..filters.sqltypes import sql_type
from ..queries.reads import vocabulary
from ..record import record_fields
from .choices import closed_sets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..columns import TableColumn
    from ..query import Table
    from ..record import RecordField, SessionRecord
    from .reads import ReadStore

PARAMETER_OPS: Final = {
    "text": ("eq", "in", "contains", "isnull"),
    "number": ("eq", "gte", "lte", "isnull"),
    "time": ("gte", "lt"),
    "boolean": ("eq", "isnull"),
    "uuid": ("eq",),
    "jsonb": ("has", "isnull"),
    "other": ("eq", "isnull"),
}
"""The operators that OpenAPI lists one by one; ``GET /api/schema`` names all of them."""
_TYPES: Final[dict[str, Any]] = {"uuid": UUID, "boolean": bool, "date": date, "timestamptz": datetime, "jsonb": Any}
_REQUIRED: Final = frozenset(column.name for column in LEADING) - {"run_id", "workflow_status"}
_NO_NUL: Final = {"type": "string", "pattern": "^[^\\u0000]*$"}
_YES_OR_NO: Final = {"anyOf": [{"type": "boolean"}, {"enum": ["t", "yes", "y", "on", "1", "f", "no", "n", "off", "0"]}]}
_TIME: Final = {"type": "string", "format": "date-time"}
_OPEN: Final = "rows of other writers, or older than the record, may hold other values"
CURSOR: Final = {"type": "string", "pattern": paging.CURSOR}
LAST_EVENT: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last `id` that was seen, to resume behind it; without it the stream begins now.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,16}$"},
}


class Listing(BaseModel):
    """A page of sessions."""

    count: int = Field(description="sessions on this page")
    next_cursor: str | None = Field(
        description="pass it as `cursor`, with the same filters and order, for the next page; null on the last one"
    )
    total: int | None = Field(default=None, description="all sessions that match, with `count=exact`")


class VersionModel(BaseModel):
    """The versioned fields as one event left them."""

    version: int
    recorded_at: datetime
    run_id: str | None
    values: dict[str, Any]
    changes: dict[str, Any] = Field(description="each field that differs from the version before, as [old, new]")


class Versions(BaseModel):
    """The history of a session, newest first."""

    thread_id: str
    versions: list[VersionModel]


class Deleted(BaseModel):
    """What was removed."""

    thread_id: str
    deleted: bool


class Group(BaseModel):
    """Numbers about some sessions."""

    total: int
    by_status: dict[str, int]
    success_rate: float | None
    average_code_attempts: float | None
    average_problem_attempts: float | None
    duration_p50: float | None
    duration_p95: float | None
    first_seen: datetime | None
    last_seen: datetime | None
    numeric: dict[str, Any]


class Slice(Group):
    """Numbers about the sessions of one group, one bucket of time, or both."""

    key: dict[str, Any]
    start: datetime | None


class AnalyticsModel(Group):
    """Numbers about the sessions that match."""

    by_topic: dict[str, int]
    by_difficulty: dict[str, int]
    groups: list[Slice]
    series: list[Slice]


class Change(BaseModel):
    """A session that changed."""

    thread_id: str
    workflow_status: str | None
    updated_at: datetime
    version: int = Field(description="grows with each change of the session")


EVENTS: Final[dict[str, Any]] = {
    "description": "The stream; the schema is about each event that has data.",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "required": ["id", "data"],
                "properties": {
                    "id": {"type": "string", "pattern": "^[0-9]+$"},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": Change.model_json_schema(),
                    },
                },
            }
        }
    },
}


class Vocabulary(BaseModel):
    """The fields of the table: their types, operators, and what they are for."""

    record: str
    description: str
    fields: list[dict[str, Any]]


def session_model(record: type[SessionRecord], table: Table) -> type[BaseModel]:
    """Return the model of a whole session."""
    declared = {field.name: field for field in record_fields(record)}
    closed = closed_sets(record, table)
    fields: dict[str, Any] = {}
    for column in table.columns:
        kind = _python_type(column, declared.get(column.name))
        if column.name in closed:
            form: Any = Literal
            fields[column.name] = (form[tuple(closed[column.name])] | kind | None, Field(description=_OPEN))
        else:
            fields[column.name] = (kind if column.name in _REQUIRED else kind | None, ...)
    return create_model(record.__name__, __doc__=record.__doc__, **fields)


def listing_model(record: type[SessionRecord], table: Table) -> type[BaseModel]:
    """Return the model of a page, whose sessions may hold any of the fields."""
    fields: dict[str, Any] = {
        name: (info.annotation, Field(default=None, description=info.description))
        for name, info in session_model(record, table).model_fields.items()
    }
    item = create_model(f"{record.__name__}Item", __doc__="A session, with the fields that were asked for.", **fields)
    return create_model(f"{record.__name__}Page", __base__=Listing, sessions=(list[item], ...))  # type: ignore[valid-type]


def _python_type(column: TableColumn, field: RecordField | None) -> Any:
    if field is not None and column.sql_type == "jsonb" and not field.redact:
        return field.info.annotation
    base = column.sql_type.partition("(")[0]
    if base == "varchar" and column.sql_type != base:
        return Annotated[str, Field(max_length=int(column.sql_type.partition("(")[2].rstrip(")")))]
    if base in _TYPES:
        return _TYPES[base]
    if base in ("integer", "bigint", "smallint"):
        return int
    return float if base == "double precision" else str


def large_columns(record: type[SessionRecord], table: Table) -> frozenset[str]:
    """Return the columns whose values may be long, so that lists leave them out unless asked."""
    closed = closed_sets(record, table)
    return frozenset(
        column.name
        for column in table.columns
        if (column.sql_type.partition("(")[0] in ("text", "jsonb") or column.sql_type == "varchar")
        and column.name not in closed
    )


def small_columns(reads: ReadStore) -> list[str]:
    """Return what a list holds by default."""
    return [column.name for column in reads.table.columns if column.name not in reads.large]


def page_size(most: int) -> dict[str, Any]:
    """Return the schema of a page size of at most *most*."""
    return {"type": "integer", "minimum": 1, "maximum": most, "default": 50}


def filter_parameters(record: type[SessionRecord], table: Table) -> list[dict[str, Any]]:
    """Return the filters of *table* as OpenAPI's query parameters."""
    closed = closed_sets(record, table)
    shown = [
        _parameter(column.name if op == "eq" else f"{column.name}__{op}", _shape(column, op, closed))
        for column in table.columns
        for op in PARAMETER_OPS[sql_type(column.sql_type).family]
    ]
    return [*shown, _any_of(table)]


def order_parameter(table: Table) -> dict[str, Any]:
    """Return the sort order as a query parameter."""
    names = [str(entry["name"]) for entry in vocabulary(table).describe() if entry["sortable"]]
    words = [word for name in names for word in (name, f"-{name}")]
    return _listed("order_by", words, "Fields to sort by, `-` for descending; default `-created_at`.")


def fields_parameter(table: Table, name: str = "fields", about: str = "") -> dict[str, Any]:
    """Return a choice of columns as a query parameter."""
    return _listed(name, [column.name for column in table.columns], about)


def plain_parameter(name: str, schema: dict[str, Any], about: str) -> dict[str, Any]:
    """Return any other query parameter."""
    return {**_parameter(name, schema), "description": about}


def _listed(name: str, words: Iterable[str], about: str) -> dict[str, Any]:
    schema = {"type": "array", "items": {"enum": list(words)}, "minItems": 1}
    return {**_parameter(name, schema), "style": "form", "explode": False, "description": about}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _shape(column: TableColumn, op: str, closed: Mapping[str, list[Any]]) -> dict[str, Any]:
    if op == "eq" and column.name in closed:
        return {"anyOf": [{"enum": closed[column.name]}, _value(column)]}  # what else a row may hold can be asked for
    if column.name == "thread_id" and op in ("eq", "in"):
        return {"type": "string"}  # any text is made storable
    if op == "isnull":
        return _YES_OR_NO
    base = _value(column)
    return {**_NO_NUL, "description": "a list, with commas between"} if op == "in" else base


def _value(column: TableColumn) -> dict[str, Any]:
    match sql_type(column.sql_type).family:
        case "boolean":
            return _YES_OR_NO
        case "number":
            return {"type": "number"}
        case "time":
            return {"type": "string", "format": "date"} if column.sql_type == "date" else _TIME
        case "uuid":
            return {"type": "string", "format": "uuid"}
        case _:
            return _NO_NUL


def _any_of(table: Table) -> dict[str, Any]:
    values = {
        column.name: _json_value(column) for column in table.columns if sql_type(column.sql_type).family != "jsonb"
    }
    item = {"type": "object", "properties": values, "minProperties": 1, "additionalProperties": False}
    return {
        "name": "any_of",
        "in": "query",
        "required": False,
        "description": "Filters of which one must hold, as JSON.",
        "content": {"application/json": {"schema": {"type": "array", "items": item}}},
    }


def _json_value(column: TableColumn) -> dict[str, Any]:
    return {"type": "boolean"} if sql_type(column.sql_type).family == "boolean" else _value(column)
