"""Mistakes that people make: one small, deterministic change that most likely breaks a working solution."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.FloorDiv,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.BitXor: ast.BitOr,
    ast.BitAnd: ast.BitOr,
}


def break_code(source: str, rng: random.Random) -> str:
    """Return *source* with one mistake of *rng*'s choice; unchanged where there is no place for one."""
    tree = ast.parse(source)
    edits = [edit for node in ast.walk(tree) for edit in _edits(node)]
    if edits:
        rng.choice(edits)()
    return ast.unparse(ast.fix_missing_locations(tree))


def _edits(node: ast.AST) -> Iterator[Callable[[], None]]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            yield lambda: setattr(node, "ops", [_COMPARISONS[type(op)]()])
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in _OPERATORS:
            yield lambda: setattr(node, "op", _OPERATORS[type(operator)]())
        case ast.BoolOp(op=joint):
            yield lambda: setattr(node, "op", ast.Or() if isinstance(joint, ast.And) else ast.And())
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            yield lambda: setattr(node, "value", number + 1)
        case ast.Call(func=ast.Name(id="range"), args=[*_, stop]) if len(node.args) < 3:  # noqa: PLR2004 - with a step
            one_less = ast.BinOp(stop, ast.Sub(), ast.Constant(1))
            yield lambda: node.args.__setitem__(-1, one_less)
        case ast.FunctionDef(body=[*_, ast.Return(value=ast.expr() as value)]):
            yield lambda: node.body.__setitem__(-1, ast.Expr(value))
