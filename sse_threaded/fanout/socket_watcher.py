"""The sockets and doorbells that the pump waits for, in one selector.

The selector lets one thread register a socket while another waits (epoll and kqueue do). The registry's lock
guards what is registered for a subscriber.
"""

from __future__ import annotations

import selectors
import socket
from _socket import socket as SystemSocket

from ..log.doorbell import Doorbell
from .subscriber import Subscriber


class SocketWatcher:
    """What one pump waits for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def begin(self) -> None:
        """Watch nothing, before the pump's thread starts.

        :raises OSError: the system has no descriptor left.
        """
        # A new one: a signal handler that raised in an earlier try may have left half of something in the old.
        self._selector.close()
        self._selector = selectors.DefaultSelector()

    def watch_doorbell(self, doorbell: Doorbell) -> None:
        """Wait for a doorbell, too."""
        self._selector.register(doorbell, selectors.EVENT_READ, doorbell)

    def close(self) -> None:
        """Close the selector, in a fork's child."""
        # The descriptors are the child's own copies: closing them leaves the parent's alone. The selector's is
        # shared with the parent, so nothing is unregistered, only closed.
        self._selector.close()

    def select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait ``timeout`` seconds at most; gives what is ready, a subscriber or a doorbell as each key's data."""
        return self._selector.select(timeout)

    # With the registry's lock held.

    def watch(self, subscriber: Subscriber, *, reading: bool, writing: bool) -> bool:
        """Wait for a subscriber's socket as told from now on; returns whether that can be done."""
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
                # The server has closed the socket of an earlier stream, and this one has got its number, before
                # that stream was closed.
                self._selector.unregister(subscriber.connection)
                self._selector.register(subscriber.connection, events, subscriber)
        except (KeyError, ValueError, OSError):
            return False  # closed meanwhile, or nothing that can be waited for
        return True

    def unwatch(self, subscriber: Subscriber) -> None:
        """Wait for a subscriber's socket no more."""
        if subscriber.connection is not None:
            try:
                if self._selector.get_key(subscriber.connection).data is subscriber:
                    self._selector.unregister(subscriber.connection)
            except (KeyError, ValueError, RuntimeError):
                pass  # it was not waited for


def is_watched_for_reading(subscriber: Subscriber) -> bool:
    """Whether the pump waits for a subscriber to hang up."""
    return bool(subscriber.watched_events & selectors.EVENT_READ)


def is_watched_for_writing(subscriber: Subscriber) -> bool:
    """Whether the pump waits for a subscriber's socket to be writable."""
    return bool(subscriber.watched_events & selectors.EVENT_WRITE)


def has_hung_up(connection: socket.socket) -> bool | None:
    """Whether the client has closed its connection; ``None`` where its socket says nothing. It does not wait."""
    try:
        # Looked at, not taken. The base class's method, as an SSLSocket refuses flags.
        return SystemSocket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return None
    except OSError:
        return True
