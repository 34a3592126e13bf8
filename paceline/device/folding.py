"""What a device need not hold: constants of modules become numbers in the code that uses them, and branches for CPython go. Pure, over all
sources of an image at once.

A global name costs a device 7 bytes in a table that doubles when it is full, and 8 in its module. So a small whole number bound once at
the top of a module, which no other module of the image names, becomes MicroPython's `const`, with an underscore in front if it has none.
Lines keep their numbers, for the tracebacks a device tells. `sys.implementation.name == "micropython"` is known to be true.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_SMALL: Final = 1 << 30  # what is no object on a device of 32 bits
_OPERATORS: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: int.__add__,
    ast.Sub: int.__sub__,
    ast.Mult: int.__mul__,
    ast.LShift: int.__lshift__,
    ast.BitOr: int.__or__,
}


def folded(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """The sources by path, folded. SyntaxError for one that is no Python."""
    texts = {path: _without_other_branches(source.decode(), path) for path, source in sources.items()}
    trees = {path: ast.parse(text, path) for path, text in texts.items()}
    asked = {name for tree in trees.values() for name in _said_of_others(tree)}
    return {path: _with_constants(text, trees[path], asked).encode() for path, text in texts.items()}


@dataclass(frozen=True, slots=True)
class _Constant:
    """A whole number bound at the top of a module, in a line that binds nothing else or others like it."""

    name: str
    value: int
    statement: ast.Assign


def _said_of_others(tree: ast.Module) -> Iterator[str]:
    """Names that a module may mean in another one: it imports them, takes them as attributes, or has them as strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _constants(tree: ast.Module) -> Iterator[_Constant]:
    bound = Counter(_bindings(tree))
    known: dict[str, int] = {}
    for statement in tree.body:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1 or statement.lineno != statement.end_lineno:
            continue
        names, values = _parts(statement.targets[0]), _parts(statement.value)
        found: list[_Constant] = []
        for name, value in zip(names, values, strict=False):
            number = _number(value, known)
            if isinstance(name, ast.Name) and number is not None and abs(number) < _SMALL and bound[name.id] == 1:
                found.append(_Constant(name.id, number, statement))
        if len(found) == len(names) == len(values):
            known.update((one.name, one.value) for one in found)
            yield from found


def _parts(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _bindings(tree: ast.Module) -> Iterator[str]:
    """Each name as often as anything in the module binds it, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names


def _number(node: ast.expr, known: Mapping[str, int]) -> int | None:
    """The whole number that an expression of numbers and earlier constants comes to."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand, known)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp) and (operator := _OPERATORS.get(type(node.op))) is not None:
        left, right = _number(node.left, known), _number(node.right, known)
        return None if left is None or right is None else operator(left, right)
    return None


def _with_constants(text: str, tree: ast.Module, asked: set[str]) -> str:
    """The text with constants that nobody else asks for as `const`, and their names private wherever they are read."""
    constants = list(_constants(tree))
    private = {one.name: "_" + one.name.lstrip("_") for one in constants if one.name not in asked and _can_be_private(one.name, tree)}
    edits: list[tuple[int, int, int, str]] = []  # line, from column, to column in bytes, what stands there then
    for statement in dict.fromkeys(one.statement for one in constants):
        held = [one for one in constants if one.statement is statement]
        if any(one.name in private for one in held):
            words = [f"{private[c.name]} = const({c.value})" if c.name in private else f"{c.name} = {c.value}" for c in held]
            edits.append(_edit(statement, "; ".join(words)))
    bindings = {id(node) for one in constants for node in ast.walk(one.statement)}
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in private and id(node) not in bindings]
    edits += [_edit(node, private[node.id]) for node in read]
    lines = text.encode().split(b"\n")
    for line, start, end, said in sorted(edits, reverse=True):
        lines[line - 1] = lines[line - 1][:start] + said.encode() + lines[line - 1][end:]
    return b"\n".join(lines).decode()


def _edit(node: ast.expr | ast.stmt, said: str) -> tuple[int, int, int, str]:
    assert node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_col_offset, said


def _can_be_private(name: str, tree: ast.Module) -> bool:
    """Whether the name is private, or can be made so: that one is free, and no f-string, whose places are not known, reads this one."""
    if name.startswith("_"):
        return True
    inside = {
        node.id for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for node in ast.walk(text) if isinstance(node, ast.Name)
    }
    return name not in inside and "_" + name not in set(_bindings(tree))


def _without_other_branches(text: str, path: str) -> str:
    """`if` and `else` on the interpreter: the branch of CPython is emptied, line for line."""
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.If) and node.orelse and ast.unparse(node.test) == "sys.implementation.name == 'micropython'":
            last = node.body[-1].end_lineno
            assert last is not None
            assert node.end_lineno is not None
            lines[last : node.end_lineno] = [""] * (node.end_lineno - last)
            lines[node.lineno - 1] = " " * node.col_offset + "if True:"
    return "\n".join(lines)
