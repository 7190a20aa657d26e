"""Many clients in one thread that behave like ``EventSource``: each reconnects and resumes by itself.

They keep the number of every event, so that it can be compared with the log. All share one epoll loop. Bytes that
many clients receive are parsed once.
"""

from __future__ import annotations

import errno
import heapq
import os
import select
import socket
import threading
import time
from array import array
from typing import NamedTuple

from .response_bytes import ParsedBytes, parse

# How many connections may wait for their first bytes, when the clients connect for the first time.
_WINDOW = 128

# Milliseconds: the reconnection time until the stream sends one. The standard leaves it to the browser (WHATWG
# HTML 9.2.2).
_DEFAULT_RETRY = 3000

_READ = 1 << 16
_POLL_SECONDS = 0.05

# How many different byte strings are remembered together with their content.
_KNOWN = 64


class ResumingClient:
    """One client.

    :ivar sequences: the sequence numbers of the events that it received, in the order in which they came.
    :ivar connections: how many of its streams have begun.
    """

    __slots__ = (
        "connection",
        "connections",
        "descriptor",
        "ended",
        "has_asked",
        "has_head",
        "is_following",
        "last_event_at",
        "last_event_id",
        "last_retry",
        "number",
        "rest",
        "retry",
        "sequences",
        "silence",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.connection: socket.socket | None = None
        self.descriptor = -1
        self.has_asked = False
        self.has_head = False
        self.is_following = False  # its stream has begun and not ended
        self.rest = b""
        self.last_event_id = ""
        self.retry = _DEFAULT_RETRY
        self.sequences: array[int] = array("q")
        self.connections = 0
        self.ended = 0.0  # when its stream ended (monotonic)
        self.last_retry = 0  # the reconnection time when it ended, milliseconds
        self.last_event_at = 0.0  # when the last event came (monotonic)
        self.silence = 0.0  # the longest time between two events, in seconds


class Reconnection(NamedTuple):
    """A client has reconnected.

    :ivar ended: when its stream ended (monotonic seconds).
    :ivar retry: the reconnection time that the stream sent, in seconds.
    :ivar begun: when its next stream began (monotonic seconds).
    """

    ended: float
    retry: float
    begun: float


class ClientLoop:
    """The clients, and the thread that they share; a context manager.

    :param port: the port of a server on 127.0.0.1.
    :param path: the path of the stream.
    :param count: how many clients.

    :ivar all: the clients.
    :ivar attempts: the times at which clients tried to reconnect (monotonic seconds).
    :ivar returns: the reconnections that succeeded.
    :ivar refused: how many connections were refused.
    :ivar cut: how many connections were closed before an answer.
    :ivar broken: how many streams were closed without their last chunk, and so perhaps without a farewell.
    :ivar turned_away: how many answers contained only a reconnection time, as the server took no more streams.
    :ivar resets: how many events ``reset`` came.
    :ivar following: how many clients have a stream now.
    :ivar failure: the error that ended the thread; ``None`` while it runs.
    """

    def __init__(self, port: int, path: str, count: int) -> None:
        self._address = ("127.0.0.1", port)
        self._path = path
        self.all = [ResumingClient(number) for number in range(count)]
        self.attempts: list[float] = []
        self.returns: list[Reconnection] = []
        self.refused = 0
        self.cut = 0
        self.broken = 0
        self.turned_away = 0
        self.resets = 0
        self.following = 0
        self.failure: BaseException | None = None
        self._poller = select.epoll()
        self._open: dict[int, ResumingClient] = {}
        self._new = list(self.all)  # clients that were never connected
        self._due: list[tuple[float, int]] = []  # a heap: when a client reconnects, and its number
        self._known: dict[bytes, ParsedBytes] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)

    def __enter__(self) -> ClientLoop:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        for client in self._open.values():
            if client.connection is not None:
                client.connection.close()
        self._poller.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect_due()
                for descriptor, _ in self._poller.poll(self._poll_seconds(), len(self.all) + 1):
                    self._receive(self._open[descriptor])
        except BaseException as error:
            self.failure = error

    def _connect_due(self) -> None:
        while self._new and len(self._open) - self.following < _WINDOW:
            self._connect(self._new.pop())
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self.attempts.append(now)
            self._connect(self.all[heapq.heappop(self._due)[1]])

    def _poll_seconds(self) -> float:
        left = self._due[0][0] - time.monotonic() if self._due else _POLL_SECONDS
        return max(0.0, min(left, _POLL_SECONDS))

    def _connect(self, client: ResumingClient) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        status = connection.connect_ex(self._address)
        if status not in (0, errno.EINPROGRESS):
            connection.close()
            self._failed(client, status)
            return
        client.connection, client.descriptor = connection, connection.fileno()
        client.has_asked, client.has_head, client.rest = False, False, b""
        self._open[client.descriptor] = client
        self._poller.register(client.descriptor, select.EPOLLOUT)

    def _receive(self, client: ResumingClient) -> None:
        connection = client.connection
        assert connection is not None
        if not client.has_asked:
            status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self._close(client)
                self._failed(client, status)
                return
            client.has_asked = True
            try:
                connection.send(self._request(client))
            except OSError as error:
                self._close(client)
                self._failed(client, error.errno or 0)
                return
            self._poller.modify(client.descriptor, select.EPOLLIN)
            return
        try:
            received = os.read(client.descriptor, _READ)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            self._take(client, received)
        else:
            self.broken += client.is_following
            self._end(client)

    def _request(self, client: ResumingClient) -> bytes:
        last = f"Last-Event-ID: {client.last_event_id}\r\n" if client.last_event_id else ""
        fields = "Host: 127.0.0.1\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n"
        return f"GET {self._path} HTTP/1.1\r\n{fields}{last}\r\n".encode()

    def _take(self, client: ResumingClient, received: bytes) -> None:
        if not client.has_head:
            client.rest += received
            head, end, received = client.rest.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head:
                raise AssertionError(f"this answer would end an EventSource for good: {head!r}")
            client.has_head, client.rest = True, b""
        data = client.rest + received
        piece = self._known.get(data)
        if piece is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            piece = self._known[data] = parse(data)
        client.rest = piece.rest
        if piece.retry is not None:
            client.retry = piece.retry
        if piece.last_event_id:
            client.last_event_id = piece.last_event_id
            if not client.is_following:
                self._begin_stream(client)
        if piece.sequences:
            now = time.monotonic()
            if client.last_event_at:
                client.silence = max(client.silence, now - client.last_event_at)
            client.last_event_at = now
            client.sequences.extend(piece.sequences)
        self.resets += piece.resets
        if piece.ended:
            self._end(client)

    def _begin_stream(self, client: ResumingClient) -> None:
        client.is_following = True
        client.connections += 1
        self.following += 1
        if client.connections > 1:
            self.returns.append(Reconnection(client.ended, client.last_retry / 1000, time.monotonic()))

    def _end(self, client: ResumingClient) -> None:
        answered = client.has_head
        self._close(client)
        if not answered:
            self._failed(client, errno.ECONNRESET)
            return
        if client.is_following:
            client.is_following = False
            self.following -= 1
            client.ended, client.last_retry = time.monotonic(), client.retry
        else:
            self.turned_away += 1
        self._schedule_reconnect(client)

    def _close(self, client: ResumingClient) -> None:
        assert client.connection is not None
        del self._open[client.descriptor]
        client.connection.close()  # this removes it from the poller
        client.connection = None

    def _failed(self, client: ResumingClient, status: int) -> None:
        if status == errno.ECONNREFUSED:
            self.refused += 1
        else:
            self.cut += 1
        self._schedule_reconnect(client)

    def _schedule_reconnect(self, client: ResumingClient) -> None:
        heapq.heappush(self._due, (time.monotonic() + client.retry / 1000, client.number))
