"""How many connections each worker of one server has, so that new ones go to the worker with the fewest.

All workers wait on the same listener, and the kernel gives a connection to the worker that asks first. With short
requests that evens out, but streams stay where they are for minutes. The workers share a few numbers in memory,
which say which worker should leave the next connection to the others.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

# How many workers have a slot of their own: those of one moment, and of a reload.
_SLOTS = 1024

# Seconds without a report, after which a worker counts as ended.
_STALE = 3

# Where the workers count how often one of them has arrived.
_ARRIVALS = _SLOTS * 2


class WorkerLoad:
    """The shared numbers. The master makes them, before it forks the first worker.

    :param clock: default the monotonic one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Two numbers a slot, written by its worker alone: connections, and when it said so (monotonic seconds).
        self._numbers = memoryview(mmap.mmap(-1, _SLOTS * 8 + 4)).cast("I")
        # This worker's own: which it is, where those of the others are, and at how many arrivals that was.
        self._worker = 0
        self._others: list[int] = []
        self._arrivals = 0

    def tell(self, worker: int, connections: int | None) -> None:
        """Say how many connections a worker has.

        :param worker: which, by gunicorn's count.
        :param connections: ``None`` for a worker that takes no more.
        """
        at = worker % _SLOTS * 2
        if connections is None:
            self._numbers[at + 1] = 0
            return
        now = int(self._clock())
        arrives = self._numbers[at + 1] <= now - _STALE
        self._numbers[at] = connections
        self._numbers[at + 1] = now
        if arrives:  # of two at the same moment one may not be counted: it is seen at the next look
            self._numbers[_ARRIVALS] = (self._numbers[_ARRIVALS] + 1) % 2**32

    def look(self, worker: int) -> None:
        """See which other workers there are. It takes a while, so call it seldom."""
        oldest = int(self._clock()) - _STALE
        mine = worker % _SLOTS * 2
        numbers = self._numbers
        self._worker, self._arrivals = worker, numbers[_ARRIVALS]
        self._others = [at for at in range(0, _SLOTS * 2, 2) if numbers[at + 1] > oldest and at != mine]

    def lead(self, connections: int) -> int | None:
        """How many more connections these are than the worker with the fewest has; ``None`` without another."""
        if self._numbers[_ARRIVALS] != self._arrivals:
            self.look(self._worker)
        return connections - min(self._numbers[at] for at in self._others) if self._others else None
