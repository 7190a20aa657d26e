"""The scheduling policy of a thread that sleeps and is woken often.

On Linux a woken thread may at once preempt the thread that woke it. But that thread still holds the interpreter,
so the woken thread must wait for it: three thread switches instead of one. SCHED_BATCH is the usual policy without
this preemption. A policy belongs to a thread, and the thread serves other requests afterwards. So the policy is
restored.

Other systems have no such policy, and a sandbox may forbid a change. Then nothing changes.
"""

from __future__ import annotations

import os
import sys

from .lifecycle import has_greenlets


def set_batch_policy() -> bool:
    """Let the calling thread preempt no other thread when it is woken; returns whether its policy changed."""
    if sys.platform == "linux" and not has_greenlets():
        try:
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                return True
        except OSError:
            pass  # a sandbox forbids it
    return False


def restore_policy() -> None:
    """Give the calling thread the usual policy again, after :func:`set_batch_policy` changed it."""
    if sys.platform == "linux":
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            pass  # a sandbox forbids it
