"""What a client gets besides the events themselves, as a value."""

from __future__ import annotations

from typing import NamedTuple


class Extras(NamedTuple):
    """What a client gets besides the events themselves.

    :ivar channel: whether each event has a field ``channel``; default ``False``.
    :ivar presence: whether it gets who is on its channels; default ``False``.
    """

    channel: bool = False
    presence: bool = False


NO_EXTRAS = Extras()
