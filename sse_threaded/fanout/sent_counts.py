"""How many events were handed on, added up for the observers.

An event to a thousand clients must not cost a thousand calls of an observer. So the threads that hand events on
only note how many. The pump's thread adds the notes up in each turn of its loop, so once a second at least.
"""

from __future__ import annotations

from collections import deque

from ..observer import Kind
from .observers import Observers


class SentCounts:
    """Notes of events that were handed on. Any thread may add one and report; this takes no lock.

    :param observers: they get the sums. Without any, no note is kept.
    """

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._is_on = observers.are_any
        self._notes: deque[tuple[Kind, int, int]] = deque()

    def add(self, kind: Kind, events: int, size: int) -> None:
        """Note events that were handed on.

        :param kind: the kind of the streams.
        :param events: how many, counted once for each stream.
        :param size: their bytes.
        """
        if events and self._is_on:
            self._notes.append((kind, events, size))

    def report(self) -> None:
        """Give the sums of all notes to the observers. Each note is reported once, by one thread."""
        if not self._notes:
            return
        sums: dict[Kind, tuple[int, int]] = {}
        try:
            while True:  # the look and the step must be one, as another thread may take the last note
                kind, events, size = self._notes.popleft()
                all_events, all_bytes = sums.get(kind, (0, 0))
                sums[kind] = all_events + events, all_bytes + size
        except IndexError:
            pass
        for kind, (events, size) in sums.items():
            self._observers.sent(kind, events, size)
