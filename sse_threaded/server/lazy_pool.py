"""Tasks for a pool of threads, run by as few of them as keep up.

A pool that gets a thousand short tasks wakes all its threads, which then fight for the interpreter lock. Here a
thread that has done a task takes the next one itself. Another thread wakes only when a task has waited for a few
milliseconds and the threads at work do not compute. Then they wait for something, such as a database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_log = logging.getLogger(__name__)

# Seconds that a task waits before another thread wakes for it, and between two looks at the threads.
WAKE_AFTER = 0.003

# With this share of a core, the threads of a process count as computing: one more thread would only take the
# interpreter from them. They do not count as computing if no thread has taken a task for so many seconds. A task
# that takes this long may compute without the interpreter.
_COMPUTING = 0.5
_LONG = 0.01


class LazyPool:
    """The threads at work.

    :param pool: has the threads.
    :param limit: how many there may be: the pool's size.
    :param idle: called by a thread that stops, if :attr:`is_awaited` is set or a task has come after it looked.
    :param wake_after: see :data:`WAKE_AFTER`, the default.
    :param clock: default the monotonic one.
    :param processor_clock: processor seconds that the process has used; default :func:`time.process_time`.

    :ivar is_awaited: whether the main thread waits until a thread stops; only the main thread sets it.
    :ivar brisk_until: until when a thread that has just taken a task is expected to take another one (monotonic);
        0 if no thread is at work.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        limit: int,
        idle: Callable[[], None],
        *,
        wake_after: float = WAKE_AFTER,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._pool = pool
        self._limit = limit
        self._idle = idle
        self.wake_after = wake_after
        self._clock = clock
        self._processor_clock = processor_clock
        self.is_awaited = False
        # Each with its arguments and the time at which it was put.
        self._tasks: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()
        # Guards all below. A thread also holds it while it looks for its last task before it stops. The main
        # thread reads brisk_until without it, as that may be a moment old.
        self._lock = threading.Lock()
        self.brisk_until = 0.0
        self._active = 0
        self._last_taken = 0.0  # when a thread took a task (monotonic)
        self._judged = 0.0  # when the threads were judged (monotonic),
        self._used = 0.0  # the processor time that the process had used by then,
        self._has_surplus = False  # and whether there is one thread too many

    def put(self, task: Callable[..., None], *arguments: Any) -> None:
        """Have ``task`` run, after the next :meth:`dispatch` at the latest; any thread."""
        self._tasks.append((self._clock(), task, arguments))

    @property
    def waiting(self) -> int:
        """Tasks that no thread has taken yet."""
        return len(self._tasks)

    def dispatch(self) -> bool:
        """Wake a thread if one is needed; returns whether to call this again within :attr:`wake_after`.

        The main thread calls it.
        """
        if not self._tasks:
            return False
        with self._lock:
            now = self._clock()
            computing = False
            if self._active:
                computing = self._judge(now)
            else:  # the threads are judged by the use from now on
                self._judged, self._used = now, self._processor_clock()
            if self._active == self._limit:
                return False  # each will look for more
            if not self._tasks:
                return False
            if self._active and (computing or now < self._tasks[0][0] + self.wake_after):
                return True
            self._active += 1
            self._last_taken, self.brisk_until = now, now + self.wake_after
            _, task, arguments = self._tasks.popleft()
        self._pool.submit(self._run, task, arguments)
        return bool(self._tasks)

    def _judge(self, now: float) -> bool:
        """Whether the threads at work compute. If so and they are several, one may stop. With the lock held."""
        if now < self._judged + self.wake_after:
            return True  # not yet known
        used = self._processor_clock()
        share = (used - self._used) / (now - self._judged)
        self._judged, self._used = now, used
        computing = share >= _COMPUTING and now < self._last_taken + _LONG
        self._has_surplus = computing and 1 < self._active < self._limit
        return computing

    # A thread of the pool.

    def _run(self, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        while True:
            try:
                task(*arguments)
            except BaseException:
                # A defect. But the thread must be counted out, or go on.
                _log.exception("a task failed")
            with self._lock:
                if self._has_surplus or not self._tasks:
                    self._has_surplus = False
                    self._active -= 1
                    if not self._active:
                        self.brisk_until = 0.0
                    break
                self._last_taken = now = self._clock()
                self.brisk_until = now + self.wake_after
                _, task, arguments = self._tasks.popleft()
        if self.is_awaited or self._tasks:
            self._idle()
