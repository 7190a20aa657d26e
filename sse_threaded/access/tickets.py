"""Tickets: for clients that can send neither cookies nor header fields.

A ticket is signed by itsdangerous with the app's own secret. It names channels and a user, and is valid for a
minute. It is sent in the URL, where logs can see it, so it opens streams only, and not for long.
"""

from __future__ import annotations

import hashlib

from itsdangerous import BadData, URLSafeSerializer

from ..errors import HistoryGone
from ..log.event_id import parse_event_id
from .ticket import Secret, Ticket, TicketRefused

# Distinguishes these signatures from all others that the app makes with the same secret.
_SALT = "sse_threaded ticket"

# Counts the forms of a ticket.
_FORM = 1


class Tickets:
    """Makes and checks the tickets of one hub.

    :param secret: the app's secret, or several of them, the newest first: it signs, and all are accepted.
    :raises ValueError: there is no secret.
    """

    def __init__(self, secret: Secret) -> None:
        secrets = [secret] if isinstance(secret, str | bytes) else list(secret)
        if not secrets or not all(isinstance(each, str | bytes) and each for each in secrets):
            raise ValueError("secret must be text or bytes that no person can guess, or a list of them")
        self._signed = URLSafeSerializer(
            # It signs with the last one.
            [each.encode() if isinstance(each, str) else each for each in reversed(secrets)],
            salt=_SALT,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def make(self, ticket: Ticket) -> str:
        """Return the text of a ticket, for ``?ticket=``."""
        channels, *others = ticket
        text: str = self._signed.dumps([_FORM, list(channels), *others])
        return text

    def check(self, text: str | None, last_event_id: str | None, now: float) -> Ticket:
        """Return the content of a ticket that allows a stream now.

        :param text: as :meth:`make` returned it; ``None`` if the client has sent none.
        :param last_event_id: the last event ID that the client has sent with it.
        :param now: the time (Unix time).
        :raises TicketRefused: it allows none.
        """
        if not text:
            raise TicketRefused("A stream needs a ticket: ?ticket=... in the URL. Ask the app for one.")
        try:
            form, channels, *others = self._signed.loads(text)
            if form != _FORM:
                raise TicketRefused("This ticket is of another release. Ask the app for a new one.")
            ticket = Ticket(tuple(channels), *others)
        except (BadData, ValueError, TypeError):
            raise TicketRefused("This ticket is not valid. Ask the app for a new one.") from None
        if now < ticket.expires or (now < ticket.resumes and _has_had_stream(ticket, last_event_id)):
            return ticket
        raise TicketRefused("This ticket has expired. Ask the app for a new one.")


def _has_had_stream(ticket: Ticket, last_event_id: str | None) -> bool:
    """Whether an id is of a stream that began after the ticket was made."""
    try:
        epoch, sequence = parse_event_id(last_event_id or "")
        first_epoch, first = parse_event_id(ticket.last_event_id)
    except HistoryGone:
        return False
    return epoch == first_epoch and sequence >= first
