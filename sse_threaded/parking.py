"""Streams without a thread: what the pump does for them that a stream's own thread does elsewhere.

Streams arrive from the server's threads; all else is called by the pump's thread.
"""

from __future__ import annotations

import logging
import selectors
from collections import deque

from .errors import LogError
from .frame import Frame
from .limits import Budget
from .members import Members
from .parked import Parked
from .subscriber import Subscriber

_log = logging.getLogger(__name__)

# Pages that are replayed between two looks at what else there is to do.
_REPLAYS_A_ROUND = 32


class Parking:
    """The parked streams of one process.

    :param members: among which they are.
    :param budget: how many there may be.
    """

    def __init__(self, members: Members, budget: Budget) -> None:
        self._members = members
        self.budget = budget
        self._arriving: deque[Parked] = deque()  # guarded by the members' lock
        self._replaying: deque[Parked] = deque()  # each has a turn a round

    def arrive(self, parked: Parked) -> None:
        """Let the pump take it over at its next round; with the members' lock held."""
        self._arriving.append(parked)

    @property
    def is_empty(self) -> bool:
        """Whether none is on its way; with the members' lock held."""
        return not self._arriving

    @property
    def is_replaying(self) -> bool:
        """Whether some can be given another page at once."""
        return bool(self._replaying)

    def take_arrivals(self) -> None:
        """Take over those that have come."""
        with self._members.lock:
            while self._arriving:
                parked = self._arriving.popleft()
                parked.connection.setblocking(False)
                self._members.take_in(parked)
                self._replaying.append(parked)

    def replay(self) -> None:
        """A page for some of those who are behind, so that those who are not need not wait for long."""
        for _ in range(min(len(self._replaying), _REPLAYS_A_ROUND)):
            parked = self._replaying.popleft()
            cursor = parked.cursor
            if cursor is None or parked.blocked:
                continue  # ended; or its turn comes when its socket is writable
            try:
                wire = cursor.read_wire()
            except LogError as error:
                _log.error("a stream could not go on: %s", error)
                with self._members.lock:
                    self._members.end(parked, "unavailable")
                continue
            if not wire:
                # Nothing can have come in between: it is this thread that hands events out.
                parked.cursor = None
                with self._members.lock:
                    self._members.attach(parked, cursor.after)
            elif parked.put(Frame(wire)):
                self._members.touched.append(parked)
            else:
                self._replaying.append(parked)

    def writable(self, subscriber: Subscriber) -> None:
        """Its socket takes something again."""
        if isinstance(subscriber, Parked):
            subscriber.flush()
            self._members.touched.append(subscriber)

    def tend(self) -> None:
        """See to those to which something happened: done with, to be waited for, or to go on."""
        touched = self._members.touched
        while touched:
            parked = touched.popleft()
            if not isinstance(parked, Parked) or parked.closed:
                continue
            if parked.lost and parked.ended is None:
                with self._members.lock:
                    self._members.end(parked, "gone")
            if parked.over:
                with self._members.lock:
                    self._members.let_go(parked)
                self.done_with(parked)
            elif parked.blocked != parked.waits:
                parked.waits = parked.blocked
                self.listen(parked)
                if not parked.blocked and parked.cursor is not None:
                    self._replaying.append(parked)

    def listen(self, parked: Parked) -> None:
        """Wait for what matters: that it hangs up, while that can be told; that it takes more, if it must."""
        events = 0 if parked.talks else selectors.EVENT_READ
        if parked.blocked:
            events |= selectors.EVENT_WRITE
        self._members.unwatch(parked)
        self._members.watch(parked, events)

    def done_with(self, parked: Parked) -> None:
        """Give its socket back."""
        self.budget.give_back()
        parked.complete = not parked.lost
        if parked.ended == "shutdown":
            parked.sever()  # as EventStream.close() does
        finished, parked.finished = parked.finished, _nothing  # it knows its exchange, which knows it
        finished()


def _nothing() -> None:
    pass
