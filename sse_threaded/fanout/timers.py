"""The times at which the pump must look at its subscribers.

Times are rounded up, so that the pump looks at many subscribers together. Of 15,000 idle streams one is due every
millisecond. To wake up for each would cost several times as much as its heartbeat. So there are few times, each
with many subscribers.

The entry of a subscriber that has left stays until its time, or until most entries are such.

This is not thread-safe. The registry's lock guards it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from .subscriber import Subscriber

NEVER = float("inf")

# Entries of subscribers that have left may stay up to this number, however few subscribers remain.
_ALLOWED_LEFTOVERS = 100


class Timers:
    """A set of (time, subscriber); times are those of the monotonic clock."""

    def __init__(self) -> None:
        self._times: list[float] = []  # a heap of the keys below
        self._subscribers: dict[float, list[Subscriber]] = {}
        self._entries = 0

    def __len__(self) -> int:
        return self._entries

    def add(self, when: float, subscriber: Subscriber, grain: float = 0.0) -> bool:
        """Look at ``subscriber`` at ``when``, or up to ``grain`` seconds later; never for :data:`NEVER`.

        Returns whether this is a new earliest time.
        """
        if when == NEVER:
            return False
        if grain:
            when = math.ceil(when / grain) * grain
        self._entries += 1
        others = self._subscribers.get(when)
        if others is not None:
            others.append(subscriber)
            return False
        self._subscribers[when] = [subscriber]
        heapq.heappush(self._times, when)
        return self._times[0] == when

    def next(self) -> float:
        """The earliest time, :data:`NEVER` if there are no entries."""
        return self._times[0] if self._times else NEVER

    def due(self, now: float) -> Iterator[Subscriber]:
        """Remove the subscribers whose time has come, and yield those that have not left."""
        while self._times and self._times[0] <= now:
            # One by one, as the look at a subscriber may fail: the next look then begins after it.
            subscribers = self._subscribers[self._times[0]]
            subscribers.reverse()
            while subscribers:
                subscriber = subscribers.pop()
                self._entries -= 1
                if not subscriber.state.is_closed:
                    yield subscriber
            del self._subscribers[heapq.heappop(self._times)]

    def shrink(self, subscribers: int) -> None:
        """Drop the entries of subscribers that have left, if most entries are such.

        :param subscribers: how many have not left.
        """
        if self._entries > 2 * subscribers + _ALLOWED_LEFTOVERS:
            for when in self._times:
                self._subscribers[when] = [each for each in self._subscribers[when] if not each.state.is_closed]
            self._times = [when for when in self._times if self._subscribers[when]]
            heapq.heapify(self._times)
            self._subscribers = {when: self._subscribers[when] for when in self._times}
            self._entries = sum(map(len, self._subscribers.values()))
