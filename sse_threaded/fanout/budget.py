"""How many streams there may be, and how long each lives."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

from ..errors import SSEError
from ..protocol.event import END, START, UNAVAILABLE, notice


class Overloaded(SSEError):
    """There is no room for a stream: the budget is spent, or the system gives no more threads."""


class Budget:
    """How many streams there may be of one kind: those that hold a thread, or those that hold a connection only.
    The hubs of a process share it that have none of their own.

    :param limit: the number, ``None`` for no bound.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = threading.Lock()  # guards taken

    def take(self) -> None:
        """Take a place.

        :raises Overloaded: there is none.
        """
        with self._lock:
            if self.limit is not None and self.taken >= self.limit:
                raise Overloaded(f"all {self.limit} streams of this process are taken")
            self.taken += 1

    def give_back(self) -> None:
        """Give a place back."""
        with self._lock:
            self.taken -= 1

    def after_fork_in_child(self) -> None:
        """The streams stayed with the parent."""
        self.taken = 0
        self._lock = threading.Lock()


@dataclass(frozen=True)
class Pace:
    """The times of a stream.

    :param retry: the reconnection time that streams begin with, milliseconds.
    :param heartbeat: seconds between two heartbeats, ``None`` for none.
    :param lease: the longest life of a stream in seconds, ``None`` for no bound; each gets 80 to 100 % of it.
    """

    retry: int
    heartbeat: float | None
    lease: float | None

    def preface(self, event_id: str | None) -> bytes:
        """The first bytes of a stream: the reconnection time, and where in the log it begins, if that is known.

        Clients keep the id (9.2.6): one that is cut off before its first event resumes from here and misses
        nothing.
        """
        return notice(START, self.retry, event_id)

    def farewell(self, reason: str) -> bytes:
        """The last bytes of a stream that ends for ``reason``: when to come back, drawn at random.

        On a shutdown all streams end at once, so their clients are spread over the usual time. Leases end one
        by one, so that client may be back within a second.
        """
        longest = {"lease": min(self.retry, 1000), "overload": 2 * self.retry}.get(reason, self.retry)
        return notice(END, self._drawn(longest))

    def unavailable(self, *, shutdown: bool = False) -> bytes:
        """The whole answer to a client that gets no stream now: when to come back, drawn at random.

        :param shutdown: whether the process ends, so that another one will be there soon. Otherwise, the default,
            the client waits twice as long.
        """
        return notice(UNAVAILABLE, self._drawn(self.retry if shutdown else 2 * self.retry))

    @staticmethod
    def _drawn(longest: int) -> int:
        return round(random.uniform(longest / 5, longest))
