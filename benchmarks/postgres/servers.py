"""The servers with the logs that are compared: a folder for SQLite, a Redis and a PostgreSQL."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from types import TracebackType

from tests.harness.postgres_server import PostgresServer
from tests.harness.redis_server import RedisServer

# The logs, by the names in the tables.
LOGS = ("SQLite", "Redis", "PostgreSQL")

# Each commit is on the disk before its answer, which is PostgreSQL's default. Tests turn it off.
SETTINGS = {"fsync": "on", "shared_buffers": "128MB", "max_connections": "200"}

# The same 110 bytes as in docs/benchmarks.md.
DATA = '{"type":"note","stamp":"' + "0" * 26 + '","pad":"' + "x" * 51 + '"}'


class Servers:
    """The servers, from the beginning of the ``with`` to its end.

    :ivar postgres: the PostgreSQL.
    """

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Servers:
        with ExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
            self._redis = stack.enter_context(RedisServer("--appendonly", "yes", "--loglevel", "warning"))
            self.postgres = stack.enter_context(PostgresServer(SETTINGS))
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def url(self, log: str) -> str:
        """Return the URL of a new log.

        :param log: one of :data:`LOGS`.
        """
        if log == "SQLite":
            return f"sqlite:///{self._folder}/log{next(self._numbers)}.db"
        if log == "Redis":
            return self._redis.url()
        return self.postgres.url(self.postgres.make_database())

    def versions(self) -> dict[str, str]:
        """Return the versions of Redis and PostgreSQL."""
        ((version,),) = self.postgres.ask("SHOW server_version")
        with self._redis.client() as client:
            found = client.info("server")
        return {"redis": str(found["redis_version"]), "postgres": str(version).partition(" ")[0]}
