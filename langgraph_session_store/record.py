"""Declare a row: a pydantic model whose fields are the columns of one table.

::

    class TicketSession(SessionRecord, table="ticket_sessions"):
        question: Annotated[str | None, Column("messages.0.content")] = None
        intent: Annotated[str | None, Column(sql="varchar(50)", index=True)] = None
        resolved: bool = False

======================  ==================  =============================================
Python                  SQL                 also, by ``Column(sql=...)``
======================  ==================  =============================================
str                     text                varchar(n)
int                     bigint              integer, smallint, numeric, double precision
float                   double precision    numeric
bool                    boolean
datetime                timestamptz
date                    date
Decimal                 numeric             numeric(p, s), double precision
UUID                    uuid
Enum, Literal           of their values
all else                jsonb               any of the above
======================  ==================  =============================================

Each may be optional, and each may be text, varchar(n) or jsonb instead. No other SQL type is taken, so that no value of a run
can make Postgres refuse its row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, NewType, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeAliasType

from .columns import LEADING, RESERVED, TRAILING, Kind, TableColumn
from .errors import RecordError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Path = tuple[str | int, ...]
"""The way from the state to a value: keys, attributes and list positions."""
Source = Path | Callable[[Any], Any]

NAME_BYTES: Final = 63  # Postgres cuts longer identifiers in silence
TABLE_BYTES: Final = 40  # leaves room for _versions, _erased, _summary and the names of the indexes
_SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})

_SQL: Final = re.compile(r"([a-z][a-z0-9]*(?: [a-z]+)*) ?(?:\( ?([0-9]{1,8}) ?(?:, ?([0-9]{1,4}) ?)?\))?")
_ALIASES: Final = {
    "character varying": "varchar",
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float": "double precision",
    "float8": "double precision",
    "bool": "boolean",
    "decimal": "numeric",
    "timestamp with time zone": "timestamptz",
}
_ANYWAY: Final = frozenset({"text", "varchar", "jsonb"})
_FITS: Final[Mapping[str, frozenset[str]]] = {
    "text": _ANYWAY,
    "bigint": _ANYWAY | {"bigint", "integer", "smallint", "numeric", "double precision"},
    "double precision": _ANYWAY | {"double precision", "numeric"},
    "boolean": _ANYWAY | {"boolean"},
    "timestamptz": _ANYWAY | {"timestamptz"},
    "date": _ANYWAY | {"date"},
    "numeric": _ANYWAY | {"numeric", "double precision"},
    "uuid": _ANYWAY | {"uuid"},
}
_ANY: Final = frozenset[str]().union(*_FITS.values())
_BY_TYPE: Final = (  # the first that fits: bool is an int, datetime a date
    (bool, "boolean"),
    (int, "bigint"),
    (float, "double precision"),
    (str, "text"),
    (datetime, "timestamptz"),
    (date, "date"),
    (Decimal, "numeric"),
    (UUID, "uuid"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """Say in ``Annotated[...]`` where a field's value comes from and how its column is made.

    *source* is a path (``"messages.0.content"``, negative positions count from the end), a callable that takes the state, or a
    tuple of them of which the first that finds something counts; default: the field's own name. A callable says that the state
    lacks the value by a KeyError, IndexError or AttributeError. *sql* is a type of the table in `record`. *index* is True,
    ``"gin"`` (jsonb) or ``"trigram"`` (text). The changes of a *versioned* field make history. *redact* is True to store
    ``[redacted]``, or a callable that takes the value and returns what to store.
    """

    source: str | Callable[[Any], Any] | tuple[str | Callable[[Any], Any], ...] | None = None
    _: KW_ONLY
    sql: str | None = None
    index: bool | Literal["gin", "trigram"] = False
    versioned: bool = False
    redact: bool | Callable[[Any], Any] = False


@dataclass(frozen=True, slots=True)
class RecordField:
    """A declared field, resolved: its column, and where its value comes from."""

    name: str
    sql_type: str
    sources: tuple[Source, ...]
    index: bool | str
    versioned: bool
    redact: bool | Callable[[Any], Any]
    info: FieldInfo
    channels: frozenset[str]
    """The keys of the state that its paths begin with."""
    computed: bool
    """Whether a callable takes it from the whole state."""

    @property
    def kind(self) -> Kind:
        """The kind of its column."""
        return "versioned" if self.versioned else "field"

    @property
    def choice(self) -> bool:
        """Whether its value is one of a few, those of an Enum or a Literal."""
        return _is_choice(_bare(self.info.annotation))

    @property
    def column(self) -> TableColumn:
        """Its column."""
        return TableColumn(self.name, self.sql_type, self.kind, self.index)

    def default(self) -> Any:
        """Return the declared default, None where there is none."""
        value = self.info.get_default(call_default_factory=True, validated_data={})
        return None if self.info.is_required() else value


class SessionRecord(BaseModel):
    """Base of every record; ``class Ticket(SessionRecord, table="tickets")``, by default the class's name in snake_case.

    Raises `RecordError` when the class is made and no table could hold it.
    """

    model_config = ConfigDict(protected_namespaces=())

    __session_table__: ClassVar[str] = "session_record"
    __session_fields__: ClassVar[tuple[RecordField, ...]] = ()

    def __init_subclass__(cls, *, table: str | None = None, **kwargs: Any) -> None:
        """Accept *table*, which `__pydantic_init_subclass__` uses once the fields are known."""
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, *, table: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.__session_table__ = check_table(_snake_case(cls.__name__.partition("[")[0]) if table is None else table)
        cls.__session_fields__ = tuple(_resolve(cls))

    def workflow_status(self) -> str | None:
        """Return the status of a run that ended well; None is ``completed``."""
        return None


def table_name(record: type[SessionRecord]) -> str:
    """Return the table that *record* names."""
    return record.__session_table__


def record_fields(record: type[SessionRecord]) -> tuple[RecordField, ...]:
    """Return the fields of *record*, resolved, in the order of their columns."""
    return record.__session_fields__


def table_columns(record: type[SessionRecord]) -> tuple[TableColumn, ...]:
    """Return every column of the table of *record*: the store's own around the declared ones."""
    return (*LEADING, *(field.column for field in record.__session_fields__), *TRAILING)


