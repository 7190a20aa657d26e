"""Measures the processor time of a delivery to 1000 streams, with each log, as ``benchmarks.compare`` does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from sse_threaded.bench.load import Load
from sse_threaded.bench.process_tree import ProcessTree

from ..compare.measure import post, settle, stream_endpoint, warm_up
from ..compare.peers import Peers
from ..compare.servers import SERVERS, Server, running
from ..compare.starters import RunningServer

STREAMS = 1000

# Events a second.
_RATE = 10.0

# The servers of ``benchmarks.compare``, by the names in the tables. The time of Redis and PostgreSQL is included.
_SERVERS = {"SQLite": "parked", "Redis": "parked-redis", "PostgreSQL": "parked-postgres"}


def processor(rounds: int, events: int) -> list[dict[str, Any]]:
    """Measure each log; return the medians of the rounds.

    :param events: how many events are published in a round.
    """
    found: dict[str, list[tuple[float, float]]] = {log: [] for log in _SERVERS}
    with tempfile.TemporaryDirectory(prefix="sse_threaded-") as folder:
        peers = Peers(Path(folder))
        for number in range(rounds):
            # Each second round runs backwards, so that a machine that gets slower is unfair to no log.
            for log in list(_SERVERS)[:: -1 if number % 2 else 1]:
                server = next(server for server in SERVERS if server.key == _SERVERS[log])
                found[log].append(_measure(server, peers, events))
    ratios = {
        log: median(now[0] / base[0] for now, base in zip(each, found["SQLite"], strict=True))
        for log, each in found.items()
    }
    return [
        {
            "log": log,
            "us": median(us for us, _ in each),
            "publish_us": median(publish_us for _, publish_us in each),
            "ratio": ratios[log],
        }
        for log, each in found.items()
    ]


def _measure(server: Server, peers: Peers, events: int) -> tuple[float, float]:
    """Return the processor time of a delivery, and of a POST that publishes to no stream, in microseconds."""
    with running(server, peers, workers=1, streams=STREAMS) as started, Load() as load:
        tree = warm_up(load, started)
        load.open(stream_endpoint(started), STREAMS)
        settle(tree, 2.0)
        used = _used(started)
        delivered = load.publish(post(started), count=events, rate=_RATE)
        assert delivered.deliveries == delivered.expected, "events are missing"
        us = (_used(started) - used) / 1000 / delivered.deliveries
        settle(tree, 2.0)
        used = _used(started)
        posted = load.publish(post(started, "empty"), count=5 * events, rate=50.0, expects_deliveries=False)
        return us, (_used(started) - used) / 1000 / posted.published


def _used(started: RunningServer) -> int:
    # The processes of now: PostgreSQL has one for each connection, and a connection may be made at any time.
    return ProcessTree(*started.pids).processor_ns()
