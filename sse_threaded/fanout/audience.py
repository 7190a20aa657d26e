"""The subscribers of each channel, and the deliveries of events to them.

Subscribers to the same channels, with the same extras, form one audience. A page of events is joined once for
each audience.

The registry's lock guards everything in this module. Only the pump's thread makes deliveries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..log import EventLog, Record
from ..protocol.batch import Batch
from .broadcast import Broadcast
from .cursor import encode
from .extras import Extras
from .presence_notices import PresenceNotices
from .subscriber import Subscriber

_WITH_PRESENCE = (Extras(presence=True), Extras(channel=True, presence=True))

# Some events, the broadcast that sends them in one go, and the subscribers that get them one by one. It is a bare
# tuple, as each event makes one.
Delivery = tuple[Batch, "Broadcast | None", Sequence[Subscriber]]


class Audience:
    """The subscribers to one set of channels, with the same extras.

    :param channels: the channels.
    :param extras: their extras.

    :ivar subscribers: all of them.
    :ivar broadcast: those that can be in a broadcast.
    :ivar single: the others.
    """

    __slots__ = ("broadcast", "channels", "extras", "single", "subscribers")

    def __init__(self, channels: tuple[str, ...], extras: Extras) -> None:
        self.channels = channels
        self.extras = extras
        self.subscribers: set[Subscriber] = set()
        self.broadcast = Broadcast()
        self.single: set[Subscriber] = set()


class Audiences:
    """All audiences of a process.

    :param log: gives the ids.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._audiences: dict[tuple[tuple[str, ...], Extras], Audience] = {}
        self._by_channel: dict[str, set[Audience]] = {}
        # Subscribers whose replay is ahead of the pump: they already have some events of the next pages.
        self._ahead: set[Subscriber] = set()
        # Subscribers that get presence, and have no list yet. They get no changes, and are in no broadcast.
        self._unlisted: dict[Audience, set[Subscriber]] = {}
        self._unasked: set[tuple[str, ...]] = set()  # the channels of those for which no list was wanted yet

    def __len__(self) -> int:
        return len(self._audiences)

    def add(self, subscriber: Subscriber, position: int) -> None:
        """Give ``subscriber`` the events after ``position``, except those up to its own ``after``."""
        if subscriber.after > position:
            self._ahead.add(subscriber)
            return
        key = subscriber.channels, subscriber.extras
        audience = self._audiences.get(key)
        if audience is None:
            audience = self._audiences[key] = Audience(*key)
            for channel in audience.channels:
                self._by_channel.setdefault(channel, set()).add(audience)
        audience.subscribers.add(subscriber)
        if audience.extras.presence:
            self._unlisted.setdefault(audience, set()).add(subscriber)
            self._unasked.add(audience.channels)
            audience.single.add(subscriber)
        elif subscriber.can_broadcast:
            audience.broadcast.separate.add(subscriber)  # until the next event
        else:
            audience.single.add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Give ``subscriber`` no more events, whether or not it was added.

        Only the pump's thread may remove a subscriber that can be in a broadcast.
        """
        self._ahead.discard(subscriber)
        audience = self._audiences.get((subscriber.channels, subscriber.extras))
        if audience is None:
            return
        audience.subscribers.discard(subscriber)
        audience.single.discard(subscriber)
        audience.broadcast.discard(subscriber)
        if audience.extras.presence and audience in self._unlisted:
            self._unlisted[audience].discard(subscriber)
        if not audience.subscribers:
            self._unlisted.pop(audience, None)
            del self._audiences[audience.channels, audience.extras]
            for channel in audience.channels:
                self._by_channel[channel].discard(audience)
                if not self._by_channel[channel]:
                    del self._by_channel[channel]

    def of(self, channels: Iterable[str]) -> list[tuple[str, ...]]:
        """The channels of each audience that subscribes to one of these channels, each once."""
        return list({audience.channels for each in channels for audience in self._by_channel.get(each, ())})

    def subscribers(self, channels: tuple[str, ...]) -> list[Subscriber]:
        """The subscribers to these channels, without those that are ahead of the pump."""
        audiences = self._by_channel.get(channels[0], ())
        return [each for audience in audiences if audience.channels == channels for each in audience.subscribers]

    def deliveries(self, page: Sequence[Record], epoch: str | None = None) -> list[Delivery]:
        """The deliveries of a page's events. Each event is encoded once. The pump's thread.

        :param epoch: see :func:`.cursor.encode`.
        :raises LogUnusable: a row of the log is an invalid event; then nothing has changed.
        """
        parts_of: dict[Audience, list[bytes]] = {}
        encoded: dict[tuple[int, bool], bytes] = {}

        def wire_of(record: Record, names_channel: bool) -> bytes:
            key = record.sequence, names_channel
            wire = encoded.get(key)
            if wire is None:
                wire = encoded[key] = encode(self._log, record, epoch, names_channel=names_channel)
            return wire

        for record in page:
            audiences = self._by_channel.get(record.channel)
            if audiences is None:
                continue
            for audience in audiences:
                wire = wire_of(record, audience.extras.channel)
                if audience in parts_of:
                    parts_of[audience].append(wire)
                else:
                    parts_of[audience] = [wire]
        found: list[Delivery] = []
        for audience, parts in parts_of.items():
            broadcast = audience.broadcast
            if broadcast.separate:
                broadcast.gather()
            batch = Batch(parts[0] if len(parts) == 1 else b"".join(parts), len(parts), parts)
            found.append((batch, broadcast, (*broadcast.separate, *audience.single)))
        if self._ahead:
            self._deliver_ahead(page, wire_of, found)
        return found

    def _deliver_ahead(
        self, page: Sequence[Record], wire_of: Callable[[Record, bool], bytes], found: list[Delivery]
    ) -> None:
        """Add deliveries to the subscribers that are ahead, which may have some of the page already."""
        for subscriber in self._ahead:
            parts = [
                wire_of(record, subscriber.extras.channel)
                for record in page
                if record.sequence > subscriber.after and record.channel in subscriber.channels
            ]
            if parts:
                found.append((Batch(b"".join(parts), len(parts), parts), None, (subscriber,)))
        # This comes last: if an event cannot be encoded, nothing may have changed.
        position = page[-1].sequence
        for subscriber in [each for each in self._ahead if each.after <= position]:
            self._ahead.remove(subscriber)
            self.add(subscriber, position)

    # Presence.

    @property
    def has_unasked(self) -> bool:
        """Whether :meth:`take_unasked` has something."""
        return bool(self._unasked)

    def take_unasked(self) -> set[tuple[str, ...]]:
        """The channels of subscribers that need a list of the people there, each set of channels once."""
        found, self._unasked = self._unasked, set()
        return found

    @property
    def has_presence(self) -> bool:
        """Whether a subscriber gets presence."""
        return any(extras.presence for _, extras in self._audiences)

    def shows_presence(self, channel: str) -> bool:
        """Whether a subscriber to this channel gets presence."""
        return any(audience.extras.presence for audience in self._by_channel.get(channel, ()))

    def presence_deliveries(self, notices: PresenceNotices) -> list[Delivery]:
        """The deliveries of changes to those that have a list, and of lists to the others. The pump's thread."""
        found: list[Delivery] = []
        parts_of: dict[Audience, tuple[bytes, ...]] = {}
        for channel, wire in notices.changes:
            for audience in self._by_channel.get(channel, ()):
                if audience.extras.presence:
                    parts_of[audience] = (*parts_of.get(audience, ()), wire)
        batches: dict[tuple[bytes, ...], Batch] = {}
        for audience, parts in parts_of.items():
            batch = batches.get(parts)
            if batch is None:
                batch = batches[parts] = Batch(b"".join(parts), len(parts), parts)
            broadcast = audience.broadcast
            if broadcast.separate:
                broadcast.gather()
            unlisted = self._unlisted.get(audience, set())
            found.append((batch, broadcast, (*broadcast.separate, *(audience.single - unlisted))))
        for channels, wires in notices.lists:
            batch = Batch(b"".join(wires), len(wires), wires)
            for extras in _WITH_PRESENCE:
                listed = self._audiences.get((channels, extras))
                if listed is not None and listed in self._unlisted:
                    subscribers = self._unlisted.pop(listed)
                    found.append((batch, None, tuple(subscribers)))
                    can_broadcast = [each for each in subscribers if each.can_broadcast]
                    listed.single.difference_update(can_broadcast)
                    listed.broadcast.separate.update(can_broadcast)
        return found
