"""Waking many waiting threads in a chain: each that has done its work wakes the next.

A thousand threads that are woken at once fight for the interpreter, and each delivery costs several times what
it needs. Here the pump only *calls* the threads that have something to get; one is woken, with the *baton*, and
when it comes back from its send it passes the baton on. A thread that is busy is not called, so nobody waits for
it. One that gets stuck while it has the baton loses it: the pump tends the chain, and wakes others instead.

The pump's thread calls and tends; clients' threads rest, pass on and leave.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Sized

from .lifecycle import has_greenlets

# Seconds after which a baton counts as stuck. A thread needs 0.05 ms for its turn, but where other threads compute
# it waits twice for the interpreter, 5 ms each time (sys.getswitchinterval), and for a core on a busy machine.
PATIENCE = 0.01

# Turns a second below which one baton more is worth what it costs: threads that fight take as long.
_LEAST_TURNS = 3000

# So few are woken at once: they have nothing to gain from waiting for each other.
_FEW = 4

# What a link's thread does.
_AWAY, _RESTING, _CALLED = range(3)


class SerialWakeup:
    """The resting threads of one pump."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards all that is here, and the links' states
        self._called: list[Link] = []  # since the pump last tended it
        self._queue: deque[Link] = deque()  # to be woken, the first first
        self._batons: dict[Link, float] = {}  # who has one, and since when; the oldest first
        self._width = 1  # how many batons there may be
        self._turns = 0  # batons given since the width was last thought over,
        self._begun = 0.0  # which was then

    # The pump's thread.

    @property
    def due(self) -> float:
        """When the pump should tend it again (monotonic)."""
        with self.lock:
            if self._called:
                return 0.0
            if not self._queue:
                return float("inf")
            return next(iter(self._batons.values())) + PATIENCE

    def tend(self) -> None:
        """Start with those that were called, and see that no baton is stuck."""
        now = time.monotonic()
        woken: list[Link] = []
        with self.lock:
            if not self._called and not self._queue:
                return
            self._take_from_stuck(now)
            few = not self._queue and len(self._called) <= _FEW
            if not self._queue:
                self._set_width(self._width // 2, now)
            elif not self._batons or now >= self._begun + PATIENCE:
                slow = not self._batons or self._turns < _LEAST_TURNS * (now - self._begun)
                # Doubled, as the next may be stuck too: many stop reading at one and the same event.
                self._set_width(self._width * 2 if slow else self._width // 2, now)
            # From anywhere on, so that nobody is always the last.
            start = random.randrange(len(self._called)) if self._called else 0
            self._queue.extend(self._called[start:])
            self._queue.extend(self._called[:start])
            self._called.clear()
            while self._queue and (few or len(self._batons) < self._width):
                woken.append(self._next(now))
        for link in woken:
            link.wake()

    def _take_from_stuck(self, now: float) -> None:
        while self._batons:
            link, since = next(iter(self._batons.items()))
            if now < since + PATIENCE:
                return
            del self._batons[link]

    def _set_width(self, width: int, now: float) -> None:
        self._width = max(width, 1)
        self._turns = 0
        self._begun = now

    # With the lock held.

    def call(self, link: Link) -> None:
        """Let it have a baton."""
        self._called.append(link)

    def _next(self, now: float) -> Link:
        link = self._queue.popleft()
        link.state = _AWAY
        self._batons[link] = now
        self._turns += 1
        return link

    def take_from(self, link: Link) -> Link | None:
        """Take its baton from ``link``, if it has one; returns who has it now, for the caller to wake."""
        if self._batons.pop(link, None) is None or not self._queue or len(self._batons) >= self._width:
            return None
        return self._next(time.monotonic())

    def forget(self, link: Link) -> None:
        """Let a called one have none after all."""
        (self._called if link in self._called else self._queue).remove(link)


class Link:
    """One thread's place in a chain.

    :param chain: which.
    """

    __slots__ = ("_bell", "_calmed", "_chain", "state")

    def __init__(self, chain: SerialWakeup) -> None:
        self._chain = chain
        self._bell = threading.Lock()  # released to wake the thread, which acquires it to rest
        self._bell.acquire()
        self._calmed: int | None = None  # which thread was, once it has been tried; 0 for none
        self.state = _AWAY

    def call(self) -> None:
        """Have its thread woken in its turn, if it rests; else it will look by itself. The pump's thread."""
        with self._chain.lock:
            if self.state == _RESTING:
                self.state = _CALLED
                self._chain.call(self)

    def wake(self) -> None:
        """Let its thread go on; called by who has taken care that it has the baton."""
        self._bell.release()

    # Its own thread.

    def rest(self, todo: Sized, deadline: float | None = None) -> None:
        """Pass the baton on, and wait to be woken if there is nothing to do.

        :param todo: what there is to do; nothing while it is empty.
        :param deadline: until when to wait (monotonic); ``None``, the default, for as long as it takes.
        """
        with self._chain.lock:
            successor = self._chain.take_from(self)
            rests = not todo
            if rests:
                self.state = _RESTING
        # Only now: it needs the interpreter, which this thread is about to give up.
        if successor is not None:
            successor.wake()
        if not rests:
            return
        if deadline is None and self._calmed is not None:
            self._bell.acquire()
        else:
            self._wait(deadline)

    def _wait(self, deadline: float | None) -> None:
        if self._calmed is None:
            self._calmed = threading.get_ident() if _calm() else 0
        if deadline is None:
            self._bell.acquire()
        elif not self._bell.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            with self._chain.lock:
                if self.state == _RESTING:
                    self.state = _AWAY
                    return
            self._bell.acquire()  # called meanwhile, so its turn will come

    def leave(self) -> bool:
        """Pass the baton on, and rest no more; idempotent.

        Returns whether its thread rests, so that somebody else calls this, who has to :meth:`wake` it.
        """
        self.calm_no_more()
        with self._chain.lock:
            if self.state == _CALLED:
                self._chain.forget(self)
            rests, self.state = self.state != _AWAY, _AWAY
            successor = self._chain.take_from(self)
        if successor is not None:
            successor.wake()
        return rests

    def calm_no_more(self) -> None:
        """Give the calling thread its usual scheduling policy again, if it is the one that rested here."""
        # Without a lock: the garbage collector may call it.
        if self._calmed == threading.get_ident():
            self._calmed = None
            _uncalm()


# Linux lets a woken thread push the one that woke it off its core at once; that one still has the interpreter, for
# which the woken one must then wait: three switches of threads where one would do. SCHED_BATCH is the usual policy
# without this. It belongs to the thread, which serves other requests afterwards.


def _calm() -> bool:
    """Let the calling thread push nobody away when it is woken; returns whether that changed anything."""
    if sys.platform == "linux" and not has_greenlets():
        try:
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                return True
        except OSError:
            pass  # a sandbox forbids it
    return False


def _uncalm() -> None:
    if sys.platform == "linux":
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            pass
