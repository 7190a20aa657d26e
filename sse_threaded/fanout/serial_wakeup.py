"""Wakes many sleeping threads one after the other: each thread that has done its work wakes the next.

If a thousand threads are woken at once, they compete for the interpreter, and each delivery costs several times as
much. Here the pump only *calls* the threads that have something to get. One of them is woken and holds a *token*.
When its send is done, it passes the token on, and so wakes the next thread. A busy thread is not called, so no
thread waits for it. A thread that is stuck with a token loses it: the pump takes the token, and wakes other
threads.

The pump's thread calls and advances. Clients' threads sleep, pass tokens on and stop.
"""

from __future__ import annotations

import enum
import random
import threading
import time
from collections import deque
from collections.abc import Sized

from .scheduling_policy import restore_policy, set_batch_policy

# Seconds after which a thread counts as stuck with its token. A thread needs 0.05 ms for its work. If other
# threads compute, it waits twice for the interpreter, 5 ms each time (sys.getswitchinterval). On a busy machine it
# also waits for a core.
STUCK_SECONDS = 0.01

# If fewer tokens than this are passed on in a second, one token more is worth its cost: threads that compete take
# as long.
_LEAST_PASSES = 3000

# So few threads are woken at once, as they gain nothing if they wait for each other.
_FEW = 4


class Activity(enum.Enum):
    """The activity of a sleeper's thread."""

    AWAKE = enum.auto()
    ASLEEP = enum.auto()
    CALLED = enum.auto()  # asleep, and waits for a token


class SerialWakeup:
    """The sleeping threads of one pump.

    :param stuck_seconds: how long a thread may hold its token before it counts as stuck; default
        :data:`STUCK_SECONDS`.

    :ivar most_tokens: how many threads may have a token now, if many were called.
    """

    def __init__(self, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._stuck_seconds = stuck_seconds
        self.lock = threading.Lock()  # guards everything here, and each sleeper's activity
        self._called: list[Sleeper] = []  # since the pump last advanced
        self._queue: deque[Sleeper] = deque()  # called sleepers that wait for a token, in order
        self._holders: dict[Sleeper, float] = {}  # sleepers with a token, and since when; the oldest first
        self.most_tokens = 1
        # For the choice of most_tokens: how many tokens were passed on since the last choice, and when that was.
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
        """Begin to wake the called sleepers, and take tokens from stuck threads."""
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
                # Doubled, as the next may be stuck, too: many clients stop reading at the same event.
                self._set_most_tokens(self.most_tokens * 2 if is_slow else self.most_tokens // 2, now)
            # Begin at a random sleeper, so that no client is always the last.
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
        """Have ``sleeper`` wait for a token."""
        self._called.append(sleeper)

    def remove(self, sleeper: Sleeper) -> None:
        """Remove ``sleeper``, which was added. It gets no token."""
        (self._called if sleeper in self._called else self._queue).remove(sleeper)

    def _give_token(self, now: float) -> Sleeper:
        sleeper = self._queue.popleft()
        sleeper.activity = Activity.AWAKE  # it is about to wake up
        self._holders[sleeper] = now
        self._passes += 1
        return sleeper

    def pass_token(self, sleeper: Sleeper) -> Sleeper | None:
        """Take the token from ``sleeper``, if it has one.

        Returns the sleeper that gets the token, if there is one. The caller must wake that sleeper.
        """
        if self._holders.pop(sleeper, None) is None:
            return None
        if not self._queue or len(self._holders) >= self.most_tokens:
            return None
        return self._give_token(time.monotonic())


class Sleeper:
    """One thread, which sleeps while it has nothing to do.

    :param wakeup: the object that gives out tokens.

    :ivar activity: the activity of the thread; guarded by the lock of ``wakeup``.
    """

    __slots__ = ("_batch_thread", "_signal", "_wakeup", "activity")

    def __init__(self, wakeup: SerialWakeup) -> None:
        self._wakeup = wakeup
        self._signal = threading.Lock()  # released to wake the thread, which acquires it to sleep
        self._signal.acquire()
        # The thread whose scheduling policy was changed; None before the first try, 0 if there was no change.
        self._batch_thread: int | None = None
        self.activity = Activity.AWAKE

    @property
    def is_asleep(self) -> bool:
        """Whether its thread sleeps, and has not been called."""
        return self.activity is Activity.ASLEEP

    def call(self) -> None:
        """Have its thread woken, if it sleeps. A thread that is awake looks for work itself. The pump's thread."""
        with self._wakeup.lock:
            if self.activity is Activity.ASLEEP:
                self.activity = Activity.CALLED
                self._wakeup.add(self)

    def wake(self) -> None:
        """Wake its thread. The thread that has given it the token calls this."""
        self._signal.release()

    # Its own thread.

    def sleep(self, todo: Sized, deadline: float | None = None) -> None:
        """Pass the token on, and sleep until woken if there is nothing to do.

        :param todo: the work that waits; there is nothing to do while it is empty.
        :param deadline: until when to sleep (monotonic); ``None``, the default, for no limit.
        """
        with self._wakeup.lock:
            successor = self._wakeup.pass_token(self)
            sleeps = not todo
            if sleeps:
                self.activity = Activity.ASLEEP
        # Only now, as the successor needs the interpreter, which this thread is about to release.
        if successor is not None:
            successor.wake()
        if not sleeps:
            return
        if deadline is None and self._batch_thread is not None:
            self._signal.acquire()
        else:
            self._wait(deadline)

    def _wait(self, deadline: float | None) -> None:
        if self._batch_thread is None:
            self._batch_thread = threading.get_ident() if set_batch_policy() else 0
        if deadline is None:
            self._signal.acquire()
        elif not self._signal.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            with self._wakeup.lock:
                if self.activity is Activity.ASLEEP:
                    self.activity = Activity.AWAKE
                    return
            self._signal.acquire()  # it was called during this time, so it will get a token

    def stop(self) -> bool:
        """Pass the token on, and sleep no more; idempotent.

        Returns whether its thread sleeps. Then the caller is another thread, and has to :meth:`wake` it.
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
        """Give the calling thread its usual scheduling policy again, if its policy was changed here."""
        # This takes no lock, as the garbage collector may call it.
        if self._batch_thread == threading.get_ident():
            self._batch_thread = None
            restore_policy()
