"""Event ids: ``<epoch>-<sequence>``, such as ``kxwqpa-17``.

The epoch is made with the log, and the sequence is the event's number in it. So an id of another log is never
taken for one of this log.
"""

from __future__ import annotations

import re
import secrets
import string

from ..errors import HistoryGone

# 18 digits fit the 64-bit integers of every engine.
_EVENT_ID = re.compile(r"([a-z]{6})-(0|[1-9][0-9]{0,17})", re.ASCII)


def new_epoch() -> str:
    """Return six random letters. A new log gets new letters, so its ids differ from the old log's."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(6))


def parse_event_id(event_id: str) -> tuple[str, int]:
    """Return the epoch and the sequence of an event id.

    :param event_id: any text; clients send what they like.
    :raises HistoryGone: ``malformed``.
    """
    match = _EVENT_ID.fullmatch(event_id)
    if match is None:
        raise HistoryGone("malformed")
    return match[1], int(match[2])
