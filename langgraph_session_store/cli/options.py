"""What verbs have in common: the options that say which Postgres, table and record, and the words that are filters."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from ..clock import to_datetime
from ..columns import OWN, Status
from ..conninfo import resolve
from ..errors import ConfigError, FilterError, SchemaError
from ..filters.sqltypes import sql_type
from ..filters.vocabulary import OPERATORS, Vocabulary
from ..queries import reads
from ..queries.schema import describe
from ..query import Table
from ..record import SessionRecord, check_table, table_columns, table_name
from ..records import MessagesSession, ProblemSession
from ..store import SessionStore
from . import exits
from .output import Output, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_BUILT_IN: Final[tuple[type[SessionRecord], ...]] = (ProblemSession, MessagesSession)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
_OPTIONS: Final = frozenset({"limit", "order_by", "cursor", "fields", "group_by", "bucket", "format", "older_than"})
_PANEL: Final = "Which sessions"
_SKEW: Final = timedelta(minutes=1)  # that this machine's clock may be ahead of the database's


@dataclass(frozen=True)
class Source:
    """The Postgres, table and record that a verb was told to use."""

    dsn: str | None
    record_name: str | None
    table_name: str | None
    schema: str | None

    @property
    def record(self) -> type[SessionRecord] | None:
        """The record that was named, or the built-in one that keeps the table; None for a table that only the database knows."""
        if self.record_name is not None:
            return _import_record(self.record_name)
        if self.table_name is None:
            return ProblemSession
        return next((record for record in _BUILT_IN if table_name(record) == self.table_name), None)

    @property
    def table(self) -> Table:
        """The table as the record declares it."""
        record = self.record or ProblemSession
        return Table(check_table(self.table_name or table_name(record)), table_columns(record), self.schema)

    def command(self, verb: str, word: str) -> str:
        """Return the command line of another *verb* for the same table; a DSN, which may hold a password, is left to be filled in."""
        given = {"--record": self.record_name, "--table": self.table_name, "--schema": self.schema}
        options = [part for name, value in given.items() if value is not None for part in (name, value)]
        line = shlex.join(["session-store", verb, *options]) + (" --dsn ..." if self.dsn is not None else "")
        return f"{line} {shlex.join(['--', word] if word.startswith('-') else [word])}"

    @contextmanager
    def open(self, *, setup: bool = False) -> Iterator[SessionStore]:
        """Open the store. Only *setup* may change the database; a table without a record is as the database describes it."""
        known = self.record
        target = resolve(self.dsn)
        if target.source == "default":
            exits.complain(f"DATABASE_URL is not set: using {target.describe()}", "note", "blue")
        store = SessionStore(
            target, record=known or ProblemSession, table=self.table_name, schema=self.schema, setup=setup
        )
        with store:
            if known is None and not setup:
                store.table = store.run(describe(store.table))
                if missing := [name for name in OWN if all(name != column.name for column in store.table.columns)]:
                    raise SchemaError(f"{self.table_name} is no session table: it has no column {missing[0]}")
            yield store


_Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="URL",
        rich_help_panel=_PANEL,
        help="Postgres, as a URL or key=value pairs; by default DATABASE_URL, POSTGRES_HOST ... or PGHOST ... say which. "
        "Other users of this machine can see it: put a password into the environment or ~/.pgpass instead.",
    ),
]
_Record = Annotated[
    str | None,
    typer.Option(
        "--record",
        metavar="MODULE:CLASS",
        rich_help_panel=_PANEL,
        help="Your record class, such as app.records:TicketSession; by default ProblemSession.",
    ),
]
_Table = Annotated[
    str | None,
    typer.Option("--table", metavar="NAME", rich_help_panel=_PANEL, help="The table; by default the record's own."),
]
_Schema = Annotated[
    str | None,
    typer.Option(
        "--schema", metavar="NAME", rich_help_panel=_PANEL, help="Its schema; by default the search_path finds it."
    ),
]
_Json = Annotated[
    bool, typer.Option("--json", help="Answer in JSON; keys are those of the Python and the REST interface.")
]

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILTER",
        help="field=value or field__op=value, as in topic=arrays code_attempts__gte=3; all must hold. "
        f"Operators: {', '.join(OPERATORS)}. A list has commas: topic__in=arrays,graphs. A path leads into JSON: "
        "metadata__model=small. Times are UTC: created_at__gte=2026-01-31T12:00. One of several: "
        """'any_of=[{"topic":"graphs"},{"code_attempts__gte":3}]'.""",
        autocompletion=lambda ctx, incomplete: list(_completions(ctx, incomplete)),
        show_default=False,
    ),
]
Thread = Annotated[str, typer.Argument(metavar="THREAD_ID", help="The session's thread id.", show_default=False)]
Fields = Annotated[
    str | None,
    typer.Option("--fields", "-f", metavar="NAME,...", help="Only these columns, in this order.", show_default=False),
]
Order = Annotated[
    str, typer.Option("--order-by", "-o", metavar="NAME,...", help="Columns to sort by; -name for descending.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
SpoolDir = Annotated[
    Path | None,
    typer.Option(
        "--spool-dir",
        metavar="FOLDER",
        help="The recorder's spool_dir; by default the folder of this user.",
        show_default=False,
    ),
]


def with_source(verb: Callable[..., None]) -> Callable[..., None]:
    """Give *verb*, whose first parameters are a `Source` and an `Output`, the options that these are made of."""
    signature = inspect.signature(verb, eval_str=True)
    own = list(signature.parameters.values())[2:]
    shared = {"as_json": (_Json, False), "dsn": (_Dsn, None), "record": (_Record, None)}
    shared |= {"table": (_Table, None), "schema": (_Schema, None)}
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in shared.items()
    ]

    @functools.wraps(verb)
    def command(*args: Any, as_json: bool, dsn: Any, record: Any, table: Any, schema: Any, **kwargs: Any) -> None:
        verb(Source(dsn, record, table, schema), Output(as_json=as_json), *args, **kwargs)

    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
    del command.__wrapped__  # nobody shall look behind this signature
    return command


# --- words ---


def read_filters(table: Table, words: Sequence[str] | None) -> dict[str, Any]:
    """Return the filters that *words* say, for the store's methods."""
    pairs = [_pair(word) for word in words or ()]
    filters = reads.vocabulary(table).parse(pairs)
    times = {column.name for column in table.columns if sql_type(column.sql_type).family == "time"}
    for name, value in pairs:
        if name.split("__")[0] in times and (age := _AGE.fullmatch(value)):
            moment = _ago(datetime.now(UTC), _timedelta(age), name)
            raise FilterError(
                f"{name}: an age such as {value} is for --since and --older-than; say the time: {name}={moment:%Y-%m-%dT%H:%MZ}"
            )
    return filters


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise FilterError(f"{word[:60]!r} is no filter: write field=value or field__op=value, as in topic=arrays")
    if name in _OPTIONS:
        raise FilterError(f"{name} is an option, not a filter: --{name.replace('_', '-')} {value[:60]}".rstrip())
    return name, value


