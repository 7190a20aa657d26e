"""Events about presence, as a value: the thread of presence makes it, and the pump sends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class PresenceNotices(NamedTuple):
    """Some events about presence: changes for the streams that have a list, then lists for those that have none.

    :ivar changes: channels, each with the bytes of an event.
    :ivar lists: the channels of streams that have no list yet, with the bytes of an event for each channel.
    """

    changes: Sequence[tuple[str, bytes]]
    lists: Sequence[tuple[tuple[str, ...], Sequence[bytes]]]
