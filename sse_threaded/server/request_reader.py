"""The main thread reads requests, so that few threads of the pool wait for slow clients.

A thread gets a request when all of it has come. Of some requests, called uploads here, the thread must read the
rest itself. Their body is long, or the client waits for a ``100 Continue``, or such requests have no body as a
rule. Half of the threads may read uploads at the same time. Further uploads wait, while ordinary requests are
answered. With TLS or another protocol, a thread reads from the first byte on.
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

from .client_connection import ClientConnection
from .partial_request import BUFFER_BYTES, PartialRequest, is_whole

# Bytes of requests that are arriving, and of uploads that wait for a thread, of all connections together. Beyond
# that a thread reads the rest at once, or the request is refused.
BUFFER_LIMIT = 32 * 1024 * 1024


class RequestReader:
    """The requests of one worker that are arriving. Only the main thread uses it.

    :param cfg: gunicorn's settings.
    :param poller: watches the connections.
    :param serve: has a thread serve a connection's request.
    :param wait: waits for the first byte of a connection's request.
    :param drop: closes a connection that has ended.
    :param refuse: answers a request with a 408: it is too slow, or there is no room for it.
    :param defer: has the main thread call something; any thread.
    :param buffer_limit: bytes that all these requests may have together; default :data:`BUFFER_LIMIT`.
    """

    def __init__(
        self,
        cfg: Any,
        poller: selectors.BaseSelector,
        *,
        serve: Callable[[ClientConnection], None],
        wait: Callable[[ClientConnection], None],
        drop: Callable[[ClientConnection], None],
        refuse: Callable[[ClientConnection], None],
        defer: Callable[[Callable[[], None]], None],
        buffer_limit: int = BUFFER_LIMIT,
    ) -> None:
        self._cfg = cfg
        self._poller = poller
        self._serve = serve
        self._wait = wait
        self._drop = drop
        self._refuse = refuse
        self._defer = defer
        self._buffer_limit = buffer_limit
        # With these a thread must read from the first byte on: TLS, and a protocol of lengths instead of lines.
        self._reads_protocol = not cfg.is_ssl and cfg.protocol == "http"
        # Then gunicorn looks for HTTP/2's first bytes, on a thread, if it trusts the client.
        looks_for_http2 = cfg.http2_cleartext in ("prior-knowledge", "both")
        self._reads_all = self._reads_protocol and not looks_for_http2
        # Those that the poller watches for the rest, with the bytes that have come of each.
        self._arriving: dict[ClientConnection, int] = {}
        self._uploads = 0
        self._upload_limit = max(1, cfg.threads // 2)
        # Those whose rest a thread will read, in the order in which they came. The poller does not watch them.
        self._waiting_uploads: dict[ClientConnection, PartialRequest] = {}
        self._buffered = 0  # the bytes that have come of all these

    def may_read(self, conn: ClientConnection) -> bool:
        """Whether the main thread may read a connection's requests. Any thread."""
        if self._reads_all or not self._reads_protocol:
            return self._reads_all
        return not negotiation.prior_knowledge_allowed(self._cfg, conn.client)

    def receive(self, conn: ClientConnection, _sock: object = None) -> None:
        """Read from a connection that the poller does not watch, or watches for this method."""
        if not (self._reads_all or self.may_read(conn)):
            self._leave_to_thread(conn)
            return
        try:
            piece = conn.sock.recv(BUFFER_BYTES)
        except BlockingIOError:
            if conn.partial_request is None:
                self._wait(conn)
        except OSError:
            self._end(conn)
        else:
            if not piece:
                self._end(conn)
            elif conn.partial_request is None and is_whole(piece):
                conn.received, conn.missing, conn.is_whole, conn.data_ready = piece, 0, True, True
                self._serve(conn)
            else:
                self.add(conn, piece)

    def add(self, conn: ClientConnection, piece: bytes) -> None:
        """Add bytes that a connection has sent.

        Then a thread serves the request, or the poller watches for the rest.
        """
        request = conn.partial_request
        now = time.monotonic()
        if request is None:
            request = conn.partial_request = PartialRequest(now)
        request.add(piece, now)
        if request.is_whole:
            self._forget(conn)
            self._pass_on(conn, request)
        elif request.is_large or self._buffered + len(request.data) > self._buffer_limit:
            self._forget(conn)
            self._add_upload(conn, request)
        elif conn in self._arriving or self._watch(conn):
            self._buffered += len(piece)
            self._arriving[conn] += len(piece)

    def expire(self, now: float) -> None:
        """Refuse the requests that take too long."""
        for conn in (*self._arriving, *self._waiting_uploads):
            if conn.partial_request is None or not conn.partial_request.is_late(now):
                continue
            self._forget(conn)
            self._refuse(conn)

    def cap(self, deadline: float) -> None:
        """The worker ends: let no request take longer to arrive than this (monotonic)."""
        for conn in (*self._arriving, *self._waiting_uploads):
            if conn.partial_request is not None:
                conn.partial_request.latest = deadline

    def _leave_to_thread(self, conn: ClientConnection) -> None:
        if _has_data(conn.sock):
            conn.data_ready = True
            self._serve(conn)
        else:
            self._wait(conn)

    def _watch(self, conn: ClientConnection) -> bool:
        try:
            self._poller.register(conn.sock, selectors.EVENT_READ, partial(self.receive, conn))
        except (OSError, ValueError, KeyError):  # the kernel has no room for it
            self._drop(conn)
            return False
        self._arriving[conn] = 0
        return True

    def _forget(self, conn: ClientConnection) -> None:
        if conn in self._arriving:
            self._buffered -= self._arriving.pop(conn)
            with suppress(OSError, ValueError, KeyError):
                self._poller.unregister(conn.sock)
        elif conn in self._waiting_uploads:
            self._buffered -= len(self._waiting_uploads.pop(conn).data)

    def _end(self, conn: ClientConnection) -> None:
        self._forget(conn)
        self._drop(conn)

    def _add_upload(self, conn: ClientConnection, request: PartialRequest) -> None:
        if self._uploads < self._upload_limit:
            self._begin_upload(conn, request)
        elif self._buffered + len(request.data) > self._buffer_limit:
            self._refuse(conn)
        else:
            self._waiting_uploads[conn] = request
            self._buffered += len(request.data)

    def _begin_upload(self, conn: ClientConnection, request: PartialRequest) -> None:
        self._uploads += 1
        conn.upload_ended = partial(self._defer, self._begin_next_upload)
        self._pass_on(conn, request)

    def _begin_next_upload(self) -> None:
        self._uploads -= 1
        if self._waiting_uploads:
            conn, request = next(iter(self._waiting_uploads.items()))
            self._forget(conn)
            self._begin_upload(conn, request)

    def _pass_on(self, conn: ClientConnection, request: PartialRequest) -> None:
        conn.partial_request = None
        conn.received, conn.missing, conn.is_whole = bytes(request.data), request.missing, request.is_whole
        conn.data_ready = True
        self._serve(conn)


def _has_data(sock: socket.socket) -> bool:
    try:
        # The base class's method, as an SSLSocket refuses flags.
        socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a thread will find out
    return True
