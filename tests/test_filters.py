"""Filters, order and cursors: compiled, run on a real Postgres, and compared with Python's own idea of the same filter."""

from __future__ import annotations

import base64
import enum
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Json

from langgraph_session_store.columns import LEADING, TRAILING, TableColumn
from langgraph_session_store.errors import FilterError
from langgraph_session_store.filters.paging import EVERY_ROW, Condition, check_limit, fingerprint, keyset, next_cursor
from langgraph_session_store.filters.vocabulary import OPERATORS, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DECLARED = {
    "id": "uuid",
    "created_at": "timestamptz",
    "thread_id": "varchar(255)",
    "topic": "varchar(50)",
    "passed": "boolean",
    "attempts": "integer",
    "small": "smallint",
    "big": "bigint",
    "price": "numeric(10, 2)",
    "amount": "numeric",
    "score": "double precision",
    "ratio": "real",
    "at": "timestamptz",
    "clock": "timestamp",
    "day": "date",
    "key": "uuid",
    "data": "jsonb",
    "span": "interval",
    "tags": "text[]",
}
COLUMNS = tuple(TableColumn(name, kind) for name, kind in DECLARED.items())
VOCABULARY = Vocabulary(COLUMNS)
NOT_NULL = {"id", "created_at", "thread_id"}
OWN = Vocabulary((*LEADING, TableColumn("topic", "varchar(50)"), TableColumn("code_attempts", "integer"), *TRAILING))

BASE = datetime(2024, 3, 1, 12, tzinfo=UTC)
IDS = [UUID(int=n << 64) for n in range(1, 200)]
MOMENTS = [BASE, BASE + timedelta(microseconds=1), BASE + timedelta(microseconds=2), BASE + timedelta(days=1)]
TEXTS = ["a", "A", "ab", "b%", "b_", "c\\d", "", "é", "a'b\"c"]
DOCUMENTS: list[Any] = [
    {},
    {"n": 3, "s": "ab", "b": True, "l": [1, "a", {"x": 2}], "o": {"deep": "10"}},
    {"n": 10, "s": "Ab", "b": False, "l": [], "o": {"deep": 10}},
    {"n": "3", "s": 7, "b": None, "l": ["x"], "o": None},
    {"n": 2.5, "s": "10", "b": "true", "l": {"0": "key"}},
    [1, 2, {"n": 3}],
    "ab",
    3,
]


class Level(enum.Enum):
    HIGH = "a"


def one_of(values: Sequence[object]) -> st.SearchStrategy[Any]:
    return st.sampled_from(list(values))


DOMAINS: dict[str, list[Any]] = {
    "topic": TEXTS,
    "passed": [True, False],
    "attempts": [-1, 0, 1, 2, 2**31 - 1],
    "small": [0, 1],
    "big": [0, 2**63 - 1, -(2**63)],
    "price": [Decimal("1.10"), Decimal("-2.00"), Decimal("99999999.99")],
    "amount": [Decimal("0.1"), Decimal("1e30"), Decimal("-1e-30")],
    "score": [0.1, 1.5, -2.0, 1e300],
    "ratio": [0.5, 1.5, -2.0],
    "at": MOMENTS,
    "clock": [moment.replace(tzinfo=None) for moment in MOMENTS],
    "day": [date(2024, 3, 1), date(2024, 3, 2), date(1, 1, 1)],
    "key": IDS[:3],
    "data": DOCUMENTS,
}
NUMBERS: list[Any] = [0, 1, 2.5, -2, 3, Decimal("0.1"), Decimal("1.10"), 1e300, 2**63, 10**40, "1", " 2.50 "]
VALUES: dict[str, list[Any]] = {
    "topic": [*TEXTS, "%", "_", "\\", "B", Level.HIGH],
    "passed": [True, False, "true", "no", 1, np.True_],
    "at": [
        *MOMENTS,
        "2024-03-01T12:00:00Z",
        "2024-03-01T14:00:00.000001+02:00",
        date(2024, 3, 2),
        datetime(2024, 3, 1, 12),  # noqa: DTZ001
    ],
    "day": [date(2024, 3, 1), "2024-03-02", date.max],
    "key": [*IDS[:3], str(IDS[1])],
    **dict.fromkeys(["attempts", "small", "big", "price", "amount", "score", "ratio"], NUMBERS),
}
VALUES["clock"] = VALUES["at"]
JSON_VALUES: list[Any] = [3, 2.5, 10, "3", "ab", "10", True, False, {"deep": 10}, [], [1, "a", {"x": 2}], {}]
PATHS = [
    ("n",),
    ("s",),
    ("b",),
    ("l",),
    ("l", "0"),
    ("l", "2", "x"),
    ("o", "deep"),
    ("2", "n"),
    ("missing",),
    ("l", "-1"),
]
SCALARS = [name for name in DECLARED if name in VALUES]
SORTABLE = [*SCALARS, "created_at", "id", "thread_id"]
OPS_OF = {entry["name"]: list(entry["ops"]) for entry in VOCABULARY.describe()}  # type: ignore[call-overload]


