"""A bound on tasks that take threads of a pool, so that other work finds a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial


class Permit:
    """A task's permit to have a thread. It ends with the task, or earlier.

    :param next_task: called when the task gives the permit back before its end.

    :ivar is_given_back: whether the task did.
    """

    __slots__ = ("_next_task", "is_given_back")

    def __init__(self, next_task: Callable[[], None]) -> None:
        self._next_task = next_task
        self.is_given_back = False

    def give_back(self) -> None:
        """Let the next task have it. Idempotent; the task's thread calls it."""
        if not self.is_given_back:
            self.is_given_back = True
            self._next_task()


class Permits:
    """A limited number of permits, and the tasks that wait for one, in their order.

    :param limit: how many permits there may be now, at least 1; asked at each change.
    :param start: has a thread run a task; it must not wait.
    :param put: the same, where the calling thread is about to look for a task: no other thread need wake.
    """

    def __init__(
        self,
        limit: Callable[[], int],
        start: Callable[[Callable[[], None]], None],
        put: Callable[[Callable[[], None]], None],
    ) -> None:
        self._limit = limit
        self._start = start
        self._put = put
        self._lock = threading.Lock()  # guards both below
        self._tasks: deque[Callable[[Permit], None]] = deque()
        self._taken = 0

    @property
    def waiting(self) -> int:
        """Tasks without a permit."""
        return len(self._tasks)

    def ask(self, task: Callable[[Permit], None]) -> None:
        """Have ``task`` run when there is a permit, which is its argument; it must not raise. Any thread."""
        with self._lock:
            if self._taken >= self._limit():
                self._tasks.append(task)
                return
            self._taken += 1
        self._start(partial(self._run, task))

    def _run(self, task: Callable[[Permit], None]) -> None:
        permit = Permit(partial(self._next, self._start))
        try:
            task(permit)
        finally:
            if not permit.is_given_back:
                self._next(self._put)

    def _next(self, start: Callable[[Callable[[], None]], None]) -> None:
        with self._lock:
            if not self._tasks or self._taken > self._limit():
                self._taken -= 1
                return
            task = self._tasks.popleft()
        start(partial(self._run, task))
