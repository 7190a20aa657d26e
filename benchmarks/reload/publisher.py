"""A publisher that goes on while the server is replaced."""

from __future__ import annotations

import http.client
import threading
import time

from sse_threaded.testing.processes import POLL_SECONDS

TASKS = "/boards/board-1/tasks"

# Seconds that one answer may take.
_SECONDS = 30.0


class RepeatingPublisher:
    """A thread that posts tasks at a steady rate over one connection; a context manager.

    It repeats a POST until it is answered, so a task may be in the log twice.

    :param port: the port of a server on 127.0.0.1.
    :param rate: events a second.

    :ivar ids: the ids of the events that were answered, in order.
    :ivar refused: how many connections were refused.
    :ivar cut: how many new connections were closed before an answer.
    :ivar failure: the error that ended the thread; ``None`` while it runs.
    """

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._connection: http.client.HTTPConnection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.ids: list[str] = []
        self.refused = self.cut = 0
        self.failure: BaseException | None = None

    def __enter__(self) -> RepeatingPublisher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._disconnect()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due += 1 / self._rate
                while not self._post() and not self._stopping.wait(POLL_SECONDS):
                    pass
        except BaseException as error:
            self.failure = error

    def _post(self) -> bool:
        fresh = self._connection is None
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            self._connection.request("POST", TASKS, b'{"title":"New"}', {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            self.refused += 1
            self._disconnect()
            return False
        except (OSError, http.client.HTTPException):
            # A server may close a connection between two requests (RFC 9112, section 9.5), but not before the
            # first.
            self.cut += fresh
            self._disconnect()
            return False
        if answer.status != 201:
            raise AssertionError(f"a task was answered with {answer.status}")
        self.ids.append(answer.headers["Last-Event-ID"])
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
