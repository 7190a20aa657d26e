"""Whose turn it is among tasks that take threads of a pool: so few at once that other work finds a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial


class Turn:
    """A task's, which ends with the task, or earlier.

    :param end: what is called when it ends earlier.

    :ivar ended: it did.
    """

    __slots__ = ("_end", "ended")

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self.ended = False

    def end(self) -> None:
        """Let the next task have it. Idempotent; the task's thread."""
        if not self.ended:
            self.ended = True
            self._end()


class Turns:
    """Tasks that wait for a turn, in their order.

    :param limit: how many turns there may be now, at least 1; asked at each change.
    :param start: has a thread run a task; it must not wait.
    :param put: the same, where the calling thread is about to look for a task: no other need be woken.
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
        self._tasks: deque[Callable[[Turn], None]] = deque()
        self._taken = 0

    @property
    def waiting(self) -> int:
        """Tasks without a turn."""
        return len(self._tasks)

    def ask(self, task: Callable[[Turn], None]) -> None:
        """Let ``task`` be run in its turn, which is its argument; it must not raise. Any thread."""
        with self._lock:
            if self._taken >= self._limit():
                self._tasks.append(task)
                return
            self._taken += 1
        self._start(partial(self._run, task))

    def _run(self, task: Callable[[Turn], None]) -> None:
        turn = Turn(partial(self._next, self._start))
        try:
            task(turn)
        finally:
            if not turn.ended:
                self._next(self._put)

    def _next(self, start: Callable[[Callable[[], None]], None]) -> None:
        with self._lock:
            if not self._tasks or self._taken > self._limit():
                self._taken -= 1
                return
            task = self._tasks.popleft()
        start(partial(self._run, task))
