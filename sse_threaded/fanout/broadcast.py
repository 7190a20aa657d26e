"""One send to many sockets: a batch goes out to all clients for which nothing waits.

A loop around each client's own send would read objects that have left the processor's cache since the last
event. A broadcast holds only the sockets, side by side, and its loop runs inside ``map``.

Only the pump's thread uses a broadcast. Other threads only add to :attr:`Broadcast.separate`, with the
registry's lock held.
"""

from __future__ import annotations

import socket
from itertools import repeat
from typing import cast

from ..protocol.batch import Batch
from .stream_state import Step
from .subscriber import Subscriber

# Stands for the number of bytes that a socket took, if the socket is gone.
SOCKET_GONE = -1

# The send of a plain socket. That of an SSLSocket is another one, as it encrypts.
plain_send = socket.socket.send


class Broadcast:
    """Subscribers to the same channels that get events by one send. Their bodies are sent in chunks.

    :ivar sent: bytes of the body that were sent to all since the broadcast was made. While a subscriber is here,
        its own count is less by the number at which it was added.
    :ivar separate: the subscribers that get the next event by a send of their own. Bytes wait for them, or they
        have just come.
    """

    __slots__ = ("_sent_events", "_sockets", "_subscribers", "sent", "separate")

    def __init__(self) -> None:
        # Two lists of the same order. map() needs the sockets alone.
        self._subscribers: list[Subscriber] = []
        self._sockets: list[socket.socket] = []
        self.sent = 0
        self._sent_events = 0  # of events, likewise
        self.separate: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._subscribers)

    def gather(self) -> None:
        """Move subscribers out of :attr:`separate` if nothing waits for them any more."""
        for subscriber in [each for each in self.separate if each.can_broadcast_now]:
            self.separate.discard(subscriber)
            subscriber.broadcast = self
            subscriber.broadcast_index = len(self._subscribers)
            subscriber.sent -= self.sent
            subscriber.sent_events -= self._sent_events
            self._subscribers.append(subscriber)
            self._sockets.append(cast(socket.socket, subscriber.connection))  # not None, as the pump writes to it

    def discard(self, subscriber: Subscriber) -> None:
        """Remove ``subscriber``, if it is here. It gets no more events."""
        self.separate.discard(subscriber)
        if subscriber.broadcast is self:
            self._remove(subscriber)

    def drop(self, subscriber: Subscriber) -> None:
        """Send to ``subscriber`` separately from now on, as bytes wait for it."""
        self._remove(subscriber)
        self.separate.add(subscriber)

    def _remove(self, subscriber: Subscriber) -> None:
        # The last subscriber moves to the index that becomes free.
        last = self._subscribers[-1]
        last.broadcast_index = subscriber.broadcast_index
        self._subscribers[subscriber.broadcast_index] = last
        self._sockets[subscriber.broadcast_index] = self._sockets[-1]
        self._subscribers.pop()
        self._sockets.pop()
        subscriber.broadcast = None
        subscriber.sent += self.sent
        subscriber.sent_events += self._sent_events

    def send(self, batch: Batch) -> list[Subscriber]:
        """Send some events to all subscribers that are not in :attr:`separate`.

        Returns the subscribers whose sockets did not take everything.
        """
        whole = len(batch.chunk)
        taken: list[int] = []
        sockets = iter(self._sockets)
        try:
            while len(taken) < len(self._sockets):
                try:
                    taken.extend(map(plain_send, sockets, repeat(batch.chunk)))
                except BlockingIOError:
                    taken.append(0)
                except OSError:
                    taken.append(SOCKET_GONE)
        except BaseException:
            # Some clients may have a part of the batch, and no record says which. Nothing may follow a part.
            for subscriber in self._subscribers:
                subscriber.step(Step.LOSE)
            raise
        self.sent += len(batch.body)
        self._sent_events += batch.count
        if taken.count(whole) == len(taken):
            return []
        late = [(each, count) for each, count in zip(self._subscribers, taken, strict=True) if count != whole]
        for subscriber, count in late:
            subscriber.sent -= len(batch.body)
            subscriber.sent_events -= batch.count
            subscriber.keep_rest(batch, count)
        return [subscriber for subscriber, _ in late]
