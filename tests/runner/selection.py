"""Finds test modules by name, without importing them, and reads what they say about themselves.

A module, or the ``__init__.py`` of a folder for all below it, may say at its top level:

- ``ALONE = True``: nothing else may run beside it;
- ``ONCE = True``: it says the same under every Python, so that the first of several Pythons runs it;
- ``NPM = True``: it needs the packages that tests/browser/clients/package.json names.

The commands that a folder needs, and the Debian package of each, are in its ``apt.txt``, for tests/run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


class UnknownName(LookupError):
    """No folder and no module has this name."""


@dataclass(frozen=True)
class Module:
    """A test module: where it is, and what it and the folders above it say about themselves."""

    name: str
    path: Path
    root: Path = field(repr=False)

    @cached_property
    def _constants(self) -> dict[str, object]:
        constants: dict[str, object] = {}
        below = self.path.relative_to(self.root).parent
        folders = [self.root, *(self.root.joinpath(*below.parts[: n + 1]) for n in range(len(below.parts)))]
        for path in (*(folder / "__init__.py" for folder in folders), self.path):
            constants.update(_constants(path))
        return constants

    @property
    def is_alone(self) -> bool:
        return bool(self._constants.get("ALONE"))

    @property
    def is_once(self) -> bool:
        return bool(self._constants.get("ONCE"))

    @property
    def needs_npm(self) -> bool:
        return bool(self._constants.get("NPM"))

    @cached_property
    def lines(self) -> int:
        return self.path.read_bytes().count(b"\n")


@dataclass
class Selected:
    """A module, and the classes or tests in it that were asked for; none: all of it."""

    module: Module
    names: list[str]


def _constants(path: Path) -> dict[str, object]:
    """The literal values that a file assigns to names in capitals at its top level."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}  # the process that imports it says what is wrong
    constants: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.isupper():
                try:
                    constants[name] = ast.literal_eval(node.value)
                except ValueError:
                    pass
    return constants


def find_modules(root: Path) -> list[Module]:
    """All modules ``test_*.py`` below ``root``, which is a package itself."""
    modules = []
    for path in sorted(root.rglob("test_*.py")):
        below = path.relative_to(root).with_suffix("").parts
        if not any(part.startswith(".") for part in below):
            modules.append(Module(".".join((root.name, *below)), path, root))
    return modules


def select(modules: Iterable[Module], names: Iterable[str], package: str) -> list[Selected]:
    """What ``names`` ask for: folders, modules, classes and tests, with dots or slashes; no name: everything.

    :raises UnknownName: when a name is no folder, no module and nothing below a module.
    """
    modules = list(modules)
    chosen: dict[str, Selected] = {}
    for name in names:
        found = False
        for module, rest in _matches(modules, name, package):
            found = True
            selected = chosen.setdefault(module.name, Selected(module, [rest] if rest else []))
            if not rest:
                selected.names.clear()  # all of it
            elif selected.names and rest not in selected.names:
                selected.names.append(rest)
        if not found:
            raise UnknownName(name)
    return list(chosen.values()) if chosen else [Selected(module, []) for module in modules]


def _matches(modules: list[Module], name: str, package: str) -> list[tuple[Module, str]]:
    parts = name.strip("/").removesuffix(".py").removeprefix("./").replace("/", ".").split(".")
    if parts[0] == package:
        parts = parts[1:]
    if not parts:
        return [(module, "") for module in modules]
    matches = []
    for module in modules:
        own = module.name.split(".")[1:]
        if own[: len(parts)] == parts:
            matches.append((module, ""))  # a folder, or the module itself
        elif parts[: len(own)] == own:
            matches.append((module, ".".join(parts[len(own) :])))
        elif own[-1] == parts[0]:  # a module without its folder
            matches.append((module, ".".join(parts[1:])))
    return matches
