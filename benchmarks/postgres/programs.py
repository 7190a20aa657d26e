"""Runs the programs of this folder in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ..common.paths import ROOT, python_path

# Seconds that a program may take, beside the time for which it measures.
_GRACE = 180.0


def run(module: str, *arguments: object, seconds: float = 0.0) -> dict[str, Any]:
    """Run a program, and return the JSON that it prints.

    :param module: its name in this folder.
    :param arguments: its arguments.
    :param seconds: for how long it measures; default 0.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + _GRACE,
        check=False,
    )
    assert done.returncode == 0, f"{module} ended with status {done.returncode}: {done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def percentile(times: list[float], share: float) -> float:
    """Return the time that this share of all times does not exceed.

    :param share: 0 to 1.
    """
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
