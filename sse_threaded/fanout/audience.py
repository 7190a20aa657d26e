"""Who gets which event: subscribers by what they listen to. No thread, no lock: the pump has both.

Those who listen to the same channels are one audience, for whom a page of events is joined once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..log import EventLog, Record
from ..protocol.batch import Batch
from .cursor import encode
from .socket_subscriber import Broadcast, SocketSubscriber
from .subscriber import Subscriber


class Audience:
    """The subscribers to one set of channels."""

    __slots__ = ("_others", "_volley", "channels", "subscribers")

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.channels = channels
        self.subscribers: set[Subscriber] = set()
        self._volley = Broadcast()
        self._others: set[Subscriber] = set()  # who is not in the volley

    def add(self, subscriber: Subscriber) -> None:
        """One more."""
        self.subscribers.add(subscriber)
        self._others.add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """One less, if it was one; a parked one on the pump's thread only."""
        self.subscribers.discard(subscriber)
        self._others.discard(subscriber)
        if isinstance(subscriber, SocketSubscriber):
            self._volley.late.discard(subscriber)
            if subscriber.volley is self._volley:
                self._volley.remove(subscriber)

    def ranks(self) -> tuple[Broadcast, tuple[Subscriber, ...]]:
        """All who are in it: those who are sent to in one go, and the others. The pump's thread."""
        self._others |= self._volley.late
        self._volley.late.clear()
        ready = [each for each in self._others if isinstance(each, SocketSubscriber) and each.in_step]
        for parked in ready:
            self._volley.add(parked)
        self._others.difference_update(ready)
        return self._volley, tuple(self._others)


class Audiences:
    """All audiences of a process.

    :param log: knows the ids.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._audiences: dict[tuple[str, ...], Audience] = {}
        self._by_channel: dict[str, set[Audience]] = {}
        # Subscribers whose replay is ahead of the pump: they have some of what the next pages bring.
        self._ahead: set[Subscriber] = set()

    def add(self, subscriber: Subscriber, position: int) -> None:
        """Let ``subscriber`` have what comes after ``position``, but nothing up to its own ``after``."""
        if subscriber.after > position:
            self._ahead.add(subscriber)
            return
        audience = self._audiences.get(subscriber.channels)
        if audience is None:
            audience = self._audiences[subscriber.channels] = Audience(subscriber.channels)
            for channel in audience.channels:
                self._by_channel.setdefault(channel, set()).add(audience)
        audience.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Let it have no more; whether or not it had been added."""
        self._ahead.discard(subscriber)
        audience = self._audiences.get(subscriber.channels)
        if audience is None:
            return
        audience.discard(subscriber)
        if not audience.subscribers:
            del self._audiences[audience.channels]
            for channel in audience.channels:
                self._by_channel[channel].discard(audience)
                if not self._by_channel[channel]:
                    del self._by_channel[channel]

    def deliveries(self, page: Sequence[Record]) -> list[tuple[Batch, Broadcast | None, Sequence[Subscriber]]]:
        """What the page's events mean: frames, each with those who get it. Every event is encoded once. The pump's
        thread.
        """
        wires: dict[Audience, list[bytes]] = {}
        encoded: dict[int, bytes] = {}
        for record in page:
            for audience in self._by_channel.get(record.channel, ()):
                wire = encoded.get(record.sequence)
                if wire is None:
                    wire = encoded[record.sequence] = encode(self._log, record)
                wires.setdefault(audience, []).append(wire)
        found: list[tuple[Batch, Broadcast | None, Sequence[Subscriber]]] = [
            (Batch(b"".join(parts), len(parts), parts), *audience.ranks()) for audience, parts in wires.items()
        ]
        for subscriber in self._ahead:
            parts = [
                encoded.get(record.sequence) or encode(self._log, record)
                for record in page
                if record.sequence > subscriber.after and record.channel in subscriber.channels
            ]
            if parts:
                found.append((Batch(b"".join(parts), len(parts), parts), None, (subscriber,)))
        # Last, as an event that cannot be encoded must leave everything as it was.
        position = page[-1].sequence
        for subscriber in [each for each in self._ahead if each.after <= position]:
            self._ahead.remove(subscriber)
            self.add(subscriber, position)
        return found
