"""A query string, read: filters by the vocabulary of the table, and the words of the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import FilterError
from ..queries.reads import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..query import Table


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters of a request, and what else it says by *words*."""

    filters: dict[str, object]
    any_of: Any
    words: dict[str, str]

    @classmethod
    def read(cls, table: Table, pairs: Iterable[tuple[str, str]], known: Iterable[str]) -> Asked:
        """Read *pairs*, of which *known* are words of the call and the others filters; FilterError on what is neither."""
        known = frozenset(known)
        words: dict[str, str] = {}
        rest: list[tuple[str, str]] = []
        for name, value in pairs:
            if name not in known:
                rest.append((name, value))
            elif name in words:
                raise FilterError(f"{name}: given twice")
            else:
                words[name] = value
        filters = vocabulary(table).parse(rest)
        return cls(filters, filters.pop("any_of", None), words)

    @property
    def order_by(self) -> list[str]:
        """The sort order, each field once."""
        named: dict[str, str] = {}
        for word in self.words.get("order_by", "-created_at").split(","):
            named.setdefault(word.strip().removeprefix("-"), word.strip())
        return list(named.values())

    def choice(self, name: str, *among: str) -> str | None:
        """Return a word that is one of *among*, None where it is not given."""
        value = self.words.get(name)
        if value is not None and value not in among:
            raise FilterError(f"{name}: expected one of them. Valid: {', '.join(among)}")
        return value
