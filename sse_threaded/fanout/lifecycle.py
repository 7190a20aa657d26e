"""What all hubs of a process have in common: how many streams there may be, forks, and the end."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .budget import Budget

# For the hubs that are not given a limit of their own; a server's hooks set it from the size of its pool.
process_budget = Budget()

# The same for streams that hold no thread but a connection.
parking_budget = Budget()


class AnyHub(Protocol):
    """What is needed here of :class:`~sse_threaded.Hub`, which is above this."""

    url: str

    @property
    def own_limit(self) -> int | None:
        """See :class:`~sse_threaded.Hub`."""

    def request_close(self) -> None:
        """See :class:`~sse_threaded.Hub`."""

    def close(self, timeout: float = ...) -> None:
        """See :class:`~sse_threaded.Hub`."""

    def begin_anew_if_needed(self) -> None:
        """See :class:`~sse_threaded.Hub`."""

    def before_fork(self) -> None:
        """See :class:`~sse_threaded.Hub`."""

    def after_fork(self, in_child: bool) -> None:
        """See :class:`~sse_threaded.Hub`."""


# Every hub of the process, for fork and for shutdown. A list, not a WeakSet: copying it is one step of the
# interpreter, so that a signal handler may.
_hubs: list[weakref.ref[AnyHub]] = []

# Says whether the process is about to end; see close_all_when().
_ending: Callable[[], bool] | None = None


def enrol(hub: AnyHub) -> None:
    """Add a hub, until nobody holds it any more."""
    _hubs.append(weakref.ref(hub, _hubs.remove))


def hubs() -> tuple[AnyHub, ...]:
    """The hubs of this process; takes no lock."""
    found = (ref() for ref in tuple(_hubs))
    return tuple(hub for hub in found if hub is not None)


def request_close_all() -> None:
    """Begin the end of every hub in the process. Takes no lock; a signal handler may call it."""
    for hub in hubs():
        hub.request_close()


def surroundings() -> tuple[int, type]:
    """This process, and the class of the locks that :mod:`threading` gives here.

    Monkey patching (gevent) replaces that class, and threads by greenlets. A greenlet that waits for a lock made
    before then stops all others.
    """
    return os.getpid(), type(threading.Lock())


# One for each surroundings that were entered, so that none is a parent's, or of another kind.
_renewals: dict[tuple[int, type], threading.Lock] = {}


def renewal_lock() -> threading.Lock:
    """Held by the one thread that lets a hub begin anew in new surroundings."""
    return _renewals.setdefault(surroundings(), threading.Lock())


def has_greenlets() -> bool:
    """Whether threads are greenlets in this process, so that all share one thread of the system."""
    return type(threading.Lock()).__module__ != "_thread"


def close_all_when(ending: Callable[[], bool]) -> None:
    """Begin the end of every hub once ``ending()`` is true, for ends that no signal announces.

    :param ending: called once a second at least, by the thread of each hub that has had a stream; be quick.
    """
    global _ending
    _ending = ending


def is_ending() -> bool:
    """Whether :func:`close_all_when` has been told so."""
    return _ending is not None and _ending()


# Held for the length of a fork, so that threads which fork at the same moment do so one after the other. Guards
# the two below: whose fork it is, and who came to rest for it, as a hub may be made or dropped meanwhile. A signal
# handler that raises (Ctrl-C) ends _before_fork() anywhere, and the fork goes on; so this lock knows whose it is,
# and hubs know which of theirs they hold.
_forking = threading.RLock()
_forker = 0
_resting: tuple[AnyHub, ...] = ()


def _before_fork() -> None:
    global _forker, _resting
    _forking.acquire()
    _forker = threading.get_ident()
    _resting = hubs()
    for hub in _resting:
        hub.before_fork()


def _after_fork_in_parent() -> None:
    global _forker, _resting
    try:
        if _forker == threading.get_ident():
            for hub in _resting:
                hub.after_fork(in_child=False)
            _forker, _resting = 0, ()
    finally:
        with suppress(RuntimeError):  # it was not taken any more
            _forking.release()


def _after_fork_in_child() -> None:
    global _forking, _forker, _resting
    _forking, _forker, _resting = threading.RLock(), 0, ()
    process_budget.after_fork_in_child()
    parking_budget.after_fork_in_child()
    for hub in hubs():
        hub.after_fork(in_child=True)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
