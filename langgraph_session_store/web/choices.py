"""The closed sets of values: what a record declares as Enum or Literal, and the statuses."""

from __future__ import annotations

from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from typing_extensions import TypeAliasType

from ..columns import Status
from ..filters.sqltypes import sql_type
from ..record import record_fields

if TYPE_CHECKING:
    from ..query import Table
    from ..record import SessionRecord

STATUSES: Final[tuple[str, ...]] = get_args(Status)


def closed_sets(record: type[SessionRecord], table: Table) -> dict[str, list[Any]]:
    """Return by column the values that are written there; rows of other writers, or of older records, may hold more."""
    declared = {field.name: _members(field.info.annotation) for field in record_fields(record)}
    found: dict[str, list[Any]] = {"workflow_status": list(STATUSES)}
    for column in table.columns:
        values = declared.get(column.name)
        if values and sql_type(column.sql_type).family in ("text", "number"):
            found[column.name] = values
    return found


def _members(annotation: Any) -> list[Any]:
    """Return the plain values of an Enum or a Literal, also where it is optional; none of anything else."""
    if isinstance(annotation, TypeAliasType):
        return _members(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [value for part in get_args(annotation) for value in _members(part)]
    members: Any = ()
    if origin is Literal:
        members = get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        members = annotation
    plain = [getattr(member, "value", member) for member in members]
    return [value for value in plain if isinstance(value, (str, int)) and not isinstance(value, bool)]
