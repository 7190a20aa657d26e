"""Reading what is new in the log, and giving each event to its subscribers. The pump's thread."""

from __future__ import annotations

import logging
import queue
import time

from ..errors import HistoryGone, LogError
from ..log import EventLog, Page
from .registry import Registry
from .stream_state import EndReason
from .subscriber import Subscriber
from .timers import NEVER

_log = logging.getLogger(__name__)

# After events have gone out, the next may wait for this part of the time that took, and for so many seconds at
# most. Where they come faster than they go out, more leave together, and publishers have the interpreter in
# between. A burst to 1000 streams is over in two thirds of the time.
_PAUSE_SHARE, _LONGEST_PAUSE = 0.5, 0.01

# Seconds between two tries to read a log that cannot be read, doubling from the first to the last.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0
_DOUBLINGS = 6


def pause_after(seconds: float) -> float:
    """How long to pause after so many seconds of sending."""
    # Whole milliseconds, as the selector rounds up; so where few listen nobody is kept waiting.
    return min(int(seconds * _PAUSE_SHARE * 1000) / 1000, _LONGEST_PAUSE)


class LogReader:
    """Reads a log from the registry's position on.

    :param log: the log.
    :param registry: the subscribers.
    :param first_retry: seconds until the first new try where the log cannot be read; default :data:`FIRST_RETRY`.

    :ivar due: when to read next (monotonic).
    """

    def __init__(self, log: EventLog, registry: Registry, *, first_retry: float = FIRST_RETRY) -> None:
        self._eventlog = log
        self._registry = registry
        self._first_retry = first_retry
        self.due = 0.0
        self._pauses_until = 0.0  # monotonic
        self._failures = 0  # tries that failed since the log could last be read
        self._is_behind = False  # some events are gone that it has not handed out

    def postpone(self, seconds: float) -> None:
        """Read next after so many seconds."""
        self.due = time.monotonic() + seconds

    def read(self, *, was_rung: bool, is_closing: bool) -> None:
        """Hand out one page of what is new, if it is time.

        :param was_rung: whether somebody has published.
        :param is_closing: whether the end begins, before which all is read that was published before.
        """
        if was_rung:
            self.due = self._pauses_until
        if time.monotonic() < self.due and not is_closing:
            return
        try:
            if self._is_behind:  # and the log could not be read when its last position was asked for
                raise HistoryGone("expired")
            page = self._eventlog.read(self._registry.position)
            if page:
                self._hand_out(page)
        except HistoryGone:
            self._skip()
            return
        except LogError as error:
            self._note_failure(error)
            return
        if self._failures:
            _log.warning("the log can be read again: %s", self._eventlog.url)
            self._failures = 0
        if page.full:
            self.due = 0.0  # timers and hang-ups are seen to before the next page
        else:
            interval = self._eventlog.poll_interval
            self.due = NEVER if interval is None else time.monotonic() + interval

    def _skip(self) -> None:
        """Go on at the log's end, as events are gone that were not handed out."""
        self._is_behind = True
        try:
            self._registry.skip_to(self._eventlog.last_sequence())
        except LogError as error:
            self._note_failure(error)
        else:
            self._is_behind = False
            self.due = 0.0

    def _note_failure(self, error: LogError) -> None:
        """Try again later, as the log cannot be read."""
        if not self._failures:
            _log.error("cannot read events, streams stay open and wait: %s", error)
        self._failures += 1
        seconds = min(self._first_retry * (1 << min(self._failures, _DOUBLINGS)), LAST_RETRY)
        self.due = time.monotonic() + seconds

    def _hand_out(self, page: Page) -> None:
        begun = time.monotonic()
        deliveries = self._registry.deliveries(page)
        # Without the registry's lock: here the parked ones are sent to. Those that leave meanwhile get some events
        # for nothing.
        slow: list[Subscriber] = []
        to_check: list[Subscriber] = []
        try:
            for batch, broadcast, others in deliveries:
                if broadcast is not None:
                    to_check += broadcast.send(batch)
                for subscriber in others:
                    try:
                        if subscriber.deliver(batch):
                            to_check.append(subscriber)
                    except queue.Full:
                        slow.append(subscriber)
        finally:
            if to_check:
                self._registry.check_all_soon(to_check)
        if slow:
            self._registry.tell_to_end(EndReason.SLOW, slow)
            _log.info("cut off as too slow, to resume by replay: %d client(s)", len(slow))
        now = time.monotonic()
        self._pauses_until = now + pause_after(now - begun)
