"""Reads the figures of a run: rounds, medians, ratios.

A run is a plain dictionary, which is written as JSON::

    {"machine": {...}, "settings": {...}, "versions": {...}, "left_out": {key: reason}, "servers": {key: {...}},
     "cells": [{"server", "streams", "channels", "workers", "rounds": [{figure: number} or {"failed": reason}]}],
     "scenarios": {name: [{figure: number} or {"failed": reason}]}}

A ratio is computed within each round, between servers that were measured minutes apart. Reports show its median.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Results = dict[str, Any]
Ratios = list[float]

# The server with which all others are compared.
FLOOR = "floor"


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
