"""The newest events that this process has appended. The pump takes them from here, if only this process appends.

Numbers follow each other without a gap. So an event whose number follows the pump's position is the next event of
the log. Only the log itself shows whether events of other processes come after it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from ..record import PAGE_CHARACTERS, PAGE_EVENTS, Page, Record, page_of


class OwnEvents:
    """At most one page of events, each one's number one more than that of the event before it.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin with no events and a new lock: a thread that stayed with the parent may hold the old one."""
        self._lock = threading.Lock()  # guards the two below
        self._records: deque[Record] = deque()
        self._length = 0  # characters of data

    def add(self, records: Iterable[Record]) -> None:
        """Add committed events, in the order of their commits."""
        with self._lock:
            kept = self._records
            for record in records:
                if kept and record.sequence != kept[-1].sequence + 1:  # others have appended in between
                    kept.clear()
                    self._length = 0
                kept.append(record)
                self._length += len(record.data)
            while len(kept) > PAGE_EVENTS or (self._length > PAGE_CHARACTERS and len(kept) > 1):
                self._length -= len(kept.popleft().data)

    def after(self, sequence: int) -> Page | None:
        """Return the events after this number; ``None`` if some that follow it may be missing here."""
        with self._lock:
            if not self._records or sequence < self._records[0].sequence - 1:
                return None
            missed = self._records[-1].sequence - sequence
            # Indexing a deque near its end costs nothing.
            return page_of([self._records[index] for index in range(-missed, 0)])
