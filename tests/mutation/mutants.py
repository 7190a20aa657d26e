"""The mutants of a module: one small change of its source each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple


class Mutant(NamedTuple):
    """One change.

    :ivar path: the module's, below the checkout.
    :ivar line: where the change begins.
    :ivar kind: what kind of change it is, such as ``"compare"``.
    :ivar start: the changed text's offset in the source, in bytes; ``end`` is the offset behind it.
    :ivar before: the changed text; ``after`` takes its place.
    """

    path: str
    line: int
    kind: str
    start: int
    end: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """A short name, the same in each run over the same source."""
        return f"{self.path}:{self.line} {self.kind} {self.start}-{self.end}"

    def apply(self, source: bytes) -> bytes:
        """The module's source with the change in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


_COMPARES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}

# Numbers up to this one become one more; greater ones are bounds, which are doubled.
_SMALL = 2

# What a function may return that is as false as None: nearly all callers ask for no more.
_FALSE = {"None", "False"}

# Calls whose whole effect is a line in a log: a test that demands each word would only repeat the code.
_LOGGING = {"debug", "info", "warning", "error", "exception"}


def mutants_of(path: str, source: bytes) -> Iterator[Mutant]:
    """All mutants of one module, in the order of its source."""
    tree = ast.parse(source)
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def made(node: ast.expr | ast.stmt, kind: str, after: str) -> Mutant:
        start = lines[node.lineno - 1] + node.col_offset
        assert node.end_lineno is not None and node.end_col_offset is not None
        end = lines[node.end_lineno - 1] + node.end_col_offset
        return Mutant(path, node.lineno, kind, start, end, source[start:end].decode(), after)

    found = [made(node, kind, after) for node, kind, after in _changes(tree)]
    return iter(sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.kind, mutant.after)))


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    for node in _code(tree):
        if isinstance(node, ast.expr):
            yield from ((node, kind, after) for kind, after in _of_expression(node))
        elif isinstance(node, ast.stmt):
            yield from ((node, kind, after) for kind, after in _of_statement(node))
            test = node.test if isinstance(node, ast.If | ast.While) else None
            if test is not None and not (isinstance(test, ast.Constant) or _is_not(test)):
                yield test, "negate", f"not ({ast.unparse(test)})"


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run: no annotations, docstrings, slots, exports, or what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) in ("__slots__", "__all__"):
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in child.bases):
            continue
        if isinstance(node, ast.arg | ast.AnnAssign) and child is node.annotation:
            continue
        if isinstance(node, ast.FunctionDef) and child is node.returns:
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and child in node.decorator_list:
            continue
        if isinstance(child, ast.JoinedStr | ast.Raise):
            continue  # messages: the tests that need them look for some words
        if _is_logging(child):
            continue
        yield child
        yield from _code(child)


def _is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_logging(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _LOGGING


def _of_expression(node: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARES:
        changed = ast.Compare(node.left, [_COMPARES[type(node.ops[0])](), *node.ops[1:]], node.comparators)
        yield "compare", ast.unparse(changed)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "boolean", f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif _is_not(node):
        assert isinstance(node, ast.UnaryOp)
        yield "negate", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_text(node):
        yield "operator", f"({ast.unparse(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))})"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "constant", str(not node.value)
        elif isinstance(node.value, int | float):
            yield "constant", repr(node.value + 1 if abs(node.value) <= _SMALL else node.value * 2)
        elif isinstance(node.value, bytes):
            yield "constant", repr(node.value + b"X")


def _is_text(node: ast.BinOp) -> bool:
    kinds = (ast.Constant, ast.JoinedStr)
    sides = (node.left, node.right)
    return any(isinstance(side, kinds) and isinstance(getattr(side, "value", ""), str | bytes) for side in sides)


def _of_statement(node: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) not in _FALSE:
        yield "return", "return None"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "no call", "pass"
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        changed = ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value)
        yield "operator", ast.unparse(changed)
    elif isinstance(node, ast.Break):
        yield "loop", "continue"
    elif isinstance(node, ast.Continue):
        yield "loop", "break"
