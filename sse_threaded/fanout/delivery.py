"""Sends bytes to subscribers, after the registry has said which ones get them."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterable

from .audience import Delivery
from .registry import Registry
from .stream_state import EndReason
from .subscriber import Subscriber

_log = logging.getLogger("sse_threaded.fanout.log_reader")  # the name that users filter by


def deliver(registry: Registry, deliveries: Iterable[Delivery]) -> None:
    """Send events to subscribers. The pump's thread, without the registry's lock, as this sends to parked streams.

    Subscribers that leave during this time get some events in vain.
    """
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
            registry.check_all_soon(to_check)
    if slow:
        registry.tell_to_end(EndReason.SLOW, slow)
        _log.info("cut off as too slow, to resume by replay: %d client(s)", len(slow))
