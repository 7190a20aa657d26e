"""A client's connection: its socket, and the worker's facts about it.

The socket blocks, so that an app that takes it from the environ (``gunicorn.socket``) finds what gunicorn gives.
The worker itself asks the system not to wait, call by call, and waits for a bounded time.
"""

from __future__ import annotations

import contextvars
import enum
import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from . import deadlines

if TYPE_CHECKING:
    from .partial_request import PartialRequest

_NO_WAIT = socket.MSG_DONTWAIT

# How many bytes of a response are encrypted at a time: as many as a TLS record holds.
_TLS_RECORD_BYTES = 16 * 1024

# os.sendfile() fails with these errors for files that the kernel cannot send by itself. Their pieces have so many
# bytes.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_PIECE_BYTES = 64 * 1024

# Linux sends no more than two gigabytes at a time, and Python refuses a number that is far too large.
_MOST_AT_ONCE = 1 << 30


class Place(enum.Enum):
    """The owner of a connection. The loop's lock guards it."""

    THREAD = enum.auto()  # a thread serves it, or a task of it waits for a thread
    NEW = enum.auto()  # it waits for the first byte of its first request
    KEPT = enum.auto()  # it waits for its next request
    ARRIVING = enum.auto()  # a part of a request has come
    UPLOAD = enum.auto()  # a part has come, and a thread will read the rest
    PARKED = enum.auto()  # the pump has it
    CLOSING = enum.auto()  # it waits for the client to close its side
    CLOSED = enum.auto()


class Hearer(Protocol):
    """A parked stream, for the loop that watches its socket."""

    def hear(self) -> bool:
        """The socket is readable; returns whether to watch it further."""


class ClientTooSlow(TimeoutError):
    """A client takes too little of a response; see :mod:`.deadlines`.

    It is a class of its own, as an app's own requests to other servers fail with ``TimeoutError``, too.
    """

    def __init__(self) -> None:
        super().__init__("the client did not take the response in time")


class _Patience:
    """How long the server waits further for a client that takes a response slowly.

    :param request: the number of the request on its connection.

    :ivar left: seconds. Waiting takes from them, and bytes that the client takes add to them. They are never more
        than at the beginning: with the megabytes that fit into a system's buffers, a client could save hours.
    """

    __slots__ = ("left", "request")

    def __init__(self, request: int) -> None:
        self.request = request
        self.left = deadlines.SEND_SECONDS

    def add(self, taken: int) -> None:
        """The client has taken some bytes."""
        self.left = min(self.left + taken / deadlines.SEND_RATE, deadlines.SEND_SECONDS)


