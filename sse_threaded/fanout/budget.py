"""How many streams there may be.

Any thread may use a budget.
"""

from __future__ import annotations

import threading

from ..errors import SSEError
from ..observer import Cause


class Overloaded(SSEError):
    """There is no room for a stream: its budget is spent, or the system refuses a thread or a descriptor.

    :ivar cause: the same for observers; default :attr:`Cause.FULL`.
    """

    def __init__(self, reason: str, cause: Cause = Cause.FULL) -> None:
        super().__init__(reason)
        self.cause = cause


class Budget:
    """The number of streams that may be open at the same time.

    A process has one budget for streams that hold a thread, and one for streams that hold a connection only. Hubs
    without a limit of their own share these two.

    :param limit: the number, ``None`` for no bound.

    :ivar taken: how many streams have a place now.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = threading.Lock()  # guards taken

    def take(self) -> None:
        """Take a place.

        :raises Overloaded: no place is left.
        """
        with self._lock:
            if self.limit is not None and self.taken >= self.limit:
                raise Overloaded(f"all {self.limit} streams of this process are taken")
            self.taken += 1

    def give_back(self) -> None:
        """Give a place back."""
        with self._lock:
            self.taken -= 1

    def after_fork_in_child(self) -> None:
        """Begin with no place taken: the streams stayed with the parent."""
        self.taken = 0
        # Another thread of the parent may have held the lock.
        self._lock = threading.Lock()
