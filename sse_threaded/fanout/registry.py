"""Who is subscribed in this process, and what is to happen to each: fan-out, timers, watched sockets.

Threads of clients and the pump's thread share it, under its lock; the methods that want the lock held say so.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections import deque

from ..log import EventLog
from .audience import Audiences
from .budget import Pace
from .subscriber import Subscriber
from .timers import NEVER, Timers

# Seconds a stream that was told to end may take, before its connection is cut: its thread is stuck in a send.
_GRACE = 5.0
_SHUTDOWN_GRACE = 0.5


# How much later than planned a subscriber may be looked at, so that many are together: seconds, and as a part of
# the time between two heartbeats.
_GRAIN = 0.25
_BEATS_APART = 50


class Registry:
    """The subscribers of one process.

    :param log: knows the ids.
    :param pace: the times of a stream.

    :ivar position: the newest event that has been handed out.
    :ivar touched: subscribers with something left to send, or nothing more to do; the pump's thread looks
        after them.
    """

    def __init__(self, log: EventLog, pace: Pace) -> None:
        self.pace = pace
        self._grain = min((pace.heartbeat or NEVER) / _BEATS_APART, _GRAIN)
        # Guards all that is here but the selector, which lets one thread register while another waits (epoll
        # and kqueue do), and touched, a deque that many may append to.
        self.lock = threading.Lock()
        self.all: set[Subscriber] = set()
        self.fanout = Audiences(log)
        self.timers = Timers()
        self.position = 0
        self.selector = selectors.DefaultSelector()
        self.touched: deque[Subscriber] = deque()

    # With the lock held.

    def take_in(self, subscriber: Subscriber) -> None:
        """Let it count, have heartbeats, a lease and an eye on its socket; but no events yet."""
        now = time.monotonic()
        # By chance, so that neither leases nor beats come together; one draw serves both.
        chance = random.random()
        if self.pace.lease is not None:
            subscriber.deadline = now + self.pace.lease * (1.0 - 0.2 * chance)
        beat = NEVER if self.pace.heartbeat is None else self.pace.heartbeat
        self.set_timer(subscriber, now + beat * (1.0 - 0.5 * chance))
        self.all.add(subscriber)
        self.watch(subscriber)

    def attach(self, subscriber: Subscriber, after: int) -> int:
        """Let it have all events from here on, but not those up to ``after``; returns the position."""
        subscriber.after = after
        if subscriber.ended is None:
            self.fanout.add(subscriber, self.position)
        return self.position

    def end(self, subscriber: Subscriber, reason: str) -> None:
        """Tell it to end, and see later whether it did."""
        self.fanout.remove(subscriber)
        subscriber.deadline = time.monotonic() + (_SHUTDOWN_GRACE if reason == "shutdown" else _GRACE)
        self.timers.add(subscriber.deadline, subscriber)
        self.touched.append(subscriber)
        subscriber.end(reason, self.pace.farewell(reason))  # last, as it may fail

    def cut(self, subscriber: Subscriber) -> None:
        """Cut its connection, and see later whether it has been let go of."""
        subscriber.cut = True
        subscriber.deadline = time.monotonic() + _GRACE
        self.timers.add(subscriber.deadline, subscriber)
        self.touched.append(subscriber)
        subscriber.sever()

    def end_all(self, reason: str) -> None:
        """Tell all to end that were not told yet."""
        for subscriber in tuple(self.all):
            if subscriber.ended is None:
                self.end(subscriber, reason)

    def retire(self, subscriber: Subscriber) -> None:
        """Let it have nothing more, but count: its stream has ended, and its response has not."""
        self.fanout.remove(subscriber)
        subscriber.ended = subscriber.ended or "gone"
        subscriber.deadline = NEVER
        subscriber.retired = True

    def limit_wait(self, subscriber: Subscriber) -> None:
        """Have the connection of a retired one cut if its socket takes nothing for long."""
        if subscriber.retired:
            subscriber.deadline = time.monotonic() + _GRACE if subscriber.waits else NEVER
            self.timers.add(subscriber.deadline, subscriber)

    def let_go(self, subscriber: Subscriber) -> None:
        """Forget it."""
        subscriber.closed = True
        subscriber.ended = subscriber.ended or "gone"
        self.all.remove(subscriber)
        self.fanout.remove(subscriber)
        self.unwatch(subscriber)
        self.timers.shrink(len(self.all))

    def set_timer(self, subscriber: Subscriber, when: float) -> None:
        """Look at one that goes on at ``when``, or when its lease ends."""
        self.timers.add(min(when, subscriber.deadline), subscriber, self._grain)

    # With or without it.

    def watch(self, subscriber: Subscriber, events: int = selectors.EVENT_READ) -> None:
        """Wait for something to happen to its socket."""
        if subscriber.connection is not None and events:
            try:
                self._register(subscriber.connection, events, subscriber)
            except (KeyError, ValueError, OSError):
                subscriber.lose_connection()  # closed meanwhile, or nothing that can be waited for
                self.touched.append(subscriber)

    def _register(self, connection: socket.socket, events: int, subscriber: Subscriber) -> None:
        try:
            self.selector.register(connection, events, subscriber)
        except KeyError:
            # The server has done with an earlier stream of that number before that stream was let go of.
            self.selector.unregister(connection)
            self.selector.register(connection, events, subscriber)

    def unwatch(self, subscriber: Subscriber) -> None:
        """Wait no more."""
        if subscriber.connection is not None:
            try:
                if self.selector.get_key(subscriber.connection).data is subscriber:
                    self.selector.unregister(subscriber.connection)
            except (KeyError, ValueError, RuntimeError):
                pass  # it was not waited for
