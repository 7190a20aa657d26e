"""Tasks for a pool of threads, run one after the other for as long as they are short.

A pool that is given a thousand short tasks wakes all its threads, which then fight for the interpreter lock. Here
a thread that has done a task takes the next one itself. Only when it has been at one for longer than
:data:`PATIENCE` is another thread woken, so a task that waits for a database holds nobody up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# Seconds that a task waits for a thread that is at another one. Most requests are done by then; and so much later
# a request beside a slow one begins, at worst.
PATIENCE = 0.005


class Runners:
    """The threads at work.

    :param pool: whose threads they are.
    :param limit: how many there may be: the pool's size.
    :param idle: called by a thread that finds nothing more to do.
    """

    def __init__(self, pool: ThreadPoolExecutor, limit: int, idle: Callable[[], None]) -> None:
        self._pool = pool
        self._limit = limit
        self._idle = idle
        self._tasks: deque[Callable[[], None]] = deque()
        # Guards _active; who looks whether there is a task before it stops holds it too.
        self._lock = threading.Lock()
        self._active = 0
        self._taken = 0.0  # when a task was last taken (monotonic),
        self._last = 0  # and by which thread

    def put(self, task: Callable[[], None]) -> None:
        """Let ``task``, which must not raise, be run after the next :meth:`dispatch`. One thread."""
        self._tasks.append(task)

    @property
    def brisk(self) -> bool:
        """Whether some thread took a task a moment ago and will look for another one."""
        return self._active > 0 and time.monotonic() < self._taken + PATIENCE

    def dispatch(self) -> bool:
        """Wake a thread if one is needed; to be called again within :data:`PATIENCE` if this returns true. The
        thread that puts.
        """
        if not self._tasks:
            return False
        with self._lock:
            if self._active == self._limit:
                return False  # each will look for more
            if self.brisk:
                return True
            self._active += 1
            self._taken = time.monotonic()
            self._last = 0
            task = self._tasks.popleft()
        self._pool.submit(self._run, task)
        return bool(self._tasks)

    def _run(self, task: Callable[[], None]) -> None:
        me = threading.get_ident()
        while True:
            task()
            with self._lock:
                # One that was relieved, and comes back while the other is at work, is one too many.
                relieved = self._last not in (0, me) and self.brisk
                if relieved or not self._tasks:
                    self._active -= 1
                    if self._last == me:
                        self._last = 0
                    break
                task = self._tasks.popleft()
                self._taken = time.monotonic()
                self._last = me
        if not relieved:
            self._idle()
