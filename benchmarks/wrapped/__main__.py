"""Measures what it costs that an app wraps its streams: a generator that filters, beside the same streams bare.

    python -m benchmarks.wrapped [--rounds 5] [--streams 1000] [--seconds 10]

Both run under the worker that parks streams, with 8 threads. They are measured in turn, so that other processes of
the machine disturb both equally. It prints one JSON object: the figures of each round, and their medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from typing import Any

import psutil

from sse_threaded.bench.load import Load

from ..compare.measure import post, settle, stream_endpoint, warm_up
from ..compare.peers import Peers
from ..compare.servers import PARKED, Server, running
from ..compare.starters import parked

_RATE = 10.0  # events a second

KINDS = {"bare": PARKED, "wrapped": replace(PARKED, key="wrapped", start=parked("wrapped:app"))}


def measure(server: Server, peers: Peers, streams: int, seconds: float) -> dict[str, Any]:
    """Publish events to many streams of one channel, ten a second.

    :param seconds: for how long.
    """
    with running(server, peers, workers=1, streams=streams) as started, Load() as load:
        tree = warm_up(load, started)
        before = tree.pss_kb()
        load.open(stream_endpoint(started, 0), streams)
        settle(tree)
        kilobytes = (tree.pss_kb() - before) / streams
        used = tree.processor_ns()
        delivered = load.publish(post(started, 0), count=round(_RATE * seconds), rate=_RATE)
        used = tree.processor_ns() - used
        return {
            "us_per_delivery": used / 1000 / delivered.deliveries,
            "p50_ms": delivered.latencies.percentile(0.5),
            "p99_ms": delivered.latencies.percentile(0.99),
            "missing": delivered.expected - delivered.deliveries,
            "threads": max(psutil.Process(pid).num_threads() for pid in tree.pids),
            "kb_per_stream": kilobytes,
            "client_share": delivered.share,
        }


def main() -> None:
    """Measure both kinds in turn and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wrapped", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured; default %(default)s")
    parser.add_argument("--streams", type=int, default=1000, help="how many streams; default %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long; default %(default)s")
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
