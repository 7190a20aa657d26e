"""A client of one event stream on a raw socket, on which every wait has a deadline."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from werkzeug.datastructures import Headers

from ..protocol.decoder import DecodedEvent, EventStreamDecoder
from ..protocol.event import NOTICES
from .errors import StreamEnded, StreamTimeout
from .http_request import split_url
from .response_reader import ResponseReader

_RECEIVE_BYTES = 64 * 1024

# How much of the stream's tail an error message shows.
_SHOWN_BYTES = 200


class EventStreamClient:
    """One connection to an event stream; a context manager.

    It keeps the bytes as they come, so that tests can look at them. It does not reconnect;
    :class:`ResumingClient` does. One thread reads; any thread may call ``interrupt``.

    ::

        with EventStreamClient(url, last_event_id="k3x-17") as client:
            assert client.status == 200
            assert client.next_event(timeout=5).data == "hello"

    :param url: an ``http://`` URL.
    :param last_event_id: sent as ``Last-Event-ID``; default ``None``, no such field.
    :param headers: further request header fields; they override the fields of this client.
    :param timeout: seconds that connecting may take, and each wait without its own timeout; default 10.
    :param receive_buffer: bytes that the kernel may buffer for this client (``SO_RCVBUF``), for a test of slow
        clients; default ``None``: the kernel decides.
    :ivar notices: the names of the events that the stream sent about itself, such as ``stream-start``. They are
        not among the events.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 10.0,
        receive_buffer: int | None = None,
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._parts, self._target = split_url(url)
        self._receive_buffer = receive_buffer
        self._headers = Headers({"Accept": "text/event-stream", "Cache-Control": "no-store"})
        if last_event_id is not None:
            self._headers["Last-Event-ID"] = last_event_id
        for name, value in (headers or {}).items():
            self._headers[name] = value
        self._decoder = EventStreamDecoder(last_event_id or "")
        self.notices: list[str] = []
        self._reader = ResponseReader()
        self._events: deque[DecodedEvent] = deque()  # decoded, and not yet returned
        self._raw = bytearray()
        self._socket: socket.socket | None = None
        self._reset = False

    def open(self) -> EventStreamClient:
        """Connect, send the request and wait for the response's head; return the client.

        :raises OSError: connecting fails.
        :raises StreamTimeout: no head comes within ``timeout`` seconds.
        :raises StreamEnded: the connection ends before the head.
        """
        deadline = time.monotonic() + self.timeout
        try:
            connection = self._connect()
            fields = [("Host", self._parts.netloc.rpartition("@")[2]), *self._headers]
            lines = [f"GET {self._target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
            connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
            while not self._reader.status:
                self._receive(deadline, "the response's head")
        except BaseException:
            self.close()
            raise
        return self

    def _connect(self) -> socket.socket:
        host, port = self._parts.hostname or "", self._parts.port or 80
        *others, last = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for found in others:
            try:
                return self._connect_to(*found)
            except OSError:
                self.close()  # localhost is often ::1 first, and maybe no server listens there
        return self._connect_to(*last)

    def _connect_to(self, family: int, kind: int, protocol: int, _name: str, address: Any) -> socket.socket:
        self._socket = connection = socket.socket(family, kind, protocol)
        if self._receive_buffer is not None:
            # Before connecting, as the first packet fixes the scale of the window.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        connection.settimeout(self.timeout)
        connection.connect(address)
        return connection

    @property
    def status(self) -> int:
        """The status code of the response; 0 before the head has come."""
        return self._reader.status

    @property
    def headers(self) -> Headers:
        """The header fields of the response; their names are case-insensitive."""
        return self._reader.headers

    @property
    def raw(self) -> bytes:
        """The bytes of the body so far, without the transfer coding."""
        return bytes(self._raw)

    @property
    def last_event_id(self) -> str:
        """The last event ID of the stream so far; before that, the one that was sent, or ``""``."""
        return self._decoder.last_event_id

    @property
    def retry(self) -> int | None:
        """The last reconnection time that the stream sent, in milliseconds, or ``None``."""
        return self._decoder.retry

    @property
    def comments(self) -> int:
        """How many comment lines have come so far; heartbeats are comment lines."""
        return self._decoder.comments

    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""
        return self._reader.ended

    @property
    def complete(self) -> bool:
        """Whether the stream ended as HTTP requires (with the last chunk), and not by a cut connection."""
        return self._reader.complete

    def next_event(self, timeout: float | None = None) -> DecodedEvent:
        """Wait for the next event and return it.

        :param timeout: seconds; default ``None``: the timeout of the client.
        :raises StreamTimeout: no event comes in time.
        :raises StreamEnded: the stream ends first.
        """
        self.wait_for(self.has_events, timeout, "an event")
        return self._events.popleft()

    def events(self, count: int, timeout: float | None = None) -> list[DecodedEvent]:
        """Wait for the next ``count`` events, ``timeout`` seconds for all of them; see :meth:`next_event`."""
        self.wait_for(lambda: len(self._events) >= count, timeout, f"{count} events")
        return [self._events.popleft() for _ in range(count)]

    def has_events(self) -> bool:
        """Return whether an event has come that was not returned yet."""
        return bool(self._events)

    def pending(self) -> list[DecodedEvent]:
        """Return the events that have come and were not returned yet, without waiting."""
        events = list(self._events)
        self._events.clear()
        return events

    def wait_for(self, condition: Callable[[], bool], timeout: float | None = None, what: str = "it") -> None:
        """Read until ``condition()`` is true. It is called at once, and again after each piece read.

        :param timeout: seconds; default ``None``: the timeout of the client.
        :param what: a name of the condition, for the text of the error.
        :raises StreamTimeout: it does not become true in time.
        :raises StreamEnded: it is not true at the end of the stream.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not condition():
            self._receive(deadline, what)

    def wait_for_retry(self, timeout: float | None = None) -> int:
        """Wait until the stream has sent a reconnection time; return it, in milliseconds."""
        self.wait_for(lambda: self.retry is not None, timeout, "a retry field")
        return self.retry or 0

    def wait_for_end(self, timeout: float | None = None) -> None:
        """Read to the end of the stream; :attr:`complete` says how it ended.

        :raises StreamTimeout: the stream does not end in time.
        """
        self.wait_for(lambda: self.ended, timeout, "the end of the stream")

    def interrupt(self) -> None:
        """Cut the connection; any thread may call this. A wait in another thread then raises ``StreamEnded``."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # no longer connected
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection as a browser does when its page closes; may be called twice."""
        if self._socket is not None:
            self._socket.close()

    def abort(self) -> None:
        """Close the connection with a reset (RST), as the kernel does when a process is killed."""
        if self._socket is not None and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()

    def __enter__(self) -> EventStreamClient:
        return self.open() if self._socket is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self, deadline: float, what: str) -> None:
        if self._reader.ended:
            how = "by a reset" if self._reset else "as HTTP requires" if self.complete else "by a cut connection"
            raise StreamEnded(f"waited for {what}, but {self._seen()} ended {how}")
        left = deadline - time.monotonic()
        if self._socket is None or self._socket.fileno() < 0:
            raise StreamEnded(f"waited for {what}, but the client is not open")
        if left <= 0:
            raise StreamTimeout(f"{what} did not come in time from {self._seen()}")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            return  # the next call raises StreamTimeout, unless the condition is true now
        except ConnectionError:
            self._reset = True
            data = b""
        if not data:
            self._reader.feed_end()
            return
        body = self._reader.feed(data)
        self._raw += body
        for event in self._decoder.feed(body):
            if event.event in NOTICES:
                self.notices.append(event.event)
            else:
                self._events.append(event)

    def _seen(self) -> str:
        tail = bytes(self._raw[-_SHOWN_BYTES:])
        more = "the last of its bytes" if len(self._raw) > len(tail) else "its bytes"
        return f"{self.url} (status {self.status}, {more}: {tail!r})"
