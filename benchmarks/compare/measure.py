"""One server, one number of streams: everything that is measured of it, in one start of the server."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sse_threaded.bench.endpoint import STAMP, Endpoint
from sse_threaded.bench.errors import CannotBench
from sse_threaded.bench.load import Load, Post
from sse_threaded.bench.process_tree import ProcessTree, processor_ns
from sse_threaded.bench.results import DeliveryResult, OpenResult

from .peers import Peers
from .servers import Running, Server, running

# 110 bytes of data, as in the design's figures; the stamp is 26 characters.
BODY = '{"type":"note","stamp":"' + STAMP + '","pad":"' + "x" * 51 + '"}'

# Channels that no measured stream is in.
_WARM = 9999
_NOBODY = 9998

_WARM_STREAMS = 10
_REPLAYED = 10
_PUBLISH_SECONDS = 0.5

# A burst of 100 events to 15000 streams would take the slower servers more than a minute.
_BURST_DELIVERIES = 100_000


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    :ivar streams: how many.
    :ivar channels: over how many channels they are spread.
    :ivar workers: the server's processes.
    """

    streams: int
    channels: int
    workers: int

    @property
    def rate(self) -> float:
        """Events a second, so that the cells have a comparable number of deliveries a second."""
        if self.channels > 1:
            return 200.0
        return {100: 50.0, 1000: 10.0, 5000: 2.0}.get(self.streams, max(1.0, 10_000 / self.streams))

    @property
    def burst(self) -> int:
        """Events in a burst: 100 where the slower servers get through them in seconds."""
        return max(5, min(100, _BURST_DELIVERIES // self.streams)) if self.channels == 1 else 0

    def __str__(self) -> str:
        return f"{self.streams} streams, {self.channels} channels, {self.workers} workers"


def stream_endpoint(server: Running, channel: int | str = "{channel}") -> Endpoint:
    """The URL of streams; ``{channel}`` in it by default."""
    return Endpoint(f"{server.url}/events?channel={channel}")


def post(server: Running, channel: int | str = "{channel}", body: str = BODY) -> Post:
    """How to publish; ``{channel}`` in the URL by default."""
    return Post(Endpoint(f"{server.url}/publish?channel={channel}"), body)


def settle(tree: ProcessTree, seconds: float = 5.0) -> None:
    """Wait until a server has nothing left to do, but not longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    before = tree.processor_ns()
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = tree.processor_ns()
        if now - before < 2_000_000:  # 2 % of a core
            return
        before = now


def warm(load: Load, server: Running) -> ProcessTree:
    """Have a few streams and events, so that what is made once is there; returns the server's processes."""
    settle(ProcessTree(server.pid))
    load.open(stream_endpoint(server, _WARM), _WARM_STREAMS)
    load.publish(post(server, _WARM), count=5)
    load.close_streams()
    tree = ProcessTree(server.pid)
    settle(tree, 2.0)
    return tree


class Others:
    """What other processes of the machine take meanwhile: on a shared machine it disturbs.

    :param tree: the server's processes.
    :param load: the client.
    """

    def __init__(self, tree: ProcessTree, load: Load) -> None:
        self._tree = tree
        self._load = load
        self._begun = time.monotonic_ns()
        self._before = self._used()

    def share(self) -> float:
        """Of a core, since it was made."""
        return max(0.0, self._used() - self._before) / (time.monotonic_ns() - self._begun)

    def _used(self) -> float:
        # user, nice, system, idle, iowait, irq, softirq, steal (proc(5)), in ticks.
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
        busy = (user + nice + system + irq + softirq + steal) * 1e9 / os.sysconf("SC_CLK_TCK")
        ours = self._tree.processor_ns() + sum(map(processor_ns, self._load.pids))
        return busy - ours - time.process_time_ns()


def measure(server: Server, peers: Peers, cell: Cell, seconds: float) -> dict[str, Any]:
    """All figures of a cell.

    :param seconds: how long events are published at the cell's rate.
    :raises Missing: the peer is not there.
    :raises SSEError: it could not be measured.
    """
    with running(server, peers, workers=cell.workers, streams=cell.streams) as run, Load() as load:
        tree = warm(load, run)
        before = tree.pss_kb()
        others = Others(tree, load)
        opened = load.open(stream_endpoint(run), cell.streams, channels=cell.channels)
        settle(tree, 2.0)
        figures = {"connect_rate": opened.rate, "connect_share": opened.share}
        used = tree.processor_ns()
        count = max(3, math.ceil(cell.rate * seconds))
        heard = load.publish(post(run), channels=cell.channels, count=count, rate=cell.rate)
        figures |= _steady(cell, heard, tree.processor_ns() - used)
        figures["kb_per_stream"] = (tree.pss_kb() - before) / cell.streams
        if cell.burst:
            posts = load.publish(post(run), count=cell.burst, burst=True)
            settle(tree, 2.0)
            bulk = cell.burst if server.bulk else 1
            burst = load.publish(post(run), count=cell.burst, burst=True, bulk=bulk)
            figures |= {"burst_rate": burst.rate, "burst_events": cell.burst, "burst_share": burst.share}
            figures |= {"burst_publish_rate": burst.publish_rate, "burst_posts_rate": posts.rate}
            figures["missing"] += posts.expected - posts.deliveries + burst.expected - burst.deliveries
        settle(tree, 2.0)
        used = tree.processor_ns()
        posted = load.publish(post(run, _NOBODY), seconds=_PUBLISH_SECONDS, expects_deliveries=False)
        figures["publish_rate"] = posted.publish_rate
        figures["publish_us"] = (tree.processor_ns() - used) / 1000 / posted.published
        if server.replays and cell.channels == 1:
            figures |= _replay(load, run, tree, cell)
        figures["others_share"] = others.share()
        return figures


def _steady(cell: Cell, heard: DeliveryResult, processor_ns: int) -> dict[str, Any]:
    if not heard.deliveries:
        raise CannotBench("none of the events came")
    return {
        "rate": cell.rate,
        "us_per_delivery": processor_ns / 1000 / heard.deliveries,
        "p50_ms": heard.latencies.percentile(0.5),
        "p99_ms": heard.latencies.percentile(0.99),
        "max_ms": heard.latencies.percentile(1.0),
        "client_share": heard.share,
        "missing": heard.expected - heard.deliveries,
        "ended": heard.ended,
    }


def _replay(load: Load, run: Running, tree: ProcessTree, cell: Cell) -> dict[str, Any]:
    """All come back at once, ten events behind."""
    load.close_streams()
    settle(tree)
    last_event_id = _publish_and_read(load, run)
    opened: OpenResult = load.open(stream_endpoint(run), cell.streams, channels=1, last_event_id=last_event_id)
    heard = load.await_replay(_REPLAYED)
    if heard.deliveries != heard.expected:
        raise CannotBench(f"{heard.expected - heard.deliveries} replayed events are missing")
    rate = cell.streams / ((heard.last_ns - opened.first_ns) / 1e9)
    return {"replay_rate": rate, "replay_share": max(opened.share, heard.share)}


def _publish_and_read(load: Load, run: Running) -> str:
    """Publish eleven events on channel 0; the id of the first."""
    parts = urlsplit(run.url)
    with socket.create_connection((parts.hostname, parts.port), 10) as stream:
        stream.sendall(b"GET /events?channel=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += _received(stream)
        load.publish(post(run, 0), count=_REPLAYED + 1, expects_deliveries=False)
        while received.count(b"data: ") - received.count(b"data: {}") <= _REPLAYED:
            received += _received(stream)
    # Servers differ in which line of an event its id is.
    events = (block for block in received.split(b"\n\n") if re.search(rb"data: (?!\{\})", block))
    ids = (re.search(rb"id: ?([^\r\n]+)", event) for event in events)
    return next(match[1].decode() for match in ids if match)


def _received(stream: socket.socket) -> bytes:
    received = stream.recv(65536)
    if not received:
        raise CannotBench("a stream ended before its events came")
    return received


def sockets_of(pid: int) -> int:
    """How many sockets a process has open."""
    links = (path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir())
    return sum(str(link).startswith("socket:") for link in links)
