"""Tasks for a pool of threads, run by as few of them as keep up.

A pool that is given a thousand short tasks wakes all its threads, which then fight for the interpreter lock. Here
a thread that has done a task takes the next one itself. Only when a task has waited for :data:`PATIENCE`, and the
threads at work do not compute, is another one woken: then they wait for something, such as a database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_log = logging.getLogger(__name__)

# Seconds that a task waits before another thread is woken for it, and between two looks at what they do.
PATIENCE = 0.003

# The share of a core that the process has to use so that its threads count as computing: one more would only take
# the interpreter from them. Unless none has taken a task for so many seconds: what takes that long may compute
# without the interpreter.
_COMPUTING = 0.5
_LONG = 0.01


class LazyPool:
    """The threads at work.

    :param pool: whose threads they are.
    :param limit: how many there may be: the pool's size.
    :param idle: called by a thread that stops.
    """

    def __init__(self, pool: ThreadPoolExecutor, limit: int, idle: Callable[[], None]) -> None:
        self._pool = pool
        self._limit = limit
        self._idle = idle
        self._tasks: deque[tuple[float, Callable[[], None]]] = deque()  # each with the time at which it was put
        # Guards all below; who looks whether there is a task before it stops holds it too. brisk goes without, as
        # what it says may be a moment old.
        self._lock = threading.Lock()
        self._active = 0
        self._last_taken = 0.0  # when a thread took a task (monotonic)
        self._judged = 0.0  # when the threads were judged (monotonic),
        self._used = 0.0  # the processor time that the process had used by then,
        self._surplus = False  # and whether there is one thread too many

    def put(self, task: Callable[[], None]) -> None:
        """Let ``task`` be run, after the next :meth:`dispatch` at the latest; any thread."""
        self._tasks.append((time.monotonic(), task))

    @property
    def waiting(self) -> int:
        """Tasks that no thread has taken yet."""
        return len(self._tasks)

    @property
    def brisk(self) -> bool:
        """Whether some thread took a task a moment ago and will look for another one."""
        return self._active > 0 and time.monotonic() < self._last_taken + PATIENCE

    def dispatch(self) -> bool:
        """Wake a thread if one is needed; to be called again within :data:`PATIENCE` if this returns true. The
        main thread.
        """
        if not self._tasks:
            return False
        with self._lock:
            now = time.monotonic()
            computing = self._judge(now)
            if self._active == self._limit:
                return False  # each will look for more
            if not self._tasks:
                return False
            if self._active and (computing or now < self._tasks[0][0] + PATIENCE):
                return True
            self._active += 1
            task = self._take(now)
        self._pool.submit(self._run, task)
        return bool(self._tasks)

    # With the lock held.

    def _judge(self, now: float) -> bool:
        """Whether the threads at work compute; if so and they are several, one may stop."""
        if now < self._judged + PATIENCE:
            return True  # not yet known
        used = time.process_time()
        share = (used - self._used) / (now - self._judged)
        self._judged, self._used = now, used
        computing = share >= _COMPUTING and now < self._last_taken + _LONG
        self._surplus = computing and 1 < self._active < self._limit
        return computing

    def _take(self, now: float) -> Callable[[], None]:
        self._last_taken = now
        return self._tasks.popleft()[1]

    # A thread of the pool.

    def _run(self, task: Callable[[], None]) -> None:
        while True:
            try:
                task()
            except BaseException:
                # A defect; but the thread must be counted out, or go on.
                _log.exception("a task failed")
            with self._lock:
                if self._surplus or not self._tasks:
                    self._surplus = False
                    self._active -= 1
                    break
                task = self._take(time.monotonic())
        self._idle()
