"""Makes records and pages of the answers of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from typing import Any

from ...errors import HistoryGone
from ..record import PAGE_CHARACTERS, PAGE_EVENTS, Page, Record, page_of
from .gaps import Gaps

# One entry of a stream: its id, its fields.
Entry = tuple[bytes, dict[bytes, bytes]]

# Of each channel in a page of many channels, at least: events, and bytes.
_LEAST_EVENTS, _LEAST_SIZE = 8, 16 * 1024


def record_of(entry: bytes, fields: dict[bytes, bytes], channel: str | None = None) -> Record:
    """Return the event in an entry of a stream.

    :param entry: the entry's id.
    :param fields: the entry's fields.
    :param channel: whose stream it is; ``None``, the default, for the feed, whose entries name their channels.
    """
    event = fields.get(b"e")
    return Record(
        int(entry.partition(b"-")[0]),
        fields[b"c"].decode() if channel is None else channel,
        None if event is None else event.decode(),
        fields[b"d"].decode(),
    )


def record_from(entry: Any, channel: str | None) -> Record:
    """Return the event in an entry as a script returns it; for ``channel`` see :func:`record_of`."""
    name, flat = entry
    return record_of(name, dict(zip(flat[::2], flat[1::2], strict=True)), channel)


def bounds_of(channels: int) -> tuple[int, int]:
    """Return how many events, and how many bytes, of each of so many channels a page needs at most.

    A page of many channels has a part of each. If a part is cut short, the next page has more of it.
    """
    share = max(channels, 1)
    return max(PAGE_EVENTS // share, _LEAST_EVENTS) + 1, max(PAGE_CHARACTERS // share, _LEAST_SIZE) + 1


def page_from(answer: Any, after: int, channels: Sequence[str] | None, upto: int | None) -> Page:
    """Return the page in an answer of ``read.lua``.

    :param answer: the last number, the gaps, whether wanted events are gone, and the streams.
    :param after: the number after which was read.
    :param channels: the channels whose streams were read; ``None`` for the feed.
    :param upto: the last number that is wanted; ``None`` for no bound.
    :raises HistoryGone: some of the wanted events have been trimmed, or are lost.
    """
    last, gaps, gone, streams = int(answer[0]), Gaps(answer[1]), answer[2], answer[3]
    if gone:
        raise HistoryGone("expired")
    if gaps.hold(after) or (channels is not None and after > last):
        raise HistoryGone("beyond")
    found = [
        [record_from(entry, name) for entry in entries]
        for (_, entries), name in zip(streams, [None] if channels is None else channels, strict=True)
    ]
    if channels is None:
        _require_whole(found[0], after, last if upto is None else min(last, upto), gaps)
    # A channel that was cut short may have more events, so no later event of another channel may come before them.
    cut = [records[-1].sequence for (is_cut, _), records in zip(streams, found, strict=True) if is_cut]
    limit = min(cut, default=None)
    page = page_of((each for each in merge(*found) if limit is None or each.sequence <= limit), upto)
    page.full = page.full or bool(cut)
    return page


def _require_whole(records: list[Record], after: int, last: int, gaps: Gaps) -> None:
    """Raise if an event is missing before this part of the feed."""
    if not gaps.follows(records[0].sequence if records else last + 1, after) and (records or last > after):
        raise HistoryGone("expired")
