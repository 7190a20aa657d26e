"""The model: costs are straight lines over the number of processes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

from .experiment import Point


@dataclass(frozen=True)
class Line:
    """A straight line: ``fixed + each * processes``."""

    fixed: float
    each: float

    def at(self, processes: float) -> float:
        """Return the value for a number of processes."""
        return self.fixed + self.each * processes


def fitted(points: list[tuple[float, float]]) -> Line:
    """Return the line with the least squares of relative errors: small figures count as much as great ones."""
    weights = [1 / (y * y) for _, y in points]
    total = sum(weights)
    x_mean = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    y_mean = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - x_mean) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    rise = sum(w * (x - x_mean) * (y - y_mean) for w, (x, y) in zip(weights, points, strict=True))
    each = rise / spread
    return Line(y_mean - each * x_mean, each)


def predicted(points: list[Point]) -> dict[str, dict[str, float]]:
    """Fit the model to all points but the last, and predict the last.

    Redis has a fixed cost for an event, and a cost for each process that reads it; the same holds for the bytes
    that it sends. The cost of a process does not depend on the number of processes.
    """
    *known, last = points
    lines: dict[str, Line] = {
        name: fitted([(point.processes, getattr(point, name)) for point in known])
        for name in ("redis_us", "out_bytes")
    }
    lines["process_us"] = Line(mean(point.process_us for point in known), 0.0)
    found = {}
    for name, line in lines.items():
        says, is_ = line.at(last.processes), getattr(last, name)
        found[name] = {"fixed": line.fixed, "each": line.each, "says": says, "is": is_, "off": says / is_ - 1}
    return found
