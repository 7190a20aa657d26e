"""The goals of this package, and whether the figures of a run meet them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .figures import FLOOR, Ratios, Results, ratios, rounds_of, values


@dataclass(frozen=True)
class Goal:
    """One goal: a figure or a ratio, and its limit.

    :ivar text: what is compared.
    :ivar sign: ``<``, ``<=`` or ``>``.
    :ivar limit: the limit.
    :ivar found: returns the values of a run, one for each round.
    :ivar percent: whether the values are shown in percent; default ``False``.
    """

    text: str
    sign: str
    limit: float
    found: Callable[[Results], Ratios]
    percent: bool = False

    def judge(self, results: Results) -> dict[str, Any]:
        """Return the median, its range, and whether the goal is met; ``None`` if nothing was measured."""
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


def _full_size_rounds(results: Results, name: str) -> list[Any]:
    """Return the rounds of a scenario that have the full size; a quick run is smaller."""
    return [entry for entry in results["scenarios"].get(name, []) if entry.get("size") == 1.0]


def _scenario(name: str, figure: str) -> Callable[[Results], Ratios]:
    return lambda results: values(_full_size_rounds(results, name), figure)


def _memory_kept(results: Results) -> Ratios:
    rounds = _full_size_rounds(results, "stalled")
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
        "burst of 100 events by POSTs, deliveries/s, parked : nchan",
        ">",
        1.0,
        _against("parked", "burst_posts_rate", "nchan", 1000),
    ),
    Goal("connect rate, parked : uvicorn raw ASGI", ">", 1.0, _against("parked", "connect_rate", "uvicorn", 1000)),
    Goal(
        "connect rate, parked with a replay of ten events : uvicorn raw ASGI, which has no replay",
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
        "p99 latency of the streams that read, 5000 streams, one in ten stalled : none stalled",
        "<",
        1.2,
        _scenario("stalled", "p99_ratio"),
    ),
    Goal("memory growth with stalled streams : bytes that they left unread", "<", 0.1, _memory_kept),
    Goal(
        "processor time of an event to 10 streams, beside 10000 other streams : alone",
        "<",
        1.2,
        _scenario("others", "ratio"),
    ),
    Goal("deliveries/s of a burst, two workers : one worker", ">", 1.0, _scenario("workers", "ratio")),
)


def judged(results: Results) -> list[dict[str, Any]]:
    """Compare a run with all goals."""
    return [goal.judge(results) for goal in GOALS]
