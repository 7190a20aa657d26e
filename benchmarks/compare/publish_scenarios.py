"""Threads of one process that publish: how many events a second go into the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from sse_threaded.bench.errors import CannotBench

from ..common.paths import python_path
from .peers import APPS
from .servers import at_package
from .trial import Trial

# How many threads publish.
PUBLISHERS = (1, 8)

# The names of the logs and the ends of their URLs.
LOGS = {"full": "", "normal": "?synchronous=normal"}

_SECONDS = 1.5
_GRACE = 60.0


def publishers(trial: Trial) -> dict[str, Any]:
    """One thread, and eight threads, that call ``hub.publish()``; the log is a SQLite file."""
    found: dict[str, Any] = {}
    for name, query in LOGS.items():
        for package in (None, *trial.packages):
            key = name if package is None else at_package(name, package)
            for threads in PUBLISHERS:
                counted = _publish(trial, package, query, threads)
                found[publish_figure(key, threads, "rate")] = counted["events"] / counted["seconds"]
                found[publish_figure(key, threads, "us")] = 1e6 * counted["processor"] / counted["events"]
            one, many = (found[publish_figure(key, threads, "rate")] for threads in PUBLISHERS)
            found[f"{key}_ratio"] = many / one
    return found


def publish_figure(log: str, threads: int, name: str) -> str:
    """Return the name of a figure: ``rate`` is events a second, ``us`` is processor time an event."""
    return f"{log}_{threads}_{name}"


def _publish(trial: Trial, package: str | None, query: str, threads: int) -> dict[str, float]:
    checkout = trial.packages[package] if package is not None else None
    with tempfile.TemporaryDirectory(prefix="sse_threaded-") as directory:
        url = f"sqlite:///{directory}/log.db{query}"
        seconds = _SECONDS * trial.share
        done = subprocess.run(
            [sys.executable, str(APPS / "publishers.py"), url, str(threads), str(seconds)],
            env={**os.environ, "PYTHONPATH": python_path(checkout)},
            capture_output=True,
            text=True,
            timeout=seconds + _GRACE,
            check=False,
        )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise CannotBench(f"the program that publishes ended with status {done.returncode}: {said}")
    counted: dict[str, float] = json.loads(done.stdout)
    return counted
