"""What it costs that an app wraps its streams: a generator that filters, beside the same streams bare.

    python -m benchmarks.wrapped [--rounds 5] [--streams 1000] [--seconds 10]

Both are under the worker that parks, with 8 threads. They take turns, so that what else the machine does meets
both.
It prints one JSON object: the medians of all rounds, and of each round the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from sse_threaded.bench.load import Load

from ..compare.measure import post, settle, stream_endpoint, warm
from ..compare.peers import Peers
from ..compare.servers import SERVERS, Server, Start, running

_PARKED = next(server for server in SERVERS if server.key == "parked")
_RATE = 10.0


def _wrapped_command(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
    command, env = _PARKED.command(peers, start)
    return ["wrapped:app" if part == "ours:app" else part for part in command], env


KINDS = {"bare": _PARKED, "wrapped": replace(_PARKED, key="wrapped", command=_wrapped_command)}


def measure(server: Server, peers: Peers, streams: int, seconds: float) -> dict[str, Any]:
    """Events to many streams of one channel.

    :param seconds: for how long, ten a second.
    """
    with running(server, peers, workers=1, streams=streams) as run, Load() as load:
        tree = warm(load, run)
        before = tree.pss_kb()
        load.open(stream_endpoint(run, 0), streams)
        settle(tree)
        kilobytes = (tree.pss_kb() - before) / streams
        used = tree.processor_ns()
        heard = load.publish(post(run, 0), count=round(_RATE * seconds), rate=_RATE)
        used = tree.processor_ns() - used
        threads = max(_threads(pid) for pid in tree.pids)
        return {
            "us_per_delivery": used / 1000 / heard.deliveries,
            "p50_ms": heard.latencies.percentile(0.5),
            "p99_ms": heard.latencies.percentile(0.99),
            "missing": heard.expected - heard.deliveries,
            "threads": threads,
            "kb_per_stream": kilobytes,
            "client_share": heard.share,
        }


def _threads(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wrapped", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--streams", type=int, default=1000, help="how many streams (1000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long events are published (10)")
    options = parser.parse_args()
    peers = Peers()
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind, server in KINDS.items():
            rounds[kind].append(measure(server, peers, options.streams, options.seconds))
            sys.stderr.write(f"{kind}: {rounds[kind][-1]}\n")
    medians = {
        kind: {name: statistics.median(figures[name] for figures in of_kind) for name in of_kind[0]}
        for kind, of_kind in rounds.items()
    }
    json.dump({"streams": options.streams, "medians": medians, "rounds": rounds}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