# --- the same filters in Python ----------------------------------------------------------------------------------------


def typed(column: str, value: Any) -> Any:  # noqa: PLR0911
    """What a filter's value means for a column, written apart from the library."""
    if value is None:
        return None
    value = value.value if isinstance(value, Level) else value
    kind = DECLARED[column]
    if kind in ("double precision", "real"):
        return float(value)
    if kind in ("integer", "smallint", "bigint", "numeric", "numeric(10, 2)"):
        return Decimal(value.strip()) if isinstance(value, str) else Decimal(str(value))
    if kind == "boolean":
        return value in ("true", 1) if not isinstance(value, bool) else value
    if kind in ("timestamptz", "timestamp"):
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif not isinstance(value, datetime):
            value = datetime.combine(value, datetime.min.time())
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        return value if kind == "timestamptz" else value.astimezone(UTC).replace(tzinfo=None)
    if kind == "date":
        return date.fromisoformat(value) if isinstance(value, str) else value
    return UUID(value) if kind == "uuid" and isinstance(value, str) else value


MISSING = object()
NOTHING = sql.SQL("")


def dig(document: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if isinstance(document, dict):
            document = document.get(step, MISSING)
        elif isinstance(document, list) and step.lstrip("-").isdigit() and -len(document) <= int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return MISSING if document is None else document


def json_kind(value: Any) -> str:
    for kind, types in (
        ("bool", bool),
        ("number", (int, float, Decimal)),
        ("text", str),
        ("list", list),
        ("dict", dict),
    ):
        if isinstance(value, types):
            return kind
    raise AssertionError(value)


def json_equal(left: Any, right: Any) -> bool:
    if json_kind(left) != json_kind(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(json_equal(left[key], right[key]) for key in left)
    return bool(left == right)


def holds_json(left: Any, right: Any, *, top: bool = True) -> bool:
    """JSON containment as Postgres documents it."""
    if isinstance(left, dict) and isinstance(right, dict):
        return all(key in left and holds_json(left[key], right[key], top=False) for key in right)
    if isinstance(left, list) and isinstance(right, list):
        return all(any(holds_json(mine, item, top=False) for mine in left) for item in right)
    if top and isinstance(left, list) and not isinstance(right, dict):
        return any(not isinstance(mine, (dict, list)) and mine is not None and json_equal(mine, right) for mine in left)
    return left is not None and right is not None and json_equal(left, right)


def compare(operator: str, left: Any, right: Any) -> bool:
    return bool({"lt": left < right, "lte": left <= right, "gt": left > right, "gte": left >= right}[operator])


def like(operator: str, left: str, right: str) -> bool:
    if operator == "contains":
        return right in left
    return left.startswith(right) if operator == "startswith" else right.lower() in left.lower()


def expected(row: Mapping[str, Any], column: str, path: tuple[str, ...], operator: str, value: Any) -> bool:  # noqa: C901, PLR0911
    is_json = DECLARED[column] == "jsonb"
    left = row[column]
    if is_json and path:
        left = None if left is None else dig(left, path)
        left = None if left is MISSING else left
    if operator == "isnull":
        return (left is None) is value
    if operator in ("in", "notin", "eq", "ne"):
        values = value if operator in ("in", "notin") else [value]
        if left is None:
            found = any(item is None for item in values)
        elif is_json:
            found = any(item is not None and json_equal(left, item) for item in values)
        else:
            found = any(item is not None and left == typed(column, item) for item in values)
        return found is (operator in ("in", "eq"))
    if left is None:
        return False
    if operator == "has":
        return holds_json(left, value)
    if is_json:
        same = json_kind(left) == json_kind(value) and json_kind(left) in ("number", "text")
        if not same:
            return False
    elif operator not in ("contains", "icontains", "startswith"):
        value = typed(column, value)
    if operator in ("contains", "icontains", "startswith"):
        return like(operator, left, value.value if isinstance(value, Level) else value)
    return compare(operator, left, value)


# --- strategies ---------------------------------------------------------------------------------------------------------


@st.composite
def some_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    count = draw(st.integers(0, 14))
    ids = draw(st.permutations(IDS[:count]))
    rows = []
    for index, key in enumerate(ids):
        row = {name: draw(st.one_of(st.none(), one_of(values))) for name, values in DOMAINS.items()}
        rows.append({**row, "id": key, "created_at": draw(one_of(MOMENTS)), "thread_id": f"t{index:03}"})
    return rows


Filter = tuple[str, tuple[str, ...], str, Any]


@st.composite
def some_filter(draw: st.DrawFn) -> Filter:
    if draw(st.integers(0, 2)) == 0:
        path = draw(one_of([(), *PATHS]))
        operator = draw(one_of(OPERATORS if path else OPS_OF["data"]))
        column, values = "data", JSON_VALUES
        if operator in ("lt", "lte", "gt", "gte"):
            values = [3, 2.5, 10, "3", "ab", "10"]
        elif operator in ("contains", "icontains", "startswith"):
            values = ["a", "1", "B", "%"]
    else:
        path = ()
        column = draw(one_of(SCALARS))
        operator = draw(one_of(OPS_OF[column]))
        values = VALUES[column]
    if operator == "isnull":
        return column, path, operator, draw(st.booleans())
    if operator in ("in", "notin"):
        return column, path, operator, draw(st.lists(st.one_of(st.none(), one_of(values)), max_size=3))
    return (
        column,
        path,
        operator,
        draw(st.one_of(st.none(), one_of(values)) if operator in ("eq", "ne") else one_of(values)),
    )


def named(filters: Sequence[Filter]) -> dict[str, Any]:
    return {"__".join((column, *path, operator)): value for column, path, operator, value in filters}


# --- a table of every type ----------------------------------------------------------------------------------------------


class Rows:
    def __init__(self, conn: psycopg.Connection[dict[str, Any]]) -> None:
        self.conn = conn

    def fill(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.conn.execute("TRUNCATE rows")
        if not rows:
            return
        names = list(rows[0])
        statement = sql.SQL("INSERT INTO rows ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(sql.Placeholder() * len(names))
        )
        with self.conn.cursor() as cursor:
            cursor.executemany(statement, [[as_stored(name, row[name]) for name in names] for row in rows])

    def match(self, condition: Condition, tail: sql.Composable = NOTHING) -> list[dict[str, Any]]:
        statement = sql.SQL("SELECT * FROM rows WHERE {} {}").format(condition.sql, tail)
        return self.conn.execute(statement, condition.params).fetchall()

    def plan(self, condition: Condition, tail: sql.Composable = NOTHING) -> str:
        self.conn.execute("SET enable_seqscan = off")
        statement = sql.SQL("EXPLAIN (COSTS OFF) SELECT * FROM rows WHERE {} {}").format(condition.sql, tail)
        lines = [str(row["QUERY PLAN"]) for row in self.conn.execute(statement, condition.params)]
        self.conn.execute("RESET enable_seqscan")
        return "\n".join(lines)


def as_stored(name: str, value: Any) -> Any:
    return Json(value) if DECLARED[name] == "jsonb" and value is not None else value


@pytest.fixture
def table(dsn: str, schema: str) -> Iterator[Rows]:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None) as conn:
        conn.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
        conn.execute("SET TimeZone = 'Asia/Kathmandu'")  # nothing may lean on the session's zone
        kinds = [
            sql.Identifier(name)
            + sql.SQL(f" {kind}")
            + sql.SQL(' COLLATE "C"' if kind.startswith("varchar") else "")
            + sql.SQL(" NOT NULL" if name in NOT_NULL else "")
            for name, kind in DECLARED.items()
        ]
        conn.execute(sql.SQL("CREATE TABLE rows ({})").format(sql.SQL(", ").join(kinds)))
        yield Rows(conn)


hammered = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@hammered
@given(
    some_rows(),
    st.lists(some_filter(), max_size=3),
    st.none() | st.lists(st.lists(some_filter(), min_size=1, max_size=2), max_size=3),
)
def test_a_filter_finds_what_python_finds(
    table: Rows, rows: list[dict[str, Any]], filters: list[Filter], either: list[list[Filter]] | None
) -> None:
    table.fill(rows)
    filters = list(
        {
            (column, path, operator): (column, path, operator, value) for column, path, operator, value in filters
        }.values()
    )
    either = either and [list({f[:3]: f for f in group}.values()) for group in either]
    condition = VOCABULARY.where(named(filters), either if either is None else [named(group) for group in either])
    found = {row["id"] for row in table.match(condition)}
    wanted = {
        row["id"]
        for row in rows
        if all(expected(row, *f) for f in filters)
        and (either is None or any(all(expected(row, *f) for f in group) for group in either))
    }
    assert found == wanted
    if not condition.restricts:
        assert len(found) == len(rows)


def every_filter() -> Iterator[Filter]:
    """Each operator of each column with each value, alone and in lists."""
    for column in (*SCALARS, "data"):
        for path in [(), *PATHS] if column == "data" else [()]:
            for operator in OPERATORS if path else OPS_OF[column]:
                values: list[Any] = JSON_VALUES if column == "data" else VALUES[column]
                if operator == "isnull":
                    values = [True, False]
                elif operator in ("eq", "ne"):
                    values = [*values, None]
                elif operator in ("in", "notin"):
                    values = [[], [None], values, [*values[:2], None], *([value] for value in values)]
                elif operator in ("contains", "icontains", "startswith"):
                    values = [*TEXTS, "1", "%", "_", "\\"]
                elif column == "data" and operator != "has":
                    values = [3, 2.5, 10, "3", "ab", "10"]
                yield from ((column, path, operator, value) for value in values)


def test_every_filter_finds_what_python_finds(table: Rows) -> None:
    rows = [
        {name: values[n % len(values)] for name, values in DOMAINS.items()}
        | {"id": IDS[n], "created_at": BASE, "thread_id": f"t{n}"}
        for n in range(max(map(len, DOMAINS.values())))
    ]
    rows.append({**dict.fromkeys(DOMAINS), "id": IDS[-1], "created_at": BASE, "thread_id": "t"})
    table.fill(rows)
    for one in every_filter():
        found = {row["id"] for row in table.match(VOCABULARY.where(named([one])))}
        assert found == {row["id"] for row in rows if expected(row, *one)}, one


@st.composite
def an_order(draw: st.DrawFn) -> list[str]:
    names = draw(st.lists(one_of(SORTABLE), min_size=1, max_size=3, unique=True))
    return [draw(one_of(["", "-"])) + name for name in names]


def before(order: Sequence[str]) -> Callable[[Mapping[str, Any], Mapping[str, Any]], int]:
    first_descends = order[0].startswith("-")
    words = [*order, "-id" if first_descends else "id"]

    def compare_rows(left: Mapping[str, Any], right: Mapping[str, Any]) -> int:
        for word in words:
            mine, other = left[word.removeprefix("-")], right[word.removeprefix("-")]
            if mine is None or other is None:
                outcome = (mine is None) - (other is None)
            else:
                nan, other_nan = mine != mine, other != other  # noqa: PLR0124
                outcome = nan - other_nan if nan or other_nan else (mine > other) - (mine < other)
                outcome = -outcome if word.startswith("-") else outcome
            if outcome:
                return outcome
        return 0

    return compare_rows


@hammered
@given(some_rows(), an_order(), st.integers(1, 4), some_filter() | st.none(), st.randoms())
def test_pages_give_each_row_once_in_order(  # noqa: PLR0917
    table: Rows, rows: list[dict[str, Any]], order_by: list[str], limit: int, narrow: Filter | None, random: Any
) -> None:
    filters = [narrow] if narrow and narrow[0] not in ("score", "amount") else []  # Python has no order for NaN
    for row in rows:
        if random.random() < 0.3:
            row["score"] = random.choice([math.nan, math.inf, -math.inf, -0.0])
            row["amount"] = random.choice([Decimal("NaN"), Decimal("1e16000"), Decimal("1e-16000")])
    table.fill(rows)
    condition = VOCABULARY.where(named(filters))
    order = VOCABULARY.order(order_by)
    mark = fingerprint(condition, order)
    seen: list[UUID] = []
    cursor: str | None = None
    for _ in range(len(rows) + 1):
        tail = sql.SQL("ORDER BY {} LIMIT {}").format(order.sql, limit)
        page = table.match(condition & keyset(order, cursor, mark), tail)
        seen += [row["id"] for row in page]
        if len(page) < limit:
            break
        cursor = next_cursor(order, page[-1], mark)
    everything = [row for row in rows if all(expected(row, *f) for f in filters)]
    assert seen == [row["id"] for row in sorted(everything, key=cmp_to_key(before(order_by)))]


# --- nothing that a caller can say becomes an error of the driver ---------------------------------------------------------

STRANGE: list[Any] = [
    None, True, 0, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 10**140_000, 2.5, math.nan, math.inf, 1e308, 5e-324, 1e39, 1e-50,
    Decimal("1e131071"), Decimal("1e131072"), Decimal("1e-16383"), Decimal("1e-16384"), Decimal("1e999999"), Decimal("NaN"),
    Decimal("sNaN"), Decimal("Infinity"), Decimal("0e-99999"), Decimal("0e99999"), Decimal("-0"),
    "", " ", "many", "%_\\", "\\", "nul\0", "\ud800", "a" * 5000, "1e999", "1e999999", "9" * 200_000, "1_000", "٣", "NaN", "true",
    "null", "infinity", "now", "epoch", "2024-01-01", "2024-01-01T00:00:00+02:00", "2024-01-01T24:00", "0001-01-01T00:00:00+14:00",
    "12345678-1234-5678-1234-567812345678", "{1,2}", "1 day", "'; DROP TABLE rows; --", "%(f0)s", "%s", "{}", "$1",
    date.min, date.max, datetime.min, datetime.max,  # noqa: DTZ901
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), timedelta(days=1), pd.NaT, pd.NA, pd.Timestamp("2024-01-01", tz="UTC"),
    np.int64(3), np.float64("nan"), np.bool_(True), np.array([1, 2]), np.datetime64("2024-01-01"), UUID(int=0), Level.HIGH,
    [], [None], {}, {"a": 1}, {"a": math.nan}, {"a": "\0"}, {"\ud800": 1}, {1: 2}, b"bytes", object(), {1, 2}, (1, "a"), range(3),
    [[]], [1, 2.5, "3", None, 10**30], ["a", 1], orjson.loads("[" * 200 + "]" * 200), {"a": [{"b": {"c": Decimal("1e5")}}]},
]  # fmt: skip


@pytest.mark.parametrize("column", [*DECLARED, "data__n", "data__l__0", "data__a'b\"c%s", "data__999999999999"])
def test_every_operator_runs_on_every_type_or_is_a_filter_error(table: Rows, column: str) -> None:
    table.fill(
        [{"id": IDS[0], "created_at": BASE, "thread_id": "t", **{name: values[0] for name, values in DOMAINS.items()}}]
    )
    ran = 0
    for operator in OPERATORS:
        lists = [[item] for item in STRANGE] if operator in ("in", "notin", "eq", "has") else []
        for value in [*STRANGE, *lists]:
            try:
                condition = VOCABULARY.where({f"{column}__{operator}": value})
            except FilterError as error:
                assert len(str(error)) < 700  # noqa: PT017
                continue
            table.match(condition)
            ran += 1
    assert ran > 10


@hammered
@given(
    st.text(max_size=40)
    | st.sampled_from(["topic", "data", "id"]).flatmap(lambda n: st.text(max_size=30).map(lambda t: f"{n}__{t}"))
)
@example("topic\" = '' OR 1=1 --")
@example("topic__eq; DROP TABLE rows")
@example("data__%(f0)s")
@example("data__{0}")
@example("data__')::text[] OR TRUE --")
@example("data__a\0b")
@example("data__\ud800")
@example("data____eq")
def test_any_name_is_a_filter_error_or_runs(table: Rows, name: str) -> None:
    for value in ("1", 1, None):
        try:
            condition = VOCABULARY.where({name: value})
        except FilterError:
            continue
        table.match(condition)
    for call in (VOCABULARY.order, VOCABULARY.columns):
        try:
            call(name)
        except FilterError as error:
            assert error.__cause__ is None  # noqa: PT017
        else:
            assert all(word.strip().removeprefix("-") in DECLARED for word in name.split(","))


ATTACKS = [
    "' OR '1'='1",
    '"; DROP TABLE rows; --',
    "id) --",
    "created_at; SELECT 1",
    "(SELECT 1)",
    "id DESC",
    "*",
    "%s",
    "--id",
    "ID",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_values_stay_values_and_names_stay_names(table: Rows, attack: str) -> None:
    table.fill(
        [{"id": IDS[n], "created_at": BASE, "thread_id": f"t{n}", "topic": t} for n, t in enumerate([attack, "other"])]
    )
    for name in ("topic", "topic__contains", "topic__startswith", "topic__icontains"):
        assert [row["topic"] for row in table.match(VOCABULARY.where({name: attack}))] == [attack]
    assert [row["topic"] for row in table.match(VOCABULARY.where({"topic__in": [attack]}))] == [attack]
    with pytest.raises(FilterError):
        VOCABULARY.where({attack: 1})
    with pytest.raises(FilterError):
        VOCABULARY.where({f"topic__{attack}": 1})
    with pytest.raises(FilterError):
        VOCABULARY.order(attack)
    with pytest.raises(FilterError):
        VOCABULARY.columns([attack])
    assert len(table.match(EVERY_ROW)) == 2


# --- errors say what to do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"topicc": 1}, ["topicc", "did you mean topic?", "workflow_status"]),
        ({"code_attempts__gtee": 1}, ["gtee", "did you mean gte?", "integer", "notin"]),
        ({"code_attempts__contains": 1}, ["contains", "integer", "gte"]),
        ({"code_attempts__gte": "many"}, ["code_attempts__gte", "number", "many"]),
        ({"code_attempts__in": "1,2"}, ["code_attempts__in", "list"]),
        ({"code_attempts": True}, ["code_attempts", "number", "bool"]),
        ({"created_at__gte": "last week"}, ["created_at__gte", "ISO 8601", "last week"]),
        ({"id": "t-1"}, ["id", "UUID"]),
        ({"topic": "a\0b"}, ["topic", "NUL"]),
        ({"topic": {"a": "secret"}}, ["topic", "dict"]),
        ({"topic__lt": None}, ["topic__lt", "isnull"]),
        ({"topic__isnull": "maybe"}, ["topic__isnull", "true or false"]),
        ({"metadata__when__gte": BASE}, ["metadata__when__gte", "number", "datetime"]),
        ({"metadata__gte": 3}, ["gte", "metadata", "has"]),
        ({"metadata____eq": 3}, ["path"]),
        ({"limit": 3}, ["limit"]),
    ],
)
def test_an_error_names_the_field_and_what_fits(filters: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(FilterError) as caught:
        OWN.where(filters)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "secret" not in message


def test_an_error_shows_a_short_preview_only() -> None:
    with pytest.raises(FilterError) as caught:
        OWN.where({"code_attempts": "s" * 10_000})
    assert len(str(caught.value)) < 150


def test_the_example_of_alternatives_is_json_as_well() -> None:
    with pytest.raises(FilterError) as caught:
        OWN.where(any_of="topic=a")  # type: ignore[arg-type]  # the mistake
    example = str(caught.value).partition("such as ")[2]
    assert OWN.where(any_of=orjson.loads(example)).restricts


@pytest.mark.parametrize("any_of", [[{}], "topic", [1], {"topic": 1}, [{"topicc": 1}], [{1: 2}], [{"any_of": []}]])
def test_alternatives_are_checked(any_of: Any) -> None:
    with pytest.raises(FilterError):
        OWN.where(any_of=any_of)


@pytest.mark.parametrize(
    "order_by", ["", "-", "metadata", "topic,topic", "topic,-topic", [], [1], 3, None, {"topic": 1}, "topic desc"]
)
def test_orders_are_checked(order_by: Any) -> None:
    with pytest.raises(FilterError):
        OWN.order(order_by)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "0", "1001", "ten", "", "-1", "1.0", 1.0, None, "9" * 5000, "²"])
