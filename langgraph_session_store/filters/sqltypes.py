"""SQL types as the filters see them: which Python values and texts a column's type understands, and how they are bound.

Whatever passes `SqlType.bind` is accepted by Postgres; whatever does not is a `FilterError` here.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

import orjson

from ..errors import FilterError

Family = Literal["text", "number", "boolean", "time", "uuid", "jsonb", "other"]
"""Types of one family share their operators."""

Scalar = str | int | float | Decimal | bool | datetime | date | UUID
"""What is bound for one value."""

_INTEGRAL_DIGITS: Final = 131_072  # Postgres' numeric, before the decimal point
_FRACTION_DIGITS: Final = 16_383  # and after it
_NUMBER_LENGTH: Final = _INTEGRAL_DIGITS + _FRACTION_DIGITS + 16
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,6})?", re.ASCII | re.IGNORECASE)
_BIGINT: Final = 2**63
_PREVIEW: Final = 32
_JSON_DEPTH: Final = 64
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


@dataclass(frozen=True, slots=True)
class SqlType:
    """How values meet one SQL type: *cast* is what they are bound as, *expects* names them in an error."""

    family: Family
    cast: str
    expects: str
    coerce: Callable[[object], Scalar]

    def value(self, where: str, value: object) -> Scalar:
        """Return *value* as this type binds it; FilterError that begins with *where* on what it does not understand."""
        try:
            return self.coerce(plain(value))
        except Exception:  # a foreign class may raise anything when it is looked at
            raise FilterError(f"{where}: expected {self.expects}, got {preview(value)}") from None

    def bind(self, where: str, values: Sequence[object]) -> tuple[str, list[Scalar]]:
        """Return the type to cast *values* to and the values; all of one Python type, as arrays need it."""
        bound = [self.value(where, value) for value in values]
        if self is INTEGER and any(isinstance(value, Decimal) for value in bound):
            return "numeric", [_number(value) for value in bound]
        return self.cast, bound

    def load(self, text: str) -> Scalar:
        """Return the value that `dump` wrote; ValueError or the like on anything else."""
        if text in ("nan", "inf", "-inf") and self in (DOUBLE, REAL):
            return float(text)
        if text == "NaN" and self is NUMERIC:
            return Decimal(text)
        value = self.coerce(text)
        if self is INTEGER and isinstance(value, Decimal):
            raise ValueError("no integer column holds it")
        return value


def dump(value: object) -> str:
    """Return a value that Postgres gave back as text that `SqlType.load` reads exactly."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def plain(value: object) -> object:
    """Return what an enum member or a NumPy scalar stands for, anything else as it is."""
    if isinstance(value, Enum):
        return value.value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        scalar: Any = value
        return scalar.item()
    return value


def preview(value: object) -> str:
    """Name the kind of *value*, with its first characters where it is text or a number."""
    kind = type(value).__name__
    if isinstance(value, str):
        return f"the text {value[:_PREVIEW] + '…' if len(value) > _PREVIEW else value!r}"
    short = isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() <= _PREVIEW * 2)
    return f"{kind} {value!r}" if short else kind


def check_text(value: str) -> str:
    """Return *value*; ValueError where Postgres has no text for it."""
    value.encode()  # lone surrogates
    if "\0" in value:
        raise ValueError("NUL")
    return value


def json_text(value: object, depth: int = 0) -> str:
    """Return *value* as JSON text that jsonb accepts; ValueError or TypeError where there is none."""
    if depth > _JSON_DEPTH:
        raise ValueError("nested too deeply")
    value = plain(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (str, UUID)):
        return orjson.dumps(check_text(str(value))).decode()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys of JSON are text")
        return "{" + ",".join(f"{json_text(key)}:{json_text(item, depth + 1)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ",".join(json_text(item, depth + 1) for item in value) + "]"
    return str(_number(value))


def parse_json(text: str) -> object:
    """Return the value of JSON *text*, exact numbers included; ValueError where it is none."""
    try:
        value: object = json.loads(text, parse_float=_decimal, parse_constant=_decimal)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        raise TypeError(value)
    return check_text(str(value))


