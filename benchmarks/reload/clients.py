"""Many clients that behave as ``EventSource`` does, in one thread: each comes back and resumes by itself.

What they bring is kept event by event, so that it can be compared with the log's own list. One epoll loop; bytes
that are the same as another client's are not taken apart again.
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

from sse_threaded.protocol.decoder import EventStreamDecoder
from sse_threaded.protocol.event import NOTICES, RESET

# Connections that may wait for their first bytes while the clients come for the first time.
_WINDOW = 128

# Milliseconds: the reconnection time until the stream names one; the standard leaves it to the browser (9.2.2).
_DEFAULT_RETRY = 3000

_READ = 1 << 16
_POLL_SECONDS = 0.05

# Of bytes that many clients get, how many kinds are remembered.
_KNOWN = 64


class Piece(NamedTuple):
    """What some bytes of a body have brought.

    :ivar rest: the bytes at their end that belong to what comes next.
    :ivar sequences: the numbers of the events.
    :ivar last_event_id: the last one, ``""`` if none was named.
    :ivar retry: the reconnection time, ``None`` if none was named; milliseconds.
    :ivar resets: how many events ``reset`` there were.
    :ivar ended: whether the body is over.
    """

    rest: bytes
    sequences: list[int]
    last_event_id: str
    retry: int | None
    resets: int
    ended: bool


def take_apart(data: bytes) -> Piece:
    """Read a body in chunks (RFC 9112, section 7.1), as far as whole events have come.

    :param data: begins with a chunk, and with an event.
    """
    body, at, whole, used = b"", 0, 0, 0
    ended = False
    while (end := data.find(b"\r\n", at)) >= 0 and not ended:
        size = int(data[at:end], 16)
        after = end + 2 + size + 2
        if after > len(data):
            break
        body += data[end + 2 : end + 2 + size]
        at = after
        ended = size == 0
        if ended or body.endswith(b"\n\n"):
            used, whole = at, len(body)
    decoder = EventStreamDecoder()
    events = [event for event in decoder.feed(body[:whole]) if event.event not in NOTICES]
    plain = [event for event in events if event.event != RESET]
    sequences = [int(event.last_event_id.rpartition("-")[2]) for event in plain]
    resets = len(events) - len(plain)
    return Piece(data[used:], sequences, decoder.last_event_id, decoder.retry, resets, ended)


class Follower:
    """One client.

    :ivar sequences: the numbers of the events that it has got, in the order in which they came.
    :ivar connections: how many of its streams have begun.
    """

    __slots__ = (
        "connection",
        "connections",
        "descriptor",
        "ended",
        "has_asked",
        "has_head",
        "heard",
        "here",
        "last_event_id",
        "number",
        "rest",
        "retry",
        "sequences",
        "silence",
        "told",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.connection: socket.socket | None = None
        self.descriptor = -1
        self.has_asked = False
        self.has_head = False
        self.here = False  # its stream has begun
        self.rest = b""
        self.last_event_id = ""
        self.retry = _DEFAULT_RETRY
        self.sequences: array[int] = array("q")
        self.connections = 0
        self.ended = 0.0  # when its stream ended (monotonic)
        self.told = 0  # the reconnection time that it was told then, milliseconds
        self.heard = 0.0  # when it last got an event (monotonic)
        self.silence = 0.0  # the longest time between two events, seconds


class Return(NamedTuple):
    """A client that has come back.

    :ivar ended: when its stream ended (monotonic seconds).
    :ivar told: the reconnection time that it was told, seconds.
    :ivar back: when its next stream had begun (monotonic seconds).
    """

    ended: float
    told: float
    back: float


class Followers:
    """The clients, and the thread that they share; a context manager.

    :param port: of a server on 127.0.0.1.
    :param path: of the stream.
    :param count: how many clients.

    :ivar attempts: when connections were begun again (monotonic seconds).
    :ivar returns: who has come back.
    :ivar refused: connections that were refused.
    :ivar cut: connections that were closed before an answer.
    :ivar broken: streams that were closed without their last chunk, and so maybe without a farewell.
    :ivar turned_away: answers that only said when to come back.
    :ivar resets: events ``reset``.
    :ivar failure: what ended the thread, ``None`` while nothing has.
    """

    def __init__(self, port: int, path: str, count: int) -> None:
        self._address = ("127.0.0.1", port)
        self._path = path
        self.all = [Follower(number) for number in range(count)]
        self.attempts: list[float] = []
        self.returns: list[Return] = []
        self.refused = 0
        self.cut = 0
        self.broken = 0
        self.turned_away = 0
        self.resets = 0
        self.here = 0  # whose stream has begun and not ended
        self.failure: BaseException | None = None
        self._poller = select.epoll()
        self._open: dict[int, Follower] = {}
        self._new = list(self.all)  # who has never been connected
        self._due: list[tuple[float, int]] = []  # when who comes back; a heap
        self._known: dict[bytes, Piece] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="followers", daemon=True)

    def __enter__(self) -> Followers:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        for follower in self._open.values():
            if follower.connection is not None:
                follower.connection.close()
        self._poller.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._begin_some()
                for descriptor, _ in self._poller.poll(self._patience(), len(self.all) + 1):
                    self._receive(self._open[descriptor])
        except BaseException as error:
            self.failure = error

    def _begin_some(self) -> None:
        while self._new and len(self._open) - self.here < _WINDOW:
            self._connect(self._new.pop())
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self.attempts.append(now)
            self._connect(self.all[heapq.heappop(self._due)[1]])

    def _patience(self) -> float:
        left = self._due[0][0] - time.monotonic() if self._due else _POLL_SECONDS
        return max(0.0, min(left, _POLL_SECONDS))

    def _connect(self, follower: Follower) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        status = connection.connect_ex(self._address)
        if status not in (0, errno.EINPROGRESS):
            connection.close()
            self._failed(follower, status)
            return
        follower.connection, follower.descriptor = connection, connection.fileno()
        follower.has_asked, follower.has_head, follower.rest = False, False, b""
        self._open[follower.descriptor] = follower
        self._poller.register(follower.descriptor, select.EPOLLOUT)

    def _receive(self, follower: Follower) -> None:
        connection = follower.connection
        assert connection is not None
        if not follower.has_asked:
            status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self._close(follower)
                self._failed(follower, status)
                return
            follower.has_asked = True
            try:
                connection.send(self._request(follower))
            except OSError as error:
                self._close(follower)
                self._failed(follower, error.errno or 0)
                return
            self._poller.modify(follower.descriptor, select.EPOLLIN)
            return
        try:
            received = os.read(follower.descriptor, _READ)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            self._take(follower, received)
        else:
            self.broken += follower.here
            self._end(follower)

    def _request(self, follower: Follower) -> bytes:
        last = f"Last-Event-ID: {follower.last_event_id}\r\n" if follower.last_event_id else ""
        fields = "Host: 127.0.0.1\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n"
        return f"GET {self._path} HTTP/1.1\r\n{fields}{last}\r\n".encode()

    def _take(self, follower: Follower, received: bytes) -> None:
        if not follower.has_head:
            follower.rest += received
            head, end, received = follower.rest.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head:
                raise AssertionError(f"this would end an EventSource for good: {head!r}")
            follower.has_head, follower.rest = True, b""
        data = follower.rest + received
        piece = self._known.get(data)
        if piece is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            piece = self._known[data] = take_apart(data)
        follower.rest = piece.rest
        if piece.retry is not None:
            follower.retry = piece.retry
        if piece.last_event_id:
            follower.last_event_id = piece.last_event_id
            if not follower.here:
                self._has_begun(follower)
        if piece.sequences:
            now = time.monotonic()
            if follower.heard:
                follower.silence = max(follower.silence, now - follower.heard)
            follower.heard = now
            follower.sequences.extend(piece.sequences)
        self.resets += piece.resets
        if piece.ended:
            self._end(follower)

    def _has_begun(self, follower: Follower) -> None:
        follower.here = True
        follower.connections += 1
        self.here += 1
        if follower.connections > 1:
            self.returns.append(Return(follower.ended, follower.told / 1000, time.monotonic()))

    def _end(self, follower: Follower) -> None:
        answered = follower.has_head
        self._close(follower)
        if not answered:
            self._failed(follower, errno.ECONNRESET)
            return
        if follower.here:
            follower.here = False
            self.here -= 1
            follower.ended, follower.told = time.monotonic(), follower.retry
        else:
            self.turned_away += 1
        self._come_back(follower)

    def _close(self, follower: Follower) -> None:
        assert follower.connection is not None
        del self._open[follower.descriptor]
        follower.connection.close()  # which takes it out of the poller
        follower.connection = None

    def _failed(self, follower: Follower, status: int) -> None:
        if status == errno.ECONNREFUSED:
            self.refused += 1
        else:
            self.cut += 1
        self._come_back(follower)

    def _come_back(self, follower: Follower) -> None:
        heapq.heappush(self._due, (time.monotonic() + follower.retry / 1000, follower.number))
