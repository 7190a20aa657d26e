"""How long a log in Redis waits and tries again."""

from __future__ import annotations

from typing import NamedTuple


class Timeouts(NamedTuple):
    """The times of one log, in seconds.

    :ivar answer: for one answer, and for one connection; default 2.
    :ivar retry: for how long an append tries again; default 5. A failover or a restart takes a moment, and an app
        would rather wait than fail.
    :ivar forget: how long after a failure Redis counts as unreachable; default 2.
    """

    answer: float = 2.0
    retry: float = 5.0
    forget: float = 2.0
