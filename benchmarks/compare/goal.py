"""A goal of this package: a figure or a ratio of two figures, and its limit."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .figures import Figure, Ratios, Results


@dataclass(frozen=True)
class Goal:
    """One goal.

    :ivar text: the figures that are compared.
    :ivar sign: ``<``, ``<=``, ``>`` or ``>=``; empty: the figure has no limit, and is only shown.
    :ivar limit: the limit.
    :ivar found: returns the values of a run, one for each round.
    :ivar figures: the figures that it needs; the first one is of this package.
    :ivar percent: whether the values are shown in percent; default ``False``.
    """

    text: str
    sign: str
    limit: float
    found: Callable[[Results], Ratios]
    figures: tuple[Figure, ...]
    percent: bool = False

    def judge(self, results: Results) -> dict[str, Any]:
        """Return the median, its range, and whether the goal is met; ``None`` if that cannot be said."""
        found = self.found(results)
        value = statistics.median(found) if found else None
        return {
            "target": self.text,
            "limit": f"{self.sign} {_figure(self.limit, self.percent)}" if self.sign else "–",
            "value": value,
            "least": min(found, default=None),
            "most": max(found, default=None),
            "met": None if value is None or not self.sign else self._is_met(float(value)),
            "shown": "not measured" if value is None else _figure(value, self.percent),
            "range": f"{_figure(min(found), self.percent)} to {_figure(max(found), self.percent)}"
            if found
            else "",
        }

    def _is_met(self, value: float) -> bool:
        compare = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}[self.sign]
        return compare(value, float(self.limit))


def ratio(text: str, sign: str, limit: float, one: Figure, other: Figure) -> Goal:
    """Return a goal for the ratio of two figures; the first one is of this package."""
    return Goal(text, sign, limit, lambda results: one.ratios(other, results), (one, other))


def value(text: str, sign: str, limit: float, figure: Figure, percent: bool = False) -> Goal:
    """Return a goal for a figure of this package."""
    return Goal(text, sign, limit, figure.values, (figure,), percent)


def shown_ratio(text: str, one: Figure, other: Figure) -> Goal:
    """Return a ratio that has no limit."""
    return ratio(text, "", 0.0, one, other)


def shown_value(text: str, figure: Figure) -> Goal:
    """Return a figure of this package that has no limit."""
    return value(text, "", 0.0, figure)


def _figure(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.1f} %"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}".removesuffix("0").removesuffix(".0") if value < 10 else f"{value:.1f}"
