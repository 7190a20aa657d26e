"""A client whose bytes come out of the app's own iterable, on a thread that stays only while it has work.

The app has wrapped the stream: a filter, a tracer, ``stream_with_context``. So its iterable must be asked for
each chunk. A thread of the server asks it while events wait. The thread leaves when the stream gives ``b""``
(PEP 3333 allows that) or when the client's socket takes no more. Then the pump calls a thread when there is work.
"""

from __future__ import annotations

import enum
import socket
import threading
from abc import ABC, abstractmethod
from typing import Protocol

from ..observer import Kind
from ..protocol.batch import Batch
from .stream_state import Step
from .thread_subscriber import ThreadSubscriber

# How often a stream may give b"" before its wrapper counts as one that does not pass it on. A wrapper may join a
# few chunks into one.
_MOST_EMPTY_CHUNKS = 4

# A wrapper may give bytes although the stream has given b"". Then the server asks it again, but stops at this
# number in a row. A wrapper that looks ahead by one chunk gives the last event then. A wrapper that adds bytes to
# each chunk would give bytes forever.
_LAST_CALLS = 2


class Server(ABC):
    """The part of the server that a subscriber calls, for one response."""

    __slots__ = ()

    @abstractmethod
    def resume(self) -> None:
        """Have a thread go on with the response. The pump's thread calls this, so it must not wait."""

    @abstractmethod
    def keep_thread(self) -> None:
        """Note that the calling thread stays until the stream's end."""


class Keeper(Protocol):
    """The part of the pump that a subscriber calls."""

    def check_soon(self, subscriber: WrappedSubscriber) -> None:
        """Have the pump check soon whether ``subscriber`` waits for its socket."""

    def keep_thread(self, subscriber: WrappedSubscriber) -> None:
        """Let the thread of ``subscriber`` stay, if one more thread may be held; else end its stream."""

    def end_response(self, subscriber: WrappedSubscriber) -> None:
        """Forget ``subscriber``."""


class _Thread(enum.Enum):
    """Where the thread of a response is."""

    AWAY = enum.auto()
    WORKING = enum.auto()  # it is at work, or was called
    STAYING = enum.auto()  # it waits inside the stream until the stream's end


