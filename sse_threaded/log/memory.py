"""A log in the memory of one process: for tests, and for apps that run as one process.

It ends with its process. Clients that reconnect get a ``reset``, because the next log has another epoch.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from operator import attrgetter

from ..errors import HistoryGone
from .doorbell import Doorbell
from .event_id import new_epoch
from .interface import (
    EventLog,
    NestedTransaction,
    Snapshot,
    Transaction,
    TransactionOver,
    needs_database,
)
from .record import Page, Record, page_of
from .retention import MESSAGES, MESSAGES_SECONDS, Retention
from .url import MEMORY
from .validation import validate_event

# Each append looks at so many other channels for expired events. Two are more than it adds, so trimming keeps up.
_TRIMMED_PER_APPEND = 2

# The newest events of all channels, in one row for the pump. A pump that is further behind reads the channels.
_NEWEST_EVENTS = 1000

# Channels without events for which the log remembers the newest trimmed number. Beyond this limit the log forgets
# such channels, and one number stands for all of them.
_REMEMBERED_CHANNELS = 10_000


_OF_MESSAGES = Retention(age=MESSAGES_SECONDS)


class _Channel:
    """One channel's events, oldest first; the first ``start`` of them are trimmed."""

    __slots__ = ("records", "start", "times", "trimmed")

    def __init__(self, trimmed: int) -> None:
        self.records: list[Record] = []
        self.times: list[float] = []
        self.start = 0
        self.trimmed = trimmed  # the number of the newest trimmed event

    @property
    def is_empty(self) -> bool:
        return self.start == len(self.records)

    def trim(self, retention: Retention, now: float) -> int:
        """Trim to the retention; returns how many events were trimmed."""
        end, before = len(self.records), self.start
        start = before
        if retention.count is not None:
            start = max(start, end - retention.count)
        if retention.age is not None:
            while start < end and self.times[start] < now - retention.age:
                start += 1
        if start > before:
            self.trimmed = self.records[start - 1].sequence
            self.start = start
        # The trimmed events are deleted when they are more than half: so each event is moved once at most.
        if self.start > len(self.records) // 2:
            del self.records[: self.start], self.times[: self.start]
            self.start = 0
        return start - before

    def after(self, sequence: int) -> Iterator[Record]:
        first = bisect_right(self.records, sequence, lo=self.start, key=attrgetter("sequence"))
        return islice(self.records, first, None)


