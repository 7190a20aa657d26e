"""Measures from a commit in one process until the event is at a client of another process."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sse_threaded.testing import EventStreamClient

from ..compare.peers import Peers
from ..compare.starters import Setup, parked
from .committer import CHANNEL, WAYS
from .programs import percentile, run
from .servers import LOGS, Servers

# The first events, which are not counted: connections are made then.
_WARM_UP = 10

_EVENT_SECONDS = 30.0


def delivery(servers: Servers, events: int) -> list[dict[str, Any]]:
    """Measure each log in each way that it has.

    :param events: how many events of each.
    """
    return [
        {"log": log, "way": way, **_measure(servers.url(log), way, events)}
        for way in WAYS
        for log in LOGS
        if way == "publish" or log != "Redis"
    ]


def _measure(url: str, way: str, events: int) -> dict[str, Any]:
    """Measure one log. A gunicorn has the stream, and another process commits."""
    count = events + _WARM_UP
    with tempfile.TemporaryDirectory(prefix="sse_threaded-") as name, ThreadPoolExecutor(1) as pool:
        folder = Path(name)
        with (
            parked(log=url)(Peers(folder / "peers"), Setup(1, 1, folder)) as server,
            EventStreamClient(f"{server.url}/events?channel={CHANNEL}", timeout=_EVENT_SECONDS) as client,
        ):
            client.wait_for(lambda: b"retry: " in client.raw)
            committer = pool.submit(run, "committer", url, way, count)
            came = []
            for number in range(count):
                event = client.next_event()
                came.append(time.monotonic_ns())
                assert event.data == str(number), f"event {event.data} came, and not event {number}"
            times = committer.result()["times"]
    measured = list(zip(came, times, strict=True))[_WARM_UP:]
    calls = [(at - begun) / 1e6 for at, (begun, _) in measured]
    commits = [(ended - begun) / 1e6 for _, (begun, ended) in measured]
    return {
        "events": events,
        "p50_ms": percentile(calls, 0.5),
        "p99_ms": percentile(calls, 0.99),
        "call_ms": percentile(commits, 0.5),
    }
