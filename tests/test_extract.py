"""Whatever the state holds, the row's values fit their columns, and what did not is explained."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import json
import re
import types
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from psycopg import sql
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from langgraph_session_store.errors import DataError
from langgraph_session_store.extract import Fields, extract, field_value
from langgraph_session_store.record import Column, SessionRecord, record_fields
from langgraph_session_store.records import MessagesSession, ProblemSession
from langgraph_session_store.redact import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Color(enum.Enum):
    RED = "red"


class Other(enum.Enum):
    RED = "red"


class Level(enum.Enum):
    LOW = 1


class Part(BaseModel):
    n: int
    note: str = "none"


class Everything(SessionRecord):
    text: str | None = None
    short: Annotated[str | None, Column(sql="varchar(5)")] = None
    indexed: Annotated[str | None, Column(index=True)] = None
    small: Annotated[int | None, Column(sql="smallint")] = None
    integer: Annotated[int | None, Column(sql="integer")] = None
    big: int | None = None
    double: float | None = None
    exact: Decimal | None = None
    money: Annotated[Decimal | None, Column(sql="numeric(5,2)")] = None
    wide: Annotated[int | None, Column(sql="numeric")] = None
    flag: bool | None = None
    moment: dt.datetime | None = None
    day: dt.date | None = None
    ident: uuid.UUID | None = None
    color: Color | None = None
    level: Level | None = None
    choice: Literal["a", "b"] | None = None
    anything: Any = None
    numbers: list[float] | None = None
    members: set[str] | None = None
    part: Part | None = None
    parts: dict[str, Part] | None = None
    as_text: Annotated[Any, Column(sql="text")] = None
    as_number: Annotated[Any, Column(sql="bigint")] = None
    as_moment: Annotated[Any, Column(sql="timestamptz")] = None
    as_json: Annotated[str | None, Column(sql="jsonb")] = None


def carried(fields: Fields, *modes: str) -> dict[str, Any]:
    pairs = zip(fields.shape, fields.values, strict=True)
    return {slot.name: value for slot, value in pairs if not modes or slot.mode in modes}


def store(name: str, value: Any, record: type[SessionRecord] = Everything) -> tuple[Any, dict[str, Any]]:
    """Return what one field stores for *value*, and why not."""
    fields = extract(record, {name: value})
    return carried(fields)[name], fields.rejected.get(name, {})


MOMENT = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=2)))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "a\x00b\ud800", "a\ufffdb\ufffd"),
        ("text", Color.RED, "red"),
        ("text", np.str_("x"), "x"),
        ("text", b"bytes", "bytes"),
        ("text", "x" * 5_000_000, "x" * 5_000_000),
        ("short", "12345", "12345"),
        ("short", "\U0001f600" * 5, "\U0001f600" * 5),
        ("indexed", "x" * 2_600, "x" * 2_600),
        ("small", -(2**15), -(2**15)),
        ("integer", "3", 3),
        ("integer", 3.0, 3),
        ("integer", Level.LOW, 1),
        ("integer", np.int64(3), 3),
        ("big", 2**63 - 1, 2**63 - 1),
        ("big", np.array(7), 7),
        ("double", np.float32(1.5), 1.5),
        ("double", 3, 3.0),
        ("exact", Decimal("1.10"), "1.10"),
        ("exact", 0.1, "0.1"),
        ("exact", "1e5", "1E+5"),
        ("money", "999.99", "999.99"),
        ("money", "0.001", "0.001"),
        ("wide", 10**100, str(10**100)),
        ("flag", np.bool_(True), True),
        ("flag", "yes", True),
        ("moment", MOMENT, "2026-01-02T01:04:00+00:00"),
        ("moment", dt.datetime(2026, 1, 2), "2026-01-02T00:00:00+00:00"),  # noqa: DTZ001
        ("moment", "2026-01-02T03:04:00+02:00", "2026-01-02T01:04:00+00:00"),
        ("moment", np.datetime64("2026-01-02T00:00:00"), "2026-01-02T00:00:00+00:00"),
        ("day", dt.date(2026, 1, 2), "2026-01-02"),
        ("ident", uuid.UUID(int=1), str(uuid.UUID(int=1))),
        ("ident", str(uuid.UUID(int=1)), str(uuid.UUID(int=1))),
        ("color", Color.RED, "red"),
        ("color", "red", "red"),
        ("color", Other.RED, "red"),
        ("level", Level.LOW, 1),
        ("level", 1, 1),
        ("choice", "a", "a"),
        ("anything", {"a": {1, 2}}, '{"a":[1,2]}'),
        ("anything", float("nan"), '"NaN"'),
        ("anything", "text", '"text"'),
        ("anything", {"\x00": "\ud800"}, '{"\ufffd":"\ufffd"}'),
        ("anything", 10**30, str(10**30)),
        ("numbers", [1, "2", np.float64(3.5)], "[1.0,2.0,3.5]"),
        ("numbers", np.array([1.5, 2.5]), "[1.5,2.5]"),
        ("numbers", [float("inf")], '["Infinity"]'),
        ("numbers", (1.5,), "[1.5]"),
        ("members", {"b", "a"}, '["a","b"]'),
        ("part", Part(n=1), '{"n":1,"note":"none"}'),
        ("part", {"n": "1", "more": 2}, '{"n":1,"note":"none"}'),
        ("parts", {"a": Part(n=1)}, '{"a":{"n":1,"note":"none"}}'),
        ("as_text", {"a": 1}, '{"a":1}'),
        ("as_text", 5, "5"),
        ("as_text", Part(n=1), '{"n":1,"note":"none"}'),
        ("as_text", b"x", "x"),
        ("as_number", 5, 5),
        ("as_number", True, 1),
        ("as_json", "x", '"x"'),
        ("text", None, None),
        ("flag", None, None),
    ],
    # A set has another order in each process, and all workers must call a test the same.
    ids=lambda value: "set" if isinstance(value, set) else str(value)[:20].encode("ascii", "replace").decode(),
)
def test_what_fits_is_stored(name: str, value: Any, expected: Any) -> None:
    found, note = store(name, value)
    assert note == {}
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("text", 5, "valid string"),
        ("text", HumanMessage("hi"), "valid string"),
        ("text", b"\xff", "valid string"),
        ("short", "123456", "longer than 5 characters"),
        ("indexed", "x" * 2_601, "2,600 bytes"),
        ("indexed", "ü" * 1_301, "2,600 bytes"),
        ("small", 2**15, "range of smallint"),
        ("integer", 2**31, "range of integer"),
        ("integer", "x", "valid integer"),
        ("integer", 1.5, "valid integer"),
        ("big", 2**63, "range of bigint"),
        ("big", -(2**63) - 1, "range of bigint"),
        ("big", 10**5_000, "range of bigint"),
        ("double", float("nan"), "finite"),
        ("double", float("-inf"), "finite"),
        ("double", np.float64("nan"), "finite"),
        ("double", 10**400, "."),
        ("exact", Decimal("NaN"), "finite"),
        ("exact", Decimal("1E+131072"), "range of numeric"),
        ("exact", Decimal("1E-16384"), "range of numeric"),
        ("money", "999.995", r"numeric\(5,2\)"),
        ("money", "1e9", r"numeric\(5,2\)"),
        ("wide", 10**140_000, "range of numeric"),
        ("flag", "maybe", "valid boolean"),
        ("flag", 2, "valid boolean"),
        ("moment", dt.datetime.max, "calendar"),  # noqa: DTZ901
        ("moment", dt.datetime.min, "calendar"),  # noqa: DTZ901
        ("moment", dt.datetime.min.replace(tzinfo=MOMENT.tzinfo), "calendar"),
        ("moment", "infinity", "valid datetime"),
        ("day", "2026-13-01", "valid date"),
        ("ident", "x", "valid UUID"),
        ("color", "blue", "'red'"),
        ("choice", "c", "'a' or 'b'"),
        ("numbers", [1, "x"], "^1: .*valid number"),
        ("numbers", (n for n in range(3)), "valid list"),
        ("members", 5, "valid set"),
        ("part", {"n": "x"}, "^n: .*valid integer"),
        ("as_number", "5", "not an integer"),
        ("as_moment", "2026-01-02", "not a date and time"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_does_not_fit_is_null_and_explained(name: str, value: Any, reason: str) -> None:
    fields = extract(Everything, {name: value})
    assert carried(fields, "set")[name] is None
    assert list(fields.rejected) == [name]
    note = fields.rejected[name]
    assert note["kind"] == type(value).__name__
    assert re.search(reason, str(note["reason"]))
    assert len(json.dumps(note)) < 1_000


ANY_TEXT = st.text(st.characters(codec=None))
ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**50), max_value=10**50)
    | st.floats()
    | st.decimals()
    | ANY_TEXT
    | st.binary()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.uuids()
    | st.sampled_from([Color.RED, Level.LOW, np.float64("inf"), np.int8(5), np.array([1, 2]), object(), int, len])
    | st.text("0123456789-.e:TZ+", max_size=12)
    | st.lists(st.integers() | st.floats() | ANY_TEXT)
    | st.dictionaries(ANY_TEXT, st.integers() | ANY_TEXT)
    | st.sets(ANY_TEXT)
)


CASTS = sql.SQL(", ").join(sql.SQL("%s::" + column.sql_type) for column in record_fields(Everything))


@pytest.fixture(scope="module")
def far_east(dsn: str) -> Iterator[psycopg.Cursor[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("set timezone to 'Asia/Tokyo'")  # where the last hours of the year 9999 are in the year 10000
        yield cursor


@given(state=st.fixed_dictionaries({}, optional=dict.fromkeys(Everything.model_fields, ODD)))
@settings(max_examples=300)
def test_postgres_takes_every_value_and_gives_it_back(state: dict[str, Any], far_east: psycopg.Cursor[Any]) -> None:
    fields = extract(Everything, state)
    values = carried(fields)
    assert values.keys() == state.keys()
    given_ = [values.get(name) for name in Everything.model_fields]
    row = far_east.execute(sql.SQL("select {}").format(CASTS), given_).fetchone()
    assert row is not None
    for name, sent, stored in zip(Everything.model_fields, given_, row, strict=True):
        assert (stored is None) == (sent in (None, "null"))
        if sent is None and state.get(name) is not None:
            assert fields.rejected.keys() & {name, "..."}


def test_messages_in_a_field_of_their_own() -> None:
    class Talk(SessionRecord):
        messages: list[dict[str, Any]] | None = None

    [text] = extract(Talk, {"messages": [HumanMessage("hi")]}).values
    assert json.loads(str(text))[0]["content"] == "hi"


def test_generators_are_never_consumed() -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)

    for name in Everything.model_fields:
        for make in (numbers, lambda: [numbers()], lambda: {"a": numbers()}, lambda: map(str, [1, 2, 3])):
            value = make()
            extract(Everything, {name: value})
            inner = value[0] if isinstance(value, list) else value["a"] if isinstance(value, dict) else value
            assert len(list(inner)) == 3, name


def test_a_field_of_iterables_keeps_what_was_written() -> None:
    class Lazy(SessionRecord):
        items: collections.abc.Iterable[int] | None = None

    assert extract(Lazy, {"items": [1, 2]}).values == ("[1,2]",)


def test_cycles_and_depth_are_no_error() -> None:
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    deep: Any = "leaf"
    for _ in range(10_000):
        deep = [deep]
    assert store("anything", cyclic) == ('{"self":"[cycle]"}', {})
    value, note = store("anything", deep)
    assert note == {}
    assert "[too deep]" in value
    assert store("text", deep)[1]["kind"] == "list"


def test_the_state_is_not_changed() -> None:
    class Meddling(SessionRecord):
        items: Annotated[list[Any] | None, Column(redact=lambda items: items.clear())] = None
        counts: Annotated[int | None, Column("found.missing")] = None

    state = {"items": [1, 2], "found": collections.defaultdict(int)}
    assert extract(Meddling, state).values == (None,)
    assert state == {"items": [1, 2], "found": {}}


# --- where values come from ---


@dataclass
class Problem:
    description: str = "of a dataclass"
    tests: list[int] = field(default_factory=lambda: [1])


class ProblemModel(BaseModel):
    description: str = "of a model"
    tests: list[int] = [2]


@pytest.mark.parametrize(
    ("state", "description", "tests"),
    [
        ({"problem": {"description": "d", "tests": [3]}}, "d", "[3]"),
        ({"problem": Problem()}, "of a dataclass", "[1]"),
        ({"problem": ProblemModel()}, "of a model", "[2]"),
        ({"problem": types.SimpleNamespace(description="d", tests=())}, "d", "[]"),
        ({"problem_description": "own", "problem_tests": []}, "own", "[]"),
        ({"problem": None, "problem_description": "own", "problem_tests": []}, "own", "[]"),
        ({"problem": "text", "problem_description": "own", "problem_tests": []}, "own", "[]"),
        ({"problem": {"description": "first"}, "problem_description": "own", "problem_tests": [4]}, "first", "[4]"),
        ({"problem": {"description": None, "tests": None}, "problem_description": "own"}, "own", None),
    ],
)
def test_a_problem_is_found_wherever_it_is(state: Any, description: str, tests: str | None) -> None:
    fields = extract(ProblemSession, state)
    assert carried(fields) == {"problem_description": description, "problem_tests": tests}


class StateModel(BaseModel):
    topic: str = "arrays"


@pytest.mark.parametrize(
    "make",
    [
        StateModel,
        lambda: types.SimpleNamespace(topic="arrays"),
        lambda: types.MappingProxyType({"topic": "arrays"}),
    ],
)
def test_states_of_any_kind(make: Callable[[], Any]) -> None:
    assert carried(extract(ProblemSession, make())) == {"topic": "arrays"}


@pytest.mark.parametrize("state", [None, "text", 5, [], [1], object(), b"", {}, {"other": 1}])
def test_states_that_hold_no_field(state: Any) -> None:
    assert extract(ProblemSession, state) == ((), (), {}, None)


class Paths(SessionRecord):
    first: Annotated[Any, Column("items.0")] = None
    last: Annotated[Any, Column("items.-1.name")] = None
    keyed: Annotated[Any, Column("table.5")] = None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"items": [1, {"name": 2}]}, {"first": "1", "last": "2"}),
        ({"items": collections.deque([{"name": 1}])}, {"first": '{"name":1}', "last": "1"}),
        ({"items": []}, {}),
        ({"items": "text"}, {}),
        ({"items": {"0": 1}}, {"first": "1"}),
        ({"table": {5: "int"}}, {"keyed": '"int"'}),
        ({"table": {"5": "text"}}, {"keyed": '"text"'}),
        ({"items": None}, {}),
    ],
)
def test_paths(state: Any, expected: Any) -> None:
    assert carried(extract(Paths, state)) == expected


def test_methods_are_no_values() -> None:
    class Shadow(SessionRecord):
        title: Annotated[Any, Column("text.title")] = None
        dump: Annotated[Any, Column("model.model_dump")] = None
        made: Annotated[Any, Column("model.model_construct")] = None

    assert carried(extract(Shadow, {"text": "x", "model": Part(n=1)})) == {}


def test_a_callable_says_that_the_state_lacks_the_value() -> None:
    class Computed(SessionRecord):
        one: Annotated[int | None, Column(lambda state: state["a"]["b"])] = None
        two: Annotated[int | None, Column((lambda state: state.nothing, "c"))] = None
        three: Annotated[int | None, Column(lambda state: 1 // 0)] = None

    fields = extract(Computed, {"c": 2, "a": {}})
    assert carried(fields) == {"two": 2, "three": None}
    assert fields.rejected == {"three": {"reason": "reading it raised ZeroDivisionError"}}


class Measured(SessionRecord):
    size: Annotated[int | None, Column(lambda state: len(state["items"]))] = None


def test_a_callable_is_not_asked_where_there_is_no_state() -> None:
    assert extract(Measured, None) == Fields((), (), {}, None)


def test_a_callable_that_the_input_does_not_suit_says_nothing_yet() -> None:
    assert extract(Measured, {"items": None}, start=True) == Fields((), (), {}, None)
    assert "size" in extract(Measured, {"items": None}).rejected


def test_what_raises_when_read_costs_only_its_field() -> None:
    class Trap:
        topic = "arrays"

        @property
        def code(self) -> str:
            raise OSError("secret")

    fields = extract(ProblemSession, Trap())
    assert carried(fields) == {"topic": "arrays", "code": None}
    assert fields.rejected == {"code": {"reason": "reading it raised OSError"}}


# --- how values are written ---


class Defaults(SessionRecord):
    resolved: bool = False
    count: int = 5
    tags: list[str] = Field(default_factory=lambda: ["new"])
    none: str | None = None
    required: str
    level: Level = Level.LOW
    bad: Annotated[str, Column(sql="varchar(2)")] = "too long"


def test_what_the_state_lacks_is_its_default_in_a_new_row() -> None:
    fields = extract(Defaults, {"count": 7})
    assert carried(fields, "set") == {"count": 7}
    defaults = {"resolved": False, "tags": '["new"]', "level": 1, "bad": None}
    assert carried(fields, "default") == defaults
    assert list(fields.rejected) == ["bad"]


def test_none_in_the_state_is_null_not_the_default() -> None:
    assert carried(extract(Defaults, {"resolved": None}), "set") == {"resolved": None}


def test_the_input_of_a_channel_with_a_reducer_fills_only_null() -> None:
    class Mixed(SessionRecord):
        plain: int | None = None
        summed: int | None = None
        nested: Annotated[int | None, Column("summed_too.a")] = None
        second: Annotated[int | None, Column(("absent", "summed"))] = None
        computed: Annotated[int | None, Column(lambda state: state["plain"])] = None

    state = {"plain": 1, "summed": 2, "summed_too": {"a": 3}}
    reducers = frozenset({"summed", "summed_too"})
    start = extract(Mixed, state, reducers=reducers, start=True)
    assert carried(start, "set") == {"plain": 1}
    assert carried(start, "fill") == {"summed": 2, "nested": 3, "second": 2, "computed": 1}
    end = extract(Mixed, state, reducers=reducers)
    assert carried(end, "set") == carried(end) == carried(start)


def test_slots_describe_their_columns() -> None:
    [slot] = extract(ProblemSession, {"code": "x"}).shape
    assert slot == ("code", "text", "set", "versioned")


# --- status ---


def test_a_run_whose_tests_fail_failed() -> None:
    assert extract(ProblemSession, {"tests_passed": False}).status == "failed"
    assert extract(ProblemSession, {"tests_passed": "no"}).status == "failed"
    assert extract(ProblemSession, {"tests_passed": True}).status is None
    assert extract(ProblemSession, {}).status is None


def test_at_the_start_there_is_no_status() -> None:
    assert extract(ProblemSession, {"tests_passed": False}, start=True).status is None


class Judged(SessionRecord):
    verdict: Annotated[Any, Column(sql="text")] = None
    small: Annotated[int, Column(sql="smallint")] = 1

    def workflow_status(self) -> Any:
        if self.verdict == "raise":
            raise RuntimeError("secret")
        return self.verdict if self.small is not None else "failed"


@pytest.mark.parametrize("verdict", ["abandoned", "failed"])
def test_a_status_of_the_records_own(verdict: str) -> None:
    assert extract(Judged, {"verdict": verdict}).status == verdict


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [("raise", "raised RuntimeError"), ("done", "must return"), (5, "must return"), ([], "raised|must")],
)
def test_a_status_that_is_none(verdict: Any, reason: str) -> None:
    fields = extract(Judged, {"verdict": verdict})
    assert fields.status is None
    assert "secret" not in str(fields.rejected)
    assert any(part in str(fields.rejected["workflow_status"]["reason"]) for part in reason.split("|"))


def test_the_status_sees_only_values_that_were_kept() -> None:
    assert extract(Judged, {"small": 2**20}).status == "failed"


# --- what may be shown ---


class Hidden(SessionRecord):
    text: Annotated[str | None, Column(redact=True)] = None
    items: Annotated[list[Any] | None, Column(redact=True)] = None
    number: Annotated[int | None, Column(redact=True)] = None
    tiny: Annotated[str | None, Column(redact=True, sql="varchar(5)")] = None
    last_four: Annotated[str | None, Column(redact=lambda text: text[-4:])] = None
    broken: Annotated[str | None, Column(redact=lambda text: 1 // 0)] = None
    broken_items: Annotated[list[Any] | None, Column(redact=lambda items: 1 // 0)] = None
    broken_number: Annotated[int | None, Column(redact=lambda number: 1 // 0)] = None
    masked: Annotated[dict[str, Any] | None, Column(redact=lambda value: {**value, "key": "*"})] = None
    choosy: Annotated[str | None, Column(redact=True)] = None
    plain: str | None = None

    @field_validator("choosy")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError(f"not {value}")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "secret", MASK),
        ("text", None, None),
        ("items", ["secret"], f'"{MASK}"'),
        ("number", 4321, None),
        ("tiny", "secre", None),
        ("last_four", "secret-1234", "1234"),
        ("broken", "secret", MASK),
        ("broken_items", ["secret"], f'"{MASK}"'),
        ("broken_number", 4321, None),
        ("masked", {"key": "secret", "a": 1}, '{"key":"*","a":1}'),
        ("plain", "open", "open"),
    ],
)
def test_redacted_fields(name: str, value: Any, expected: Any) -> None:
    assert store(name, value, Hidden) == (expected, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", ["secret"]),
        ("items", "secret"),
        ("number", "secret"),
        ("choosy", "secret"),
        ("masked", {"k": "secret", 5: object}.keys()),
    ],
)
def test_rejected_values_of_redacted_fields_are_not_shown(name: str, value: Any) -> None:
    stored, note = store(name, value, Hidden)
    assert stored is None
    assert note["preview"] == MASK
    assert "secret" not in str(note)


def test_the_recorders_redaction_sees_every_field() -> None:
    def redact(name: str, value: Any) -> Any:
        if name == "code":
            raise RuntimeError
        if isinstance(value, list):
            value.clear()
        return value.replace("bob", "***") if isinstance(value, str) else value

    state = {
        "user_prompt": "i am bob",
        "topic": "bob" * 99,
        "code": "bob",
        "code_attempts": 3,
        "problem_tests": ["bob"],
        "difficulty": 5,
    }
    fields = extract(ProblemSession, state, redact=redact)
    assert carried(fields) == {
        "user_prompt": "i am ***",
        "topic": None,
        "difficulty": None,
        "problem_tests": "[]",
        "code": MASK,
        "code_attempts": 3,
    }
    assert state["problem_tests"] == ["bob"]
    assert "bob" not in str(fields.rejected)
    assert fields.rejected["difficulty"]["preview"] == MASK


def test_both_redactions_apply() -> None:
    fields = extract(Hidden, {"last_four": "secret-1234", "text": "secret"}, redact=lambda name, value: f"<{value}>")
    assert carried(fields) == {"last_four": "<1234>", "text": f"<{MASK}>"}


def test_previews_are_short_and_without_credentials() -> None:
    note = store("integer", "password=hunter2 " + "x\x00" * 500)[1]
    assert "hunter2" not in str(note)
    assert "\x00" not in str(note)
    assert len(str(note["preview"])) <= 101
    assert store("text", [{"password": "hunter2"}] * 100_000)[1]["kind"] == "list"
    assert "hunter2" not in str(store("text", [{"password": "hunter2"}])[1])


@pytest.mark.parametrize(
    ("raw", "preview"),
    [
        (float("nan"), "NaN"),
        ("NaN", "NaN"),
        (uuid.UUID(int=1), f"{uuid.UUID(int=1)}"),
        (["a"], '["a"]'),
        ('"a"', '"a"'),
    ],
)
def test_a_preview_has_the_quotes_of_what_it_shows_only(raw: Any, preview: str) -> None:
    assert store("integer", raw)[1]["preview"] == preview


def test_only_so_many_fields_are_explained() -> None:
    wide = type(SessionRecord)(
        "Wide", (SessionRecord,), {"__module__": __name__, "__annotations__": {f"f{n}": int for n in range(100)}}
    )
    fields = extract(wide, {f"f{n}": "x" * 10_000 for n in range(100)})
    assert len(fields.values) == 100
    assert len(fields.rejected) == 21
    assert "more fields" in str(fields.rejected["..."]["reason"])
    assert len(json.dumps(fields.rejected)) < 10_000


# --- records that misbehave ---


def test_a_record_whose_own_code_raises() -> None:
    def explode() -> Any:
        raise RuntimeError

    class Broken(SessionRecord):
        good: str | None = None
        made: Annotated[int, Field(default_factory=explode)]

        def model_post_init(self, context: Any) -> None:
            explode()

    fields = extract(Broken, {"good": "x"})
    assert carried(fields)["good"] == "x"
    assert fields.rejected == {"made": {"reason": "reading it raised RuntimeError"}}


def test_one_extraction_does_not_leak_into_the_next() -> None:
    assert extract(ProblemSession, {"tests_passed": False}).status == "failed"
    assert extract(ProblemSession, {}).status is None


def test_a_conversation_at_the_start_fills() -> None:
    fields = extract(MessagesSession, {"messages": [HumanMessage("hi")]}, reducers=frozenset({"messages"}), start=True)
    assert {slot.mode for slot in fields.shape} == {"fill"}


# --- one value ---


def test_one_value_as_its_column_holds_it() -> None:
    assert field_value(ProblemSession, "topic", Color.RED) == "red"
    assert field_value(ProblemSession, "problem_tests", [1]) == "[1]"
    assert field_value(ProblemSession, "topic", None) is None


def test_one_value_that_its_column_cannot_hold() -> None:
    with pytest.raises(DataError, match="topic: longer than 50 characters") as caught:
        field_value(ProblemSession, "topic", "secret" * 50)
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="choosy: value_error"):
        field_value(Hidden, "choosy", "secret")


class Quick(SessionRecord):
    text: str | None = None
    short: Annotated[str, Column(sql="varchar(3)")] = "-"
    number: int | None = None
    share: float | None = None
    flag: bool | None = None
    items: list[Any] | None = None
    odd: Annotated[int, Column(sql="smallint")] = 2**40
    made: list[int] = Field(default_factory=lambda: [1])


class Checked(Quick):
    """The same fields, of which none is plain enough for what needs no validation."""

    @field_validator("*")
    @classmethod
    def same(cls, value: Any) -> Any:
        return value


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
STATES = st.dictionaries(
    st.sampled_from(list(Quick.model_fields)), SCALARS | st.lists(SCALARS, max_size=3) | st.just({"a": {1}}), max_size=8
)


@settings(deadline=None)
@given(state=STATES)
def test_what_needs_no_validation_is_stored_as_with_it(state: dict[str, Any]) -> None:
    quick, checked = extract(Quick, state), extract(Checked, state)
    assert quick[:2] == checked[:2]
    assert quick.rejected == checked.rejected
    assert field_value(Quick, "text", "x") == field_value(Checked, "text", "x")


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        (Annotated[str | None, Field(max_length=3)], "long", None),
        (Annotated[str | None, BeforeValidator(lambda _: "other")], "long", "other"),
        (list[int] | None, ["1"], "[1]"),
        (str | int | None, "1", '"1"'),
    ],
)
def test_constraints_are_never_skipped(declared: Any, value: Any, expected: str | None) -> None:
    record = types.new_class(
        "Constrained",
        (SessionRecord,),
        exec_body=lambda body: body.update(__annotations__={"field": declared}, field=None, __module__=__name__),
    )
    assert store("field", value, record)[0] == expected  # type: ignore[arg-type]  # made at run time


def test_settings_of_the_record_are_never_skipped() -> None:
    class Stripped(SessionRecord):
        model_config = ConfigDict(str_strip_whitespace=True)
        text: str | None = None

    assert store("text", " x ", Stripped)[0] == "x"


def test_an_annotation_that_cannot_be_hashed() -> None:
    class Noted(SessionRecord):
        names: list[Annotated[str, ["a note"]]] = Field(default_factory=list)
        topic: str | None = None

    fields = extract(Noted, {"names": ["a"], "topic": "lists"})
    assert (fields.values, fields.rejected) == (('["a"]', "lists"), {})


def test_a_record_that_changes_its_list_leaves_the_graphs_own_alone() -> None:
    class Emptying(SessionRecord):
        todo: list[Any] | None = None

        def workflow_status(self) -> str | None:
            return "failed" if self.todo and self.todo.pop() else None

    state = {"todo": ["a", "b"]}
    fields = extract(Emptying, state)
    assert (fields.values, fields.status) == (('["a","b"]',), "failed")
    assert state == {"todo": ["a", "b"]}
