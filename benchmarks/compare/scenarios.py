"""What only parked streams are asked: long idleness, stalled readers, many others, a second core."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sse_threaded.bench.endpoint import STAMP, Endpoint
from sse_threaded.bench.load import Load
from sse_threaded.bench.process_tree import ProcessTree

from .measure import post, settle, sockets_of, stream_endpoint, warm
from .peers import Peers
from .servers import SERVERS, Running, running

_PARKED = next(server for server in SERVERS if server.key == "parked")

# 8 KB, so that what stalled readers do not take soon is more than the kernel keeps for them.
_LARGE = '{"type":"note","stamp":"' + STAMP + '","pad":"' + "x" * 8000 + '"}'


@dataclass(frozen=True)
class Size:
    """How large the scenarios are.

    :ivar share: of the full numbers of streams, 0 to 1.
    :ivar idle_seconds: how long nothing happens.
    """

    share: float = 1.0
    idle_seconds: float = 40.0

    def streams(self, full: int) -> int:
        """Of so many in a full run."""
        return round(full * self.share)


def idle(peers: Peers, size: Size) -> dict[str, Any]:
    """Streams to which nothing is published: heartbeats every 15 seconds, and nothing else."""
    streams = size.streams(15000)
    with running(_PARKED, peers, workers=1, streams=streams) as run, Load() as load:
        tree = warm(load, run)
        load.open(stream_endpoint(run, 0), streams)
        settle(tree)
        used, begun = tree.processor_ns(), time.monotonic_ns()
        heard = load.listen(size.idle_seconds)
        share = (tree.processor_ns() - used) / (time.monotonic_ns() - begun)
        bytes_each = heard.received / streams
        return {"streams": streams, "seconds": heard.seconds, "share": share, "heartbeat_bytes": bytes_each}


def stalled(peers: Peers, size: Size) -> dict[str, Any]:
    """One reader in ten takes nothing: what the others see, and what the server keeps."""
    streams = size.streams(5000)
    without = _with_stalled(peers, streams, 0)
    beside = _with_stalled(peers, streams, streams // 10)
    return {
        "streams": streams,
        "stalled": streams // 10,
        "p99_without_ms": without["p99_ms"],
        "p99_beside_ms": beside["p99_ms"],
        "p99_ratio": beside["p99_ms"] / without["p99_ms"],
        "published_mb": beside["published_mb"],
        "unread_mb": beside["published_mb"] * (streams // 10),
        "memory_without_mb": without["memory_mb"],
        "memory_beside_mb": beside["memory_mb"],
        "missing": without["missing"] + beside["missing"],
        "client_share": max(without["share"], beside["share"]),
    }


def _with_stalled(peers: Peers, streams: int, count: int) -> dict[str, Any]:
    with running(_PARKED, peers, workers=1, streams=streams) as run, Load() as load:
        tree = warm(load, run)
        load.open(stream_endpoint(run, 0), streams, stalled=count)
        settle(tree)
        before = tree.pss_kb()
        # Until neither the clients' kernels nor the server's take more for those who stall.
        filled = load.publish(post(run, 0, _LARGE), count=50, rate=10)
        settle(tree)
        heard = load.publish(post(run, 0), count=30, rate=5)
        return {
            "p99_ms": heard.latencies.percentile(0.99),
            "share": heard.share,
            "memory_mb": (tree.pss_kb() - before) / 1024,
            "published_mb": filled.published * len(_LARGE) / 1e6,
            "missing": heard.expected - heard.deliveries + filled.expected - filled.deliveries,
        }


def others(peers: Peers, size: Size) -> dict[str, Any]:
    """One event to ten subscribers, with ten thousand streams in other channels and with none."""
    streams = size.streams(10_000)
    alone, beside = _among(peers, 0), _among(peers, streams)
    return {"others": streams, "alone_us": alone, "beside_us": beside, "ratio": beside / alone}


def _among(peers: Peers, streams: int) -> float:
    """Processor time of an event, microseconds."""
    events = 300
    with running(_PARKED, peers, workers=1, streams=streams + 10) as run, Load() as load:
        tree = warm(load, run)
        if streams:
            away = Endpoint(f"{run.url}/events?channel=away-{{channel}}")
            load.open(away, streams, channels=1000, receives=False)
        load.open(stream_endpoint(run, 0), 10)
        settle(tree)
        load.publish(post(run, 0), count=20, rate=100)
        used = tree.processor_ns()
        heard = load.publish(post(run, 0), count=events, rate=100)
        assert heard.deliveries == heard.expected, "events are missing"
        return (tree.processor_ns() - used) / 1000 / events


def workers(peers: Peers, size: Size) -> dict[str, Any]:
    """Two processes against one: how streams spread, and how many deliveries a second a burst makes."""
    # So many that the fan-out is the limit of a burst, and not the publishing.
    streams = size.streams(12_000)
    found: dict[str, Any] = {"streams": streams}
    for count in (1, 2):
        with running(_PARKED, peers, workers=count, streams=streams) as run, Load() as load:
            tree = warm(load, run)
            idle_sockets = _sockets(tree, run)
            opened = load.open(stream_endpoint(run, 0), streams)
            settle(tree)
            # The publisher's own connection, idle since the warming up, may be among those that were there before.
            spread = [now - then for now, then in zip(_sockets(tree, run), idle_sockets, strict=True)]
            used = tree.processor_ns()
            # The client reads little meanwhile, so that the processes have the cores; the kernel notes the times,
            # if not always.
            burst = load.publish(post(run, 0), count=100, burst=True, bulk=100, pause=0.05)
            found[f"spread_{count}"] = sorted(spread)
            found[f"connect_{count}"] = opened.rate
            found[f"burst_{count}"] = burst.rate
            found[f"cores_{count}"] = (tree.processor_ns() - used) / 1e9 / burst.seconds
            found[f"client_share_{count}"] = burst.share
    found["ratio"] = found["burst_2"] / found["burst_1"]
    return found


def _sockets(tree: ProcessTree, run: Running) -> list[int]:
    return [sockets_of(pid) for pid in tree.pids if pid != run.pid]


SCENARIOS: dict[str, Callable[[Peers, Size], dict[str, Any]]] = {
    "idle": idle,
    "stalled": stalled,
    "others": others,
    "workers": workers,
}

# Seconds a round, for the estimate.
SECONDS = {"idle": 65, "stalled": 45, "others": 30, "workers": 40}
