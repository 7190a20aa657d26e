"""Clients whose sockets the pump writes to itself, so that no thread is held by them.

Everything here is called on the pump's thread, but what comes before the pump has a client: the constructor,
:meth:`SocketSubscriber.begin`, and a farewell where the hub is closed.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat

from ..protocol.batch import LAST_CHUNK, Batch
from .cursor import Cursor
from .subscriber import WRITE_BYTES, Subscriber

# Where the number of bytes that a socket took is asked for: it is gone.
_GONE = -1

_send = socket.socket.send


class SocketSubscriber(Subscriber):
    """A subscriber without a thread: what the socket takes at once is sent at once, the rest waits here.

    :param channels: what it wants.
    :param size: how many events may wait before it counts as too slow.
    :param connection: its socket, which nobody else uses until ``finished`` is called.
    :param chunked: whether the body is sent in chunks (RFC 9112, section 7.1), as the response's head said.
    :param cursor: where it is; what comes before the pump's position is replayed.
    :param finished: called once, on the pump's thread, when the last byte was sent or there is nobody to send
        it to.

    :ivar sent: bytes of the body that were sent, without the framing; what its volley has counted comes to it.
    :ivar volley: with whom it is sent to in one go, ``None`` for nobody; ``place`` is its index there.
    :ivar complete: the body was ended as HTTP says.
    """

    __slots__ = (
        "_chunked",
        "_pending",
        "complete",
        "cursor",
        "finished",
        "lost",
        "place",
        "sent",
        "volley",
    )

    connection: socket.socket

    def __init__(
        self,
        channels: Iterable[str],
        size: int,
        connection: socket.socket,
        *,
        chunked: bool,
        cursor: Cursor,
        finished: Callable[[], None],
    ) -> None:
        super().__init__(channels, size, connection)
        self._chunked = chunked
        self.volley: Broadcast | None = None
        self.place = 0
        # What the socket would not take: views of the rest, and what each is worth when it is gone. Most take all,
        # so there is a deque, of 600 bytes, only while something is in it.
        self._pending: deque[tuple[memoryview, Batch]] | None = None
        self.cursor: Cursor | None = cursor
        self.finished = finished
        self.sent = 0
        self.complete = False
        self.lost = False

    def begin(self, head: bytes, frame: Batch | None) -> None:
        """Send the response's head and first bytes, which are not counted, and some events in one packet with
        them; before the pump has it.
        """
        self.connection.setblocking(False)
        data = head
        if frame is not None and frame.wire:
            data += frame.chunk if self._chunked else frame.wire
            self._count(frame)
        else:
            frame = Batch(b"", 0)
        self._pending = deque([(memoryview(data), frame)])
        self.flush()

    @property
    def in_step(self) -> bool:
        """Whether it may be in a volley."""
        # The socket's own send, as that of an SSLSocket is another one.
        return self._chunked and not self._pending and not self.lost and type(self.connection).send is _send

    @property
    def blocked(self) -> bool:
        """Whether the socket must be writable before more can be sent."""
        return bool(self._pending)

    def put(self, frame: Batch) -> bool:
        """Send some events, or keep what the socket does not take. See :class:`Subscriber`."""
        data = frame.chunk if self._chunked else frame.wire
        if not self._pending:
            try:
                taken = self.connection.send(data)
            except BlockingIOError:
                taken = 0
            except OSError:
                taken = _GONE
            if taken == len(data):
                self.sent += len(frame.wire)
                return False
            self.keep(frame, taken)
        else:
            if self.ended is None:  # the end always finds room
                self._count(frame)
            self._pending.append((memoryview(data), frame))
        return True

    def keep(self, frame: Batch, taken: int) -> None:
        """Keep the rest of a frame, of which its socket took so many bytes, or ``-1`` if it is gone."""
        if self.volley is not None:
            self.volley.drop(self)
        if taken == _GONE:
            self.lost = True
        else:
            self._count(frame)
            self._pending = deque([(memoryview(frame.chunk if self._chunked else frame.wire)[taken:], frame)])

    def put_heartbeat(self, frame: Batch) -> bool:
        """Send a heartbeat, unless something else is on its way; otherwise as :meth:`put`."""
        return not self._pending and self.put(frame)

    def end(self, reason: str, farewell: bytes) -> None:
        """Send the last bytes after what waits; the first reason counts."""
        if self.ended is not None:
            return
        self.ended = reason
        self.cursor = None
        if reason == "gone":
            self.lost = True
        if reason == "slow":
            # Of what waits only the frame that has begun is sent to its end, or the framing would break.
            while self._pending and len(self._pending) > 1:
                self._pending.pop()
        if self.lost:
            self._pending = None
            return
        self.put(Batch(farewell, 0))
        if self._chunked and not self.lost:
            self.put(LAST_CHUNK)

    def writable(self) -> None:
        """See :class:`Subscriber`."""
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._pending and not self.lost:
            batch: list[memoryview] = []
            size = 0
            for data, _ in self._pending:
                batch.append(data)
                size += len(data)
                if size >= WRITE_BYTES:
                    break
            try:
                sent = self.connection.send(batch[0] if len(batch) == 1 else b"".join(batch))
            except BlockingIOError:
                return
            except OSError:
                self.lost = True
                self._pending = None
                return
            short = sent < size
            while sent:
                data, frame = self._pending.popleft()
                if sent < len(data):
                    self._pending.appendleft((data[sent:], frame))
                    break
                sent -= len(data)
                self.sent += len(frame.wire)
                self._taken += frame.count
                self._taken_bytes += len(frame.wire)
            if short:
                return
        if not self._pending:
            self._pending = None

    def lose_connection(self) -> None:
        """Its socket is gone."""
        self.lost = True

    def sever(self) -> None:
        """Cut its connection; what waits is lost."""
        self.lost = self.lost or self.blocked
        self._pending = None
        super().sever()

    @property
    def over(self) -> bool:
        """Whether nothing is left to send."""
        return self.lost or (self.ended is not None and not self._pending)


class Broadcast:
    """Parked clients, answered in chunks, for which nothing waits: a frame goes out to all in one go.

    A loop around each client's own send would look at objects that have left the processor's cache since the last
    event. Here are only the sockets, side by side, and the loop runs inside ``map``. All on the pump's thread.

    :ivar late: those that fell out, as something waits for them now.
    """

    __slots__ = ("_clients", "_connections", "_sent", "late")

    def __init__(self) -> None:
        self._clients: list[SocketSubscriber] = []
        self._connections: list[socket.socket] = []
        self._sent = 0  # bytes of the body since it was made; what a client's own count lacks or has too much
        self.late: set[SocketSubscriber] = set()

    def add(self, client: SocketSubscriber) -> None:
        """Take in one that is :attr:`SocketSubscriber.in_step`."""
        client.volley = self
        client.place = len(self._clients)
        client.sent -= self._sent
        self._clients.append(client)
        self._connections.append(client.connection)

    def remove(self, client: SocketSubscriber) -> None:
        """Let one of them go."""
        # The last takes its place.
        last = self._clients[-1]
        last.place = client.place
        self._clients[client.place] = last
        self._connections[client.place] = last.connection
        self._clients.pop()
        self._connections.pop()
        client.volley = None
        client.sent += self._sent

    def drop(self, client: SocketSubscriber) -> None:
        """Let one go that is out of step."""
        self.remove(client)
        self.late.add(client)

    def send(self, frame: Batch) -> list[SocketSubscriber]:
        """Send some events to all; returns those whose sockets did not take everything."""
        whole = len(frame.chunk)
        taken: list[int] = []
        connections = iter(self._connections)
        try:
            while len(taken) < len(self._connections):
                try:
                    taken.extend(map(_send, connections, repeat(frame.chunk)))
                except BlockingIOError:
                    taken.append(0)
                except OSError:
                    taken.append(_GONE)
        except BaseException:
            # Who has a part of it is not known any more, and nothing may follow a part.
            for client in self._clients:
                client.lost = True
            raise
        self._sent += len(frame.wire)
        if taken.count(whole) == len(taken):
            return []
        late = [(client, count) for client, count in zip(self._clients, taken, strict=True) if count != whole]
        for client, count in late:
            client.sent -= len(frame.wire)
            client.keep(frame, count)
        return [client for client, _ in late]
