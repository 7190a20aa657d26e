"""A worker that does what it is asked to do when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from gunicorn.config import Config

from sse_threaded.server.connection import Connection
from sse_threaded.server.permits import Permits


class FakeWorker:
    """Keeps tasks and notes what it is told; see :class:`sse_threaded.server.exchange.ExchangeWorker`."""

    tells_ends = True
    has_tasks = False

    def __init__(self, **settings: Any) -> None:
        self.cfg = Config()
        self.hook = mock.Mock()
        self.cfg.set("post_request", lambda worker, req, environ, resp: self.hook(resp))
        for name, value in settings.items():
            self.cfg.set(name, value)
        self.log = mock.Mock()
        self.log.error_log.isEnabledFor.return_value = False
        self.wsgi: Any = None
        self.tasks: list[Callable[[], None]] = []
        self.permits = Permits(lambda: 4, self.tasks.append, self.tasks.append)
        self.counted: list[bool] = []  # of each request, whether it is a stream's
        self.errors: list[tuple[Any, BaseException]] = []  # that get an error page, each with its request
        self.failures: list[BaseException] = []  # that end the worker
        self.streaming: set[Connection] = set()
        self.parked: set[Connection] = set()
        self.given_back: list[tuple[Connection, bool]] = []
        self.warnings: list[str] = []
        self.words = ""

    def enqueue(self, task: Callable[[], None]) -> None:
        self.tasks.append(task)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        self.errors.append((req, exc))

    def count_request(self, resp: Any, is_stream: bool) -> None:
        self.counted.append(is_stream)

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)

    def begin_stream(self, conn: Connection) -> None:
        self.streaming.add(conn)

    def park(self, conn: Connection) -> None:
        self.parked.add(conn)

    def unpark(self, conn: Connection) -> None:
        self.parked.discard(conn)
        conn.parked = None

    def give_back(self, conn: Connection, again: bool) -> None:
        self.streaming.discard(conn)
        self.given_back.append((conn, again))

    def warn_once(self, kind: str, message: Callable[[], str]) -> None:
        self.warnings.append(kind)
        self.words = message()

    def run_tasks(self) -> None:
        while self.tasks:
            self.tasks.pop(0)()
