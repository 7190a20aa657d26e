"""What the load client gives up on."""

from __future__ import annotations

from ..errors import SSEError


class CannotBench(SSEError):
    """The load cannot be made or measured: the URL, this machine's limits, or the server's answer.

    The text says which, and what to do.
    """