def test_a_limit_is_from_1_to_1000(limit: Any) -> None:
    with pytest.raises(FilterError, match="1 to 1000"):
        check_limit(limit)


def test_a_limit_may_be_text() -> None:
    assert [check_limit(1), check_limit(1000), check_limit("50"), check_limit(100, 100)] == [1, 1000, 50, 100]
    with pytest.raises(FilterError, match="1 to 100,"):
        check_limit(101, 100)


# --- what restricts ---------------------------------------------------------------------------------------------------------


def test_only_a_condition_that_can_refuse_a_row_restricts() -> None:
    for filters, any_of in [({}, None), ({"topic__notin": []}, None), ({}, [{"topic__notin": []}, {"topic": "a"}])]:
        condition = OWN.where(filters, any_of)
        assert not condition.restricts
        assert condition.sql.as_string(None) == "TRUE"
        assert condition.params == {}
    for filters, any_of in [({"topic__in": []}, None), ({}, []), ({"topic": None}, None)]:
        assert OWN.where(filters, any_of).restricts


def test_whole_values_of_a_converted_column_are_converted() -> None:
    vocabulary = Vocabulary(COLUMNS, convert={"thread_id": lambda value: f"<{value}>"})
    bound = vocabulary.where(
        {"thread_id": 7, "thread_id__in": ["a", None, "b"], "thread_id__ne": "c\0", "thread_id__contains": "d"}
        | {"thread_id__ne": "c", "topic": "e"}
    ).params
    assert sorted(map(str, bound.values())) == sorted(["<7>", "['<a>', '<b>']", "<c>", "%d%", "e"])


