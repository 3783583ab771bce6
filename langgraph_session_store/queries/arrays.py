"""The values of a column as one parameter: Postgres' binary arrays, which can be encoded before their statement is sent."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from ..sharing import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_HEAD: Final = struct.Struct(
    "!5i"
)  # dimensions, whether any is NULL, the type of the elements, how many, the first index
_EMPTY: Final = 12  # bytes of a head without dimensions
_LENGTH: Final = struct.Struct("!i")
_NULL: Final = _LENGTH.pack(-1)
_EPOCH: Final = 946_684_800_000_000  # of Postgres, the year 2000, in microseconds of Unix time


def _texts(values: Iterable[Any]) -> list[bytes]:
    pieces, length = [], _LENGTH.pack
    for value in values:
        if value is None:
            pieces.append(_NULL)
        else:
            data = str(value).encode()
            pieces += length(len(data)), data  # not their sum, which would copy what may be large
    return pieces


def _fixed(code: str, convert: Callable[[Any], Any]) -> Callable[[Iterable[Any]], list[bytes]]:
    size, pack = struct.calcsize(f"!{code}"), struct.Struct(f"!i{code}").pack
    return lambda values: [_NULL if value is None else pack(size, convert(value)) for value in values]


_TYPES: Final[dict[str, tuple[int, Callable[[Iterable[Any]], list[bytes]]]]] = {
    "text": (25, _texts),
    "bytea": (17, lambda values: [_NULL if value is None else _LENGTH.pack(len(value)) + value for value in values]),
    "bigint": (20, _fixed("q", int)),
    "double precision": (701, _fixed("d", float)),
    "boolean": (16, _fixed("?", bool)),
    "timestamptz": (1184, _fixed("q", (-_EPOCH).__add__)),
}


class Array(list[Any]):
    """*values* of the SQL type *kind* or None; those of ``timestamptz`` are microseconds since the Unix epoch."""

    def __init__(self, kind: str, values: Iterable[Any]) -> None:
        super().__init__(values)
        self._kind = kind

    @once
    def data(self) -> bytes:
        """What is sent. ValueError, TypeError or OverflowError where a value is none of the type."""
        oid, encode = _TYPES[self._kind]
        if not self:
            return _HEAD.pack(0, 0, oid, 0, 0)[:_EMPTY]
        head = _HEAD.pack(1, 1, oid, len(self), 1)
        if self.count(None) == len(self):
            return head + _NULL * len(self)
        try:
            return b"".join([head, *encode(self)])
        except struct.error as error:
            raise OverflowError(str(error)) from None


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)
