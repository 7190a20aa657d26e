"""Requests of which a part has arrived, so that few threads wait for slow clients.

A thread gets a request when all of it has come. Of some requests, called uploads here, the thread must read the
rest itself. Their body is long, or the client waits for a ``100 Continue``, or such requests have no body as a
rule. Half of the threads may read uploads at the same time. Further uploads wait, while ordinary requests are
answered.

The loop's lock guards all of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .connection import Connection, Place
from .partial_request import PartialRequest

# Bytes of requests that are arriving, and of uploads that wait for a thread, of all connections together. Beyond
# that a thread reads the rest at once, or the request is refused.
BUFFER_LIMIT = 32 * 1024 * 1024


class Arrivals:
    """The requests of one worker that are arriving.

    :param upload_limit: how many uploads threads may read at the same time.
    :param upload_ended: a thread calls it when it need not read any more of an upload; it calls
        :meth:`next_upload`.
    :param buffer_limit: bytes that all these requests may have together; default :data:`BUFFER_LIMIT`.

    :ivar latest: when any request must have arrived at the latest (monotonic), as the worker ends.
    """

    def __init__(
        self, upload_limit: int, upload_ended: Callable[[], None], *, buffer_limit: int = BUFFER_LIMIT
    ) -> None:
        self.latest = float("inf")
        self._upload_limit = upload_limit
        self._upload_ended = upload_ended
        self._buffer_limit = buffer_limit
        self._uploads = 0
        # The bytes of each: of those that the loop watches for the rest; and of those whose rest a thread will
        # read, in the order in which they came.
        self._arriving: dict[Connection, int] = {}
        self._waiting_uploads: dict[Connection, int] = {}
        self._buffered = 0  # the bytes of all these

    def __len__(self) -> int:
        return len(self._arriving) + len(self._waiting_uploads)

    def add(self, conn: Connection, piece: bytes) -> Place:
        """Add bytes to a connection's request; returns its next place.

        ``THREAD`` is to serve it, ``ARRIVING`` waits for more, ``UPLOAD`` for :meth:`next_upload`. ``CLOSING`` is
        to be refused, as there is no room.
        """
        request = conn.partial_request
        now = time.monotonic()
        if request is None:
            request = conn.partial_request = PartialRequest(now)
            request.latest = self.latest
        request.add(piece, now)
        if request.is_whole:
            return self._pass_on(conn, request)
        if request.is_large or self._buffered + len(piece) > self._buffer_limit:
            return self._add_upload(conn, request)
        self._arriving[conn] = self._arriving.get(conn, 0) + len(piece)
        self._buffered += len(piece)
        return Place.ARRIVING

    def next_upload(self) -> Connection | None:
        """The next upload for a thread, as another one has ended; ``None`` if no upload waits."""
        self._uploads -= 1
        if not self._waiting_uploads:
            return None
        conn = next(iter(self._waiting_uploads))
        request = conn.partial_request
        if request is not None:
            self._begin_upload(conn, request)
        return conn

    def overdue(self, now: float) -> list[Connection]:
        """Take out the requests that take too long."""
        late = [
            conn
            for conn in (*self._arriving, *self._waiting_uploads)
            if conn.partial_request is not None and conn.partial_request.is_late(now)
        ]
        for conn in late:
            self.forget(conn)
        return late

    def cap(self, deadline: float) -> None:
        """The worker ends: let no request take longer to arrive than this (monotonic)."""
        self.latest = deadline
        for conn in (*self._arriving, *self._waiting_uploads):
            if conn.partial_request is not None:
                conn.partial_request.latest = deadline

    def forget(self, conn: Connection) -> None:
        """Forget a connection's request, if it is here."""
        for requests in (self._arriving, self._waiting_uploads):
            self._buffered -= requests.pop(conn, 0)

    def _add_upload(self, conn: Connection, request: PartialRequest) -> Place:
        self.forget(conn)
        if self._uploads < self._upload_limit:
            return self._begin_upload(conn, request)
        if self._buffered + len(request.data) > self._buffer_limit:
            return Place.CLOSING
        conn.place = Place.UPLOAD
        self._waiting_uploads[conn] = len(request.data)
        self._buffered += len(request.data)
        return Place.UPLOAD

    def _begin_upload(self, conn: Connection, request: PartialRequest) -> Place:
        self._uploads += 1
        conn.upload_ended = self._upload_ended
        return self._pass_on(conn, request)

    def _pass_on(self, conn: Connection, request: PartialRequest) -> Place:
        self.forget(conn)
        conn.place = Place.THREAD
        conn.partial_request = None
        conn.received, conn.missing, conn.is_whole = bytes(request.data), request.missing, request.is_whole
        return Place.THREAD