# --- query strings and the command line -------------------------------------------------------------------------------------


def test_text_is_read_as_what_the_column_holds(table: Rows) -> None:
    table.fill(
        [
            {"id": IDS[n], "created_at": BASE, "thread_id": f"t{n}", "topic": topic, "attempts": n, "data": data}
            for n, (topic, data) in enumerate([("a", {"n": 3}), ("b,c", {"n": "3"}), ("d", {"n": True, "l": ["x"]})])
        ]
    )

    def ids(*pairs: tuple[str, str]) -> list[str]:
        filters = VOCABULARY.parse(pairs)
        any_of: Any = filters.pop("any_of", None)
        return sorted(row["thread_id"] for row in table.match(VOCABULARY.where(filters, any_of)))

    assert ids() == ["t0", "t1", "t2"]
    assert ids(("attempts__gte", "1"), ("attempts__lt", "2")) == ["t1"]
    assert ids(("topic__in", "a, d")) == ["t0", "t2"]
    assert ids(("topic__in", "a"), ("topic__in", "d")) == ["t0", "t2"]
    assert ids(("topic__in", '["b,c"]')) == ["t1"]
    assert ids(("topic__in", "")) == []
    assert ids(("topic__isnull", "false"), ("topic__ne", "a")) == ["t1", "t2"]
    assert ids(("data__n", "3")) == ["t0"]
    assert ids(("data__n", '"3"')) == ["t1"]
    assert ids(("data__n", "true")) == ["t2"]
    assert ids(("data__n__in", '3,true,"4"')) == ["t0", "t2"]
    assert ids(("data__n__gte", "2.5")) == ["t0"]
    assert ids(("data__n__contains", "3")) == ["t1"]
    assert ids(("data__l", "null")) == ["t0", "t1"]
    assert ids(("data__l__has", "x")) == ["t2"]
    assert ids(("data__n", '"[no list"')) == []
    assert ids(("topic__contains", "[")) == ids(("topic", "{")) == []
    assert ids(("data__has", '{"n": 3}')) == ["t0"]
    assert ids(("any_of", '[{"topic": "a"}, {"attempts__gte": 2}]')) == ["t0", "t2"]


