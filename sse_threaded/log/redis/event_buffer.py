"""The newest events of a log in the memory of this process."""

from __future__ import annotations

import threading
from bisect import bisect_right
from itertools import islice
from operator import attrgetter

from ...errors import HistoryGone
from ..record import Page, Record, page_of
from .gaps import Gaps

# How many events are kept for a pump that is busy, and how many characters.
_KEPT_EVENTS, _KEPT_CHARACTERS = 2000, 8 * 1024 * 1024


class EventBuffer:
    """The newest events of a log, without a missing one. Any thread may use it.

    :param kept_events: how many events it keeps; default 2000.
    """

    def __init__(self, kept_events: int = _KEPT_EVENTS) -> None:
        self._kept_events = kept_events
        # Guards all below.
        self._lock = threading.Lock()
        self.renew(None)

    def renew(self, epoch: str | None) -> None:
        """Go on with another epoch: the events so far belong to a log that is gone."""
        with self._lock:
            self._epoch = epoch
            self._records: list[Record] = []
            self._length = 0  # characters
            # The records are all events after the first number, up to the second; None until that is known.
            self._start: int | None = None
            self._end: int | None = None
            # The newest number in Redis: as the listener saw it last, and as any thread saw it last.
            self._announced = self._expected = 0
            self._gaps = Gaps()

    def __repr__(self) -> str:
        with self._lock:
            return f"<EventBuffer start={self._start} end={self._end} events={len(self._records)}>"

    @property
    def place(self) -> tuple[str | None, int | None]:
        """The epoch, and the number of the newest event here; ``None`` until they are known."""
        with self._lock:
            return self._epoch, self._end

    def is_lost(self, sequence: int) -> bool:
        """Whether the event with this number is lost."""
        return self._gaps.hold(sequence)

    def page(self, after: int) -> Page | None:
        """Return one page of the events after ``after``; ``None`` if only the log itself has them.

        :raises HistoryGone: ``after`` is not in the log any more: another server took over, without it.
        """
        with self._lock:
            if self._start is None or self._end is None:
                return Page()
            if after > max(self._end, self._expected) or self._gaps.hold(after):
                raise HistoryGone("beyond")
            if after < self._start:
                return None
            first = bisect_right(self._records, after, key=attrgetter("sequence"))
            return page_of(islice(self._records, first, None))

    def expect(self, last: int) -> None:
        """Note that Redis has events up to this number; some of them may not have come yet."""
        with self._lock:
            self._expected = max(self._expected, last)

    def update(self, epoch: str | None, last: int, gaps: Gaps, *, idle: bool) -> bool:
        """Take in the state of the log, and begin after ``last`` if the events here do not lead there.

        Returns ``False`` if the state is of another epoch than the events here.

        :param epoch: of the state.
        :param last: the newest number in Redis.
        :param gaps: the gaps in the numbers.
        :param idle: whether the listener has waited for an event and got none.
        """
        with self._lock:
            if epoch != self._epoch:
                return False
            self._gaps = gaps
            # There are events but none comes: the feed was trimmed, or evicted.
            stuck = idle and self._end is not None and self._end < self._announced
            if stuck and gaps.follows(last + 1, self._end or 0):
                stuck = False  # the next event will come from behind a gap
            if self._end is None or self._end > last or gaps.hold(self._end) or stuck:
                self._restart(last)
            self._announced = self._expected = last
            return True

    def add(self, epoch: str | None, records: list[Record]) -> bool:
        """Take in new events if none is missing before or between them; returns whether that is so."""
        with self._lock:
            if epoch != self._epoch or self._end is None:
                return True  # no reader needs them any more
            before = self._end
            for record in records:
                if not self._gaps.follows(record.sequence, before):
                    return False
                before = record.sequence
            self._records += records
            self._length += sum(len(record.data) for record in records)
            self._end = before
            while len(self._records) > 1 and (
                len(self._records) > self._kept_events or self._length > _KEPT_CHARACTERS
            ):
                half = len(self._records) // 2
                self._start = self._records[half - 1].sequence
                self._length -= sum(len(record.data) for record in self._records[:half])
                del self._records[:half]
            return True

    def restart(self, sequence: int) -> None:
        """Drop all events, and go on after this number."""
        with self._lock:
            self._restart(sequence)

    def _restart(self, sequence: int) -> None:
        # With the lock held.
        self._records = []
        self._length = 0
        self._start = self._end = sequence
