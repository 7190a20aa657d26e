"""What the tests of frameworks share: the two workers, and one server with an example."""

from __future__ import annotations

import contextlib
import os
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer, Reply, request
from tests.live.frameworks.page import write_app
from tests.support import CHECKOUT, ROOT, enter, temporary_directory, wait_until

GTHREAD = ("-k", "gthread", "--threads", "64", "-c", "python:sse_threaded.gunicorn_hooks")
PARKING = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4", "--worker-connections", "400")
WORKERS = {"gthread": GTHREAD, "ThreadWorker": PARKING}

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_SECONDS = 20.0


class Served:
    """A server with an example, and a hub of the example's log in the test's process.

    :ivar hub: publishes to the example's streams.
    """

    def __init__(self, test: unittest.TestCase, folder: Path, worker: str, *args: str, **env: str) -> None:
        path = os.pathsep.join([str(folder), str(ROOT), str(CHECKOUT)])
        env = {"PYTHONPATH": path, **env}
        app = "tests.live.frameworks.probe:app"
        self._test = test
        self._last: dict[str, Any] = {}
        self.server = enter(
            test, GunicornServer(app, args=[*WORKERS[worker], *args], env=env, cwd=folder, timeout=90)
        )
        self.url = self.server.url
        self.hub = enter(test, Hub(folder / "events.db"))

    def state(self) -> dict[str, Any]:
        """How many streams there are, and what the example adds; quickly."""
        return self._ask("state")

    def whole_state(self) -> dict[str, Any]:
        """Its threads, files and objects, too; see :mod:`tests.live.frameworks.probe`."""
        return self._ask("whole-state")

    def _ask(self, name: str) -> dict[str, Any]:
        result: dict[str, Any] = request("GET", f"{self.url}/{name}", timeout=_SECONDS).json()
        return result

    def wait_for_streams(self, count: int) -> None:
        wait_until(lambda: self.state()["streams"] == count, timeout=_SECONDS, message=f"{count} streams")

    def wait_until_nothing_is_left(self, threads_keep: bool = False) -> None:
        """Wait until the process has no object of a stream; one exchange may be that of the question.

        :param threads_keep: whether each thread may keep those of its last request.
        """

        def is_clean() -> bool:
            self._last = self.whole_state()
            bound = self._last["python_threads"] if threads_keep else 0
            most = max(self._last["objects"].values(), default=0)
            return most <= bound and self._last["exchanges"] <= bound + 1

        try:
            wait_until(is_clean, timeout=_SECONDS)
        except AssertionError:
            raise AssertionError(f"objects of streams are left: {self._last}") from None

    def connect(self, path: str, **options: Any) -> EventStreamClient:
        """A client whose stream has begun, closed after the test."""
        client = EventStreamClient(f"{self.url}{path}", timeout=_SECONDS, **options)
        self._test.addCleanup(client.close)
        client.open()
        if client.status == 200:
            client.wait_for_retry()
        return client

    def post(self, path: str, form: str = "", **headers: str) -> Any:
        return request("POST", f"{self.url}{path}", body=form.encode(), headers={**FORM, **headers})

    @contextlib.contextmanager
    def streams(self, path: str, count: int, **options: Any) -> Iterator[list[EventStreamClient]]:
        """So many clients at once."""
        with contextlib.ExitStack() as stack:
            clients = [EventStreamClient(f"{self.url}{path}", timeout=_SECONDS, **options) for _ in range(count)]
            for client in clients:
                stack.enter_context(client).wait_for_retry()
            yield clients

    def come_and_go(self, path: str, count: int, **options: Any) -> None:
        """Open so many streams, 40 at a time; half of the clients vanish, the others close."""
        for _ in range(count // 40):
            with self.streams(path, 40, **options) as clients:
                for client in clients[::2]:
                    client.abort()
            self.wait_for_streams(0)


def cookie_of(reply: Reply) -> dict[str, str]:
    """The field that sends the cookie back."""
    return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}


def serve(test: unittest.TestCase, sign: str, worker: str, *, before: str = "", after: str = "") -> Served:
    """Serve the block of the page that has ``sign`` in it."""
    folder = temporary_directory(test)
    write_app(folder, sign, before=before, after=after)
    return Served(test, folder, worker)
