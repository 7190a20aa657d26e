"""Waking many sleeping threads one after the other: each that has done its work wakes the next.

A thousand threads that are woken at once fight for the interpreter, and each delivery costs several times what
it needs. Here the pump only *calls* the threads that have something to get. One is woken and holds a *token*. When
it comes back from its send, it passes the token on, which wakes the next. A busy thread is not called, so nobody
waits for it. A thread that is stuck with a token loses it: the pump takes it, and wakes others instead.

The pump's thread calls and advances; clients' threads sleep, pass tokens on and stop.
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections import deque
from collections.abc import Sized

from .scheduling_policy import restore_policy, set_batch_policy

# Seconds after which a thread counts as stuck with its token. A thread needs 0.05 ms for its work. Where other
# threads compute, it waits twice for the interpreter, 5 ms each time (sys.getswitchinterval), and for a core on a
# busy machine.
STUCK_SECONDS = 0.01

# Tokens passed on in a second below which one token more is worth what it costs: threads that fight take as long.
_LEAST_PASSES = 3000

# So few are woken at once: they have nothing to gain from waiting for each other.
_FEW = 4


class Activity(enum.Enum):
    """What the thread of a sleeper does."""

    AWAKE = enum.auto()
    ASLEEP = enum.auto()
    CALLED = enum.auto()  # asleep, and to be woken in its turn


class SerialWakeup:
    """The sleeping threads of one pump.

    :param stuck_seconds: after which a thread counts as stuck with its token; default :data:`STUCK_SECONDS`.

    :ivar most_tokens: how many threads may have a token now, where many were called.
    """

    def __init__(self, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._stuck_seconds = stuck_seconds
        self.lock = threading.Lock()  # guards all that is here, and what each sleeper's thread does
        self._called: list[Sleeper] = []  # since the pump last advanced
        self._queue: deque[Sleeper] = deque()  # to be woken, the first first
        self._holders: dict[Sleeper, float] = {}  # which have a token, and since when; the oldest first
        self.most_tokens = 1
        # For the number of tokens: how many were passed on since it was last thought over, and when that was.
        self._passes = 0
        self._judged = 0.0

    # The pump's thread.

    @property
    def due(self) -> float:
        """When the pump should call :meth:`advance` again (monotonic)."""
        with self.lock:
            if self._called:
                return 0.0
            if not self._queue:
                return float("inf")
            return next(iter(self._holders.values())) + self._stuck_seconds

    @property
    def waiting(self) -> int:
        """How many called sleepers wait for a token."""
        with self.lock:
            return len(self._called) + len(self._queue)

    def advance(self) -> None:
        """Begin to wake those that were called, and take tokens from stuck threads."""
        now = time.monotonic()
        woken: list[Sleeper] = []
        with self.lock:
            if not self._called and not self._queue:
                return
            self._take_from_stuck(now)
            are_few = not self._queue and len(self._called) <= _FEW
            if not self._queue:
                self._set_most_tokens(self.most_tokens // 2, now)
            elif not self._holders or now >= self._judged + self._stuck_seconds:
                is_slow = not self._holders or self._passes < _LEAST_PASSES * (now - self._judged)
                # Doubled, as the next may be stuck too: many stop reading at one and the same event.
                self._set_most_tokens(self.most_tokens * 2 if is_slow else self.most_tokens // 2, now)
            # From anywhere on, so that nobody is always the last.
            start = random.randrange(len(self._called)) if self._called else 0
            self._queue.extend(self._called[start:])
            self._queue.extend(self._called[:start])
            self._called.clear()
            while self._queue and (are_few or len(self._holders) < self.most_tokens):
                woken.append(self._give_token(now))
        for sleeper in woken:
            sleeper.wake()

    def _take_from_stuck(self, now: float) -> None:
        while self._holders:
            sleeper, since = next(iter(self._holders.items()))
            if now < since + self._stuck_seconds:
                return
            del self._holders[sleeper]

    def _set_most_tokens(self, tokens: int, now: float) -> None:
        self.most_tokens = max(tokens, 1)
        self._passes = 0
        self._judged = now

    # With the lock held, for the sleepers.

    def add(self, sleeper: Sleeper) -> None:
        """Let ``sleeper`` have a token in its turn."""
        self._called.append(sleeper)

    def remove(self, sleeper: Sleeper) -> None:
        """Let ``sleeper``, which was added, have no token."""
        (self._called if sleeper in self._called else self._queue).remove(sleeper)

    def _give_token(self, now: float) -> Sleeper:
        sleeper = self._queue.popleft()
        sleeper.activity = Activity.AWAKE  # it is about to wake up
        self._holders[sleeper] = now
        self._passes += 1
        return sleeper

    def pass_token(self, sleeper: Sleeper) -> Sleeper | None:
        """Take the token from ``sleeper``, if it has one; returns who has it now, for the caller to wake."""
        if self._holders.pop(sleeper, None) is None:
            return None
        if not self._queue or len(self._holders) >= self.most_tokens:
            return None
        return self._give_token(time.monotonic())


class Sleeper:
    """One thread, which sleeps while it has nothing to do.

    :param wakeup: by which it is woken.

    :ivar activity: what the thread does; guarded by the lock of ``wakeup``.
    """

    __slots__ = ("_batch_thread", "_bell", "_wakeup", "activity")

    def __init__(self, wakeup: SerialWakeup) -> None:
        self._wakeup = wakeup
        self._bell = threading.Lock()  # released to wake the thread, which acquires it to sleep
        self._bell.acquire()
        # Whose scheduling policy was changed, once that was tried; 0 for no thread's.
        self._batch_thread: int | None = None
        self.activity = Activity.AWAKE

    @property
    def is_asleep(self) -> bool:
        """Whether its thread sleeps, and has not been called."""
        return self.activity is Activity.ASLEEP

    def call(self) -> None:
        """Have its thread woken in its turn, if it sleeps; else it will look by itself. The pump's thread."""
        with self._wakeup.lock:
            if self.activity is Activity.ASLEEP:
                self.activity = Activity.CALLED
                self._wakeup.add(self)

    def wake(self) -> None:
        """Let its thread go on; called by who has given it the token."""
        self._bell.release()

    # Its own thread.

    def sleep(self, todo: Sized, deadline: float | None = None) -> None:
        """Pass the token on, and sleep until woken if there is nothing to do.

        :param todo: what there is to do; nothing while it is empty.
        :param deadline: until when to sleep (monotonic); ``None``, the default, for as long as it takes.
        """
        with self._wakeup.lock:
            successor = self._wakeup.pass_token(self)
            sleeps = not todo
            if sleeps:
                self.activity = Activity.ASLEEP
        # Only now: it needs the interpreter, which this thread is about to give up.
        if successor is not None:
            successor.wake()
        if not sleeps:
            return
        if deadline is None and self._batch_thread is not None:
            self._bell.acquire()
        else:
            self._wait(deadline)

    def _wait(self, deadline: float | None) -> None:
        if self._batch_thread is None:
            self._batch_thread = threading.get_ident() if set_batch_policy() else 0
        if deadline is None:
            self._bell.acquire()
        elif not self._bell.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            with self._wakeup.lock:
                if self.activity is Activity.ASLEEP:
                    self.activity = Activity.AWAKE
                    return
            self._bell.acquire()  # called meanwhile, so it will have a token

    def stop(self) -> bool:
        """Pass the token on, and sleep no more; idempotent.

        Returns whether its thread sleeps, so that another thread calls this and has to :meth:`wake` it.
        """
        self.restore_policy()
        with self._wakeup.lock:
            if self.activity is Activity.CALLED:
                self._wakeup.remove(self)
            sleeps, self.activity = self.activity is not Activity.AWAKE, Activity.AWAKE
            successor = self._wakeup.pass_token(self)
        if successor is not None:
            successor.wake()
        return sleeps

    def restore_policy(self) -> None:
        """Give the calling thread its usual scheduling policy again, if it is the one that slept here."""
        # Without a lock: the garbage collector may call it.
        if self._batch_thread == threading.get_ident():
            self._batch_thread = None
            restore_policy()
