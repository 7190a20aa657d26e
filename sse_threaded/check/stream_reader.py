"""Reads one stream, and notes when each piece comes. One thread uses it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

from ..protocol.decoder import EventStreamDecoder
from .exchange import BytesCame, Ended, Exchange, HeadCame, NotConnected
from .observations import Arrival, End, Head, Listening

# Seconds. Pieces that come within this time were sent together; a proxy cuts one write into several.
_TOGETHER = 0.02

# Window bits that make zlib recognize gzip and zlib data.
_ANY_ZLIB = 47

_ZLIB = ("gzip", "x-gzip", "deflate")


class StreamReader:
    """Follows an exchange.

    :param exchange: the request; the reader closes it.
    :ivar exchange: as given.
    :ivar head: the head of the answer; ``None`` before it came.
    :ivar coding: its content coding; ``""`` for none.
    :ivar is_over: whether nothing more can come.
    :ivar refusal: why there is no connection; ``""`` if there is one.
    :ivar size: how many bytes of the body have come.
    :ivar redirects: the addresses that led to the exchange; ``loops`` if they were too many.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.head: Head | None = None
        self.coding = ""
        self.is_over = False
        self.refusal = ""
        self.size = 0
        self.redirects: tuple[str, ...] = ()
        self.loops = False
        self._head_at = 0.0
        self._clock = 0.0
        self._arrivals: list[Arrival] = []
        self._end = End.OPEN
        self._ended_at: float | None = None
        self._error = ""
        self._decoder = EventStreamDecoder()
        self._undo: Callable[[bytes], bytes] | None = bytes  # the content coding; None if it is unknown

    @property
    def is_stream(self) -> bool:
        """Whether ``EventSource`` accepts the answer."""
        return self.head is not None and self.head.is_stream

    @property
    def is_decoded(self) -> bool:
        """Whether the content coding is known."""
        return self._undo is not None

    @property
    def comments(self) -> int:
        """How many comment lines have come."""
        return self._decoder.comments

    @property
    def heartbeats(self) -> int:
        """How many pieces with comments have come, after the first piece."""
        return sum(1 for arrival in self._arrivals[1:] if arrival.comments)

    def step(self, seconds: float) -> bool:
        """Take the next piece; return whether one came in time."""
        news = self.exchange.next(seconds)
        if isinstance(news, HeadCame):
            self._take_head(news)
        elif isinstance(news, BytesCame):
            self._take_bytes(news)
        elif isinstance(news, Ended):
            self.is_over = True
            self._end = End.REGULAR if news.is_regular else End.CUT
            self._ended_at, self._error = news.at, news.error
        elif isinstance(news, NotConnected):
            self.is_over = True
            self.refusal = news.error
        return news is not None

    def read_until(self, condition: Callable[[], object], deadline: float) -> bool:
        """Read until ``condition()`` is true, the answer ends or the time is over; return whether it is true.

        :param deadline: on the monotonic clock.
        """
        while not condition():
            left = deadline - time.monotonic()
            if self.is_over or left <= 0:
                return False
            self.step(left)
        return True

    def seen(self) -> Listening:
        """Return everything so far."""
        ended_at = time.monotonic() if self._ended_at is None else self._ended_at
        return Listening(
            head=self.head,
            head_at=self._head_at,
            clock=self._clock,
            arrivals=tuple(self._arrivals),
            end=self._end,
            seconds=ended_at - self.exchange.started,
            redirects=self.redirects,
            loops=self.loops,
            coding=self.coding,
            error=self._error,
            is_decoded=self.is_decoded,
        )

    def close(self) -> Listening:
        """Close the connection; return everything that has come."""
        seen = self.seen()
        self.exchange.close()
        return seen

    def _take_head(self, news: HeadCame) -> None:
        self.head, self._clock = news.head, news.clock
        self._head_at = news.at - self.exchange.started
        coding = news.head.value("Content-Encoding").lower()
        if coding in ("", "identity"):
            return
        self.coding = coding
        self._undo = zlib.decompressobj(_ANY_ZLIB).decompress if coding in _ZLIB else None

    def _take_bytes(self, news: BytesCame) -> None:
        at = news.at - self.exchange.started
        self.size += len(news.data)
        comments = self._decoder.comments
        self._decoder.retry = None
        events = self._decoder.feed(self._decompressed(news.data))
        arrival = Arrival(
            at, len(news.data), tuple(events), self._decoder.comments - comments, self._decoder.retry
        )
        last = self._arrivals[-1] if self._arrivals else None
        if last is not None and at - last.at < _TOGETHER:
            self._arrivals[-1] = _joined(last, arrival)
        else:
            self._arrivals.append(arrival)

    def _decompressed(self, data: bytes) -> bytes:
        if self._undo is None:
            return b""
        try:
            return self._undo(data)
        except zlib.error:
            self._undo = None
            return b""


def _joined(one: Arrival, other: Arrival) -> Arrival:
    return Arrival(
        one.at,
        one.size + other.size,
        one.events + other.events,
        one.comments + other.comments,
        one.retry if other.retry is None else other.retry,
    )
