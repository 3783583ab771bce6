"""Rows as Arrow and pandas: types, round trips, whole results past Python's objects, and MLflow's runs beside them."""

from __future__ import annotations

import gc
import json
import math
import re
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4

import mlflow
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from langgraph_session_store.columns import TableColumn
from langgraph_session_store.errors import ConfigError, DataError, MissingExtraError, SchemaError, UnavailableError
from langgraph_session_store.frames import tables as frames
from langgraph_session_store.frames import with_mlflow
from langgraph_session_store.query import Query

KINDS = {
    "uuid": (st.uuids(), pa.string(), "string"),
    "timestamptz": (
        st.datetimes(timezones=st.just(UTC)),
        pa.timestamp("us", tz="UTC"),
        "datetime64[us, UTC]",
    ),
    "timestamp": (st.datetimes(), pa.timestamp("us"), "datetime64[us]"),
    "date": (st.dates(), pa.date32(), "datetime64[us]"),
    "smallint": (st.integers(-(2**15), 2**15 - 1), pa.int64(), "Int64"),
    "integer": (st.integers(-(2**31), 2**31 - 1), pa.int64(), "Int64"),
    "bigint": (st.integers(-(2**63), 2**63 - 1), pa.int64(), "Int64"),
    "double precision": (st.floats(allow_nan=False), pa.float64(), "Float64"),
    "real": (st.floats(width=32, allow_nan=False), pa.float64(), "Float64"),
    "numeric": (st.decimals(allow_nan=False, allow_infinity=False, places=3), pa.float64(), "Float64"),
    "numeric(12, 2)": (
        st.decimals(-(10**9), 10**9, places=2),
        pa.decimal128(12, 2),
        "Float64",
    ),
    "boolean": (st.booleans(), pa.bool_(), "boolean"),
    "varchar(255)": (
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        pa.string(),
        "string",
    ),
    "text": (st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), pa.string(), "string"),
    "jsonb": (
        st.recursive(
            st.booleans() | st.integers(-(2**80), 2**80) | st.text(st.characters(codec="ascii", categories="L")),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            max_leaves=5,
        ),
        pa.string(),
        "object",
    ),
    "inet": (st.ip_addresses(v=4), pa.string(), "string"),
}
COLUMNS = tuple(TableColumn(f"c{number}", kind) for number, kind in enumerate(KINDS))
ROW = st.fixed_dictionaries({column.name: st.none() | KINDS[column.sql_type][0] for column in COLUMNS})
ROWS = st.lists(ROW, max_size=5)


calmly = settings(phases=[Phase.generate], max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(found: object, meant: object, kind: str) -> bool:
    """Whether a cell of a frame says what the row said."""
    if meant is None:
        return found is None or pd.isna(found)
    if kind.startswith("numeric") or kind in ("real", "double precision"):
        return math.isclose(float(found), float(meant), rel_tol=1e-12)  # type: ignore[arg-type]
    if kind in ("uuid", "inet"):
        return found == str(meant)
    if kind == "date":
        return pd.Timestamp(found).date() == meant  # type: ignore[arg-type]
    return bool(found == meant) and isinstance(found, bool) == isinstance(meant, bool)


def plain(value: object) -> object:
    """A cell as Python has it."""
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if isinstance(value, np.generic) else value


def query(text: str, **params: object) -> Query[None]:
    return Query(text.encode(), params, lambda rows, count: None)


@pytest.fixture
def options(dsn, schema):
    return {**conninfo_to_dict(dsn), "options": f"-csearch_path={schema}"}


@calmly
@given(rows=ROWS)
def test_rows_keep_their_values_and_types_in_pandas_and_arrow(rows):
    table, frame = frames.to_arrow(rows, COLUMNS), frames.to_pandas(rows, COLUMNS)
    assert table.schema.types == [kind[1] for kind in KINDS.values()]
    assert [str(kind) for kind in frame.dtypes] == [kind[2] for kind in KINDS.values()]
    assert list(frame.columns) == table.column_names == [column.name for column in COLUMNS]
    assert len(frame) == len(table) == len(rows)
    for number, row in enumerate(rows):
        for column in COLUMNS:
            assert same(plain(frame[column.name][number]), row[column.name], column.sql_type), column
    backed = frames.to_pandas(rows, COLUMNS, arrow=True)
    assert pa.Table.from_pandas(backed, schema=table.schema).equals(table)
    assert all(isinstance(kind, pd.ArrowDtype) for kind in backed.dtypes)


@settings(calmly, max_examples=4, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROW, min_size=10, max_size=30))
def test_a_result_read_from_the_database_is_the_frame_of_its_rows(options, rows):
    with psycopg.connect(**options, autocommit=True) as conn:
        kinds = ", ".join(f"{column.name} {column.sql_type}" for column in COLUMNS)
        conn.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (n serial, {kinds})")
        names, marks = (", ".join(text.format(column.name) for column in COLUMNS) for text in ("{}", "%({})s"))
        conn.cursor().executemany(f"INSERT INTO t ({names}) VALUES ({marks})", [bound(row) for row in rows])
    everything = query("SELECT * FROM t ORDER BY n -- in this order")
    for arrow in (False, True):
        found = frames.read_pandas(frames.reader(options, everything, COLUMNS), COLUMNS, arrow=arrow)
        meant = frames.to_pandas(rows, COLUMNS, arrow=arrow)
        assert found.dtypes.equals(meant.dtypes)
        for column in COLUMNS:
            values = found[column.name]
            if column.sql_type == "jsonb" and arrow:
                values = values.map(json.loads, na_action="ignore")  # Postgres spaces the text in its own way
            if column.sql_type == "inet":
                values = values.str.removesuffix("/32")
            for value, row in zip(values, rows, strict=True):
                assert same(plain(value), row[column.name], column.sql_type), column


