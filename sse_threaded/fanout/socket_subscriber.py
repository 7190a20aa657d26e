"""Clients whose sockets the pump writes to itself, so that they hold no thread; plain sockets, and TLS.

The pump's thread calls everything here, with exceptions before the pump has a client. These are the constructor,
:meth:`SocketSubscriber.begin`, and a farewell if the hub is closed.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from ..observer import Kind
from ..protocol.batch import LAST_CHUNK, Batch
from .broadcast import SOCKET_GONE, plain_send
from .cursor import Cursor
from .handover import Handover
from .stream_state import EndReason, State, Step
from .subscriber import WRITE_BYTES, Subscriber


class SocketSubscriber(Subscriber):
    """A subscriber without a thread. Bytes are sent at once, and those that the socket does not take wait here.

    :param channels: see :class:`.subscriber.Subscriber`.
    :param size: how many events may wait before it counts as too slow.
    :param connection: its socket; no other object uses it until the server takes it back.
    :param chunked: whether the body is sent in chunks (RFC 9112, section 7.1), as the response's head said.
    :param cursor: its position; the events after it, up to the pump's position, are replayed.
    :param handover: takes the socket back, once, when the last byte was sent or the client is gone.

    ``sent`` counts the bytes of the body without the framing. The count is complete while the subscriber is in no
    broadcast.
    """

    __slots__ = ("_chunked", "_handover", "_pending", "can_broadcast", "server_hears_hang_ups")

    connection: socket.socket

    kind = Kind.PARKED
    pump_writes = True

    def __init__(
        self,
        channels: tuple[str, ...],
        size: int,
        connection: socket.socket,
        *,
        chunked: bool,
        cursor: Cursor | None,
        handover: Handover,
    ) -> None:
        super().__init__(channels, size, connection)
        self._chunked = chunked
        # Bytes that the socket did not take: views of the rest, and their batches. Most sockets take everything.
        # So there is a deque, which has 600 bytes, only while something is in it.
        self._pending: deque[tuple[memoryview, Batch]] | None = None
        self.cursor = cursor
        if cursor is not None:
            self.belongs_to(cursor)
        self._handover: Handover | None = handover
        self.server_hears_hang_ups = handover.hears_hang_ups
        self.can_broadcast = chunked and type(connection).send is plain_send  # see Subscriber

    def begin(self, head: bytes, batch: Batch | None) -> bool:
        """Send the response's head and some events in one packet, before the pump has the subscriber.

        Returns whether its socket took all of it.

        :param head: the head and the first bytes of the body, which are not counted.
        :param batch: the events; ``None`` for none.
        """
        if self.connection.gettimeout() != 0:  # otherwise it does not block already, and this saves a system call
            self.connection.setblocking(False)
        data = head
        if batch is None:
            batch = Batch(b"", 0)
        elif batch.body:
            data += batch.chunk if self._chunked else batch.body
        try:
            taken = self.connection.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self.step(Step.LOSE)
            return False
        if taken < len(data):
            self._count(batch)
            self._pending = deque([(memoryview(data)[taken:], batch)])
            return False
        self.sent += len(batch.body)
        self.sent_events += batch.count
        return True

    @property
    def can_broadcast_now(self) -> bool:
        """See :class:`Subscriber`."""
        return not self._pending and not self.state.is_lost

    @property
    def is_blocked(self) -> bool:
        """See :class:`Subscriber`."""
        return bool(self._pending)

    @property
    def is_over(self) -> bool:
        """See :class:`Subscriber`."""
        return self.state.is_lost or (self.end_reason is not None and not self._pending)

    @property
    def is_complete(self) -> bool:
        """Whether the body was ended as HTTP says, so that the connection may be used again; after its end."""
        return self.state is State.CLOSED

    def deliver(self, batch: Batch) -> bool:
        """Send some events, and keep the bytes that the socket does not take. See :class:`Subscriber`."""
        data = batch.chunk if self._chunked else batch.body
        if not self._pending:
            try:
                taken = self.connection.send(data)
            except BlockingIOError:
                taken = 0
            except OSError:
                taken = SOCKET_GONE
            if taken == len(data):
                self.sent += len(batch.body)
                self.sent_events += batch.count
                return False
            self.keep_rest(batch, taken)
        else:
            if self.end_reason is None:  # the last bytes always have room
                self._count(batch)
            self._pending.append((memoryview(data), batch))
        return True

    def keep_rest(self, batch: Batch, taken: int) -> None:
        """See :class:`Subscriber`.

        :param taken: :data:`.broadcast.SOCKET_GONE` if its socket is gone.
        """
        if self.broadcast is not None:
            self.broadcast.drop(self)
        if taken == SOCKET_GONE:
            self.step(Step.LOSE)
        else:
            self._count(batch)
            self._pending = deque([(memoryview(batch.chunk if self._chunked else batch.body)[taken:], batch)])

    def deliver_heartbeat(self, batch: Batch) -> bool:
        """Send a heartbeat as :meth:`deliver` does, unless other bytes wait."""
        return not self._pending and self.deliver(batch)

    def end(self, reason: EndReason, farewell: bytes) -> None:
        """Send the last bytes after those that wait. See :class:`Subscriber`."""
        if self.end_reason is not None:
            return
        self.step(Step.LOSE if reason is EndReason.GONE else Step.END)
        self.end_reason = reason
        self.cursor = None
        if reason is EndReason.SLOW:
            # A batch that has begun is sent to its end, or the framing would break. The others are dropped.
            while self._pending and len(self._pending) > 1:
                self._pending.pop()
        if self.state.is_lost:
            self._pending = None
            return
        last = Batch(farewell, 0)
        last.chunk += LAST_CHUNK  # both leave in one send
        self.deliver(last)

    def continue_writing(self) -> tuple[int, int]:
        """Send the bytes that wait, until the socket takes no more. See :class:`Subscriber`."""
        events = event_bytes = 0
        while self._pending and not self.state.is_lost:
            views: list[memoryview] = []
            size = 0
            for data, _ in self._pending:
                views.append(data)
                size += len(data)
                if size >= WRITE_BYTES:
                    break
            try:
                sent = self.connection.send(views[0] if len(views) == 1 else b"".join(views))
            except BlockingIOError:
                break
            except OSError:
                self.step(Step.LOSE)
                self._pending = None
                break
            is_short = sent < size
            while sent:
                data, batch = self._pending.popleft()
                if sent < len(data):
                    self._pending.appendleft((data[sent:], batch))
                    break
                sent -= len(data)
                self.sent += len(batch.body)
                self.sent_events += batch.count
                self._taken += batch.count
                self._taken_bytes += len(batch.body)
                if batch.count:  # else it is a heartbeat or a notice
                    events += batch.count
                    event_bytes += len(batch.body)
            if is_short:
                break
        if not self._pending:
            self._pending = None
        return events, event_bytes

    def lose_connection(self) -> None:
        """See :class:`Subscriber`."""
        self.step(Step.LOSE)

    def cut(self) -> None:
        """See :class:`Subscriber`. The bytes that wait are lost."""
        self._pending = None
        super().cut()

    def finish(self) -> None:
        """Give its socket back."""
        if self.end_reason is EndReason.SHUTDOWN:
            self.shut_down()  # so that no server waits for the client to close an idle connection
        # This object and its handover refer to each other. Otherwise only the garbage collector could free them.
        handover, self._handover = self._handover, None
        if handover is not None:
            handover.take_back()


class EncryptedSubscriber(SocketSubscriber):
    """The same with a TLS socket that does not block: its methods raise ``BlockingIOError`` where it would.

    Only one thread at a time may use such a socket. So the pump's thread reads from it, too, and no server does.
    """

    __slots__ = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.server_hears_hang_ups = False

    def has_hung_up(self) -> bool | None:
        """See :class:`Subscriber`. A client says that it closes before it does."""
        hung_up = super().has_hung_up()
        if hung_up is not False:
            return hung_up
        try:
            return self.connection.recv(1) == b""  # of another byte, the connection is not used again
        except BlockingIOError:
            return None
        except OSError:
            return True