def read_moment(text: str, option: str) -> timedelta | datetime:
    """Return an age (``30d``, ``12h``) or a moment (``2026-01-31``, read as UTC without an offset)."""
    if age := _AGE.fullmatch(text.strip()):
        return _timedelta(age)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise FilterError(f"{option}: expected an age such as 12h, 30d or 4w, or a date such as 2026-01-31") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _timedelta(age: re.Match[str]) -> timedelta:
    return timedelta(seconds=int(age[1]) * _UNITS[age[2]])


def _ago(now: datetime, age: timedelta, where: str) -> datetime:
    try:
        return now - age
    except OverflowError:
        raise FilterError(f"{where}: there is no date so long ago") from None


def past(store: SessionStore, moment: timedelta | datetime, option: str) -> datetime:
    """Return *moment*, or that long ago, by the database's clock; FilterError where it is still to come, or before all dates."""
    store.ensure()
    now = to_datetime(store.clock.tick()[0])
    then = _ago(now, moment, option) if isinstance(moment, timedelta) else moment
    if then > now + _SKEW:
        raise FilterError(f"{option}: {stamp(then)} is in the future, expected what is past")
    return then


def _completions(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield what may complete a filter: a field, its operators once it is written, the statuses."""
    given = ctx.params
    try:
        source = Source(None, given.get("record"), given.get("table"), None)
        words = Vocabulary((source.table if source.record else replace(source.table, columns=())).columns).describe()
    except Exception:  # a half-written command line is no place for errors
        return
    if incomplete.startswith("workflow_status="):
        yield from (f"workflow_status={s}" for s in get_args(Status) if f"workflow_status={s}".startswith(incomplete))
        return
    for word in words:
        name, ops = str(word["name"]), word["ops"]
        if incomplete.startswith(f"{name}__") and isinstance(ops, list):
            yield from (f"{name}__{op}=" for op in ops if f"{name}__{op}=".startswith(incomplete))
        elif f"{name}=".startswith(incomplete):
            yield f"{name}="


def _import_record(name: str) -> type[SessionRecord]:
    found = imported("--record", name, "app.records:TicketSession")
    if not (isinstance(found, type) and issubclass(found, SessionRecord)):
        raise ConfigError(f"--record {name[:80]}: that is no SessionRecord class")
    return found


def imported(option: str, name: str, example: str, cure: str = "") -> Any:
    """Return what ``MODULE:NAME`` names, from the project that the command is called in; ConfigError, with a *cure*, if it cannot be had."""
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise ConfigError(f"{option}: expected MODULE:NAME, such as {example}, got {name[:80]!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{option} {name[:80]}: cannot be imported ({cure or why})") from None
    return found
