"""What it costs that each process reads all events: ``python -m benchmarks.fan_in`` (five minutes; needs Redis).

Real hubs in real processes, each with one stream of its own, over one redis-server, while events of other channels
pour in. A model is fitted to the figures with few processes and has to predict those with the most. Prints tables;
with ``--write`` they go to docs/fan_in.md, and the figures to docs/fan_in.json, from which docs/scale.md is made.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, median
from typing import Any

import redis

from ..common.redis_child import redis_server
from ..compare.servers import ROOT
from .experiment import BULK, FLOOD, RATES, Bench, Point, kernel_kb

FIGURES, DOCUMENT = ROOT / "docs" / "fan_in.json", ROOT / "docs" / "fan_in.md"

# Numbers of listening processes; the last is what the model has to predict from the others.
PROCESSES = (1, 2, 4, 8, 16)

_ROUNDS = 3

# Publishers, events in a transaction, and whether one script appends them; hubs in a process.
_APPENDS = ((1, 1, False), (4, 1, False), (2, BULK, False), (1, BULK, True))
_HUBS = (1, 5)

_TEXT = """
Real hubs in real processes, each with a stream of its own to which nothing is published, while events of 100 other
channels, of 110 bytes, come over one redis-server. So what a process takes is all for events that nobody in it
wants.

The model says: Redis pays something fixed for an event and something for each process that reads it, in processor
time and in bytes sent; a process pays the same, however many others there are. It is fitted to all rows but the
last, and then has to predict that one. *Off by* is what it says to what is. *Reads an event*: where events come
close on each other, a process has several of them by one answer of Redis.
""".strip()
_HEAD = "| processes | Redis, µs an event | a process, µs an event | bytes an event | reads an event | events/s |"
_COLUMNS = (("redis_us", 0), ("process_us", 0), ("out_bytes", 0), ("reads", 2), ("a_second", 0))
_MODELLED = {
    "redis_us": "Redis, µs an event",
    "out_bytes": "bytes an event",
    "process_us": "a process, µs an event",
}
_APPENDS_HEAD = (
    "| publishing processes | events in a step | appends/s | Redis, µs an append | its share of a core | "
    "publisher, µs an append |"
)


@dataclass(frozen=True)
class Line:
    """A straight line: ``fixed + each * processes``."""

    fixed: float
    each: float

    def at(self, processes: float) -> float:
        """Its value."""
        return self.fixed + self.each * processes


def fitted(points: list[tuple[float, float]]) -> Line:
    """The line with the least squares of relative errors, so that small figures count as much as great ones."""
    weights = [1 / (y * y) for _, y in points]
    total = sum(weights)
    x_mean = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    y_mean = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - x_mean) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    rise = sum(w * (x - x_mean) * (y - y_mean) for w, (x, y) in zip(weights, points, strict=True))
    each = rise / spread
    return Line(y_mean - each * x_mean, each)


def predicted(points: list[Point]) -> dict[str, dict[str, float]]:
    """The model, fitted to all points but the last, and what it says of that.

    Redis pays something for an event, and something more for each process that reads it; so do its bytes. A
    process pays the same, however many others there are.
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


