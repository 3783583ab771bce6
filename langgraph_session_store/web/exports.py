"""Sessions as files, piece by piece, in constant memory: CSV that a spreadsheet opens safely, NDJSON, Parquet."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..errors import MissingExtraError
from .problems import dumps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ..columns import TableColumn
    from ..session import Session

_ROWS: Final = 500
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full-width ones count, too


class Encoder(Protocol):
    """Turns rows into the bytes of a file."""

    def rows(self, sessions: Sequence[Session]) -> bytes:
        """Return the bytes of *sessions*."""
        ...

    def end(self) -> bytes:
        """Return the last bytes."""
        ...


class Csv:
    """CSV with a head, in which no cell of text is a formula: a spreadsheet would run it."""

    def __init__(self, columns: Sequence[TableColumn]) -> None:
        self._names = [column.name for column in columns]
        self._begun = False

    def rows(self, sessions: Sequence[Session]) -> bytes:
        """Return lines."""
        text = io.StringIO()
        lines = csv.writer(text)
        if not self._begun:
            self._begun = True
            lines.writerow(self._names)
        lines.writerows([_cell(session[name]) for name in self._names] for session in sessions)
        return text.getvalue().encode("utf-8", "replace")

    def end(self) -> bytes:
        """Return the head of a file without rows, else nothing."""
        return b"" if self._begun else self.rows(())


class Ndjson:
    """One JSON object per line."""

    def __init__(self, columns: Sequence[TableColumn]) -> None:
        self._columns = columns

    def rows(self, sessions: Sequence[Session]) -> bytes:
        """Return lines."""
        return b"".join(dumps(session) + b"\n" for session in sessions)

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class Parquet:
    """Parquet with the columns' types, in row groups."""

    def __init__(self, columns: Sequence[TableColumn]) -> None:
        try:
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingExtraError("a parquet export", "frames") from None
        from ..frames import to_arrow

        self._columns = columns
        self._convert = to_arrow
        self._buffer = _Drain()
        self._writer = pq.ParquetWriter(self._buffer, to_arrow([], columns).schema, compression="zstd")

    def rows(self, sessions: Sequence[Session]) -> bytes:
        """Return a row group."""
        table = self._convert(sessions, self._columns)
        self._writer.write_table(table.cast(self._writer.schema))
        return self._buffer.drain()

    def end(self) -> bytes:
        """Return the footer."""
        self._writer.close()
        return self._buffer.drain()


class _Drain(io.RawIOBase):
    """A file that is emptied while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._place += len(part)
        return len(part)

    def drain(self) -> bytes:
        """Return what was written since."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


FORMATS: Final[dict[str, tuple[Callable[[Sequence[TableColumn]], Encoder], str]]] = {
    "csv": (Csv, "text/csv; charset=utf-8"),
    "ndjson": (Ndjson, "application/x-ndjson"),
    "parquet": (Parquet, "application/vnd.apache.parquet"),
}


async def pieces(encoder: Encoder, sessions: AsyncIterator[Session]) -> AsyncIterator[bytes]:
    """Yield the file of *sessions*; what is encoded does not hold the event loop up."""
    batch: list[Session] = []
    async for session in sessions:
        batch.append(session)
        if len(batch) == _ROWS:
            yield await asyncio.to_thread(encoder.rows, batch)
            batch = []
    if batch:
        yield await asyncio.to_thread(encoder.rows, batch)
    yield await asyncio.to_thread(encoder.end)


def _cell(value: Any) -> object:
    if isinstance(value, (dict, list)):
        return dumps(value).decode()
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value
