"""A stream: the body of a ``text/event-stream`` response, over a subscriber, on the server's thread.

It subscribes when the server first asks it for bytes and lets go in ``close()``, which every WSGI server
calls; so a response that is never sent (HEAD, an error in a middleware) holds nothing.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .errors import HubClosed, LogError
from .event import comment
from .limits import Overloaded, Pace
from .parked import Parked, Space
from .pump import Pump
from .queued import Queued
from .replay import Cursor

_log = logging.getLogger(__name__)


class Seat(NamedTuple):
    """What a stream's subscriber is made of."""

    channels: tuple[str, ...]
    size: int
    connection: socket.socket | None


class EventStream:
    """An iterable of chunks that ends when its subscriber does.

    :param pump: who hands out events.
    :param pace: the stream's times.
    :param seat: what its subscriber will be made of.
    :param cursor: where the client is; ``None`` when the log could not be read.
    :param space: where the server offers to park it; ``None``, the default, where it does not.

    :ivar first: the first bytes it gave, by which a server sees that they reached it unchanged.
    """

    def __init__(
        self,
        pump: Pump,
        pace: Pace,
        seat: Seat,
        cursor: Cursor | None,
        space: Space | None = None,
    ) -> None:
        self._pump = pump
        self._pace = pace
        self._seat = seat
        self._subscriber: Queued | None = None  # once it is admitted
        self._cursor = cursor
        self._chunks: Iterator[bytes] = self._run()
        self._reserved = False
        self._space = space
        self.first = b""

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks  # not self: a call less for each chunk

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Let go of everything; idempotent. The server calls it on the stream's thread, before it closes the
        socket.
        """
        if self._reserved:
            self._reserved = False
            self._pump.release()
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            self._pump.leave(subscriber)
            _log.debug("stream of %s ended: %s", subscriber.channels, subscriber.ended or "gone")
            if subscriber.ended == "shutdown":
                # The response is complete. A server that is told to stop would wait some seconds for the
                # client to close its idle connection: be the first.
                subscriber.sever()

    def park(self, connection: socket.socket, chunked: bool, finished: Callable[[], None]) -> Parked:
        """Make of it a parked stream, after its first bytes and instead of any further ones.

        :param connection: the client's socket, to be left alone until ``finished`` is called.
        :param chunked: whether the body is sent in chunks.
        :param finished: see :class:`Parked`.
        """
        assert self._reserved and self._cursor is not None
        self._reserved = False  # the place is the parked one's now
        cursor, self._cursor = self._cursor, None
        self._chunks = iter(())  # what is kept for each open page should be little
        return Parked(
            self._seat.channels,
            self._seat.size,
            connection,
            chunked=chunked,
            cursor=cursor,
            finished=finished,
        )

    def hand_over(self, parked: Parked, head: bytes) -> None:
        """Give the pump what :meth:`park` made; nobody else may use its socket from here on.

        :param head: what is to be sent before anything else.
        """
        self._pump.adopt(parked, head)

    def _run(self) -> Iterator[bytes]:
        try:
            self._pump.require_open()
            if self._cursor is None:
                yield self._come_back("the log cannot be read")
                return
            # A reset brings an id of its own; one before it would let a client that is cut off there resume
            # as if nothing were missing.
            head = self._pace.preface(None if self._cursor.reset else self._cursor.event_id)
            if self._space is not None:
                self._pump.reserve()
                self._reserved = True
                self._space.stream = self
                self.first = head
                yield head
                # Asked for more, so it cannot be parked; it goes on like any other.
                if self._space.stream is self:
                    self._space.stream = None
                head = b""
                self._reserved = False
                self._pump.release()
            subscriber = Queued(*self._seat)
            self._pump.admit(subscriber)
            self._subscriber = subscriber
            for wire in self._replay(subscriber, self._cursor):
                yield head + wire
                head = b""
            if head:
                yield head
        except Overloaded as error:
            yield self._come_back(str(error))
            return
        except HubClosed as error:
            # A reload: somebody else is there in a moment, so it comes with those whose streams end now.
            yield self._come_back(str(error), shutdown=True)
            return
        except LogError as error:
            _log.error("a stream could not begin: %s", error)
            yield self._come_back("the log cannot be read")
            return
        while wire := subscriber.take():
            yield wire
        if subscriber.ended != "gone":
            yield subscriber.farewell

    def _replay(self, subscriber: Queued, cursor: Cursor) -> Iterator[bytes]:
        # Read on until nothing is left, then attach, then read what came in between: up to the position at
        # which the queue took over. So the queue cannot fill up during a long replay.
        upto: int | None = None
        while subscriber.ended is None:
            wire = cursor.read_wire(upto)
            if wire:
                yield wire
            elif upto is not None:
                return
            else:
                upto = self._pump.attach(subscriber, cursor.after)
                if upto <= cursor.after:
                    return

    def _come_back(self, why: str, *, shutdown: bool = False) -> bytes:
        # Any status but 200 would stop EventSource for good (9.2.3), so there is no 503 here.
        return self._pace.unavailable(shutdown=shutdown) + comment(f"{why}; come back after the reconnection time")
