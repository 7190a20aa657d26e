"""The pump's replay to parked streams: it sends the events that they missed, page by page, until they have all.

Only the pump's thread replays. Other threads only add streams.
"""

from __future__ import annotations

import logging
from collections import deque

from ..errors import LogError
from ..protocol.batch import Batch
from ..throttled_log import ThrottledLog
from .cursor import Cursor
from .finished_channels import FinishedChannels
from .observers import NO_OBSERVERS, Observers
from .registry import Registry
from .sent_counts import SentCounts
from .stream_state import EndReason
from .subscriber import Subscriber

_throttled = ThrottledLog(logging.getLogger(__name__))

# Pages that are replayed in one turn of the pump, before it does its other work.
_PAGES_A_ROUND = 32


class Replay:
    """The subscribers that the pump replays to.

    :param registry: knows which events are in memory, and the pump's position.
    :param finished: ends the streams of channels that are finished.
    :param observers: the hub's observers; default: none.
    :param sent: counts the events that are handed to the kernel; default: no count.
    """

    def __init__(
        self,
        registry: Registry,
        finished: FinishedChannels,
        *,
        observers: Observers = NO_OBSERVERS,
        sent: SentCounts | None = None,
    ) -> None:
        self._registry = registry
        self._finished = finished
        self._observers = observers
        self._sent = sent or SentCounts(observers)
        # The subscribers that can get another page at once. Each gets one page a round. Any thread appends.
        self._waiting: deque[Subscriber] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, subscriber: Subscriber) -> None:
        """Send ``subscriber`` the events that it missed, in the next rounds."""
        self._waiting.append(subscriber)

    def run(self) -> None:
        """Send a page to some subscribers only, so that clients that missed nothing do not wait for long."""
        for _ in range(min(len(self._waiting), _PAGES_A_ROUND)):
            subscriber = self._waiting.popleft()
            # A subscriber without a cursor has ended. A blocked one is added again when its socket is writable.
            if subscriber.cursor is not None and not subscriber.is_blocked:
                self._send_page(subscriber)

    def _send_page(self, subscriber: Subscriber) -> None:
        cursor = subscriber.cursor
        if cursor is None:
            return
        try:
            batch = self._registry.missed(subscriber)
            if batch is not None:
                cursor.replayed += batch.count
            elif subscriber.cursor is None:  # it has ended just now
                batch = Batch(b"", 0)
            else:
                batch = self._read(cursor)
        except LogError as error:
            fields = {"event": "replay_failed", "channels": list(subscriber.channels)}
            _throttled.warning("go on", "a stream could not go on: %s", error, extra=fields)
            self._registry.tell_to_end(EndReason.UNAVAILABLE, (subscriber,))
            return
        if batch.body and subscriber.deliver(batch):
            self._registry.check_soon(subscriber)
            return
        self._sent.add(subscriber.kind, batch.count, len(batch.body))
        if not self._registry.attach_if_caught_up(subscriber):
            self._waiting.append(subscriber)
            return
        self._observers.stream_caught_up(subscriber.kind, cursor.replayed)
        if cursor.finishes:
            self._finished.end_if_over(subscriber)

    def _read(self, cursor: Cursor) -> Batch:
        """Read a page from the log.

        :raises LogError: the log cannot be read.
        """
        before = cursor.replayed
        wire = cursor.read_wire()
        batch = Batch(wire, cursor.replayed - before)
        if cursor.told is not None:
            self._observers.reset_sent(cursor.told)
        if not batch.body:
            # It has all events. None can come in between, as only this thread moves the position. Without this
            # step a subscriber whose channels have nothing new would never catch up with the pump.
            cursor.after = max(cursor.after, self._registry.position)
        return batch
