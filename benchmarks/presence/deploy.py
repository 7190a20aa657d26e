"""What presence costs when all clients reconnect after a reload."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sse_threaded.testing import GunicornServer
from sse_threaded.testing.processes import POLL_SECONDS

from ..common.paths import ROOT
from ..reload.clients import ClientLoop, ResumingClient

# People on one channel, where not all are on the same.
_GROUP = 50

_SECONDS = 120.0

# For the lists and counts that come after the last client.
_AFTER = 3.0

WAYS = ("without presence", "with presence, all on one channel", f"with presence, {_GROUP} on each channel")


class Figures(NamedTuple):
    """What was measured.

    :ivar opening: processor time of the server for an opening, in seconds.
    :ivar reopening: the same for an opening after the reload, with the start of the new workers.
    :ivar opening_bytes: bytes that a client got in its first stream.
    :ivar reopening_bytes: bytes that a client got from the reload on.
    :ivar changes: events with somebody's name as joined or left, after the reload.
    :ivar seconds: from the reload until all were back.
    """

    opening: float
    reopening: float
    opening_bytes: float
    reopening_bytes: float
    changes: int
    seconds: float


class _People(ClientLoop):
    """Clients with a user each."""

    def __init__(self, port: int, count: int, group: int) -> None:
        super().__init__(port, "", count)
        self._group = group
        self.bytes = self.changes = 0

    def _request(self, client: ResumingClient) -> bytes:
        self._path = f"/room-{client.number // self._group}?user=user-{client.number:05}"
        return super()._request(client)

    def _take(self, client: ResumingClient, received: bytes) -> None:
        self.bytes += len(received)
        self.changes += received.count(b'"joined":')
        super()._take(client, received)


def _processor_seconds(server: GunicornServer) -> float:
    """The processor time of the server so far, with that of workers that have ended."""
    ticks = 0
    for pid, fields in [(server.pid, slice(11, 15)), *((pid, slice(11, 13)) for pid in server.worker_pids())]:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += sum(map(int, stat[fields]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _wait_for(clients: ClientLoop, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if clients.failure is not None:
            raise clients.failure
        if time.monotonic() > deadline:
            raise TimeoutError(f"{clients.following} of {len(clients.all)} clients have a stream")
        time.sleep(POLL_SECONDS)


def measure(way: str, url: str, streams: int) -> Figures:
    """Open the streams, reload the server, and wait until all are back.

    :param way: one of :data:`WAYS`.
    :param url: the log's.
    :param streams: how many clients.
    """
    group = _GROUP if way == WAYS[2] else streams
    arguments = ["-k", "sse_threaded.worker.ThreadWorker", "-w", "2", "--threads", "8", "--backlog", "4096"]
    arguments += ["--worker-connections", "10000", "--chdir", str(ROOT)]
    env = {"LOG": url, "PRESENCE": "0" if way == WAYS[0] else "1", "PYTHONPATH": str(ROOT)}
    with (
        GunicornServer("benchmarks.presence.app:app", args=arguments, env=env) as server,
        _People(server.port, streams, group) as clients,
    ):
        before = _processor_seconds(server)
        _wait_for(clients, lambda: clients.following == streams)
        time.sleep(_AFTER)
        opened, opening_bytes = _processor_seconds(server), clients.bytes
        changes = clients.changes
        begun = time.monotonic()
        server.hup()
        _wait_for(clients, lambda: clients.following == streams and len(clients.returns) >= streams)
        seconds = time.monotonic() - begun
        time.sleep(_AFTER)
        reopened = _processor_seconds(server)
        return Figures(
            (opened - before) / streams,
            (reopened - opened) / streams,
            opening_bytes / streams,
            (clients.bytes - opening_bytes) / streams,
            clients.changes - changes,
            seconds,
        )
