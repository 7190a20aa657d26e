"""The pump: the one thread of a process that reads the log and hands each event to its subscribers.

It waits in one ``select`` for the log's doorbell, for calls from other threads, for clients that hang up and
for the next timer. It starts with the first subscriber. What it does per event and subscriber is one
``put_nowait``; it never waits for a client, and a client's thread never waits for it.
"""

from __future__ import annotations

import heapq
import logging
import queue
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from itertools import count

from .errors import HistoryGone, HubClosed, LogError
from .event import comment
from .limits import Budget, Pace
from .log import EventLog, Record
from .log.doorbell import Doorbell
from .replay import encode
from .subscriber import Subscriber

_log = logging.getLogger(__name__)

HEARTBEAT = comment("heartbeat")

# Seconds between two looks at whether the process is to end, if nothing else happens.
_TICK = 1.0
# Seconds a stream that was told to end may take, before its connection is cut: its thread is stuck in a send.
_GRACE = 5.0
_SHUTDOWN_GRACE = 0.5
_NEVER = float("inf")
# Timers of clients that left which may stay, whatever the number of clients.
_IDLE_TIMERS = 100
# Seconds between two tries to read a log that cannot be read, doubling from the first to the last.
_FIRST_RETRY, _LAST_RETRY = 0.1, 5.0


