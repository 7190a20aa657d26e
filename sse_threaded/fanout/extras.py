"""The extras that a client gets beside the events, as a value."""

from __future__ import annotations

from typing import NamedTuple


class Extras(NamedTuple):
    """The extras that a client gets beside the events.

    :ivar channel: whether each event has a field ``channel``; default ``False``.
    :ivar presence: whether it gets the people on its channels; default ``False``.
    """

    channel: bool = False
    presence: bool = False


NO_EXTRAS = Extras()
