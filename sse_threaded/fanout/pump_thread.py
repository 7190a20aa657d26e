"""The pump's thread: one loop, which waits and then does the work that is due.

One turn of the loop:

1. wait in one ``select`` for the log's doorbell, calls of other threads, clients that hang up, sockets that become
   writable, and the next timer;
2. read the log and send new events;
3. at the end of the hub, end all streams;
4. run the timers: heartbeats, leases, connections that take too long to end;
5. wake the threads of streams, replay to parked streams, send changes of presence, and check the subscribers to
   which something happened.

It never waits for a client.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable

from ..log import EventLog
from ..log.doorbell import Doorbell
from ..observer import Cause
from .abandoned_streams import AbandonedStreams
from .budget import Overloaded
from .delivery_times import DeliveryTimes
from .log_reader import LogReader
from .observers import NO_OBSERVERS, Observers
from .presence_port import PresencePort
from .registry import TICK, Registry
from .replay import Replay
from .sent_counts import SentCounts
from .serial_wakeup import SerialWakeup
from .socket_watcher import is_watched_for_writing
from .stream_facts import note_end
from .stream_state import EndReason
from .subscriber import Subscriber

_log = logging.getLogger(__name__)

# Seconds to wait after a defect, so that the failure does not repeat without a pause.
_AFTER_DEFECT = 0.1


class PumpThread:
    """The thread of one pump. It runs from the first subscriber until the hub is closed and all have left.

    :param log: the log that events come from.
    :param registry: the subscribers.
    :param reader: reads the log.
    :param replay: replays to parked streams.
    :param wakeup: wakes the threads of streams.
    :param abandoned: the streams to which no object refers any more.
    :param is_ending: whether the process is about to end; asked once a second at least.
    :param close_abandoned: closes a subscriber whose thread will not come.
    :param presence: hands over events about presence; default ``None``: nothing does.
    :param bell: see below; default: a new one.
    :param observers: the hub's observers; default: none.
    :param sent: counts the events that are handed on; default: no count.
    :param times: measures the events that this process publishes; default: no measurement.

    :ivar bell: rung by any thread or a signal handler, so that the thread looks for changes.
    :ivar is_started: whether :meth:`start` may be left out.
    :ivar is_closing: whether the end has begun; set once, by any thread or a signal handler.
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        *,
        reader: LogReader,
        replay: Replay,
        wakeup: SerialWakeup,
        abandoned: AbandonedStreams,
        is_ending: Callable[[], bool],
        close_abandoned: Callable[[Subscriber], None],
        presence: PresencePort | None = None,
        bell: Doorbell | None = None,
        observers: Observers = NO_OBSERVERS,
        sent: SentCounts | None = None,
        times: DeliveryTimes | None = None,
    ) -> None:
        self._observers = observers
        self._sent = sent or SentCounts(observers)
        self._times = times or DeliveryTimes(observers)
        self._eventlog = log
        self._registry = registry
        self._reader = reader
        self._replay = replay
        self._wakeup = wakeup
        self._abandoned = abandoned
        self._is_ending = is_ending
        self._close_abandoned = close_abandoned
        self._presence = presence
        self.is_started = False
        self.is_closing = False
        self.bell = bell or Doorbell()
        self._starting = threading.Lock()  # guards the two below; one thread at a time starts the pump's
        self._thread: threading.Thread | None = None
        self._doorbell: Doorbell | None = None  # of the latest start
        self._is_locked_for_fork = False
        # Only the pump's thread uses the three below. The first two are monotonic times.
        self._next_timer = 0.0  # when to run the timers
        self._asks_again = 0.0  # when to ask whether the process is about to end
        self._has_told_all = False  # whether the hub's end has ended all streams

    # Any thread.

    def start(self) -> None:
        """Start the thread, if it was not started.

        :raises Overloaded: the system refuses a descriptor or a thread.
        :raises LogError: the log cannot be read, so nothing could be delivered.
        """
        with self._starting:
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        # The position is read before the doorbell opens. So the first turn reads the events in between.
        self._registry.begin(self._eventlog.last_sequence())
        watcher = self._registry.watcher
        try:
            watcher.begin()
            doorbell = self._eventlog.open_doorbell()
        except OSError as error:
            raise Overloaded(f"the system gives no more: {error}", Cause.SYSTEM) from error
        watcher.watch_doorbell(doorbell)
        watcher.watch_doorbell(self.bell)
        self._doorbell = doorbell
        thread = threading.Thread(target=self._run, args=(doorbell,), name="sse_threaded pump", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the next stream tries again
            doorbell.close()
            raise Overloaded("the system gives no more threads", Cause.SYSTEM) from error
        self._thread = thread
        self.is_started = True

    @property
    def is_current(self) -> bool:
        """Whether all events for which the log's doorbell had rung before this call were handed out."""
        doorbell = self._doorbell
        # In this order: the thread first notes that there is something to read, and then clears the bell.
        return doorbell is not None and not doorbell.is_rung() and self._reader.is_current

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, ``timeout`` seconds at most."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def before_fork(self) -> None:
        """Wait until no thread is in the middle of a start, and let none begin one."""
        self._is_locked_for_fork = self._starting.acquire()

    def after_fork_in_parent(self) -> None:
        """Release the lock, if this fork took it: a signal handler may have raised before."""
        if self._is_locked_for_fork:
            self._is_locked_for_fork = False
            self._starting.release()

    # The thread itself.

    def _is_the_one(self, doorbell: Doorbell) -> bool:
        # A signal handler may have raised in the thread that started this one. Then this one is not noted yet, and
        # another may have been started since. In this case the selector waits for the other's doorbell.
        with self._starting:
            if doorbell is not self._doorbell:
                return False
            self._thread = threading.current_thread()
            self.is_started = True
            return True

    def _run(self, doorbell: Doorbell) -> None:
        if not self._is_the_one(doorbell):
            doorbell.close()
            return
        is_over = has_failed = False
        try:
            while not is_over:
                try:
                    if has_failed:
                        self._registry.tell_all_to_end(EndReason.BEHIND)
                        has_failed = False
                    is_over = self._turn(doorbell)
                except Exception:
                    # A defect. No stream may hang: all end, and their clients reconnect and get a replay. The end
                    # of one stream may fail, too. It is not tried again, but the ends of the others are.
                    _log.exception(
                        "the pump failed; all streams end, and their clients reconnect",
                        extra={"event": "pump_failed"},
                    )
                    self._observers.pump_failed()
                    has_failed = True
                    self._reader.postpone(TICK)
                    time.sleep(_AFTER_DEFECT)
        finally:
            doorbell.close()
            self._sent.report()

    def _turn(self, doorbell: Doorbell) -> bool:
        """Do the work that is due; returns whether the hub is closed, with no stream left and none to come."""
        was_rung = is_own = False
        for key, events in self._registry.watcher.select(self._seconds_to_wait()):
            if key.data is doorbell:
                self._reader.is_current = False  # before the bell is silent: see is_current
                was_rung, is_own = True, doorbell.clear()
            elif key.data is self.bell:
                self.bell.clear()
            else:
                self._see_to_socket(key.data, events)
        # Asked before the log is read, so that events from before the end go out with the farewell.
        is_closing = self.is_closing
        self._reader.read(was_rung=was_rung, is_own=is_own, is_closing=is_closing)
        if is_closing:
            self._registry.tell_all_to_end(EndReason.SHUTDOWN)
            self._has_told_all = True
        self._abandoned.close_all()
        now = time.monotonic()
        if now >= self._next_timer:
            self._run_timers(now)
        self._wakeup.advance()
        self._replay.run()
        if self._presence is not None:
            self._presence.run()
        self._check_subscribers()
        asks = now >= self._asks_again
        if self._observers.are_any:
            self._tell_observers(asks)
        if asks:
            self._asks_again = now + TICK
            self.is_closing = self.is_closing or self._is_ending()
        return is_closing and self._registry.shut_if_empty()

    def _tell_observers(self, has_second_passed: bool) -> None:
        self._sent.report()
        self._times.report()
        if has_second_passed:
            self._observers.second_passed(self._registry.position)

    def _seconds_to_wait(self) -> float:
        if self._replay or (self.is_closing and not self._has_told_all):
            return 0.0
        # A timer that another thread sets from here on wakes the thread, or can wait.
        self._next_timer = self._registry.next_timer()
        due = min(self._next_timer, self._reader.due, self._wakeup.due, self._asks_again)
        return max(due - time.monotonic(), 0.0)

    def _see_to_socket(self, subscriber: Subscriber, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            count, size = subscriber.continue_writing()
            self._sent.add(subscriber.kind, count, size)
            self._registry.check_soon(subscriber)
        if events & selectors.EVENT_READ:
            self._registry.hear(subscriber)

    def _run_timers(self, now: float) -> None:
        due = self._registry.run_timers(now)
        for subscriber in due.abandoned:
            self._close_abandoned(subscriber)
        if due.is_one_doubtful:
            # A circle of references may hold its stream.
            self._abandoned.collect(now)
        for subscriber in due.stuck:
            fields = {
                "event": "connection_cut",
                "channels": list(subscriber.channels),
                "reason": str(subscriber.end_reason),
            }
            _log.info(
                "cut the connection of a client that does not read (%s)", subscriber.end_reason, extra=fields
            )
        if due.stuck:
            self._observers.connections_cut(len(due.stuck))

    def _check_subscribers(self) -> None:
        """Check subscribers to which something happened: they are over, wait for their sockets, or go on."""
        registry = self._registry
        while (subscriber := registry.next_to_check()) is not None:
            if subscriber.state.is_closed:
                continue
            if subscriber.state.is_lost:
                registry.tell_to_end(EndReason.GONE, (subscriber,))  # unless it ended for another reason before
            if subscriber.is_over:
                if registry.end_response(subscriber):
                    subscriber.give_back()
                    note_end(subscriber, self._observers)
                    subscriber.finish()
            elif subscriber.is_blocked != is_watched_for_writing(subscriber):
                registry.watch(subscriber)
                if subscriber.cursor is not None and not subscriber.is_blocked:
                    self._replay.add(subscriber)