def check_table(name: str) -> str:
    """Return *name* if it can be a table's; raise `RecordError` if not."""
    if "." in name:
        raise RecordError(f"table name {name!r} has a dot: give the schema to the store, SessionStore(schema=...)")
    if not name.isidentifier():
        raise RecordError(f"table name {name!r} must be letters, digits and underscores, and begin with no digit")
    if len(name.encode()) > TABLE_BYTES:
        raise RecordError(f"table name {name!r} is longer than {TABLE_BYTES} bytes: name a shorter one with table=...")
    return name


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.lstrip("_")).lower()


def _resolve(record: type[SessionRecord]) -> Iterator[RecordField]:
    if not record.__pydantic_fields_complete__:
        raise RecordError(f"{record.__name__} refers to a type that is not defined yet: define it before the record")
    decorators = record.__pydantic_decorators__
    if decorators.model_validators or decorators.root_validators or record.model_config.get("frozen"):
        raise RecordError(
            f"{record.__name__} is filled field by field: no model_validator or root_validator, no frozen=True"
        )
    for name, info in record.__pydantic_fields__.items():
        where = f"{record.__name__}.{name}"
        _check_name(name, where)
        if isinstance(info.default, Column) or _holds_column(info.annotation):
            raise RecordError(f"{where}: a Column belongs outermost, {name}: Annotated[<type>, Column(...)] = None")
        if info.frozen:
            raise RecordError(f"{where} is filled after the record is made: no frozen=True")
        column = next((item for item in reversed(info.metadata) if isinstance(item, Column)), Column())
        sql_type = _sql_type(column, info.annotation, where)
        sources = _sources(column.source, name, where)
        heads = {source[0] for source in sources if isinstance(source, tuple)}
        yield RecordField(
            name,
            sql_type,
            sources,
            _index(column.index, sql_type, where),
            column.versioned,
            column.redact,
            info,
            channels=frozenset(head for head in heads if isinstance(head, str)),
            computed=any(callable(source) for source in sources),
        )


