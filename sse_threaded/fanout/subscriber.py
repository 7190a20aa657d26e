"""What the hub knows of one client, however its bytes get to it.

There are two kinds. The thread of a :class:`.thread_subscriber.ThreadSubscriber` takes batches from a queue and
writes them. The pump writes to the socket of a :class:`.socket_subscriber.SocketSubscriber`.
"""

from __future__ import annotations

import queue
import socket
from _socket import socket as SystemSocket
from abc import ABC, abstractmethod
from collections.abc import Iterable

from ..protocol.batch import Batch
from .cursor import Cursor

# Frames that wait are joined into one write of at most about this many bytes: one system call and one chunk
# for a burst, without a copy that grows with the queue.
WRITE_BYTES = 64 * 1024

# A client for which more than this waits is too slow, however few events they are.
WAITING_BYTES = 8 * 1024 * 1024


class Subscriber(ABC):
    """One client.

    :param channels: what it wants.
    :param size: how many events may wait before it counts as too slow.
    :param connection: the client's socket, where the server shows it: watched for a hang-up, and cut when
        it does not take what is sent. ``None`` for neither.

    :ivar after: events up to this number it has already, by replay; they are not put again.
    :ivar ended: why its stream is to end (``"lease"``, ``"slow"``, ``"gone"``, ``"shutdown"``, ``"behind"``,
        ``"unavailable"``, ``"overload"``), ``None`` while it goes on.
    :ivar deadline: when its lease ends (monotonic); once it has ended, when its connection is cut.
    :ivar heard: it has hung up, or sent something behind its request, so that its socket stays readable.
    :ivar closed: it has been let go of, and so has its socket.
    :ivar cut: its connection was cut, as it did not take its last bytes.
    :ivar retired: its stream has ended, and its response has not.
    :ivar cursor: where it is while the pump replays to it; ``None`` where it has all, or replays itself.
    :ivar held: its response goes on, so it stays a member though its stream may have ended.
    :ivar lost: its socket is gone.
    :ivar waits: the pump waits for its socket to be writable.
    """

    __slots__ = (
        "_put",
        "_put_bytes",
        "_taken",
        "_taken_bytes",
        "after",
        "channels",
        "closed",
        "connection",
        "cut",
        "deadline",
        "ended",
        "heard",
        "retired",
        "size",
        "waits",
    )

    def __init__(self, channels: Iterable[str], size: int, connection: socket.socket | None) -> None:
        self.channels = tuple(sorted(set(channels)))
        self.size = size
        self.connection = connection
        self.after = 0
        self.ended: str | None = None
        self.deadline = float("inf")
        self.heard = False
        self.closed = False
        self.cut = False
        self.retired = False
        self.waits = False
        # Events and bytes put, counted by the pump's thread alone, and taken, by who writes them alone.
        self._put = self._put_bytes = 0
        self._taken = self._taken_bytes = 0

    @property
    def waiting(self) -> int:
        """Events that wait to be written."""
        return self._put - self._taken

    def _count(self, frame: Batch) -> None:
        # A client for which nothing waits is not too slow, however many these are. A heartbeat makes none so.
        waiting = self._put - self._taken
        if frame.count:
            if waiting and waiting + frame.count > self.size:
                raise queue.Full
            if self._put_bytes - self._taken_bytes > WAITING_BYTES:
                raise queue.Full
        self._put += frame.count
        self._put_bytes += len(frame.wire)

    @abstractmethod
    def put(self, frame: Batch) -> bool:
        """Give it some events; returns whether the pump has to look after it. The pump's thread.

        :raises queue.Full: it is too slow.
        """

    @abstractmethod
    def put_heartbeat(self, frame: Batch) -> bool:
        """Give it a heartbeat, unless something else is on its way; otherwise as :meth:`put`."""

    @abstractmethod
    def end(self, reason: str, farewell: bytes) -> None:
        """Let its stream end with these last bytes; the first reason counts. With the members' lock held."""

    # What the pump asks of those whose socket it writes to, or waits for; of the others nothing.

    cursor: Cursor | None = None
    lost = False
    held = False

    @property
    def blocked(self) -> bool:
        """Whether the socket must be writable before it goes on."""
        return False

    def writable(self) -> None:  # noqa: B027  # most have nothing to do
        """Its socket takes something again. The pump's thread."""

    @abstractmethod
    def lose_connection(self) -> None:
        """Its socket cannot be watched. With the members' lock held."""

    def hear_no_more(self) -> None:
        """Have its server find that the client has closed, once the response is sent.

        The end of the response may still be sent: a wrapper may close the stream before the server is there.
        """
        if self.connection is not None:
            try:
                # The base class's method, as that of an SSLSocket forgets the encryption.
                SystemSocket.shutdown(self.connection, socket.SHUT_RD)
            except OSError:
                pass  # it is gone already

    def sever(self) -> None:
        """Cut its connection, so that a thread stuck in a send to it comes free."""
        if self.connection is not None:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is gone already
