"""Takes event ids apart: ``<epoch>-<sequence>``."""

from __future__ import annotations

import re

_ID = re.compile("([a-z]{6})-([0-9]+)")


def split_id(event_id: str) -> tuple[str, int]:
    """Return the epoch and the sequence number of an id."""
    match = _ID.fullmatch(event_id)
    assert match is not None, event_id
    return match[1], int(match[2])


def sequence_of(event_id: str) -> int:
    """Return the sequence number of an id."""
    return split_id(event_id)[1]
