"""A stream: the body of a ``text/event-stream`` response.

It subscribes when the server first asks for bytes. So a response that is never sent (HEAD, an error in a
middleware) holds nothing. It gives everything back when it is closed, when it has ended, and when it fails. It
also gives everything back when no object refers to it any more. The reason: a server closes an app's generator
around a stream, and not the stream.

The thread that iterates it runs all of this, except where another thread is named.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .errors import HubClosed, LogError, SSEError
from .fanout.broadcast import plain_send
from .fanout.budget import Overloaded
from .fanout.cursor import Cursor
from .fanout.handover import Handover
from .fanout.pace import Pace
from .fanout.pump import Pump
from .fanout.registry import Registry
from .fanout.socket_subscriber import EncryptedSubscriber, SocketSubscriber
from .fanout.stream_state import EndReason
from .fanout.thread_subscriber import ThreadSubscriber
from .fanout.wrapped_subscriber import WrappedSubscriber
from .observer import Cause
from .protocol.batch import Batch
from .protocol.event import START, comment, notice
from .throttled_log import ThrottledLog

_log = logging.getLogger(__name__)
_throttled = ThrottledLog(_log)  # while the log cannot be read, each request would write a line


# Of a stream that has ended or was parked.
_NO_CHUNKS: Iterator[bytes] = iter(())


class Parking(NamedTuple):
    """A stream that is about to be parked, with a place among the parked streams.

    :ivar first: the first bytes of the body, for the server to send.
    :ivar pump: the pump. The server gives it the connection by ``pump.park(subscriber, head)``.
    :ivar subscriber: the subscriber that holds the connection.
    :ivar reservation: the registry that has the place, see :meth:`.fanout.pump.Pump.reserve`.
    """

    first: bytes
    pump: Pump
    subscriber: SocketSubscriber
    reservation: Registry

    def cancel(self) -> None:
        """Give the place back, in place of parking the stream."""
        self.pump.release(self.reservation)


class EventStream:
    """An iterator over chunks that ends when its subscriber does.

    A chunk holds one event, so that an app can filter chunks. Where the server sends them unchanged, it sets
    ``joins``, and a chunk holds all events that wait.

    :param pump: hands out events.
    :param cursor: the client's channels, and its position in the log.
    :param size: how many events may wait for the client.
    :param connection: the client's socket; ``None`` where the server does not show it.
    :param handover: how the connection leaves the thread; ``None``, the default, if the server cannot do that.
    """

    # The object that gives the chunks does not refer to this one. So this one is deleted as soon as the app and
    # the server have no reference to it. Of a parked stream only this one is left.
    __slots__ = ("_chunks", "_delivery")

    def __init__(
        self,
        pump: Pump,
        cursor: Cursor,
        size: int,
        connection: socket.socket | None,
        handover: Handover | None = None,
    ) -> None:
        if handover is not None:
            handover.has_stream = True
        self._delivery: _Delivery | None = _Delivery(pump, cursor, size, connection, handover)
        self._chunks = self._delivery.chunks()

    @property
    def joins(self) -> bool:
        """Whether a chunk holds all events that wait; default ``False``."""
        return self._delivery is not None and self._delivery.joins

    @joins.setter
    def joins(self, joins: bool) -> None:
        if self._delivery is not None:
            self._delivery.joins = joins

    @property
    def subscriber(self) -> ThreadSubscriber | None:
        """Its subscriber, once it is admitted."""
        return self._delivery.subscriber if self._delivery else None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunks = self._chunks
        try:
            return next(chunks)
        except BaseException:  # its end, too
            # If the chunks have not ended, they were not asked at all: another thread is inside them.
            if self._delivery is not None and getattr(chunks, "gi_frame", None) is None:
                self._delivery.close()
            raise

    def close(self) -> None:
        """Give everything back; idempotent.

        A server calls this on the stream's thread, before it closes the socket. If another thread calls it, the
        stream ends on its own thread.
        """
        delivery, self._delivery = self._delivery, None
        self._chunks = _NO_CHUNKS
        if delivery is not None:
            delivery.close()
            delivery.shut_down_reading()

    def __del__(self) -> None:
        # Any thread. Where __init__ failed there is no attribute.
        delivery = getattr(self, "_delivery", None)
        if delivery is not None:
            delivery.close_later()

    def park(self, handover: Handover, connection: socket.socket, chunked: bool) -> Parking | bytes | None:
        """Prepare to park the stream, so that the server does not ask it for bytes.

        Returns the whole body if there is no room. Returns ``None`` where the server must iterate the stream: it
        has begun already, or it is of another request.

        :param handover: the request's.
        :param connection: the client's socket; of TLS, one for :class:`.socket_subscriber.EncryptedSubscriber`.
        :param chunked: whether the body is sent in chunks.
        """
        delivery = self._delivery
        if delivery is None or delivery.has_begun or delivery.handover is not handover:
            return None
        # Then another thread has nothing to close, and little is kept for each open page.
        self._delivery = None
        self._chunks = _NO_CHUNKS
        pump = delivery.pump
        try:
            reservation = pump.reserve()
        except (Overloaded, HubClosed, LogError) as error:
            pump.observers.refuse(error)
            return refusal_for(pump.pace, error)
        cursor = delivery.cursor
        kind = SocketSubscriber if type(connection).send is plain_send else EncryptedSubscriber
        subscriber = kind(
            cursor.channels, delivery.size, connection, chunked=chunked, cursor=cursor, handover=handover
        )
        return Parking(delivery.preface(), pump, subscriber, reservation)


def refusal(pace: Pace, why: str, *, shutdown: bool = False) -> bytes:
    """The whole body for a client that gets no stream now.

    Any status but 200 would stop EventSource for good (9.2.3), so there is no 503.

    :param why: the reason, for a person who uses curl.
    :param shutdown: see :meth:`Pace.unavailable`.
    """
    return pace.unavailable(shutdown=shutdown) + comment(f"{why}; come back after the reconnection time")


def refusal_for(pace: Pace, error: SSEError) -> bytes:
    """The whole body for a client whose stream cannot begin, because of this error."""
    if isinstance(error, HubClosed):
        # A reload: another process answers in a moment. So the client gets the same delays as clients whose
        # streams end now.
        return refusal(pace, str(error), shutdown=True)
    if isinstance(error, LogError):
        fields = {"event": "stream_refused", "reason": str(Cause.LOG), "url": error.url}
        _throttled.warning("begin", "a stream could not begin: %s", error, extra=fields)
        return refusal(pace, "the log cannot be read")
    return refusal(pace, str(error))


@dataclass(eq=False, repr=False, slots=True)
class _Delivery:
    """The delivery of a stream's bytes to a thread that iterates it.

    :ivar has_begun: whether the server has asked for its first bytes.
    :ivar subscriber: its subscriber, once it is admitted.

    The others are those of :class:`EventStream`.
    """

    pump: Pump
    cursor: Cursor
    size: int
    connection: socket.socket | None
    handover: Handover | None
    has_begun: bool = False
    joins: bool = False
    subscriber: ThreadSubscriber | None = None
    _reservation: Registry | None = None
    _is_closed: bool = False

    @property
    def is_reserved(self) -> bool:
        """Whether it has a parking place, and no subscriber yet."""
        return self._reservation is not None

    def close(self) -> None:
        """Give back everything that it holds, and take nothing any more; idempotent. Any thread."""
        self._is_closed = True  # before the look at the subscriber, which another thread may be about to set
        self._give_place_back()
        subscriber = self.subscriber
        if subscriber is not None and not subscriber.state.is_closed:
            self.pump.end_stream(subscriber)

    def _give_place_back(self) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            self.pump.release(reservation)

    def close_later(self) -> None:
        """Have the pump's thread close it, as the garbage collector may run anywhere, also inside a lock."""
        subscriber = self.subscriber
        if self.is_reserved or (subscriber is not None and not subscriber.state.is_closed):
            if subscriber is not None:
                subscriber.sleeper.restore_policy()
            self.pump.close_later(self.close)

    def shut_down_reading(self) -> None:
        """Let the server close the connection of a stream that a shutdown has ended."""
        # A server that stops would wait a few seconds for the client to close its idle connection.
        if self.subscriber is not None and self.subscriber.end_reason is EndReason.SHUTDOWN:
            self.subscriber.shut_down_reading()

    def preface(self) -> bytes:
        """The first bytes."""
        # A client that is cut off before its first event resumes from this id (WHATWG HTML 9.2.6). But a reset
        # brings an id of its own. An id before it would be wrong: a client that is cut off between the two would
        # resume there, as if nothing were missing.
        return notice(START, self.pump.pace.retry, None if self.cursor.reset else self.cursor.event_id)

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of the stream."""
        self.has_begun = True
        try:
            self.pump.require_open()
            head = self.preface()
            if self.handover is not None:
                self._reservation = self.pump.reserve()
                yield head
                head = b""
            subscriber = self._admit()
            for wires in self._replay(subscriber):
                if self.joins:
                    yield head + b"".join(wires)
                else:
                    if head:
                        yield head
                    yield from wires
                # The server asks for more, so it has sent these.
                self._count(subscriber, 0 if self.cursor.told else len(wires), sum(map(len, wires)))
                head = b""
            if head:
                yield head
        except (Overloaded, HubClosed, LogError) as error:
            if self.subscriber is None:
                self.pump.observers.refuse(error)
            yield refusal_for(self.pump.pace, error)
            return
        yield from self._live(subscriber)
        if subscriber.end_reason is not EndReason.GONE:
            yield subscriber.farewell

    def _admit(self) -> ThreadSubscriber:
        handover, connection = self.handover, self.connection
        subscriber: ThreadSubscriber
        if handover is not None and connection is not None and self.is_reserved and handover.may_lend():
            subscriber = WrappedSubscriber(self.cursor.channels, self.size, connection, handover, self.pump)
            subscriber.belongs_to(self.cursor)
            self._reservation = None  # the place is the subscriber's now
            self.pump.admit(subscriber, is_reserved=True)
            handover.lend_to_threads(subscriber)
        else:
            self._give_place_back()
            subscriber = ThreadSubscriber(self.cursor.channels, self.size, connection)
            subscriber.belongs_to(self.cursor)
            self.pump.admit(subscriber, is_thread_scarce=handover is not None)
        self.subscriber = subscriber
        if self._is_closed:  # another thread closed it in between, and may not have seen the subscriber
            self.pump.end_stream(subscriber)
        return subscriber

    def _replay(self, subscriber: ThreadSubscriber) -> Iterator[list[bytes]]:
        # Read until nothing is left, then attach, then read the events in between, up to the position at which the
        # queue took over. So the queue cannot fill up during a long replay.
        cursor = self.cursor
        upto: int | None = None
        while subscriber.end_reason is None:
            wires = cursor.read_wires(upto)
            if cursor.told is not None:
                self.pump.observers.reset_sent(cursor.told)
            if wires:
                yield wires
            elif upto is not None:
                break
            else:
                upto = self.pump.attach(subscriber, cursor.after)
                if upto <= cursor.after:
                    break
        if subscriber.end_reason is None:
            self.pump.observers.stream_caught_up(subscriber.kind, cursor.replayed)
        if cursor.finishes:
            self.pump.end_if_over(subscriber)

    def _live(self, subscriber: ThreadSubscriber) -> Iterator[bytes]:
        while True:
            batches = subscriber.take()
            if not batches:
                if subscriber.end_reason is not None:
                    return
                yield b""  # the server notes that there is nothing, and its thread may leave
                continue
            if self.joins:
                yield batches[0].body if len(batches) == 1 else b"".join([batch.body for batch in batches])
            else:
                for batch in batches:
                    yield from batch.parts
            self._count_batches(subscriber, batches)

    def _count_batches(self, subscriber: ThreadSubscriber, batches: list[Batch]) -> None:
        events = size = 0
        for batch in batches:
            if batch.count:  # else it is a heartbeat
                events += batch.count
                size += len(batch.body)
        self._count(subscriber, events, size)

    def _count(self, subscriber: ThreadSubscriber, events: int, size: int) -> None:
        # On the stream's own thread, which alone changes these two.
        subscriber.sent_events += events
        subscriber.sent += size
        self.pump.sent.add(subscriber.kind, events, size)
