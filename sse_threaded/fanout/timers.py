"""The times at which the pump must look at its subscribers, in a heap.

The entry of a subscriber that has left stays until its time, or until most entries are such.

Times are rounded up, so that the pump looks at many subscribers together. Of 15,000 idle streams one is due every
millisecond. To wake up for each would cost several times as much as its heartbeat.

This is not thread-safe. The registry's lock guards it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count

from .subscriber import Subscriber

NEVER = float("inf")

# Entries of subscribers that have left may stay up to this number, however few subscribers remain.
_ALLOWED_LEFTOVERS = 100


class Timers:
    """A set of (time, subscriber); times are those of the monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Subscriber]] = []
        self._numbers = count()  # subscribers have no order

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, subscriber: Subscriber, grain: float = 0.0) -> bool:
        """Look at ``subscriber`` at ``when``, or up to ``grain`` seconds later; never for :data:`NEVER`.

        Returns whether this is the earliest time now.
        """
        if when == NEVER:
            return False
        if grain:
            when = math.ceil(when / grain) * grain
        entry = (when, next(self._numbers), subscriber)
        heapq.heappush(self._heap, entry)
        return self._heap[0] is entry

    def next(self) -> float:
        """The earliest time, :data:`NEVER` if there are no entries."""
        return self._heap[0][0] if self._heap else NEVER

    def due(self, now: float) -> Iterator[Subscriber]:
        """Remove the subscribers whose time has come, and yield those that have not left."""
        while self._heap and self._heap[0][0] <= now:
            subscriber = heapq.heappop(self._heap)[2]
            if not subscriber.state.is_closed:
                yield subscriber

    def shrink(self, subscribers: int) -> None:
        """Drop the entries of subscribers that have left, if most entries are such.

        :param subscribers: how many have not left.
        """
        if len(self._heap) > 2 * subscribers + _ALLOWED_LEFTOVERS:
            self._heap = [entry for entry in self._heap if not entry[2].state.is_closed]
            heapq.heapify(self._heap)
