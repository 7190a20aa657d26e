"""The content of a ticket, where it stands in a request, and why it may be refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

Secret = str | bytes | Sequence[str | bytes]


class TicketRefused(Exception):
    """The ticket does not allow the stream.

    :ivar detail: why, in one sentence.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Ticket(NamedTuple):
    """The content of a ticket.

    :ivar channels: the channels that it allows.
    :ivar user: whose stream it is; ``None`` for no user.
    :ivar expires: until when a stream may begin (Unix time).
    :ivar resumes: until when a client that has had a stream may resume it (Unix time).
    :ivar last_event_id: the log's newest event when the ticket was made.
    """

    channels: tuple[str, ...]
    user: str | None
    expires: float
    resumes: float
    last_event_id: str


def ticket_in(query: str) -> str | None:
    """Return the ticket in a URL's query; the last one if there are several."""
    found = [value for name, value in parse_qsl(query) if name == "ticket"] if "ticket=" in query else []
    return found[-1] if found else None