def measured() -> dict[str, Any]:
    """All figures: medians of the rounds."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rounds: dict[str, dict[int, list[Point]]] = {
        load: {processes: [] for processes in PROCESSES} for load in (*map(str, RATES), "flood")
    }
    with (
        tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name,
        redis_server(Path(name), "--appendonly", "yes") as server,
    ):
        bench = Bench(server)
        appends = [bench.appends(*kind) for kind in _APPENDS]
        drained = bench.drained()
        idle = [bench.idle(4, hubs) for hubs in _HUBS]
        for number in range(_ROUNDS):
            for processes in PROCESSES:
                for load, point in bench.points(processes, f"r{number}p{processes}").items():
                    rounds[load][processes].append(point)
                    print(load, point, file=sys.stderr)  # noqa: T201
        version: Any = redis.Redis.from_url(server.url).info("server")
    loads = {load: [_middle(points) for points in found.values()] for load, found in rounds.items()}
    return {
        "machine": f"CPython {platform.python_version()}, {platform.system()}, a shared machine with two cores",
        "redis": version["redis_version"],
        "rounds": _ROUNDS,
        "kernel_kb": kernel_kb(),
        "appends": appends,
        "drained": drained,
        "idle": idle,
        "loads": {load: [asdict(point) for point in points] for load, points in loads.items()},
        "model": {load: predicted(points) for load, points in loads.items()},
    }


def _middle(points: list[Point]) -> Point:
    figures = {each.name: median(getattr(point, each.name) for point in points) for each in fields(Point)}
    return Point(**figures)


def report(found: dict[str, Any]) -> str:
    """The document."""
    text = [
        "# Fan-in: what it costs that each process reads all events",
        f"By `python -m benchmarks.fan_in --write`: {found['machine']}; Redis {found['redis']}, appendfsync="
        f"everysec; medians of {found['rounds']} rounds.",
        _TEXT,
    ]
    for load, points in found["loads"].items():
        model = found["model"][load]
        lines = [f"## {_load(load)}", "", _HEAD, "|---|---|---|---|---|---|"]
        for point in points:
            shown = {**point, "a_second": point["events"] / point["seconds"]}
            figures = [f"{shown[name]:,.{digits}f}" for name, digits in _COLUMNS]
            lines.append(f"| {point['processes']} | {' | '.join(figures)} |")
        last = points[-1]["processes"]
        lines += ["", f"| model | fixed | a process | says of {last} | is | off by |", "|---|---|---|---|---|---|"]
        for name, title in _MODELLED.items():
            line = model[name]
            figures = [f"{line[part]:,.1f}" for part in ("fixed", "each", "says", "is")]
            lines.append(f"| {title} | {' | '.join(figures)} | {100 * line['off']:+.0f} % |")
        text.append("\n".join(lines))
    lines = ["## Appends as fast as can be, nobody listening", "", _APPENDS_HEAD, "|---|---|---|---|---|---|"]
    for each in found["appends"]:
        step = f"{each['bulk']}, in one script" if each["inside"] else f"{each['bulk']}"
        lines.append(
            f"| {each['publishers']} | {step} | {each['a_second']:,.0f} | {each['redis_us']:,.0f} | "
            f"{100 * each['redis_share']:.0f} % | {each['publisher_us']:,.0f} |"
        )
    text.append("\n".join(lines))
    text.append(
        f"## How fast a process reads\n\nOne that finds {FLOOD:,} events waiting, as it was stopped while they "
        f"came: {found['drained']:,.0f} a second."
    )
    lines = ["## Nothing comes", "", "| hubs a process | processor, µs/s | Redis for it, µs/s | memory, KB |"]
    lines.append("|---|---|---|---|")
    for each in found["idle"]:
        lines.append(
            f"| {each['hubs']} | {each['process_us']:,.0f} | {each['redis_us']:,.0f} | {each['process_kb']:,.0f} |"
        )
    text.append("\n".join(lines))
    text.append(f"The kernel keeps {found['kernel_kb']:.1f} KB for an open TCP connection without data (slab).")
    return "\n\n".join(text) + "\n"


def _load(load: str) -> str:
    if load == "flood":
        return f"{FLOOD:,} events in transactions of {BULK}, one right after the other"
    return f"{load} events a second, each an append of its own"


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fan_in", description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/fan_in.md and docs/fan_in.json")
    parser.add_argument("--render", action="store_true", help="measure nothing, use docs/fan_in.json")
    wanted = parser.parse_args()
    found = json.loads(FIGURES.read_text()) if wanted.render else measured()
    print(report(found))  # noqa: T201
    if wanted.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n")
        DOCUMENT.write_text(report(found))
