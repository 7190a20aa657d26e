"""A client whose bytes come out of the app's own iterable, on a thread that stays only while it has work.

The app has wrapped the stream: a filter, a tracer, ``stream_with_context``. So its iterable must be asked for
each chunk. A thread of the server asks it while events wait, and leaves when the stream gives ``b""`` (PEP 3333
allows that) or when the client's socket takes no more. The pump calls a thread again.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable

from .queued import Queued

# Where the number of bytes that a socket took is asked for: it is gone.
_GONE = -1


class Wrapped(Queued):
    """A subscriber whose thread comes and goes.

    :param channels: what it wants.
    :param size: how many events may wait before it counts as too slow.
    :param connection: its socket; nobody else writes to it.
    :param resume: has a thread go on with the response; called by the pump's thread, so it must not wait.
    :param notify: has the pump look after it.

    :ivar keeps_thread: its wrapper does not pass on ``b""``, so that its thread waits inside the stream.
    :ivar rests: the stream has given ``b""``, and the server has not taken note of it.
    :ivar more: the stream has another chunk, for which nobody need wait.

    The thread that is at work writes and flushes; the pump's thread does so only while none is.
    """

    __slots__ = (
        "_at_work",
        "_lock",
        "_notify",
        "_pending",
        "_resume",
        "_unfinished",
        "keeps_thread",
        "lost",
        "more",
        "rests",
    )

    connection: socket.socket

    def __init__(
        self,
        channels: Iterable[str],
        size: int,
        connection: socket.socket,
        resume: Callable[[], None],
        notify: Callable[[Wrapped], None],
    ) -> None:
        super().__init__(channels, size, connection)
        self._resume = resume
        self._notify = notify
        # Guards _at_work, and _pending while no thread is at work.
        self._lock = threading.Lock()
        self._at_work = True  # a thread has it, or was called
        self._unfinished = False  # its thread left in the midst of something
        self._pending = bytearray()  # what was written and not sent yet
        self.keeps_thread = False
        self.rests = False
        self.more = False
        self.lost = False

    # The thread that is at work.

    def sendall(self, data: bytes) -> None:
        """Write some bytes, as to a socket; they leave with the next :meth:`flush`."""
        if self.keeps_thread:
            self.connection.sendall(data)
        else:
            self._pending += data

    @property
    def unsent(self) -> int:
        """Bytes that were written and not sent yet."""
        return len(self._pending)

    @property
    def has_waiting(self) -> bool:
        """Whether frames wait in its queue, or its end."""
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

    def keep_thread(self) -> None:
        """Let its thread stay until the stream's end, and wait for the socket, too.

        :raises OSError: the socket is gone.
        """
        self.keeps_thread = True
        self.connection.setblocking(True)
        pending, self._pending = self._pending, bytearray()
        self.connection.sendall(pending)

    def leave(self) -> bool:
        """Let the thread go, unless there is something to do; returns whether it may.

        It may not while frames wait, when it left in the midst of something the last time, and at the end.
        """
        with self._lock:
            blocked = bool(self._pending) and not self.lost
            if not blocked and (self._unfinished or self.lost or self.has_waiting):
                self._unfinished = False
                return False
            self._unfinished = blocked
            self._at_work = False
        if blocked:
            self._notify(self)
        return True

    # The pump's thread.

    def _call(self) -> None:
        if self.keeps_thread:
            self.link.call()
            return
        with self._lock:
            if self._at_work or (self._pending and not self.lost):
                return
            self._at_work = True
        self._resume()

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
