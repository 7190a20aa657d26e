"""The scheduling policy of a thread that sleeps and is woken often.

Linux lets a woken thread push the one that woke it off its core at once. That one still has the interpreter, for
which the woken one must then wait: three switches of threads where one would do. SCHED_BATCH is the usual policy
without this. A policy belongs to a thread, which serves other requests afterwards. So it is restored.

Other systems have no such policy, and a sandbox may forbid to set one. Then nothing changes.
"""

from __future__ import annotations

import os
import sys

from .lifecycle import has_greenlets


def set_batch_policy() -> bool:
    """Let the calling thread push nobody away when it is woken; returns whether that changed anything."""
    if sys.platform == "linux" and not has_greenlets():
        try:
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                return True
        except OSError:
            pass  # a sandbox forbids it
    return False


def restore_policy() -> None:
    """Give the calling thread, whose policy was changed, the usual one."""
    if sys.platform == "linux":
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            pass  # a sandbox forbids it
