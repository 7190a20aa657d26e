"""A publisher that posts tasks to the hosts that answer."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

# After a failed request, the publisher leaves the host alone for so many seconds.
_PAUSE_SECONDS = 2.0

# Seconds. Longer than a host tries to reach Redis.
_ANSWER_SECONDS = 15.0

# When all hosts have as many requests as they may: seconds to wait, and how far behind schedule the publisher may
# catch up afterwards.
_BUSY_SECONDS, _BEHIND_SECONDS = 0.001, 0.1


class AcknowledgedEvent(NamedTuple):
    """An acknowledged event: its channel, its id, and when its request began (monotonic seconds)."""

    channel: str
    id: str
    at: float


class TaskPublisher:
    """Posts tasks at a steady rate, each to a random host of those that answer.

    :param urls: the hosts.
    :param boards: the ids of the boards, which are their channels too.
    :param rate: events a second.
    :param at_once: how many requests one host may have at once; a host that is cut off keeps them for seconds.

    :ivar boards: as given.
    :ivar acknowledged: the events that were acknowledged.
    :ivar unanswered: how many were not; each may be in the log nevertheless.
    """

    def __init__(self, urls: Sequence[str], boards: Sequence[str], rate: float, at_once: int = 6) -> None:
        self.acknowledged: list[AcknowledgedEvent] = []
        self.unanswered = 0
        self.begun = self.ended = 0.0
        self.boards = boards
        self._rate = rate
        self._pools = {url: ThreadPoolExecutor(at_once) for url in urls}
        self._free = {url: threading.BoundedSemaphore(at_once) for url in urls}
        self._usable_from = dict.fromkeys(urls, 0.0)  # (monotonic seconds)
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self.begun = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop publishing, and wait for the open requests."""
        self._stopping.set()
        self._thread.join()
        self.ended = time.monotonic()
        for pool in self._pools.values():
            pool.shutdown()
        for connection in self._connections:
            connection.close()

    def acknowledged_ids(self, board: str) -> set[str]:
        """Return the ids of the acknowledged events of a board."""
        return {each.id for each in self.acknowledged if each.channel == board}

    def _run(self) -> None:
        number, due = 0, self.begun
        while not self._stopping.wait(max(due - time.monotonic(), 0)):
            now = time.monotonic()
            urls = [url for url, usable_from in self._usable_from.items() if usable_from <= now]
            url = next((each for each in random.sample(urls, len(urls)) if self._take(each)), None)
            if url is None:
                self._stopping.wait(_BUSY_SECONDS)
            else:
                number += 1
                self._pools[url].submit(self._post, url, random.choice(self.boards), number)
                due = max(due + 1 / self._rate, now - _BEHIND_SECONDS)

    def _take(self, url: str) -> bool:
        return self._free[url].acquire(blocking=False)

    def _post(self, url: str, board: str, number: int) -> None:
        begun = time.monotonic()
        try:
            connections = self._local.__dict__
            connection = connections.get(url)
            if connection is None:
                host, _, port = url.removeprefix("http://").partition(":")
                connection = connections[url] = http.client.HTTPConnection(
                    host, int(port), timeout=_ANSWER_SECONDS
                )
                self._connections.append(connection)
            try:
                body = json.dumps({"title": f"Task {number}"})
                connection.request("POST", f"/boards/{board}/tasks", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                del connections[url]
                connection.close()
                raise
            if response.status != 201:
                raise ConnectionError(response.status)
            self.acknowledged.append(AcknowledgedEvent(board, response.headers["Last-Event-ID"], begun))
        except (OSError, http.client.HTTPException):
            self.unanswered += 1
            self._usable_from[url] = time.monotonic() + _PAUSE_SECONDS
        finally:
            self._free[url].release()
