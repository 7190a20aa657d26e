"""Tests of parked streams alone: a long idle time, stalled clients, many other streams, a second worker."""

from __future__ import annotations

import os
import time
from typing import Any

from sse_threaded.bench.endpoint import STAMP, Endpoint
from sse_threaded.bench.load import Load
from sse_threaded.bench.process_tree import ProcessTree

from .measure import post, settle, stream_endpoint, warm_up
from .servers import PARKED, running
from .starters import RunningServer
from .trial import Trial

# 8 KB, so that the kernel's buffers for stalled clients are soon full.
_LARGE = '{"type":"note","stamp":"' + STAMP + '","pad":"' + "x" * 8000 + '"}'


def idle(trial: Trial) -> dict[str, Any]:
    """Streams to which nothing is published; they get a heartbeat every 15 seconds."""
    streams = trial.streams(15000)
    with running(PARKED, trial.peers, workers=1, streams=streams) as started, Load() as load:
        tree = warm_up(load, started)
        load.open(stream_endpoint(started, 0), streams)
        settle(tree)
        used, begun = tree.processor_ns(), time.monotonic_ns()
        delivered = load.listen(trial.idle_seconds)
        share = (tree.processor_ns() - used) / (time.monotonic_ns() - begun)
        bytes_each = delivered.received / streams
        return {"streams": streams, "seconds": delivered.seconds, "share": share, "heartbeat_bytes": bytes_each}


def stalled(trial: Trial) -> dict[str, Any]:
    """One client in ten reads nothing: the latency of the others, and the memory of the server."""
    streams = trial.streams(5000)
    without = _with_stalled(trial, streams, 0)
    beside = _with_stalled(trial, streams, streams // 10)
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


def _with_stalled(trial: Trial, streams: int, count: int) -> dict[str, Any]:
    with running(PARKED, trial.peers, workers=1, streams=streams) as started, Load() as load:
        tree = warm_up(load, started)
        load.open(stream_endpoint(started, 0), streams, stalled=count)
        settle(tree)
        before = tree.pss_kb()
        # Fill the buffers of the kernel, on both sides, of the stalled connections.
        filled = load.publish(post(started, 0, _LARGE), count=50, rate=10)
        settle(tree)
        delivered = load.publish(post(started, 0), count=30, rate=5)
        return {
            "p99_ms": delivered.latencies.percentile(0.99),
            "share": delivered.share,
            "memory_mb": (tree.pss_kb() - before) / 1024,
            "published_mb": filled.published * len(_LARGE) / 1e6,
            "missing": delivered.expected - delivered.deliveries + filled.expected - filled.deliveries,
        }


def others(trial: Trial) -> dict[str, Any]:
    """The cost of an event for ten streams, beside ten thousand streams in other channels, and beside none."""
    streams = trial.streams(10_000)
    alone, beside = _event_cost(trial, 0), _event_cost(trial, streams)
    return {"others": streams, "alone_us": alone, "beside_us": beside, "ratio": beside / alone}


def _event_cost(trial: Trial, streams: int) -> float:
    """Return the processor time of an event, in microseconds.

    :param streams: how many streams are open in other channels.
    """
    events = 300
    with running(PARKED, trial.peers, workers=1, streams=streams + 10) as started, Load() as load:
        tree = warm_up(load, started)
        if streams:
            others = Endpoint(f"{started.url}/events?channel=away-{{channel}}")
            load.open(others, streams, channels=1000, receives=False)
        load.open(stream_endpoint(started, 0), 10)
        settle(tree)
        load.publish(post(started, 0), count=20, rate=100)
        used = tree.processor_ns()
        delivered = load.publish(post(started, 0), count=events, rate=100)
        assert delivered.deliveries == delivered.expected, "events are missing"
        return (tree.processor_ns() - used) / 1000 / events


def workers(trial: Trial) -> dict[str, Any]:
    """Two workers against one: how streams are spread, and how many deliveries a second a burst makes."""
    # So many that the fan-out limits a burst, and not the publishing.
    streams = trial.streams(12_000)
    found: dict[str, Any] = {"streams": streams}
    for count in (1, 2):
        with running(PARKED, trial.peers, workers=count, streams=streams) as started, Load() as load:
            tree = warm_up(load, started)
            before = _open_files(tree, started)
            opened = load.open(stream_endpoint(started, 0), streams)
            settle(tree)
            # The publisher's connection, open since the warm-up, may be among those before.
            spread = [now - then for now, then in zip(_open_files(tree, started), before, strict=True)]
            used = tree.processor_ns()
            # The client reads seldom, so that the server has the cores. Mostly the kernel records when bytes came.
            burst = load.publish(post(started, 0), count=100, burst=True, bulk=100, pause=0.05)
            found[f"spread_{count}"] = sorted(spread)
            found[f"connect_{count}"] = opened.rate
            found[f"burst_{count}"] = burst.rate
            found[f"cores_{count}"] = (tree.processor_ns() - used) / 1e9 / burst.seconds
            found[f"client_share_{count}"] = burst.share
    found["ratio"] = found["burst_2"] / found["burst_1"]
    return found


def _open_files(tree: ProcessTree, started: RunningServer) -> list[int]:
    """Return how many files and sockets each worker has open."""
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in tree.pids if pid not in started.pids]
