"""Rows as Arrow tables and pandas frames, and whole results of a database read into them past Python's objects.

=======================  =========================  ===================  ============================
SQL type                 Arrow                      pandas               pandas, ``arrow=True``
=======================  =========================  ===================  ============================
integers                 int64                      Int64                int64[pyarrow]
double precision, real   double                     Float64              double[pyarrow]
numeric(p, s), p <= 38   decimal128(p, s)           Float64              decimal128(p, s)[pyarrow]
other numeric            double                     Float64              double[pyarrow]
boolean                  bool                       boolean              bool[pyarrow]
timestamptz              timestamp[us, UTC]         datetime64[us, UTC]  timestamp[us, UTC][pyarrow]
timestamp                timestamp[us]              datetime64[us]       timestamp[us][pyarrow]
date                     date32                     datetime64[us]       date32[day][pyarrow]
jsonb                    string: JSON text          object: its value    string[pyarrow]: JSON text
all else                 string                     string               string[pyarrow]
=======================  =========================  ===================  ============================

JSON is text in Arrow because polars and DuckDB read that as it is; polars refuses Arrow's own JSON type.
Infinite times and those that Python's datetime has no room for are null.
"""

from __future__ import annotations

import gc
import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from ..driver import translated
from ..errors import ConfigError, DataError, MissingExtraError
from ..filters import sqltypes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    import pyarrow as pa

    from ..columns import TableColumn
    from ..query import Query

_DECIMAL: Final = re.compile(r"(?:numeric|decimal)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", re.ASCII | re.IGNORECASE)
_DECIMAL_DIGITS: Final = 38  # polars and DuckDB have no wider decimals
_BATCH_BYTES: Final = 4 << 20  # larger ones leave the processor's cache and are slower
_BIG_INTEGER: Final = r"\d{19}"  # in JSON: orjson would make it a float
_YEARS: Final = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
_RUN_ID: Final = re.compile(
    r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII
)  # what MLflow lets an id be; nothing that its filter would read
_RUNS_AT_ONCE: Final = 1000  # MLflow's filter parser refuses 5000
_AS_TEXT: Final = (sqltypes.ID, sqltypes.OTHER)  # what ADBC has no plain Arrow type for


def arrow_schema(columns: Iterable[TableColumn]) -> pa.Schema:
    """Return the Arrow schema of *columns*; needs pyarrow."""
    pa = _pyarrow()
    return pa.schema([pa.field(column.name, _arrow_type(pa, column.sql_type)) for column in columns])


def to_arrow(rows: Iterable[Mapping[str, Any]], columns: Sequence[TableColumn]) -> pa.Table:
    """Return *rows* as an Arrow table with the types of *columns*; DataError on a value that is none of its column's."""
    pa = _pyarrow()
    rows, schema = list(rows), arrow_schema(columns)
    arrays = []
    for column, field in zip(columns, schema, strict=True):
        convert = _converter(pa, column.sql_type, field.type)
        try:
            values = [None if value is None else convert(value) for value in (row.get(column.name) for row in rows)]
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
            raise DataError(f"column {column.name}: a value is no {column.sql_type}") from None
    return pa.Table.from_arrays(arrays, schema=schema)


def to_pandas(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[TableColumn], *, arrow: bool = False
) -> pd.DataFrame:
    """Return *rows* as a DataFrame with the types of *columns*, Arrow's where *arrow*; jsonb as Python objects, or as text."""
    if arrow:
        return _arrow_frame(to_arrow(rows, columns))
    rows = list(rows)
    objects = {column.name: [row.get(column.name) for row in rows] for column in columns if _is_json(column)}
    table = to_arrow(rows, [column for column in columns if column.name not in objects])
    return _frame(table, columns, objects)


def reader(
    options: Mapping[str, Any], query: Query[Any], columns: Sequence[TableColumn], *, where: str = "the table"
) -> pa.RecordBatchReader:
    """Run *query* on a connection of its own and return its rows as a stream of record batches of some MB.

    *options* are those of ``psycopg.connect``; *query* is one SELECT that yields at least *columns*. It runs before this returns; the
    connection closes with the last batch or with the reader. Errors of Postgres are `StoreError`, named with *where*. Needs pyarrow
    and adbc-driver-postgresql.
    """
    pa = _pyarrow()
    schema = arrow_schema(columns)
    batches = _batches({**options, "client_encoding": "UTF8"}, query, columns, where)
    next(batches)
    return pa.RecordBatchReader.from_batches(schema, batches)


