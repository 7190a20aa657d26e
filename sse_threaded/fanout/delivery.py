"""Sends bytes to subscribers, after the registry has said which ones get them."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterable

from ..observer import Kind
from .audience import Delivery
from .registry import Registry
from .sent_counts import SentCounts
from .stream_state import EndReason
from .subscriber import Subscriber

_log = logging.getLogger("sse_threaded.fanout.log_reader")  # the name that users filter by


def deliver(registry: Registry, deliveries: Iterable[Delivery], sent: SentCounts) -> None:
    """Send events to subscribers. The pump's thread, without the registry's lock, as this sends to parked streams.

    Subscribers that leave during this time get some events in vain.

    :param sent: counts the events that sockets took at once.
    """
    slow: list[Subscriber] = []
    to_check: list[Subscriber] = []
    try:
        for batch, broadcast, others in deliveries:
            whole = 0  # clients whose sockets took the whole batch
            if broadcast is not None:
                whole = len(broadcast)
                late = broadcast.send(batch)
                whole -= len(late)
                to_check += late
            for subscriber in others:
                try:
                    if subscriber.deliver(batch):
                        to_check.append(subscriber)
                    else:
                        whole += subscriber.pump_writes
                except queue.Full:
                    slow.append(subscriber)
            sent.add(Kind.PARKED, whole * batch.count, whole * len(batch.body))
    finally:
        if to_check:
            registry.check_all_soon(to_check)
    if slow:
        registry.tell_to_end(EndReason.SLOW, slow)
        fields = {"event": "slow_clients", "count": len(slow), "reason": str(EndReason.SLOW)}
        _log.info("cut off as too slow, to resume by replay: %d client(s)", len(slow), extra=fields)
