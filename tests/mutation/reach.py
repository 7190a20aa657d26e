"""Which test modules run which lines of the package, also in the servers that they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.runner.selection import find_modules
from tests.support import ROOT

# Browsers, nginx and linters: slow, and meant for other things than the package's code.
_FOLDERS = ("unit", "live", "redis")

_SECONDS = 900


class Reach(NamedTuple):
    """What was measured.

    :ivar seconds: how long each test module takes.
    :ivar lines: by the module's path and ``str`` of a line's number, the test modules that run it.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    def tests(self, path: str, line: int) -> list[str]:
        """The test modules that run a line, or any line of its module: unit tests first, then the quick ones."""
        by_line = self.lines.get(path, {})
        found = by_line.get(str(line)) or {test for tests in by_line.values() for test in tests}
        return sorted(found, key=lambda test: (_FOLDERS.index(test.split(".")[1]), self.seconds[test]))


def measure(place: Path, jobs: int) -> Reach:
    """Run all test modules under coverage, each as a context of its own.

    :param place: a directory for the result, ``reach.json``.
    :param jobs: how many at a time.
    """
    tests = [one.name for one in find_modules(ROOT / "tests") if one.name.split(".")[1] in _FOLDERS]
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(jobs) as pool:
        seconds = dict(zip(tests, pool.map(lambda test: _run(test, Path(directory)), tests), strict=True))
        lines = _lines(Path(directory), tests)
    reach = Reach(seconds, lines)
    place.mkdir(exist_ok=True)
    (place / "reach.json").write_text(json.dumps(reach._asdict()), encoding="utf-8")
    return reach


def load(place: Path) -> Reach:
    """What :func:`measure` has written there."""
    return Reach(**json.loads((place / "reach.json").read_text(encoding="utf-8")))


def _run(test: str, directory: Path) -> float:
    begun = time.monotonic()
    settings = directory / f"{test}.cfg"
    settings.write_text(
        f"[run]\nparallel = True\nsource_pkgs = sse_threaded\ncontext = {test}\npatch = subprocess, _exit\n"
        f"data_file = {directory / test}.data\nsigterm = True\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "tests", test]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    print(f"{test}: {done.stdout.strip().rpartition(chr(10))[2]}", flush=True)  # noqa: T201
    return time.monotonic() - begun


def _lines(directory: Path, tests: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    from coverage import CoverageData  # noqa: PLC0415  # no other test needs it

    found: dict[str, dict[str, set[str]]] = {}
    for test in tests:
        for file in directory.glob(f"{test}.data*"):
            data = CoverageData(basename=str(file))
            data.read()
            for measured in data.measured_files():
                path = "sse_threaded" + measured.rpartition("/sse_threaded")[2]
                for line in data.lines(measured) or ():
                    found.setdefault(path, {}).setdefault(str(line), set()).add(test)
    return {path: {line: sorted(names) for line, names in lines.items()} for path, lines in found.items()}