def bound(row):
    """The row as psycopg takes it."""
    kinds = {column.name: column.sql_type for column in COLUMNS}
    return {
        name: Jsonb(value) if kinds[name] == "jsonb" and value is not None else value for name, value in row.items()
    }


def test_values_are_bound_and_cannot_change_the_statement(options):
    evil = "x'; DROP TABLE t; -- \\' %s $1 é"
    asked = query(
        "SELECT %(evil)s::text AS a, %(at)s::timestamptz AS b",
        evil=evil,
        at=datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    )
    columns = (TableColumn("a", "text"), TableColumn("b", "timestamptz"))
    (row,) = frames.reader(options, asked, columns).read_all().to_pylist()
    assert row == {"a": evil, "b": datetime(2026, 1, 1, 10, tzinfo=UTC)}


def test_what_arrow_has_no_room_for_is_null(options):
    kinds = ("timestamptz", "timestamp", "date")
    columns = [
        TableColumn(f"{kind}_{end.strip('-')}{end[0] == '-'}", kind)
        for kind in kinds
        for end in ("infinity", "-infinity")
    ]
    ends = ", ".join(f"'{end}'::{kind}" for kind in kinds for end in ("infinity", "-infinity"))
    names = ", ".join(f'"{column.name}"' for column in columns)
    asked = query(f"SELECT * FROM (VALUES ({ends}), (NULL, NULL, NULL, NULL, NULL, NULL)) AS t ({names})")
    assert all(
        value is None for row in frames.reader(options, asked, columns).read_all().to_pylist() for value in row.values()
    )
    asked = query(
        "SELECT 'NaN'::numeric(4, 1) AS a, 'NaN'::numeric AS b, '9999-12-31 23:59:59.999999+00'::timestamptz AS c"
    )
    columns = [TableColumn("a", "numeric(4, 1)"), TableColumn("b", "numeric"), TableColumn("c", "timestamptz")]
    (row,) = frames.reader(options, asked, columns).read_all().to_pylist()
    assert row["a"] is None
    assert math.isnan(row["b"])
    assert row["c"] == datetime.max.replace(tzinfo=UTC)
    assert frames.to_arrow([{"a": Decimal("NaN")}], columns[:1]).to_pylist() == [{"a": None}]


def test_a_stream_comes_in_pieces_and_its_connection_goes_with_it(options, dsn):
    columns = (TableColumn("i", "bigint"), TableColumn("s", "text"))
    asked = query("SELECT i, repeat('x', 1000) AS s FROM generate_series(1, 30000) i")

    def mine() -> int:
        with psycopg.connect(dsn) as conn:
            found = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'frames-stream'"
            ).fetchone()
        return found[0]  # type: ignore[index]

    named = {**options, "application_name": "frames-stream"}
    batches = frames.reader(named, asked, columns)
    first = batches.read_next_batch()
    assert 0 < len(first) < 30_000
    assert first.nbytes < 8 << 20
    assert mine() == 1
    rest = sum(len(batch) for batch in batches)
    assert len(first) + rest == 30_000
    assert gone(mine)
    for take in (0, 1):
        batches = frames.reader(named, asked, columns)
        for _ in range(take):
            batches.read_next_batch()
        del batches
        assert gone(mine), take


