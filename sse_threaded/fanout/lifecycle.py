"""Everything that the hubs of a process share: two budgets, the handling of forks, and the end."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .budget import Budget

# The budget for streams that hold a thread. All hubs without a limit of their own share it. A server's hooks set
# its limit from the size of the thread pool.
process_budget = Budget()

# The same for streams that hold a connection only.
parking_budget = Budget()


class AnyHub(Protocol):
    """The part of :class:`~sse_threaded.Hub` that this module needs. It may not import that class."""

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


# Every hub of the process, for forks and for the end. A list, not a WeakSet: copying it is one step of the
# interpreter, so a signal handler may do it.
_hubs: list[weakref.ref[AnyHub]] = []

# Returns whether the process is about to end; see close_all_when().
_ending: Callable[[], bool] | None = None


def enrol(hub: AnyHub) -> None:
    """Remember a hub until no object refers to it any more."""
    _hubs.append(weakref.ref(hub, _hubs.remove))


def hubs() -> tuple[AnyHub, ...]:
    """The hubs of this process. This takes no lock."""
    found = (ref() for ref in tuple(_hubs))
    return tuple(hub for hub in found if hub is not None)


def request_close_all() -> None:
    """Begin the end of every hub in the process. This takes no lock, so a signal handler may call it."""
    for hub in hubs():
        hub.request_close()


def surroundings() -> tuple[int, type]:
    """This process, and the class of the locks that :mod:`threading` makes here.

    Monkey patching (gevent) replaces that class, and it replaces threads by greenlets. If a greenlet waits for a
    lock that was made before, all other greenlets stop.
    """
    return os.getpid(), type(threading.Lock())


# One lock for each result of surroundings(). So no lock is a parent's, or of another class.
_renewals: dict[tuple[int, type], threading.Lock] = {}


def renewal_lock() -> threading.Lock:
    """The lock that a thread holds while it renews a hub in new surroundings."""
    return _renewals.setdefault(surroundings(), threading.Lock())


def has_greenlets() -> bool:
    """Whether threads are greenlets in this process, so that all share one thread of the system."""
    return type(threading.Lock()).__module__ != "_thread"


def close_all_when(ending: Callable[[], bool]) -> None:
    """Begin the end of every hub once ``ending()`` is true, for ends that no signal announces.

    :param ending: called once a second at least, by the pump's thread of each hub that has had a stream. It must
        be quick.
    """
    global _ending
    _ending = ending


def is_ending() -> bool:
    """Whether the process is about to end, by the function given to :func:`close_all_when`."""
    return _ending is not None and _ending()


# A thread holds this lock for the length of a fork. So threads that fork at the same moment do so one after the
# other. The lock guards the two variables below: the thread that forks, and the hubs that hold their locks for it.
# The hubs are noted, as a hub may be made or dropped in between. A signal handler that raises (Ctrl-C) ends
# _before_fork() at any point, and the fork goes on. So this lock knows its thread, and each hub knows which of its
# locks it holds.
_forking = threading.RLock()
_forker = 0
_resting: tuple[AnyHub, ...] = ()


# Steps that take and release further locks for a fork. They come after the hubs' locks, as a thread that has one
# of these may wait for them.
_held_last: list[tuple[Callable[[], None], Callable[[bool], None]]] = []


def hold_last(before_fork: Callable[[], None], after_fork: Callable[[bool], None]) -> None:
    """Have a fork hold a lock that a thread may take inside a transaction of a log.

    :param before_fork: takes the lock.
    :param after_fork: releases it; the argument says whether this is the child.
    """
    _held_last.append((before_fork, after_fork))


def _before_fork() -> None:
    global _forker, _resting
    _forking.acquire()
    _forker = threading.get_ident()
    _resting = hubs()
    for hub in _resting:
        hub.before_fork()
    for before, _ in _held_last:
        before()


def _after_fork_in_parent() -> None:
    global _forker, _resting
    try:
        if _forker == threading.get_ident():
            for _, after in _held_last:
                after(False)
            for hub in _resting:
                hub.after_fork(in_child=False)
            _forker, _resting = 0, ()
    finally:
        with suppress(RuntimeError):  # a signal handler raised before the lock was taken
            _forking.release()


def _after_fork_in_child() -> None:
    global _forking, _forker, _resting
    _forking, _forker, _resting = threading.RLock(), 0, ()
    process_budget.after_fork_in_child()
    parking_budget.after_fork_in_child()
    for _, after in _held_last:
        after(True)
    for hub in hubs():
        hub.after_fork(in_child=True)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
