"""Reads pages of events from a SQLite log, inside of a read transaction of the caller's or in one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from heapq import merge

from ..record import Page, Record, page_of

# The name of the row in sse_channels that stands for all channels without a row of their own, and without events.
# No channel has an empty name.
FOLDED = ""

_COLUMNS = "SELECT sequence, channel, event, data FROM sse_events"

# All events after a number, oldest first. SQLite finds the rows one by one as they are asked for.
EVENTS_AFTER = f"{_COLUMNS} WHERE sequence > ? ORDER BY sequence"

# The newest event of a channel.
NEWEST_EVENT = f"{_COLUMNS} WHERE channel = ? ORDER BY sequence DESC LIMIT 1"


def read_page(
    connection: sqlite3.Connection, after: int, channels: Collection[str] | None, upto: int | None
) -> Page:
    """Return one page of events, oldest first.

    :param connection: one that no other thread uses now.
    :param after: the number after which to read.
    :param channels: only these channels; ``None`` for all.
    :param upto: the last number that is wanted; ``None`` for no bound.
    """
    # A walk along the table, or along each channel's part of the index, merged. It reads no more rows than the
    # page takes.
    if channels is None:
        cursors = [connection.execute(EVENTS_AFTER, (after,))]
    else:
        one = f"{_COLUMNS} WHERE channel = ? AND sequence > ? ORDER BY sequence"
        cursors = [connection.execute(one, (channel, after)) for channel in dict.fromkeys(channels)]
    try:
        return page_of(map(Record._make, merge(*cursors)), upto)
    finally:
        # An open cursor would keep SQLite from copying the write-ahead log into the file.
        for cursor in cursors:
            cursor.close()


def last_trimmed(connection: sqlite3.Connection, channels: Collection[str] | None) -> int:
    """Return the highest number that was trimmed from any of the channels, 0 for none.

    :param connection: one that no other thread uses now.
    :param channels: only these channels; ``None`` for all.
    """
    if channels is None:
        return connection.execute("SELECT max(trimmed) FROM sse_channels").fetchone()[0] or 0
    one = "SELECT trimmed FROM sse_channels WHERE channel = ?"
    floor = connection.execute(one, (FOLDED,)).fetchone() or (0,)
    rows = (connection.execute(one, (channel,)).fetchone() for channel in channels)
    return max(((row or floor)[0] for row in rows), default=0)
