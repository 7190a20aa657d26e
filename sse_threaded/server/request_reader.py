"""Requests as they arrive: the main thread reads them, so that few threads of the pool wait for slow clients.

A thread gets a request when all of it is there. It must read the rest itself where the body is long, where the
client waits for a ``100 Continue``, or where a body comes with a request that has none as a rule. Half of the
threads may do that at the same time; others of these requests wait, while ordinary ones are answered. With TLS or
another protocol, a thread reads from the first byte on.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.http2 import negotiation

from .client_connection import Connection
from .partial_request import BUFFER_BYTES, Arrival, is_whole

# Bytes of requests that are arriving or wait for a thread that reads their rest, of all connections together.
# Beyond that a thread reads the rest at once, or the request is refused.
_ALL_BUFFERS = 32 * 1024 * 1024


class Reception:
    """The requests of one worker that are arriving. The main thread's alone.

    :param cfg: gunicorn's settings.
    :param poller: which watches them.
    :param serve: has a thread serve a connection's request.
    :param wait: waits for the first byte of a connection's request.
    :param drop: closes a connection that has ended.
    :param refuse: answers a request with a 408: it is too slow, or there is no room for it.
    :param defer: has the main thread call something; any thread.
    """

    def __init__(
        self,
        cfg: Any,
        poller: selectors.BaseSelector,
        *,
        serve: Callable[[Connection], None],
        wait: Callable[[Connection], None],
        drop: Callable[[Connection], None],
        refuse: Callable[[Connection], None],
        defer: Callable[[Callable[[], None]], None],
    ) -> None:
        self._cfg = cfg
        self._poller = poller
        self._serve = serve
        self._wait = wait
        self._drop = drop
        self._refuse = refuse
        self._defer = defer
        # With these a thread must read from the first byte on: TLS, and a protocol of lengths instead of lines.
        self._reads = not cfg.is_ssl and cfg.protocol == "http"
        self._sniffs = cfg.http2_cleartext in ("prior-knowledge", "both")  # so does gunicorn, for HTTP/2
        # Those that the poller watches for the rest, with the bytes that have come of each.
        self._arriving: dict[Connection, int] = {}
        self._uploads = 0
        self._most_uploads = max(1, cfg.threads // 2)
        # Those whose rest a thread will read, in the order in which they came. The poller does not watch them.
        self._waiting_uploads: dict[Connection, None] = {}
        self._buffered = 0  # the bytes that have come of all these

    def reads(self, conn: Connection) -> bool:
        """Whether the main thread may read a connection's requests."""
        if not self._sniffs:
            return self._reads
        return self._reads and not negotiation.prior_knowledge_allowed(self._cfg, conn.client)

    def receive(self, conn: Connection, _sock: object = None) -> None:
        """Read what has come on a connection that the poller does not watch, or only from here."""
        if not self.reads(conn):
            if _has_data(conn.sock):
                conn.data_ready = True
                self._serve(conn)
            else:
                self._wait(conn)
            return
        try:
            piece = conn.sock.recv(BUFFER_BYTES)
        except BlockingIOError:
            if conn.arrival is None:
                self._wait(conn)
        except OSError:
            self._end(conn)
        else:
            if piece:
                self.take(conn, piece)
            else:
                self._end(conn)

    def take(self, conn: Connection, piece: bytes) -> None:
        """Take in what a connection has sent; then a thread serves it, or the poller watches for the rest."""
        arrival = conn.arrival
        if arrival is None and is_whole(piece):
            conn.ahead, conn.rest, conn.whole, conn.data_ready = piece, 0, True, True
            self._serve(conn)
            return
        now = time.monotonic()
        if arrival is None:
            arrival = conn.arrival = Arrival(now)
        arrival.add(piece, now)
        if arrival.whole:
            self._let_go(conn)
            self._pass_on(conn)
        elif arrival.large or self._buffered + len(arrival.data) > _ALL_BUFFERS:
            self._let_go(conn)
            self._upload(conn)
        elif conn in self._arriving or self._watch(conn):
            self._buffered += len(piece)
            self._arriving[conn] += len(piece)

    def expire(self, now: float) -> None:
        """Refuse the requests that take too long."""
        for conn in (*self._arriving, *self._waiting_uploads):
            if conn.arrival is None or not conn.arrival.is_late(now):
                continue
            self._let_go(conn)
            self._refuse(conn)

    def cap(self, deadline: float) -> None:
        """The worker ends: let no request take longer to arrive than this (monotonic)."""
        for conn in (*self._arriving, *self._waiting_uploads):
            if conn.arrival is not None:
                conn.arrival.latest = deadline

    def _watch(self, conn: Connection) -> bool:
        try:
            self._poller.register(conn.sock, selectors.EVENT_READ, partial(self.receive, conn))
        except (OSError, ValueError, KeyError):  # the kernel has no room for it
            self._drop(conn)
            return False
        self._arriving[conn] = 0
        return True

    def _let_go(self, conn: Connection) -> None:
        if conn in self._arriving:
            self._buffered -= self._arriving.pop(conn)
            with suppress(OSError, ValueError, KeyError):
                self._poller.unregister(conn.sock)
        elif conn in self._waiting_uploads:
            del self._waiting_uploads[conn]
            self._buffered -= _size(conn)

    def _end(self, conn: Connection) -> None:
        self._let_go(conn)
        self._drop(conn)

    def _upload(self, conn: Connection) -> None:
        if self._uploads < self._most_uploads:
            self._begin_upload(conn)
        elif self._buffered + _size(conn) > _ALL_BUFFERS:
            self._refuse(conn)
        else:
            self._waiting_uploads[conn] = None
            self._buffered += _size(conn)

    def _begin_upload(self, conn: Connection) -> None:
        self._uploads += 1
        conn.place = partial(self._defer, self._upload_is_over)
        self._pass_on(conn)

    def _upload_is_over(self) -> None:
        self._uploads -= 1
        if self._waiting_uploads:
            conn = next(iter(self._waiting_uploads))
            self._let_go(conn)
            self._begin_upload(conn)

    def _pass_on(self, conn: Connection) -> None:
        arrival, conn.arrival = conn.arrival, None
        assert arrival is not None
        conn.ahead, conn.rest, conn.whole = bytes(arrival.data), arrival.rest, arrival.whole
        conn.data_ready = True
        self._serve(conn)


def _size(conn: Connection) -> int:
    return 0 if conn.arrival is None else len(conn.arrival.data)


def _has_data(sock: socket.socket) -> bool:
    try:
        # The base class's method, as an SSLSocket refuses flags.
        socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a thread will find out
    return True