class Connection:
    """One connection.

    :param sock: the client's socket, blocking.
    :param client: its address, as ``accept()`` gives it.
    :param server: the listener's.

    :ivar context: the context in which the request is answered.
    :ivar deadline: when it is closed (monotonic), where it waits for the client.
    :ivar drain_left: bytes that the client may still send while it is closing.
    :ivar handshake_ends: when the TLS handshake must be over (monotonic), while there is one.
    :ivar parked: the stream that the pump has, which hears of its client's end.
    :ivar is_watched: whether the loop watches its socket; the loop's lock guards it.
    :ivar is_whole: whether all of the request has arrived, so that its thread need not wait for the client.
    :ivar missing: how many bytes of its body the thread has to read, ``None`` where that is not known.
    :ivar parser: gunicorn's, once one was needed.
    :ivar partial_request: the request that is arriving; ``None`` once a thread has it.
    :ivar place: its owner.
    :ivar proxied: the client's address by the PROXY protocol, in gunicorn's form; ``None`` without one.
    :ivar received: the bytes that have arrived of the request that a thread has.
    :ivar requests: how many it has had.
    :ivar upload_ended: called when the thread need not read any more of a long request; ``None`` for other
        requests.
    """

    __slots__ = (
        "_patience",
        "client",
        "context",
        "deadline",
        "drain_left",
        "handshake_ends",
        "is_watched",
        "is_whole",
        "missing",
        "parked",
        "parser",
        "partial_request",
        "place",
        "proxied",
        "received",
        "requests",
        "server",
        "sock",
        "upload_ended",
    )

    context: contextvars.Context
    sock: Any

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock = sock
        self.client = client
        self.server = server
        self.place = Place.THREAD
        self.is_watched = False
        self.deadline = 0.0
        self.drain_left = 0
        self.handshake_ends: float | None = None
        self.parked: Hearer | None = None
        self.is_whole = False
        self.missing: int | None = None
        self.parser: Any = None
        self.partial_request: PartialRequest | None = None
        self.proxied: dict[str, Any] | None = None
        self.received = b""
        self.requests = 0
        self.upload_ended: Callable[[], None] | None = None
        self._patience: _Patience | None = None  # for the response, once its client was slow

    @property
    def address(self) -> str:
        """The client's, for a log."""
        return str(self.client[0]) if isinstance(self.client, tuple) else "a Unix socket"

    def end_upload(self) -> None:
        """Let another thread read a long request. The request's own thread calls this, once or more often."""
        ended, self.upload_ended = self.upload_ended, None
        if ended is not None:
            ended()

    def sendall(self, data: bytes) -> None:
        """Send some bytes of a response.

        :raises ClientTooSlow: it takes too little of the response.
        :raises OSError: the connection is lost.
        """
        sock = self.sock
        if type(sock) is not socket.socket:
            self._encrypt(memoryview(data))
            return
        try:
            sent = sock.send(data, _NO_WAIT)
        except BlockingIOError:
            sent = 0
        if self._patience is not None:
            self._patience.add(sent)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, rest: memoryview) -> None:
        self._send_in_steps(len(rest), lambda at: self.sock.send(rest[at:], _NO_WAIT))

    def _encrypt(self, data: memoryview) -> None:
        sock = self.sock
        sock.setblocking(False)  # TLS has no flag for one call
        try:
            self._send_in_steps(len(data), lambda at: sock.send(data[at : at + _TLS_RECORD_BYTES]))
        finally:
            sock.setblocking(True)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a part of a file; see :meth:`socket.socket.sendfile` and :meth:`sendall`. Not with TLS."""
        source, target = file.fileno(), self.sock.fileno()
        if count is None:
            count = os.fstat(source).st_size - offset
        self.sock.setblocking(False)  # os.sendfile() has no flag for one call
        try:
            return self._send_in_steps(
                count, lambda at: os.sendfile(target, source, offset + at, min(count - at, _MOST_AT_ONCE))
            )
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
        finally:
            self.sock.setblocking(True)
        sent = 0
        while sent < count and (data := os.pread(source, min(_PIECE_BYTES, count - sent), offset + sent)):
            self.sendall(data)
            sent += len(data)
        return sent

    def _send_in_steps(self, size: int, send: Callable[[int], int]) -> int:
        """Send so many bytes, or fewer where their source ends; returns how many.

        :param send: sends from an offset on, without waiting.
        """
        sent = 0
        while sent < size:
            try:
                taken = send(sent)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)
                continue
            except ssl.SSLWantReadError:  # the client changes its key
                self._wait(select.POLLIN)
                continue
            if not taken:
                break
            if self._patience is not None:
                self._patience.add(taken)
            sent += taken
        return sent

    def _wait(self, event: int) -> None:
        patience = self._patience
        if patience is None or patience.request != self.requests:
            patience = self._patience = _Patience(self.requests)
        if patience.left <= 0.0:
            raise ClientTooSlow
        poller = select.poll()
        poller.register(self.sock, event)
        begun = time.monotonic()
        poller.poll(patience.left * 1000)
        patience.left -= time.monotonic() - begun

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Let other code use the socket in the block, which waits for the client for a limited time.

        :raises ClientTooSlow: it takes too little.
        """
        self.sock.settimeout(deadlines.SEND_SECONDS)
        try:
            yield
        except TimeoutError:
            raise ClientTooSlow from None
        finally:
            self.sock.settimeout(None)

    def half_close(self) -> bool:
        """Tell the client that nothing more comes; returns whether the connection may be closed at once.

        If the server closed while it has unread bytes of the client's, the kernel would send a reset. Then the
        client might lose the end of the response.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
            # The base class's method, as an SSLSocket refuses flags.
            return not socket.socket.recv(self.sock, 4096, _NO_WAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
