r"""One server-sent event as a value, and its bytes on the wire.

Every :class:`ServerSentEvent` is valid: the constructor refuses a value that could break the stream's framing. So
encoding cannot fail, and nothing is cleaned silently. Any thread may make and encode events; they never change.

    >>> ServerSentEvent(data={"type": "task_deleted", "taskId": "task-2"}, id="kx-7").encode()
    b'data: {"type":"task_deleted","taskId":"task-2"}\nid: kx-7\n\n'

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidEvent

CONTENT_TYPE = "text/event-stream; charset=utf-8"

# The names of the events that a stream sends about itself. Each is one block with data, because many clients take
# an id or a reconnection time only from such a block. No name is "open", "error" or "message", which would call
# EventSource's own handlers; so onmessage never gets one. All names with the prefix belong to such events.
NOTICE_PREFIX = "stream-"
START = "stream-start"
END = "stream-end"
UNAVAILABLE = "stream-unavailable"
NOTICES = frozenset((START, END, UNAVAILABLE))

# The name of the event that tells a client to fetch its state again.
RESET = "reset"

# The line ends of the format (9.2.5); CRLF counts once. str.splitlines() would also split at U+2028, form feed and
# others, which are ordinary characters here.
_LINE_END = re.compile(r"\r\n|\n|\r")


def json_line(value: object) -> str:
    """Return ``value`` as one line of compact JSON, with characters outside ASCII as they are.

    :param value: anything JSON can write.
    :raises InvalidEvent: JSON cannot write it, or it has NaN or an infinity, which ``JSON.parse`` refuses.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent("data", f"JSON cannot write it ({error}); pass text or plain values") from error


def data_text(value: object) -> str:
    """Return the text of an event's data: text as it is, other values as one line of JSON.

    :param value: text, or anything JSON can write.
    :raises InvalidEvent: JSON cannot write it, or it holds a lone surrogate.
    """
    text = value if isinstance(value, str) else json_line(value)
    _require_unicode("data", text)
    return text


def _require_unicode(field: str, text: str) -> None:
    # Event streams are always UTF-8 (9.2.5), which cannot write half a surrogate pair.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidEvent(field, f"character {error.start} is half of one (a lone surrogate)") from None


def check_name(value: object) -> None:
    """Raise unless ``value`` can be an event's name.

    :raises InvalidEvent: it is not text, is empty, or has a line end in it.
    """
    _require_field("event", value, forbidden="\r\n")
    if value == "":
        raise InvalidEvent("event", "must not be empty; leave it out for an ordinary message")


def _require_field(field: str, value: object, forbidden: str) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(field, f"must be text, not {type(value).__name__}")
    for character in forbidden:
        if character in value:
            raise InvalidEvent(field, f"{character!r} in {value!r} would start another field; leave it out")
    _require_unicode(field, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSentEvent:
    """One event, ready to be written. It is frozen, keyword-only and always valid (WHATWG HTML 9.2).

    :param data: text, or anything JSON can write, which becomes one line of JSON; the attribute is that text.
        ``None``, the default, leaves the data out: the browser takes ``id`` and ``retry`` from it, and dispatches
        nothing (9.2.6).
    :param event: the type for ``addEventListener``, without CR and LF; ``None``, the default, means ``message``.
    :param id: the last event ID from here on, without CR, LF and NUL (9.2.6 ignores an id with NUL). ``""`` unsets
        it; ``None``, the default, does not change it.
    :param retry: the reconnection time in milliseconds, an integer from 0; ``None``, the default, does not change
        it.
    :raises InvalidEvent: a value would break the stream's framing, or readers would ignore it.
    """

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        if self.data is not None:
            object.__setattr__(self, "data", data_text(self.data))
        if self.event is not None:
            check_name(self.event)
        if self.id is not None:
            _require_field("id", self.id, forbidden="\r\n\0")
        if self.retry is not None and (type(self.retry) is not int or self.retry < 0):
            raise InvalidEvent("retry", f"must be a whole number of milliseconds from 0, not {self.retry!r}")

    def encode(self) -> bytes:
        """Return the event's block: a line for each field, and the blank line that ends it."""
        lines = []
        if self.event is not None:
            lines.append(f"event: {self.event}\n")
        if self.retry is not None:
            lines.append(f"retry: {self.retry}\n")
        if self.data is not None:
            lines.extend(f"data: {line}\n" for line in _LINE_END.split(self.data))
        # The id comes last, because some clients take it when they read its line. Otherwise a client that is cut
        # off inside the data would reconnect with the id of an event that it did not get.
        if self.id is not None:
            lines.append(f"id: {self.id}\n")
        lines.append("\n")
        return "".join(lines).encode()


def comment(text: str = "") -> bytes:
    """Return comment lines, which readers skip (9.2.5): a heartbeat, or an explanation for a person who uses curl.

    No blank line follows: some clients would take it for the end of an empty event.

    :param text: any text; each of its lines becomes a comment line.
    :raises InvalidEvent: it holds a lone surrogate.
    """
    _require_unicode("comment", text)
    return "".join(f": {line}\n" for line in _LINE_END.split(text)).encode()


def notice(name: str, retry: int, event_id: str | None = None) -> bytes:
    """Return an event that a stream sends about itself.

    Its data is an empty JSON object, which every client can parse.

    :param name: one of :data:`NOTICES`.
    :param retry: the reconnection time, milliseconds.
    :param event_id: the last event ID from here on; ``None``, the default, does not change it.
    """
    # The reconnection time comes first, so that a person who looks at a stream sees it first.
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"retry: {retry}\nevent: {name}\n{id_line}data: {{}}\n\n".encode()
