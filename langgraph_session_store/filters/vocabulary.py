"""The filter vocabulary: ``field__op=value`` of Python keywords, query strings and the command line, compiled to conditions.

Identifiers come only from the columns that a `Vocabulary` was built with, values and JSON paths are always bound, and what
compiles runs: no value of a filter makes Postgres raise.

A field that is jsonb takes a path, ``metadata__experiment__gte=3``: all words behind the field, up to a last one that is an
operator. A key of the JSON that is named like an operator needs one behind it (``metadata__in__eq``); one that holds ``__`` is
reached by ``has``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from psycopg.sql import SQL, Composable, Identifier, Placeholder

from ..errors import FilterError
from .paging import EVERY_ROW, Condition, Key, Order
from .phrases import weaker
from .sqltypes import BOOLEAN, JSON, NUMERIC, TEXT, Family, SqlType, check_text, parse_json, plain, preview, sql_type

if TYPE_CHECKING:
    from ..columns import TableColumn

_EQUALITY: Final = frozenset({"eq", "ne", "in", "notin", "isnull"})
_ORDERING: Final = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_LIKE: Final = {"contains": ("LIKE", "%", "%"), "icontains": ("ILIKE", "%", "%"), "startswith": ("LIKE", "", "%")}

OPERATORS: Final = (
    "eq", "ne", "lt", "lte", "gt", "gte", "in", "notin", "isnull", "contains", "icontains", "startswith", "has",
)  # fmt: skip
"""Every operator of the vocabulary."""

_OPERATORS: Final[dict[Family, frozenset[str]]] = {
    "text": _EQUALITY | set(_ORDERING) | set(_LIKE),
    "number": _EQUALITY | set(_ORDERING),
    "time": _EQUALITY | set(_ORDERING),
    "boolean": _EQUALITY,
    "uuid": _EQUALITY,
    "jsonb": _EQUALITY | {"has"},
    "other": _EQUALITY | set(_LIKE),
}
_UNSORTABLE: Final = frozenset({"jsonb", "other"})
_TRUE: Final = SQL("TRUE")
_FALSE: Final = SQL("FALSE")


class Vocabulary:
    """The names that one table understands; build it once per table.

    *convert* maps a column to what makes a value storable there, applied where a whole value is compared for equality.
    """

    def __init__(
        self, columns: Iterable[TableColumn], *, convert: Mapping[str, Callable[[object], object]] | None = None
    ) -> None:
        self._columns = {column.name: column for column in columns}
        self._convert = dict(convert or {})

    def where(
        self, filters: Mapping[str, object] | None = None, any_of: Sequence[Mapping[str, object]] | None = None
    ) -> Condition:
        """Compile *filters*, all of which must hold, and *any_of*, of which one must; FilterError on what is unknown."""
        bind = _Binder()
        terms = self._terms(filters or {}, bind)
        if any_of is not None:
            terms.append(self._either(any_of, bind))
        restricting = [term for term in terms if term is not _TRUE]
        return Condition(SQL(" AND ").join(restricting), bind.params) if restricting else EVERY_ROW

    def parse(self, pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
        """Read the *pairs* of a query string or a command line as filters for `where`.

        ``in`` and ``notin`` take a comma-separated or JSON list and may repeat; values for JSON are JSON where they parse as it,
        else text; ``any_of`` is a JSON list of objects. FilterError on a list or object that is no JSON, and where another name repeats.
        """
        filters: dict[str, object] = {}
        for name, text in pairs:
            if name == "any_of":
                value, repeats = _json_or_text(name, text), False
            else:
                column, _, operator = self._split(name)
                value = _parsed(sql_type(column.sql_type), operator, name, text)
                repeats = operator in ("in", "notin")
            known = filters.get(name, [])
            if isinstance(value, list) and isinstance(known, list) and repeats:
                value = [*known, *value]
            elif name in filters:
                raise FilterError(
                    f"{_short(name)}: given twice; use {_short(name.split('__')[0])}__in for several values"
                )
            filters[name] = value
        return filters

    def order(self, order_by: str | Sequence[str] = "-created_at") -> Order:
        """Compile *order_by*, names with an optional ``-`` for descending; ties are broken by id, in the first one's direction."""
        keys: list[Key] = []
        for word in _words(order_by, "order_by"):
            name = word.removeprefix("-")
            column = self._column(name, "order_by")
            if sql_type(column.sql_type).family in _UNSORTABLE:
                raise FilterError(f"order_by: {name} is {column.sql_type}, which has no order")
            if any(key.column is column for key in keys):
                raise FilterError(f"order_by: {name} is named twice")
            keys.append(Key(column, word.startswith("-")))
        if all(key.column.name != "id" for key in keys):
            keys.append(Key(self._columns["id"], keys[0].descending))
        return Order(tuple(keys))

    def columns(self, fields: str | Sequence[str] | None = None, where: str = "fields") -> tuple[TableColumn, ...]:
        """Return the columns named by *fields*, comma-separated text or a sequence, each once; all of them for None.

        *where* is what an error calls them.
        """
        if fields is None:
            return tuple(self._columns.values())
        return tuple(dict.fromkeys(self._column(name, where) for name in _words(fields, where)))

    def describe(self) -> list[dict[str, object]]:
        """Return every name that compiles, with its SQL type and operators, ready for JSON."""
        return [self._described(column) for column in self._columns.values()]

    def _described(self, column: TableColumn) -> dict[str, object]:
        family = sql_type(column.sql_type).family
        entry: dict[str, object] = {
            "name": column.name,
            "type": column.sql_type,
            "ops": _operators(family),
            "sortable": family not in _UNSORTABLE,
        }
        return {**entry, "path_ops": list(OPERATORS)} if family == "jsonb" else entry

    def _terms(self, filters: Mapping[str, object], bind: _Binder) -> list[Composable]:
        if not isinstance(filters, Mapping) or not all(isinstance(name, str) for name in filters):
            raise FilterError("filters: expected a mapping of names to values")
        return [self._term(name, filters[name], bind) for name in sorted(filters)]

    def _either(self, any_of: object, bind: _Binder) -> Composable:
        if not isinstance(any_of, (list, tuple)) or not all(isinstance(filters, Mapping) for filters in any_of):
            raise FilterError(
                'any_of: expected a list of filters, such as [{"topic": "arrays"}, {"code_attempts__gte": 3}]'
            )
        if not all(any_of):
            raise FilterError("any_of: an alternative without a filter would match every row")
        alternatives: list[Composable] = []
        for filters in any_of:
            terms = [term for term in self._terms(filters, bind) if term is not _TRUE]
            if not terms:
                return _TRUE
            alternatives.append(SQL(" AND ").join(terms))
        return SQL("({})").format(SQL(" OR ").join(alternatives)) if alternatives else _FALSE

    def _term(self, name: str, value: object, bind: _Binder) -> Composable:
        column, path, operator = self._split(name)
        target = _target(column, path, name, bind)
        convert = self._convert.get(column.name)
        if operator == "isnull":
            (_, (is_null,)) = BOOLEAN.bind(name, [value])
            return target.is_null(bool(is_null))
        if operator in ("eq", "ne"):
            return target.equal([value], operator == "ne", convert, bind)
        if operator in ("in", "notin"):
            return target.equal(_several(name, value), operator == "notin", convert, bind)
        if value is None:
            raise FilterError(f"{_short(name)}: None has no order and no text; use isnull")
        if operator in _ORDERING:
            return target.ordered(_ORDERING[operator], value, bind)
        if operator in _LIKE:
            return target.like(operator, value, bind)
        return SQL("{} @> {}").format(target.sql, bind(JSON, name, value))

    def _split(self, name: str) -> tuple[TableColumn, tuple[str, ...], str]:
        if column := self._columns.get(name):
            return column, (), "eq"
        fitting = [known for known in self._columns if name.startswith(f"{known}__")]
        column = self._column(max(fitting, key=len) if fitting else name.split("__", 1)[0], "filter")
        words = name[len(column.name) + 2 :].split("__")
        family = sql_type(column.sql_type).family
        if family == "jsonb" and (len(words) > 1 or words[0] not in OPERATORS):
            operator = words.pop() if words[-1] in OPERATORS else "eq"
            return column, _path(words, name), operator
        operator = "__".join(words)
        if operator not in _OPERATORS[family]:
            raise _unknown(f"operator of {column.name} ({column.sql_type})", operator, _operators(family))
        return column, (), operator

    def _column(self, name: str, where: str) -> TableColumn:
        try:
            return self._columns[name]
        except KeyError:
            owner = self._columns.get(name.split("__", 1)[0])
            if where != "filter" and "__" in name and owner and sql_type(owner.sql_type) is JSON:
                raise FilterError(
                    f"{where}: {_short(name)} is a path into JSON, which can filter, but neither sort, group nor be chosen: name {owner.name}, or give what it leads to a field of its own"
                ) from None
            raise _unknown(f"field in {where}" if where != "filter" else "field", name, self._columns) from None


