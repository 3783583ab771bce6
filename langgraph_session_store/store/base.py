"""What both stores share: settings, rows from what the caller gives, and the checks that need no database."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypedDict, TypeVar

from .. import frames
from ..clock import Clock, monotonic, to_datetime
from ..columns import OWN
from ..conninfo import Target, resolve
from ..driver import translated
from ..embedded import embedded_server
from ..encode import clean_text, thread_key, to_json
from ..errors import FilterError
from ..extract import extract, field_value
from ..filters.sqltypes import MOMENT, dump
from ..queries import reads, schema, writes
from ..queries.analytics import analytics
from ..queries.writes import Batch, batches
from ..query import Steps, Table
from ..record import SessionRecord, check_table, record_fields, table_columns, table_name
from ..records import ProblemSession
from ..row import Row, Slot, Value, own

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa

    from ..columns import TableColumn
    from ..filters.paging import Condition
    from ..query import Query
    from ..session import Analytics

log = logging.getLogger(__name__)
T = TypeVar("T")

CHUNK: Final = 500
"""Rows of one statement."""
SETTLE: Final = 1.0
"""Seconds that a read waits for what recorders of this process still hold."""

_WRITABLE: Final = (
    *("created_at", "run_id", "workflow_status", "user_id", "trace_id", "graph_name", "started_at", "finished_at"),
    *("error", "checkpoint_id", "metadata"),
)


class Backlog(Protocol):
    """What a recorder still holds of rows that belong to a store."""

    @property
    def pending(self) -> bool:
        """Whether there is anything to wait for."""

    def wait(self, timeout: float) -> bool:
        """Wait until what was accepted before the call is stored; return whether it is."""


class Own(TypedDict, total=False):
    """The store's own columns that a caller may set besides the common ones."""

    trace_id: str | None
    graph_name: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    checkpoint_id: str | None
    metadata: Mapping[str, object] | None


