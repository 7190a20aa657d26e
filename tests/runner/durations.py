"""How long each class of tests took, remembered from run to run in a file that git ignores."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.runner.selection import Module

# What a module takes of which nothing is remembered. Few such modules take longer for each line than this, and a
# long one that starts late makes the whole run longer, while a short one that starts early does no harm.
_SECONDS_A_LINE = 0.1


class Durations:
    """Seconds by module and class."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seconds: dict[str, dict[str, float]] = {}
        try:
            read = json.loads(path.read_bytes()) if path else {}
            self._seconds = {str(name): dict(classes) for name, classes in read.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # there is none yet, or it is of no use: the estimate does

    def of_module(self, module: Module) -> float:
        known = self._seconds.get(module.name)
        return sum(known.values()) if known else module.lines * _SECONDS_A_LINE

    def of_class(self, module: Module, name: str) -> float | None:
        return self._seconds.get(module.name, {}).get(name)

    def remember(self, module: Module, name: str, seconds: float) -> None:
        self._seconds.setdefault(module.name, {})[name] = seconds

    def save(self) -> None:
        if self._path is None:
            return
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            new.write_text(json.dumps(self._seconds, indent=1, sort_keys=True) + "\n")
            new.replace(self._path)
        except OSError:
            new.unlink(missing_ok=True)  # a tree that cannot be written to: nothing is remembered
