"""Connections after their last response, until the client has closed its side too (RFC 9112, section 9.6).

If the server closed while it has unread bytes of the client's, the kernel would send a reset. Then the client
might lose the end of the response. gunicorn waits for the client in a thread; here the poller waits.

Only the main thread uses this, except :func:`half_close`.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from . import deadlines
from .client_connection import ClientConnection

# Bytes that a client may send during this time.
_DRAIN_BYTES = 64 * 1024


def half_close(conn: ClientConnection) -> bool:
    """Tell the client that nothing more comes; returns whether it has closed already.

    Any thread; this does not wait.
    """
    try:
        conn.sock.shutdown(socket.SHUT_WR)
        conn.sock.setblocking(False)
        return not conn.sock.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


class ClosingConnections:
    """The connections that wait for their clients to close.

    :param poller: watches them.
    :param limit: how many there may be; with one more the oldest is closed.
    :param closed: called with each that was closed.
    """

    def __init__(
        self, poller: selectors.BaseSelector, limit: int, closed: Callable[[ClientConnection], None]
    ) -> None:
        self._poller = poller
        self._limit = limit
        self._closed = closed
        # Each with its deadline (monotonic) and the bytes it may still send; the oldest first.
        self._left: dict[ClientConnection, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._left)

    def add(self, conn: ClientConnection) -> None:
        """Wait for one that was half closed."""
        while len(self._left) >= self._limit:
            self._close(next(iter(self._left)))
        self._left[conn] = time.monotonic() + deadlines.LINGER_SECONDS, _DRAIN_BYTES
        try:
            self._poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError, KeyError):
            self._close(conn)

    def expire(self, now: float) -> None:
        """Close those whose deadline is over."""
        while self._left:
            conn = next(iter(self._left))
            if self._left[conn][0] > now:
                return
            self._close(conn)

    def _drain(self, conn: ClientConnection, _sock: socket.socket) -> None:
        if conn not in self._left:
            return  # it was closed earlier in this round of the poller, which still has an event of it
        deadline, left = self._left[conn]
        try:
            received = len(conn.sock.recv(left))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        if not received or received >= left:
            self._close(conn)
        else:
            self._left[conn] = deadline, left - received

    def _close(self, conn: ClientConnection) -> None:
        del self._left[conn]
        with suppress(OSError, ValueError, KeyError):
            self._poller.unregister(conn.sock)
        conn.close()
        self._closed(conn)