class WrappedSubscriber(ThreadSubscriber):
    """A subscriber whose thread comes and goes.

    :param channels: see :class:`.subscriber.Subscriber`.
    :param size: how many events may wait before it counts as too slow.
    :param connection: its socket; no other object writes to it.
    :param server: the server, which calls threads.
    :param keeper: the pump.

    The thread that is at work writes and flushes. The pump's thread flushes only while no thread is at work.
    """

    __slots__ = (
        "_empty_chunks",
        "_is_interrupted",
        "_keeper",
        "_last_calls",
        "_lock",
        "_pending",
        "_server",
        "_step_lock",
        "_thread",
    )

    connection: socket.socket

    kind = Kind.WRAPPED
    outlives_stream = True
    can_be_abandoned = False  # the server tells the end of the response

    def __init__(
        self,
        channels: tuple[str, ...],
        size: int,
        connection: socket.socket,
        server: Server,
        keeper: Keeper,
    ) -> None:
        super().__init__(channels, size, connection)
        self._server = server
        self._keeper = keeper
        # Guards `state`, as the thread that is at work finds a broken socket without the registry's lock. No other
        # lock is taken while a thread holds this one.
        self._step_lock = threading.Lock()
        # Guards _thread, and _pending while no thread is at work.
        self._lock = threading.Lock()
        self._thread = _Thread.WORKING
        self._is_interrupted = False  # its thread left before the app's iterable had nothing more to give
        self._pending = bytearray()  # bytes that were written and not sent yet
        self._empty_chunks = 0  # how often the stream has given b"" since the server had the last chunk
        self._last_calls = 0

    @property
    def keeps_thread(self) -> bool:
        """Whether its wrapper does not pass on ``b""``, so that its thread waits inside the stream."""
        return self._thread is _Thread.STAYING

    def step(self, step: Step) -> None:
        """See :class:`Subscriber`."""
        with self._step_lock:
            super().step(step)

    # The thread that is at work, inside the stream.

    def take(self, deadline: float | None = None) -> list[Batch]:
        """Take the batches in the queue. From an empty queue the stream gives ``b""``, so that its thread leaves.

        If that was in vain again and again, its wrapper does not pass on ``b""``. Then its thread stays and waits.
        """
        if self._thread is not _Thread.STAYING:
            batches = self.take_now()
            if batches:
                self._empty_chunks = self._last_calls = 0
                return batches
            if self.end_reason is not None:
                return batches
            self._empty_chunks += 1
            if self._empty_chunks <= _MOST_EMPTY_CHUNKS:
                return batches
            self._keeper.keep_thread(self)
        return super().take(deadline)

    def keep_thread(self) -> None:
        """Let its thread stay until the stream's end. The thread then waits for the socket, too."""
        with self._lock:
            self._thread = _Thread.STAYING
        self._server.keep_thread()
        pending, self._pending = self._pending, bytearray()
        try:
            self.connection.setblocking(True)
            self.connection.sendall(pending)
        except OSError:
            self.step(Step.LOSE)  # the server finds out; for the app's iterable this is not an error

    # The thread that is at work, outside the stream.

    def sendall(self, data: bytes) -> None:
        """Write some bytes, as to a socket. They leave with the next :meth:`flush`."""
        if self._thread is _Thread.STAYING:
            self.connection.sendall(data)
        else:
            self._pending += data

    def is_idle(self, gave_bytes: bool) -> bool:
        """Whether the stream has nothing, so that the thread may leave. Asked after each chunk.

        :param gave_bytes: whether the wrapper's last chunk had bytes. Then there may be another chunk.
        """
        if not self._empty_chunks:
            return False
        self._empty_chunks = 0
        self._last_calls += 1
        if gave_bytes and self._last_calls < _LAST_CALLS:
            return False
        self._last_calls = 0
        return True

    def flush(self) -> bool:
        """Send the bytes that the socket takes; returns whether all were sent, or the client is gone."""
        while self._pending and not self.state.is_lost:
            try:
                sent = self.connection.send(self._pending)
            except BlockingIOError:
                return False
            except OSError:
                self.step(Step.LOSE)
                break
            del self._pending[:sent]
        if self.state.is_lost:
            self._pending.clear()
        return True

    def interrupt(self) -> None:
        """Note that this thread leaves although the iterable has more, so the next thread must go on at once."""
        self._is_interrupted = True

    def leave(self) -> bool:
        """Let the thread leave, unless it has something to do; returns whether it may leave.

        It may not leave while batches wait, after an interruption, and at the end.
        """
        with self._lock:
            is_lost = self.state.is_lost
            has_batches = self.end_reason is not None or not self._queue.empty()
            is_blocked = bool(self._pending) and not is_lost
            if not is_blocked and (self._is_interrupted or is_lost or has_batches):
                self._is_interrupted = False
                return False
            self._is_interrupted = is_blocked
            self._thread = _Thread.AWAY
        if is_blocked:
            self._keeper.check_soon(self)
        return True

    def end_response(self) -> None:
        """Let the pump forget it, as the response is over. Idempotent."""
        self._keeper.end_response(self)

    # The pump's thread.

    def _call_thread(self) -> None:
        if self._thread is _Thread.STAYING:
            self.sleeper.call()
            return
        with self._lock:
            if self._thread is not _Thread.AWAY or (self._pending and not self.state.is_lost):
                return
            self._thread = _Thread.WORKING
        self._server.resume()

    @property
    def is_blocked(self) -> bool:
        """See :class:`Subscriber`."""
        return self._thread is _Thread.AWAY and bool(self._pending) and not self.state.is_lost

    def continue_writing(self) -> tuple[int, int]:
        """See :class:`Subscriber`. Its events were counted when the app's iterable took them."""
        with self._lock:
            is_done = self._thread is _Thread.AWAY and self.flush()
        if is_done:
            self._call_thread()
        return 0, 0

    def cut(self) -> None:
        """See :class:`Subscriber`."""
        super().cut()
        self._call_thread()

    def lose_connection(self) -> None:
        """See :class:`Subscriber`."""
        self.step(Step.LOSE)