class MemoryLog(EventLog):
    """``memory://``: events live until the process ends.

    :param retention: how much is kept, default :class:`Retention`.
    :param clock: returns the time in seconds, for the events' age; default :func:`time.monotonic`.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number;
        default 10,000.
    """

    url = MEMORY

    _is_held_for_fork = False

    def __init__(
        self,
        retention: Retention | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        remembered_channels: int = _REMEMBERED_CHANNELS,
    ) -> None:
        self._retention = retention or Retention()
        self._clock = clock
        self._remembered_channels = remembered_channels
        self._epoch = new_epoch()
        # Guards all attributes below it. Reentrant, so that a transaction's thread may read.
        self._lock = threading.RLock()
        self._channels: dict[str, _Channel] = {}
        self._next_to_trim: Iterator[str] = iter(())
        self._newest: deque[Record] = deque(maxlen=_NEWEST_EVENTS)
        self._last = 0
        self._floor = 0  # up to here, events of a channel that is not in _channels may have been trimmed
        self._transaction: _MemoryTransaction | None = None
        self._doorbells: list[Doorbell] = []

    def __repr__(self) -> str:
        return f"<MemoryLog last={self.last_event_id()} channels={len(self._channels)}>"

    @property
    def epoch(self) -> str:
        """See :class:`EventLog`."""
        return self._epoch

    # Writing.

    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """See :class:`EventLog`."""
        name, text, kind = validate_event(channel, data, event, self.json_default)
        if connection is not None:
            raise needs_database(self.url, "append(connection=...)")
        with self._lock:
            if self._transaction is not None:  # this thread has the lock, so the transaction is its own
                raise NestedTransaction(self.url)
            self._append(name, text, kind)
            event_id = self.event_id(self._last)
        self.ring()
        return event_id

    def _append(self, name: str, text: str, kind: str | None) -> None:
        # With the lock held.
        self._last += 1
        now = self._clock()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(self._floor)
        record = Record(self._last, name, kind, text)
        self._newest.append(record)
        channel.records.append(record)
        channel.times.append(now)
        channel.trim(self._retention_of(name), now)
        for _ in range(_TRIMMED_PER_APPEND):
            other = next(self._next_to_trim, None)
            if other is None:
                self._next_to_trim = iter(list(self._channels)) if self._retention.age is not None else iter(())
                break
            self._trim(other, now)

    def _retention_of(self, name: str) -> Retention:
        return _OF_MESSAGES if name == MESSAGES else self._retention

    def _trim(self, name: str, now: float) -> int:
        # With the lock held.
        channel = self._channels.get(name)
        if channel is None:
            return 0
        trimmed = channel.trim(self._retention_of(name), now)
        if name != MESSAGES and channel.is_empty and len(self._channels) > self._remembered_channels:
            self._floor = max(self._floor, channel.trimmed)
            del self._channels[name]
        return trimmed

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See :class:`EventLog`."""
        with self._lock:
            if self._transaction is not None:
                raise NestedTransaction(self.url)
            self._transaction = transaction = _MemoryTransaction(self)
            transaction.json_default = self.json_default
            try:
                yield transaction
            finally:
                self._transaction = None
                transaction.over = True
            for name, text, kind in transaction.rows:
                self._append(name, text, kind)
        if transaction.rows:
            self.ring()

    # Reading.

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See :class:`EventLog`."""
        with self._lock:
            yield _MemorySnapshot(self, self._last)

    def last_sequence(self) -> int:
        """See :class:`EventLog`."""
        return self._last

    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """See :class:`EventLog`."""
        with self._lock:
            if channels is None and self._newest and after >= self._newest[0].sequence - 1:
                return self._read_newest(after, upto)
            names = self._channels if channels is None else dict.fromkeys(channels)
            wanted = [self._channels[name] for name in names if name in self._channels]
            # A channel that has nothing new costs a comparison here, and no iterator in the merge.
            fresh = [channel for channel in wanted if channel.records and channel.records[-1].sequence > after]
            has_unknown = len(wanted) < len(names)
            unneeded = self._channels.get(MESSAGES) if channels is None else None
            if any(each.trimmed > after for each in wanted if each is not unneeded) or (
                has_unknown and self._floor > after
            ):
                raise HistoryGone("expired")
            return page_of(merge(*(channel.after(after) for channel in fresh)), upto)

    def newest(self, channel: str) -> Record | None:
        """See :class:`EventLog`."""
        with self._lock:
            found = self._channels.get(channel)
            return found.records[-1] if found is not None and found.records else None

    def trimmed(self, channels: Collection[str]) -> int:
        """See :class:`EventLog`."""
        with self._lock:
            wanted = [self._channels.get(name) for name in channels]
            return max((self._floor if each is None else each.trimmed for each in wanted), default=0)

    def _read_newest(self, after: int, upto: int | None) -> Page:
        # With the lock held. Indexing a deque near its end costs nothing.
        length = len(self._newest)
        first = length - (self._last - after)
        return page_of((self._newest[index] for index in range(max(first, 0), length)), upto)

    # Doorbells, trimming and the end.

    def open_doorbell(self) -> Doorbell:
        """See :class:`EventLog`."""
        doorbell = Doorbell()
        with self._lock:
            # This drops the doorbells that were closed since the last call.
            self._doorbells = [bell for bell in self._doorbells if not bell.closed] + [doorbell]
        return doorbell

    def ring(self) -> None:
        """See :class:`EventLog`."""
        for doorbell in self._doorbells:
            doorbell.ring()

    def trim(self) -> int:
        """See :class:`EventLog`."""
        with self._lock:
            now = self._clock()
            return sum(self._trim(name, now) for name in tuple(self._channels))

    def close(self) -> None:
        """See :class:`EventLog`."""
        with self._lock:
            self._doorbells = []

    def before_fork(self) -> None:
        """See :class:`EventLog`."""
        self._is_held_for_fork = self._lock.acquire()

    def after_fork(self, in_child: bool) -> None:
        """See :class:`EventLog`; the child's log goes on separately, so it gets an epoch of its own."""
        if in_child:
            self._epoch = new_epoch()
            self._doorbells = []
            self._lock = threading.RLock()
        elif self._is_held_for_fork:
            self._lock.release()
        self._is_held_for_fork = False


class _MemorySnapshot(Snapshot):
    def __init__(self, log: MemoryLog, last: int) -> None:
        super().__init__(log.url)
        self._log = log
        self._last = last

    def last_event_id(self) -> str:
        return self._log.event_id(self._last)


class _MemoryTransaction(_MemorySnapshot, Transaction):
    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, log.last_sequence())
        self.rows: list[tuple[str, str, str | None]] = []

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        row = validate_event(channel, data, event, self.json_default)
        if self.over:
            raise TransactionOver(self._url)
        self.rows.append(row)
        self._last += 1
        return self.last_event_id()

    def newest(self, channel: str) -> Record | None:
        return self._log.newest(channel)  # the thread has the log's lock until the end of the block