@pytest.mark.parametrize(
    "pairs",
    [
        [("topic", "a"), ("topic", "b")],
        [("topicc", "a")],
        [("topic__like", "a")],
        [("any_of", "[{}]"), ("any_of", "[]")],
        [("any_of", "topic=a")],
        [("any_of", "{")],
        [("data__n__gte", "[1]")],
        [("data", '"\\ud800"')],
        [("data__n", "[" * 100_000)],
        [("data__n__has", "[" * 900 + "]" * 900)],
        [("data__has", '{"n"=3}')],
        [("data__n", ' ["a"')],
        [("data__n__in", '{"a": 1, "b": 2}')],
        [("topic__in", '["a"')],
    ],
)
def test_text_that_cannot_be_meant_is_a_filter_error(pairs: list[tuple[str, str]]) -> None:
    def read() -> None:
        filters = VOCABULARY.parse(pairs)
        any_of: Any = filters.pop("any_of", None)
        VOCABULARY.where(filters, any_of)

    with pytest.raises(FilterError) as caught:
        read()
    assert len(str(caught.value)) < 500


def test_the_vocabulary_serves_what_compiles() -> None:
    described = VOCABULARY.describe()
    assert [entry["name"] for entry in described] == list(DECLARED)
    assert orjson.loads(orjson.dumps(described)) == described
    for entry in described:
        name, operators = str(entry["name"]), entry["ops"]
        assert isinstance(operators, list)
        value = VALUES.get(name, ["a"])[0] if name != "id" else IDS[0]
        value = BASE if name == "created_at" else value
        for operator in OPERATORS:
            given_value = [value] if operator in ("in", "notin") else (True if operator == "isnull" else value)
            if operator in operators:
                VOCABULARY.where({f"{name}__{operator}": given_value})
            else:
                with pytest.raises(FilterError):
                    VOCABULARY.where({f"{name}__{operator}": given_value})
        if entry["sortable"]:
            VOCABULARY.order(name)
        else:
            with pytest.raises(FilterError, match="no order"):
                VOCABULARY.order(name)


