"""A statement as a value, the table that statements are about, and work that takes several of them.

`Query` is one statement with its values and the function that reads its rows. `Steps` is a generator that yields queries of one
transaction and receives their results, so that the sync store, the async store and the sink share the logic and differ in six lines.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from psycopg.sql import SQL, Composable, Identifier

from .sharing import once
from .sql import load

if TYPE_CHECKING:
    from .columns import TableColumn

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Rows = Sequence[tuple[Any, ...]]

NAME_BYTES: Final = 63
"""Postgres cuts longer identifiers, after which two of them may meet."""


@dataclass(frozen=True, slots=True)
class Query(Generic[T_co]):
    """One statement: its text, its values, and how its rows and row count are read.

    *prepare* it where planning would take as long as running it, and no value could want another plan. While the server works on
    a *long* one, the client has time for something else.
    """

    sql: bytes
    params: Mapping[str, Any]
    read: Callable[[Rows, int], T_co]
    prepare: bool = False
    long: bool = False


Steps = Generator[Query[Any], Any, T]
"""The statements of one transaction, of which later ones may depend on the results of earlier ones."""


def drive(steps: Steps[T], execute: Callable[[Query[Any]], Any]) -> T:
    """Run *steps* by *execute* and return what they return; the caller holds the transaction."""
    try:
        query = next(steps)
        while True:
            query = steps.send(execute(query))
    except StopIteration as stop:
        result: T = stop.value
        return result


def statement(text: SQL, /, **slots: Composable) -> bytes:
    """Return *text* with its *slots* filled."""
    return text.format(**slots).as_bytes(None)


@lru_cache(maxsize=512)
def about(which: str, table: Table) -> bytes:
    """Return the statement of a file whose only slots are the names of *table* and its companions."""
    return statement(load(which), table=table.full, versions=table.versions, erased=table.erased)


def count(_: Rows, affected: int) -> int:
    """Read the number of rows that a statement touched."""
    return affected


def nothing(_: Rows, __: int) -> None:
    """Read nothing."""


def single(rows: Rows, _: int) -> Any:
    """Read the first value of the first row, None without one."""
    return rows[0][0] if rows else None


def listed(rows: Rows, _: int) -> Rows:
    """Read all rows."""
    return rows


def name(*parts: str) -> SQL:
    """Return a quoted, dotted name that may stand beside ``%(values)s``."""
    return SQL(Identifier(*parts).as_string(None).replace("%", "%%"))


def names(columns: Iterable[str]) -> SQL:
    """Return quoted names with commas between them."""
    return _listed(tuple(columns))


@lru_cache(maxsize=512)
def _listed(columns: tuple[str, ...]) -> SQL:
    return SQL(SQL(", ").join(map(name, columns)).as_string(None))


@dataclass(frozen=True)
class Table:
    """A session table and its companions.

    Without a *schema* the names stay bare, and the connection's role decides as it does for everything else that it runs.
    """

    name: str
    columns: tuple[TableColumn, ...] = field(default=(), repr=False, hash=False)
    schema: str | None = None

    @once
    def full(self) -> SQL:
        """The table's quoted name."""
        return self.of(self.name)

    @once
    def versions(self) -> SQL:
        """The quoted name of the history."""
        return self.companion("versions")

    @once
    def erased(self) -> SQL:
        """The quoted name of the table of erased threads."""
        return self.companion("erased")

    @once
    def summary(self) -> SQL:
        """The quoted name of the summary view."""
        return self.companion("summary")

    @once
    def versioned(self) -> tuple[TableColumn, ...]:
        """The columns whose changes make history."""
        return tuple(column for column in self.columns if column.kind == "versioned")

    def companion(self, suffix: str) -> SQL:
        """Return the quoted name of what goes with the table under *suffix*."""
        return self.of(short(f"{self.name}_{suffix}"))

    def of(self, bare: str) -> SQL:
        """Return *bare*, quoted, in the table's schema."""
        return name(bare) if self.schema is None else name(self.schema, bare)


def short(bare: str) -> str:
    """Return *bare*, or where Postgres would cut it, its beginning and a hash of it all."""
    raw = bare.encode()
    if len(raw) <= NAME_BYTES:
        return bare
    return f"{raw[: NAME_BYTES - 9].decode(errors='ignore')}_{blake2b(raw, digest_size=4).hexdigest()}"
