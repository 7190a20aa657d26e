"""A few connections that threads share: made when a thread needs one, and used again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from ...errors import LogUnavailable, LogUnusable
from .connector import Connector
from .driver import BoundedConnection, cut_off, forget
from .timeouts import Timeouts

# Seconds after which the server behind a pooler is looked at again.
_POOLER_LOOK = 1.0


class Pool:
    """The connections of one client. Any thread may use it, and no method but :meth:`use` waits.

    :param url: the log's, without a password.
    :param connector: makes the connections.
    :param timeouts: the log's.
    :param limit: how many connections are in use at most. Threads that need a further one wait for it.
    :ivar system_identifier: of the server of the newest connection; ``""`` before the first, or if this role may
        not read it.
    :ivar on_new_server: see :class:`.client.PostgresClient`.
    """

    def __init__(self, url: str, connector: Connector, timeouts: Timeouts, limit: int) -> None:
        self.system_identifier = ""
        self.on_new_server: Callable[[], None] | None = None
        self._url = url
        self._connector = connector
        self._timeouts = timeouts
        self._limit = limit
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        # Guards the two below.
        self._lock = threading.Lock()
        self._idle: list[tuple[float, BoundedConnection]] = []  # with the time since when; the newest is last
        self._generation = 0  # a connection of an older one is not kept
        self._free = threading.BoundedSemaphore(self._limit)

    def __repr__(self) -> str:
        return f"<Pool {self._url} idle={len(self._idle)}>"

    @contextmanager
    def use(self, timeout: float | None) -> Iterator[BoundedConnection]:
        """Lend a connection to this thread for the block. A transaction that is then open is rolled back.

        :param timeout: seconds for one answer; ``None``: ``Timeouts.answer``.
        :raises LogUnavailable: too many are in use.
        :raises LogUnusable: the pool was closed.
        :raises psycopg.Error: no connection can be made.
        """
        connection = self.take(timeout)
        try:
            yield connection
        except BaseException:
            self.roll_back(connection)
            raise
        finally:
            self.give_back(connection)

    def take(self, timeout: float | None) -> BoundedConnection:
        """Return a connection that no other thread uses. :meth:`give_back` is to follow; see :meth:`use`."""
        if self._closed:
            raise LogUnusable(self._url, "this log was closed; open it again")
        if not self._free.acquire(timeout=self._timeouts.write):
            busy = f"all {self._limit} connections were in use for {self._timeouts.write:g} s"
            raise LogUnavailable(self._url, f"{busy}; end transactions sooner")
        try:
            generation = self._generation
            connection = self._take_idle() or self._connect()
        except BaseException:
            self._free.release()
            raise
        connection.generation = generation
        connection.answer = self._timeouts.answer if timeout is None else timeout
        return connection

    def _take_idle(self) -> BoundedConnection | None:
        self.drop_idle()
        while True:
            with self._lock:
                if not self._idle:
                    return None
                _, connection = self._idle.pop()
            try:
                if self._is_fit(connection):
                    return connection
            except psycopg.Error:
                pass
            except BaseException:
                connection.close()
                raise
            connection.close()

    def _is_fit(self, connection: BoundedConnection) -> bool:
        """Whether a connection can be used again.

        :raises psycopg.Error: it cannot.
        """
        if connection.has_news():  # a byte that has arrived is most often a part of the connection's end
            return False
        if not connection.is_direct and time.monotonic() - connection.seen > _POOLER_LOOK:
            self._connector.inspect(connection)
            self._meet(connection)
        return True

    def _connect(self) -> BoundedConnection:
        connection = self._connector.connect()
        try:
            self._meet(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _meet(self, connection: BoundedConnection) -> None:
        before, now = self.system_identifier, connection.system_identifier
        if now:
            self.system_identifier = now
        if before and now and before != now and self.on_new_server is not None:
            self.on_new_server()

    def roll_back(self, connection: BoundedConnection) -> None:
        """Roll back the transaction that is open on a connection, if there is one."""
        if connection.closed or connection.is_idle:
            return
        connection.answer = min(connection.answer, self._timeouts.answer)
        with suppress(psycopg.Error):  # the connection is closed then, which rolls back too
            connection.rows("ROLLBACK")

    def give_back(self, connection: BoundedConnection) -> None:
        """Take a connection back. It is closed if it cannot be used again."""
        is_of_parent = connection.pid != os.getpid()
        with self._lock:
            is_current = connection.generation == self._generation and not self._closed
            is_kept = is_current and connection.is_idle and not is_of_parent
            if is_kept:
                self._idle.append((time.monotonic(), connection))
        if not is_kept:
            connection.close()
        if not is_of_parent:
            self._free.release()

    def drop_idle(self) -> None:
        """Close the connections that no thread has used for ``Timeouts.idle`` seconds."""
        oldest = time.monotonic() - self._timeouts.idle
        with self._lock:
            dropped = [connection for since, connection in self._idle if since < oldest]
            if dropped:
                self._idle = self._idle[len(dropped) :]
        for connection in dropped:
            connection.close()

    def reconnect(self) -> None:
        """Make new connections from now on. A thread that uses a connection keeps it to the end."""
        with self._lock:
            self._generation += 1
            dropped, self._idle = self._idle, []
        for _, connection in dropped:
            connection.close()

    def close(self) -> None:
        """Close all connections; idempotent. A thread that uses a connection keeps it to the end."""
        self._closed = True
        self.reconnect()

    def after_fork_in_child(self) -> None:
        """Begin without connections: they belong to the parent."""
        cut_off()  # if Python did not announce the fork
        forget(self._idle)
        self._begin()
