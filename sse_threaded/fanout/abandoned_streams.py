"""Streams that no thread iterates any more: how the pump finds and closes them.

A server closes a stream when the response is over. But an app may drop a stream that it has begun. Or a circle of
references may hold it, such as that of an exception and its traceback. Then no server gives back its place.
"""

from __future__ import annotations

import enum
import gc
from collections import deque
from collections.abc import Callable

from .subscriber import Subscriber

# For servers that do not show their sockets. A stream's thread may stay away for so many heartbeats. After the
# first number the pump calls the garbage collector, as perhaps no thread iterates that stream any more. After the
# second it closes the stream, even if an object holds it (Bottle keeps the last body of a thread). After a
# stream's end the third number is used, as the looks are then a few seconds apart.
_DOUBTFUL_LOOKS, _LAST_LOOKS, _LAST_LOOKS_AT_END = 2, 6, 3

# Heartbeats between two calls of the garbage collector, at least.
_COLLECTS_APART = 4


class Abandonment(enum.Enum):
    """Whether a thread still iterates a stream."""

    NO = enum.auto()
    DOUBTFUL = enum.auto()
    CERTAIN = enum.auto()


def abandonment(subscriber: Subscriber) -> Abandonment:
    """Whether the thread of a subscriber has stayed away for long. The pump asks at each of its heartbeats."""
    looks = subscriber.count_idle_looks()
    if looks >= (_LAST_LOOKS if subscriber.end_reason is None else _LAST_LOOKS_AT_END):
        return Abandonment.CERTAIN
    return Abandonment.DOUBTFUL if looks >= _DOUBTFUL_LOOKS else Abandonment.NO


class AbandonedStreams:
    """The streams of one hub that the garbage collector has found or may find.

    :param heartbeat: seconds between two looks at a stream.
    """

    def __init__(self, heartbeat: float) -> None:
        self._seconds_apart = _COLLECTS_APART * heartbeat
        self._collects_again = 0.0  # not before (monotonic); the pump's thread's own
        # Functions that close streams to which no object refers any more. Any thread appends without a lock.
        self._closers: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._closers)

    def add(self, closer: Callable[[], None]) -> None:
        """Have the pump's thread close a stream. This takes no lock, so the garbage collector may call it."""
        self._closers.append(closer)

    def close_all(self) -> None:
        """Close the streams that were added. The pump's thread."""
        while self._closers:
            self._closers.popleft()()

    def collect(self, now: float) -> None:
        """Call the garbage collector, unless the last call was a moment ago. The pump's thread."""
        if now >= self._collects_again:
            self._collects_again = now + self._seconds_apart
            gc.collect()