def gone(count) -> bool:
    """Whether there are soon none any more: a backend notices its client's end a moment later."""
    return any(count() == 0 or time.sleep(0.02) for _ in range(500))


def test_errors_of_postgres_are_ours_and_say_nothing_of_the_values(options):
    columns = (TableColumn("a", "integer"),)
    with pytest.raises(SchemaError, match="the table of sessions: the table is missing"):
        frames.reader(options, query("SELECT a FROM nowhere"), columns, where="the table of sessions")
    with pytest.raises(DataError) as caught:
        frames.reader(options, query("SELECT %(word)s::integer AS a", word="secret"), columns)
    assert "secret" not in repr(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(UnavailableError):
        frames.reader({**options, "host": "/nowhere", "password": "hunter2"}, query("SELECT 1 AS a"), columns)
    named = {**options, "application_name": "frames-late"}
    late = frames.reader(named, query("SELECT i AS a FROM generate_series(1, 5000000) i"), columns)
    with psycopg.connect(**options, autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'frames-late'")
    with pytest.raises(UnavailableError):
        late.read_all()


def test_a_frame_of_a_whole_result_keeps_little_beside_itself(options):
    digits = "1234567890" * 4  # in a text they make no other reader of JSON necessary
    columns = (TableColumn("text", "text"), TableColumn("tests", "jsonb"))
    asked = query(
        "SELECT repeat('x', 200) AS text, jsonb_build_object('expected', %(digits)s::text, 'case', i) AS tests "
        "FROM generate_series(1, 5000) i",
        digits=digits,
    )
    gc.collect()  # of other tests
    gc.collect()
    before = pa.total_allocated_bytes()
    frame = frames.read_pandas(frames.reader(options, asked, columns), columns)
    assert (
        1_000_000 < pa.total_allocated_bytes() - before < 1_200_000
    )  # a copy: the driver's batches, JSON and all, are freed
    assert len({id(key) for value in frame["tests"] for key in value}) == 2
    assert len({id(value) for value in frame["tests"]}) == len(frame)  # but no row shares what can change
    assert frame["tests"][4999] == {"expected": digits, "case": 5000}


def test_json_is_read_however_deep_or_large_its_values_are(options):
    columns = (TableColumn("tests", "jsonb"),)
    rows = [None, "null", "[" * 300 + "]" * 300, str(10**30), '"a, b"']
    asked = query("SELECT value::jsonb AS tests FROM unnest(%(rows)s::text[]) AS rows(value)", rows=rows)
    found = list(frames.read_pandas(frames.reader(options, asked, columns), columns)["tests"])
    assert found == [None if row is None else json.loads(row) for row in rows]


def test_empty_frames_keep_their_types(options):
    none = query(
        "SELECT * FROM (SELECT " + ", ".join(f"NULL::{c.sql_type} AS {c.name}" for c in COLUMNS) + ") t WHERE false"
    )
    for arrow in (False, True):
        empty = frames.to_pandas([], COLUMNS, arrow=arrow)
        assert len(empty) == 0
        assert empty.dtypes.equals(
            frames.to_pandas([dict.fromkeys(c.name for c in COLUMNS)], COLUMNS, arrow=arrow).dtypes
        )
        assert empty.dtypes.equals(
            frames.read_pandas(frames.reader(options, none, COLUMNS), COLUMNS, arrow=arrow).dtypes
        )
    assert frames.to_arrow([], COLUMNS).schema == frames.arrow_schema(COLUMNS)
    assert list(frames.to_pandas([{"a": 1}], ()).columns) == []


def test_a_value_that_is_none_of_its_columns_type_is_named_without_being_shown():
    for kind, value in (
        ("integer", "secret"),
        ("timestamptz", "secret"),
        ("boolean", object()),
        ("bigint", 2**70),
        ("numeric", "secret"),
    ):
        with pytest.raises(DataError, match="column c: a value is no ") as caught:
            frames.to_pandas([{"c": value}], [TableColumn("c", kind)])
        assert "secret" not in str(caught.value)


def test_importing_the_package_loads_no_frame_library():
    code = "import sys, langgraph_session_store.frames.tables, langgraph_session_store.frames.plots, langgraph_session_store.clusters, langgraph_session_store.export; print([m for m in ('pandas', 'pyarrow', 'matplotlib', 'sklearn', 'mlflow', 'adbc_driver_postgresql') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        ("pyarrow", lambda: frames.to_arrow([], COLUMNS)),
        ("pandas", lambda: frames.to_pandas([], COLUMNS)),
        ("adbc_driver_postgresql", lambda: frames.reader({}, query("SELECT 1"), ())),
        ("mlflow", lambda: with_mlflow(pd.DataFrame({"run_id": ["a"]}))),
    ],
)
def test_a_missing_library_says_how_to_get_it(monkeypatch, missing, call):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    extra = "mlflow" if missing == "mlflow" else "frames"
    with pytest.raises(MissingExtraError, match=rf"langgraph-session-store\[{extra}\]"):
        call()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tracking server's worth of runs: two experiments, one deleted run, one without anything logged."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    client = mlflow.MlflowClient(tracking_uri=uri)
    places = [client.create_experiment(name) for name in ("one", "two")]
    made = {}
    for name, place in (("first", 0), ("second", 1), ("bare", 0), ("deleted", 1)):
        run = client.create_run(places[place], run_name=name).info.run_id
        if name != "bare":
            client.log_param(run, "model", f"m-{name}")
            client.log_metric(run, "cost", 1.0)
            client.log_metric(run, "cost", 2.5)
        made[name] = run
    client.log_param(made["second"], "temperature", 0.5)
    client.delete_run(made["deleted"])
    return uri, made


