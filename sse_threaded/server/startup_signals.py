"""A signal that reaches a worker in its first moments is kept until the worker can take it.

From the fork until ``init_signals`` a worker of gunicorn's has the master's handlers. They put a signal into a
queue, which the worker does not read. After a SIGTERM it would serve until ``graceful_timeout`` is over, and be
killed with the requests it has. So the worker gets handlers that only note the signal. The signals noted are
raised again when it has its own handlers.

The signals are blocked for the fork itself and no longer. Processes that the hooks ``pre_fork`` and
``post_fork`` start would inherit that, and SIGTERM could not end them.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

# The signals that gunicorn's master sends to its workers, and they have a handler for.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)

# The function of gunicorn's master that forks a worker. Between expect_worker() and that fork there is the hook
# pre_fork, which may fork too.
_FORKER = "spawn_worker"

_is_expected = False
_mask: set[int] | None = None  # the signals blocked before a worker's fork, while that lasts
_noted: list[int] | None = None  # the signals of a worker that has no handlers of its own yet


def expect_worker() -> None:
    """In the master: the next process that it forks is a worker."""
    global _is_expected
    _is_expected = True


def begin_handlers() -> set[int]:
    """In the worker, before it sets its handlers: block the signals, as they have their default action then."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def end_handlers(mask: set[int]) -> None:
    """In the worker, once it has its handlers: let signals in, and those that came since the fork."""
    global _noted
    noted, _noted = _noted or [], None
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for signum in noted:
        signal.raise_signal(signum)


def _note(signum: int, frame: Any) -> None:
    if _noted is not None and signum not in _noted:
        _noted.append(signum)


def _before_fork() -> None:
    global _is_expected, _mask
    if _is_expected and sys._getframe(1).f_code.co_name == _FORKER:
        _is_expected = False
        _mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _after_fork_in_parent() -> None:
    global _mask
    if _mask is not None:
        mask, _mask = _mask, None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    global _mask, _noted
    if _mask is not None:
        mask, _mask, _noted = _mask, None, []
        for signum in _SIGNALS:
            signal.signal(signum, _note)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    elif _noted is not None:
        # A child of the hook post_fork: no code would raise the signals again that it notes.
        _noted = None
        for signum in _SIGNALS:
            if signal.getsignal(signum) is _note:
                signal.signal(signum, signal.SIG_DFL)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
