"""How the worker treats one connection: its requests, its deadlines, its end.

gunicorn lets a thread wait for a connection's request and, after the last response, for the client to close.
Clients that are slow or say nothing take all threads. Here connections wait in the poller: until their request is
there (:mod:`.request_reader`), and after the last response (:mod:`.closing_connections`).

It overrides of gunicorn's:

- ``on_client_socket_readable``, ``on_pending_socket_readable``: the main thread reads requests.
- ``murder_pending``: the deadlines of requests that are arriving, and of connections that are closing.
- ``_keepalive_after``: no second answer to a request whose body is malformed, and none for a stream that goes on.
- ``_cap_keepalive``: as threads, too, give connections back.
- ``run``: what it uses is made before gunicorn's loop begins.
"""

from __future__ import annotations

import contextvars
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers import gthread

from .client_connection import ClientConnection
from .closing_connections import ClosingConnections, half_close
from .pooled_worker import PooledWorker
from .request_reader import RequestReader

# How many connections may wait for their clients to close: so many, or this part of all.
_LEAST_CLOSING, _CLOSING_SHARE = 16, 4


# Seconds between two looks at the deadlines of requests and of closing connections.
_LOOK_SECONDS = 0.25


class FinishedFuture:
    """A future that is done: gunicorn's ``finish_request`` asks it for the result of a request."""

    def __init__(self, again: bool, error: BaseException | None = None) -> None:
        self._again = again
        self._error = error

    def cancelled(self) -> bool:
        """Never."""
        return False

    def result(self) -> bool:
        """Whether the connection may be used again; or the error is raised."""
        if self._error is not None:
            raise self._error
        return self._again


class ConnectionWorker(PooledWorker):
    """gunicorn's ThreadWorker, in which a thread gets a plain HTTP request when all of it has arrived.

    Threads still wait for TLS clients, long bodies, and clients that do not read their response.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive: bool
        self._reader: RequestReader
        self._closing: ClosingConnections
        self._handshaking: set[ClientConnection] = (
            set()
        )  # those with TLS that a thread has; threads add and discard
        self._looked = 0.0  # when deadlines were last looked at (monotonic)
        self._streaming: set[ClientConnection] = set()  # those that streams have; threads add and discard

    def run(self) -> None:
        """Run gunicorn's loop."""
        self._reader = RequestReader(
            self.cfg,
            self.poller,
            serve=partial(self._lazy_pool.put, self._serve),
            wait=self._await_request,
            drop=self._drop,
            refuse=self._refuse,
            defer=self.method_queue.defer,
        )
        most = max(_LEAST_CLOSING, self.worker_connections // _CLOSING_SHARE)
        self._closing = ClosingConnections(self.poller, most, self._count_out)
        super().run()

    # The main thread.

    def _await_request(self, conn: ClientConnection) -> None:
        # No thread waits for the first byte of a request; gunicorn gives the client the same time.
        conn.timeout = time.monotonic() + gthread.DEFAULT_WORKER_DATA_TIMEOUT + self.cfg.keepalive
        readable = partial(self.on_pending_socket_readable, conn)
        try:
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        except OSError:  # the kernel has no room for it
            self._drop(conn)
        else:
            self.pending_conns.append(conn)

    def on_client_socket_readable(self, conn: ClientConnection, client: socket.socket) -> None:
        """The next request of a connection begins to arrive, or the client has closed."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._reader.receive(conn)

    def on_pending_socket_readable(self, conn: ClientConnection, client: socket.socket) -> None:
        """The first request of a connection begins to arrive, or the client has closed."""
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        self._reader.receive(conn)

    def murder_pending(self) -> None:
        """Close the connections that have taken too long. gunicorn calls this after each wait."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._looked + _LOOK_SECONDS:
            return
        self._looked = now
        self._closing.expire(now)
        self._reader.expire(now)
        for conn in self._handshaking.copy():
            if conn.handshake_ends is not None and conn.handshake_ends < now:
                with suppress(OSError):  # the base class's method, as an SSLSocket's own forgets its state
                    socket.socket.shutdown(conn.sock, socket.SHUT_RDWR)

    def _cap_keepalive(self, deadline: float) -> None:
        # On the main thread, over copies, as threads may still append. copy() is one step, also without the GIL.
        for conn in (*self.keepalived_conns.copy(), *self.pending_conns.copy()):
            conn.timeout = min(conn.timeout, deadline)
        self._reader.cap(deadline)

    def _drop(self, conn: ClientConnection) -> None:
        conn.close()
        self._count_out(conn)

    def _refuse(self, conn: ClientConnection) -> None:
        self.log.info("A request of ip=%s did not arrive in time", conn.address)
        with suppress(OSError):
            util.write_error(conn.sock, 408, "Request Timeout", "")
        if half_close(conn):
            self._drop(conn)
        else:
            self._closing.add(conn)

    def _read_next(self, conn: ClientConnection) -> None:
        # The client sent its next request, or a part of it, before it had the response.
        conn.sock.setblocking(False)
        self._reader.add(conn, conn.parser.unreader.take_buffered())

    def _count_out(self, _conn: ClientConnection) -> None:
        self.nr_conns -= 1

    # Threads of the pool.

    def _serve(self, conn: ClientConnection) -> None:
        if self.cfg.is_ssl:
            self._handshaking.add(conn)
        result: bool | Callable[[], None] = False
        failure: BaseException | None = None
        try:
            # A parked stream's iterable has not ended. The variables that it has set must not reach the thread's
            # next request, and the thread that closes it needs them.
            conn.context = contextvars.copy_context()
            result = conn.context.run(self.handle, conn)
        except BaseException as error:
            failure = error
        self._handshaking.discard(conn)
        if conn.upload_ended is not None:
            conn.end_upload()
        if callable(result):  # a stream leaves this thread
            self._streaming.add(conn)
            result()
        else:
            self.give_back(conn, result, failure)

    def give_back(self, conn: ClientConnection, again: bool, error: BaseException | None = None) -> None:
        """Wait for the connection's next request, or close it.

        :param again: whether the connection may be used again.
        :param error: an exception for the main thread to raise; default ``None``.
        """
        self._streaming.discard(conn)
        if again and self._reader.may_read(conn):
            if conn.parser.unreader.buf.getvalue():
                self.method_queue.defer(self._read_next, conn)
                return
            if self.alive:
                self._await_next_request(conn)
                return
        if error or again:
            self.method_queue.defer(self.finish_request, conn, FinishedFuture(again, error))
        elif half_close(conn):
            conn.close()
            self.method_queue.defer(self._count_out, conn)
        else:
            self.method_queue.defer(self._closing.add, conn)

    def _await_next_request(self, conn: ClientConnection) -> None:
        # As finish_request does. But the main thread need not wake, since the poller may be given something while
        # it waits.
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        try:
            conn.sock.setblocking(False)
            readable = partial(self.on_client_socket_readable, conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        except (OSError, ValueError, KeyError) as error:
            self.keepalived_conns.remove(conn)
            self.method_queue.defer(self.finish_request, conn, FinishedFuture(False, error))
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + gthread.STOP_KEEPALIVE_LINGER)

    def _keepalive_after(
        self, conn: ClientConnection, result: bool | Callable[[], None]
    ) -> bool | Callable[[], None]:
        # gunicorn's handle() returns what this returns, to _serve().
        if callable(result):
            return result
        # gunicorn reads here the part of a body that the app did not read. If it is malformed, no answer is
        # needed.
        try:
            return bool(super()._keepalive_after(conn, result))
        except (ParseException, NoMoreData):
            return False
