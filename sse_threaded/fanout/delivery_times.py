"""How long it takes from a call of ``publish`` until the event was handed to all streams of the same process.

The thread that publishes notes its event when the call returns. The pump may have handed the event out before.
So the pump remembers its last pages, with their times, and compares the notes with them in each turn of its loop.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .observers import Observers

# Publishes that wait for the pump, and pages that it remembers. If there are more, the oldest are not measured.
_NOTES = 1024
_PAGES = 64


class _HandedOut(NamedTuple):
    """A page that was handed out: the events after one number and up to another, and when (monotonic)."""

    after: int
    upto: int
    at: float


class DeliveryTimes:
    """Measures the events that this process publishes.

    :param observers: they get the times. Without any, nothing is noted.
    """

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._is_on = observers.are_any
        self._notes: deque[tuple[int, float]] = deque(maxlen=_NOTES)
        self._pages: deque[_HandedOut] = deque(maxlen=_PAGES)  # only the pump's thread uses it

    def note(self, sequence: int, begun: float) -> None:
        """Note an event that was published. Any thread; this takes no lock.

        :param sequence: its number.
        :param begun: when the call began (monotonic).
        """
        if self._is_on:
            self._notes.append((sequence, begun))

    # The pump's thread.

    def handed_out(self, after: int, upto: int, at: float) -> None:
        """Remember a page: the events after a number and up to another one.

        :param at: when it had been handed out (monotonic).
        """
        if self._is_on:
            self._pages.append(_HandedOut(after, upto, at))

    def report(self) -> None:
        """Give the times of all noted events that were handed out to the observers."""
        if not self._notes or not self._pages:
            return
        newest = self._pages[-1].upto
        seconds: list[float] = []
        later: list[tuple[int, float]] = []
        for _ in range(len(self._notes)):
            sequence, begun = self._notes.popleft()
            if sequence > newest:
                later.append((sequence, begun))
                continue
            page = next((each for each in self._pages if each.after < sequence <= each.upto), None)
            if page is not None:  # else it was before the pump began, or is long ago
                seconds.append(max(page.at - begun, 0.0))
        self._notes.extendleft(reversed(later))
        if seconds:
            self._observers.delivered(seconds)
