"""How long an event takes from host to host, and how many connections Redis sees; see :mod:`.faults`."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from .clients import Publisher, Roamer
from .delivery_check import number_of
from .deployment import Stage, wait_until
from .programs import redis_client

RATE = 500.0  # events a second
_SECONDS = 8.0
_CLIENTS = 3  # a host
_CONNECTIONS = 8
_PATH = "/boards/board-1/events"
_WAIT_SECONDS = 30.0


# Run on a host: publishes so many events a second for so many seconds, then prints their ids, and when each began.
_PUBLISH = """
import sys, time
from sse_threaded import Hub
url, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
sent = []
with Hub(url) as hub:
    start = time.monotonic()
    while len(sent) < rate * seconds:
        time.sleep(max(start + len(sent) / rate - time.monotonic(), 0))
        begun = time.monotonic()
        sent.append((hub.publish("board-1", "x" * 110), begun))
for event_id, begun in sent:
    print(event_id, begun)
"""


def measure(stage: Stage) -> list[str]:
    """The rows of a table."""
    return [_by_posts(stage), _by_the_library(stage), *(_listeners(stage, streams) for streams in (10, 500))]


def _by_posts(stage: Stage) -> str:
    def publish() -> list[tuple[str, float]]:
        publisher = Publisher(stage.bases[:1], ["board-1"], RATE, _CONNECTIONS)
        publisher.start()
        time.sleep(_SECONDS)
        publisher.stop()
        return [(each.id, each.at) for each in publisher.sent]

    return _latency(stage, f"begin of `POST` on one host, {_CONNECTIONS} connections,", publish)


def _by_the_library(stage: Stage) -> str:
    host, _ = stage.apps[0]
    arguments = [sys.executable, "-c", _PUBLISH, stage.url(host), str(RATE), str(_SECONDS)]

    def publish() -> list[tuple[str, float]]:
        done = subprocess.run(stage.network.on(host, arguments), check=True, capture_output=True, text=True)
        return [(event_id, float(begun)) for event_id, begun in map(str.split, done.stdout.splitlines())]

    return _latency(stage, "begin of `hub.publish()` on one host", publish)


def _latency(stage: Stage, begin: str, publish: Callable[[], list[tuple[str, float]]]) -> str:
    """Publish, and look at the clients of all hosts but the first; the clock is one for all of this machine."""
    roamers = [Roamer([base], _PATH) for base in stage.bases[1:] for _ in range(_CLIENTS)]
    wait_until(lambda: all(each.start for each in roamers), "the streams have begun")
    sent = publish()
    begun = dict(sent)
    last = max(begun, key=number_of)
    wait_until(lambda: all(each.got and each.got[-1].id == last for each in roamers), "all events have come")
    for each in roamers:
        each.stop()
    for each in roamers:
        each.join()
    took = sorted(1000 * (got.at - begun[got.id]) for each in roamers for got in each.got)
    assert len(took) == len(sent) * len(roamers), f"{len(took)} of {len(sent) * len(roamers)} events came"
    rate = (len(sent) - 1) / (max(begun.values()) - min(begun.values()))
    figures = f"median {statistics.median(took):.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f} ms"
    what = f"from the {begin} to the event at {len(roamers)} clients of two others, {rate:.0f} a second"
    return f"| {what} | {figures}, of {len(took)} |"


def _listeners(stage: Stage, streams: int) -> str:
    bases = stage.bases
    with ExitStack() as resources:
        for number in range(streams):
            host, _, port = bases[number % len(bases)].removeprefix("http://").partition(":")
            stream = resources.enter_context(socket.create_connection((host, int(port)), 10))
            stream.sendall(f"GET {_PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            stream.settimeout(_WAIT_SECONDS)
            assert stream.recv(9)  # it has begun
        with redis_client(stage.store, stage.port) as looking:
            names = [each["name"] for each in looking.client_list()]
    listeners = sum(each == "sse_threaded-listener" for each in names)
    what = f"connections named `sse_threaded-listener`, {streams} streams, {len(bases)} hosts of two processes"
    return f"| {what} | {listeners} |"
