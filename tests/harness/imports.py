"""The package's modules and what each imports, read from the sources with ``ast``.

Each module is parsed once. Imports under ``TYPE_CHECKING`` count too: a module that names a type of another module
knows that module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sse_threaded

PACKAGE = "sse_threaded"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Import(NamedTuple):
    """One imported module, by its full name, and where."""

    name: str
    place: str
    in_function: bool


def sources() -> dict[str, Path]:
    """Every module of the package, by its name below it, ``"."`` being the package itself."""
    root = Path(sse_threaded.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts) or "."] = path
    return found


SOURCES = sources()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def full_name(module: str) -> str:
    """The name by which the module is imported."""
    return PACKAGE if module == "." else f"{PACKAGE}.{module}"


def below(name: str) -> str | None:
    """The name below the package of a full name that is one of its modules, else ``None``."""
    if name == PACKAGE:
        return "."
    module = name.removeprefix(f"{PACKAGE}.")
    return module if module != name and module in SOURCES else None


def _import_nodes(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, in_function
        elif not isinstance(child, ast.expr) or isinstance(child, ast.Lambda):
            yield from _import_nodes(child, in_function or isinstance(child, _FUNCTIONS))


def _read_imports(module: str) -> Iterator[Import]:
    package = full_name(module) if SOURCES[module].name == "__init__.py" else full_name(module).rpartition(".")[0]
    for node, in_function in _import_nodes(TREES[module]):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                # from ..log import base: the module is what is imported, not the package's own names.
                names.append(inner if below(inner) else base)
        for name in dict.fromkeys(names):
            yield Import(name, f"{SOURCES[module]}:{node.lineno}", in_function)


_imports = {module: tuple(_read_imports(module)) for module in SOURCES}


def imports_of(module: str) -> tuple[Import, ...]:
    """What a module imports: modules, and of ``from x import y`` also ``x.y`` when that is a module."""
    return _imports[module]


def inner_imports(module: str) -> Iterator[tuple[str, Import]]:
    """What a module imports of the package, each with its name below it."""
    for imported in imports_of(module):
        target = below(imported.name)
        if target is not None and target != module:
            yield target, imported
