"""Everything side by side: ``python -m benchmarks.compare``; needs ``pip install '.[bench]'``.

Writes docs/benchmarks.md, docs/benchmarks.json and docs/benchmarks.svg. ``--quick`` takes some minutes and writes
into the temporary directory unless it is told where.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sse_threaded.errors import SSEError
from sse_threaded.testing.errors import ServerFailed

from .goals import judged
from .measure import Cell, measure
from .peers import Missing, Peers
from .plot import draw
from .report import markdown
from .scenarios import SCENARIOS, SECONDS, Size
from .servers import ROOT, SERVERS, Server

_STREAMS = (100, 1000, 5000, 15000)
_CHANNELS = (1, 1000)
_WORKERS = (1, 2)
_KEYS = [server.key for server in SERVERS]

# Connects a second, for the estimate; where none is given, a fast one's.
_CONNECTS = {"parked": 900, "plain": 600, "naive": 700, "better-sse": 2500, "sse-starlette": 1500, "node": 4000}
_BURST_SECONDS = {"naive": 12, "plain": 3, "sse-starlette": 4, "better-sse": 2}


def options() -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.partition("\n")[0])
    names = ", ".join([*_KEYS, *SCENARIOS])
    parser.add_argument("--only", help=f"servers and scenarios, by comma: {names}")
    parser.add_argument("--streams", default=",".join(map(str, _STREAMS)), help="default %(default)s")
    parser.add_argument("--channels", default=",".join(map(str, _CHANNELS)), help="default %(default)s")
    parser.add_argument("--workers", default=",".join(map(str, _WORKERS)), help="default %(default)s")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--seconds", type=float, help="of events at a cell's rate; default 2")
    parser.add_argument("--quick", action="store_true", help="one round, 1000 and 5000 streams, small scenarios")
    parser.add_argument(
        "--into", type=Path, help="the folder to write into; default docs, with --quick a temporary one"
    )
    parser.add_argument("--cache", type=Path, help="the folder for peers; default ~/.cache/sse-threaded-bench")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, write text and picture from the JSON"
    )
    found = parser.parse_args()
    # Folders are of this machine alone.
    told = [word for word in sys.argv[1:] if word.startswith("--") and not word.startswith(("--into", "--cache"))]
    words = [word.partition("=")[0] for word in told]
    given = {word: getattr(found, word[2:]) for word in words}
    pairs = [word if value is True else f"{word} {value}" for word, value in given.items()]
    found.command = " ".join(["python -m benchmarks.compare", *pairs])
    if found.quick:
        found.streams, found.channels, found.workers = "1000,5000", "1", "1"
    found.rounds = found.rounds or (1 if found.quick else 3)
    found.seconds = found.seconds or 2.0
    found.into = found.into or (Path(tempfile.gettempdir()) / "benchmarks" if found.quick else ROOT / "docs")
    for name in ("streams", "channels", "workers"):
        setattr(found, name, [int(number) for number in getattr(found, name).split(",")])
    found.only = found.only.split(",") if found.only else [*_KEYS, *SCENARIOS]
    unknown = set(found.only) - {*_KEYS, *SCENARIOS}
    if unknown:
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; it knows {names}")
    return found


def grid(wanted: argparse.Namespace) -> Iterator[tuple[Cell, Server]]:
    """What is measured in a round, servers innermost, so that those that are compared are minutes apart."""
    for workers in wanted.workers:
        for channels in wanted.channels:
            for streams in wanted.streams:
                for server in SERVERS:
                    few = channels > streams  # most events would reach nobody
                    apart = server.streams is not None and streams not in server.streams
                    if server.key in wanted.only and not few and not apart and workers <= server.workers:
                        yield Cell(streams, channels, workers), server


def estimate(cells: list[tuple[Cell, Server]], wanted: argparse.Namespace) -> float:
    """Seconds of a round, roughly."""
    seconds = 0.0
    for cell, server in cells:
        opens = 2 if server.replays and cell.channels == 1 else 1
        seconds += 3.5 + wanted.seconds + opens * cell.streams / _CONNECTS.get(server.key, 6000)
        seconds += 2 * _BURST_SECONDS.get(server.key, 0.5) if cell.burst and cell.streams >= 1000 else 0.3
    part = 0.3 if wanted.quick else 1.0
    return seconds + sum(part * SECONDS[name] for name in SCENARIOS if name in wanted.only)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD") or "unknown",
        "dirty": any(
            not line.endswith(("benchmarks.md", "benchmarks.json", "benchmarks.svg"))
            for line in status.splitlines()
        ),
        "cores": len([line for line in lines if line.startswith("processor")]),
        "processor": processor,
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def attempt(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Its figures, or why there are none."""
    try:
        return what()
    except (SSEError, ServerFailed, OSError, AssertionError) as error:
        return {"failed": str(error).partition("\n")[0] or type(error).__name__}


def run(wanted: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    peers = Peers(wanted.cache)
    left_out = prepared(peers, wanted)
    cells = [(cell, server) for cell, server in grid(wanted) if server.key not in left_out]
    scenarios = [name for name in SCENARIOS if name in wanted.only]
    seconds = estimate(cells, wanted)
    steps = wanted.rounds * (len(cells) + len(scenarios))
    print(f"{steps} steps, about {max(1, round(wanted.rounds * seconds / 60))} minutes", file=sys.stderr)  # noqa: T201
    results: dict[str, Any] = {
        "machine": machine(),
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
            for cell, server in cells
        ],
        "scenarios": {name: [] for name in scenarios},
    }
    size = Size(0.2, 16.0) if wanted.quick else Size()
    begun = time.monotonic()
    with tqdm(total=steps, unit="step", disable=None, smoothing=0.05) as bar:
        for number in range(wanted.rounds):
            for entry, (cell, server) in zip(results["cells"], cells, strict=True):
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
    """Set the peers up; those that cannot be had, and why."""
    needs: dict[str, Callable[[], object]] = {
        "floor": peers.floor,
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
    """Of what this package runs on."""
    found = {}
    for name in ("gunicorn", "gunicorn_h1c", "werkzeug"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    """Measure, then write."""
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