def read_pandas(batches: pa.RecordBatchReader, columns: Sequence[TableColumn], *, arrow: bool = False) -> pd.DataFrame:
    """Return all that a `reader` of *columns* yields as a DataFrame like that of `to_pandas`."""
    pa = _pyarrow()
    if arrow:
        return _arrow_frame(batches.read_all())
    objects: dict[str, list[Any]] = {column.name: [] for column in columns if _is_json(column)}
    kept = [column.name for column in columns if column.name not in objects]
    parts = []
    for batch in batches:
        with _uncollected():
            for name, values in objects.items():
                values.extend(_parsed(batch.column(name)))
        parts.append(batch.select(kept))
    schema = arrow_schema([column for column in columns if column.name not in objects])
    return _frame(pa.Table.from_batches(parts, schema), columns, objects)


def with_mlflow(frame: pd.DataFrame, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return *frame* with the MLflow run of each row's ``run_id``: ``run_name``, ``params.<name>``, ``metrics.<name>``.

    Rows keep their order and index; those without a run, or whose run or experiment is deleted, have NA. A name that *frame* has
    already gets the suffix ``_mlflow``. *tracking_uri* defaults to MLflow's own. Needs pandas and mlflow.
    """
    pandas = extra("with_mlflow", "pandas")
    if "run_id" not in frame:
        raise ConfigError("with_mlflow needs the column run_id: add it to fields=")
    keys = [key if isinstance(key, str) else None for key in frame["run_id"]]
    runs = _mlflow_runs({key for key in keys if key is not None and _RUN_ID.fullmatch(key)}, tracking_uri)
    joined = [runs.get(key or "", {}) for key in keys]
    added = {}
    for name in sorted({name for run in runs.values() for name in run} | {"run_name"}, key=_run_column):
        kind = "Float64" if name.startswith("metrics.") else "string"
        unique = f"{name}_mlflow" if name in frame else name
        added[unique] = pandas.array([run.get(name) for run in joined], dtype=kind)
    found: pd.DataFrame = pandas.concat([frame, pandas.DataFrame(added, index=frame.index)], axis=1)
    return found


def extra(what: str, module: str) -> Any:
    """Return *module* of the [frames] extra, imported; MissingExtraError, which says that *what* needs it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(what, "frames") from None


def json_text(value: object) -> str:
    """Return a value of a jsonb column as JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _run_column(name: str) -> tuple[int, str]:
    return ("run_name", "params", "metrics").index(name.partition(".")[0]), name


def _mlflow_runs(run_ids: set[str], tracking_uri: str | None) -> dict[str, dict[str, Any]]:
    """Return the columns of the runs that exist, over all experiments."""
    try:
        from mlflow import MlflowClient  # type: ignore[attr-defined,unused-ignore]  # not in mlflow-tracing
    except ImportError:
        raise MissingExtraError("with_mlflow", "mlflow") from None
    client, wanted, runs = MlflowClient(tracking_uri=tracking_uri), sorted(run_ids), {}
    experiments = _pages(client.search_experiments) if wanted else []
    places = [experiment.experiment_id for experiment in experiments]
    for start in range(0, len(wanted) if places else 0, _RUNS_AT_ONCE):
        chosen = ",".join(f"'{run_id}'" for run_id in wanted[start : start + _RUNS_AT_ONCE])
        for run in _pages(client.search_runs, places, f"attributes.run_id IN ({chosen})"):
            runs[run.info.run_id] = {
                "run_name": run.info.run_name,
                **{f"params.{name}": value for name, value in run.data.params.items()},
                **{f"metrics.{name}": value for name, value in run.data.metrics.items()},
            }
    return runs


def _pages(search: Any, *what: Any) -> list[Any]:
    found = list(page := search(*what))
    while page.token:
        found += (page := search(*what, page_token=page.token))
    return found


def _pyarrow() -> Any:
    extra("a frame", "pyarrow.compute")
    return extra("a frame", "pyarrow")


def _is_json(column: TableColumn) -> bool:
    return sqltypes.sql_type(column.sql_type) is sqltypes.JSON


def _arrow_type(pa: Any, name: str) -> Any:
    kind = sqltypes.sql_type(name)
    if kind is sqltypes.NUMERIC and (found := _DECIMAL.fullmatch(name.strip())):
        precision, scale = int(found[1]), int(found[2] or 0)
        if scale <= precision <= _DECIMAL_DIGITS:
            return pa.decimal128(precision, scale)
    return {
        sqltypes.INTEGER: pa.int64(),
        sqltypes.NUMERIC: pa.float64(),
        sqltypes.DOUBLE: pa.float64(),
        sqltypes.REAL: pa.float64(),
        sqltypes.BOOLEAN: pa.bool_(),
        sqltypes.MOMENT: pa.timestamp("us", tz="UTC"),
        sqltypes.NAIVE: pa.timestamp("us"),
        sqltypes.DATE: pa.date32(),
    }.get(kind, pa.string())


def _converter(pa: Any, name: str, target: Any) -> Any:
    """Return what makes of a column's Python values those that Arrow takes for *target*."""
    if sqltypes.sql_type(name) is sqltypes.JSON:
        return json_text
    if pa.types.is_string(target):
        return lambda value: value if isinstance(value, str) else str(value)
    if pa.types.is_floating(target):
        return float
    if pa.types.is_decimal(target):
        return lambda value: value if Decimal(value).is_finite() else None
    return lambda value: value


def _batches(options: dict[str, Any], query: Query[Any], columns: Sequence[TableColumn], where: str) -> Iterator[Any]:
    """Yield None when *query* runs, then its batches."""
    adbc = extra("a frame of a whole result", "adbc_driver_postgresql.dbapi")
    schema = arrow_schema(columns)
    with translated(where), _as_psycopg(adbc):
        with psycopg.connect(**options, autocommit=True) as connection:
            # ADBC sends statements with parameters another way, without COPY: the values have to be in the text.
            found = psycopg.ClientCursor(connection).mogrify(query.sql, query.params)
        # ADBC does not autocommit: its transaction keeps a pooler from changing servers between its messages, too.
        with adbc.connect(make_conninfo(**options)) as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
            cursor.execute(f"SELECT {_casts(columns)} FROM (\n{found}\n) AS found")
            stream = cursor.fetch_record_batch()
            yield None
            for batch in stream:
                yield _cast(batch, schema)


def _casts(columns: Sequence[TableColumn]) -> str:
    """Return a SELECT list in which the types that ADBC has no plain Arrow type for come as text."""
    plain, text = SQL("{0}"), SQL("{0}::text AS {0}")
    kinds = [(text if sqltypes.sql_type(column.sql_type) in _AS_TEXT else plain, column.name) for column in columns]
    return SQL(", ").join(kind.format(Identifier(name)) for kind, name in kinds).as_string(None)


@contextmanager
def _as_psycopg(adbc: Any) -> Iterator[None]:
    """Raise ADBC's errors as the psycopg errors of the same SQLSTATE, without their words."""
    pa = _pyarrow()
    try:
        yield
    except (adbc.Error, pa.ArrowException, OSError) as error:  # a stream that breaks is Arrow's error or an OSError
        state = getattr(error, "sqlstate", None)
        if state is None and (found := re.search(r"SQLSTATE: (\w{5})", str(error))):
            state = found[1]
    else:
        return
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(state or "")
    except KeyError:
        kind = psycopg.OperationalError
    raise kind


def _cast(batch: Any, schema: pa.Schema) -> Any:
    pa = _pyarrow()
    arrays = []
    for array, field in zip(batch.columns, schema, strict=True):
        plain = array.storage if isinstance(array, pa.ExtensionArray) else array
        if pa.types.is_temporal(field.type):
            plain = _within_python(pa, plain)
        elif pa.types.is_decimal(field.type):
            plain = pa.compute.if_else(pa.compute.equal(plain, "nan"), None, plain)
        arrays.append(plain.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _within_python(pa: Any, array: Any) -> Any:
    """Return times with null for those beyond the years 1 to 9999: infinity, too, which Arrow does not know and wraps around."""
    low, high = (pa.scalar(end, array.type) for end in _YEARS)
    inside = pa.compute.and_(pa.compute.greater_equal(array, low), pa.compute.less_equal(array, high))
    return array if pa.compute.all(inside).as_py() is not False else pa.compute.if_else(inside, array, None)


def _parsed(texts: Any) -> list[Any]:
    """Return the values of JSON *texts*, integers exactly."""
    pa = _pyarrow()
    big = pa.compute.any(pa.compute.match_substring_regex(texts, _BIG_INTEGER)).as_py()
    load = json.loads if big else orjson.loads
    return [None if text is None else load(text) for text in texts.to_pylist()]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away from new objects that hold no cycles: looking for some takes as long as making them."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _arrow_frame(table: pa.Table) -> pd.DataFrame:
    pandas = extra("a frame", "pandas")
    frame: pd.DataFrame = table.to_pandas(types_mapper=pandas.ArrowDtype)
    return frame


def _frame(table: pa.Table, columns: Sequence[TableColumn], objects: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Return *table* with pandas' own nullable types, and *objects* as the columns that they are."""
    pa, pandas = _pyarrow(), extra("a frame", "pandas")
    types = {
        pa.int64(): pandas.Int64Dtype(),
        pa.float64(): pandas.Float64Dtype(),
        pa.bool_(): pandas.BooleanDtype(),
        pa.string(): pandas.StringDtype("pyarrow"),
    }
    for place, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.float64()))
        elif pa.types.is_date(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.timestamp("us")))
    frame: pd.DataFrame = table.to_pandas(types_mapper=types.get)
    for place, column in enumerate(columns):
        if column.name in objects:
            frame.insert(place, column.name, pandas.Series(objects[column.name], index=frame.index, dtype=object))
    return frame