def test_columns_are_chosen_by_name_once_each() -> None:
    assert [column.name for column in OWN.columns("topic, thread_id,topic")] == ["topic", "thread_id"]
    assert OWN.columns(["id"]) == (LEADING[0],)
    assert len(OWN.columns()) == len(LEADING) + 2 + len(TRAILING)
    for fields in ("", [], ["topicc"], [None], 3):
        with pytest.raises(FilterError):
            OWN.columns(fields)  # type: ignore[arg-type]


def test_a_path_is_no_column_and_the_error_says_what_it_is_good_for() -> None:
    with pytest.raises(FilterError, match=r"^group_by: metadata__release is a path .* filter"):
        OWN.columns("metadata__release", "group_by")
    with pytest.raises(FilterError, match=r"^order_by: metadata__release is a path .* filter"):
        OWN.order("-metadata__release")
    with pytest.raises(FilterError, match=r"^unknown field in group_by: 'topic__eq'"):
        OWN.columns("topic__eq", "group_by")


# --- cursors ------------------------------------------------------------------------------------------------------------------


def a_cursor(filters: dict[str, Any], order_by: str) -> str:
    order = OWN.order(order_by)
    row = {"created_at": BASE, "id": IDS[0], "topic": None, "code_attempts": 3, "updated_at": BASE}
    return next_cursor(order, row, fingerprint(OWN.where(filters), order))