class _Binder:
    """Collects values under the names f0, f1, ... and returns their placeholders."""

    def __init__(self) -> None:
        self.params: dict[str, object] = {}

    def __call__(self, kind: SqlType, where: str, value: object) -> Composable:
        cast, (bound,) = kind.bind(_short(where), [value])
        return self.placeholder(bound, cast)

    def array(self, kind: SqlType, where: str, values: Sequence[object]) -> Composable:
        cast, bound = kind.bind(_short(where), values)
        return self.placeholder(bound, f"{cast}[]")

    def placeholder(self, value: object, cast: str) -> Composable:
        name = f"f{len(self.params)}"
        self.params[name] = value
        return Placeholder(name) + SQL(f"::{cast}")


@dataclass(frozen=True, slots=True)
class _Target:
    """The left side of comparisons: a column, or a path into a jsonb column, where *text* is its value as text.

    *trigrams* says that there is an index of them.
    """

    name: str
    kind: SqlType
    sql: Composable
    text: Composable
    trigrams: bool = False

    def is_null(self, yes: bool) -> Composable:
        return SQL("{} IS NULL" if yes else "{} IS NOT NULL").format(self.text)

    def equal(
        self, values: Sequence[object], negated: bool, convert: Callable[[object], object] | None, bind: _Binder
    ) -> Composable:
        """Compare with any of *values*, among them None for NULL; never NULL itself."""
        some = [convert(value) if convert else value for value in values if value is not None]
        null = len(some) < len(values)
        if not some:
            return self.is_null(not negated) if null else (_TRUE if negated else _FALSE)
        if len(values) == 1:
            comparison = "{} IS DISTINCT FROM {}" if negated else "{} = {}"
            return SQL(comparison).format(self.sql, bind(self.kind, self.name, some[0]))
        template = "{0} <> ALL({1})" if negated else "{0} = ANY({1})"
        if null != negated:
            template = f"({template} OR {{2}} IS NULL)"
        elif negated:
            template = f"({template} AND {{2}} IS NOT NULL)"
        return SQL(template).format(self.sql, bind.array(self.kind, self.name, some), self.text)

    def ordered(self, comparison: str, value: object, bind: _Binder) -> Composable:
        left, kind = self.sql, self.kind
        if kind is JSON:
            is_text = isinstance(plain(value), str)
            left, kind = (self.only("string"), TEXT) if is_text else (self.only("number"), NUMERIC)
        return SQL("{} {} {}").format(left, SQL(comparison), bind(kind, self.name, value))

    def like(self, operator: str, value: object, bind: _Binder) -> Composable:
        comparison, before, after = _LIKE[operator]
        text = str(TEXT.value(_short(self.name), value))
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        left = self.only("string") if self.kind is JSON else self.text
        whole = SQL("{} {} {}").format(left, SQL(comparison), bind.placeholder(f"{before}{escaped}{after}", "text"))
        if not self.trigrams or (found := weaker(text)) is None:
            return whole
        looked_up = bind.placeholder(f"{before}{found}{after}", "text")
        # In a CASE the phrase stays out of the index and out of the planner's guess, to which both would be independent.
        return SQL("{} {} {} AND CASE WHEN {} THEN TRUE END").format(left, SQL(comparison), looked_up, whole)

    def only(self, kind: str) -> Composable:
        """Return the JSON's value where it is a *kind* and NULL elsewhere, so that no cast meets another kind."""
        cast = SQL("({})::numeric").format(self.sql) if kind == "number" else self.text
        return SQL("CASE WHEN jsonb_typeof({}) = {} THEN {} END").format(self.sql, SQL(f"'{kind}'"), cast)


