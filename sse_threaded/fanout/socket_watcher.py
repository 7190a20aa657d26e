"""The sockets and doorbells that the pump waits for, in one selector.

The selector lets one thread register a socket while another waits (epoll and kqueue do). The registry's lock
guards the registrations of subscribers.
"""

from __future__ import annotations

import selectors

from ..log.doorbell import Doorbell
from .subscriber import Subscriber


class SocketWatcher:
    """The sockets and doorbells that one pump waits for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def begin(self) -> None:
        """Begin with nothing to watch, before the pump's thread starts.

        :raises OSError: the system has no descriptor left.
        """
        # A new selector: a signal handler may have raised in an earlier try, and left the old one half set up.
        self._selector.close()
        self._selector = selectors.DefaultSelector()

    def watch_doorbell(self, doorbell: Doorbell) -> None:
        """Wait for a doorbell, too."""
        self._selector.register(doorbell, selectors.EVENT_READ, doorbell)

    def close(self) -> None:
        """Close the selector, in a fork's child."""
        # The descriptors are the child's own copies, so closing them does not change the parent's. But the
        # selector itself is shared with the parent, so nothing is unregistered, only closed.
        self._selector.close()

    def select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait ``timeout`` seconds at most; returns keys whose data is a subscriber or a doorbell."""
        return self._selector.select(timeout)

    # With the registry's lock held.

    def watch(self, subscriber: Subscriber, *, reading: bool, writing: bool) -> bool:
        """Wait for a subscriber's socket to be readable, writable or both; returns whether that is possible."""
        if subscriber.watched_events:
            self.unwatch(subscriber)
        events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if writing else 0)
        subscriber.watched_events = events
        if subscriber.connection is None or not events:
            return True
        try:
            try:
                self._selector.register(subscriber.connection, events, subscriber)
            except KeyError:
                # The server has closed the socket of an earlier stream, before it closed that stream. This socket
                # has got the same number.
                self._selector.unregister(subscriber.connection)
                self._selector.register(subscriber.connection, events, subscriber)
        except (KeyError, ValueError, OSError):
            return False  # closed during this time, or it cannot be watched
        return True

    def unwatch(self, subscriber: Subscriber) -> None:
        """Stop waiting for a subscriber's socket."""
        # The selector is slow to say that it does not know a socket.
        if subscriber.watched_events and subscriber.connection is not None:
            try:
                if self._selector.get_key(subscriber.connection).data is subscriber:
                    self._selector.unregister(subscriber.connection)
            except (KeyError, ValueError, RuntimeError):
                pass  # closed during this time, or it could not be watched


def is_watched_for_reading(subscriber: Subscriber) -> bool:
    """Whether the pump waits for a subscriber to hang up."""
    return bool(subscriber.watched_events & selectors.EVENT_READ)


def is_watched_for_writing(subscriber: Subscriber) -> bool:
    """Whether the pump waits for a subscriber's socket to be writable."""
    return bool(subscriber.watched_events & selectors.EVENT_WRITE)
