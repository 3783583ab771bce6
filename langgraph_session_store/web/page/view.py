"""What the templates are given: links that keep the state of the page, chips, headings, the parts of a session. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from ...filters.sqltypes import sql_type
from ...queries.reads import vocabulary
from ...record import record_fields
from ..choices import STATUSES, closed_sets
from .markup import as_json, cell, is_code, label, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ...columns import TableColumn
    from ...query import Table
    from ...record import SessionRecord
    from ...session import Session, SessionVersion
    from ..reads import ReadStore
    from .markup import Cell
    from .overview import Counts

Pairs = list[tuple[str, str]]

_ALWAYS: Final = frozenset(STATUSES[:4])
_SAID: Final = {
    "eq": "is", "ne": "is not", "lt": "<", "lte": "≤", "gt": ">", "gte": "≥", "in": "is one of", "notin": "is none of",
    "isnull": "is empty", "contains": "contains", "icontains": "contains (any case)", "startswith": "starts with", "has": "has JSON",
}  # fmt: skip
_PLACE: Final = frozenset({"cursor"})
_WORDS: Final = frozenset({"fields", "order_by", "cursor", "_q"})
_TIMES: Final = ("created_at", "started_at", "finished_at", "updated_at")
_HEAD: Final = frozenset(
    {"thread_id", "workflow_status", "error", "rejected", "id", "recorded_at", "duration_seconds", *_TIMES}
)


class Counter(NamedTuple):
    """One number at the top of the page, and where it leads."""

    name: str
    value: str
    kind: str
    href: str
    active: bool


class Chip(NamedTuple):
    """One filter that is set, and the address without it."""

    field: str
    says: str
    value: str
    name: str
    raw: str
    href: str


class Head(NamedTuple):
    """One heading of the table."""

    label: str
    kind: str
    href: str | None
    sorted: str


class Block(NamedTuple):
    """One long field of a session."""

    name: str
    kind: str
    value: Any


def link(here: Pairs, *drop: str, **change: str | None) -> str:
    """Return the address of this page with some words changed, or dropped; it starts again from the first row."""
    gone = _PLACE | set(drop) | set(change)
    pairs = [(name, value) for name, value in here if name not in gone]
    return address([*pairs, *((name, value) for name, value in change.items() if value is not None)])


def address(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a relative address of the first screen."""
    query = urlencode(list(pairs), quote_via=quote, errors="replace")
    return f"./?{query}" if query else "./"


def counters(counts: Counts, here: Pairs) -> list[Counter]:
    """Return the counters: all, each status, and the last hour."""
    chosen = dict(here).get("workflow_status")
    found = [Counter("All", f"{counts.total:,}", "all", link(here, "workflow_status"), chosen is None)]
    for status in STATUSES:
        count = counts.by_status.get(status, 0)
        if status in _ALWAYS or count:
            active = chosen == status
            href = link(here, workflow_status=None if active else status)
            found.append(Counter(label(status), f"{count:,}", status, href, active))
    return found


def hour(counts: Counts) -> tuple[str, str]:
    """Return the last hour's success rate, and of how many."""
    return percent(counts.hour.rate), f"{counts.hour.finished:,}"


def chips(here: Pairs) -> list[Chip]:
    """Return the filters that are set."""
    found = []
    for place, (name, value) in enumerate(here):
        if name in _WORDS:
            continue
        field, _, op = name.partition("__")
        path, _, last = op.rpartition("__")
        says = _SAID.get(op) or _SAID.get(last, "is")
        shown = label(field) + (
            f" › {path.replace('__', ' › ')}" if path else f" › {op}" if op and op not in _SAID else ""  # noqa: RUF001
        )
        if op == "isnull" and value.lower() in ("false", "f", "no", "n", "off", "0"):
            says = "has a value"
        rest = [pair for index, pair in enumerate(here) if index != place and pair[0] not in _PLACE]
        found.append(
            Chip(
                "Any of" if name == "any_of" else shown,
                says,
                "" if op == "isnull" else value,
                name,
                value,
                address(rest),
            )
        )
    return found


def exported(here: Pairs) -> str:
    """Return the query of an export of what is shown, by the words of the API."""
    return urlencode(
        [(name, value) for name, value in here if name not in ("cursor", "_q")], quote_via=quote, errors="replace"
    )


def heads(table: Table, columns: Sequence[TableColumn], order_by: Sequence[str], here: Pairs) -> list[Head]:
    """Return the headings; a click sorts, first by the larger values, then by the smaller ones, then not."""
    sortable = {str(entry["name"]) for entry in vocabulary(table).describe() if entry["sortable"]}
    found = []
    for column in columns:
        kind = cell(column, "").kind
        down, up = f"-{column.name}" in order_by, column.name in order_by
        following = f"-{column.name}" if not (down or up) else column.name if down else None
        href = link(here, order_by=following) if column.name in sortable else None
        found.append(Head(label(column.name), kind, href, "descending" if down else "ascending" if up else "none"))
    return found


def choices(record: type[SessionRecord], table: Table) -> list[dict[str, Any]]:
    """Return what can be filtered by, with operators in words and the values where they are few."""
    declared = {field.name for field in record_fields(record)}
    closed = closed_sets(record, table)
    found = []
    for entry in vocabulary(table).describe():
        name = str(entry["name"])
        family = sql_type(str(entry["type"])).family
        values = [str(value) for value in closed.get(name, ())]
        ops: Any = entry["ops"]
        found.append(
            {
                "name": name,
                "label": label(name),
                "widget": "choice"
                if values
                else {"boolean": "bool", "number": "number", "time": "time"}.get(family, "text"),
                "ops": [(op, _SAID[op]) for op in ops],
                "values": values,
            }
        )
    return sorted(
        found, key=lambda item: (item["name"] not in declared and item["name"] != "workflow_status", item["label"])
    )


def session(
    reads: ReadStore, row: Session, versions: Sequence[SessionVersion], mlflow_uri: str | None
) -> dict[str, Any]:
    """Return the parts of a session's page."""
    table = reads.table
    blocks: list[Block] = []
    facts: list[Cell] = []
    for column in table.columns:
        value = row[column.name]
        if column.name in _HEAD or value is None:
            continue
        if column.kind != "own" and column.name in reads.large:
            blocks.append(_block(column, value))
        elif column.name == "metadata":
            blocks.append(Block("metadata", "json", value))
        else:
            facts.append(cell(column, value))
    return {
        "row": row,
        "blocks": blocks,
        "facts": facts,
        "times": [(name, row[name]) for name in _TIMES if row[name] is not None],
        "versions": versions,
        "run_url": run_url(mlflow_uri, row),
        "raw": as_json(row),
        "api": "api/sessions/" + quote(str(row["thread_id"]), safe=""),
        "is_code": is_code,
        "kinds": {column.name: column.sql_type for column in table.columns},
    }


def run_url(mlflow_uri: str | None, row: Mapping[str, Any]) -> str | None:
    """Return the page of the session's MLflow run."""
    if not mlflow_uri or not row["run_id"]:
        return None
    return f"{mlflow_uri.rstrip('/')}/#/runs/{quote(row['run_id'], safe='')}"


def _block(column: TableColumn, value: Any) -> Block:
    if column.sql_type == "jsonb":
        texts = isinstance(value, list) and value and all(isinstance(item, (str, int, float, bool)) for item in value)
        return Block(column.name, "list" if texts else "json", value)
    return Block(column.name, "code" if is_code(column.name) else "prose", value)
