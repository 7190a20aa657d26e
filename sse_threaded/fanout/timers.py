"""When to look at which subscriber: a heap of times.

The entry of a subscriber that left stays until its time, or until such entries are the most.

Times are rounded up, so that many subscribers are looked at together: of 15,000 idle streams one is due every
millisecond, and to wake up for each would cost several times what its heartbeat does.

Not thread-safe; the registry's lock guards it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count

from .subscriber import Subscriber

NEVER = float("inf")

# Entries of subscribers that left which may stay, whatever the number of those who are there.
_ALLOWED_LEFTOVERS = 100


class Timers:
    """A set of (time, subscriber); times are those of the monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Subscriber]] = []
        self._numbers = count()  # subscribers have no order

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, subscriber: Subscriber, grain: float = 0.0) -> None:
        """Look at ``subscriber`` at ``when``, or up to ``grain`` seconds later; never for :data:`NEVER`."""
        if when < NEVER:
            if grain:
                when = math.ceil(when / grain) * grain
            heapq.heappush(self._heap, (when, next(self._numbers), subscriber))

    def next(self) -> float:
        """The earliest time, :data:`NEVER` when there is none."""
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Iterator[Subscriber]:
        """Remove and give the subscribers whose time has come and that have not left."""
        while self._heap and self._heap[0][0] <= now:
            subscriber = heapq.heappop(self._heap)[2]
            if not subscriber.state.is_closed:
                yield subscriber

    def shrink(self, subscribers: int) -> None:
        """Drop the entries of those that left when they are the most; ``subscribers`` have not left."""
        if len(self._heap) > 2 * subscribers + _ALLOWED_LEFTOVERS:
            self._heap = [entry for entry in self._heap if not entry[2].state.is_closed]
            heapq.heapify(self._heap)
