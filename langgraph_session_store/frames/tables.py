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
from pydantic_core import from_json

from ..driver import translated
from ..errors import DataError, MissingExtraError
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
_YEARS: Final = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
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
    schema = _wide(arrow_schema([column for column in columns if column.name not in objects]))
    parts = []
    for batch in batches:
        with _uncollected():
            for name, values in objects.items():
                values.extend(_parsed(batch.column(name)))
        kept = batch.select(schema.names)
        kept = kept.cast(schema) if schema.names else kept  # which forgets its length without a column
        # A batch of ADBC is freed as a whole: what is kept is copied, so that the texts of JSON are not.
        parts.append(pa.ipc.read_record_batch(kept.serialize(), schema))
    return _frame(pa.Table.from_batches(parts, schema), columns, objects)


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


def json_value(text: str | bytes) -> Any:
    """Return the value of JSON *text*, integers exactly."""
    try:
        return from_json(text)
    except ValueError:  # nested more deeply than it follows
        return json.loads(text)


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
    """Return the values of JSON *texts*, which are read as one array: a Python text of each would take longer than its value."""
    pa = _pyarrow()
    joined = pa.compute.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts.fill_null("null")), ",")
    values: list[Any] = json_value(b"[" + joined[0].as_buffer() + b"]")
    return values


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


def _wide(schema: pa.Schema) -> pa.Schema:
    """Return *schema* with the strings that pandas keeps, which it would copy others to."""
    pa = _pyarrow()
    return pa.schema([field.with_type(pa.large_string()) if field.type == pa.string() else field for field in schema])


def _frame(table: pa.Table, columns: Sequence[TableColumn], objects: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Return *table* with pandas' own nullable types, and *objects* as the columns that they are."""
    pa, pandas = _pyarrow(), extra("a frame", "pandas")
    types = {
        pa.int64(): pandas.Int64Dtype(),
        pa.float64(): pandas.Float64Dtype(),
        pa.bool_(): pandas.BooleanDtype(),
        pa.string(): pandas.StringDtype("pyarrow"),
        pa.large_string(): pandas.StringDtype("pyarrow"),
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
