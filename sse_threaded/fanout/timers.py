"""When to look at which subscriber: a heap whose entries of those who left are dropped by and by.

Times are rounded up, so that many are looked at together: of 15,000 idle streams one is due every millisecond, and
to wake for each would cost several times what its heartbeat does.

Not thread-safe; the pump's lock guards it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count

from .subscriber import Subscriber

NEVER = float("inf")

# Entries of subscribers that left which may stay, whatever the number of those who are there.
_IDLE = 100


class Timers:
    """A set of (time, subscriber); times are those of the monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Subscriber]] = []
        self._numbers = count()  # subscribers have no order

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, subscriber: Subscriber, grain: float = 0.0) -> None:
        """Have a look at ``subscriber`` at ``when``, or up to ``grain`` seconds later; never for :data:`NEVER`."""
        if when < NEVER:
            if grain:
                when = math.ceil(when / grain) * grain
            heapq.heappush(self._heap, (when, next(self._numbers), subscriber))

    def next(self) -> float:
        """The earliest time, :data:`NEVER` when there is none."""
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Iterator[Subscriber]:
        """Take those out whose time has come and who have not left."""
        while self._heap and self._heap[0][0] <= now:
            subscriber = heapq.heappop(self._heap)[2]
            if not subscriber.closed:
                yield subscriber

    def shrink(self, members: int) -> None:
        """Drop the entries of those who left, when they are the most; ``members`` are there."""
        if len(self._heap) > 2 * members + _IDLE:
            self._heap = [entry for entry in self._heap if not entry[2].closed]
            heapq.heapify(self._heap)
