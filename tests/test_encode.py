"""Whatever a state holds becomes JSON that Postgres and every reader accept."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import pathlib
import sys
import types
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr

from langgraph_session_store.encode import (
    DEPTH,
    LIMIT,
    TRUNCATED,
    clean_text,
    plain_json,
    thread_key,
    to_json,
    tolerant_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_TEXT = st.text(st.characters(codec=None))  # with NUL and lone surrogates
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | ANY_TEXT
    | st.binary(max_size=20)
    | st.datetimes()
    | st.uuids()
    | st.complex_numbers()
)
KEYS = ANY_TEXT | st.integers() | st.none() | st.booleans() | st.floats() | st.tuples(st.integers(), ANY_TEXT)
VALUES = st.recursive(
    SCALARS | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.tuples(inner, inner)
        | st.frozensets(SCALARS, max_size=4)
    ),
    max_leaves=20,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ANY_TEXT, inner, max_size=5),
    max_leaves=20,
)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def read(text: str) -> Any:
    """Read JSON as strictly as jsonb does."""
    value = json.loads(text, parse_constant=refuse)
    for found in strings(value):
        found.encode()
        assert "\x00" not in found
    return value


def depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(depth, children), default=0)


@given(VALUES)
def test_any_value_is_strict_json(value: Any) -> None:
    read(to_json(value))


@given(VALUES)
def test_what_was_written_is_written_the_same_again(value: Any) -> None:
    once = read(to_json(value))
    assert read(to_json(once)) == once


@given(PLAIN)
def test_both_paths_agree(value: Any) -> None:
    assert to_json(value) == tolerant_json(value)


@given(PLAIN)
def test_plain_values_without_oddities_come_back_as_they_were(value: Any) -> None:
    text = plain_json(value)
    if text is not None:
        assert json.loads(text) == value


@given(value=VALUES)
@settings(max_examples=200)
def test_any_value_round_trips_through_jsonb(value: Any, jsonb: psycopg.Cursor[Any]) -> None:
    text = to_json(value)
    row = jsonb.execute("select (%s::jsonb)::text", [text]).fetchone()
    assert row is not None
    # jsonb writes 6e16 as 60000000000000000
    one, other = (json.loads(each, parse_float=decimal.Decimal, parse_int=decimal.Decimal) for each in (row[0], text))
    assert one == other


@pytest.fixture(scope="module")
def jsonb(dsn: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


class Color(enum.Enum):
    RED = "red"
    DEEP = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    UNIT = "unit"


class Case(BaseModel):
    model_config = ConfigDict(extra="allow")
    given: list[int]
    when: dt.datetime = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    hidden: str = Field("no", exclude=True)


class Cases(RootModel[list[Case]]):
    pass


@dataclasses.dataclass(slots=True)
class Point:
    x: int
    color: Color = Color.RED
    late: int = dataclasses.field(init=False)


@define
class Attrs:
    a: int


class Pair(tuple[int, int]):
    __slots__ = ()


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "lies"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ({"\x00": 1, "\ud800": 2}, {"\ufffd": 1, "\ufffd~1": 2}),
        ("\\u0000", "\\u0000"),
        ([float("nan"), float("inf"), float("-inf")], ["NaN", "Infinity", "-Infinity"]),
        (2**64, 2**64),
        (-(2**63) - 1, -(2**63) - 1),
        (10**4200, hex(10**4200)),
        ({1: "a", "1": "b"}, {"1": "a", "1~1": "b"}),
        ({None: 1, 1.5: 2, (1, "x"): 3, Color.RED: 4}, {"null": 1, "1.5": 2, '[1,"x"]': 3, "red": 4}),
        (Color.RED, "red"),
        (Color.DEEP, [1, 2]),
        ([Level.LOW, Kind.UNIT], [1, "unit"]),
        (Text("true"), "true"),
        (Pair((1, 2)), [1, 2]),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({3, 1, 2}), [1, 2, 3]),
        (collections.deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.values(), [1]),
        (array.array("i", [1, 2]), [1, 2]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (b"text", "text"),
        (b"", ""),
        (b"\x00\xff", "AP8="),
        (b"\x00", "AA=="),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a"), "/a"),
        (dt.datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),  # noqa: DTZ001
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(hours=-1), "-PT3600.0S"),
        (Case(given=[1], more="x"), {"given": [1], "when": "2026-01-02T00:00:00+00:00", "more": "x"}),
        (Cases([Case(given=[])]), [{"given": [], "when": "2026-01-02T00:00:00+00:00"}]),
        (Point(1), {"x": 1, "color": "red"}),
        (Attrs(1), {"a": 1}),
        (SecretStr("hunter2"), "**********"),
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.float32("nan"), "NaN"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (Send("node", {"a": 1}), {"node": "node", "arg": {"a": 1}, "timeout": None}),
        (fractions.Fraction(1, 2), "Fraction(1, 2)"),
        (1 + 2j, "(1+2j)"),
        (int, "<class 'int'>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_value(value: Any, expected: Any) -> None:
    found = read(to_json(value))
    assert found == expected
    assert type(found) is type(expected)


def test_messages_are_their_fields() -> None:
    [human, ai] = read(
        to_json([HumanMessage("hi"), AIMessage("yo", tool_calls=[{"name": "f", "args": {}, "id": "1"}])])
    )
    assert (human["type"], human["content"]) == ("human", "hi")
    assert ai["tool_calls"][0]["name"] == "f"


def test_langgraphs_own_types_are_their_fields() -> None:
    assert read(to_json(Command(update={"a": 1}, goto="b"))).items() >= {"update": {"a": 1}, "goto": "b"}.items()
    assert read(to_json(Interrupt(value="why", id="i"))).items() >= {"value": "why", "id": "i"}.items()


def test_data_frames_are_bounded_text() -> None:
    assert "50000" in read(to_json(pd.DataFrame({"a": range(50_000)})))


def test_generators_and_iterators_are_not_consumed() -> None:
    generator = (n for n in range(3))
    iterators = [iter([1]), map(str, [1]), zip([1], [2], strict=True), generator]
    assert all(isinstance(text, str) for text in read(to_json({"a": iterators}))["a"])
    assert list(generator) == [0, 1, 2]
    assert [len(list(iterator)) for iterator in iterators] == [1, 1, 1, 0]


def test_two_equal_states_give_one_text() -> None:
    assert to_json(object()) == to_json(object())
    assert to_json(n for n in ()) == to_json(n for n in ())


def test_cycles_are_marked() -> None:
    cyclic: dict[str, Any] = {"a": [1]}
    cyclic["a"].append(cyclic)
    assert read(to_json(cyclic)) == {"a": [1, "[cycle]"]}


def test_shared_values_are_no_cycle() -> None:
    shared = {"a": object}
    assert read(to_json([shared, shared])) == [{"a": "<class 'object'>"}] * 2


@pytest.mark.parametrize("leaf", [1, object()], ids=["plain", "odd"])
@pytest.mark.parametrize("levels", [DEPTH, DEPTH + 1, 10_000])
def test_depth_is_bounded(levels: int, leaf: object) -> None:
    value: Any = leaf
    for _ in range(levels):
        value = [value]
    text = to_json(value)
    assert depth(read(text)) == DEPTH
    assert ("[too deep]" in text) == (levels > DEPTH)


def test_depth_is_bounded_through_dicts_and_objects() -> None:
    value: Any = 1
    for level in range(3_000):
        value = {"a": value} if level % 2 else types.MappingProxyType({"a": value})
    assert depth(read(to_json(value))) == DEPTH


def doubling(levels: int) -> Any:
    value: Any = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


HUGE: dict[str, Callable[[], Any]] = {
    "references": lambda: doubling(40),
    "keys": lambda: {"k" * 1_000_000: 1, "a": [{"k" * 1_000_000: 1}] * 1_000},
    "strings": lambda: ["x" * 1_000_000] * 1_000,
    "text": lambda: "x" * (LIMIT + 1),
    "bytes": lambda: b"\xff" * (LIMIT * 2),
    "range": lambda: range(10**12),
    "array": lambda: np.zeros(LIMIT),
    "lists": lambda: [[] for _ in range(LIMIT // 7)],
    "integer": lambda: 1 << (8 * LIMIT),
    "odd": lambda: [object(), doubling(40)],
}


@pytest.mark.parametrize("make", HUGE.values(), ids=HUGE)
def test_size_is_bounded_and_marked(make: Callable[[], Any]) -> None:
    text = to_json(make())
    assert len(text) < 2 * LIMIT
    assert TRUNCATED in text
    read(text)


@pytest.mark.parametrize("value", [["abc"] * 1_000, {str(n): [n] for n in range(1_000)}, "a\x00" * 1_000, object()])
def test_a_small_limit_holds(value: Any) -> None:
    text = to_json(value, 200)
    assert len(text) < 500
    read(text)


def test_five_megabytes_are_kept_whole() -> None:
    value = {"log": "line\n" * 1_000_000}
    assert read(to_json(value)) == value


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise ValueError


class NoText:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class Recursive:
    def __repr__(self) -> str:
        return repr(self)


class BadModel(BaseModel):
    a: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "a":
            raise OSError
        return super().__getattribute__(name)


class BadMapping(collections.UserDict[str, int]):
    def items(self) -> Any:
        raise KeyError


class BadDate(dt.datetime):
    def isoformat(self, *args: Any, **kwargs: Any) -> str:
        raise RuntimeError


class BadSequence(collections.UserList[int]):
    def __iter__(self) -> Any:
        yield 1
        raise RuntimeError


class BadMeta(type):
    def __hash__(cls) -> int:
        raise RuntimeError

    def __repr__(cls) -> str:
        raise RuntimeError


class OfBadMeta(metaclass=BadMeta):
    pass


class Endless(enum.Enum):
    A = 1

    @property
    def value(self) -> Any:
        return [Endless.A]


HOSTILE: dict[str, Callable[[], Any]] = {
    "attributes": Hostile,
    "repr": NoText,
    "recursion": Recursive,
    "model": BadModel,
    "unset": BadModel.model_construct,
    "mapping": lambda: BadMapping(a=1),
    "date": lambda: BadDate(2026, 1, 1),
    "sequence": lambda: BadSequence([1]),
    "instance": OfBadMeta,
    "class": lambda: OfBadMeta,
    "enum": lambda: Endless.A,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_value_costs_only_itself(make: Callable[[], Any]) -> None:
    value = make()
    found = read(to_json({"bad": value, "list": [value], "good": 1}))
    assert found["good"] == 1
    assert found["bad"] is not None
    assert found["list"]


def test_a_hostile_key_loses_no_value() -> None:
    assert sorted(read(to_json({NoText(): 1, NoText(): 2})).values()) == [1, 2]


def test_keys_that_meet_keep_every_value() -> None:
    value = {object(): n for n in range(500)}
    assert sorted(read(to_json(value)).values()) == list(range(500))


def test_no_stack_left() -> None:
    def descend() -> str:
        try:
            return descend()
        except RecursionError:
            return to_json({"a": [object()]})

    read(descend())


def test_a_lower_limit_for_digits() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert read(to_json(10**1_000)) == hex(10**1_000)
    finally:
        sys.set_int_max_str_digits(before)


@given(ANY_TEXT)
def test_clean_text_fits_postgres_and_is_stable(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert "\x00" not in clean
    assert clean_text(clean) == clean
    if "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text):
        assert clean == text


@given(st.text(st.characters(codec=None), max_size=600) | st.integers() | st.uuids() | st.none())
def test_thread_key_fits_its_column_and_is_stable(value: Any) -> None:
    key = thread_key(value)
    assert len(key) <= 255
    assert not any(char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" for char in key)
    assert thread_key(key) == key
    assert bool(key) == bool(str(value))


@given(
    st.text(st.sampled_from("a\x00\n\ud800\ufffd"), max_size=6),
    st.text(st.sampled_from("a\x00\n\ud800\ufffd"), max_size=6),
)
def test_no_two_thread_ids_meet(one: str, other: str) -> None:
    assert (thread_key(one) == thread_key(other)) == (one == other)


def test_long_thread_ids_differ_by_their_ends() -> None:
    keys = {thread_key("x" * 300 + end) for end in ("", "a", "b", "\x00")}
    assert len(keys) == 4
    assert all(key.startswith("x" * 200) for key in keys)


@pytest.mark.parametrize(
    ("value", "expected"), [(7, "7"), (uuid.UUID(int=5), str(uuid.UUID(int=5))), ("ü ✓", "ü ✓"), (Kind.UNIT, "unit")]
)
def test_ordinary_thread_ids_are_their_text(value: Any, expected: str) -> None:
    assert thread_key(value) == expected


def test_a_thread_id_that_cannot_be_read() -> None:
    assert thread_key(NoText()) == "<NoText>"
