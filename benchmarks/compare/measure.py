"""Measures one server with one number of streams: all figures of a cell, in one start of the server."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

from sse_threaded.bench.endpoint import STAMP, Endpoint
from sse_threaded.bench.errors import CannotBench
from sse_threaded.bench.load import Load, Post
from sse_threaded.bench.process_tree import ProcessTree, processor_ns
from sse_threaded.bench.results import DeliveryResult
from sse_threaded.testing import EventStreamClient

from .grid import Cell
from .peers import Peers
from .servers import Server, running
from .starters import RunningServer

# 110 bytes of data, as in docs/design.md; the stamp has 26 characters.
BODY = '{"type":"note","stamp":"' + STAMP + '","pad":"' + "x" * 51 + '"}'

# Channels that no measured stream is in.
_WARM_UP_CHANNEL = 9999
_EMPTY_CHANNEL = 9998

_WARM_UP_STREAMS = 10
_REPLAYED = 10
_PUBLISH_SECONDS = 0.5


def stream_endpoint(server: RunningServer, channel: int | str = "{channel}") -> Endpoint:
    """Return the URL of streams; by default with ``{channel}``."""
    return Endpoint(f"{server.url}/events?channel={channel}")


def post(server: RunningServer, channel: int | str = "{channel}", body: str = BODY) -> Post:
    """Return how to publish; by default with ``{channel}`` in the URL."""
    return Post(Endpoint(f"{server.url}/publish?channel={channel}"), body)


def settle(tree: ProcessTree, seconds: float = 5.0) -> None:
    """Wait until a server is idle, but at most ``seconds``."""
    deadline = time.monotonic() + seconds
    before = tree.processor_ns()
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = tree.processor_ns()
        if now - before < 2_000_000:  # 2 % of a core
            return
        before = now


def warm_up(load: Load, server: RunningServer) -> ProcessTree:
    """Open a few streams and publish a few events, for what a server does only once; return its processes."""
    settle(ProcessTree(*server.pids))
    load.open(stream_endpoint(server, _WARM_UP_CHANNEL), _WARM_UP_STREAMS)
    load.publish(post(server, _WARM_UP_CHANNEL), count=5)
    load.close_streams()
    tree = ProcessTree(*server.pids)
    settle(tree, 2.0)
    return tree


class OtherProcesses:
    """The processor time that other processes of the machine use during a measurement, because they disturb it.

    :param tree: the processes of the server.
    :param load: the client.
    """

    def __init__(self, tree: ProcessTree, load: Load) -> None:
        self._tree = tree
        self._load = load
        self._begun = time.monotonic_ns()
        self._before = self._used()

    def share(self) -> float:
        """Return the share of a core that they have used since this object was created."""
        return max(0.0, self._used() - self._before) / (time.monotonic_ns() - self._begun)

    def _used(self) -> float:
        # Jiffies of all cores: user, nice, system, idle, iowait, irq, softirq, steal.
        times = list(map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]))
        busy = (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")
        ours = self._tree.processor_ns() + sum(map(processor_ns, self._load.pids))
        return 1e9 * busy - ours - time.process_time_ns()


def measure(server: Server, peers: Peers, cell: Cell, seconds: float) -> dict[str, Any]:
    """Return all figures of a cell.

    :param seconds: how long events are published at the rate of the cell.
    :raises Missing: the server cannot be installed.
    :raises SSEError: it could not be measured.
    """
    with running(server, peers, workers=cell.workers, streams=cell.streams) as started, Load() as load:
        tree = warm_up(load, started)
        before = tree.pss_kb()
        others = OtherProcesses(tree, load)
        used = tree.processor_ns()
        opened = load.open(stream_endpoint(started), cell.streams, channels=cell.channels)
        settle(tree, 2.0)
        open_us = (tree.processor_ns() - used) / 1000 / cell.streams
        figures = {"connect_rate": opened.rate, "connect_share": opened.share, "open_us": open_us}
        used = tree.processor_ns()
        count = max(3, math.ceil(cell.rate * seconds))
        delivered = load.publish(post(started), channels=cell.channels, count=count, rate=cell.rate)
        figures |= _steady(cell, delivered, tree.processor_ns() - used)
        figures["kb_per_stream"] = (tree.pss_kb() - before) / cell.streams
        if cell.burst:
            posts = load.publish(post(started), count=cell.burst, burst=True)
            settle(tree, 2.0)
            bulk = cell.burst if server.bulk else 1
            burst = load.publish(post(started), count=cell.burst, burst=True, bulk=bulk)
            figures |= {"burst_rate": burst.rate, "burst_events": cell.burst, "burst_share": burst.share}
            figures |= {"burst_publish_rate": burst.publish_rate, "burst_posts_rate": posts.rate}
            figures["missing"] += posts.expected - posts.deliveries + burst.expected - burst.deliveries
        settle(tree, 2.0)
        used = tree.processor_ns()
        posted = load.publish(post(started, _EMPTY_CHANNEL), seconds=_PUBLISH_SECONDS, expects_deliveries=False)
        figures["publish_rate"] = posted.publish_rate
        figures["publish_us"] = (tree.processor_ns() - used) / 1000 / posted.published
        if server.replays and cell.channels == 1:
            figures |= _replay(load, started, tree, cell)
        figures["others_share"] = others.share()
        return figures


def _steady(cell: Cell, delivered: DeliveryResult, processor_ns: int) -> dict[str, Any]:
    if not delivered.deliveries:
        raise CannotBench("no event came")
    return {
        "rate": cell.rate,
        "us_per_delivery": processor_ns / 1000 / delivered.deliveries,
        "p50_ms": delivered.latencies.percentile(0.5),
        "p99_ms": delivered.latencies.percentile(0.99),
        "max_ms": delivered.latencies.percentile(1.0),
        "client_share": delivered.share,
        "missing": delivered.expected - delivered.deliveries,
        "ended": delivered.ended,
    }


def _replay(load: Load, started: RunningServer, tree: ProcessTree, cell: Cell) -> dict[str, Any]:
    """All streams reconnect at once, ten events behind."""
    load.close_streams()
    settle(tree)
    last_event_id = _publish_and_follow(load, started)
    settle(tree, 2.0)
    used = tree.processor_ns()
    opened = load.open(stream_endpoint(started), cell.streams, channels=1, last_event_id=last_event_id)
    delivered = load.await_replay(_REPLAYED)
    if delivered.deliveries != delivered.expected:
        raise CannotBench(f"{delivered.expected - delivered.deliveries} replayed events are missing")
    settle(tree, 2.0)
    replay_us = (tree.processor_ns() - used) / 1000 / cell.streams
    rate = cell.streams / ((delivered.last_ns - opened.first_ns) / 1e9)
    return {"replay_rate": rate, "replay_us": replay_us, "replay_share": max(opened.share, delivered.share)}


def _publish_and_follow(load: Load, server: RunningServer) -> str:
    """Publish eleven events on channel 0; return the id of the first."""
    with EventStreamClient(f"{server.url}/events?channel=0") as client:
        load.publish(post(server, 0), count=_REPLAYED + 1, expects_deliveries=False)
        return client.events(_REPLAYED + 1)[0].last_event_id
