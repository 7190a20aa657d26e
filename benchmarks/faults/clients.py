"""Clients that come back to any host, and a publisher that goes to one that is well."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sse_threaded.testing import EventStreamClient
from sse_threaded.testing.errors import Fault, StreamTimeout

# A host from which the publisher got no good answer is left alone for so many seconds.
_LEAVE_ALONE = 2.0

# Seconds. Longer than a host tries to reach Redis.
_PATIENCE = 15.0

# Where all hosts have as many requests as they may: seconds to wait, and how far behind it may then catch up.
_BUSY_SECONDS, _BEHIND_SECONDS = 0.001, 0.1

_FIRST_RETRY = 500  # milliseconds, until the stream says one
_READ_SECONDS = 1.0


class Got(NamedTuple):
    """An event at a client: its id, whether it is a reset, and when it came (monotonic)."""

    id: str
    is_reset: bool
    at: float


class Roamer:
    """A thread that follows a board's events as a browser does, but comes back to any of several hosts.

    :param bases: the hosts, as ``http://address:port``.
    :param path: of the events.

    :ivar start: the id with which the first stream began, ``""`` before.
    :ivar got: what came, in order.
    :ivar connections: how many streams there were.
    :ivar failure: why it gave up, as ``EventSource`` would; ``None`` as long as it has not.
    """

    def __init__(self, bases: Sequence[str], path: str) -> None:
        self.start = ""
        self.got: list[Got] = []
        self.connections = 0
        self.failure: str | None = None
        self._bases = bases
        self._path = path
        self._last = ""
        self._retry = _FIRST_RETRY
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; :meth:`join` waits."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while not self._stopping.is_set() and self.failure is None:
            client = EventStreamClient(random.choice(self._bases) + self._path, last_event_id=self._last or None)
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
                self.got += [Got(each.last_event_id, each.event == "reset", now) for each in client.pending()]
                self._retry = self._retry if client.retry is None else client.retry
            if not self.start:
                client.wait_for(lambda: bool(client.last_event_id))


class Sent(NamedTuple):
    """An acknowledged event: its channel, its id, and when its request began (monotonic)."""

    channel: str
    id: str
    at: float


class Publisher:
    """Makes tasks at a steady rate, each at a random host of those that are well.

    :param bases: the hosts.
    :param boards: the boards' ids, which are their channels.
    :param rate: events a second.
    :param at_once: requests that may be under way to one host: those that one which is cut off holds for seconds.

    :ivar boards: as given.
    :ivar sent: what was acknowledged.
    :ivar refused: how many were not; each may have been taken all the same.
    """

    def __init__(self, bases: Sequence[str], boards: Sequence[str], rate: float, at_once: int = 6) -> None:
        self.sent: list[Sent] = []
        self.refused = 0
        self.begun = self.ended = 0.0
        self.boards = boards
        self._rate = rate
        self._pools = {base: ThreadPoolExecutor(at_once) for base in bases}
        self._idle = {base: threading.BoundedSemaphore(at_once) for base in bases}
        self._well_from = dict.fromkeys(bases, 0.0)  # (monotonic)
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self.begun = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for what is under way."""
        self._stopping.set()
        self._thread.join()
        self.ended = time.monotonic()
        for pool in self._pools.values():
            pool.shutdown()
        for connection in self._connections:
            connection.close()

    def told(self, board: str) -> set[str]:
        """The ids of a board's acknowledged events."""
        return {each.id for each in self.sent if each.channel == board}

    def _run(self) -> None:
        number, due = 0, self.begun
        while not self._stopping.wait(max(due - time.monotonic(), 0)):
            now = time.monotonic()
            bases = [base for base, well_from in self._well_from.items() if well_from <= now]
            base = next((each for each in random.sample(bases, len(bases)) if self._take(each)), None)
            if base is None:
                self._stopping.wait(_BUSY_SECONDS)
            else:
                number += 1
                self._pools[base].submit(self._post, base, random.choice(self.boards), number)
                due = max(due + 1 / self._rate, now - _BEHIND_SECONDS)

    def _take(self, base: str) -> bool:
        return self._idle[base].acquire(blocking=False)

    def _post(self, base: str, board: str, number: int) -> None:
        begun = time.monotonic()
        try:
            connections = self._local.__dict__
            connection = connections.get(base)
            if connection is None:
                host, _, port = base.removeprefix("http://").partition(":")
                connection = connections[base] = http.client.HTTPConnection(host, int(port), timeout=_PATIENCE)
                self._connections.append(connection)
            try:
                body = json.dumps({"title": f"Task {number}"})
                connection.request("POST", f"/boards/{board}/tasks", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                del connections[base]
                connection.close()
                raise
            if response.status != 201:
                raise ConnectionError(response.status)
            self.sent.append(Sent(board, response.headers["Last-Event-ID"], begun))
        except (OSError, http.client.HTTPException):
            self.refused += 1
            self._well_from[base] = time.monotonic() + _LEAVE_ALONE
        finally:
            self._idle[base].release()
