"""The newest events in memory, so that a client that was away for a moment is replayed without the log.

The pump has read them all, of every channel and without a gap. So this holds everything between
:attr:`RecentEvents.floor` and the pump's position. The registry's lock guards it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence

from ..errors import HistoryGone
from ..log import EventLog, Record
from ..protocol.batch import Batch
from .cursor import encode
from .subscriber import WRITE_BYTES

# Events that are kept, and the length of their data together: some seconds of a busy hub.
_COUNT = 2048
_LENGTH = 4 * 1024 * 1024

# Events that are read when it begins, while the first client waits.
_FILL = 512

# Frames are kept until the next event, as after a deploy many clients come back from the same place. These bound
# their bytes, their number, and the bytes of one of them. Clients choose the keys, so the keys count, too.
_FRAMES_SIZE = 4 * 1024 * 1024
_FRAMES_COUNT = 1024
_LARGEST_FRAME = _FRAMES_SIZE // 8


class RecentEvents:
    """The newest events of a log.

    :param log: knows the ids.
    :param position: the number after which the first event will be added.

    :ivar floor: events after this number are all here, up to the last that was added.
    :ivar epoch: of the log that they are of; ``None`` as long as there can be none.
    """

    def __init__(self, log: EventLog, position: int) -> None:
        self._log = log
        self.epoch: str | None = None
        self._clear(position)

    def begin(self, position: int) -> None:
        """Forget all: the next event is the first after ``position``."""
        self.epoch = self._log.epoch
        self._clear(position)

    def _clear(self, position: int) -> None:
        self.floor = position
        self._newest = position
        self._length = 0
        self._records: deque[Record] = deque()
        self._by_channel: dict[str, deque[Record]] = {}
        self._forget_frames()

    def fill(self, position: int) -> None:
        """Begin with the log's newest events up to ``position``: after a deploy all clients come back at once.

        :raises LogError: the log cannot be read.
        """
        count = _FILL
        while not self._read(max(position - count, 0), position):
            count //= 2  # some of these are gone
        self._newest = position

    def _read(self, after: int, position: int) -> bool:
        self.begin(after)
        try:
            while (page := self._log.read(self._newest, upto=position)).full:
                self.add(page)
        except HistoryGone:
            return after == position
        self.add(page)
        return True

    def add(self, page: Iterable[Record]) -> None:
        """Add what follows the last; the oldest may go."""
        self._forget_frames()
        for record in page:
            self._newest = record.sequence
            self._records.append(record)
            self._length += len(record.data)
            self._by_channel.setdefault(record.channel, deque()).append(record)
        while self._length > _LENGTH or len(self._records) > _COUNT:
            record = self._records.popleft()
            self._length -= len(record.data)
            self.floor = record.sequence
            channel = self._by_channel[record.channel]
            channel.popleft()
            if not channel:
                del self._by_channel[record.channel]

    def frame(self, channels: tuple[str, ...], after: int) -> tuple[Batch, int]:
        """The next events of the channels after ``after`` as one frame, empty when there are none; and the number
        up to which that is all.

        :param after: at least :attr:`floor`.
        :raises LogUnusable: one of them is no event.
        """
        key = (channels, after)
        try:
            return self._frames[key]
        except KeyError:
            pass
        made = self._make(channels, after)
        size = _size(channels, made[0])
        if size <= _LARGEST_FRAME:
            while self._frames_size + size > _FRAMES_SIZE or len(self._frames) >= _FRAMES_COUNT:
                (others, _), (oldest, _) = next(iter(self._frames.items()))
                self._frames_size -= _size(others, oldest)
                del self._frames[next(iter(self._frames))]
            self._frames[key] = made
            self._frames_size += size
        return made

    def _forget_frames(self) -> None:
        self._frames: dict[tuple[tuple[str, ...], int], tuple[Batch, int]] = {}
        self._frames_size = 0

    def _make(self, channels: Sequence[str], after: int) -> tuple[Batch, int]:
        missed: list[Record] = []
        for channel in channels:
            for record in reversed(self._by_channel.get(channel, ())):
                if record.sequence <= after:
                    break
                missed.append(record)
        missed.sort()
        wires: list[bytes] = []
        length = 0
        for record in missed:
            wires.append(encode(self._log, record, self.epoch))
            length += len(wires[-1])
            if length >= WRITE_BYTES:
                return Batch(b"".join(wires), len(wires)), record.sequence
        return Batch(b"".join(wires), len(wires)), max(after, self._newest)


def _size(channels: tuple[str, ...], frame: Batch) -> int:
    """What a frame that is kept takes, with its key, in bytes."""
    return 512 + sys.getsizeof(channels) + sum(map(sys.getsizeof, channels)) + 2 * len(frame.wire)
