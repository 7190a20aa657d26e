"""Which test modules run which lines of the package, also in the servers that they start."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.runner.selection import Module, find_modules
from tests.support import ROOT

# Browsers, nginx and linters: slow, and meant for other things than the package's code.
FOLDERS = ("unit", "live", "redis")

_SECONDS = 900


class Reach(NamedTuple):
    """What one test module runs.

    :ivar seconds: how long it takes.
    :ivar lines: the numbers of the lines that it runs, by the path of the package's module.
    """

    test: str
    seconds: float
    lines: dict[str, list[int]]

    @property
    def folder(self) -> str:
        return self.test.split(".")[1]

    def names(self, path: str) -> bool:
        """Whether the test's source names a module of the package, or all of them (tests/harness/imports.py)."""
        source = ROOT.joinpath(*self.test.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        return re.search(rf"\b({Path(path).stem}|SOURCES)\b", source) is not None


class Reached(NamedTuple):
    """What was measured of all test modules."""

    found: list[Reach]

    def tests(self, path: str, line: int) -> list[Reach]:
        """The test modules that run a line, or any line of its module.

        Those that only import the module, through others, are left out. Unit tests come first. Of each folder, the
        first ones are those that run most of the module.
        """
        running = [one for one in self.found if path in one.lines]
        imported = min((len(one.lines[path]) for one in running), default=0)
        using = [one for one in running if len(one.lines[path]) > imported or one.names(path)] or running
        exact = [one for one in using if line in one.lines[path]]
        return sorted(
            exact or using, key=lambda one: (FOLDERS.index(one.folder), -len(one.lines[path]), one.seconds)
        )


def measure(place: Path, folders: Collection[str], jobs: int) -> None:
    """Run the test modules under coverage, but those whose result is there and still true.

    :param place: a directory for the results, one file for each test module.
    :param jobs: how many at a time.
    """
    place.mkdir(parents=True, exist_ok=True)
    package = b"".join(path.read_bytes() for path in sorted((ROOT / "sse_threaded").rglob("*.py")))

    def one(module: Module) -> None:
        state = hashlib.sha256(package + module.path.read_bytes()).hexdigest()
        result = place / f"{module.name}.json"
        if not result.exists() or json.loads(result.read_text(encoding="utf-8"))["state"] != state:
            reach = _run(module.name)
            result.write_text(json.dumps({"state": state, **reach._asdict()}), encoding="utf-8")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [module for module in find_modules(ROOT / "tests") if _folder(module) in folders]))


def load(place: Path, folders: Collection[str]) -> Reached:
    """What :func:`measure` has written there."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.glob("*.json"))]
    found = [Reach(row["test"], row["seconds"], row["lines"]) for row in rows]
    return Reached([one for one in found if one.folder in folders])


def _folder(module: Module) -> str:
    return module.name.split(".")[1]


def _run(test: str) -> Reach:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory, "settings.cfg")
        settings.write_text(
            "[run]\nparallel = True\nsource_pkgs = sse_threaded\npatch = subprocess, _exit\n"
            f"data_file = {directory}/data\nsigterm = True\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "tests", test]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - begun
        lines: dict[str, set[int]] = {}
        for path, numbers in _lines(Path(directory)):
            lines.setdefault(path, set()).update(numbers)
    counts = done.stdout.strip().rpartition("\n")[2]
    # A test that fails without a change, or is skipped, must not seem to notice one.
    if not re.fullmatch(r"\d+ passed, 0 failed, 0 skipped", counts):
        lines, counts = {}, f"left out ({counts})"
    print(f"{test}: {counts} in {seconds:.0f} s", flush=True)  # noqa: T201
    return Reach(test, seconds, {path: sorted(numbers) for path, numbers in lines.items()})


def _lines(directory: Path) -> Iterator[tuple[str, list[int]]]:
    from coverage import CoverageData, CoverageException  # noqa: PLC0415  # no other test needs it

    for file in directory.glob("data*"):
        data = CoverageData(basename=str(file))
        try:
            data.read()
        except CoverageException:
            continue  # a process was killed while it wrote
        for measured in data.measured_files():
            yield "sse_threaded" + measured.rpartition("/sse_threaded")[2], list(data.lines(measured) or ())
