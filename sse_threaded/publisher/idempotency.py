"""Idempotency keys: a request that is sent again publishes nothing again, and gets the first answer.

The header field is the one of the IETF draft "The Idempotency-Key HTTP Header Field". The answer is an event of
the log itself, in a channel that only this key has. It is appended in the transaction of the events. So all
processes and hosts find it, and it exists if and only if the events do. The retention trims it, by its age.

Two requests with one key at the same time: the log's lock puts their transactions in an order. The second one
finds the answer of the first, rolls back, and returns that answer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from werkzeug.exceptions import BadRequest

from ..log import EventLog, Record
from ..log.validation import RESERVED_PREFIX
from .events import Event

_CHANNEL = f"{RESERVED_PREFIX}key-"

# A String of RFC 8941, section 3.3.3, with parameters that say nothing here; or the same text without quotes.
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"(?:\s*;.*)?')
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")

_MAX_CHARACTERS = 255


class KeyReused(Exception):
    """The key has come before, with other events."""


class _Answered(Exception):
    """Another request with the key was first. Raised inside a transaction, so that it rolls back."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class Key(NamedTuple):
    """A publisher's key for one request.

    :ivar channel: the channel of its answer.
    :ivar events: the SHA-256 of the request's events, in hexadecimal digits.
    """

    channel: str
    events: str


def key_in(field: str | None, publisher: bytes, events: Sequence[Event]) -> Key | None:
    """Return the key of a request; ``None`` if it has none.

    :param field: the header field ``Idempotency-Key``.
    :param publisher: whose key it is; other publishers may use the same one.
    :param events: those of the request.
    :raises BadRequest: the field is invalid.
    """
    if field is None:
        return None
    found = _STRING.fullmatch(field)
    text = re.sub(r"\\(.)", r"\1", found[1]) if found else field if _BARE.fullmatch(field) else ""
    if not 0 < len(text) <= _MAX_CHARACTERS:
        how = (
            f'text of 1 to {_MAX_CHARACTERS} characters in quotes, such as "8e03978e-40d5-43e8-bc93-6894a57f9324"'
        )
        raise BadRequest(f"Idempotency-Key must be {how}.")
    name = hashlib.sha256(publisher + text.encode()).hexdigest()
    return Key(f"{_CHANNEL}{name}", hashlib.sha256(json.dumps(events).encode()).hexdigest())


def append_once(log: EventLog, events: Sequence[Event], key: Key) -> tuple[list[str], bool]:
    """Append events in one transaction, unless the key's request was answered before.

    Returns the events' ids, and whether the events are new.

    :raises KeyReused: that request had other events.
    :raises LogError: the events are not in the log, unless only the answer was lost. The key finds out.
    """
    earlier = log.newest(key.channel)
    if earlier is None:
        try:
            with log.transaction() as transaction:
                ids = [transaction.append(*event) for event in events]
                # Now no other process can append, so this look is the one that counts.
                earlier = transaction.newest(key.channel)
                if earlier is not None:
                    raise _Answered(earlier)
                transaction.append(key.channel, {"events": key.events, "ids": ids})
            return ids, True
        except _Answered as answered:
            earlier = answered.record
    answer = json.loads(earlier.data)
    if answer["events"] != key.events:
        raise KeyReused
    return list(answer["ids"]), False