def follow(cursor: str, filters: dict[str, Any], order_by: str) -> Condition:
    order = OWN.order(order_by)
    return keyset(order, cursor, fingerprint(OWN.where(filters), order))


def test_a_cursor_is_url_safe_text_and_follows_its_query() -> None:
    cursor = a_cursor({"topic": "a"}, "-created_at")
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert cursor.isascii()
    assert set(follow(cursor, {"topic": "a"}, "-created_at").params.values()) == {BASE, IDS[0]}
    assert follow(cursor, {"topic__eq": "a"}, "-created_at").restricts


@pytest.mark.parametrize(
    ("filters", "order_by"),
    [
        ({"topic": "b"}, "-created_at"),
        ({}, "-created_at"),
        ({"topic": "a", "code_attempts": 1}, "-created_at"),
        ({"topic__ne": "a"}, "-created_at"),
        ({"topic": "a"}, "created_at"),
        ({"topic": "a"}, "-updated_at"),
        ({"topic": "a"}, "-created_at,topic"),
    ],
)
def test_a_cursor_refuses_another_filter_or_order(filters: dict[str, Any], order_by: str) -> None:
    with pytest.raises(FilterError, match="another filter or order"):
        follow(a_cursor({"topic": "a"}, "-created_at"), filters, order_by)


