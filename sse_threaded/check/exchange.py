"""One request, and its answer as it comes.

A thread of its own connects, sends and reads. So each piece has the exact time at which it came, and the thread
that checks can wait with a limit, and show its progress. Only this thread calls ``next`` and ``close``.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .observations import Head
from .target import Target

# Bytes that one read returns at most.
_READ_BYTES = 64 * 1024

# Seconds until a connection exists, with its TLS handshake.
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class HeadCame:
    """The head of the answer.

    :ivar at: the time on the monotonic clock.
    :ivar clock: seconds since 1970.
    """

    at: float
    clock: float
    head: Head


@dataclass(frozen=True)
class BytesCame:
    """Bytes of the body, as the server sent them, without the framing of chunks."""

    at: float
    data: bytes


@dataclass(frozen=True)
class Ended:
    """The answer has ended, or the connection broke.

    :ivar is_regular: whether the answer is complete.
    :ivar error: the error of a broken connection; ``""`` for none.
    """

    at: float
    is_regular: bool
    error: str = ""


@dataclass(frozen=True)
class NotConnected:
    """There is no connection."""

    error: str


News = HeadCame | BytesCame | Ended | NotConnected


class Exchange:
    """One request on a connection of its own; a context manager.

    :param method: such as ``GET``.
    :param target: where to.
    :param fields: the header fields.
    :param body: the body; default: none.
    :param context: verifies certificates; default ``None``: Python's own authorities.
    :ivar target: as given.
    :ivar started: when it began, on the monotonic clock.
    """

    def __init__(
        self,
        method: str,
        target: Target,
        fields: Mapping[str, str],
        body: bytes | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.target = target
        self.started = time.monotonic()
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the two below
        self._socket: socket.socket | None = None
        self._is_closed = False
        request = (method, {name: value.encode() for name, value in fields.items()}, body, context)
        threading.Thread(target=self._run, args=request, name=f"check {target}", daemon=True).start()

    def next(self, seconds: float) -> News | None:
        """Return the next piece of news; ``None`` if none came in time."""
        try:
            return self._news.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Close the connection, which ends the thread; may be called twice."""
        with self._lock:
            self._is_closed = True
            if self._socket is not None:
                # Not SSLSocket's own method, which would take the TLS object away from the thread that reads.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self, method: str, fields: dict[str, bytes], body: bytes | None, context: ssl.SSLContext | None
    ) -> None:
        target = self.target
        connection = (
            http.client.HTTPSConnection(target.host, target.port, timeout=CONNECT_SECONDS, context=context)
            if target.scheme == "https"
            else http.client.HTTPConnection(target.host, target.port, timeout=CONNECT_SECONDS)
        )
        with contextlib.closing(connection):
            try:
                connection.connect()
            except (OSError, UnicodeError) as error:
                self._news.put(NotConnected(_words(error)))
                return
            with self._lock:
                self._socket = connection.sock
                if self._is_closed:
                    return
            connection.sock.settimeout(None)
            try:
                connection.request(method, target.path, body, fields)
                self._read(connection.getresponse())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._news.put(Ended(time.monotonic(), False, _words(error)))

    def _read(self, response: http.client.HTTPResponse) -> None:
        with contextlib.closing(response):
            head = Head(response.status, response.reason, response.version, tuple(response.getheaders()))
            self._news.put(HeadCame(time.monotonic(), time.time(), head))
            while data := response.read1(_READ_BYTES):
                self._news.put(BytesCame(time.monotonic(), data))
            # An answer with a fixed length that ends early raises no error.
            is_whole = not response.length
            self._news.put(Ended(time.monotonic(), is_whole, "" if is_whole else "the answer is not complete"))


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
