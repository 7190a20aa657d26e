"""Events as the log returns them: a :class:`Record` each, and a :class:`Page` for one read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# One read returns this much at most. So the memory of a replay does not grow with the history that a client lacks.
PAGE_EVENTS = 200
PAGE_CHARACTERS = 256 * 1024  # of data; a page holds at least one event, however long it is


class Record(NamedTuple):
    """One event as the log keeps it.

    :ivar sequence: its number; the first event of a log has 1.
    :ivar channel: its channel.
    :ivar event: its type; ``None`` for ``message``.
    :ivar data: its data, as text.
    """

    sequence: int
    channel: str
    event: str | None
    data: str


class Page(list[Record]):
    """The events of one read, in the log's order.

    :ivar full: whether the log may have had more events when it was read.
    """

    full = False


def page_of(records: Iterable[Record], upto: int | None = None) -> Page:
    """Return the first page of ``records``, bounded in events and in characters.

    :param records: events in the log's order.
    :param upto: the last sequence that is wanted; ``None``, the default, for no bound.
    """
    page = Page()
    size = 0
    for record in records:
        size += len(record.data)
        if upto is not None and record.sequence > upto:
            break
        page.full = len(page) == PAGE_EVENTS or (len(page) > 0 and size > PAGE_CHARACTERS)
        if page.full:
            break
        page.append(record)
    return page
