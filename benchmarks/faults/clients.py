"""Clients that reconnect to any of several hosts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from sse_threaded.testing import EventStreamClient
from sse_threaded.testing.errors import Fault, StreamTimeout

_FIRST_RETRY = 500  # milliseconds, until the stream sends a reconnection time
_READ_SECONDS = 1.0
_JOIN_SECONDS = 15.0


class ReceivedEvent(NamedTuple):
    """An event at a client: its id, whether it is a reset, when it came (monotonic seconds), and its data."""

    id: str
    is_reset: bool
    at: float
    data: str = ""


class RoamingClient:
    """A thread that follows the events of a board like a browser, but reconnects to any of several hosts.

    :param urls: the hosts, as ``http://address:port``.
    :param path: the path of the stream.

    :ivar start: the id with which the first stream began; ``""`` before.
    :ivar received: the events, in order.
    :ivar connections: how many streams there were.
    :ivar failure: why it gave up, as ``EventSource`` would; ``None`` as long as it has not.
    """

    def __init__(self, urls: Sequence[str], path: str) -> None:
        self.start = ""
        self.received: list[ReceivedEvent] = []
        self.connections = 0
        self.failure: str | None = None
        self._urls = urls
        self._path = path
        self._last = ""
        self._retry = _FIRST_RETRY
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end; :meth:`join` waits for its end."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set() and self.failure is None:
            client = EventStreamClient(random.choice(self._urls) + self._path, last_event_id=self._last or None)
            try:
                self._follow(client)
            except (Fault, OSError):
                pass  # refused, ended or cut
            finally:
                client.close()
            self._last = client.last_event_id or self._last
            self._stopping.wait(self._retry / 1000)

    def _follow(self, client: EventStreamClient) -> None:
        client.open()
        if client.status != 200:
            self.failure = f"status {client.status}"
            return
        self.connections += 1
        while not self._stopping.is_set():
            try:
                client.wait_for(lambda: client.has_events() or not self.start, _READ_SECONDS)
            except StreamTimeout:
                continue
            finally:
                now = time.monotonic()
                self.start = self.start or client.last_event_id
                self.received += [
                    ReceivedEvent(each.last_event_id, each.event == "reset", now, each.data)
                    for each in client.pending()
                ]
                self._retry = self._retry if client.retry is None else client.retry
            if not self.start:
                client.wait_for(lambda: bool(client.last_event_id))
