"""Sessions as csv, ndjson or parquet, written while they are read: constant memory, and never half a file.

csv: RFC 4180 in UTF-8, with a header; NULL is an empty cell, jsonb is JSON, times have six digits of a second. A text that a spreadsheet would take for a formula gets a
leading apostrophe; numbers stay numbers. ndjson: one JSON object per line; jsonb nested, numeric exact, other types as text. parquet:
the types of `frames.arrow_schema`, zstd.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Protocol, Self, get_args

import orjson

from .clock import told
from .errors import ConfigError
from .filters.sqltypes import JSON, sql_type
from .frames import arrow_schema, extra, json_text, to_arrow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from .columns import TableColumn

Format = Literal["csv", "ndjson", "parquet"]
Progress = Callable[[int], object]
"""Is told how many rows are written so far."""

_BATCH: Final = 200  # rows between two writes, or
_BATCH_BYTES: Final = 4 << 20  # of what they hold
_GROUP_BYTES: Final = 16 << 20  # of a parquet row group, before compression
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full-width ones count, too
_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Encoder(Protocol):
    """Rows to bytes; the bytes of one file are those of all `encode` calls, then those of `finish`."""

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the bytes that are ready once *rows* came, maybe none yet."""

    def finish(self) -> bytes:
        """Return the last bytes."""


class _Gone(Exception):  # noqa: N818
    """Whoever read the stream does not any more."""


class Export:
    """A file that is being written: use it with ``with``, and `add` the rows.

    A path is written beside itself and renamed when all is there: a failure or Ctrl-C leaves what was there before. A binary stream
    is written as it is and left open; if its reader goes away, as ``head`` does, the block ends there, without an error. *format*
    defaults to what a path's suffix says. ConfigError: no such format.
    """

    def __init__(
        self,
        columns: Sequence[TableColumn],
        target: str | os.PathLike[str] | IO[bytes],
        format: Format | None = None,  # noqa: A002 - the store's own word for it
        *,
        progress: Progress | None = None,
    ) -> None:
        self.rows = 0
        """How many are written so far."""
        self._encoder = make_encoder(format or format_of(target), columns)
        self._target = target
        self._progress = progress
        self._waiting: list[Mapping[str, Any]] = []
        self._bytes = 0
        self._stack = ExitStack()

    def add(self, row: Mapping[str, Any]) -> None:
        """Write *row*, maybe together with later ones."""
        self._waiting.append(row)
        self._bytes += sum(map(sys.getsizeof, row.values()))
        if len(self._waiting) >= _BATCH or self._bytes >= _BATCH_BYTES:
            self._write()

    def __enter__(self) -> Self:
        self._out = self._stack.enter_context(_opened(self._target))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None and not isinstance(error, _Gone):
            return bool(self._stack.__exit__(kind, error, trace))
        with self._stack, suppress(_Gone):
            if error is None:
                self._write()
                self._put(self._encoder.finish())
        return True

    def _write(self) -> None:
        if self._waiting:
            self._put(self._encoder.encode(self._waiting))
            self.rows += len(self._waiting)
            self._waiting, self._bytes = [], 0
            if self._progress is not None:
                self._progress(self.rows)

    def _put(self, data: bytes) -> None:
        try:
            self._out.write(data)
            self._out.flush()
        except BrokenPipeError:
            _discard(self._out)
            raise _Gone from None


def export(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[TableColumn],
    target: str | os.PathLike[str] | IO[bytes],
    format: Format | None = None,  # noqa: A002
    *,
    progress: Progress | None = None,
) -> int:
    """Write *rows* to *target*, as `Export` does, and return how many were written."""
    with Export(columns, target, format, progress=progress) as out:
        for row in rows:
            out.add(row)
    return out.rows


