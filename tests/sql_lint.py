"""What Citus and poolers in transaction mode refuse or break silently, found by Postgres's own parser: `complaints` about a statement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pglast import ast, parse_plpgsql, parse_sql
from pglast.enums import ConstrType, VariableSetKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Rule = Callable[[Any, "Scope"], str | None]

_PLACEHOLDER: Final = re.compile(r"%(?:%|\((\w+)\)[sbt])")
_HOLD: Final = 0x0020
_TEMPORARY: Final = "t"
_SESSION_LOCK: Final = re.compile(r"pg_(try_)?advisory_(lock|unlock)")
_UPDATE_MAKES_OF: Final = (
    *(ast.ColumnRef, ast.ParamRef, ast.A_Const, ast.String, ast.Integer, ast.Float, ast.Boolean, ast.BitString),
    *(ast.CoalesceExpr, ast.MinMaxExpr, ast.CaseExpr, ast.CaseWhen, ast.BoolExpr, ast.NullTest, ast.BooleanTest),
)
"""What DO UPDATE may be made of, besides comparisons: nothing whose volatility Citus would have to ask about."""


class Scope:
    """What a rule may ask about a statement: its nodes, and the names that its WITH declares."""

    def __init__(self, root: Any, volatile: frozenset[str]) -> None:
        self.nodes = list(walk(root))
        self.volatile = volatile
        self.declared = {node.ctename for node in self.nodes if isinstance(node, ast.CommonTableExpr)}

    def stored(self, node: Any) -> list[str]:
        """Return the names of the tables that *node* reads, which may be distributed."""
        return [
            each.relname
            for each in walk(node)
            if isinstance(each, ast.RangeVar) and not (each.schemaname is None and each.relname in self.declared)
        ]


def complaints(text: str | bytes, volatile: frozenset[str] = frozenset(), *, citus: bool = True) -> list[str]:
    """Return what is wrong with a statement as psycopg gets it; *volatile* are the names of functions that are.

    Without *citus* only what poolers refuse is told, as of statements about tables that are never distributed.
    """
    plain = _numbered(text.decode() if isinstance(text, bytes) else text)
    return list(dict.fromkeys(_all(plain, volatile, POOLERS + CITUS if citus else POOLERS)))


def _numbered(text: str) -> str:
    """Return *text* with ``$1`` for the driver's placeholders."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}" if found[1] else "%"

    return _PLACEHOLDER.sub(number, text) if "%(" in text or "%%" in text else text


def _all(text: str, volatile: frozenset[str], rules: Sequence[Rule]) -> Iterator[str]:
    statements = [raw.stmt for raw in parse_sql(text)]
    yield from _together(statements)
    for root in statements:
        scope = Scope(root, volatile)
        for node in scope.nodes:
            yield from (said for rule in rules if (said := rule(node, scope)))
            if isinstance(node, ast.DoStmt):
                yield from (said for inner in _bodies(text) for said in _all(inner, volatile, rules))
            elif isinstance(node, ast.CreateFunctionStmt):
                inside = list(_bodies(text))
                yield from (said for inner in inside for said in _all(inner, volatile, rules))
                if any(re.search(r"\bnotify\b", inner, re.IGNORECASE) for inner in inside):
                    yield "NOTIFY in a trigger is heard on a worker alone"


def _together(statements: list[Any]) -> Iterator[str]:
    """One string is one statement, or opens a transaction and sets its limits, which keeps it on one server."""
    first, *rest = statements
    opens = isinstance(first, ast.TransactionStmt)
    if rest and not (opens and all(isinstance(each, ast.VariableSetStmt) and each.is_local for each in rest)):
        yield "several statements in one string"


def _bodies(text: str) -> Iterator[str]:
    """Yield the statements of PL/pgSQL, and its expressions as statements."""
    for query, mode in _queries(parse_plpgsql(text)):
        expression = re.sub(r"^[\w.]+\s*:?=", "", query, count=1) if mode > 2 else query
        yield expression if mode == 0 else f"SELECT {expression}"


