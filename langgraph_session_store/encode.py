"""Turn any Python value into JSON that Postgres accepts: total, bounded, deterministic, and fast for plain data.

What JSON or jsonb cannot hold becomes text: NUL and lone surrogates U+FFFD, NaN and infinities ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``, integers of more than 4,200 digits hexadecimal, bytes their text or base64, and unknown objects their
``repr`` without addresses. What is too deep, too large, cyclic or raises becomes a marker in brackets. Nothing is consumed.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from math import isfinite
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr

LIMIT: Final = 16 * 1024 * 1024
"""Characters of one value, roughly; jsonb's own limit is 256 MiB."""
DEPTH: Final = 64
"""Levels of containers. Postgres takes thousands, but readers die of them."""

TRUNCATED: Final = "[truncated]"
TOO_DEEP: Final = "[too deep]"
CYCLE: Final = "[cycle]"

_NODE: Final = 8  # what a value costs beside its text, so that many small ones are bounded too
_STEP: Final = 32  # and in the walk, which costs the graph's thread about a second for every million
_INT_BITS: Final = 13_950  # 4,200 digits: below the 4,300 that Python's own JSON reader refuses
_SHOWN: Final = 1000  # characters of an unknown object's repr
_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_UNFIT_FOR_KEY: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_KEY_LENGTH: Final = 255


def to_json(value: object, limit: int = LIMIT) -> str:
    """Return *value* as JSON text of about *limit* characters at most; never raise."""
    return plain_json(value, limit) or tolerant_json(value, limit)


def plain_json(value: object, limit: int = LIMIT) -> str | None:
    """Return the JSON of plain dicts, lists and scalars that Postgres takes as they are; None for all else."""
    try:
        if not _is_plain(value, limit):
            return None
        data = orjson.dumps(value)
    except Exception:  # foreign keys, big integers, lone surrogates, a dict that another thread changes
        return None
    # A backslash followed by "u0000" in the text looks the same; it only costs the slow path.
    return None if b"\\" in data and b"\\u0000" in data else data.decode()  # one byte is found much faster


def tolerant_json(value: object, limit: int = LIMIT) -> str:
    """Return what `to_json` does, by the walk that takes anything."""
    try:
        return orjson.dumps(_Walk(limit).value(value, 1)).decode()
    except Exception:  # no memory or stack left
        return '"[unreadable]"'


