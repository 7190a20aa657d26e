"""Finds a test by its full name in the sources, without importing them: a page may name tests of every folder."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent


class _Class(NamedTuple):
    """A class of the tests: the names of its bases, and of its methods."""

    bases: frozenset[str]
    methods: frozenset[str]


@functools.cache
def _classes(path: Path) -> dict[str, _Class]:
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            bases = frozenset(ast.unparse(base).rpartition(".")[2] for base in node.bases)
            names = frozenset(each.name for each in node.body if isinstance(each, ast.FunctionDef))
            found[node.name] = _Class(bases, names)
    return found


@functools.cache
def _everywhere() -> dict[str, list[_Class]]:
    """All classes of the tests by their name: a class may inherit from one of another module."""
    found: dict[str, list[_Class]] = {}
    for path in TESTS.rglob("*.py"):
        for name, each in _classes(path).items():
            found.setdefault(name, []).append(each)
    return found


def source_of(name: str) -> Path | None:
    """The file of a test such as ``tests.unit.test_log.LogContract.test_close_is_idempotent``.

    It returns ``None`` if there is no such test. The method may be that of a base class.
    """
    module, _, rest = name.rpartition(".")
    module, _, owner = module.rpartition(".")
    path = TESTS.parent.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        return None
    classes = _classes(path).get(owner)
    waiting = [classes] if classes else []
    seen: set[str] = set()
    while waiting:
        each = waiting.pop()
        if rest in each.methods:
            return path
        new = each.bases - seen
        seen |= new
        waiting += [other for base in new for other in _everywhere().get(base, [])]
    return None
