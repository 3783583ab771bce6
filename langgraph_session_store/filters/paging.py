"""Order and cursors: which row comes next, as a condition that an index can read.

A cursor holds the sort keys of the last row that was seen, and a fingerprint of the filter and order that it belongs to. It is
no secret and no signature: a forged one starts at another place of the same result, and does nothing else.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from psycopg.sql import NULL, SQL, Composable, Composed, Identifier, Placeholder

from ..errors import FilterError
from .sqltypes import Scalar, dump, preview, sql_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..columns import TableColumn

CURSOR: Final = "^WzEsI[A-Za-z0-9_-]+$"
"""How every cursor looks: what `_encode` makes of a version, a fingerprint and keys."""
_VERSION: Final = 1
_NOT_NULL: Final = frozenset({"id", "created_at", "updated_at", "thread_id", "recorded_at"})


@dataclass(frozen=True, slots=True)
class Condition:
    """What stands behind WHERE, safe beside an AND, and the parameters that it binds by name.

    ``restricts`` is False where it is met by every row, whatever the row holds.
    """

    sql: Composable
    params: dict[str, object]
    restricts: bool = True

    def __and__(self, other: Condition) -> Condition:
        if not self.restricts:
            return other
        if not other.restricts:
            return self
        return Condition(SQL(" AND ").join((self.sql, other.sql)), self.params | other.params)


EVERY_ROW: Final = Condition(SQL("TRUE"), {}, restricts=False)


class Key(NamedTuple):
    """One column to sort by."""

    column: TableColumn
    descending: bool

    @property
    def nullable(self) -> bool:
        """Whether the column may hold NULL, which sorts last in both directions."""
        return self.column.name not in _NOT_NULL

    @property
    def sql(self) -> Composable:
        """The key in ORDER BY; NULLS LAST only where it says something, since a plain index is read without it."""
        nulls = " NULLS LAST" if self.nullable and self.descending else ""
        direction = " DESC" if self.descending else ""
        return Identifier(self.column.name) + SQL(direction) + SQL(nulls)


@dataclass(frozen=True, slots=True)
class Order:
    """Sort keys; the last one is unique."""

    keys: tuple[Key, ...]

    @property
    def sql(self) -> SQL:
        """What stands behind ORDER BY."""
        return _ordered(self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that a row must have for `next_cursor`."""
        return tuple(key.column.name for key in self.keys)


@lru_cache(maxsize=256)
def _ordered(keys: tuple[Key, ...]) -> SQL:
    return SQL(SQL(", ").join(key.sql for key in keys).as_string(None))


def fingerprint(condition: Condition, order: Order) -> str:
    """Return what the cursors of *condition* (without a keyset) in *order* are bound to."""
    parts = (condition.sql.as_string(None), sorted(condition.params.items()), order.sql.as_string(None))
    return blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def next_cursor(order: Order, last_row: Mapping[str, object], fingerprint: str) -> str:
    """Return the cursor of the page behind *last_row*."""
    keys = [None if last_row[name] is None else dump(last_row[name]) for name in order.names]
    return _encode([_VERSION, fingerprint, keys])


def keyset(order: Order, cursor: str | None, fingerprint: str) -> Condition:
    """Return the condition for the rows behind *cursor*; FilterError unless it belongs to this filter and order."""
    if cursor is None:
        return EVERY_ROW
    values = _decode(order, cursor, fingerprint)
    cells = [
        _Cell(key, Identifier(key.column.name), None if value is None else _bound(key, index))
        for index, (key, value) in enumerate(zip(order.keys, values, strict=True))
    ]
    params: dict[str, object] = {f"k{index}": value for index, value in enumerate(values) if value is not None}
    return Condition(_behind(cells), params)


def check_limit(limit: object, maximum: int = 1000) -> int:
    """Return *limit* as a number from 1 to *maximum*; text of digits counts, anything else is a FilterError."""
    number = int(limit) if isinstance(limit, str) and limit.isascii() and limit.isdigit() and len(limit) < 10 else limit  # noqa: PLR2004
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= maximum:
        raise FilterError(f"limit: expected a number from 1 to {maximum}, got {preview(limit)}")
    return number


class _Cell(NamedTuple):
    """A key, its column, and its bound value in the last row: None where that was NULL."""

    key: Key
    column: Composable
    value: Composable | None

    def compare(self, suffix: str = "") -> Composable:
        """Compare the column with the value, in the key's direction."""
        operator = SQL((" <" if self.key.descending else " >") + suffix + " ")
        return Composed([self.column, operator, self.value or NULL])

    def same(self) -> Composable:
        """Compare for equality."""
        if self.value is None:
            return self.column + SQL(" IS NULL")
        return Composed([self.column, SQL(" = "), self.value])

    def later(self) -> Composable | None:
        """Compare for a later place in the order; None where there is none behind NULL."""
        if self.value is None:
            return None
        if not self.key.nullable:
            return self.compare()
        return SQL("({} OR {} IS NULL)").format(self.compare(), self.column)


def _behind(cells: Sequence[_Cell]) -> Composable:
    first = cells[0]
    if all(not cell.key.nullable and cell.key.descending == first.key.descending for cell in cells):
        return SQL("({}) {} ({})").format(
            SQL(", ").join(cell.column for cell in cells),
            SQL("<" if first.key.descending else ">"),
            SQL(", ").join(cell.value or NULL for cell in cells),
        )
    alternatives: list[Composable] = []
    for index, cell in enumerate(cells):
        if (later := cell.later()) is not None:
            equal = [before.same() for before in cells[:index]]
            alternatives.append(SQL(" AND ").join([*equal, later]))
    either = SQL("({})").format(SQL(" OR ").join(alternatives))
    if first.key.nullable:
        return either
    return SQL("{} AND {}").format(first.compare("="), either)  # says again what an index on the first key can use


def _bound(key: Key, index: int) -> Composable:
    return Placeholder(f"k{index}") + SQL("::" + sql_type(key.column.sql_type).cast)


def _encode(content: list[object]) -> str:
    return urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


def is_genuine(cursor: str) -> bool:
    """Return whether *cursor* can have come from `next_cursor`."""
    return _content(cursor) is not None


def _content(cursor: str) -> list[Any] | None:
    try:
        content = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        version, mark, texts = content
        return [version, mark, texts] if _encode(content) == cursor else None
    except Exception:  # a forged cursor may be anything
        return None


def _decode(order: Order, cursor: str, fingerprint: str) -> list[Scalar | None]:
    if (content := _content(cursor)) is None:
        raise FilterError("cursor: not one of ours; start again from the first page")
    version, mark, texts = content
    if version != _VERSION:
        raise FilterError("cursor: from another version of this library; start again from the first page")
    if mark != fingerprint:
        raise FilterError("cursor: belongs to another filter or order; pass the ones it came with, or start again")
    try:
        values = [_key_value(key, text) for key, text in zip(order.keys, texts, strict=True)]
    except Exception:
        raise FilterError("cursor: its keys do not fit the order; start again from the first page") from None
    return values


def _key_value(key: Key, text: object) -> Scalar | None:
    if text is None and key.nullable:
        return None
    if not isinstance(text, str):
        raise TypeError(text)
    return sql_type(key.column.sql_type).load(text)
