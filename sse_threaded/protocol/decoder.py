"""Reads ``text/event-stream``: bytes in, events out, as WHATWG HTML 9.2.5 and 9.2.6 say.

It does no I/O and has no clock and no threads: the caller feeds it the bytes, in pieces of any size. A decoder
belongs to one connection, and one thread at a time uses it. A new connection needs a new decoder, which takes over
the last event ID and the reconnection time::

    decoder = EventStreamDecoder()
    for event in decoder.feed(b"id: 7\\ndata: hello\\n\\n"):
        assert (event.data, event.last_event_id) == ("hello", "7")
    decoder = EventStreamDecoder(last_event_id=decoder.last_event_id, retry=decoder.retry)
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DecodedEvent", "EventStreamDecoder"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A reconnection time with more digits (31 million years in ms) counts as a broken field. Without a limit int()
# would need quadratic time for it, or refuse it (sys.set_int_max_str_digits).
_RETRY_DIGITS = 18


@dataclass(frozen=True)
class DecodedEvent:
    """One event, as ``EventSource`` would dispatch it (WHATWG HTML 9.2.6).

    :ivar data: the values of its ``data`` fields, joined by LF.
    :ivar event: its type; ``"message"`` if the stream gave no type.
    :ivar last_event_id: the last event ID of the stream after this event. If this event has no id it is that of an
        earlier event, and ``""`` if no event had one.
    """

    data: str
    event: str = "message"
    last_event_id: str = ""


class EventStreamDecoder:
    """A decoder of one event stream (WHATWG HTML 9.2.5 and 9.2.6).

    The end of the stream needs no call: an event whose closing blank line has not come is never dispatched.
    Invalid UTF-8 becomes U+FFFD, and unknown fields are skipped. No input raises an error.

    :param last_event_id: the id after which the connection resumes. Events without an id have this one, as in
        browsers; default ``""``.
    :param retry: the reconnection time so far, in milliseconds; default ``None``, not known.
    :ivar last_event_id: the last event ID. An ``id`` field takes effect at the next blank line, even if there was
        no data and so no event.
    :ivar retry: the last reconnection time of the stream, in milliseconds, or ``None``.
    :ivar comments: how many comment lines have come (heartbeats are comments).
    """

    def __init__(self, last_event_id: str = "", retry: int | None = None) -> None:
        self.last_event_id = last_event_id
        self.retry = retry
        self.comments = 0
        self._line = bytearray()  # the line whose end has not come
        self._at_start = True  # no line has ended: a byte order mark may still come
        self._after_cr = False  # a CR ended the last line: an LF now is the rest of that line's end
        self._data: list[str] = []
        self._data_bytes = 0  # of these lines, with one line end each
        self._event = ""
        self._id = last_event_id

    @property
    def unfinished_bytes(self) -> int:
        """How much is kept of a line or an event that has not ended, so that a client can limit it.

        The last line counts in bytes. The data of earlier lines counts in characters.
        """
        return len(self._line) + self._data_bytes

    def feed(self, chunk: bytes) -> list[DecodedEvent]:
        """Take the next bytes of the stream; return the events that they complete, in order.

        :param chunk: any number of bytes. They may be cut anywhere, even inside a character or a line end.
        """
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        # A CR ends its line at once. To wait and see whether an LF follows would hold the event back until the
        # next one.
        self._after_cr = chunk.endswith(b"\r")
        events = []
        for piece in chunk.splitlines(keepends=True):  # on bytes: at LF, CR and CRLF only
            self._line += piece.rstrip(b"\r\n")
            if piece.endswith((b"\r", b"\n")):
                event = self._end_line()
                if event is not None:
                    events.append(event)
        return events

    def _end_line(self) -> DecodedEvent | None:
        line = bytes(self._line)
        self._line.clear()
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            self.comments += 1
            return None
        # No byte of a longer UTF-8 sequence is a CR, an LF or a colon. So the text is the same whether the bytes
        # are cut first or decoded first.
        name, _, value = line.decode("utf-8", "replace").partition(":")
        self._take_field(name, value.removeprefix(" "))
        return None

    def _take_field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            digits = value.lstrip("0") or "0"
            if len(digits) <= _RETRY_DIGITS:
                self.retry = int(digits)

    def _dispatch(self) -> DecodedEvent | None:
        self.last_event_id = self._id
        data, event = self._data, self._event
        self._data, self._data_bytes, self._event = [], 0, ""
        if not data:
            return None
        return DecodedEvent("\n".join(data), event or "message", self.last_event_id)
