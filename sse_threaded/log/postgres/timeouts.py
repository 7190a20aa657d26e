"""How long a log in PostgreSQL waits and tries again."""

from __future__ import annotations

from typing import NamedTuple


class Timeouts(NamedTuple):
    """The times of one log, in seconds.

    :ivar connect: for one connection to one address; default 2. A ``connect_timeout`` in the URL replaces it.
    :ivar answer: without a byte of an answer; default 2. After that the connection is closed, as its state is not
        known. An answer that comes slowly may take ten times that.
    :ivar write: for the answer to a statement that may have to wait for a lock; default 5.
    :ivar hold: for how long a transaction that writes may wait between two statements; default 5. Then PostgreSQL
        ends it, as its host may be gone, and other appends wait for it.
    :ivar retry: for how long an append tries again; default 5. A failover or a restart takes a moment, and an app
        would rather wait than fail.
    :ivar forget: how long after a failure PostgreSQL counts as unreachable; default 2.
    :ivar idle: for how long a connection is kept that no thread uses; default 30.
    :ivar look: between two looks of the listener whether its connection still answers; default 1.
    :ivar poll: between two looks for events where ``LISTEN`` is impossible; default 0.5.
    :ivar listen: for how long it is not tried again where ``LISTEN`` is impossible; default 60.
    """

    connect: float = 2.0
    answer: float = 2.0
    write: float = 5.0
    hold: float = 5.0
    retry: float = 5.0
    forget: float = 2.0
    idle: float = 30.0
    look: float = 1.0
    poll: float = 0.5
    listen: float = 60.0
