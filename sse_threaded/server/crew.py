"""The worker's threads. One of them leads: it waits for events, and then runs the app itself.

A request that comes alone needs one thread: the leader reads it, answers it and waits again. While it answers,
no thread waits for events. So the main thread, the watchman, is woken by the next event. If the leader is stuck in
its request for some milliseconds, another thread takes the next request, or the lead. While requests come without
a pause, the watchman looks every few milliseconds instead, as that costs a request nothing.

A thread that only computes gets no help for some time: one more thread would only take the interpreter from it.

All decisions are made with one lock held, so that none is made on old facts. While a task waits, the watchman does
not sleep, or a thread is on its way to look. While no thread leads, the same holds, or an event wakes the
watchman. tests/unit/test_crew.py goes through all orders of events for small crews.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count

_log = logging.getLogger(__name__)

# Seconds that a task waits before another thread is woken for it, and between two looks of the watchman.
WAKE_AFTER = 0.003

# With this share of a core, the threads at work count as computing. They do not if none of them has taken a task
# for so many seconds: a task that takes this long may compute without the interpreter.
_COMPUTING = 0.5
_LONG = 0.01

# Seconds until the next round of a loop that has failed.
_PAUSE = 0.1

# Seconds until another thread is started, after the system has refused one.
_NO_THREAD_PAUSE = 1.0

# Below this share no thread computes, so all tasks that wait may have a thread at once.
_WAITING = 0.1


class Sleeper:
    """A thread that sleeps until it is woken; a waking that comes first is kept."""

    __slots__ = ("_signal",)

    def __init__(self) -> None:
        self._signal = threading.Lock()  # it guards nothing
        self._signal.acquire()

    def sleep(self, timeout: float = -1) -> bool:
        """Sleep until woken; returns whether an event has ended the sleep (see :meth:`arm`).

        :param timeout: seconds at most; default no bound.
        """
        self._signal.acquire(timeout=timeout)
        return False

    def wake(self) -> None:
        """End the sleep, or the next one. Any thread; also a signal handler, as this does not wait."""
        try:
            self._signal.release()
        except RuntimeError:
            pass  # it was woken already

    def arm(self) -> bool:
        """Let the next event, too, end the sleep, once; returns whether this is possible. Any thread."""
        return False

    def disarm(self) -> None:
        """Let no event end the sleep any more. Any thread."""


class Crew:
    """The threads of one worker.

    :param size: how many there may be; they start when they are needed.
    :param lead: waits for events once and handles them; it puts tasks. It must not raise.
    :param interrupt: ends the wait of ``lead``; any thread.
    :param wake_after: see :data:`WAKE_AFTER`, the default.
    :param clock: default the monotonic one.
    :param processor_clock: processor seconds that the process has used; default :func:`time.process_time`.
    :param start: starts a thread that runs a function; default a daemon thread. A worker that ends waits for its
        requests itself, and no longer than its setting says.
    :param watchman: the watchman's sleep; default a new one.
    """

    def __init__(
        self,
        size: int,
        lead: Callable[[], None],
        interrupt: Callable[[], None],
        *,
        wake_after: float = WAKE_AFTER,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] = time.process_time,
        start: Callable[[Callable[[], None]], None] | None = None,
        watchman: Sleeper | None = None,
    ) -> None:
        self._size = size
        self._lead = lead
        self._interrupt = interrupt
        self._wake_after = wake_after
        self._clock = clock
        self._processor_clock = processor_clock
        self._start = start or _start_thread
        self._watchman = watchman or Sleeper()
        self._is_called = False  # whether watch() is to end
        self._refusal: RuntimeError | None = None  # of the system, that the watchman is to log
        # Guards all below.
        self._lock = threading.Lock()
        self._tasks: deque[tuple[float, Callable[[], None]]] = deque()  # each with the time at which it was put
        self._is_led = False
        self._started = 0
        self._may_start = 0.0  # when a thread may be started, after the system has refused one (monotonic)
        self._sleepers: list[Sleeper] = []
        self._active = 0  # threads that neither sleep nor lead
        self._watchman_sleeps = False
        self._is_armed = False  # whether an event wakes the watchman
        self._has_events = False  # whether it has, and no thread has led since then
        self._taken = 0  # how many tasks were taken,
        self._seen = 0  # and how many when the watchman last looked
        self._last_taken = 0.0  # when a task was taken (monotonic)
        self._judged = 0.0  # when the threads were judged (monotonic),
        self._used = 0.0  # the processor time that the process had used by then,
        self._has_surplus = False  # and whether there is one thread too many

    def begin(self) -> None:
        """Start the first thread, which leads."""
        with self._lock:
            self._add_thread()

    def put(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``. Any thread; this does not wait."""
        with self._lock:
            self._tasks.append((self._clock(), task))
            if self._active:  # such a thread looks for more when it is done
                self._wake_watchman()
            elif not self._add_thread():
                self._interrupt()

    def put_own(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``. The calling thread leads or runs a task, and looks for more after that."""
        self._tasks.append((self._clock(), task))

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""
        return bool(self._tasks)

    @property
    def is_busy(self) -> bool:
        """Whether all threads that there are have work, so that none of them leads."""
        return self._active == self._started

    # The main thread.

    def watch(self, seconds: float) -> None:
        """Look after the threads for so long, or until :meth:`wake_watchman`."""
        until = self._clock() + seconds
        while not self._is_called:
            left = until - self._clock()
            if left <= 0.0:
                break
            pause = self.look()
            refusal, self._refusal = self._refusal, None
            if refusal is not None:
                _log.warning("%s of %s threads: %s", self._started, self._size, refusal)
            if self._watchman.sleep(left if pause is None else min(pause, left)):
                self.note_events()
        self._is_called = False

    def wake_watchman(self) -> None:
        """End :meth:`watch`. Any thread, or a signal handler."""
        self._is_called = True
        self._watchman.wake()

    def note_events(self) -> None:
        """An event has woken the watchman. If no thread leads, one must."""
        with self._lock:
            self._is_armed = False
            self._has_events = not self._is_led

    def look(self) -> float | None:
        """Wake a thread if one is needed; returns after how many seconds to look again.

        ``None`` if there is nothing to watch until the watchman is woken.
        """
        with self._lock:
            now = self._clock()
            self._watchman_sleeps = False
            is_quiet = self._seen == self._taken
            self._seen = self._taken
            if not self._tasks and (self._is_led or (is_quiet and not self._has_events and self._arm())):
                if not is_quiet:
                    self._begin_judging(now)
                    return self._wake_after
                self._watchman_sleeps = True
                return None
            since = self._tasks[0][0] if self._tasks else self._last_taken
            if now >= since + self._wake_after and now >= self._judged + self._wake_after:
                for _ in range(self._needed(now)):
                    if not self._add_thread():
                        if self._is_led:
                            self._interrupt()
                        break  # each thread looks for more when it is done
            return self._wake_after

    def _needed(self, now: float) -> int:
        used = self._processor_clock()
        share = (used - self._used) / (now - self._judged)
        self._judged, self._used = now, used
        is_computing = share >= _COMPUTING and now < self._last_taken + _LONG
        self._has_surplus = is_computing and self._active > 1
        if is_computing:
            return 0
        return max(1, len(self._tasks)) if share < _WAITING else 1

    def _begin_judging(self, now: float) -> None:
        self._judged, self._used = now, self._processor_clock()

    def lead_briefly(self, lead: Callable[[], None]) -> None:
        """Call ``lead``, which must not wait, if no thread leads."""
        with self._lock:
            if self._is_led:
                return
            self._begin_lead()
        try:
            lead()
        finally:
            with self._lock:
                self._is_led = False
                if self._sleepers:  # a thread that was done in between, and found a leader
                    self._add_thread()

    # With the lock held.

    def _begin_lead(self) -> None:
        self._is_led, self._has_events = True, False
        if self._is_armed:
            self._is_armed = False
            self._watchman.disarm()

    def _arm(self) -> bool:
        self._is_armed = self._is_armed or self._watchman.arm()
        return self._is_armed

    def _wake_watchman(self) -> None:
        if self._watchman_sleeps:
            self._watchman_sleeps = False
            self._begin_judging(self._clock())
            self._watchman.wake()

    def _add_thread(self) -> bool:
        """Have one more thread at work; returns whether there was one."""
        if self._sleepers:
            self._sleepers.pop().wake()
        elif self._started < self._size and self._clock() >= self._may_start:
            try:
                self._start(self._run)
            except RuntimeError as error:
                if not self._started:
                    raise
                self._may_start = self._clock() + _NO_THREAD_PAUSE
                self._refusal = error
                return False
            self._started += 1
        else:
            return False
        self._active += 1
        return True

    # A thread of the crew.

    def _run(self) -> None:
        me = Sleeper()
        while True:
            task = self.next(me)
            try:
                task()
            except BaseException:
                # A defect. But the thread must go on.
                _log.exception("a task of the worker failed")

    def next(self, me: Sleeper) -> Callable[[], object]:
        """The next thing for a thread to do: a task, :meth:`follow_events`, or sleep.

        :param me: the thread's sleep.
        """
        with self._lock:
            if self._tasks and not (self._has_surplus and self._active > 1):
                task = self._tasks.popleft()[1]
                self._taken += 1
                before, self._last_taken = self._last_taken, self._clock()
                if self._watchman_sleeps and (self._tasks or not self._is_led):
                    # To arm costs less than to wake, but more than a watchman who looks every few milliseconds.
                    is_first = self._last_taken >= before + self._wake_after
                    if is_first and not self._tasks and self._arm():
                        self._begin_judging(self._last_taken)
                    else:
                        self._wake_watchman()
                return task
            self._has_surplus = False
            self._active -= 1
            if self._tasks:
                self._wake_watchman()
            if not self._is_led and not self._tasks:
                self._begin_lead()
                return self.follow_events
            self._sleepers.append(me)
        return me.sleep

    def follow_events(self) -> None:
        """Lead until there is a task."""
        while True:
            try:
                self._lead()
            except BaseException:
                # A defect. But somebody must lead.
                _log.exception("the worker's loop failed")
                time.sleep(_PAUSE)
            if self.leave_lead():
                return

    def leave_lead(self) -> bool:
        """Have no leader any more, if there is a task for it; returns whether there is one."""
        if not self._tasks:
            return False
        with self._lock:
            if not self._tasks:
                return False  # another thread was faster
            self._is_led = False
            self._active += 1
            return True


# The threads of a process, for their names.
_numbers = count(1)


def _start_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name=f"sse_threaded request {next(_numbers)}", daemon=True).start()