def clean_text(text: str) -> str:
    """Return *text* as Postgres can hold it: NUL and lone surrogates are U+FFFD, split pairs are joined."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def thread_key(value: object) -> str:
    """Return the text that stands for the thread id *value* in the table, for writes and reads alike.

    An id that a varchar(255) cannot hold, or that has control characters, is cut and cleaned, and ends in a hash of the
    original. Applying it again changes nothing.
    """
    text = _plain_text(value)
    if len(text) <= _KEY_LENGTH and not _UNFIT_FOR_KEY.search(text):
        return text
    mark = "~" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return _UNFIT_FOR_KEY.sub("\ufffd", text[: _KEY_LENGTH - len(mark)]) + mark


def _plain_text(value: object) -> str:
    try:
        return str.__str__(value) if isinstance(value, str) else str.__str__(str(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _is_plain(value: object, room: int) -> bool:  # noqa: C901
    """Whether orjson can write *value* exactly as the walk would; bounded, where orjson expands shared references."""
    level: list[Any] = [value]
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for item in level:  # the most common first, with as little as can be done: the graph waits
            kind = type(item)
            if kind is str:
                room -= len(item)
            elif kind is int:
                continue
            elif kind is dict or kind is list:
                room -= _NODE * len(item)
                if room < 0:
                    return False
                if kind is dict:
                    room -= len("".join(item))
                    below += item.values()
                else:
                    below += item
            elif kind is float:
                if not isfinite(item):
                    return False
            elif item is not None and kind is not bool:
                return False
        if not below:
            return room >= 0
        level = below
    return False


class _Walk:
    """One pass over a value: the room that is left, and the objects it stands inside."""

    __slots__ = ("inside", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.inside: set[int] = set()

    def value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911
        """Return *value* as dicts, lists and scalars that orjson writes and jsonb takes."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is int:
            return self.integer(value)
        self.room -= _STEP
        if value is None or kind is bool:
            return value
        if kind is float:
            return _finite(value)
        if self.room <= 0:
            return TRUNCATED
        if id(value) in self.inside:
            return CYCLE
        if depth > DEPTH + 1:
            return TOO_DEEP
        self.inside.add(id(value))
        try:
            return self.other(value, kind, depth)
        except Exception as error:  # the value's own code: properties, iteration, isoformat()
            return f"[unreadable: {type(error).__name__}]"
        finally:
            self.inside.discard(id(value))

    def other(self, value: Any, kind: type, depth: int) -> Any:  # noqa: PLR0911
        """Return what is no plain scalar."""
        if kind is dict:
            return self.mapping(list(value.items()), depth)
        if kind is list:
            return self.sequence(value.copy(), depth)
        scalar = self.scalar(value, kind, depth)
        if scalar is not None:
            return scalar
        if (names := _attributes(kind)) is not None:
            return self.mapping(_public(value, names), depth)
        if issubclass(kind, dict):
            return self.mapping(list(dict.items(value)), depth)
        if issubclass(kind, Mapping):
            return self.mapping(value.items(), depth)
        if issubclass(kind, AbstractSet):
            # The hash of a string differs between processes, and with it a set's order.
            members = self.sequence(value, depth)
            return sorted(members, key=orjson.dumps) if isinstance(members, list) else members
        if issubclass(kind, (Sequence, deque, ValuesView)):
            return self.sequence(value, depth)
        return self.text(_describe(value))

    def scalar(self, value: Any, kind: type, depth: int) -> Any:  # noqa: C901, PLR0911
        """Return what stands for one value in disguise, None for anything else."""
        if issubclass(kind, Enum):
            return self.value(value.value, depth + 1)
        if issubclass(kind, str):
            return self.text(str.__str__(value))
        if issubclass(kind, int):
            return self.integer(int.__int__(value))
        if issubclass(kind, float):
            return _finite(float.__float__(value))
        if issubclass(kind, (date, time)):
            return self.text(value.isoformat())
        if issubclass(kind, timedelta):
            seconds = timedelta.total_seconds(value)
            return self.text(f"{'-' if seconds < 0 else ''}PT{abs(seconds)}S")
        if issubclass(kind, (Decimal, UUID, PurePath, Secret, SecretStr, SecretBytes)):
            return self.text(str(value))
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return self.octets(value)
        if issubclass(kind, RootModel):
            return self.value(value.root, depth + 1)
        if kind.__module__.partition(".")[0] == "numpy" and hasattr(kind, "tolist"):
            return self.numpy(value, kind, depth)
        return None

    def text(self, text: str) -> str:
        room, self.room = self.room, self.room - len(text) - _STEP
        return clean_text(text) if len(text) <= room else clean_text(text[: max(room, 0)]) + TRUNCATED

    def integer(self, number: int) -> Any:
        bits = number.bit_length()
        self.room -= _STEP + bits // 3
        if -(2**63) <= number < 2**64:
            return number
        if self.room < 0:
            return TRUNCATED
        if bits <= _INT_BITS:
            try:
                return orjson.Fragment(str(number))
            except ValueError:  # sys.set_int_max_str_digits() is lower here
                pass
        return hex(number)

    def octets(self, value: bytes | bytearray | memoryview) -> str:
        data = bytes(memoryview(value).cast("B")[: self.room])
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        return self.text(text if (text or not data) and not _BINARY.search(text) else b64encode(data).decode())

    def numpy(self, value: Any, kind: type, depth: int) -> Any:
        if value.size * _STEP > self.room:
            return TRUNCATED
        plain = value.tolist()
        return self.text(_describe(value)) if type(plain) is kind else self.value(plain, depth)

    def mapping(self, items: Iterable[tuple[object, object]], depth: int) -> dict[str, Any] | str:
        if depth > DEPTH:
            return TOO_DEEP
        out: dict[str, Any] = {}
        for key, item in items:
            if self.room <= 0:
                out[TRUNCATED] = TRUNCATED
                break
            out[self.key(key, out, depth)] = self.value(item, depth + 1)
        return out

    def sequence(self, items: Iterable[object], depth: int) -> list[Any] | str:
        if depth > DEPTH:
            return TOO_DEEP
        out: list[Any] = []
        for item in items:
            if self.room <= 0:
                out.append(TRUNCATED)
                break
            out.append(self.value(item, depth + 1))
        return out

    def key(self, key: object, taken: dict[str, Any], depth: int) -> str:
        plain = self.value(key, depth + 1)
        name = text = plain if isinstance(plain, str) else orjson.dumps(plain).decode()
        number = len(taken)
        while name in taken:  # 1 beside "1", or two keys that only differ in what was cleaned
            name, number = f"{text}~{number}", number + 1
        return name


def _finite(number: float) -> float | str:
    if isfinite(number):
        return number
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"  # noqa: PLR0124


@lru_cache(maxsize=512)
def _attributes(kind: type) -> tuple[str, ...] | None:
    """Return the names of the fields of a model, dataclass, attrs class or LangGraph type; None for other classes."""
    if issubclass(kind, BaseModel):
        return tuple(name for name, info in kind.__pydantic_fields__.items() if not info.exclude)
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in kind.__attrs_attrs__)
    if kind.__module__ == "langgraph.types" and hasattr(kind, "__slots__"):
        return tuple(kind.__slots__)
    return None


def _public(value: Any, names: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    for name in names:
        try:
            yield name, getattr(value, name)
        except AttributeError:
            continue  # never set: model_construct(), field(init=False)
        except Exception as error:
            yield name, f"[unreadable: {type(error).__name__}]"
    if isinstance(value, BaseModel):
        yield from (value.__pydantic_extra__ or {}).items()


def _describe(value: object) -> str:
    """Return a bounded ``repr`` without memory addresses, which would differ between two equal states."""
    try:
        text = str.__str__(repr(value))
    except Exception:
        text = f"<{type(value).__name__}>"
    return _ADDRESS.sub("", text if len(text) <= _SHOWN else text[:_SHOWN] + TRUNCATED)