def _target(column: TableColumn, path: tuple[str, ...], name: str, bind: _Binder) -> _Target:
    identifier = Identifier(column.name)
    kind = sql_type(column.sql_type)
    if path:
        steps = bind.placeholder(list(path), "text[]")
        deep = SQL("({} #> {})").format(identifier, steps)
        return _Target(name, JSON, deep, SQL("({} #>> {})").format(identifier, steps))
    if kind.family == "other":
        identifier_text = SQL("{}::text").format(identifier)
        return _Target(name, kind, identifier_text, identifier_text)
    return _Target(name, kind, identifier, identifier, trigrams=column.index == "trigram")


def _path(words: Sequence[str], name: str) -> tuple[str, ...]:
    try:
        if all(check_text(word) for word in words):
            return tuple(words)
    except ValueError:
        pass
    raise FilterError(f"{_short(name)}: a path is words or list positions with '__' between them")


def _several(name: str, value: object) -> list[object]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise FilterError(f"{_short(name)}: expected a list of values, got {preview(value)}")
    return list(value)


def _words(value: object, where: str) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
        raise FilterError(f"{where}: expected the names of fields, got {preview(value)}")
    return [word.strip() for word in words]


def _parsed(kind: SqlType, operator: str, name: str, text: str) -> object:
    if operator in ("in", "notin"):
        listed = _json_or_text(name, text) if text.startswith("[") else text
        if isinstance(listed, list):
            return listed
        items = [item.strip() for item in text.split(",")] if text else []
        return [_json_or_text(name, item) for item in items] if kind is JSON else items
    return _json_or_text(name, text) if kind is JSON and operator not in _LIKE and operator != "isnull" else text


def _json_or_text(name: str, text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:
        if text.lstrip().startswith(("{", "[")):
            raise FilterError(
                f'{_short(name)}: what begins with [ or {{ must be JSON, such as ["a", {{"b": 1}}], got {preview(text)}; a text that begins so is written "[..."'
            ) from None
        return text


def _operators(family: Family) -> list[str]:
    return [operator for operator in OPERATORS if operator in _OPERATORS[family]]


def _short(name: str) -> str:
    return name if len(name) <= 80 and name.isprintable() else ascii(name[:60])  # noqa: PLR2004


def _unknown(what: str, name: str, valid: Iterable[str]) -> FilterError:
    known = list(valid)
    close = get_close_matches(name[:80], known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return FilterError(f"unknown {what}: {preview(name).removeprefix('the text ')}{hint} Valid: {', '.join(known)}")
