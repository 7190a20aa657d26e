"""Reads the bytes of a stream: chunks, and the events in them."""

from __future__ import annotations

from typing import NamedTuple

from sse_threaded.presence.blocks import EVENT
from sse_threaded.protocol.decoder import EventStreamDecoder
from sse_threaded.protocol.event import NOTICES, RESET

_WITHOUT_ID = NOTICES | {EVENT}


class ParsedBytes(NamedTuple):
    """The content of some bytes of a body.

    :ivar rest: the bytes at the end that belong to the next event.
    :ivar sequences: the sequence numbers of the events.
    :ivar last_event_id: the last event ID; ``""`` if there is none.
    :ivar retry: the reconnection time in milliseconds; ``None`` if there is none.
    :ivar resets: how many events are ``reset``.
    :ivar ended: whether the body has ended.
    """

    rest: bytes
    sequences: list[int]
    last_event_id: str
    retry: int | None
    resets: int
    ended: bool


def parse(data: bytes) -> ParsedBytes:
    """Read a body in chunks (RFC 9112, section 7.1), up to the last complete event.

    It has no state, so that equal bytes of many clients are parsed once.

    :param data: bytes that begin with a chunk and with an event.
    """
    body, at, whole, used = b"", 0, 0, 0
    ended = False
    while (end := data.find(b"\r\n", at)) >= 0 and not ended:
        size = int(data[at:end], 16)
        after = end + 2 + size + 2
        if after > len(data):
            break
        body += data[end + 2 : end + 2 + size]
        at = after
        ended = size == 0
        if ended or body.endswith(b"\n\n"):
            used, whole = at, len(body)
    decoder = EventStreamDecoder()
    events = [event for event in decoder.feed(body[:whole]) if event.event not in _WITHOUT_ID]
    plain = [event for event in events if event.event != RESET]
    sequences = [int(event.last_event_id.rpartition("-")[2]) for event in plain]
    resets = len(events) - len(plain)
    return ParsedBytes(data[used:], sequences, decoder.last_event_id, decoder.retry, resets, ended)
