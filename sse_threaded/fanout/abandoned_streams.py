"""Streams that nobody iterates any more: how the pump finds them, and what it does about them.

A server closes a stream when it is done with it. There are other ends: an app drops a stream that it has begun, or
a circle of references holds it, such as that of an exception and its traceback. Then nobody gives back its place.
"""

from __future__ import annotations

import enum
import gc
from collections import deque
from collections.abc import Callable

from .subscriber import Subscriber

# Where a server does not show its sockets: for how many heartbeats a stream's thread may not come before the
# garbage collector is called, as nobody may iterate that stream any more; and before the stream is closed, whoever
# holds it (Bottle keeps the last body of a thread). After its end fewer do, which are some seconds apart.
_DOUBTFUL_LOOKS, _LAST_LOOKS, _LAST_LOOKS_AT_END = 2, 6, 3

# The garbage collector is called no more often than once in so many heartbeats.
_COLLECTS_APART = 4


class Abandonment(enum.Enum):
    """Whether a thread still comes for a stream."""

    NO = enum.auto()
    DOUBTFUL = enum.auto()
    CERTAIN = enum.auto()


def abandonment(subscriber: Subscriber) -> Abandonment:
    """Whether the thread of a subscriber has stayed away for long; asked at each of its heartbeats."""
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
        # What closes streams that nobody holds any more. Any thread appends without a lock.
        self._closers: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._closers)

    def add(self, closer: Callable[[], None]) -> None:
        """Have the pump's thread close a stream. It takes no lock, so the garbage collector may call it."""
        self._closers.append(closer)

    def close_all(self) -> None:
        """Close the streams that were added. The pump's thread."""
        while self._closers:
            self._closers.popleft()()

    def collect(self, now: float) -> None:
        """Call the garbage collector, unless it was called a moment ago. The pump's thread."""
        if now >= self._collects_again:
            self._collects_again = now + self._seconds_apart
            gc.collect()
