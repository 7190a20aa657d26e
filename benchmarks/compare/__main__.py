"""Measures this package beside other servers: ``python -m benchmarks.compare``; needs ``pip install '.[bench]'``.

It writes docs/benchmarks.md, docs/benchmarks.json and docs/benchmarks.svg. ``--quick`` takes some minutes and
writes into the temporary directory, if ``--into`` names no other.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tqdm import tqdm

from sse_threaded.errors import SSEError
from sse_threaded.testing.errors import ServerFailed

from ..common import machine
from .goals import judged
from .grid import estimate
from .measure import measure
from .options import options
from .peers import Missing, Peers
from .plan import plan
from .plot import draw
from .report import markdown
from .scenarios import SCENARIOS
from .servers import SERVERS, Server, with_packages
from .trial import Trial

# Scenarios are smaller in a quick run.
_QUICK_SCENARIOS = 0.3

_FILES = ("benchmarks.md", "benchmarks.json", "benchmarks.svg")


def attempt(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the figures, or the reason why there are none."""
    try:
        return what()
    except (SSEError, ServerFailed, Missing, OSError, AssertionError) as error:
        return {"failed": str(error).partition("\n")[0] or type(error).__name__}


def run(wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure all rounds."""
    peers = Peers(wanted.cache)
    trial = Trial(peers, wanted.packages, 0.2, 16.0) if wanted.quick else Trial(peers, wanted.packages)
    chosen = [server for server in SERVERS if server.key in wanted.only]
    left_out = prepared(peers, chosen)
    servers = with_packages((server for server in chosen if server.key not in left_out), wanted.packages)
    grid, scenarios = plan(wanted, servers)
    seconds = sum(estimate(cell, server, wanted.seconds) for cell, server in grid)
    for name in scenarios:
        times = 1 + len(wanted.packages) * SCENARIOS[name].packages
        seconds += SCENARIOS[name].seconds * times * (_QUICK_SCENARIOS if wanted.quick else 1.0)
    steps = wanted.rounds * (len(grid) + len(scenarios))
    print(f"{steps} steps, about {max(1, round(wanted.rounds * seconds / 60))} minutes", file=sys.stderr)  # noqa: T201
    results: dict[str, Any] = {
        "machine": machine.details(_FILES),
        "settings": {
            "command": wanted.command,
            "rounds": wanted.rounds,
            "seconds": wanted.seconds,
        },
        "packages": {name: machine.commit(folder) for name, folder in wanted.packages.items()},
        "servers": {server.key: described(server) for server in with_packages(chosen, wanted.packages)},
        "left_out": left_out,
        "cells": [
            {
                "server": server.key,
                "streams": cell.streams,
                "channels": cell.channels,
                "workers": cell.workers,
                "rounds": [None] * wanted.rounds,
            }
            for cell, server in grid
        ],
        "scenarios": {name: [None] * wanted.rounds for name in scenarios},
    }
    measurements: list[tuple[str, list[Any], Callable[[], dict[str, Any]]]] = [
        (f"{server.key}, {cell}", entry["rounds"], partial(measure, server, peers, cell, wanted.seconds))
        for entry, (cell, server) in zip(results["cells"], grid, strict=True)
    ]
    measurements += [
        (name, results["scenarios"][name], partial(sized, SCENARIOS[name].run, trial)) for name in scenarios
    ]
    begun = time.monotonic()
    with tqdm(total=steps, unit="step", disable=None, smoothing=0.05) as bar:
        for number in range(wanted.rounds):
            # Each second round runs backwards, so that a machine that gets slower is unfair to no server.
            for title, rounds, what in measurements[:: -1 if number % 2 else 1]:
                bar.set_description(f"round {number + 1}: {title}")
                rounds[number] = attempt(what)
                bar.update()
    results["settings"]["minutes"] = round((time.monotonic() - begun) / 60, 1)
    results["versions"] = {**own_versions(), **peers.versions()}
    return results


def sized(scenario: Callable[[Trial], dict[str, Any]], trial: Trial) -> dict[str, Any]:
    """Return the figures of a scenario, and its size."""
    return {"size": trial.share, **scenario(trial)}


def described(server: Server) -> dict[str, Any]:
    """Return what the report says of a server."""
    return {
        "title": server.title,
        "streams": server.streams,
        "bound": server.bound,
        "workers": server.workers,
        "note": server.note,
    }


def prepared(peers: Peers, servers: list[Server]) -> dict[str, str]:
    """Install the other servers; return those that cannot be installed, and why."""
    left_out = {}
    for server in servers:
        try:
            if server.needs is not None:
                server.needs(peers)
        except Missing as error:
            left_out[server.key] = str(error)
            print(f"left out: {server.key}: {error}", file=sys.stderr)  # noqa: T201
    return left_out


def own_versions() -> dict[str, str]:
    """Return the versions of gunicorn and Werkzeug."""
    found = {}
    for name in ("gunicorn", "gunicorn_h1c", "werkzeug"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    """Measure and write the results."""
    wanted = options(__doc__.partition("\n")[0])
    wanted.into.mkdir(parents=True, exist_ok=True)
    data = wanted.into / "benchmarks.json"
    results = json.loads(data.read_text()) if wanted.render else run(wanted)
    results["targets"] = judged(results)
    data.write_text(json.dumps(results, indent=1) + "\n")
    (wanted.into / "benchmarks.md").write_text(markdown(results))
    draw(results, wanted.into / "benchmarks.svg")
    for goal in results["targets"]:
        word = {True: "met", False: "MISSED", None: "-"}[goal["met"]]
        print(f"{word:6}  {goal['target']}: {goal['shown']} ({goal['limit']})")  # noqa: T201
    print(f"written: {wanted.into}/benchmarks.md, .json, .svg")  # noqa: T201


if __name__ == "__main__":
    main()
