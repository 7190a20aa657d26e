"""The watchman's sleep, which an event on a connection can end. It needs Linux."""

from __future__ import annotations

import os
import select
from contextlib import suppress

from .crew import Sleeper


class WatchmansSleep(Sleeper):
    """A sleep that also ends when the loop has an event for which no thread waits.

    The loop waits for its events in an epoll object. This is another one, in which the loop's own is watched. To
    begin and to end that is one call of the system each, and wakes no thread.

    :param events: the descriptor of the loop's epoll object.
    """

    __slots__ = ("_epoll", "_events", "_waker", "_woken")

    def __init__(self, events: int) -> None:
        super().__init__()
        self._events = events
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        self._epoll = select.epoll()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._epoll.register(events, 0)

    def sleep(self, timeout: float = -1) -> bool:
        """See :class:`.crew.Sleeper`."""
        has_events = False
        for descriptor, _ in self._epoll.poll(timeout):
            if descriptor == self._events:
                has_events = True
            else:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
        return has_events

    def wake(self) -> None:
        """See :class:`.crew.Sleeper`."""
        with suppress(BlockingIOError):  # it was woken already
            os.write(self._waker, b"\0")

    def arm(self) -> bool:
        """See :class:`.crew.Sleeper`."""
        self._epoll.modify(self._events, select.EPOLLIN | select.EPOLLONESHOT)
        return True

    def disarm(self) -> None:
        """See :class:`.crew.Sleeper`."""
        self._epoll.modify(self._events, 0)
