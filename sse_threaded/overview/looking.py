"""Looks at the streams of this process. Any thread; it reads numbers that other threads may be changing."""

from __future__ import annotations

import heapq
import time

from ..fanout.owners import DECISION
from ..fanout.pump import Pump
from ..fanout.subscriber import Subscriber
from .report import CHANNELS_TOLD, StreamRow, shortened


def look(pump: Pump, epoch: str, most: int) -> tuple[int, int, str, tuple[StreamRow, ...]]:
    """Return how many streams there are, how many events wait for them, the newest id handed out, and rows.

    :param pump: the pump of the streams.
    :param epoch: the log's.
    :param most: how many rows; those for which most events wait, and of equal ones the oldest.
    """
    subscribers = pump.subscribers()
    position = pump.position
    now = time.monotonic()
    first = heapq.nlargest(most, subscribers, key=lambda each: (each.waiting, -each.allowed_at))
    rows = tuple(_row(each, epoch, position, now) for each in first)
    return len(subscribers), sum(each.waiting for each in subscribers), f"{epoch}-{position}", rows


def _row(subscriber: Subscriber, epoch: str, position: int, now: float) -> StreamRow:
    cursor, owner = subscriber.cursor, subscriber.owner
    reached = max(subscriber.after, position) if cursor is None else cursor.after
    return StreamRow(
        channels=tuple(shortened(channel) or "" for channel in subscriber.channels[:CHANNELS_TOLD]),
        channel_count=len(subscriber.channels),
        user=None if owner is None else shortened(owner.user),
        address=shortened(subscriber.address),
        kind=str(subscriber.kind),
        age=round(max(now - subscriber.allowed_at - DECISION, 0.0), 1),
        last_event_id=f"{epoch}-{reached}",
        waiting=subscriber.waiting,
        sent=subscriber.sent_bytes,
    )
