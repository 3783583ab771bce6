"""How events become lines of the history: what stands near them is read, what they add is written.

Contents are many times as large as all else of a line. Those of a line that the thread's row holds as well are copied from there, and
those of lines nearby are read only for events that leave fields as they were.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import orjson
from psycopg.sql import SQL

from ..clock import to_microseconds
from ..query import Query, Rows, Steps, Table, name, names, nothing, statement
from ..sql import load
from .arrays import Array
from .history import Change, Line, as_newest, new_lines
from .upsert import cast, proposed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LAST: Final = to_microseconds(datetime.max.replace(tzinfo=UTC))
_HEADS: Final = ("%(thread_id)b::text[]", "%(run_id)b::text[]", "%(digests)b::text[]")


def add_lines(
    table: Table,
    said: Sequence[Change],
    runs: Mapping[str, str | None],
    applied: Mapping[str, int],
    *,
    newest: bool = False,
) -> Steps[None]:
    """Add the lines that what events *said* makes, whose threads' rows this transaction holds locked.

    *runs* gives the MLflow run by thread, *applied* the time of the event that was the last to write to the thread's row. *newest*
    moves all behind what there is.
    """
    if not said:
        return
    threads: dict[str, list[Change]] = {}
    for change in said:
        threads.setdefault(change.thread_id, []).append(change)
    carried = {id(change.fields): change.fields for change in said}  # few objects, slow to hash
    columns = {column.name: column.sql_type for column in table.versioned}
    columns |= dict(sorted((slot.name, slot.sql_type) for fields in carried.values() for slot in fields))
    whole = {key for key, fields in carried.items() if columns.keys() <= {s.name for s in fields if s.mode == "set"}}
    partial = {change.thread_id for change in said if id(change.fields) not in whole}
    held = {c.thread_id for c in said if id(c.fields) in whole and applied.get(c.thread_id) == c.recorded_at}
    times = {thread: [_LAST] if newest else [change.recorded_at for change in of] for thread, of in threads.items()}
    lines: dict[str, list[Line]] = yield near_lines(table, times, columns, partial)
    if newest:
        threads |= {thread: as_newest(of, lines.get(thread, ())) for thread, of in threads.items()}
    sent: list[Line] = []
    copies: list[Line] = []
    for thread, of in threads.items():
        for line in new_lines(lines.get(thread, ()), of, runs.get(thread)):
            (copies if thread in held and line.recorded_at == applied[thread] else sent).append(line)
    if sent:
        yield _add(table, sent, columns)
    if copies:
        yield _copy(table, copies, columns)


def near_lines(
    table: Table, times: Mapping[str, Sequence[int]], columns: Mapping[str, str], partial: Iterable[str]
) -> Query[dict[str, list[Line]]]:
    """Read the lines among which events of these *times* stand, by thread: not a whole history, which may be long.

    Contents are read of the *partial* threads alone, whose events do not carry all *columns*.
    """

    def read(rows: Rows, _: int) -> dict[str, list[Line]]:
        lines: dict[str, list[Line]] = defaultdict(list)
        for thread_id, at, digests, *values in rows:
            known = dict(zip(columns, values, strict=True))
            lines[thread_id].append(Line(thread_id, to_microseconds(at), None, orjson.loads(digests), known))
        return lines

    of = times.values()
    params = {
        "threads": Array("text", times),
        "first": Array("timestamptz", map(min, of)),
        "last": Array("timestamptz", map(max, of)),
        "partial": Array("text", partial),
    }
    return Query(_reading(table, tuple(columns)), params, read)


@lru_cache(maxsize=64)
def _reading(table: Table, columns: tuple[str, ...]) -> bytes:
    content = "CASE WHEN v.thread_id = ANY (%(partial)b::text[]) THEN v.{}::text END"
    contents = SQL(", ").join(SQL(content).format(name(column)) for column in columns)
    return statement(load("near_versions"), versions=table.versions, columns=contents)


def _add(table: Table, lines: Sequence[Line], columns: Mapping[str, str]) -> Query[None]:
    params = _heads(lines) | {"recorded_at": Array("timestamptz", [line.recorded_at for line in lines])}
    for index, column in enumerate(columns):
        params[f"c{index}"] = Array("text", [line.contents.get(column) for line in lines])
    return Query(_adding(table, tuple(columns.items())), params, nothing)


@lru_cache(maxsize=64)
def _adding(table: Table, columns: tuple[tuple[str, str], ...]) -> bytes:
    arrays = [*_HEADS, "%(recorded_at)b::timestamptz[]", *(f"%(c{index})b::text[]" for index in range(len(columns)))]
    return statement(
        load("add_versions"),
        versions=table.versions,
        columns=names(column for column, _ in columns),
        names=names(column for column, _ in columns),
        values=SQL(", ").join(cast(proposed(column), sql_type) for column, sql_type in columns),
        arrays=SQL(", ").join(map(SQL, arrays)),
    )


def _copy(table: Table, lines: Sequence[Line], columns: Mapping[str, str]) -> Query[None]:
    return Query(_copying(table, tuple(columns)), _heads(lines), nothing)


@lru_cache(maxsize=64)
def _copying(table: Table, columns: tuple[str, ...]) -> bytes:
    return statement(
        load("copy_versions"),
        table=table.full,
        versions=table.versions,
        columns=names(columns),
        values=SQL(", ").join(SQL("s.{}").format(name(column)) for column in columns),
        arrays=SQL(", ").join(map(SQL, _HEADS)),
    )


def _heads(lines: Sequence[Line]) -> dict[str, Array]:
    return {
        "thread_id": Array("text", [line.thread_id for line in lines]),
        "run_id": Array("text", [line.run_id for line in lines]),
        "digests": Array("text", [orjson.dumps(line.digests).decode() for line in lines]),
    }
