"""Events in the log that are for the processes, and not for clients. They are in a channel of their own.

So every process of every host gets them in the order of all events. A disconnection ends streams before any event
that is published after it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator

from ..errors import HistoryGone, InvalidEvent
from ..log import EventLog, Page, Record
from ..log.validation import RESERVED_PREFIX
from .owners import Disconnection

_log = logging.getLogger(__name__)

CONTROL = f"{RESERVED_PREFIX}control"

_DISCONNECT = "disconnect"

# Seconds: more than a view takes, and more than the clocks of two hosts differ.
_RECENT = 5.0


def reserved(channel: str) -> InvalidEvent:
    """Return the error for a channel of the package's own that an app names."""
    return InvalidEvent("channel", f"{channel!r} begins with {RESERVED_PREFIX!r}, which belongs to the package")


def disconnect_data(user: str | None, channel: str | None) -> dict[str, str | float | None]:
    """Return the data of a disconnection."""
    return {"type": _DISCONNECT, "user": user, "channel": channel, "at": time.time()}


def disconnection_in(record: Record) -> Disconnection | None:
    """Return the disconnection in a record; ``None`` for any other record, also one of a later release."""
    if record.channel != CONTROL:
        return None
    try:
        data = json.loads(record.data)
        if data["type"] == _DISCONNECT and (data["user"] is not None or data["channel"] is not None):
            return Disconnection(time.monotonic(), data["user"], data["channel"])
    except (ValueError, TypeError, KeyError):
        pass
    fields = {"event": "control_event_unknown", "channels": [CONTROL]}
    _log.warning("event %d in the channel %r is not known here", record.sequence, CONTROL, extra=fields)
    return None


def recent_disconnection_in(record: Record) -> Disconnection | None:
    """Return the disconnection in a record, if it is not older than a few seconds; else ``None``."""
    found = disconnection_in(record)
    if found is None:
        return None
    at = json.loads(record.data).get("at")
    is_old = isinstance(at, int | float) and time.time() - at > _RECENT
    return None if is_old else found


def was_disconnected(log: EventLog, last_event_id: str, user: str | None, channels: Collection[str]) -> bool:
    """Whether a user's stream of some channels was disconnected after an event, or may have been.

    :param log: the log.
    :param last_event_id: the event's id. If the log has not all events after it any more, the answer is ``True``.
    :raises LogError: the log cannot be read.
    """
    try:
        sequence = log.sequence_of(last_event_id)
        while page := log.read(sequence, channels=[CONTROL]):
            found = filter(None, map(disconnection_in, page))
            if any(each.is_about(user, channels) for each in found):
                return True
            sequence = page[-1].sequence
    except HistoryGone:
        return True
    return False


def parts_of(page: Page) -> Iterator[Page]:
    """The parts of a page: each ends with a control event, or with the page."""
    if not page:
        return
    begin = 0
    for index, record in enumerate(page, 1):
        if record.channel == CONTROL:
            yield Page(page[begin:index])
            begin = index
    if begin == 0:
        yield page
    elif begin < len(page):
        yield Page(page[begin:])
