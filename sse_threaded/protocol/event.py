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
from collections.abc import Callable
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

# The type of an event of the app after which its channel has no others. It is in the log, and has the app's data.
FINISHED = "stream-finished"

# The name of the event that tells a client to fetch its state again.
RESET = "reset"

# The line ends of the format (9.2.5); CRLF counts once. str.splitlines() would also split at U+2028, form feed and
# others, which are ordinary characters here.
_LINE_END = re.compile(r"\r\n|\n|\r")

# The characters that cannot be in an event's name and in an id: line ends, and NUL (9.2.6 ignores an id with NUL).
_ENDS_NAME = re.compile(r"[\r\n]")
_ENDS_ID = re.compile(r"[\r\n\0]")


_HOW: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
_JSON = json.JSONEncoder(**_HOW)


# Returns a value that JSON can write instead of one that it cannot; see json.JSONEncoder.default.
JSONDefault = Callable[[Any], Any]


def json_line(value: object, default: JSONDefault | None = None) -> str:
    """Return ``value`` as one line of compact JSON, with characters outside ASCII as they are.

    :param value: anything JSON can write.
    :param default: called for a part that JSON cannot write; returns one that it can. Default ``None``.
    :raises InvalidEvent: JSON cannot write it, or it has NaN or an infinity, which ``JSON.parse`` refuses.
    """
    try:
        if default is not None:
            return json.dumps(value, default=default, **_HOW)
        return _JSON.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        how = "pass text or plain values, or make the hub with a json_default"
        raise InvalidEvent("data", f"JSON cannot write it ({error}); {how}") from error


def require_unicode(field: str, text: str) -> None:
    """Raise if ``text`` has half a surrogate pair. Event streams are always UTF-8 (9.2.5), which cannot write it.

    :param field: the text's name in the error.
    :raises InvalidEvent: it has.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(field, f"character {error.start} is half of one (a lone surrogate)") from None


def check_name(value: object) -> None:
    """Raise unless ``value`` can be an event's name.

    :raises InvalidEvent: it is not text, is empty, or has a line end in it.
    """
    if not isinstance(value, str) or _ENDS_NAME.search(value):
        raise InvalidEvent("event", _fault(value, _ENDS_NAME))
    if not value.isascii():
        require_unicode("event", value)
    if value == "":
        raise InvalidEvent("event", "must not be empty; leave it out for an ordinary message")


def _fault(value: object, ends: re.Pattern[str]) -> str:
    found = ends.search(value) if isinstance(value, str) else None
    if found is None:
        return f"must be text, not {type(value).__name__}"
    return f"{found[0]!r} in {value!r} would start another field; leave it out"


def encode_event(
    data: str | None, event: str | None, id: str | None, retry: int | None = None, *, channel: str | None = None
) -> bytes:
    """Return an event's block: a line for each field, and the blank line that ends it.

    For the parameters see :class:`ServerSentEvent`.

    :param data: text only.
    :param channel: one line for a field ``channel``, which is this package's own; default ``None``: no such field.
    :raises InvalidEvent: a value would break the stream's framing, or readers would ignore it.
    """
    lines = []
    if event is not None:
        check_name(event)
        lines.append(f"event: {event}\n")
    if channel is not None:
        lines.append(f"channel: {channel}\n")
    if retry is not None:
        if type(retry) is not int or retry < 0:
            raise InvalidEvent("retry", f"must be a whole number of milliseconds from 0, not {retry!r}")
        lines.append(f"retry: {retry}\n")
    if data is not None:
        if not isinstance(data, str):
            raise InvalidEvent("data", f"must be text, not {type(data).__name__}")
        if not data.isascii():
            require_unicode("data", data)
        if "\n" in data or "\r" in data:
            lines.extend(f"data: {line}\n" for line in _LINE_END.split(data))
        else:
            lines.append(f"data: {data}\n")
    # The id comes last, because some clients take it when they read its line. Otherwise a client that is cut
    # off inside the data would reconnect with the id of an event that it did not get.
    if id is not None:
        if not isinstance(id, str) or _ENDS_ID.search(id):
            raise InvalidEvent("id", _fault(id, _ENDS_ID))
        if not id.isascii():
            require_unicode("id", id)
        lines.append(f"id: {id}\n")
    lines.append("\n")
    return "".join(lines).encode()


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
        if self.data is not None and not isinstance(self.data, str):
            object.__setattr__(self, "data", json_line(self.data))
        self.encode()  # so that it cannot fail later

    def encode(self) -> bytes:
        """Return the event's block: a line for each field, and the blank line that ends it."""
        return encode_event(self.data, self.event, self.id, self.retry)


def comment(text: str = "") -> bytes:
    """Return comment lines, which readers skip (9.2.5): a heartbeat, or an explanation for a person who uses curl.

    No blank line follows: some clients would take it for the end of an empty event.

    :param text: any text; each of its lines becomes a comment line.
    :raises InvalidEvent: it holds a lone surrogate.
    """
    if not text.isascii():
        require_unicode("comment", text)
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
