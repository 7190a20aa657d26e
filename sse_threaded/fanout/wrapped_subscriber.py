"""A client whose bytes come out of the app's own iterable, on a thread that stays only while it has work.

The app has wrapped the stream: a filter, a tracer, ``stream_with_context``. So its iterable must be asked for
each chunk. A thread of the server asks it while events wait, and leaves when the stream gives ``b""`` (PEP 3333
allows that) or when the client's socket takes no more. The pump calls a thread again.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import Protocol

from .thread_subscriber import ThreadSubscriber

# How often a stream gives b"" before it is taken for swallowed: a wrapper may join some chunks into one.
_LONGEST_REST = 4

# How often in a row the server asks a wrapper again that gives bytes where the stream has given b"". One that
# looks ahead by a chunk gives the last event then; one that adds bytes to each chunk would do so for ever.
_LAST_CALLS = 2


class Server(Protocol):
    """What the server does for one response."""

    def resume(self) -> None:
        """Have a thread go on with the response. It is called by the pump's thread, so it must not wait."""

    def keep_thread(self) -> None:
        """Take note that the calling thread stays until the stream's end."""


class Keeper(Protocol):
    """What the pump does for a subscriber."""

    def look_after(self, subscriber: WrappedSubscriber) -> None:
        """See soon whether it waits for its socket."""

    def leave(self, subscriber: WrappedSubscriber) -> None:
        """Let it go."""


class WrappedSubscriber(ThreadSubscriber):
    """A subscriber whose thread comes and goes.

    :param channels: what it wants.
    :param size: how many events may wait before it counts as too slow.
    :param connection: its socket; nobody else writes to it.
    :param server: calls threads.
    :param keeper: the pump.

    :ivar keeps_thread: its wrapper does not pass on ``b""``, so that its thread waits inside the stream.

    The thread that is at work writes and flushes; the pump's thread does so only while none is.
    """

    __slots__ = (
        "_at_work",
        "_keeper",
        "_last_calls",
        "_lock",
        "_pending",
        "_rests",
        "_server",
        "_unfinished",
        "held",
        "keeps_thread",
        "lost",
    )

    connection: socket.socket

    def __init__(
        self,
        channels: Iterable[str],
        size: int,
        connection: socket.socket,
        server: Server,
        keeper: Keeper,
    ) -> None:
        super().__init__(channels, size, connection)
        self._server = server
        self._keeper = keeper
        # Guards _at_work, and _pending while no thread is at work.
        self._lock = threading.Lock()
        self._at_work = True  # a thread has it, or was called
        self._unfinished = False  # its thread left in the midst of something
        self._pending = bytearray()  # what was written and not sent yet
        self._rests = 0  # how often the stream has given b"" since the server had the last chunk
        self._last_calls = 0
        self.held = True
        self.keeps_thread = False
        self.lost = False

    # The thread that is at work, inside the stream.

    def rest(self) -> bool:
        """Note that the stream has nothing; returns whether it is to give ``b""``, or to wait itself."""
        self._rests += 1
        return self._rests <= _LONGEST_REST

    def go_on(self) -> None:
        """Note that the stream has something."""
        self._rests = self._last_calls = 0

    def keep_thread(self) -> None:
        """Let its thread stay until the stream's end, and wait for the socket, too."""
        self.keeps_thread = True
        self._server.keep_thread()
        pending, self._pending = self._pending, bytearray()
        try:
            self.connection.setblocking(True)
            self.connection.sendall(pending)
        except OSError:
            self.lost = True  # the server finds out; for the app's iterable this is no error

    # The thread that is at work, outside.

    def sendall(self, data: bytes) -> None:
        """Write some bytes, as to a socket; they leave with the next :meth:`flush`."""
        if self.keeps_thread:
            self.connection.sendall(data)
        else:
            self._pending += data

    def is_idle(self, gave_bytes: bool) -> bool:
        """Whether the stream has nothing, so that the thread may leave. To be asked after each chunk.

        :param gave_bytes: whether the wrapper's last chunk was not empty: then there may be another.
        """
        if not self._rests:
            return False
        self._rests = 0
        self._last_calls += 1
        if gave_bytes and self._last_calls < _LAST_CALLS:
            return False
        self._last_calls = 0
        return True

    @property
    def is_left(self) -> bool:
        """See :class:`ThreadSubscriber`; of this one the server says so."""
        return False

    @property
    def _has_waiting(self) -> bool:
        return self.ended is not None or not self._queue.empty()

    def flush(self) -> bool:
        """Send what the socket takes; returns whether that was all, or there is nobody to send it to."""
        while self._pending and not self.lost:
            try:
                sent = self.connection.send(self._pending)
            except BlockingIOError:
                return False
            except OSError:
                self.lost = True
                break
            del self._pending[:sent]
        if self.lost:
            self._pending.clear()
        return True

    def interrupt(self) -> None:
        """Note that the next thread is to go on at once, as this one leaves in the midst of something."""
        self._unfinished = True

    def leave(self) -> bool:
        """Let the thread go, unless there is something to do; returns whether it may.

        It may not while frames wait, when it left in the midst of something the last time, and at the end.
        """
        with self._lock:
            blocked = bool(self._pending) and not self.lost
            if not blocked and (self._unfinished or self.lost or self._has_waiting):
                self._unfinished = False
                return False
            self._unfinished = blocked
            self._at_work = False
        if blocked:
            self._keeper.look_after(self)
        return True

    def release(self) -> None:
        """Let it go: the response is over. Idempotent."""
        self.held = False
        self._keeper.leave(self)

    # The pump's thread.

    def _call(self) -> None:
        if self.keeps_thread:
            self.link.call()
            return
        with self._lock:
            if self._at_work or (self._pending and not self.lost):
                return
            self._at_work = True
        self._server.resume()

    @property
    def blocked(self) -> bool:
        """See :class:`Subscriber`."""
        return not self._at_work and bool(self._pending) and not self.lost

    def writable(self) -> None:
        """See :class:`Subscriber`."""
        with self._lock:
            if self._at_work or not self.flush():
                return
        self._call()

    def end(self, reason: str, farewell: bytes) -> None:
        """See :class:`Subscriber`."""
        if reason == "gone":
            self.lost = True
        super().end(reason, farewell)

    def sever(self) -> None:
        """See :class:`Subscriber`."""
        super().sever()
        self.lost = True
        self._call()

    def lose_connection(self) -> None:
        """See :class:`Subscriber`."""
        self.lost = True
