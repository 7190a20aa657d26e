"""How long an event takes from host to host, and how many connections Redis sees; see :mod:`.faults`."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import redis

from .roaming import Publisher, Roamer

RATE = 500.0  # events a second
_SECONDS = 8.0
_CLIENTS = 5  # a host
_CONNECTIONS = 16
_PATH = "/boards/board-1/events"
_WAIT_SECONDS = 30.0


def measure(bases: Sequence[str], client: Callable[[], redis.Redis]) -> list[str]:
    """The rows of a table.

    :param bases: the app hosts, as ``http://address:port``.
    :param client: makes a client of Redis.
    """
    return [_latency(bases[0], bases[1:]), *(_listeners(bases, client, streams) for streams in (10, 500))]


def _latency(near: str, far: Sequence[str]) -> str:
    roamers = [Roamer([base], _PATH) for base in far for _ in range(_CLIENTS)]
    deadline = time.monotonic() + _WAIT_SECONDS
    while not all(each.start for each in roamers):
        assert time.monotonic() < deadline, "the streams do not begin"
        time.sleep(0.01)
    publisher = Publisher([near], ["board-1"], RATE, _CONNECTIONS)
    publisher.start()
    time.sleep(_SECONDS)
    publisher.stop()
    rate = len(publisher.sent) / (publisher.ended - publisher.begun)
    time.sleep(1)
    for each in roamers:
        each.stop()
    for each in roamers:
        each.join()
    begun = {each.id: each.at for each in publisher.sent}
    took = sorted(1000 * (got.at - begun[got.id]) for each in roamers for got in each.got if got.id in begun)
    assert len(took) == len(begun) * len(roamers), f"{len(took)} of {len(begun) * len(roamers)} events came"
    figures = f"median {statistics.median(took):.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f} ms"
    what = f"from the begin of `POST` on one host to the event at {len(roamers)} clients of two others"
    return f"| {what}, {rate:.0f} posts a second on {_CONNECTIONS} connections | {figures}, of {len(took)} |"


def _listeners(bases: Sequence[str], client: Callable[[], redis.Redis], streams: int) -> str:
    with ExitStack() as resources:
        for number in range(streams):
            host, _, port = bases[number % len(bases)].removeprefix("http://").partition(":")
            stream = resources.enter_context(socket.create_connection((host, int(port)), 10))
            stream.sendall(f"GET {_PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            stream.settimeout(_WAIT_SECONDS)
            assert stream.recv(9)  # it has begun
        with client() as looking:
            names = [each["name"] for each in looking.client_list()]
    listeners = sum(each == "sse_threaded-listener" for each in names)
    what = f"connections named `sse_threaded-listener`, {streams} streams, {len(bases)} hosts of two processes"
    return f"| {what} | {listeners} |"