def _queries(node: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, dict):
        if "query" in node and "parseMode" in node:
            yield node["query"], node["parseMode"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _queries(each)


def walk(node: Any) -> Iterator[Any]:
    """Yield *node* and everything below it."""
    if isinstance(node, ast.Node):
        yield node
        for name in node:
            yield from walk(getattr(node, name))
    elif isinstance(node, tuple):
        for each in node:
            yield from walk(each)


def called(node: Any) -> str:
    """Return the name of the function that *node* calls."""
    return node.funcname[-1].sval if isinstance(node, ast.FuncCall) else ""


# --- poolers: what belongs to a session is another client's a moment later ---


def session_settings(node: Any, _: Scope) -> str | None:
    if isinstance(node, ast.VariableSetStmt) and not node.is_local and node.kind != VariableSetKind.VAR_SET_MULTI:
        return f"{node.name or 'ALL'} is set for the session: SET LOCAL"
    if called(node) == "set_config":
        local = node.args[2]
        if not (isinstance(local, ast.A_Const) and getattr(local.val, "boolval", False)):
            return "set_config() for the session: its third argument is true"
    return None


def session_locks(node: Any, _: Scope) -> str | None:
    return (
        f"{called(node)}() locks for the session: pg_advisory_xact_lock()"
        if _SESSION_LOCK.match(called(node))
        else None
    )


def session_state(node: Any, _: Scope) -> str | None:
    kinds = (
        (ast.ListenStmt, ast.UnlistenStmt, "LISTEN hears nothing through a pooler"),
        (ast.PrepareStmt, ast.ExecuteStmt, ast.DeallocateStmt, "a prepared statement is the session's"),
        (ast.DiscardStmt, "DISCARD is the pooler's"),
        (ast.LoadStmt, "LOAD is the session's"),
    )
    return next((said for *those, said in kinds if isinstance(node, tuple(those))), None)


def held_cursors(node: Any, _: Scope) -> str | None:
    held = isinstance(node, ast.DeclareCursorStmt) and node.options & _HOLD
    return "a cursor WITH HOLD is the session's" if held else None


def temporary_tables(node: Any, _: Scope) -> str | None:
    made = isinstance(node, ast.RangeVar) and node.relpersistence == _TEMPORARY
    return "a temporary table is the session's" if made else None


# --- Citus: rows of one thread lie on one worker, and a statement is planned for all of them ---


def notifications(node: Any, _: Scope) -> str | None:
    if isinstance(node, ast.NotifyStmt) or called(node) == "pg_notify":
        return "NOTIFY: listeners behind a pooler or beside a worker hear nothing"
    return None


def conflicts(node: Any, _: Scope) -> str | None:
    if not isinstance(node, ast.OnConflictClause):
        return None
    allowed = (ast.OnConflictClause, ast.InferClause, ast.IndexElem, ast.ResTarget, *_UPDATE_MAKES_OF)
    for each in walk(node):
        if isinstance(each, ast.A_Expr) and each.name[-1].sval in {"=", "<>", "<", ">", "<=", ">=", "||"}:
            continue
        if not isinstance(each, allowed):
            what = called(each) or type(each).__name__
            return f"{what} in DO UPDATE: it takes nothing but columns of s and excluded, values, coalesce and greatest"
    return None


def updates(node: Any, scope: Scope) -> str | None:
    if isinstance(node, ast.UpdateStmt):
        calls = [called(each) for each in scope.nodes if called(each) in scope.volatile]
        if calls:
            return f"{calls[0]}() is volatile, in an UPDATE"
        if any(target.name == "thread_id" for target in node.targetList):
            return "an UPDATE of the distribution column"
    return None


def row_locks(node: Any, _: Scope) -> str | None:
    return "FOR UPDATE or SHARE across shards" if isinstance(node, ast.LockingClause) else None


def laterals(node: Any, _: Scope) -> str | None:
    if isinstance(node, ast.RangeSubselect) and node.lateral and node.subquery.limitCount is not None:
        return "LATERAL with LIMIT across shards"
    return None


def grouping_sets(node: Any, scope: Scope) -> str | None:
    if isinstance(node, ast.SelectStmt) and any(isinstance(each, ast.GroupingSet) for each in node.groupClause or ()):
        own = [each for each in node.fromClause or () if scope.stored(each)]
        return "GROUPING SETS of a stored table: of a materialized WITH" if own else None
    return None


def recursion(node: Any, _: Scope) -> str | None:
    return "WITH RECURSIVE across shards" if isinstance(node, ast.WithClause) and node.recursive else None


def merges(node: Any, _: Scope) -> str | None:
    return "MERGE across shards" if isinstance(node, ast.MergeStmt) else None


def foreign_keys(node: Any, _: Scope) -> str | None:
    if not isinstance(node, ast.Constraint) or node.contype != ConstrType.CONSTR_FOREIGN:
        return None
    columns = {each.sval for each in node.fk_attrs or ()}
    return None if "thread_id" in columns else "a foreign key without the distribution column"


def guesses(node: Any, _: Scope) -> str | None:
    """What other engines do not have at all, or answer with something else."""
    if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.String):
        word = node.fields[-1].sval
        if word == "reltuples":
            return "reltuples is -1 for a distributed table"
        if word in {"xmin", "xmax", "ctid"}:
            return f"{word}: engines that only speak like Postgres have none"
    return None


POOLERS: Final = (session_settings, session_locks, session_state, held_cursors, temporary_tables)
CITUS: Final = (
    *(notifications, conflicts, updates, row_locks, laterals, grouping_sets, recursion, merges, foreign_keys, guesses),
)


def keys(text: str | bytes) -> list[tuple[str, set[str]]]:
    """Return table and columns of every key that CREATE TABLE makes."""
    made = [raw.stmt for raw in parse_sql(_numbered(text.decode() if isinstance(text, bytes) else text))]
    kinds = {ConstrType.CONSTR_PRIMARY, ConstrType.CONSTR_UNIQUE}
    return [
        (statement.relation.relname, {key.sval for key in each.keys or ()})
        for statement in made
        if isinstance(statement, ast.CreateStmt)
        for each in walk(statement)
        if isinstance(each, ast.Constraint) and each.contype in kinds
    ]