class BaseStore:
    """The sessions of one table in one Postgres.

    *conninfo* is a DSN; without one the environment says where (``DATABASE_URL``, ``POSTGRES_HOST`` ...), else an embedded Postgres
    is used. *table* and *schema* default to the record's table and to what the connection's ``search_path`` says. The first use
    connects, and creates or upgrades the table unless *setup* is False; constructing a store does not. At most *pool_size*
    connections are open.
    """

    def __init__(
        self,
        conninfo: str | Target | None = None,
        *,
        record: type[SessionRecord] = ProblemSession,
        table: str | None = None,
        schema: str | None = None,
        setup: bool = True,
        pool_size: int = 8,
    ) -> None:
        self.record = record
        self.target = conninfo if isinstance(conninfo, Target) else resolve(conninfo)
        self.table = Table(check_table(table or table_name(record)), table_columns(record), schema or None)
        self.clock = Clock()
        self._setup = setup
        self._pool_size = pool_size
        self._backlogs: list[Backlog] = []
        self._ready = False
        self._spread = False
        self._greeter: int | None = None
        self._preparing: dict[str, int] = {}
        self._lock = threading.RLock()
        self._busy = f"all {pool_size} connections of this store are busy: raise pool_size="
        self._where = f"{self.table.full.as_string(None)} on {self.target.describe()}"
        self._errors = translated(self._where)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where})"

    @classmethod
    def embedded(cls, path: str | os.PathLike[str] | None = None, **options: Any) -> Self:
        """Return a store on a Postgres of this machine, in the folder *path* or the user's data folder.

        The server comes from the ``[embedded]`` extra, else from the PATH, and starts at the first use.
        """
        return cls(resolve(embedded=embedded_server(None if path is None else Path(path), system=True)), **options)

    @property
    def setup_queries(self) -> Callable[[], Steps[schema.Report]] | None:
        """What sets the table up over somebody else's connection; None where the store may not."""
        return (lambda: schema.install(self.table)) if self._setup else None

    def _columns(self, fields: reads.Fields) -> tuple[TableColumn, ...]:
        return reads.vocabulary(self.table).columns(fields)

    def _reader(
        self, filters: Mapping[str, object], any_of: reads.AnyOf, fields: reads.Fields, order_by: reads.OrderBy
    ) -> pa.RecordBatchReader:
        query = reads.every(self.table, filters, any_of=any_of, fields=fields, order_by=order_by)
        return frames.reader(self.target.kwargs(), query, self._columns(fields), where=self._where)

    def add_backlog(self, backlog: Backlog) -> None:
        """Let reads wait for what *backlog* holds."""
        self._backlogs.append(backlog)

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE
        for backlog in self._backlogs:
            if backlog.pending:
                backlog.wait(max(0.0, deadline - time.monotonic()))

    def _opening(self, *, distributed: bool | None = None) -> Steps[schema.Report]:
        """Set the table up if wanted, and hear the database's clock."""
        report = schema.Report()
        if self._setup or distributed is not None:
            report = yield from schema.install(self.table, distributed=bool(distributed))
        self._spread, speaker = yield schema.surroundings()
        if (
            speaker == self._greeter
        ):  # no pooler stands between: what asks for it is prepared, and nothing else is run so often
            self._preparing = {"prepare_threshold": 2**31}
        before = monotonic()
        now = yield writes.clock()
        self.clock.anchor(now, (before + monotonic()) // 2)
        for note in report.notes:
            log.warning("%s: %s", self._where, note)
        if report.done:
            log.debug("%s: set up: %s", self._where, ", ".join(report.done))
        return report

    def _heed(self, encoding: str | None) -> None:
        """Warn of a database that cannot hold every text: such rows are refused one by one, as is any value that does not fit."""
        if encoding not in ("UTF8", None):
            log.warning(
                "%s: the database's encoding is %s, not UTF8: text that it cannot hold is refused, and lengths may count bytes; "
                "use one made with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
                self._where,
                encoding,
            )

    def _now(self) -> datetime:
        return to_datetime(self.clock.tick()[0])

    def _event(
        self, thread_id: object, state: object, columns: Mapping[str, object], flat: Mapping[str, object] | None = None
    ) -> Row:
        """Return the event of a caller who says what there is now; a column that is None says nothing."""
        if thread_id is None:
            raise FilterError("a session needs a thread_id, not None")
        fields = extract(self.record, state)
        slots = dict(
            zip((slot.name for slot in fields.shape), zip(fields.shape, fields.values, strict=True), strict=True)
        )
        for field in record_fields(self.record):
            if flat and field.name in flat and (field.name not in slots or slots[field.name][0].mode == "default"):
                slot = Slot(field.name, field.sql_type, "set", field.kind)
                slots[field.name] = (slot, field_value(self.record, field.name, flat[field.name]))
        carried: list[tuple[Slot, Value]] = [*slots.values()]
        carried.append((own("rejected"), to_json(fields.rejected) if fields.rejected else None))
        status = columns.get("workflow_status")
        carried.append((own("workflow_status", "set" if status else "default"), _plain(status or "running")))
        carried += [
            (own(column, "default" if column == "created_at" else "set"), _own_value(column, value))
            for column, value in columns.items()
            if value is not None and column != "workflow_status"
        ]
        return self._row(thread_id, carried)

    def _row(self, thread_id: object, carried: Sequence[tuple[Slot, Value]]) -> Row:
        at, mono, anchored = self.clock.tick()
        shape = tuple(slot for slot, _ in carried)
        return Row(thread_key(thread_id), at, at, mono, anchored, shape, tuple(value for _, value in carried))

    def _chunks(self, rows: Iterable[Row | Mapping[str, object]]) -> Iterator[tuple[Batch, bool]]:
        """Return batches and whether they are guarded: events are, what a caller says now is not."""
        pending: dict[bool, list[Row]] = {True: [], False: []}
        for row in rows:
            guarded = isinstance(row, Row)
            pending[guarded].append(row if isinstance(row, Row) else self._told(row))
            if len(pending[guarded]) == CHUNK:
                yield from ((batch, guarded) for batch in batches(pending[guarded]))
                pending[guarded].clear()
        for guarded, events in pending.items():
            yield from ((batch, guarded) for batch in batches(events))

    def _told(self, row: Mapping[str, object]) -> Row:
        columns = {name: row.get(name) for name in _WRITABLE}
        state = {name: value for name, value in row.items() if name not in OWN}
        return self._event(row.get("thread_id"), state, columns, flat=state)

    def _change(self, thread_id: object, fields: Mapping[str, object]) -> Row:
        declared = {field.name: field for field in record_fields(self.record)}
        unknown = [name for name in fields if name not in declared]
        if unknown or not fields:
            what = f"unknown field {unknown[0]!r}" if unknown else "no field"
            raise FilterError(f"update: {what}. Valid: {', '.join(declared)}")
        carried = [
            (Slot(name, declared[name].sql_type, "set", declared[name].kind), field_value(self.record, name, value))
            for name, value in fields.items()
        ]
        return self._row(thread_id, carried)

    def _restricting(self, filters: Mapping[str, object], any_of: reads.AnyOf) -> Condition:
        condition = reads.vocabulary(self.table).where(filters, any_of)
        if not condition.restricts:
            raise FilterError("erase: a filter is needed that does not match every row; purge() removes by age")
        for name, value in (item for some in (filters, *(any_of or ())) for item in some.items()):
            if value == "" and name.endswith(("__contains", "__icontains", "__startswith")):
                raise FilterError(f"erase: {name} is empty, which every text holds")
        return condition

    def _numbers(
        self, filters: Mapping[str, object], any_of: reads.AnyOf, group_by: reads.Fields, bucket: str | None
    ) -> Query[Analytics]:
        words = reads.vocabulary(self.table)
        columns = () if group_by is None else words.columns(group_by, "group_by")
        condition = words.where(filters, any_of)
        return analytics(self.table, condition, group_by=columns, bucket=bucket, spread=self._spread)

    def _erasing(self, threads: Sequence[str], condition: Condition | None = None) -> Steps[writes.Erased]:
        now, *_ = self.clock.tick()
        return writes.erase(self.table, threads, now, condition)

    def _erased(self, erased: writes.Erased) -> int:
        """Move the clock behind the tombstones, so that a run which starts now is not taken for an erased one."""
        if erased.at is not None and self.clock.at(monotonic()) <= erased.at:
            self.clock.anchor(erased.at + 1, monotonic())
        return erased.rows


def _own_value(column: str, value: object) -> Value:
    if OWN[column].sql_type == "jsonb":
        return to_json(value)
    if OWN[column].sql_type == "timestamptz":
        return dump(MOMENT.value(column, value))
    return _plain(value)


def _plain(value: object) -> str:
    return clean_text(str(getattr(value, "value", value)))
