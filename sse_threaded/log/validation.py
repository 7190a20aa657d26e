"""The checks before an event is appended to a log: of its channel's name, of its type and of its data."""

from __future__ import annotations

from ..errors import InvalidEvent
from ..protocol.event import FINISHED, NOTICE_PREFIX, RESET, JSONDefault, check_name, json_line, require_unicode

# An event is a notice, not a file. Publish the address of anything larger.
MAX_DATA_CHARACTERS = 1024 * 1024
MAX_CHANNEL_CHARACTERS = 255
MAX_EVENT_CHARACTERS = 255
MAX_USER_CHARACTERS = 255

# Names of channels that begin so belong to the package.
RESERVED_PREFIX = "sse_threaded:"


def validate_channel(channel: object) -> None:
    """Raise unless ``channel`` can be a channel's name.

    :raises InvalidEvent: it is not text, is empty, has over 255 characters, or has no UTF-8 form.
    """
    if not isinstance(channel, str) or not 0 < len(channel) <= MAX_CHANNEL_CHARACTERS:
        found = f"{str(channel)[:50]!r}" if isinstance(channel, str) else type(channel).__name__
        raise InvalidEvent("channel", f"must be text of 1 to {MAX_CHANNEL_CHARACTERS} characters, not {found}")
    try:
        channel.encode()
    except UnicodeEncodeError:
        raise InvalidEvent("channel", f"{channel!r} holds a lone surrogate; it has no UTF-8 form") from None


def validate_user(user: str | None) -> None:
    """Raise unless the name of a user can be shown to others.

    :raises ValueError: it is ``None``, is empty, has over 255 characters, or has no UTF-8 form.
    """
    if user is None:
        raise ValueError('presence=True shows the user to others: pass user=..., or presence="hidden"')
    if not 0 < len(user) <= MAX_USER_CHARACTERS:
        limit = f"must have 1 to {MAX_USER_CHARACTERS} characters"
        raise ValueError(f"presence=True shows the user to others, so {user[:50]!r} {limit}")
    try:
        user.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the user {user!r} holds a lone surrogate; it has no UTF-8 form") from None


def validate_event(
    channel: object, data: object, event: object, default: JSONDefault | None = None
) -> tuple[str, str, str | None]:
    """Return the channel, the data as text, and the type of an event that can be appended.

    :param channel: 1 to 255 characters.
    :param data: text, or anything JSON can write; at most 1,048,576 characters as text.
    :param event: its type, 1 to 255 characters; ``None`` for ``message``. ``reset`` and all types that begin with
        ``stream-`` belong to the library. ``stream-finished`` finishes the channel.
    :param default: see :func:`.protocol.event.json_line`; default ``None``.
    :raises InvalidEvent: one of them is invalid.
    """
    validate_channel(channel)
    if event is not None:
        check_name(event)
        if len(str(event)) > MAX_EVENT_CHARACTERS:
            raise InvalidEvent("event", f"must have {MAX_EVENT_CHARACTERS} characters at most")
        if event == RESET:
            raise InvalidEvent("event", f"{RESET!r} tells clients to fetch their state again; choose another name")
        if event != FINISHED and event.startswith(NOTICE_PREFIX):  # type: ignore[attr-defined]  # check_name() accepts text only
            raise InvalidEvent(
                "event", f"names that begin with {NOTICE_PREFIX!r} belong to the library; choose another name"
            )
    text = data if isinstance(data, str) else json_line(data, default)
    if len(text) > MAX_DATA_CHARACTERS:
        limit = f"over {MAX_DATA_CHARACTERS:,} characters ({len(text):,})"
        raise InvalidEvent("data", f"{limit}; publish the address where clients can fetch it")
    if not text.isascii():
        require_unicode("data", text)
    # Plain text: a subclass may convert itself for SQLite in its own way, and fail beside other events.
    plain = str.__str__
    return plain(channel), plain(text), None if event is None else plain(event)
