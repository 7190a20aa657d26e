"""When a worker accepts connections, and how many at a time.

Only the thread that leads uses this.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .worker_load import WorkerLoad

# Connections accepted before the thread that leads looks at other events.
_ACCEPTS_A_ROUND = 64

# How many connections a worker may have more than another before it leaves new ones to that one. And for how many
# seconds it does: for each that it has more, and at most. The other worker may be busy, or stuck.
_LEAD = 4
_PAUSE_A_LEAD, _LONGEST_PAUSE = 0.0005, 0.02


class AcceptPolicy:
    """The decisions of one worker.

    :param load: the connections of all workers that share its listeners; ``None`` where it shares them with no
        worker.
    :param clock: default the monotonic one.

    :ivar paused_until: when the worker accepts again (monotonic); 0 if it does not pause.
    """

    def __init__(self, load: WorkerLoad | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._gave_way = False
        self.paused_until = 0.0

    def share(self, connections: int) -> int:
        """How many connections to accept now; 0 begins a pause, in which a worker with fewer may take them.

        :param connections: how many the worker has.
        """
        lead = None if self._load is None else self._load.lead(connections)
        if lead is None or lead < -_ACCEPTS_A_ROUND:
            return _ACCEPTS_A_ROUND
        if lead < _LEAD:
            self._gave_way = False
            return _LEAD - lead
        if self._gave_way:  # and the other has not taken them: it is busy
            self._gave_way = False
            return _LEAD
        self._gave_way = True
        self.pause(min(lead * _PAUSE_A_LEAD, _LONGEST_PAUSE))
        return 0

    def pause(self, seconds: float) -> None:
        """Accept nothing for so long."""
        self.paused_until = self._clock() + seconds

    def pause_left(self) -> float:
        """How many seconds of a pause are left; 0 or less after a pause, which is over from here on."""
        left = self.paused_until - self._clock()
        if left <= 0.0:
            self.paused_until = 0.0
        return left
