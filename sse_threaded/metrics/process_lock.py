"""A lock around all calls of prometheus_client, so that a fork's child never gets one of its locks held.

prometheus_client has locks of its own. If a process forks while another of its threads holds one, the child waits
for it without end. So the thread that forks holds this lock. Then no other thread of the package is inside
prometheus_client.

A thread that holds it waits for no other lock of the package.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from ..fanout.lifecycle import hold_last

_lock = threading.Lock()


def process_lock() -> threading.Lock:
    """Return the lock of this process."""
    return _lock


def _before_fork() -> None:
    _lock.acquire()


def _after_fork(in_child: bool) -> None:
    global _lock
    if in_child:
        _lock = threading.Lock()
        return
    with suppress(RuntimeError):  # a signal handler has raised before the lock was taken
        _lock.release()


# After the locks of the hubs: a thread inside a transaction may publish on another hub, and count that.
hold_last(_before_fork, _after_fork)
