"""When this process gives numbers to the events that apps have committed over their own connections.

One process does: the *numberer*. Its listening connection holds a session lock, the *role*. PostgreSQL frees it
when the connection ends. Each transaction wakes the numberer by ``NOTIFY``, and the numberer sleeps in between.

PostgreSQL commits transactions with a ``NOTIFY`` one after the other, each with a flush of its own. So under load
the numberer stays *awake*: it looks for events every few milliseconds, and takes a second lock that says so.
Transactions that find this lock taken do not notify. Those that did so may still be open when the numberer falls
asleep. Then it is *drowsy*: it looks less and less often, until they are over.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .driver import BoundedConnection
from .schema import fill
from .timeouts import Timeouts
from .url import Address

# Seconds after which a process looks for events without a number although nothing has woken it.
NUMBERING = 10.0

# Seconds for which a process leaves the role to others, after it could not give numbers.
_REST = 10.0

# Seconds between two looks of a numberer that is awake.
_PAUSE = 0.005

# It stays awake after several transactions have woken it at once, so many times without a break. It falls asleep
# after so many looks that found one event at most.
_TIMES_BUSY, _TIMES_IDLE = 3, 20

# A drowsy numberer looks again after this share of the time for which it has been drowsy. So an event is late by a
# small part of the time for which its transaction was open.
_SHARE = 0.1

_TAKE = "SELECT pg_try_advisory_lock(%s), {is_awake}"
_LOCK = "SELECT pg_try_advisory_lock(%s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s)"
# A number of a transaction: those that were open before have smaller ones.
_NEWEST = "SELECT pg_current_xact_id()"
_ARE_OVER = "SELECT pg_snapshot_xmin(pg_current_snapshot()) > %s::xid8"


class Numberer:
    """The part of one process. One thread uses it, while its listening connection lives.

    :param connection: the one that listens.
    :param address: the log's.
    :param give: gives numbers to the events that have none; returns how many they were.
    :param timeouts: those of the log.
    :ivar has_role: whether this process is the numberer.
    :ivar is_awake: whether transactions do not notify, as this process looks by itself.
    """

    def __init__(
        self, connection: BoundedConnection, address: Address, give: Callable[[], int], timeouts: Timeouts
    ) -> None:
        self._connection = connection
        self._role, self._awake = address.role_key, address.awake_key
        self._take = fill(address, _TAKE)
        self._give = give
        self._timeouts = timeouts
        self.has_role = False
        self.is_awake = False
        self._resting_until = 0.0  # monotonic, as all times here
        self._next = time.monotonic() + NUMBERING
        self._calls = 0  # transactions that have woken it and may have no number
        self._called_since: float | None = None  # the first of them
        self._busy = self._idle = 0  # times in a row
        self._bound = ""  # transactions with smaller numbers may not have notified
        self._drowsy_since: float | None = None

    @property
    def next(self) -> float:
        """When to call :meth:`number` at the latest, if nothing happens."""
        return self._next

    def hear_call(self) -> None:
        """Note that a transaction has committed events without a number."""
        self._calls += 1
        self._called_since = self._called_since or time.monotonic()

    def hear_number(self) -> None:
        """Note that some process has given numbers."""
        self._called_since = None

    def look(self) -> None:
        """Take the role, if no other process has it. Call it once in ``Timeouts.look``.

        :raises psycopg.Error: any error.
        """
        now = time.monotonic()
        if self.has_role or now < self._resting_until:
            return
        ((self.has_role, is_other_awake),) = self._connection.rows(self._take, (self._role,))
        if self.has_role:
            self._next = now
            # The process that had the role before may have been awake.
            self._become_drowsy()
        elif is_other_awake:
            self._called_since = self._called_since or now  # if no number comes, the other one hangs

    @property
    def is_due(self) -> bool:
        """Whether to call :meth:`number` now."""
        now = time.monotonic()
        if now >= self._next:
            return True
        if self.has_role:
            return self._calls > 0
        # The numberer hangs, or its host is gone.
        return self._called_since is not None and now - self._called_since > self._timeouts.look

    def number(self) -> None:
        """Give numbers to all events that have none.

        :raises Exception: any error of the function that gives them, or of the connection.
        """
        calls, self._calls, self._called_since = self._calls, 0, None
        self._next = time.monotonic() + NUMBERING
        try:
            are_over = self._drowsy_since is not None and self._are_over()
            found = self._give()
        except Exception:
            self._calls = calls + 1
            raise
        if are_over:
            self._drowsy_since = None
        if self.has_role:
            self._adapt(calls, found)

    def leave_role(self) -> None:
        """Leave the role to another process for a while.

        :raises psycopg.Error: any error.
        """
        if self.has_role:
            self._resting_until = time.monotonic() + _REST
            self.has_role, self._drowsy_since = False, None
            if self.is_awake:
                self.is_awake = False
                self._connection.rows(_UNLOCK, (self._awake,))
            self._connection.rows(_UNLOCK, (self._role,))

    def _adapt(self, calls: int, found: int) -> None:
        now = time.monotonic()
        if self.is_awake:
            self._idle = self._idle + 1 if found < 2 else 0
            if self._idle >= _TIMES_IDLE:
                self.is_awake = False
                self._connection.rows(_UNLOCK, (self._awake,))
                self._become_drowsy()
        else:
            self._busy = self._busy + 1 if calls > 1 else 0
            if self._busy >= _TIMES_BUSY:
                self._busy = self._idle = 0
                ((self.is_awake,),) = self._connection.rows(_LOCK, (self._awake,))
                self._drowsy_since = None if self.is_awake else self._drowsy_since
        if self.is_awake:
            self._next = now + _PAUSE
        elif self._drowsy_since is not None:
            pause = (now - self._drowsy_since) * _SHARE
            self._next = now + min(max(pause, _PAUSE), self._timeouts.look)

    def _become_drowsy(self) -> None:
        ((self._bound,),) = self._connection.rows(_NEWEST)
        self._drowsy_since = time.monotonic()

    def _are_over(self) -> bool:
        ((are_over,),) = self._connection.rows(_ARE_OVER, (self._bound,))
        return bool(are_over)
