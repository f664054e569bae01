"""Mutants of a module: its source with one small change each, which a good test notices.

A comparison, an operation or a condition is another one, and so is a number or a truth value; a statement, or what is
returned, is gone. Texts, annotations and decorators stay: they are messages, and what the type checker reads. Of
`axis=-1`, the number alone changes: without its sign it is the same axis of a table.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

SWAPPED: dict[type, type] = dict(
    [
        *((ast.Lt, ast.LtE), (ast.LtE, ast.Lt), (ast.Gt, ast.GtE), (ast.GtE, ast.Gt), (ast.Eq, ast.NotEq)),
        *((ast.NotEq, ast.Eq), (ast.In, ast.NotIn), (ast.NotIn, ast.In), (ast.Is, ast.IsNot), (ast.IsNot, ast.Is)),
        *((ast.And, ast.Or), (ast.Or, ast.And), (ast.Add, ast.Sub), (ast.Sub, ast.Add), (ast.Mult, ast.Div)),
        *((ast.Div, ast.Mult), (ast.FloorDiv, ast.Mult), (ast.Mod, ast.Mult), (ast.Pow, ast.Mult)),
        *((ast.MatMult, ast.Mult), (ast.BitAnd, ast.BitOr), (ast.BitOr, ast.BitAnd), (ast.BitXor, ast.BitAnd)),
        *((ast.LShift, ast.RShift), (ast.RShift, ast.LShift)),
    ]
)
"""An operator, and the one that takes its place."""

LEFT_ALONE = ("annotation", "returns", "decorator_list", "type_params")
"""Fields of the syntax tree that no mutant changes."""


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    Attributes:
        function: the class and function in which the change is; empty outside of any.
        line: the line of the change in the module.
        change: the text before and after, "a < b -> a <= b"; the second such change in a function ends with " (2)".
        source: the whole module with the change.
    """

    function: str
    line: int
    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    made = [_made(tree, place, other) for place in _places(tree, "") for other in _others(place.node)]
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for mutant in sorted(made, key=lambda mutant: mutant.line):
        seen[mutant.function, mutant.change] += 1
        number = seen[mutant.function, mutant.change]
        found.append(mutant if number == 1 else replace(mutant, change=f"{mutant.change} ({number})"))
    return found


@dataclass(frozen=True)
class _Place:
    """A node, where it hangs in the tree, and the function around it."""

    node: ast.AST
    inside: Any
    key: Any
    function: str


def _places(parent: ast.AST, function: str) -> Iterator[_Place]:
    if isinstance(parent, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{parent.name}".lstrip(".")
    for name, value in ast.iter_fields(parent):
        if name in LEFT_ALONE or isinstance(parent, ast.JoinedStr):
            continue
        inside: Any = value if isinstance(value, list) else vars(parent)
        keys: Any = range(len(value)) if isinstance(value, list) else [name]
        for key in keys:
            if isinstance(inside[key], ast.AST):
                if not _is_signed_axis(parent, inside[key]):
                    yield _Place(inside[key], inside, key, function)
                yield from _places(inside[key], function)


def _is_signed_axis(parent: ast.AST, node: ast.AST) -> bool:
    return isinstance(parent, ast.keyword) and parent.arg == "axis" and isinstance(node, ast.UnaryOp)


def _made(tree: ast.AST, place: _Place, other: ast.AST) -> Mutant:
    before = place.inside[place.key]
    place.inside[place.key] = ast.copy_location(other, before)
    source = ast.unparse(ast.fix_missing_locations(tree))
    place.inside[place.key] = before
    change = f"{_first_line(before)} -> {_first_line(other)}"
    return Mutant(place.function, getattr(before, "lineno", 0), change, source)


def _first_line(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0]


def _others(node: ast.AST) -> Iterator[ast.AST]:
    """What takes the place of a node, one at a time."""
    if isinstance(node, ast.Compare):
        for number, operator in enumerate(node.ops):
            yield _with(node, ops=[*node.ops[:number], SWAPPED[type(operator)](), *node.ops[number + 1 :]])
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPPED:
        yield _with(node, op=SWAPPED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Raise | ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))


def _other_constants(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(2 * value if value else 1.0)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: Any, **fields: Any) -> Any:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