def forge(content: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


MARK = fingerprint(EVERY_ROW, OWN.order("-created_at"))
KEYS = [BASE.isoformat(), str(IDS[0])]
KEYS_FORGED = [
    *KEYS,
    *(value for value in STRANGE if isinstance(value, str) and value != "\ud800"),
    None,
    True,
    1,
    0.5,
    [],
    {},
    str(2**40),
]


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "é", "\ud800", "=", "A" * 100_000, "null", 7, b"x", ["x"],
        forge(None), forge([]), forge({}), forge([1]), forge([1, MARK]), forge([1, MARK, None]), forge([1, MARK, []]),
        forge([2, MARK, KEYS]), forge([0, MARK, KEYS]), forge(["1", MARK, KEYS]), forge([True, MARK, KEYS[:1]]),
        forge([1, MARK, KEYS[:1]]), forge([1, MARK, [*KEYS, "x"]]), forge([1, MARK, [None, KEYS[1]]]), forge([1, MARK, [1, 2]]),
        forge([1, MARK, ["yesterday", KEYS[1]]]), forge([1, MARK, [KEYS[0], "'; DROP TABLE x; --"]]), forge([1, MARK, "ab"]),
        forge([1, MARK, {"a": 1, "b": 2}]), forge([1, [MARK], KEYS]), forge([1, MARK, KEYS]) + "=", forge([1, MARK, KEYS]) + "\n",
        base64.urlsafe_b64encode(b"[" * 5000).decode(), base64.b64encode(b"\x80\x04N.").decode(),
    ],
)  # fmt: skip
def test_a_forged_cursor_is_a_filter_error(cursor: Any) -> None:
    assert keyset(OWN.order("-created_at"), forge([1, MARK, KEYS]), MARK).restricts
    with pytest.raises(FilterError, match="cursor"):
        keyset(OWN.order("-created_at"), cursor, MARK)


@hammered
@given(
    st.lists(st.text(max_size=9) | one_of(KEYS_FORGED), min_size=2, max_size=2),
    one_of(SORTABLE),
    st.booleans(),
)
@example(["nan", str(IDS[0])], "score", True)
@example(["inf", str(IDS[0])], "attempts", True)
@example(["NaN", str(IDS[0])], "amount", True)
@example(["9" * 100, str(IDS[0])], "attempts", True)
@example(["2.5", str(IDS[0])], "attempts", True)
@example(["a\0", str(IDS[0])], "topic", True)
def test_forged_keys_are_a_filter_error_or_run(table: Rows, keys: list[Any], name: str, descending: bool) -> None:
    order = VOCABULARY.order(f"-{name}" if descending else name)
    mark = fingerprint(EVERY_ROW, order)
    try:
        condition = keyset(order, forge([1, mark, keys[: len(order.keys)]]), mark)
    except FilterError:
        return
    assert table.match(condition) == []


# --- indexes can read it ------------------------------------------------------------------------------------------------------


def test_indexes_are_read(table: Rows) -> None:
    for columns in ("created_at DESC, id DESC", "thread_id", "attempts", "topic", "data jsonb_path_ops"):
        method = "gin" if "jsonb" in columns else "btree"
        table.conn.execute(sql.SQL(f"CREATE INDEX ON rows USING {method} ({columns})"))
    many = [{"id": key, "created_at": BASE + timedelta(seconds=n), "thread_id": f"t{n}"} for n, key in enumerate(IDS)]
    table.fill(many)
    table.conn.execute("ANALYZE rows")
    for order_by in ("-created_at", "created_at"):
        order = VOCABULARY.order(order_by)
        condition = keyset(order, next_cursor(order, many[50], "x"), "x")
        plan = table.plan(condition, sql.SQL("ORDER BY {} LIMIT 5").format(order.sql))
        assert "Index Cond: (ROW(created_at, id)" in plan, plan
        assert "Sort" not in plan
    order = VOCABULARY.order("-created_at,thread_id")
    plan = table.plan(
        keyset(order, next_cursor(order, many[50], "x"), "x"), sql.SQL("ORDER BY {} LIMIT 5").format(order.sql)
    )
    assert "Index Cond: (created_at <=" in plan, plan
    for filters, column in [
        ({"thread_id": "t1"}, "thread_id"),
        ({"thread_id__in": ["t1", "t2"]}, "thread_id"),
        ({"attempts__gte": 3}, "attempts"),
        ({"attempts__in": [1, 2]}, "attempts"),
        ({"topic": "a"}, "topic"),
        ({"topic__isnull": True}, "topic"),
        ({"created_at__gte": BASE}, "created_at"),
        ({"data__has": {"n": 3}}, "data"),
    ]:
        plan = table.plan(VOCABULARY.where(filters))
        assert f"Index Cond: ({column}" in plan or f"Index Cond: (({column})" in plan, plan
