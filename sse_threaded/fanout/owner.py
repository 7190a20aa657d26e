"""Whose stream a stream is, as a value."""

from __future__ import annotations

from typing import NamedTuple


class Owner(NamedTuple):
    """Whose stream it is.

    :ivar user: the app's name for the user; ``None`` if the view has named none.
    :ivar address: the client's address; ``None`` if the server does not show it, or addresses have no limit.
    :ivar is_present: whether presence shows the user on the stream's channels; default ``False``. Then there is a
        user.
    """

    user: str | None
    address: str | None
    is_present: bool = False