def format_of(target: object) -> Format:
    """Return the format that the suffix of *target* names; ConfigError where it names none."""
    name = os.fspath(target) if isinstance(target, (str, os.PathLike)) else ""
    if (found := _SUFFIXES.get(Path(name).suffix.lower())) is None:
        raise ConfigError(
            f"say which format: {', '.join(get_args(Format))} (or a path that ends in .csv, .ndjson or .parquet)"
        )
    return found


def make_encoder(format: Format, columns: Sequence[TableColumn]) -> Encoder:  # noqa: A002
    """Return a fresh encoder of *format*; ConfigError where there is none."""
    kinds: dict[str, Callable[[Sequence[TableColumn]], Encoder]] = {"csv": _Csv, "ndjson": _Ndjson, "parquet": _Parquet}
    if format not in kinds:
        raise ConfigError(f"there is no format {format!r}; there are {', '.join(kinds)}")
    return kinds[format](columns)


class _Csv:
    def __init__(self, columns: Sequence[TableColumn]) -> None:
        self._names = [column.name for column in columns]
        self._json = {column.name for column in columns if sql_type(column.sql_type) is JSON}
        self._text = io.StringIO()
        self._writer = csv.writer(self._text)
        self._writer.writerow(map(_safe, self._names))

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        self._writer.writerows([self._cell(name, row.get(name)) for name in self._names] for row in rows)
        return self.finish()

    def finish(self) -> bytes:
        ready = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return ready

    def _cell(self, name: str, value: object) -> object:
        if value is None:
            return None
        if name in self._json:
            return json_text(value)  # never a formula: it begins with a quote, a bracket, a letter or a number
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, datetime):
            return told(value, "microseconds")  # all alike: some readers take the first one's format for the column's
        return value if isinstance(value, (int, float, Decimal)) else _safe(_text(value))


class _Ndjson:
    def __init__(self, columns: Sequence[TableColumn]) -> None:
        self._names = [column.name for column in columns]
        self._json = {column.name for column in columns if sql_type(column.sql_type) is JSON}

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        lines = bytearray()  # a line of its own would keep the room that orjson takes for the worst case
        for row in rows:
            values = {name: self._value(name, row.get(name)) for name in self._names}
            lines += orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
        return bytes(lines)

    def finish(self) -> bytes:
        return b""

    def _value(self, name: str, value: object) -> object:
        if name in self._json:
            return orjson.Fragment(json_text(value))
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            return orjson.Fragment(str(value)) if not isinstance(value, Decimal) or value.is_finite() else None
        return value if value is None or isinstance(value, (bool, float, str)) else _text(value)


class _Parquet:
    def __init__(self, columns: Sequence[TableColumn]) -> None:
        parquet = extra("parquet", "pyarrow.parquet")
        self._columns = columns
        self._waiting: list[Any] = []
        self._bytes = 0
        self._out = _Sink()
        self._writer = parquet.ParquetWriter(self._out, arrow_schema(columns), compression="zstd")

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        table = to_arrow(rows, self._columns)
        self._waiting.append(table)
        self._bytes += table.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._write()
        return self._out.taken()

    def finish(self) -> bytes:
        self._write()
        self._writer.close()
        return self._out.taken()

    def _write(self) -> None:
        if self._waiting:
            table = extra("parquet", "pyarrow").concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(table, row_group_size=len(table))
        self._waiting, self._bytes = [], 0


class _Sink(io.RawIOBase):
    """A file that only grows, and whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return told(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


@contextmanager
def _opened(target: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    path = Path(os.path.realpath(target))  # a link keeps pointing
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # /dev/stdout, a named pipe
        with path.open("wb") as out:
            yield out
        return
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        if path.exists():
            beside.chmod(stat.S_IMODE(path.stat().st_mode))
        beside.replace(path)
    except BaseException as error:  # Ctrl-C, too
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == os.fspath(beside):
            raise type(error)(error.errno, error.strerror, os.fspath(target)) from None
        raise


def _discard(out: IO[bytes]) -> None:
    """Point *out* to nowhere: what it still buffers would raise again when the process ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
