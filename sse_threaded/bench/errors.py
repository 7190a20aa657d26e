"""The error of the load client."""

from __future__ import annotations

from ..errors import SSEError


class CannotBench(SSEError):
    """The load client cannot go on, because of the URL, a limit of this machine, or the answer of the server.

    The text gives the reason and the remedy.
    """