def _decimal(text: str) -> Decimal:
    if len(text) > _NUMBER_LENGTH or not _NUMBER.fullmatch(text):
        raise ValueError(text[:_PREVIEW])
    return Decimal(text)


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise TypeError(value)
    if isinstance(value, int) and value.bit_length() > _INTEGRAL_DIGITS * 4:
        raise ValueError("too large")
    if isinstance(value, str):
        number = _decimal(value.strip())
    else:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_FRACTION_DIGITS or number.adjusted() >= _INTEGRAL_DIGITS:
        raise ValueError("not finite, or beyond what numeric holds")
    return number


def _integer(value: object) -> int | Decimal:
    number = _number(value)
    fits = -_BIGINT <= number < _BIGINT and number == int(number)
    return int(number) if fits else number


def _double(value: object) -> float:
    number = float(_number(value))
    if not math.isfinite(number):
        raise ValueError("beyond what double precision holds")
    return number


def _real(value: object) -> float:
    (number,) = struct.unpack("f", struct.pack("f", _double(value)))
    return float(number)


def _boolean(value: object) -> bool:
    if isinstance(value, str):
        return _BOOLEANS[value.strip().lower()]
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise TypeError(value)


def _moment(value: object) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        value = datetime.combine(value.date(), value.timetz())  # sheds pandas' subclass; its NaT raises
    elif isinstance(value, date):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        raise TypeError(value)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _naive(value: object) -> datetime:
    return _moment(value).replace(tzinfo=None)


def _date(value: object) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value.strip())
    if isinstance(value, datetime) or not isinstance(value, date):
        raise TypeError(value)
    return value


def _uuid(value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        return UUID(value.strip())
    raise TypeError(value)


_MOMENT: Final = "a time as datetime or ISO 8601 text (UTC where it has no offset), or a date (its midnight in UTC)"

TEXT: Final = SqlType("text", "text", "text without NUL or lone surrogates", _text)
OTHER: Final = SqlType("other", "text", TEXT.expects, _text)
INTEGER: Final = SqlType("number", "bigint", "a finite number", _integer)
NUMERIC: Final = SqlType("number", "numeric", INTEGER.expects, _number)
DOUBLE: Final = SqlType("number", "double precision", INTEGER.expects, _double)
REAL: Final = SqlType("number", "real", INTEGER.expects, _real)
BOOLEAN: Final = SqlType("boolean", "boolean", "true or false", _boolean)
MOMENT: Final = SqlType("time", "timestamptz", _MOMENT, _moment)
NAIVE: Final = SqlType("time", "timestamp", _MOMENT, _naive)
DATE: Final = SqlType("time", "date", "a date, or one as ISO 8601 text", _date)
ID: Final = SqlType("uuid", "uuid", "a UUID", _uuid)
JSON: Final = SqlType(
    "jsonb", "jsonb", "what JSON holds: text, a finite number, true, false, None, lists and dicts of these", json_text
)

_NAMES: Final = {
    **dict.fromkeys(("text", "varchar", "character varying"), TEXT),
    **dict.fromkeys(("smallint", "int2", "integer", "int", "int4", "bigint", "int8"), INTEGER),
    **dict.fromkeys(("numeric", "decimal"), NUMERIC),
    **dict.fromkeys(("double precision", "float8", "float"), DOUBLE),
    **dict.fromkeys(("real", "float4"), REAL),
    **dict.fromkeys(("boolean", "bool"), BOOLEAN),
    **dict.fromkeys(("timestamptz", "timestamp with time zone"), MOMENT),
    **dict.fromkeys(("timestamp", "timestamp without time zone"), NAIVE),
    "date": DATE,
    "uuid": ID,
    "jsonb": JSON,
}


def sql_type(name: str) -> SqlType:
    """Return how values meet the SQL type *name*; a type that we do not know is met as its text."""
    bare = re.sub(r"\([^)]*\)", "", name.lower())
    return _NAMES.get(" ".join(bare.split()), OTHER)
