"""Measures this package beside other servers: ``python -m benchmarks.compare``; needs ``pip install '.[bench]'``.

It writes docs/benchmarks.md, docs/benchmarks.json and docs/benchmarks.svg. ``--quick`` takes some minutes and
writes into the temporary directory, if ``--into`` names no other.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sse_threaded.errors import SSEError
from sse_threaded.testing.errors import ServerFailed

from ..common import machine
from ..common.paths import DOCS
from .goals import judged
from .grid import cells, estimate
from .measure import measure
from .peers import Missing, Peers
from .plot import draw
from .report import markdown
from .scenarios import SCENARIOS, SECONDS, Size
from .servers import SERVERS

_STREAMS = (100, 1000, 5000, 15000)
_CHANNELS = (1, 1000)
_WORKERS = (1, 2)
_KEYS = [server.key for server in SERVERS]

# Scenarios are smaller in a quick run.
_QUICK_SCENARIOS = 0.3

_FILES = ("benchmarks.md", "benchmarks.json", "benchmarks.svg")


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.partition("\n")[0])
    names = ", ".join([*_KEYS, *SCENARIOS])
    parser.add_argument("--only", help=f"servers and scenarios, separated by commas: {names}")
    parser.add_argument("--streams", default=",".join(map(str, _STREAMS)), help="default %(default)s")
    parser.add_argument("--channels", default=",".join(map(str, _CHANNELS)), help="default %(default)s")
    parser.add_argument("--workers", default=",".join(map(str, _WORKERS)), help="default %(default)s")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=float, help="for how long events are published; default 2")
    parser.add_argument("--quick", action="store_true", help="one round, 1000 and 5000 streams, small scenarios")
    parser.add_argument(
        "--into", type=Path, help="the folder to write into; default: docs, with --quick a temporary folder"
    )
    parser.add_argument(
        "--cache", type=Path, help="the folder for other servers; default: ~/.cache/sse-threaded-bench"
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing; write the page and the picture from the JSON"
    )
    found = parser.parse_args()
    # The report must not name folders of this machine.
    shown = [word for word in sys.argv[1:] if word.startswith("--") and not word.startswith(("--into", "--cache"))]
    words = [word.partition("=")[0] for word in shown]
    given = {word: getattr(found, word[2:]) for word in words}
    pairs = [word if value is True else f"{word} {value}" for word, value in given.items()]
    found.command = " ".join(["python -m benchmarks.compare", *pairs])
    if found.quick:
        found.streams, found.channels, found.workers = "1000,5000", "1", "1"
    found.rounds = found.rounds or (1 if found.quick else 3)
    found.seconds = found.seconds or 2.0
    found.into = found.into or (Path(tempfile.gettempdir()) / "benchmarks" if found.quick else DOCS)
    for name in ("streams", "channels", "workers"):
        setattr(found, name, [int(number) for number in getattr(found, name).split(",")])
    found.only = found.only.split(",") if found.only else [*_KEYS, *SCENARIOS]
    unknown = set(found.only) - {*_KEYS, *SCENARIOS}
    if unknown:
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {names}")
    return found


def attempt(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the figures, or the reason why there are none."""
    try:
        return what()
    except (SSEError, ServerFailed, OSError, AssertionError) as error:
        return {"failed": str(error).partition("\n")[0] or type(error).__name__}


def run(wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure all rounds."""
    peers = Peers(wanted.cache)
    left_out = prepared(peers, wanted)
    grid = list(cells(set(wanted.only) - left_out.keys(), wanted.streams, wanted.channels, wanted.workers))
    scenarios = [name for name in SCENARIOS if name in wanted.only]
    seconds = sum(estimate(cell, server, wanted.seconds) for cell, server in grid)
    seconds += sum(SECONDS[name] for name in scenarios) * (_QUICK_SCENARIOS if wanted.quick else 1.0)
    steps = wanted.rounds * (len(grid) + len(scenarios))
    print(f"{steps} steps, about {max(1, round(wanted.rounds * seconds / 60))} minutes", file=sys.stderr)  # noqa: T201
    results: dict[str, Any] = {
        "machine": machine.details(_FILES),
        "settings": {
            "command": wanted.command,
            "rounds": wanted.rounds,
            "seconds": wanted.seconds,
        },
        "servers": {
            server.key: {
                "title": server.title,
                "streams": server.streams,
                "workers": server.workers,
                "note": server.note,
            }
            for server in SERVERS
            if server.key in wanted.only
        },
        "left_out": left_out,
        "cells": [
            {
                "server": server.key,
                "streams": cell.streams,
                "channels": cell.channels,
                "workers": cell.workers,
                "rounds": [],
            }
            for cell, server in grid
        ],
        "scenarios": {name: [] for name in scenarios},
    }
    size = Size(0.2, 16.0) if wanted.quick else Size()
    begun = time.monotonic()
    with tqdm(total=steps, unit="step", disable=None, smoothing=0.05) as bar:
        for number in range(wanted.rounds):
            for entry, (cell, server) in zip(results["cells"], grid, strict=True):
                bar.set_description(f"round {number + 1}: {server.key}, {cell}")
                entry["rounds"].append(attempt(partial(measure, server, peers, cell, wanted.seconds)))
                bar.update()
            for name in scenarios:
                bar.set_description(f"round {number + 1}: {name}")
                found = attempt(partial(SCENARIOS[name], peers, size))
                results["scenarios"][name].append({"size": size.share, **found})
                bar.update()
    results["settings"]["minutes"] = round((time.monotonic() - begun) / 60, 1)
    results["versions"] = {**own_versions(), **peers.versions()}
    return results


def prepared(peers: Peers, wanted: argparse.Namespace) -> dict[str, str]:
    """Install the other servers; return those that cannot be installed, and why."""
    needs: dict[str, Callable[[], object]] = {
        "floor": peers.floor,
        "parked-redis": peers.redis,
        "nchan": peers.nginx,
        "node": peers.node,
        "better-sse": peers.node,
        "uvicorn": peers.python,
        "sse-starlette": peers.python,
    }
    left_out = {}
    for key in filter(needs.__contains__, wanted.only):
        try:
            needs[key]()
        except Missing as error:
            left_out[key] = str(error)
            print(f"left out: {key}: {error}", file=sys.stderr)  # noqa: T201
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
    wanted = options()
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
