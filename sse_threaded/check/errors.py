"""The error of the check."""

from __future__ import annotations

from ..errors import SSEError


class CannotCheck(SSEError):
    """The check cannot be made: the URL or an option is invalid, or no connection to the server is possible.

    The text gives the reason and the remedy.
    """
