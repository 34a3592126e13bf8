"""The kernels in C: their Python translated word by word, for a fair race and a third witness of the bits.

Understands what kernels are written in (`processors.kernels.compiled`) and refuses anything else with the line it stands in.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from processors.kernels.columns import COLUMNS

_TYPES: Final = {"Row": "double *", "Steps": f"double (*{{}})[{COLUMNS}]", "float": "double ", "int": "long ", "None": "void "}
_OPERATORS: Final = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Eq: "==", ast.NotEq: "!=", ast.And: "&&", ast.Or: "||", ast.Not: "!", ast.USub: "-",
}  # fmt: skip
_PRELUDE: Final = """#include <math.h>
static inline double least(double a, double b) { return b < a ? b : a; }
static inline double most(double a, double b) { return b > a ? b : a; }
"""


class Function:
    """One kernel function on its way to C."""

    def __init__(self, module: ModuleType, node: ast.FunctionDef, results: dict[str, str]) -> None:
        self._module, self._node, self._results = module, node, results
        self._locals: dict[str, str] = {}
        self._lines: list[str] = []

    def source(self) -> str:
        """The function in C."""
        takes: list[str] = []
        for arg in self._node.args.args:
            kind = _TYPES[ast.unparse(arg.annotation) if arg.annotation else ""]
            takes.append(kind.format(arg.arg) if "{}" in kind else kind + arg.arg)
            self._locals[arg.arg] = "steps" if "{}" in kind else kind.strip()
        parameters = set(self._locals)
        self._block(self._node.body, 1)
        head = f"static {self._results[self._node.name]}k_{self._node.name}({', '.join(takes)}) {{"
        made = [f"    {kind} {name};" for name, kind in self._locals.items() if name not in parameters]
        return "\n".join([head, *made, *self._lines, "}"])

    def _say(self, depth: int, text: str) -> None:
        self._lines.append("    " * depth + text)

    def _block(self, body: Sequence[ast.stmt], depth: int) -> None:
        for statement in body:
            self._statement(statement, depth)

    def _statement(self, node: ast.stmt, depth: int) -> None:
        match node:
            case ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=value):
                self._say(depth, f"{self._expression(value)};")
            case ast.Return(value=None):
                self._say(depth, "return;")
            case ast.Return(value=value) if value is not None:
                self._say(depth, f"return {self._expression(value)};")
            case ast.Continue():
                self._say(depth, "continue;")
            case ast.If():
                self._say(depth, f"if ({self._expression(node.test)}) {{")
                self._block(node.body, depth + 1)
                if node.orelse:
                    self._say(depth, "} else {")
                    self._block(node.orelse, depth + 1)
                self._say(depth, "}")
            case ast.While():
                self._say(depth, f"while ({self._expression(node.test)}) {{")
                self._block(node.body, depth + 1)
                self._say(depth, "}")
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=bounds)) if len(bounds) < 3:
                self._locals[name] = "long"
                first, end = ("0", bounds[0]) if len(bounds) == 1 else (self._expression(bounds[0]), bounds[1])
                self._say(depth, f"for ({name} = {first}; {name} < {self._expression(end)}; {name}++) {{")
                self._block(node.body, depth + 1)
                self._say(depth, "}")
            case ast.AugAssign():
                self._say(depth, f"{self._expression(node.target)} {_OPERATORS[type(node.op)]}= {self._expression(node.value)};")
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                self._together(targets, values, depth)
            case ast.Assign():
                kind = self._kind(node.value)
                for target in node.targets:
                    self._declare(target, kind)
                self._say(depth, " = ".join(self._expression(part) for part in [*node.targets, node.value]) + ";")
            case _:
                raise SyntaxError(f"{self._module.__name__}:{node.lineno}: a kernel has no {type(node).__name__}")

    def _together(self, targets: list[ast.expr], values: list[ast.expr], depth: int) -> None:
        """`a, b = x, y`: all values before the first target."""
        self._say(depth, "{")
        for i, value in enumerate(values):
            self._say(depth + 1, f"{self._kind(value)} v{i} = {self._expression(value)};")
        for i, target in enumerate(targets):
            self._declare(target, self._kind(values[i]))
            self._say(depth + 1, f"{self._expression(target)} = v{i};")
        self._say(depth, "}")

    def _declare(self, target: ast.expr, kind: str) -> None:
        if isinstance(target, ast.Name):
            self._locals.setdefault(target.id, kind)

    def _kind(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int()) | ast.Compare() | ast.BoolOp():
                return "long"
            case ast.Name(id=name) if name in self._locals:
                return self._locals[name]
            case ast.Name(id=name):
                return "long" if isinstance(getattr(self._module, name), int) else "double"
            case ast.BinOp(left=left, right=right):
                return "long" if {self._kind(left), self._kind(right)} == {"long"} else "double"
            case ast.Call(func=ast.Name(id=name)):
                return "long" if name == "int" else self._results.get(name, "double").strip()
            case ast.Subscript(value=ast.Name(id=name)):
                return "double *" if self._locals[name] == "steps" else "double"
            case _:
                return "double"

    def _expression(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=value):
                return repr(value)
            case ast.Name(id=name) if name in self._locals:
                return name
            case ast.Name(id=name):
                value = getattr(self._module, name)
                return "NAN" if value != value else repr(value)
            case ast.Attribute(attr="nan"):
                return "NAN"
            case ast.BinOp(left=left, op=op, right=right):
                return f"({self._expression(left)} {_OPERATORS[type(op)]} {self._expression(right)})"
            case ast.UnaryOp(op=op, operand=operand):
                return f"({_OPERATORS[type(op)]}{self._expression(operand)})"
            case ast.BoolOp(op=op, values=values):
                return "(" + f" {_OPERATORS[type(op)]} ".join(self._expression(value) for value in values) + ")"
            case ast.Compare(left=left, ops=ops, comparators=others):
                terms = [left, *others]
                pairs = [
                    f"{self._expression(terms[i])} {_OPERATORS[type(op)]} {self._expression(terms[i + 1])}" for i, op in enumerate(ops)
                ]
                return "(" + " && ".join(pairs) + ")"
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return f"({self._expression(test)} ? {self._expression(body)} : {self._expression(orelse)})"
            case ast.Subscript(value=value, slice=at):
                return f"{self._expression(value)}[{self._expression(at)}]"
            case ast.Call():
                return self._call(node)
            case _:
                raise SyntaxError(f"{self._module.__name__}:{node.lineno}: a kernel has no {type(node).__name__}")

    def _call(self, node: ast.Call) -> str:
        given = [self._expression(arg) for arg in node.args]
        match node.func:
            case ast.Attribute(attr="sqrt"):
                return f"sqrt({given[0]})"
            case ast.Name(id="abs"):
                return f"fabs({given[0]})"
            case ast.Name(id="int"):
                return f"((long){given[0]})"
            case ast.Name(id="min" | "max" as name):
                return f"{'least' if name == 'min' else 'most'}({', '.join(given)})"
            case ast.Name(id=name) if name in self._results:
                return f"k_{name}({', '.join(given)})"
            case _:
                raise SyntaxError(f"{self._module.__name__}:{node.lineno}: a kernel does not call {ast.unparse(node.func)}")


def translate(modules: Sequence[ModuleType]) -> str:
    """All compiled functions of the modules, callees before callers, as one C source."""
    results: dict[str, str] = {}
    parts: list[str] = []
    for module in modules:
        tree = ast.parse(inspect.getsource(module))
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
        for node in found:
            results[node.name] = _TYPES[ast.unparse(node.returns) if node.returns else "None"]
        heads = [Function(module, node, results).source() for node in found]
        parts += [head.partition(" {\n")[0] + ";" for head in heads] + heads
    return _PRELUDE + "\n".join(parts) + "\n"


def compiler() -> str | None:
    """The C compiler of the machine, if it has one."""
    return shutil.which("cc")


def library(modules: Sequence[ModuleType], exported: str, folder: Path) -> ctypes.CDLL:
    """The modules compiled with -O2, no fused products, into `folder`; `exported` of the last module is the symbol `exported`."""
    found = compiler()
    assert found is not None
    node = next(n for n in ast.parse(inspect.getsource(modules[-1])).body if isinstance(n, ast.FunctionDef) and n.name == exported)
    names = ", ".join(arg.arg for arg in node.args.args)
    text = translate(modules)
    head = next(line for line in text.splitlines() if line.startswith("static void k_" + exported + "("))
    wrapper = head.rstrip(";").replace("static void k_" + exported, "void " + exported) + f" {{ k_{exported}({names}); }}\n"
    source, made = folder / "kernels.c", folder / "kernels.so"
    source.write_text(text + wrapper)
    subprocess.run([found, "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o", str(made), str(source), "-lm"], check=True)
    return ctypes.CDLL(str(made))
