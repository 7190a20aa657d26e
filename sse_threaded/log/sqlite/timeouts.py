"""How long a SQLite log waits, and how often it looks."""

from __future__ import annotations

from typing import NamedTuple


class Timeouts(NamedTuple):
    """The times of one log, in seconds.

    :ivar lock: how long an append waits for the writers before it; default 5. If one keeps the lock for longer, it
        has left a transaction open.
    :ivar reopen: for how long a file that could not be opened is not tried again; default 0.2.
    :ivar trim: between two rounds of the trimmer; default 5.
    :ivar health: for how long a good result of a health check holds; default 1.
    """

    lock: float = 5.0
    reopen: float = 0.2
    trim: float = 5.0
    health: float = 1.0
