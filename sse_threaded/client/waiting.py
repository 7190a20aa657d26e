"""Waits that a signal handler of the same thread can end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Seconds. A signal handler that notifies may run after the predicate was read and before the wait begins. The
# condition's lock does not keep it out, because it runs on the same thread. So no single wait is longer than this.
_SLICE = 1.0


def wait_for(changed: threading.Condition, predicate: Callable[[], bool], seconds: float | None) -> bool:
    """Wait until ``predicate()`` is true; return whether it is.

    :param changed: notified after each change; the caller holds it. Its lock is an ``RLock``, the default.
    :param predicate: called at once, and after each change.
    :param seconds: how long to wait at most; ``None``: without a limit.
    """
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    while not predicate():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        changed.wait(min(left, _SLICE))
    return True
