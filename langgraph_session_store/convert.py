"""Validated Python values into what the columns of their fields hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import Enum
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from pydantic_core import from_json

from .encode import LIMIT, clean_text, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from .record import RecordField
    from .row import Value

INDEXED_BYTES: Final = 2600
"""What a b-tree index takes of one value, in bytes, whatever the compression."""

_PLAIN: Final = frozenset({str, int, bool, float})
_RANGES: Final = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_NUMERIC_DIGITS: Final = (131_072, 16_383)  # before and after the point
_DAY: Final = timedelta(days=1)
_FIRST: Final = datetime.min.replace(tzinfo=UTC) + _DAY
_LAST: Final = datetime.max.replace(tzinfo=UTC) - _DAY


class RefusedError(Exception):
    """The column cannot hold the value; the message says why, without the value."""


def plain(value: Any) -> Any:
    """Return what an enum member or a numpy scalar stands for."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def converter(field: RecordField) -> Callable[[Any], Value]:
    """Return what turns a validated value of *field* into what its column holds; `RefusedError` where that cannot be."""
    base, _, arguments = field.sql_type.rstrip(")").partition("(")
    numbers = [int(number) for number in arguments.split(",") if number]
    match base:
        case "jsonb":
            return to_json
        case "text" | "varchar":
            return partial(_text, numbers[0] if numbers else LIMIT, field.index is True)
        case "smallint" | "integer" | "bigint":
            return partial(_integer, base, _RANGES[base])
        case "numeric":
            return partial(_numeric, precision=numbers[0] if numbers else None, scale=sum(numbers[1:]))
        case _:
            return _CONVERTERS[base]


def _text(limit: int, indexed: bool, value: Any) -> str:
    most = min(limit, INDEXED_BYTES) if indexed else limit
    if type(value) is str and value.isascii() and len(value) <= most and "\x00" not in value:
        return value  # by far the most
    value = plain(value)
    if isinstance(value, str):
        text = clean_text(str.__str__(value))
    elif isinstance(value, (int, float, Decimal, UUID)):
        text = str(value)
    else:
        text = to_json(value)
        text = cast("str", from_json(text)) if text.startswith('"') else text
    if len(text) > limit:
        raise RefusedError(f"longer than {limit:,} characters")
    if indexed and len(text) * 4 > INDEXED_BYTES and len(text.encode()) > INDEXED_BYTES:
        raise RefusedError(f"longer than the {INDEXED_BYTES:,} bytes that an index can hold")
    return text


def _integer(name: str, beyond: int, value: Any) -> int:
    value = plain(value)
    if not isinstance(value, int):
        raise RefusedError(f"not an integer, which {name} needs")
    if not -beyond <= value < beyond:
        raise RefusedError(f"beyond the range of {name}")
    return int(value)


def _double(value: Any) -> float:
    value = plain(value)
    if not isinstance(value, (int, float, Decimal)):
        raise RefusedError("not a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise RefusedError("not a finite number, or beyond the range of double precision")
    return number


def _numeric(value: Any, precision: int | None, scale: int) -> str:
    value = plain(value)
    if not isinstance(value, (int, float, Decimal)):
        raise RefusedError("not a number")
    if isinstance(value, int) and value.bit_length() > 4 * _NUMERIC_DIGITS[0]:
        raise RefusedError("beyond the range of numeric")
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise RefusedError("not a finite number")
    before, after = _NUMERIC_DIGITS
    exponent = number.as_tuple().exponent
    if number.adjusted() >= before or cast("int", exponent) < -after:
        raise RefusedError("beyond the range of numeric")
    if precision is not None:
        rounded = number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_EVEN, Context(prec=before + after))
        if rounded and rounded.adjusted() >= precision - scale:
            raise RefusedError(f"beyond the range of numeric({precision},{scale})")
    return str(number)


def _boolean(value: Any) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        raise RefusedError("neither true nor false")
    return value


def _moment(value: Any) -> str:
    if not isinstance(value, datetime):
        raise RefusedError("not a date and time")
    try:
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not _FIRST <= moment <= _LAST:
        # In another time zone it would lie outside of the years that Python can read back.
        raise RefusedError("less than a day from the first or last moment of the calendar")
    return datetime.isoformat(moment)


def _date(value: Any) -> str:
    if not isinstance(value, date):
        raise RefusedError("not a date")
    return date(value.year, value.month, value.day).isoformat()


def _uuid(value: Any) -> str:
    return str(value if isinstance(value, UUID) else UUID(str(value)))


_CONVERTERS: Final[dict[str, Callable[[Any], Value]]] = {
    "double precision": _double,
    "boolean": _boolean,
    "timestamptz": _moment,
    "date": _date,
    "uuid": _uuid,
}
