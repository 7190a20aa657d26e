"""Reads events of all channels, or of one, for the page: the newest ones, and those after an id."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from ..errors import HistoryGone
from ..log import EventLog, Page, Record
from ..log.validation import RESERVED_PREFIX

# Events of the first answer, and of each later one.
NEWEST = 100
_MOST = 500

# Events among which the newest ones of the app are looked for.
_LOOKED_AT = 100 * 4**4

# Characters of data that the page shows of an event.
_SHOWN = 4000


class Events(NamedTuple):
    """Some events of the log.

    :ivar records: the events, oldest first.
    :ivar last: the number up to which they are all.
    :ivar is_reset: whether events before them are missing that were asked for.
    """

    records: list[Record]
    last: int
    is_reset: bool = False


def newest(log: EventLog, channel: str | None) -> Events:
    """Return the newest events.

    :param log: the log.
    :param channel: the channel; ``None`` for all channels.
    :raises LogError: the log cannot be read.
    """
    last = log.last_sequence()
    if channel is not None:
        return _after(log, log.trimmed([channel]), last, [channel])
    found = Events([], last)
    most = min(last, _LOOKED_AT)
    count = min(NEWEST, most)
    # More and more, as events of the package are between those of the app; and fewer where some are trimmed.
    while count:
        try:
            found = _after(log, max(last - count, 0), last, None)
        except HistoryGone:
            if found.records:
                break
            most = count = count // 2
            continue
        if len(found.records) >= NEWEST or count == most:
            break
        count = min(4 * count, most)
    return found._replace(records=found.records[-NEWEST:])


def after(log: EventLog, last_event_id: str, channel: str | None) -> Events:
    """Return the events after one; the newest if that is not possible.

    :param log: the log.
    :param last_event_id: its id.
    :param channel: the channel; ``None`` for all channels.
    :raises LogError: the log cannot be read.
    """
    channels = None if channel is None else [channel]
    try:
        last = log.last_sequence()
        return _after(log, log.sequence_of(last_event_id, known=last), last, channels)
    except HistoryGone:
        return newest(log, channel)._replace(is_reset=True)


def _after(log: EventLog, sequence: int, upto: int, channels: list[str] | None) -> Events:
    """Return the newest of the events between two numbers.

    :raises HistoryGone: some of them have been trimmed.
    """
    found: deque[Record] = deque(maxlen=_MOST)
    page = Page()
    page.full = True
    while page.full:
        page = log.read(sequence, channels=channels, upto=upto)
        found.extend(record for record in page if not record.channel.startswith(RESERVED_PREFIX))
        if page:
            sequence = page[-1].sequence
    return Events(list(found), max(sequence, upto))


def shown(log: EventLog, record: Record) -> dict[str, Any]:
    """Return an event as the page gets it."""
    data = record.data
    return {
        "id": log.event_id(record.sequence),
        "channel": record.channel,
        "event": record.event,
        "data": data[:_SHOWN],
        "characters": len(data),
    }
