"""How many connections each worker of one server has, so that new ones go to the worker with the fewest.

All workers wait on the same listener, and the kernel gives a connection to whoever asks first. With short requests
that evens out; streams stay where they are for minutes. A few numbers in memory that the workers share say who
should leave the next one to the others.
"""

from __future__ import annotations

import mmap
import time

# Workers that can be told apart: those of one moment, and of a reload.
_SLOTS = 1024

# Seconds after which a worker that says nothing counts as gone.
_STALE = 3

# Where it is counted how often a worker came.
_ARRIVALS = _SLOTS * 2


class WorkerLoad:
    """The numbers; made by the master, before the first worker is forked."""

    def __init__(self) -> None:
        # Two numbers a slot, written by its worker alone: connections, and when it said so (monotonic seconds).
        self._numbers = memoryview(mmap.mmap(-1, _SLOTS * 8 + 4)).cast("I")
        # This worker's own: which it is, where those of the others are, and at how many arrivals that was.
        self._worker = 0
        self._others: list[int] = []
        self._arrivals = 0

    def tell(self, worker: int, connections: int) -> None:
        """Say how many connections a worker has.

        :param worker: which, by gunicorn's count.
        """
        at = worker % _SLOTS * 2
        now = int(time.monotonic())
        arrives = self._numbers[at + 1] <= now - _STALE
        self._numbers[at] = connections
        self._numbers[at + 1] = now
        if arrives:  # of two at the same moment one may not be counted: it is seen at the next look
            self._numbers[_ARRIVALS] = (self._numbers[_ARRIVALS] + 1) % 2**32

    def retire(self, worker: int) -> None:
        """Say that a worker takes no more."""
        self._numbers[worker % _SLOTS * 2 + 1] = 0

    def look(self, worker: int) -> None:
        """See who the others are; now and then, as it takes a while."""
        oldest = int(time.monotonic()) - _STALE
        mine = worker % _SLOTS * 2
        numbers = self._numbers
        self._worker, self._arrivals = worker, numbers[_ARRIVALS]
        self._others = [at for at in range(0, _SLOTS * 2, 2) if numbers[at + 1] > oldest and at != mine]

    def lead(self, connections: int) -> int | None:
        """How many connections more than the worker with the fewest somebody has who has ``connections``; ``None``
        where there is no other.
        """
        if self._numbers[_ARRIVALS] != self._arrivals:
            self.look(self._worker)
        return connections - min(self._numbers[at] for at in self._others) if self._others else None
