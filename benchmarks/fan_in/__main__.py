"""Measures the cost of reading all events in each process: ``python -m benchmarks.fan_in`` (five minutes).

Real hubs run in real processes over one redis-server. Each process has one stream, and events come in other
channels. A model is fitted to the figures of few processes and predicts those of the most. The command prints the
page. ``--write`` writes it to docs/fan_in.md, and the figures to docs/fan_in.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import asdict, fields
from statistics import median
from typing import Any

from tests.harness.redis_server import RedisServer

from ..common import machine
from ..common.file_limit import raise_file_limit
from .experiment import BULK, RATES, Experiment, Point
from .kernel_memory import kernel_kb
from .model import predicted
from .report import DOCUMENT, FIGURES, report

# Numbers of listening processes. The model predicts the figures of the last from the others.
PROCESSES = (1, 2, 4, 8, 16)

_ROUNDS = 3

# Publishers, events in a transaction, and whether one script appends them all.
_APPENDS = ((1, 1, False), (4, 1, False), (2, BULK, False), (1, BULK, True))

# Hubs in a process.
_HUBS = (1, 5)


def measured() -> dict[str, Any]:
    """Measure all figures; return the medians of the rounds."""
    raise_file_limit()
    rounds: dict[str, dict[int, list[Point]]] = {
        load: {processes: [] for processes in PROCESSES} for load in (*map(str, RATES), "flood")
    }
    with closing(RedisServer("--appendonly", "yes", "--loglevel", "warning")) as server:
        experiment = Experiment(server)
        appends = [experiment.appends(*kind) for kind in _APPENDS]
        drained = experiment.read_rate()
        idle = [experiment.idle(4, hubs) for hubs in _HUBS]
        for number in range(_ROUNDS):
            for processes in PROCESSES:
                for load, point in experiment.points(processes, f"r{number}p{processes}").items():
                    rounds[load][processes].append(point)
                    print(load, point, file=sys.stderr)  # noqa: T201
        version: Any = server.client().info("server")
    loads = {load: [_medians(points) for points in found.values()] for load, found in rounds.items()}
    return {
        "machine": machine.summary(),
        "redis": version["redis_version"],
        "rounds": _ROUNDS,
        "kernel_kb": kernel_kb(),
        "appends": appends,
        "drained": drained,
        "idle": idle,
        "loads": {load: [asdict(point) for point in points] for load, points in loads.items()},
        "model": {load: predicted(points) for load, points in loads.items()},
    }


def _medians(points: list[Point]) -> Point:
    figures = {each.name: median(getattr(point, each.name) for point in points) for each in fields(Point)}
    return Point(**figures)


def main() -> None:
    """Measure; print the page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fan_in", description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/fan_in.md and docs/fan_in.json")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing; use the figures of docs/fan_in.json"
    )
    wanted = parser.parse_args()
    found = json.loads(FIGURES.read_text()) if wanted.render else measured()
    print(report(found))  # noqa: T201
    if wanted.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n")
        DOCUMENT.write_text(report(found))


if __name__ == "__main__":  # the processes that it spawns import this module too
    main()
