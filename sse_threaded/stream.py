"""A stream: the body of a ``text/event-stream`` response, over a subscriber, on the server's thread.

It subscribes when the server first asks it for bytes and lets go in ``close()``, which every WSGI server
calls; so a response that is never sent (HEAD, an error in a middleware) holds nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from .errors import HubClosed, LogError
from .event import comment
from .limits import Overloaded, Pace
from .pump import Pump
from .replay import Cursor
from .subscriber import Subscriber

_log = logging.getLogger(__name__)


class EventStream:
    """An iterable of chunks that ends when its subscriber does.

    :param pump: who hands out events.
    :param pace: the stream's times.
    :param subscriber: the client, not yet admitted.
    :param cursor: where the client is; ``None`` when the log could not be read.
    """

    def __init__(self, pump: Pump, pace: Pace, subscriber: Subscriber, cursor: Cursor | None) -> None:
        self._pump = pump
        self._pace = pace
        self._subscriber = subscriber
        self._cursor = cursor
        self._chunks = self._run()
        self._admitted = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Let go of everything; idempotent. The server calls it on the stream's thread, before it closes the
        socket.
        """
        if self._admitted:
            self._admitted = False
            self._pump.leave(self._subscriber)
            _log.debug("stream of %s ended: %s", self._subscriber.channels, self._subscriber.ended or "gone")
            if self._subscriber.ended == "shutdown":
                # The response is complete. A server that is told to stop would wait some seconds for the
                # client to close its idle connection: be the first.
                self._subscriber.sever()

    def _run(self) -> Iterator[bytes]:
        subscriber = self._subscriber
        if self._cursor is None:
            yield self._come_back("the log cannot be read")
            return
        try:
            self._pump.admit(subscriber)
            self._admitted = True
            # A reset brings an id of its own; one before it would let a client that is cut off there resume
            # as if nothing were missing.
            head = self._pace.preface(None if self._cursor.reset else self._cursor.event_id)
            for wire in self._replay(self._cursor):
                yield head + wire
                head = b""
            if head:
                yield head
        except (Overloaded, HubClosed) as error:
            yield self._come_back(str(error))
            return
        except LogError as error:
            _log.error("a stream could not begin: %s", error)
            yield self._come_back("the log cannot be read")
            return
        while wire := subscriber.take():
            yield wire
        if subscriber.ended != "gone":
            yield subscriber.farewell

    def _replay(self, cursor: Cursor) -> Iterator[bytes]:
        # Read on until nothing is left, then attach, then read what came in between: up to the position at
        # which the queue took over. So the queue cannot fill up during a long replay.
        upto: int | None = None
        while self._subscriber.ended is None:
            wire = cursor.read_wire(upto)
            if wire:
                yield wire
            elif upto is not None:
                return
            else:
                upto = self._pump.attach(self._subscriber, cursor.after)
                if upto <= cursor.after:
                    return

    def _come_back(self, why: str) -> bytes:
        # Any status but 200 would stop EventSource for good (9.2.3), so there is no 503 here.
        return self._pace.farewell("overload") + comment(f"{why}; come back after the reconnection time")
