"""Streams without a thread: what the pump does for them that a stream's own thread does elsewhere.

Streams arrive from the server's threads; all else is called by the pump's thread.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections import deque

from ..errors import LogError
from ..protocol.batch import Batch
from ..throttled_log import ThrottledLog
from .budget import Budget
from .recent_events import RecentEvents
from .registry import Registry
from .socket_subscriber import SocketSubscriber
from .subscriber import Subscriber

_throttled = ThrottledLog(logging.getLogger(__name__))

# Seconds between two looks at what nobody announces: whether the process is to end, a timer set meanwhile.
TICK = 1.0

# Pages that are replayed between two looks at what else there is to do.
_REPLAYS_A_ROUND = 32


class ParkedStreams:
    """The parked streams of one process.

    :param members: among which they are.
    :param recent: from which those are replayed that were not away for long.
    :param budget: how many there may be.
    """

    def __init__(self, members: Registry, recent: RecentEvents, budget: Budget) -> None:
        self._members = members
        self._recent = recent
        self.budget = budget
        self._shut = False  # guarded by the members' lock
        self._replaying: deque[SocketSubscriber] = deque()  # each has a turn a round; appended to by any thread

    def arrive(self, parked: SocketSubscriber, head: bytes) -> bool:
        """Take over a stream, and send it ``head`` and what it missed; any thread.

        Returns whether the pump has to be woken: for more than can be done here.
        """
        members = self._members
        with members.lock:
            frame = self._remembered(parked)
        parked.begin(head, frame)
        with members.lock:
            shut = self._shut
            if not shut:
                earliest = min(members.timers.next(), time.monotonic() + TICK)
                members.take_in(parked)
                if parked.lost or parked.blocked:
                    members.touched.append(parked)
                elif frame is None or not self._attach(parked):
                    self._replaying.append(parked)
                else:
                    return members.timers.next() < earliest
        if shut:
            parked.end("shutdown", members.pace.farewell("shutdown"))
            self.done_with(parked)
        return not shut

    def _remembered(self, parked: SocketSubscriber) -> Batch | None:
        """The next events it missed, ``None`` if they must be read from the log; with the members' lock held."""
        cursor = parked.cursor
        if cursor is None or cursor.reset is not None or cursor.is_stale or cursor.epoch != self._recent.epoch:
            return None
        if not self._recent.floor <= cursor.after <= self._members.position:
            return None
        try:
            frame, cursor.after = self._recent.frame(parked.channels, cursor.after)
        except LogError:
            return None  # who reads the log says so
        return frame

    def _attach(self, parked: SocketSubscriber) -> bool:
        """Let it have events as they come, if it has all there were; with the members' lock held."""
        cursor = parked.cursor
        if cursor is None or cursor.is_stale or cursor.after < self._members.position:
            return False
        parked.cursor = None
        self._members.attach(parked, cursor.after)
        return True

    def shut(self) -> bool:
        """Take no more, unless some are there; returns which."""
        with self._members.lock:
            self._shut = not self._members.all
            return self._shut

    @property
    def is_replaying(self) -> bool:
        """Whether some can be given another page at once."""
        return bool(self._replaying)

    def replay(self) -> None:
        """A page for some of those who are behind, so that those who are not need not wait for long."""
        for _ in range(min(len(self._replaying), _REPLAYS_A_ROUND)):
            parked = self._replaying.popleft()
            cursor = parked.cursor
            if cursor is None or parked.blocked:
                continue  # ended; or its turn comes when its socket is writable
            try:
                with self._members.lock:
                    frame = self._remembered(parked)
                if frame is None:
                    frame = Batch(cursor.read_wire())
                    if not frame.wire:
                        # All there is; and nothing can come in between: it is this thread that hands events out.
                        cursor.after = max(cursor.after, self._members.position)
            except LogError as error:
                _throttled.warning("go on", "a stream could not go on: %s", error)
                with self._members.lock:
                    self._members.end(parked, "unavailable")
                continue
            if frame.wire and parked.put(frame):
                self._members.touched.append(parked)
                continue
            with self._members.lock:
                if not self._attach(parked):
                    self._replaying.append(parked)

    def writable(self, subscriber: Subscriber) -> None:
        """Its socket takes something again."""
        subscriber.writable()
        self._members.touched.append(subscriber)

    def tend(self) -> None:
        """See to those to which something happened: done with, to be waited for, or to go on."""
        touched = self._members.touched
        while touched:
            subscriber = touched.popleft()
            if subscriber.closed:
                continue
            if subscriber.lost and subscriber.ended is None:
                with self._members.lock:
                    self._members.end(subscriber, "gone")
            if isinstance(subscriber, SocketSubscriber):
                self._tend_parked(subscriber)
            elif subscriber.blocked != subscriber.waits:
                self.listen(subscriber)
                with self._members.lock:
                    self._members.limit_wait(subscriber)

    def _tend_parked(self, parked: SocketSubscriber) -> None:
        if parked.over:
            with self._members.lock:
                self._members.let_go(parked)
            self.done_with(parked)
        elif parked.blocked != parked.waits:
            self.listen(parked)
            if not parked.blocked and parked.cursor is not None:
                self._replaying.append(parked)

    def listen(self, subscriber: Subscriber) -> None:
        """Wait for what matters: that it hangs up, while that can be told; that it takes more, if it must."""
        subscriber.waits = subscriber.blocked
        events = 0 if subscriber.heard else selectors.EVENT_READ
        if subscriber.waits:
            events |= selectors.EVENT_WRITE
        self._members.unwatch(subscriber)
        self._members.watch(subscriber, events)

    def done_with(self, parked: SocketSubscriber) -> None:
        """Give its socket back."""
        self.budget.give_back()
        parked.complete = not parked.lost
        if parked.ended == "shutdown":
            parked.sever()  # as EventStream.close() does
        finished, parked.finished = parked.finished, _nothing  # it knows its exchange, which knows it
        finished()


def _nothing() -> None:
    pass