class Pump:
    """Fan-out from a log to the subscribers of one process.

    :param log: where events come from.
    :param pace: the times of its streams.
    :param budget: how many there may be.
    :param ending: whether the process is about to end; asked about once a second.
    """

    def __init__(self, log: EventLog, pace: Pace, budget: Budget, ending: Callable[[], bool]) -> None:
        self._eventlog = log
        self._pace = pace
        self._budget = budget
        self._ending = ending
        self._begin()

    def _begin(self) -> None:
        # Guards what follows, up to _thread.
        self._lock = threading.Lock()
        self._members: set[Subscriber] = set()
        self._channels: dict[str, set[Subscriber]] = {}
        self._position = 0
        self._timers: list[tuple[float, int, Subscriber]] = []
        self._timer_ids = count()
        self._thread: threading.Thread | None = None
        # epoll and kqueue let one thread register while another waits.
        self._selector = selectors.DefaultSelector()
        self._wake = Doorbell()
        self._closing = False
        # The pump's thread's own.
        self._next_read = 0.0
        self._failures = 0
        self._announced = False  # every stream has been told of the end

    # Called by clients' threads.

    def admit(self, subscriber: Subscriber) -> None:
        """Take ``subscriber`` in: it counts, gets heartbeats and will be ended, but no events yet.

        :raises Overloaded: there are as many as may be.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read, so nothing could be delivered.
        """
        self._budget.take()
        try:
            with self._lock:
                if self._closing:
                    raise HubClosed("the hub is closed")
                if self._thread is None:
                    self._start()
                now = time.monotonic()
                if self._pace.lease is not None:
                    subscriber.deadline = now + self._pace.lease * random.uniform(0.8, 1.0)
                # The first beat at a random time, so that beats are spread over their period.
                beat = _NEVER if self._pace.heartbeat is None else self._pace.heartbeat
                self._set_timer(subscriber, now + beat * random.uniform(0.5, 1.0))
                self._members.add(subscriber)
                self._watch(subscriber)
        except BaseException:
            self._budget.give_back()
            raise
        self._wake.ring()  # a nearer timer

    def attach(self, subscriber: Subscriber, after: int) -> int:
        """Let ``subscriber`` have all events from here on, but not those up to ``after``, which it has.

        Returns the pump's position: what lies between ``after`` and it is the caller's to replay, what comes
        after it arrives in the queue; so nothing is missed and nothing comes twice.
        """
        with self._lock:
            subscriber.after = after
            if subscriber.ended is None:
                for channel in subscriber.channels:
                    self._channels.setdefault(channel, set()).add(subscriber)
            return self._position

    def leave(self, subscriber: Subscriber) -> None:
        """Let ``subscriber`` go; called by its thread before the server closes its socket; idempotent."""
        with self._lock:
            if subscriber not in self._members:
                return
            subscriber.closed = True
            self._members.remove(subscriber)
            self._detach(subscriber)
            self._unwatch(subscriber)
            # Timers of those who left are dropped when they are the most.
            if len(self._timers) > 2 * len(self._members) + _IDLE_TIMERS:
                self._timers = [timer for timer in self._timers if not timer[2].closed]
                heapq.heapify(self._timers)
        self._budget.give_back()
        if self._closing:
            self._wake.ring()

    # Called from anywhere.

    @property
    def members(self) -> int:
        """How many subscribers there are."""
        return len(self._members)

    @property
    def position(self) -> int:
        """The newest event that has been handed out."""
        return self._position

    def request_close(self) -> None:
        """Begin the end: every stream gets its farewell. Takes no lock; a signal handler may call it."""
        self._closing = True
        self._wake.ring()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, ``timeout`` seconds at most."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def before_fork(self) -> None:
        """Come to rest for a fork."""
        self._lock.acquire()

    def after_fork(self, in_child: bool) -> None:
        """Go on; the child begins with neither thread nor subscribers."""
        if in_child:
            # The descriptors are the child's own copies: closing them leaves the parent's alone. The
            # selector's is shared with the parent, so nothing is unregistered, only closed.
            self._selector.close()
            self._begin()
        else:
            self._lock.release()

    # With the lock held.

    def _start(self) -> None:
        # The position before the bell: what is appended in between is read by the first look.
        self._position = self._eventlog.last_sequence()
        doorbell = self._eventlog.open_doorbell()
        self._selector.register(doorbell, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        thread = threading.Thread(target=self._run, args=(doorbell,), name="sse_threaded pump", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; the next stream tries again
            self._selector.unregister(doorbell)
            self._selector.unregister(self._wake)
            doorbell.close()
            raise
        self._thread = thread

    def _set_timer(self, subscriber: Subscriber, when: float) -> None:
        when = min(when, subscriber.deadline)
        if when < _NEVER:
            heapq.heappush(self._timers, (when, next(self._timer_ids), subscriber))

    def _detach(self, subscriber: Subscriber) -> None:
        for channel in subscriber.channels:
            subscribers = self._channels.get(channel)
            if subscribers is not None:
                subscribers.discard(subscriber)
                if not subscribers:
                    del self._channels[channel]

    def _watch(self, subscriber: Subscriber) -> None:
        if subscriber.connection is not None:
            try:
                self._selector.register(subscriber.connection, selectors.EVENT_READ, subscriber)
            except (KeyError, ValueError, OSError):
                subscriber.connection = None  # closed meanwhile, or nothing that can be waited for

    def _unwatch(self, subscriber: Subscriber) -> None:
        if subscriber.connection is not None:
            try:
                self._selector.unregister(subscriber.connection)
            except (KeyError, ValueError):
                pass  # no longer watched

    def _end(self, subscriber: Subscriber, reason: str) -> None:
        self._detach(subscriber)
        subscriber.end(reason, self._pace.farewell(reason))
        subscriber.deadline = time.monotonic() + (_SHUTDOWN_GRACE if reason == "shutdown" else _GRACE)
        self._set_timer(subscriber, subscriber.deadline)

    def _end_members(self, reason: str) -> None:
        for subscriber in tuple(self._members):
            if subscriber.ended is None:
                self._end(subscriber, reason)

    # The pump's thread.

    def _run(self, doorbell: Doorbell) -> None:
        over = False
        try:
            while not over:
                closing = self._closing
                try:
                    self._turn(doorbell)
                except Exception:
                    # A defect. No stream may hang: all end, and their clients come back to replay.
                    _log.exception("the pump failed; all streams end and begin anew")
                    self._end_all("behind")
                    self._next_read = time.monotonic() + _TICK
                if closing:
                    self._announced = True
                    over = self._end_all("shutdown")
        finally:
            doorbell.close()

    def _turn(self, doorbell: Doorbell) -> None:
        wait = min(self._next_timer(), self._next_read) - time.monotonic()
        if self._closing and not self._announced:
            wait = 0.0
        for key, _ in self._selector.select(max(min(wait, _TICK), 0.0)):
            if key.data is not None:
                self._heard_from(key.data)
            elif key.fileobj is self._wake:
                self._wake.clear()
            else:
                doorbell.clear()
                self._next_read = 0.0
        self._run_timers()
        if time.monotonic() >= self._next_read or self._closing:
            # Before an end too: what was appended before it goes out with the farewell.
            self._next_read = self._read_log()
        if self._ending():
            self.request_close()

    def _read_log(self) -> float:
        """Hand out one page of what is new; returns when to look again if nobody rings (monotonic)."""
        try:
            try:
                page = self._eventlog.read(self._position)
            except HistoryGone:
                # So far behind that events are trimmed: clients resume from the log, each by its own id. In one
                # step, or a stream that attaches in between would have the old position and miss them.
                newest = self._eventlog.last_sequence()
                with self._lock:
                    self._end_members("behind")
                    self._position = newest
                return 0.0
            if page:
                self._hand_out(page)
            if self._failures:
                _log.warning("the log can be read again: %s", self._eventlog.url)
            self._failures = 0
        except LogError as error:
            if not self._failures:
                _log.error("cannot read events, streams stay open and wait: %s", error)
            self._failures += 1
            return time.monotonic() + min(_FIRST_RETRY * (1 << min(self._failures, 6)), _LAST_RETRY)
        if page:
            return 0.0  # there may be more; timers and hang-ups have their turn in between
        interval = self._eventlog.poll_interval
        return _NEVER if interval is None else time.monotonic() + interval

    def _hand_out(self, page: list[Record]) -> None:
        slow: list[Subscriber] = []
        with self._lock:
            # All are encoded before any is put: one that cannot be must not leave the page half handed out.
            wanted = [record for record in page if record.channel in self._channels]
            wires = [encode(self._eventlog, record) for record in wanted]
            for record, wire in zip(wanted, wires, strict=True):
                full = []
                for subscriber in self._channels.get(record.channel, ()):
                    try:
                        subscriber.put(record.sequence, wire)
                    except queue.Full:
                        full.append(subscriber)
                for subscriber in full:
                    self._end(subscriber, "slow")
                slow += full
            self._position = page[-1].sequence
        if slow:
            _log.info("cut off as too slow, to resume by replay: %d client(s)", len(slow))

    def _next_timer(self) -> float:
        with self._lock:
            return self._timers[0][0] if self._timers else _NEVER

    def _run_timers(self) -> None:
        now = time.monotonic()
        stuck: list[Subscriber] = []
        with self._lock:
            while self._timers and self._timers[0][0] <= now:
                subscriber = heapq.heappop(self._timers)[2]
                if subscriber.closed:
                    continue
                if subscriber.ended is not None:
                    if now >= subscriber.deadline:
                        subscriber.sever()
                        stuck.append(subscriber)
                elif now >= subscriber.deadline:
                    self._end(subscriber, "lease")
                else:
                    subscriber.put_heartbeat(HEARTBEAT)
                    self._set_timer(subscriber, now + (self._pace.heartbeat or 0.0))
        for subscriber in stuck:
            _log.info("cut the connection of a client that does not read (%s)", subscriber.ended)

    def _heard_from(self, subscriber: Subscriber) -> None:
        """A client's socket is readable: it hung up, or it talks (then hang-ups cannot be seen any more)."""
        with self._lock:
            if subscriber.closed or subscriber.connection is None:
                return
            try:
                # Looked at, not taken. The base class's method, as an SSLSocket refuses flags.
                gone = socket.socket.recv(subscriber.connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return
            except OSError:
                gone = True
            self._unwatch(subscriber)
            if gone and subscriber.ended is None:
                self._end(subscriber, "gone")

    def _end_all(self, reason: str) -> bool:
        """End every stream; returns whether none is left."""
        with self._lock:
            self._end_members(reason)
            return not self._members
