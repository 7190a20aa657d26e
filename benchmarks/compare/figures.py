"""Reads the figures of a run: rounds, medians, ratios.

A run is a plain dictionary, which is written as JSON::

    {"machine": {...}, "settings": {...}, "versions": {...}, "packages": {name: commit}, "left_out": {key: reason},
     "servers": {key: {...}},
     "cells": [{"server", "streams", "channels", "workers", "rounds": [{figure: number} or {"failed": reason}]}],
     "scenarios": {name: [{figure: number} or {"failed": reason}]}}

A ratio is computed within each round, between servers that were measured minutes apart. Reports show its median.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

Results = dict[str, Any]
Ratios = list[float]

# The server with which all others are compared.
FLOOR = "floor"


@dataclass(frozen=True)
class Figure:
    """Where a figure is in a run.

    :ivar name: its name in a round.
    :ivar server: the key of its server; empty for a scenario that has no servers.
    :ivar streams: the number of streams of its cell.
    :ivar channels: the number of channels of its cell.
    :ivar scenario: the name of its scenario; default: empty, it is in a cell.
    """

    name: str
    server: str = ""
    streams: int = 0
    channels: int = 1
    scenario: str = ""

    def of(self, server: str) -> Figure:
        """Return the same figure of another server."""
        return replace(self, server=server)

    def values(self, results: Results) -> list[float]:
        """Return the value of every round that has it."""
        return values(self._rounds(results), self._key)

    def ratios(self, other: Figure, results: Results) -> Ratios:
        """Divide this figure by another one, round by round."""
        return ratios(self._rounds(results), self._key, other._rounds(results), other._key)

    @property
    def _key(self) -> str:
        return f"{self.server}_{self.name}" if self.scenario and self.server else self.name

    def _rounds(self, results: Results) -> list[Any]:
        if self.scenario:
            return full_size_rounds(results, self.scenario)
        return rounds_of(results, self.server, self.streams, self.channels)


def full_size_rounds(results: Results, scenario: str) -> list[Any]:
    """Return the rounds of a scenario; those of another size, of a quick run, are empty."""
    return [entry if entry.get("size") == 1.0 else {} for entry in results["scenarios"].get(scenario, [])]


def rounds_of(results: Results, server: str, streams: int, channels: int = 1, workers: int = 1) -> list[Any]:
    """Return the rounds of one server with one number of streams; empty when it was not measured."""
    wanted = (server, streams, channels, workers)
    for cell in results["cells"]:
        if (cell["server"], cell["streams"], cell["channels"], cell["workers"]) == wanted:
            return list(cell["rounds"])
    return []


def values(rounds: Iterable[Any], figure: str) -> list[float]:
    """Return a figure of every round that has it."""
    found = (entry.get(figure) for entry in rounds if entry)
    return [value for value in found if isinstance(value, (int, float))]


def median(rounds: Iterable[Any], figure: str) -> float | None:
    """Return the median of a figure; ``None`` if no round has it."""
    found = values(rounds, figure)
    return statistics.median(found) if found else None


def ratios(ones: list[Any], figure: str, others: list[Any], other_figure: str | None = None) -> Ratios:
    """Divide a figure of one server by a figure of another, round by round."""
    found = []
    for one, other in zip(ones, others, strict=False):
        above, below = (one or {}).get(figure), (other or {}).get(other_figure or figure)
        if above is not None and below:
            found.append(above / below)
    return found
