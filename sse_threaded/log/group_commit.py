"""Threads that append at the same time share one transaction. An engine uses it whose commit is slow.

Each thread puts its event into a queue. One of them becomes the leader: it waits for the engine's connection, and
then commits all events that are in the queue by then. The others sleep until the leader wakes them. No thread
waits for company: one that comes alone is the leader at once, and commits its event alone.

Events that come during a commit are the next group. Their leader waits for the connection already.

Any thread may call :meth:`GroupCommit.append`. A signal handler may raise in it, also in a leader. Then the events
of the other threads are committed by one of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

from ..errors import LogError, LogUnavailable, LogUnusable

Row = TypeVar("Row")

# Events of one transaction. Writers of other processes wait for its end.
LARGEST_GROUP = 100


class QueuedAppend(Generic[Row]):
    """The event of one thread that waits for its commit.

    :param row: the event, as the engine needs it.
    :ivar row: as given.
    :ivar number: set by the engine, before the commit.
    :ivar error: why this event alone could not be written; set by the engine.
    :ivar is_over: whether the thread need not wait any more.
    """

    __slots__ = ("_signal", "error", "is_over", "number", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.number = 0
        self.error: Exception | None = None
        self.is_over = False
        self._signal = threading.Lock()  # it guards nothing: its thread sleeps on it
        self._signal.acquire()

    def sleep(self, seconds: float) -> bool:
        """Sleep until :meth:`wake`, ``seconds`` at most; returns whether it was woken."""
        return self._signal.acquire(timeout=max(seconds, 0.0))

    def wake(self) -> None:
        """Wake the thread, or let it not fall asleep the next time."""
        with suppress(RuntimeError):  # it was woken already
            self._signal.release()


class Group(list[QueuedAppend[Row]]):
    """The events of one transaction.

    :ivar is_committed: set by the engine, as soon as the events are in the log.
    """

    is_committed = False


# Fills a group with the events that wait, and returns it.
Take = Callable[[], Group[Row]]


class GroupCommit(Generic[Row]):
    """The events that wait for the connection of one log.

    :param commit: commits a group. It gets a function that it calls once it has the connection and can write. The
        function returns the group, which may be empty. Errors of the log that it raises after this call are the
        errors of the whole group. It also gets how many seconds it may wait for the connection, ``None`` for its
        usual time. When it returns, it must have given the connection back.
    :param url: the log's, for messages.
    :param timeout: seconds that an append waits for a leader to take it.
    """

    def __init__(self, commit: Callable[[Take[Row], float | None], None], url: str, timeout: float) -> None:
        self._commit = commit
        self._url = url
        self._timeout = timeout
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Forget the threads that wait: they stayed with the parent."""
        self._queue: deque[QueuedAppend[Row]] = deque()
        # Held by the next leader until it takes the queue. It is an RLock: a signal handler may append, too, and
        # must not wait for the thread that it has interrupted.
        self._next_leader = threading.RLock()

    def append(self, row: Row) -> int:
        """Append one event; returns its number once it is committed.

        :raises LogUnavailable: no leader could take it in time.
        :raises LogError: it is not in the log.
        """
        mine = QueuedAppend(row)
        deadline: float | None = None
        try:
            # First the queue, then the lock: a leader first releases the lock, and then takes the queue. So if the
            # lock is not free, its holder will take this event.
            self._queue.append(mine)
            while not mine.is_over:
                if self._next_leader.acquire(blocking=False):
                    self._lead(mine, None if deadline is None else max(deadline - time.monotonic(), 0.0))
                    continue
                if deadline is None:
                    deadline = time.monotonic() + self._timeout
                if not mine.sleep(deadline - time.monotonic()):
                    self._require_leader(mine)
                    deadline = time.monotonic() + self._timeout
        except BaseException:
            self._leave(mine)
            raise
        if mine.error is not None:
            raise mine.error
        return mine.number

    def _leave(self, mine: QueuedAppend[Row]) -> None:
        """Leave without an answer. Others may have relied on this thread as their leader."""
        mine.is_over = True
        with suppress(ValueError):
            self._queue.remove(mine)
        with suppress(RuntimeError):  # this thread does not have it any more
            while True:  # a signal handler may have raised in an earlier call
                self._next_leader.release()
        self._wake_first()

    def _wake_first(self) -> None:
        """Let the first thread in the queue become the leader, if there is no other."""
        with suppress(IndexError):
            self._queue[0].wake()

    def _lead(self, mine: QueuedAppend[Row], wait: float | None) -> None:
        group: Group[Row] = Group()

        def take() -> Group[Row]:
            with suppress(RuntimeError):  # the append of a signal handler has failed, and released it
                self._next_leader.release()
            # In one step, so that no event is lost if a signal handler raises.
            with suppress(IndexError):
                group.extend(islice(iter(self._queue.popleft, None), LARGEST_GROUP))
            return group

        failure: LogUnavailable | LogUnusable | None = None
        try:
            self._commit(take, wait)
        except (LogUnavailable, LogUnusable) as error:
            if not group:
                raise
            failure = error
        finally:
            self._finish(group, failure, mine)

    def _finish(
        self, group: Group[Row], failure: LogUnavailable | LogUnusable | None, mine: QueuedAppend[Row]
    ) -> None:
        again = []
        for each in group:
            if failure is not None and each.error is None:
                # Each thread raises an error of its own, as raising changes it.
                each.error = type(failure)(failure.url, failure.reason)
                each.error.__cause__ = failure.__cause__
            elif not (group.is_committed or each.error or each.is_over):
                again.append(each)  # a signal handler has raised in this thread before the commit
                continue
            each.is_over = True
        self._queue.extendleft(reversed(again))
        for each in group:
            if each is not mine:
                each.wake()
        if len(group) == LARGEST_GROUP:
            self._wake_first()  # this thread was the leader of all that wait

    def _require_leader(self, mine: QueuedAppend[Row]) -> None:
        """Return if a leader has taken the event, and is still at work.

        :raises LogUnavailable: no leader has taken it, or its leader was interrupted before it told the others.
        """
        with suppress(ValueError):
            self._queue.remove(mine)
            raise LogUnavailable(self._url, f"kept by another thread for over {self._timeout:g} s; try again")
        try:
            self._commit(Group, 0.0)  # its leader would have the connection
        except LogError:
            return
        if not (mine.is_over or mine.sleep(self._timeout)):
            raise LogUnavailable(self._url, "the thread that wrote it was interrupted; it may be in the log")