def test_mlflow_runs_stand_beside_their_rows(runs):
    uri, made = runs
    ids = [
        made["second"],
        None,
        made["first"],
        made["second"],
        "no-such-run",
        made["deleted"],
        made["bare"],
        "x') OR 1=1 --",
        pd.NA,
    ]
    frame = pd.DataFrame(
        {"thread_id": range(9), "run_id": pd.array(ids, "string"), "metrics.cost": 1}, index=range(90, 99)
    )
    before = mlflow.get_tracking_uri()
    joined = with_mlflow(frame, tracking_uri=uri)
    assert mlflow.get_tracking_uri() == before
    assert list(joined.columns) == [
        *frame.columns,
        "run_name",
        "params.model",
        "params.temperature",
        "metrics.cost_mlflow",
    ]
    assert list(joined.index) == list(frame.index)
    assert joined["run_name"].fillna("-").tolist() == ["second", "-", "first", "second", "-", "-", "bare", "-", "-"]
    assert joined["params.temperature"].fillna("-").tolist() == ["0.5", "-", "-", "0.5", "-", "-", "-", "-", "-"]
    assert joined["metrics.cost_mlflow"].fillna(-1).tolist() == [2.5, -1, 2.5, 2.5, -1, -1, -1, -1, -1]
    assert [str(joined.dtypes[name]) for name in ("run_name", "params.model", "metrics.cost_mlflow")] == [
        "string",
        "string",
        "Float64",
    ]
    assert "run_name" not in frame


def test_mlflow_is_asked_in_pieces_and_not_at_all_without_runs(runs, monkeypatch):
    uri, made = runs
    asked = []
    search = mlflow.MlflowClient.search_runs
    monkeypatch.setattr(
        mlflow.MlflowClient, "search_runs", lambda self, *a, **k: asked.append(a[1]) or search(self, *a, **k)
    )
    many = pd.DataFrame({"run_id": [uuid4().hex for _ in range(2_300)] + [made["first"]]})
    assert with_mlflow(many, tracking_uri=uri)["run_name"].dropna().tolist() == ["first"]
    assert len(asked) == 3
    asked.clear()
    for nothing in (many[:0], pd.DataFrame({"run_id": [None, None]})):
        assert with_mlflow(nothing, tracking_uri=uri)["run_name"].isna().all()
    assert asked == []
    with pytest.warns(UserWarning, match=f"none of 2,300 runs at {re.escape(uri)}: set MLFLOW_TRACKING_URI"):
        assert with_mlflow(many[:2_300], tracking_uri=uri)["run_name"].isna().all()
    with pytest.raises(ConfigError, match="run_id"):
        with_mlflow(pd.DataFrame({"a": [1]}))


def test_uuids_and_dates_of_python_become_what_the_database_gives():
    frame = frames.to_pandas(
        [{"a": UUID(int=1), "b": date(2026, 1, 2)}], [TableColumn("a", "uuid"), TableColumn("b", "date")]
    )
    assert frame["a"][0] == "00000000-0000-0000-0000-000000000001"
    assert frame["b"].dt.day.tolist() == [2]
