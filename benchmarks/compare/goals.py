"""A run's figures: cells, medians, ratios, and the issue's targets. No measuring, no text, no drawing.

They are a plain dictionary, the one that is written as JSON::

    {"machine": {...}, "settings": {...}, "versions": {...}, "left_out": {key: reason}, "servers": {key: {...}},
     "cells": [{"server", "streams", "channels", "workers", "rounds": [{figure: number} or {"failed": why}]}],
     "scenarios": {name: [{figure: number} or {"failed": why}]}}

A ratio is formed within each round, between servers that were measured minutes apart, and its median is quoted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]
Ratios = list[float]

# The server that the others are compared with.
FLOOR = "floor"


def rounds_of(results: Results, server: str, streams: int, channels: int = 1, workers: int = 1) -> list[Any]:
    """A cell's rounds; empty when it was not measured."""
    wanted = (server, streams, channels, workers)
    for cell in results["cells"]:
        if (cell["server"], cell["streams"], cell["channels"], cell["workers"]) == wanted:
            return list(cell["rounds"])
    return []


def values(rounds: Iterable[Any], figure: str) -> list[float]:
    """A figure of those rounds that have it."""
    found = (entry.get(figure) for entry in rounds if entry)
    return [value for value in found if isinstance(value, (int, float))]


def median(rounds: Iterable[Any], figure: str) -> float | None:
    """The median of a figure; ``None`` without any."""
    found = values(rounds, figure)
    return statistics.median(found) if found else None


def ratios(ones: list[Any], figure: str, others: list[Any], other_figure: str | None = None) -> Ratios:
    """A figure of one server to a figure of another, round by round."""
    found = []
    for one, other in zip(ones, others, strict=False):
        above, below = (one or {}).get(figure), (other or {}).get(other_figure or figure)
        if above is not None and below:
            found.append(above / below)
    return found


@dataclass(frozen=True)
class Goal:
    """A target of the issue's table.

    :ivar text: what is compared.
    :ivar sign: ``<``, ``<=`` or ``>``.
    :ivar limit: what with.
    :ivar found: its values, one a round.
    :ivar percent: whether they are shown in percent; default ``False``.
    """

    text: str
    sign: str
    limit: float
    found: Callable[[Results], Ratios]
    percent: bool = False

    def judge(self, results: Results) -> dict[str, Any]:
        """The median, its range, and whether it is met; ``None`` where nothing was measured."""
        found = self.found(results)
        value = statistics.median(found) if found else None
        compare = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__}[self.sign]
        return {
            "target": self.text,
            "limit": f"{self.sign} {_figure(self.limit, self.percent)}",
            "value": value,
            "least": min(found, default=None),
            "most": max(found, default=None),
            "met": None if value is None else compare(float(value), float(self.limit)),
            "shown": "not measured" if value is None else _figure(value, self.percent),
            "range": f"{_figure(min(found), self.percent)} to {_figure(max(found), self.percent)}"
            if found
            else "",
        }


def _figure(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.1f} %"
    return f"{value:.2f}".removesuffix("0").removesuffix(".0") if value < 10 else f"{value:.1f}"


def _against(
    one: str, figure: str, other: str, streams: int, of: str | None = None
) -> Callable[[Results], Ratios]:
    def found(results: Results) -> Ratios:
        return ratios(rounds_of(results, one, streams), figure, rounds_of(results, other, streams), of)

    return found


def _whole(results: Results, name: str) -> list[Any]:
    """A scenario's rounds of full size; a quick run has smaller ones."""
    return [entry for entry in results["scenarios"].get(name, []) if entry.get("size") == 1.0]


def _scenario(name: str, figure: str) -> Callable[[Results], Ratios]:
    return lambda results: values(_whole(results, name), figure)


def _memory_kept(results: Results) -> Ratios:
    rounds = _whole(results, "stalled")
    grown = [
        max(0.0, entry["memory_beside_mb"] - entry["memory_without_mb"])
        for entry in rounds
        if "p99_ratio" in entry
    ]
    return [more / part for more, part in zip(grown, values(rounds, "unread_mb"), strict=True)]


GOALS = (
    Goal(
        "processor time a delivery, parked : floor", "<=", 1.3, _against("parked", "us_per_delivery", FLOOR, 1000)
    ),
    Goal(
        "processor time a delivery, parked : nchan", "<", 0.9, _against("parked", "us_per_delivery", "nchan", 1000)
    ),
    Goal("p99 latency, parked : nchan", "<", 1.0, _against("parked", "p99_ms", "nchan", 1000)),
    Goal(
        "processor time a delivery, parked with its log in memory : nchan",
        "<",
        0.9,
        _against("parked-memory", "us_per_delivery", "nchan", 1000),
    ),
    Goal(
        "p99 latency, parked with its log in memory : nchan",
        "<",
        1.0,
        _against("parked-memory", "p99_ms", "nchan", 1000),
    ),
    Goal(
        "processor time a delivery, log in Redis : log in SQLite",
        "<=",
        1.1,
        _against("parked-redis", "us_per_delivery", "parked", 1000),
    ),
    Goal(
        "memory a stream, parked, at 5000, KB",
        "<=",
        6.0,
        lambda results: values(rounds_of(results, "parked", 5000), "kb_per_stream"),
    ),
    Goal("memory a stream at 5000, parked : nchan", "<", 1.0, _against("parked", "kb_per_stream", "nchan", 5000)),
    Goal(
        "burst of 100 events, deliveries/s, parked : nchan",
        ">",
        4.0,
        _against("parked", "burst_rate", "nchan", 1000),
    ),
    Goal(
        "the same, each event a POST of its own",
        ">",
        1.0,
        _against("parked", "burst_posts_rate", "nchan", 1000),
    ),
    Goal("connect rate, parked : uvicorn raw ASGI", ">", 1.0, _against("parked", "connect_rate", "uvicorn", 1000)),
    Goal(
        "connect rate, parked with replay of ten : uvicorn raw ASGI without",
        ">",
        1.0,
        _against("parked", "replay_rate", "uvicorn", 1000, "connect_rate"),
    ),
    Goal(
        "processor time a delivery, plain gthread : sse-starlette",
        "<",
        1.0,
        _against("plain", "us_per_delivery", "sse-starlette", 1000),
    ),
    Goal("15000 idle parked streams: share of a core", "<", 0.03, _scenario("idle", "share"), percent=True),
    Goal(
        "5000 streams, one in ten stalled: p99 of the others : without",
        "<",
        1.2,
        _scenario("stalled", "p99_ratio"),
    ),
    Goal("memory that grows for stalled readers : what they left unread", "<", 0.1, _memory_kept),
    Goal(
        "one event to 10 subscribers among 10000 other streams : among none",
        "<",
        1.2,
        _scenario("others", "ratio"),
    ),
    Goal("two workers, deliveries/s of a burst : one worker", ">", 1.0, _scenario("workers", "ratio")),
)


def judged(results: Results) -> list[dict[str, Any]]:
    """All targets."""
    return [goal.judge(results) for goal in GOALS]
