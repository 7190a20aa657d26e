"""Makes pages of the rows that PostgreSQL returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import HistoryGone
from ..record import PAGE_CHARACTERS, PAGE_EVENTS, Page, Record, page_of
from .text import from_database

# Events of one answer: one more than a page has, so that it is known whether there are more.
ROWS = PAGE_EVENTS + 1

# Bytes of one answer's data, except those of its first two events and of its last one. A character has four bytes
# at most, so a page is full before the answer ends.
BYTES = 4 * PAGE_CHARACTERS


def page_from(
    rows: Sequence[tuple[Any, ...]], after: int, channels: Sequence[str] | None, upto: int | None
) -> Page:
    """Return the page in an answer of ``sql/read.sql``.

    :param rows: the answer.
    :param after: the number after which was read.
    :param channels: the channels that were read; ``None`` for all.
    :param upto: the last number that is wanted; ``None`` for no bound.
    :raises HistoryGone: some of the wanted events have been trimmed, or are lost.
    """
    _, last, trimmed, *_ = rows[0]
    if channels is not None and after > last:
        raise HistoryGone("beyond")
    if (trimmed or 0) > after:
        raise HistoryGone("expired")
    found = [row[3:] for row in rows if row[3] is not None]
    if not all(is_there for _, _, is_there, _, _ in found):
        raise HistoryGone("expired")
    if channels is None:
        # Numbers have no gap, so events are missing where a number is.
        wanted = min(last, after + ROWS if upto is None else upto)
        has_gap = found and found[-1][0] != after + len(found)
        if has_gap or (wanted > after and not found):
            raise HistoryGone("expired")
    records = (record_of(sequence, channel, event, data) for sequence, channel, _, event, data in found)
    return page_of(records, upto)


def record_of(sequence: int, channel: str, event: str | None, data: str) -> Record:
    """Return the event in a row."""
    kind = None if event is None else from_database(event)
    return Record(sequence, from_database(channel), kind, from_database(data))
