"""The newest events in memory. A client that was away for a moment gets its replay from here, not from the log.

The pump has read the events of every channel, without a gap. So this holds all events between
:attr:`RecentEvents.floor` and the pump's position. The registry's lock guards it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence

from ..errors import HistoryGone
from ..log import EventLog, Record
from ..log.retention import MESSAGES
from ..protocol.batch import Batch
from ..protocol.event import FINISHED
from .cursor import encode
from .extras import NO_EXTRAS, Extras
from .subscriber import WRITE_BYTES

# How many events are kept, and how many characters of data in all: a busy hub fills this in a few seconds.
COUNT = 2048
LENGTH = 4 * 1024 * 1024

# How many events are read at the beginning, while the first client waits.
_FILL = 512

# Batches are kept until the next event, as many clients reconnect from the same position after a deploy. These
# numbers bound the bytes of all batches, their number, and the bytes of one. Clients choose the keys, so the bytes
# of the keys count, too.
_BATCHES_SIZE = 4 * 1024 * 1024
_BATCHES_COUNT = 1024
_LARGEST_BATCH = _BATCHES_SIZE // 8

# For a client that has missed nothing.
_EMPTY = Batch(b"", 0)


class RecentEvents:
    """The newest events of a log.

    :param log: gives the ids.
    :param position: the number after which the first event will be added.
    :param count: how many events are kept; default :data:`COUNT`.
    :param length: how many characters their data may have together; default :data:`LENGTH`.

    :ivar floor: all events after this number are here, up to the last that was added.
    :ivar epoch: the epoch of the log that they are from; ``None`` while there can be no events.
    """

    def __init__(self, log: EventLog, position: int, *, count: int = COUNT, length: int = LENGTH) -> None:
        self._log = log
        self._most = count
        self._longest = length
        self.epoch: str | None = None
        self._clear(position)

    def restart(self, position: int) -> None:
        """Forget all events: the next one is the first after ``position``."""
        self.epoch = self._log.epoch
        self._clear(position)

    def _clear(self, position: int) -> None:
        self.floor = position
        self._newest = position
        self._length = 0
        self._records: deque[Record] = deque()
        self._by_channel: dict[str, deque[Record]] = {}
        # The key is the channels, whether events name them, and the number after which a batch begins. Each
        # batch comes with the number up to which it has all events.
        self._batches: dict[tuple[tuple[str, ...], bool, int], tuple[Batch, int]] = {}
        self._batches_size = 0

    def fill(self, position: int) -> None:
        """Restart with the log's newest events up to ``position``. All clients reconnect at once after a deploy.

        :raises LogError: the log cannot be read.
        """
        count = _FILL
        while not self._read(max(position - count, 0), position):
            count //= 2  # some of these are gone
        self._newest = position

    def _read(self, after: int, position: int) -> bool:
        self.restart(after)
        try:
            while (page := self._log.read(self._newest, upto=position)).full:
                self.add(page)
        except HistoryGone:
            return after == position
        self.add(page)
        return True

    def add(self, page: Iterable[Record]) -> None:
        """Add the events that follow the last one. The oldest may be forgotten."""
        self._batches.clear()  # they lack the new events
        self._batches_size = 0
        for record in page:
            self._newest = record.sequence
            if record.channel == MESSAGES:
                continue  # no client subscribes to it
            self._records.append(record)
            self._length += len(record.data)
            if record.channel in self._by_channel:
                self._by_channel[record.channel].append(record)
            else:
                self._by_channel[record.channel] = deque((record,))
        while self._length > self._longest or len(self._records) > self._most:
            record = self._records.popleft()
            self._length -= len(record.data)
            self.floor = record.sequence
            channel = self._by_channel[record.channel]
            channel.popleft()
            if not channel:
                del self._by_channel[record.channel]

    def of(self, channel: str) -> Sequence[Record]:
        """The events of one channel, oldest first."""
        return tuple(self._by_channel.get(channel, ()))

    def batch_after(self, channels: tuple[str, ...], after: int, extras: Extras = NO_EXTRAS) -> tuple[Batch, int]:
        """The next events of the channels as one batch, and the number up to which it has all events.

        The batch is empty if there are no more events.

        :param after: the number after which the batch begins; at least :attr:`floor`.
        :param extras: the client's extras; default :data:`.extras.NO_EXTRAS`.
        :raises LogUnusable: one of the events is invalid.
        """
        if after >= self._newest:
            return _EMPTY, after
        key = (channels, extras.channel, after)
        try:
            return self._batches[key]
        except KeyError:
            pass
        made = self._join(*key)
        size = _size(channels, made[0])
        if size <= _LARGEST_BATCH:
            while self._batches_size + size > _BATCHES_SIZE or len(self._batches) >= _BATCHES_COUNT:
                (others, _, _), (oldest, _) = next(iter(self._batches.items()))
                self._batches_size -= _size(others, oldest)
                del self._batches[next(iter(self._batches))]
            self._batches[key] = made
            self._batches_size += size
        return made

    def _join(self, channels: Sequence[str], names_channel: bool, after: int) -> tuple[Batch, int]:
        missed: list[Record] = []
        for channel in channels:
            for record in reversed(self._by_channel.get(channel, ())):
                if record.sequence <= after:
                    break
                missed.append(record)
        missed.sort()
        wires: list[bytes] = []
        length, finishes = 0, False
        for record in missed:
            wires.append(encode(self._log, record, self.epoch, names_channel=names_channel))
            finishes = finishes or record.event == FINISHED
            length += len(wires[-1])
            if length >= WRITE_BYTES:
                return Batch(b"".join(wires), len(wires), finishes=finishes), record.sequence
        return Batch(b"".join(wires), len(wires), finishes=finishes), max(after, self._newest)


def _size(channels: tuple[str, ...], batch: Batch) -> int:
    """The memory that a batch takes with its key, in bytes."""
    return 512 + sys.getsizeof(channels) + sum(map(sys.getsizeof, channels)) + 2 * len(batch.body)
