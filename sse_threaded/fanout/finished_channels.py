"""Channels that are finished: their newest event is of the type ``stream-finished``.

A stream ends with the event by which the last of its channels is finished. Then its client reconnects once, and
gets the status 204. An event that is published later opens the channel again.
"""

from __future__ import annotations

import logging
import threading

from ..errors import LogError
from ..log import EventLog, Page
from ..protocol.event import FINISHED
from ..throttled_log import ThrottledLog
from .registry import Registry
from .stream_state import EndReason
from .subscriber import Subscriber

_throttled = ThrottledLog(logging.getLogger(__name__))

# Channels that are known to go on, so that openings need no look at the log. If there are more, all are forgotten.
_KNOWN_CHANNELS = 10_000


class FinishedChannels:
    """Knows which channels are finished, and ends streams that have no other. Any thread may call the methods.

    :param log: the log.
    :param registry: the subscribers.
    """

    def __init__(self, log: EventLog, registry: Registry) -> None:
        self._log = log
        self._registry = registry
        self._lock = threading.Lock()  # guards the two below
        self._going: set[str] = set()  # channels that went on when the log was read
        self._changes = 0  # so often has a channel been finished, or may have been

    def look(self, channels: tuple[str, ...], *, pump_reads: bool) -> int | None:
        """Return the number of the event by which the last of these channels was finished.

        ``None``: one of them goes on.

        :param pump_reads: whether the pump has begun to read, so that it will see each later event. Then a channel
            that goes on is remembered until such an event, and the log need not be read again.
        :raises LogError: the log cannot be read.
        """
        if pump_reads and not self._going.isdisjoint(channels):
            return None
        changes = self._changes
        number = 0
        for channel in channels:
            newest = self._log.newest(channel)
            if newest is None or newest.event != FINISHED:
                if pump_reads:
                    self._note_going(channel, changes)
                return None
            number = max(number, newest.sequence)
        return number

    def _note_going(self, channel: str, changes: int) -> None:
        with self._lock:
            if changes == self._changes:
                if len(self._going) >= _KNOWN_CHANNELS:
                    self._going.clear()
                self._going.add(channel)

    def see(self, page: Page) -> None:
        """End the streams that a page of events has finished, after it was handed out. The pump's thread."""
        finished = {record.channel for record in page if record.event == FINISHED}
        if not finished:
            return
        with self._lock:
            self._changes += 1
            self._going -= finished
        for channels in self._registry.audiences_of(finished):
            if self._is_over(channels, page[-1].sequence):
                self._registry.tell_audience_to_end(EndReason.FINISHED, channels)

    def forget(self) -> None:
        """Forget which channels go on, as the pump has not seen all events. The pump's thread."""
        with self._lock:
            self._changes += 1
            self._going.clear()

    def end_if_over(self, subscriber: Subscriber) -> None:
        """End a stream whose replay has just ended, if all its channels are finished."""
        if self._is_over(subscriber.channels, subscriber.after):
            self._registry.tell_to_end(EndReason.FINISHED, (subscriber,))

    def _is_over(self, channels: tuple[str, ...], upto: int) -> bool:
        """Whether the channels were all finished by the event with the number ``upto``."""
        try:
            number = self.look(channels, pump_reads=False)
        except LogError as error:
            # The streams stay open. At the end of their leases their clients reconnect, and get the status 204.
            fields = {"event": "finish_unknown", "channels": list(channels), "error": type(error).__name__}
            _throttled.warning("finish", "could not see whether a channel is finished: %s", error, extra=fields)
            return False
        return number is not None and number <= upto
