"""Measures how long an event takes from host to host, and how many connections the database has."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from sse_threaded.testing import EventStreamClient

from ..common.event_ids import sequence_of
from .clients import RoamingClient
from .deployment import Deployment
from .publisher import TaskPublisher
from .waiting import wait_until

RATE = 500.0  # events a second
_SECONDS = 8.0
_CLIENTS = 3  # for each host
_CONNECTIONS = 8
_PATH = "/boards/board-1/events"
_WAIT_SECONDS = 30.0


# Runs on a host. It publishes events, then prints the id of each and the time at which its publishing began.
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


def measure(deployment: Deployment) -> list[str]:
    """Return the rows of a table."""
    return [
        _by_posts(deployment),
        _by_the_library(deployment),
        *(_listeners(deployment, streams) for streams in (10, 500)),
    ]


def _by_posts(deployment: Deployment) -> str:
    def publish() -> list[tuple[str, float]]:
        publisher = TaskPublisher(deployment.urls[:1], ["board-1"], RATE, _CONNECTIONS)
        publisher.start()
        time.sleep(_SECONDS)
        publisher.stop()
        return [(each.id, each.at) for each in publisher.acknowledged]

    return _latency(deployment, f"beginning of a `POST` on one host, over {_CONNECTIONS} connections,", publish)


def _by_the_library(deployment: Deployment) -> str:
    host, _ = deployment.apps[0]
    arguments = [sys.executable, "-c", _PUBLISH, deployment.store.url(host), str(RATE), str(_SECONDS)]

    def publish() -> list[tuple[str, float]]:
        done = subprocess.run(deployment.network.on(host, arguments), check=True, capture_output=True, text=True)
        return [(event_id, float(begun)) for event_id, begun in map(str.split, done.stdout.splitlines())]

    return _latency(deployment, "beginning of `hub.publish()` on one host", publish)


def _latency(deployment: Deployment, begin: str, publish: Callable[[], list[tuple[str, float]]]) -> str:
    """Publish on the first host; measure at the clients of the others. All share one clock."""
    clients = [RoamingClient([url], _PATH) for url in deployment.urls[1:] for _ in range(_CLIENTS)]
    wait_until(lambda: all(each.start for each in clients), "the streams have begun")
    sent = publish()
    begun = dict(sent)
    last = max(begun, key=sequence_of)
    wait_until(
        lambda: all(each.received and each.received[-1].id == last for each in clients), "all events have come"
    )
    for each in clients:
        each.stop()
    for each in clients:
        each.join()
    took = sorted(1000 * (event.at - begun[event.id]) for each in clients for event in each.received)
    assert len(took) == len(sent) * len(clients), f"{len(took)} of {len(sent) * len(clients)} events came"
    rate = (len(sent) - 1) / (max(begun.values()) - min(begun.values()))
    figures = f"median {statistics.median(took):.1f} ms, p99 {statistics.quantiles(took, n=100)[98]:.1f} ms"
    what = f"from the {begin} to the event at {len(clients)} clients of two other hosts, {rate:.0f} a second"
    return f"| {what} | {figures}, of {len(took)} |"


def _listeners(deployment: Deployment, streams: int) -> str:
    urls = deployment.urls
    with ExitStack() as resources:
        for number in range(streams):
            url = urls[number % len(urls)] + _PATH
            resources.enter_context(EventStreamClient(url, timeout=_WAIT_SECONDS))
        listeners = deployment.store.listeners()
    name = deployment.store.listeners_name
    what = f"connections named `{name}`, {streams} streams, {len(urls)} hosts of two processes"
    return f"| {what} | {listeners} |"
