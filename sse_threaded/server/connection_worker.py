"""The worker as far as it is about one connection at a time: its requests, its deadlines, its end.

What is overridden of gunicorn's (tests/unit/test_worker_points.py knows what it looks like):

- ``on_client_socket_readable``, ``on_pending_socket_readable``: the main thread reads requests.
- ``murder_pending``: the deadlines of requests that are arriving, and of connections that are closing.
- ``_keepalive_after``: no second answer to a request whose body is malformed.
- ``_cap_keepalive``: as threads, too, give connections back.
- ``run``: parked streams have their last lines where the worker ends at once.
- ``init_signals``: a signal that came before the worker could take it is let in.
"""

from __future__ import annotations

import contextvars
import selectors
import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers import gthread

from ..fanout.lifecycle import request_close_all
from . import startup_signals
from .client_connection import Connection, Outcome
from .closing_connections import Lingering, half_close
from .request_reader import Reception

# How many connections may wait for their clients to close: so many, or this part of all.
_LEAST_LINGERING, _LINGERING_SHARE = 16, 4

# Seconds that parked streams have where the worker ends at once (SIGINT, SIGQUIT). The pump gives a client that
# does not read half a second, and gunicorn's master kills a worker after two.
_LAST_SECONDS = 1.5

# Seconds between two looks at the deadlines of requests and of closing connections.
_LOOK_SECONDS = 0.25


class ConnectionWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ThreadWorker, in which a thread gets a plain HTTP request when all of it has arrived.

    Threads still wait for TLS clients, long bodies, and clients that do not read their response.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive: bool
        self._reception: Reception
        self._lingering: Lingering
        self._handshaking: set[Connection] = set()  # those with TLS that a thread has; threads add and discard
        self._looked = 0.0  # when deadlines were last looked at (monotonic)
        self._lent: set[Connection] = set()  # those that streams have; threads add and discard
        self._ends_at_once = False
        startup_signals.expect()

    def init_signals(self) -> None:
        """Take signals, and those that came since the fork."""
        mask = startup_signals.begin_handlers()
        super().init_signals()
        startup_signals.end_handlers(mask)

    def run(self) -> None:
        """gunicorn's loop."""
        self.prepare()
        self._reception = Reception(
            self.cfg,
            self.poller,
            serve=self.enqueue_req,
            wait=self._await_request,
            drop=self._drop,
            refuse=self._refuse,
            defer=self.method_queue.defer,
        )
        most = max(_LEAST_LINGERING, self.worker_connections // _LINGERING_SHARE)
        self._lingering = Lingering(self.poller, most, self._count_out)
        try:
            super().run()
        except BaseException:  # SystemExit: of a signal handler, or of sys.exit() in a view
            with suppress(Exception):
                self.conclude_streams()
            raise

    def prepare(self) -> None:
        """Make ready for the first connection; after the hook ``post_worker_init``."""
        # With it the handshake is in wrap_socket(). Meanwhile conn.sock is still the plain socket, which is
        # detached, so the deadline could not end the handshake. Without it gunicorn does the handshake right after
        # that, on the same thread.
        self.cfg.set("do_handshake_on_connect", False)

    def conclude_streams(self) -> None:
        """Let parked streams have their farewell, access line and hooks before the worker ends at once."""
        if self._ends_at_once:
            return
        self._ends_at_once, self.alive = True, False
        request_close_all()
        self.set_accept_enabled(False)
        deadline = time.monotonic() + min(_LAST_SECONDS, self.cfg.graceful_timeout)
        while self._lent and time.monotonic() < deadline:
            self.wait_for_and_dispatch_events(_LOOK_SECONDS)

    # The main thread.

    def _await_request(self, conn: Connection) -> None:
        # No thread waits for the first byte of a request; the client has as long as with gunicorn.
        conn.timeout = time.monotonic() + gthread.DEFAULT_WORKER_DATA_TIMEOUT + self.cfg.keepalive
        readable = partial(self.on_pending_socket_readable, conn)
        try:
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        except OSError:  # the kernel has no room for it
            self._drop(conn)
        else:
            self.pending_conns.append(conn)

    def on_client_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The next request of a connection begins to arrive, or the client has closed."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._reception.receive(conn)

    def on_pending_socket_readable(self, conn: Connection, client: socket.socket) -> None:
        """The first request of a connection begins to arrive, or the client has closed."""
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        self._reception.receive(conn)

    def murder_pending(self) -> None:
        """Close what has taken too long."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._looked + _LOOK_SECONDS:
            return
        self._looked = now
        self._lingering.expire(now)
        self._reception.expire(now)
        for conn in tuple(self._handshaking):
            if conn.handshake_ends is not None and conn.handshake_ends < now:
                with suppress(OSError):  # the base class's method, as an SSLSocket's own forgets its state
                    socket.socket.shutdown(conn.sock, socket.SHUT_RDWR)

    def _drop(self, conn: Connection) -> None:
        conn.close()
        self._count_out(conn)

    def _refuse(self, conn: Connection) -> None:
        self.log.info("A request of ip=%s did not arrive in time", _ip(conn))
        with suppress(OSError):
            util.write_error(conn.sock, 408, "Request Timeout", "")
        self._part(conn)

    def _part(self, conn: Connection) -> None:
        if half_close(conn):
            self._drop(conn)
        else:
            self._lingering.add(conn)

    def _read_on(self, conn: Connection) -> None:
        # The client sent its next request, or a part of it, before it had the response.
        conn.sock.setblocking(False)
        self._reception.take(conn, conn.parser.unreader.take_buffered())

    def _count_out(self, _conn: Connection) -> None:
        self.nr_conns -= 1

    def _cap_keepalive(self, deadline: float) -> None:
        # On the main thread, over a copy, as threads may still append to it.
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, deadline)
        self._reception.cap(deadline)

    # Threads of the pool.

    def _serve(self, conn: Connection) -> None:
        if self.cfg.is_ssl:
            self._handshaking.add(conn)
        try:
            # A parked stream's iterable is in the midst of its work: what it has set must not reach the thread's
            # next request, and must be there when another thread closes it.
            conn.context = contextvars.copy_context()
            outcome = Outcome(conn.context.run(self.handle, conn))
        except BaseException as error:
            outcome = Outcome(error=error)
        self._handshaking.discard(conn)
        conn.give_place_back()
        take_over, conn.take_over = conn.take_over, None
        if take_over is None:
            self.give_back(conn, outcome)
        else:
            self._lent.add(conn)
            take_over()

    def give_back(self, conn: Connection, outcome: Outcome) -> None:
        """Wait for the connection's next request, or close it."""
        self._lent.discard(conn)
        if outcome.again and not outcome.error and self._reception.reads(conn):
            if conn.parser.unreader.buf.getvalue():
                self.method_queue.defer(self._read_on, conn)
                return
            if self.alive:
                self._await_next(conn)
                return
        if outcome.error or outcome.again:
            self.method_queue.defer(self.finish_request, conn, outcome)
        elif half_close(conn):
            conn.close()
            self.method_queue.defer(self._count_out, conn)
        else:
            self.method_queue.defer(self._lingering.add, conn)

    def _await_next(self, conn: Connection) -> None:
        # As finish_request does; but the main thread need not be woken, since the poller may be given something
        # while it waits.
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        try:
            conn.sock.setblocking(False)
            readable = partial(self.on_client_socket_readable, conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        except (OSError, ValueError, KeyError) as error:
            self.keepalived_conns.remove(conn)
            self.method_queue.defer(self.finish_request, conn, Outcome(error=error))
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + gthread.STOP_KEEPALIVE_LINGER)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        # What the app did not read of a body is drained here. If it is malformed, that concerns nobody any more.
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except (ParseException, NoMoreData):
            return False


def _ip(conn: Connection) -> str:
    return str(conn.client[0]) if isinstance(conn.client, tuple) else "a Unix socket"
