"""What the tests of a log in PostgreSQL share."""

from __future__ import annotations

import threading
import traceback
import unittest
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.log.postgres.url import parse_url
from tests.harness.postgres_server import PostgresServer

T = TypeVar("T")

# No call takes longer than this, whatever happens: its own bounds are a few seconds.
_DEADLINE = 60.0

# For tests in which PostgreSQL does not answer.
QUICK = Timeouts(connect=0.5, answer=0.5, write=0.5, retry=0.5, forget=0.1, look=0.1, poll=0.1)


def ended(call: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call it on another thread, and return its result or raise its error; it must end by itself.

    :raises AssertionError: it hangs.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call(*args, **options))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_DEADLINE)
    if thread.is_alive():
        raise AssertionError(f"{call} hangs")
    if errors:
        raise errors[0]
    return results[0]


def everything_shown(error: BaseException) -> str:
    """All that a log line or a report may show of an error: also its causes, and the values of variables."""
    parts = []
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.TracebackException.from_exception(seen, capture_locals=True).stack
        # The frames of tests have the URL in their variables.
        parts += [f"{frame.name} {frame.locals}" for frame in frames if "/tests/" not in frame.filename]
        parts += [str(seen), repr(seen), str(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


class PostgresCase(unittest.TestCase):
    """With a server for all its tests, which leave it as they found it."""

    postgres: ClassVar[PostgresServer]
    settings: ClassVar[dict[str, str]] = {}
    password: ClassVar[str | None] = None

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = PostgresServer(cls.settings, password=cls.password)
        cls.addClassCleanup(cls.postgres.close)

    def make_client(
        self, url: str | None = None, timeouts: Timeouts | None = None, **options: int
    ) -> PostgresClient:
        """A client, by default of the server, closed after the test."""
        client = PostgresClient(parse_url(url or self.postgres.url()), timeouts, **options)
        self.addCleanup(client.close)
        return client
