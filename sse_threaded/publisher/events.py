"""Makes events of the JSON that a publisher sends."""

from __future__ import annotations

from typing import NamedTuple

from werkzeug.exceptions import UnprocessableEntity

from ..errors import InvalidEvent
from ..log.validation import validate_event
from ..protocol.event import FINISHED
from ..protocol.json_body import kind_of, quoted

# Events of one request. They are one transaction, for which all other publishers wait.
MAX_EVENTS = 500

_MEMBERS = ("channel", "data", "event", "finish")
_FORM = 'send {"channel": "...", "data": ...}, with "event": "name" or "finish": true if you like'


class Event(NamedTuple):
    """An event that can be appended.

    :ivar channel: its channel.
    :ivar data: its data, as text.
    :ivar event: its type; ``None`` for ``message``.
    """

    channel: str
    data: str
    event: str | None


def events_in(body: object) -> list[Event]:
    """Return the events in a body: an object for one event, or a list of objects.

    :raises UnprocessableEntity: one of them is invalid; its sentence says which one, and the fault.
    """
    if not isinstance(body, list):
        return [_event_in(body, "The body")]
    if not 0 < len(body) <= MAX_EVENTS:
        raise UnprocessableEntity(f"A list must have 1 to {MAX_EVENTS} events, not {len(body)}.")
    return [_event_in(each, f"Event {number} of {len(body)}") for number, each in enumerate(body, 1)]


def _event_in(value: object, what: str) -> Event:
    if not isinstance(value, dict):
        raise UnprocessableEntity(f"{what} is {kind_of(value)}; {_FORM}.")
    for name in value:
        if name not in _MEMBERS:
            raise UnprocessableEntity(f"{what} has the unknown member {quoted(name)}; {_FORM}.")
    finish = value.get("finish", False)
    if not isinstance(finish, bool):
        raise UnprocessableEntity(f'{what}: "finish" is {kind_of(finish)}; send true for the last event.')
    if finish and value.get("event") is not None:
        raise UnprocessableEntity(f'{what} has "event" and "finish"; the last event has a name of its own.')
    if "channel" not in value or ("data" not in value and not finish):
        missing = "channel" if "channel" not in value else "data"
        raise UnprocessableEntity(f'{what} has no "{missing}"; {_FORM}.')
    try:
        event = FINISHED if finish else value.get("event")
        return Event(*validate_event(value["channel"], value.get("data", {}), event))
    except InvalidEvent as error:
        raise UnprocessableEntity(f'{what}, "{error.field}": {error.reason}.') from None
