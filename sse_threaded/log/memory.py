"""A log in the memory of one process: for tests, and for apps that run as one process.

It ends with its process; clients that come back get a ``reset``, as its epoch is gone too.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from operator import attrgetter

from ..errors import HistoryGone
from .doorbell import Doorbell
from .event_id import new_epoch
from .interface import EventLog, NestedTransaction, Snapshot, Transaction, TransactionOver, needs_sqlite
from .record import Page, Record, page_of
from .retention import Retention
from .validation import validate_event

# Channels that each append looks at for events past their age: two, so that sweeping outpaces appending.
_SWEPT_PER_APPEND = 2

# The newest events of all channels in a row: what the pump reads. A pump further behind reads the channels.
_FEED_EVENTS = 1000

# Channels without events of which is remembered up to where they were trimmed; beyond so many, one bound serves
# for all that are forgotten.
_REMEMBERED = 10_000


class _Channel:
    """One channel's events, oldest first; ``start`` counts those at the front that are trimmed."""

    __slots__ = ("records", "start", "times", "trimmed")

    def __init__(self, trimmed: int) -> None:
        self.records: list[Record] = []
        self.times: list[float] = []
        self.start = 0
        self.trimmed = trimmed  # the number of the newest event that is gone

    @property
    def is_empty(self) -> bool:
        return self.start == len(self.records)

    def trim(self, retention: Retention, now: float) -> None:
        end, start = len(self.records), self.start
        if retention.count is not None:
            start = max(start, end - retention.count)
        if retention.age is not None:
            while start < end and self.times[start] < now - retention.age:
                start += 1
        if start > self.start:
            self.trimmed = self.records[start - 1].sequence
            self.start = start
        # The front is cut off when it is the greater half: each event is moved once at most.
        if self.start > len(self.records) // 2:
            del self.records[: self.start], self.times[: self.start]
            self.start = 0

    def after(self, sequence: int) -> Iterator[Record]:
        first = bisect_right(self.records, sequence, lo=self.start, key=attrgetter("sequence"))
        return islice(self.records, first, None)


class MemoryLog(EventLog):
    """``memory://``: events live as long as the process.

    :param retention: how much is kept, default :class:`Retention`.
    """

    url = "memory://"

    _rests = False  # for a fork

    def __init__(self, retention: Retention | None = None) -> None:
        self._retention = retention or Retention()
        self._epoch = new_epoch()
        # Guards all below it. Reentrant, so that a transaction's thread may read.
        self._lock = threading.RLock()
        self._channels: dict[str, _Channel] = {}
        self._sweep: Iterator[str] = iter(())
        self._feed: deque[Record] = deque(maxlen=_FEED_EVENTS)
        self._last = 0
        self._floor = 0  # up to here, a channel that is not in _channels may have been trimmed
        self._batch: _Batch | None = None
        self._doorbells: list[Doorbell] = []

    @property
    def epoch(self) -> str:
        """See :class:`EventLog`."""
        return self._epoch

    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """See :class:`EventLog`."""
        name, text, kind = validate_event(channel, data, event)
        if connection is not None:
            raise needs_sqlite(self.url, "append(connection=...)")
        with self._lock:
            if self._batch is not None:  # the lock is this thread's, so the transaction is too
                raise NestedTransaction(self.url)
            self._append(name, text, kind)
            event_id = self.event_id(self._last)
        self.ring()
        return event_id

    def _append(self, name: str, text: str, kind: str | None) -> None:
        # With the lock held.
        self._last += 1
        now = time.monotonic()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(self._floor)
        record = Record(self._last, name, kind, text)
        self._feed.append(record)
        channel.records.append(record)
        channel.times.append(now)
        channel.trim(self._retention, now)
        for _ in range(_SWEPT_PER_APPEND):
            swept = next(self._sweep, None)
            if swept is None:
                self._sweep = iter(list(self._channels)) if self._retention.age is not None else iter(())
                break
            self._sweep_one(swept, now)

    def _sweep_one(self, name: str, now: float) -> None:
        channel = self._channels.get(name)
        if channel is not None:
            channel.trim(self._retention, now)
            if channel.is_empty and len(self._channels) > _REMEMBERED:
                self._floor = max(self._floor, channel.trimmed)
                del self._channels[name]

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See :class:`EventLog`."""
        with self._lock:
            if self._batch is not None:
                raise NestedTransaction(self.url)
            self._batch = batch = _Batch(self)
            try:
                yield batch
            finally:
                self._batch = None
                batch.over = True
            for name, text, kind in batch.appended:
                self._append(name, text, kind)
        if batch.appended:
            self.ring()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See :class:`EventLog`."""
        with self._lock:
            yield _View(self, self._last)

    def last_sequence(self) -> int:
        """See :class:`EventLog`."""
        return self._last

    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """See :class:`EventLog`."""
        with self._lock:
            if channels is None and self._feed and after >= self._feed[0].sequence - 1:
                return self._read_feed(after, upto)
            names = self._channels if channels is None else dict.fromkeys(channels)
            wanted = [self._channels[name] for name in names if name in self._channels]
            # A channel that has nothing new costs a comparison here, not an iterator in the merge.
            fresh = [channel for channel in wanted if channel.records and channel.records[-1].sequence > after]
            unknown = len(wanted) < len(names)
            if any(channel.trimmed > after for channel in wanted) or (unknown and self._floor > after):
                raise HistoryGone("expired")
            return page_of(merge(*(channel.after(after) for channel in fresh)), upto)

    def _read_feed(self, after: int, upto: int | None) -> Page:
        # With the lock held. Indexing a deque from its near end costs nothing.
        newest = len(self._feed)
        first = newest - (self._last - after)
        return page_of((self._feed[index] for index in range(max(first, 0), newest)), upto)

    def open_doorbell(self) -> Doorbell:
        """See :class:`EventLog`."""
        doorbell = Doorbell()
        with self._lock:
            # Those that were closed since are let go here.
            self._doorbells = [bell for bell in self._doorbells if not bell.closed] + [doorbell]
        return doorbell

    def ring(self) -> None:
        """See :class:`EventLog`."""
        for doorbell in self._doorbells:
            doorbell.ring()

    def close(self) -> None:
        """See :class:`EventLog`."""
        with self._lock:
            self._doorbells = []

    def before_fork(self) -> None:
        """See :class:`EventLog`."""
        self._rests = self._lock.acquire()

    def after_fork(self, in_child: bool) -> None:
        """See :class:`EventLog`; the child's log goes its own way, so it gets an epoch of its own."""
        if in_child:
            self._epoch = new_epoch()
            self._doorbells = []
            self._lock = threading.RLock()
        elif self._rests:
            self._lock.release()
        self._rests = False


class _View(Snapshot):
    def __init__(self, log: MemoryLog, last: int) -> None:
        super().__init__(log.url)
        self._log = log
        self._last = last

    def last_event_id(self) -> str:
        return self._log.event_id(self._last)


class _Batch(_View, Transaction):
    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, log.last_sequence())
        self.appended: list[tuple[str, str, str | None]] = []

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        row = validate_event(channel, data, event)
        if self.over:
            raise TransactionOver(self._url)
        self.appended.append(row)
        self._last += 1
        return self.last_event_id()
