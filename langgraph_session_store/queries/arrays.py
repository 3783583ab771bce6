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


def _text(value: Any) -> bytes:
    return str(value).encode()


def _integer(value: Any) -> bytes:
    return int(value).to_bytes(8, "big", signed=True)


_TYPES: Final[dict[str, tuple[int, Callable[[Any], bytes]]]] = {
    "text": (25, _text),
    "bigint": (20, _integer),
    "double precision": (701, lambda value: struct.pack("!d", float(value))),
    "boolean": (16, lambda value: b"\1" if value else b"\0"),
    "timestamptz": (1184, lambda value: _integer(value - _EPOCH)),
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
        head, pack = _HEAD.pack(1, 1, oid, len(self), 1), _LENGTH.pack
        if self.count(None) == len(self):
            return head + _NULL * len(self)
        return head + b"".join([_NULL if value is None else pack(len(data := encode(value))) + data for value in self])


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)