def _check_name(name: str, where: str) -> None:
    if name in RESERVED:
        raise RecordError(
            f"{where}: {name!r} is a name of the store's own: choose another, Column(source={name!r}) reads it"
        )
    if name in _SYSTEM_COLUMNS:
        raise RecordError(f"{where}: {name!r} is a system column of Postgres: choose another name")
    if name.startswith("_") or "__" in name or not name.isidentifier():
        raise RecordError(f"{where}: a field's name has no leading and no double underscore, which filters use")
    if len(name.encode()) > NAME_BYTES:
        raise RecordError(f"{where}: the name is longer than Postgres's {NAME_BYTES} bytes: choose a shorter one")


def _holds_column(annotation: Any) -> bool:
    return isinstance(annotation, Column) or any(map(_holds_column, get_args(annotation)))


def _sources(source: Any, name: str, where: str) -> tuple[Source, ...]:
    parts = source if isinstance(source, tuple) else (name if source is None else source,)
    return tuple(part if callable(part) else _path(part, where) for part in parts)


def _path(path: Any, where: str) -> Path:
    segments = path.split(".") if isinstance(path, str) else [""]
    if not all(segments):
        raise RecordError(f"{where}: source={path!r} is neither a path like 'messages.0.content' nor a callable")
    return tuple(int(part) if re.fullmatch(r"-?[0-9]{1,9}", part) else part for part in segments)


def _index(index: object, sql_type: str, where: str) -> bool | str:
    if index is False:
        return False
    base = sql_type.partition("(")[0]
    if index is True:
        return "gin" if base == "jsonb" else True
    if (index == "gin" and base == "jsonb") or (index == "trigram" and base in {"text", "varchar"}):
        return str(index)
    raise RecordError(f"{where}: index={index!r} is not for {sql_type}: True, 'gin' for jsonb, 'trigram' for text")


def _sql_type(column: Column, annotation: Any, where: str) -> str:
    natural = _natural_type(annotation)
    if column.sql is None:
        return natural
    fitting = _FITS.get(natural, _ANY)
    base, arguments = _parse_sql(column.sql)
    if base not in fitting or not _are_arguments(base, arguments):
        raise RecordError(f"{where}: sql={column.sql!r} is not one of {', '.join(sorted(fitting))}")
    return f"{base}({','.join(map(str, arguments))})" if arguments else base


def _parse_sql(sql: str) -> tuple[str, tuple[int, ...]]:
    match = _SQL.fullmatch(" ".join(str(sql).lower().split()))
    if match is None:
        return "", ()
    base, *arguments = match.groups()
    return _ALIASES.get(base, base), tuple(int(text) for text in arguments if text is not None)


def _are_arguments(base: str, arguments: tuple[int, ...]) -> bool:
    match base, arguments:
        case _, ():
            return True
        case "varchar", (length,):
            return 1 <= length <= 10_485_760  # noqa: PLR2004
        case "numeric", (precision, *scale):
            return 1 <= precision <= 1000 and sum(scale) <= precision  # noqa: PLR2004
        case _:
            return False


def _natural_type(annotation: Any) -> str:
    """Return the SQL type of a Python type, of its values where it is an Enum or a Literal."""
    bare = _bare(annotation)
    if _is_choice(bare):
        return _of_values(get_args(bare) or bare)
    if isinstance(bare, type):
        return next((sql for base, sql in _BY_TYPE if issubclass(bare, base)), "jsonb")
    return "jsonb"


def _bare(annotation: Any) -> Any:
    """Return the type that *annotation* is another name of, without ``| None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _bare(get_args(annotation)[0])
    if isinstance(annotation, TypeAliasType):
        return _bare(annotation.__value__)
    if isinstance(annotation, NewType):
        return _bare(annotation.__supertype__)
    if origin in {Union, UnionType}:
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _bare(members[0]) if len(members) == 1 else annotation
    return annotation


def _is_choice(bare: Any) -> bool:
    return get_origin(bare) is Literal or (isinstance(bare, type) and issubclass(bare, Enum))


def _of_values(values: Any) -> str:
    plain = (value.value if isinstance(value, Enum) else value for value in values)
    found = {_natural_type(type(value)) for value in plain if value is not None}
    return found.pop() if len(found) == 1 else "jsonb"
