"""A signal that reaches a worker in its first milliseconds is kept until the worker can take it.

From the fork until ``init_signals`` a worker of gunicorn's has the master's handlers, which put a signal into
a queue that nobody reads in the worker. Told to end then, it would serve on until ``graceful_timeout`` is over
and be killed with the requests it has. So the master blocks these signals while it forks, the kernel keeps them,
and the worker lets them in when it has handlers of its own.
"""

from __future__ import annotations

import os
import signal

# What gunicorn's master sends to its workers, and they have a handler for.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)

_expected = False
_mask: set[int] | None = None  # what is blocked otherwise; None: nothing is blocked here


def expect() -> None:
    """In the master: what it forks next is a worker."""
    global _expected
    _expected = True


def let_signals_in() -> None:
    """In the worker, once it has its handlers; in the master, once it has forked."""
    global _mask
    if _mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask)
        _mask = None


def _keep_signals_out() -> None:
    global _expected, _mask
    if _expected:
        _expected = False
        _mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


os.register_at_fork(before=_keep_signals_out, after_in_parent=let_signals_in)
