"""The facts of a subscriber, for observers and for the line of the log at its end."""

from __future__ import annotations

import logging
import time

from ..observer import Ending, Stream
from .observers import Observers
from .owners import DECISION
from .stream_state import EndReason
from .subscriber import Subscriber

# The name by which users filter; the line was written by that module before streams could be parked.
_log = logging.getLogger("sse_threaded.stream")


def stream_of(subscriber: Subscriber) -> Stream:
    """Return the stream of a subscriber, as observers see it."""
    owner = subscriber.owner
    user = None if owner is None else owner.user
    return Stream(subscriber.kind, subscriber.channels, user, subscriber.address)


def note_end(subscriber: Subscriber, observers: Observers) -> None:
    """Log the end of a subscriber's stream, and tell the observers. Called once, after its last step.

    Without the registry's lock, on the thread that has ended it.
    """
    is_logged = _log.isEnabledFor(logging.DEBUG)
    if not is_logged and not observers.are_any:
        return
    stream = stream_of(subscriber)
    reason = str(subscriber.end_reason or EndReason.GONE)
    seconds = max(time.monotonic() - subscriber.allowed_at - DECISION, 0.0)
    ending = Ending(stream, reason, seconds, subscriber.sent_events, subscriber.sent)
    if is_logged:
        _log_end(ending)
    observers.stream_ended(ending)


def _log_end(ending: Ending) -> None:
    stream = ending.stream
    fields = {
        "event": "stream_ended",
        "kind": str(stream.kind),
        "channels": list(stream.channels),
        "user": stream.user,
        "address": stream.address,
        "reason": ending.reason,
        "seconds": round(ending.seconds, 3),
        "events": ending.events,
        "bytes": ending.size,
    }
    _log.debug("stream of %s ended: %s", stream.channels, ending.reason, extra=fields)
