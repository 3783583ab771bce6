"""A record class is a table, or an error that says why not."""

from __future__ import annotations

import enum
import inspect
import warnings
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NewType, TypeVar
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator, root_validator
from typing_extensions import TypeAliasType

from langgraph_session_store.columns import RESERVED, TableColumn
from langgraph_session_store.errors import RecordError
from langgraph_session_store.extract import extract
from langgraph_session_store.record import (
    Column,
    SessionRecord,
    check_table,
    record_fields,
    table_columns,
    table_name,
)
from langgraph_session_store.records import MessagesSession, ProblemSession
from langgraph_session_store.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    A = 1
    B = "b"


class Source(BaseModel):
    url: str


UserId = NewType("UserId", str)
Score = TypeAliasType("Score", float)


def make(annotation: Any = str, *, name: str = "field", default: Any = None, **namespace: Any) -> type[SessionRecord]:
    body = {"__annotations__": {name: annotation}, "__module__": __name__, name: default, **namespace}
    return type(SessionRecord)("Made", (SessionRecord,), body)


def deprecated_validator(check: Callable[..., Any]) -> Any:
    """Return Pydantic 1's root_validator, which Pydantic 2 still runs, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return root_validator(skip_on_failure=True)(check)


def only(record: type[SessionRecord]) -> Any:
    [field] = record_fields(record)
    return field


@pytest.mark.parametrize(
    ("annotation", "sql"),
    [
        (str, "text"),
        (int, "bigint"),
        (float, "double precision"),
        (bool, "boolean"),
        (datetime, "timestamptz"),
        (date, "date"),
        (Decimal, "numeric"),
        (UUID, "uuid"),
        (Color, "text"),
        (Level, "bigint"),
        (Mixed, "jsonb"),
        (Literal["a", "b"], "text"),
        (Literal[1, 2], "bigint"),
        (Literal[True], "boolean"),
        (Literal["a", 1], "jsonb"),
        (Literal["a", None], "text"),  # noqa: PYI061
        (Literal[Color.RED], "text"),
        (str | None, "text"),
        (Color | None, "text"),
        (Literal["a"] | None, "text"),
        (PositiveInt, "bigint"),
        (Annotated[str, Field(max_length=5)] | None, "text"),
        (UserId, "text"),
        (Score, "double precision"),
        (int | str, "jsonb"),
        (list[int], "jsonb"),
        (dict[str, Any] | None, "jsonb"),
        (Source, "jsonb"),
        (Any, "jsonb"),
        (bytes, "jsonb"),
    ],
    ids=str,
)
def test_the_sql_type_of_a_python_type(annotation: Any, sql: str) -> None:
    assert only(make(annotation)).sql_type == sql


@pytest.mark.parametrize(
    ("annotation", "given", "sql"),
    [
        (str, "varchar(50)", "varchar(50)"),
        (str, " VARCHAR ( 50 ) ", "varchar(50)"),
        (str, "character varying(50)", "varchar(50)"),
        (str, "varchar", "varchar"),
        (str, "jsonb", "jsonb"),
        (int, "int", "integer"),
        (int, "smallint", "smallint"),
        (int, "int8", "bigint"),
        (int, "numeric(20)", "numeric(20)"),
        (float, "decimal(10, 2)", "numeric(10,2)"),
        (datetime, "timestamp with time zone", "timestamptz"),
        (Any, "boolean", "boolean"),
        (Any, "text", "text"),
        (UUID, "text", "text"),
    ],
)
def test_a_chosen_sql_type(annotation: Any, given: str, sql: str) -> None:
    assert only(make(Annotated[annotation, Column(sql=given)])).sql_type == sql


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (str, "integer"),
        (int, "date"),
        (float, "bigint"),
        (str, "varchar(0)"),
        (str, "varchar(10485761)"),
        (str, "varchar(1,2)"),
        (str, "text(5)"),
        (Decimal, "numeric(5,6)"),
        (Decimal, "numeric(1001)"),
        (int, "serial"),
        (Any, "json"),
        (Any, "text[]"),
        (datetime, "timestamp"),
        (str, ""),
        (str, "text; drop table x"),
        (str, "text default 'x'"),
        (str, 'text"'),
        (str, "text\n--"),
        (str, "varchar(५)"),
        (str, 5),
    ],
)
def test_a_refused_sql_type_names_the_field_and_the_choices(annotation: Any, given: Any) -> None:
    with pytest.raises(RecordError, match=r"Made\.field: sql=.* is not one of .*jsonb"):
        make(Annotated[annotation, Column(sql=given)])


@pytest.mark.parametrize(
    ("annotation", "choice"),
    [
        *((Literal["a"], True), (Literal["a", "b"] | None, True), (Annotated[Literal["a"] | None, "why"], True)),
        *((str, False), (str | None, False), (list[Literal["a"]], False), (Literal["a"] | int, False)),
    ],
)
def test_a_choice_is_one_of_a_few(annotation: Any, choice: bool) -> None:
    assert only(make(annotation)).choice is choice


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_of_the_stores_own_are_refused(name: str) -> None:
    with pytest.raises(RecordError, match=f"Made.{name}.*the store's own"), warnings.catch_warnings(action="ignore"):
        make(name=name)  # Pydantic warns that workflow_status shadows the method


def test_every_word_of_a_call_that_takes_filters_is_reserved() -> None:
    calls = [inspect.signature(method).parameters for _, method in inspect.getmembers(SessionStore, inspect.isfunction)]
    words = {word for parameters in calls if "filters" in parameters for word in parameters}
    assert words > {"self", "arrow", "progress"}
    assert words - {"filters"} <= RESERVED


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a__gte", "underscore"),
        ("xmin", "system column"),
        ("f" * 64, "63 bytes"),
        ("ü" * 32, "63 bytes"),
    ],
)
def test_names_that_no_column_can_have(name: str, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        make(name=name)


@pytest.mark.parametrize("name", ["f" * 63, "ü" * 31, "models", "model_name", "order", "select"])
def test_odd_names_that_are_fine(name: str) -> None:
    assert only(make(name=name)).name == name


def test_a_method_may_have_the_name_of_a_column() -> None:
    class Judged(SessionRecord):
        ok: bool | None = None

        def workflow_status(self) -> str | None:
            return "failed"

    assert [field.name for field in record_fields(Judged)] == ["ok"]
    assert Judged().workflow_status() == "failed"
    assert SessionRecord().workflow_status() is None


def test_the_table_defaults_to_the_class_name() -> None:
    class SupportHTTPTicket2Go(SessionRecord):
        pass

    class Child(SupportHTTPTicket2Go):
        pass

    class Named(SessionRecord, table="Tickets"):
        pass

    assert table_name(SupportHTTPTicket2Go) == "support_http_ticket2_go"
    assert table_name(Child) == "child"
    assert table_name(Named) == "Tickets"


class Boxed(SessionRecord, Generic[T]):
    value: T | None = None


def test_a_generic_record_with_its_type_given() -> None:
    assert table_name(Boxed[int]) == "boxed"
    assert [field.sql_type for field in record_fields(Boxed[int])] == ["bigint"]


@pytest.mark.parametrize("name", ["", "a.b", "a b", 'a"b', "1a", "a-b", "t" * 41, "ü" * 21, "a\x00"])
def test_a_refused_table_name(name: str) -> None:
    with pytest.raises(RecordError, match="table name"):
        check_table(name)
    with pytest.raises(RecordError, match="table name"):

        class Refused(SessionRecord, table=name):
            pass


def test_a_class_name_that_is_too_long_for_a_table() -> None:
    with pytest.raises(RecordError, match="table="):
        type(SessionRecord)("A" + "b" * 40, (SessionRecord,), {"__module__": __name__})


def test_options_of_pydantic_pass() -> None:
    class Strict(SessionRecord, table="strict", strict=True):
        n: int = 0

    assert Strict.model_config["strict"] is True


def test_fields_are_inherited_in_order() -> None:
    class More(ProblemSession, table="more"):
        rating: int | None = None

    names = [field.name for field in record_fields(ProblemSession)]
    assert [field.name for field in record_fields(More)] == [*names, "rating"]
    assert next(field for field in record_fields(More) if field.name == "code").versioned


@pytest.mark.parametrize(
    ("source", "sources", "channels", "computed"),
    [
        (None, (("field",),), {"field"}, False),
        ("a", (("a",),), {"a"}, False),
        ("messages.0.content", (("messages", 0, "content"),), {"messages"}, False),
        ("messages.-1.a", (("messages", -1, "a"),), {"messages"}, False),
        (("a.b", "c"), (("a", "b"), ("c",)), {"a", "c"}, False),
        (len, (len,), set(), True),
        (("a", len), (("a",), len), {"a"}, True),
        ("0.a", ((0, "a"),), set(), False),
    ],
)
def test_sources(source: Any, sources: Any, channels: set[str], computed: bool) -> None:
    field = only(make(Annotated[str, Column(source)]))
    assert field.sources == sources
    assert field.channels == channels
    assert field.computed is computed


@pytest.mark.parametrize("source", ["", ".", "a.", "a..b", 5, ["a"], ("a", 5)])
def test_a_source_that_is_none(source: Any) -> None:
    with pytest.raises(RecordError, match=r"Made\.field: source="):
        make(Annotated[str, Column(source)])


@pytest.mark.parametrize(
    ("annotation", "index", "resolved"),
    [(str, False, False), (str, True, True), (str, "trigram", "trigram"), (list, True, "gin"), (list, "gin", "gin")],
)
def test_indexes(annotation: Any, index: Any, resolved: Any) -> None:
    assert only(make(Annotated[annotation, Column(index=index)])).column.index == resolved


@pytest.mark.parametrize(
    ("annotation", "index"), [(str, "gin"), (list, "trigram"), (int, "trigram"), (str, "x); drop")]
)
def test_an_index_that_cannot_be(annotation: Any, index: Any) -> None:
    with pytest.raises(RecordError, match=r"Made\.field: index="):
        make(Annotated[annotation, Column(index=index)])


@pytest.mark.parametrize(
    ("make_record", "why"),
    [
        (lambda: make(Annotated[str, Column()] | None), "outermost"),
        (lambda: make(list[Annotated[str, Column()]]), "outermost"),
        (lambda: make(str, default=Column("a")), "outermost"),
        (lambda: make("NotDefined"), "not defined yet"),
        (lambda: make(model_config=ConfigDict(frozen=True)), "frozen"),
        (lambda: make(Annotated[str, Field(frozen=True)]), "frozen"),
        (lambda: make(check=model_validator(mode="after")(lambda self: self)), "model_validator"),
        (lambda: make(check=deprecated_validator(lambda cls, values: values)), "root_validator"),
    ],
)
def test_records_that_cannot_be_filled_field_by_field(make_record: Callable[[], Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        make_record()


def test_field_validators_are_kept() -> None:
    class Validated(SessionRecord):
        topic: str | None = None

        @field_validator("topic")
        @classmethod
        def lower(cls, value: str) -> str:
            return value.lower()

    assert extract(Validated, {"topic": "ABC"}).values == ("abc",)


def test_defaults() -> None:
    class Defaults(SessionRecord):
        a: int
        b: int = 5
        c: list[int] = Field(default_factory=lambda: [1])

    assert [field.default() for field in record_fields(Defaults)] == [None, 5, [1]]


def test_the_table_of_problems_is_the_documented_one() -> None:
    assert table_name(ProblemSession) == "session_states"
    assert [(column.name, column.sql_type) for column in table_columns(ProblemSession)] == [
        ("id", "uuid"),
        ("created_at", "timestamptz"),
        ("updated_at", "timestamptz"),
        ("thread_id", "varchar(255)"),
        ("run_id", "varchar(255)"),
        ("workflow_status", "varchar(20)"),
        ("user_prompt", "text"),
        ("topic", "varchar(50)"),
        ("difficulty", "varchar(20)"),
        ("problem_description", "text"),
        ("problem_tests", "jsonb"),
        ("code", "text"),
        ("tests_passed", "boolean"),
        ("code_attempts", "integer"),
        ("problem_attempts", "integer"),
        ("user_id", "varchar(255)"),
        ("trace_id", "varchar(255)"),
        ("graph_name", "varchar(255)"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
        ("duration_seconds", "double precision"),
        ("error", "text"),
        ("checkpoint_id", "varchar(255)"),
        ("metadata", "jsonb"),
        ("rejected", "jsonb"),
        ("recorded_at", "timestamptz"),
    ]
    fields = record_fields(ProblemSession)
    versioned = {"problem_description", "problem_tests", "code", "tests_passed"}
    assert {field.name for field in fields if field.kind == "versioned"} == versioned
    assert {field.name for field in fields if field.index} == {"topic", "difficulty"}
    assert fields[1].column == TableColumn("topic", "varchar(50)", "field", index=True)


@pytest.mark.parametrize(("passed", "status"), [(True, None), (False, "failed"), (None, None)])
def test_problems_whose_tests_did_not_pass_failed(passed: bool | None, status: str | None) -> None:
    assert ProblemSession(tests_passed=passed).workflow_status() == status


def conversation(state: Any) -> dict[str, Any]:
    fields = extract(MessagesSession, state)
    assert fields.rejected == {}
    return {slot.name: value for slot, value in zip(fields.shape, fields.values, strict=True)}


def test_a_conversation_of_langchain_messages() -> None:
    usage = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
    call = {"name": "search", "args": {}, "id": "1"}
    messages = [
        SystemMessage("be brief"),
        HumanMessage([{"type": "text", "text": "what "}, {"type": "image_url", "image_url": "x"}, "now?"]),
        AIMessage("", tool_calls=[call, call], usage_metadata=usage, response_metadata={"model_name": "a"}),
        ToolMessage("found", tool_call_id="1"),
        HumanMessage("go on"),
        AIMessage([{"type": "text", "text": "all "}, {"type": "text", "text": "done"}], usage_metadata=usage),
        AIMessageChunk("end", response_metadata={"model": "b"}),
        HumanMessage("thanks"),
    ]
    assert conversation({"messages": messages}) == {
        "user_prompt": "what now?",
        "answer": "end",
        "message_count": 8,
        "tool_calls": 2,
        "input_tokens": 20,
        "output_tokens": 8,
        "models": '["a","b"]',
    }


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "tool_calls": [{}]}],
        [
            {"type": "human", "content": "hi"},
            {"type": "ai", "content": [{"type": "text", "text": "yo"}], "tool_calls": [{}]},
        ],
        (("user", "hi"), {"role": "ai", "content": "yo", "tool_calls": [{}]}),
        ["hi", {"role": "ai", "content": "yo", "tool_calls": [{}]}],
    ],
)
def test_a_conversation_of_other_messages(messages: Any) -> None:
    assert conversation({"messages": messages}) == {
        "user_prompt": "hi",
        "answer": "yo",
        "message_count": 2,
        "tool_calls": 1,
        "input_tokens": None,
        "output_tokens": None,
        "models": None,
    }


def test_a_conversation_that_is_one_text_or_the_state_itself() -> None:
    assert conversation({"messages": "hi"})["user_prompt"] == "hi"
    assert conversation([HumanMessage("hi")])["user_prompt"] == "hi"


@pytest.mark.parametrize("messages", [[], [None], [5, object()], [{}], [()], [("human",)], [{"role": 5, "content": 5}]])
def test_odd_messages_are_no_error(messages: Any) -> None:
    assert conversation({"messages": messages})["message_count"] == len(messages)


@pytest.mark.parametrize("state", [None, {}, {"messages": None}, {"messages": 5}, 5, object()])
def test_a_state_without_messages_says_nothing(state: Any) -> None:
    assert conversation(state) == {}
