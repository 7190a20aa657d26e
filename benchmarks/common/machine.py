"""Describes the machine, on which all figures depend."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .paths import ROOT


def summary() -> str:
    """Return Python, system and machine in one phrase."""
    return f"CPython {platform.python_version()}, {platform.system()}, a shared machine with two cores"


def details(results: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return date, commit, cores, processor, kernel and Python.

    :param results: names of files that the benchmark itself writes; a change of one is no change of the code.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )
    status = _git(ROOT, "status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(ROOT),
        "dirty": any(not line.endswith(results) for line in status.splitlines()),
        "cores": os.cpu_count(),
        "processor": processor,
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def commit(checkout: Path) -> str:
    """Return the commit of a checkout; ``unknown`` where git does not know it."""
    return _git(checkout, "rev-parse", "--short", "HEAD") or "unknown"


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
