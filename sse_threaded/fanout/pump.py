"""The pump: the one thread of a process that reads the log and hands each event to its subscribers.

It waits in one ``select`` for the log's doorbell, for calls from other threads, for clients that hang up, for
sockets that take more, and for the next timer. It starts with the first subscriber. It never waits for a client,
and a client's thread never waits for it.
"""

from __future__ import annotations

import gc
import logging
import queue
import selectors
import socket
import threading
import time
from _socket import socket as SystemSocket
from collections import deque
from collections.abc import Callable

from ..errors import HistoryGone, HubClosed, LogError
from ..log import EventLog, Page
from ..log.doorbell import Doorbell
from ..protocol.batch import Batch
from ..protocol.event import comment
from .lifecycle import process_budget
from .budget import Budget, Overloaded, Pace
from .replay import TICK, ParkedStreams
from .recent_events import RecentEvents
from .registry import Registry
from .serial_wakeup import Link, SerialWakeup
from .socket_subscriber import SocketSubscriber
from .subscriber import Subscriber
from .thread_subscriber import ThreadSubscriber
from .timers import NEVER
from .wrapped_subscriber import WrappedSubscriber

_log = logging.getLogger(__name__)

HEARTBEAT = Batch(comment("heartbeat"), 0)

# After events have gone out, the next may wait for this part of the time that took, and for so many seconds at
# most: where they come faster than they go out, more leave together, and who publishes has the interpreter
# meanwhile. A burst to 1000 streams is over in two thirds of the time.
_REST, _LONGEST_REST = 0.5, 0.01

# Seconds between two tries to read a log that cannot be read, doubling from the first to the last.
_FIRST_RETRY, _LAST_RETRY = 0.1, 5.0

# Where a server does not show its sockets: for how many heartbeats a stream's thread may not come before the
# garbage collector is called, as nobody may iterate that stream any more; and before it is let go of, whoever
# holds it (Bottle keeps the last body of a thread). After its end fewer do, which are some seconds apart.
_DOUBTFUL_LOOKS, _LAST_LOOKS, _LAST_LOOKS_AT_END = 2, 6, 3

# The garbage collector is called no more often than once in so many heartbeats.
_COLLECTS_APART = 4


def _rest(seconds: float) -> float:
    """For how long to rest after so many seconds of sending."""
    # Whole milliseconds, as the selector rounds up; so where few listen nobody is kept waiting.
    return min(int(seconds * _REST * 1000) / 1000, _LONGEST_REST)


class Pump:
    """Fan-out from a log to the subscribers of one process.

    :param log: where events come from.
    :param pace: the times of its streams.
    :param budget: how many there may be that hold a thread.
    :param parking: how many there may be that do not.
    :param ending: whether the process is about to end; asked once a second at least.
    """

    def __init__(
        self, log: EventLog, pace: Pace, budget: Budget, parking: Budget, ending: Callable[[], bool]
    ) -> None:
        self._eventlog = log
        self._pace = pace
        self._budget = budget
        self._parking_budget = parking
        self._ending = ending
        self._begin()

    def _begin(self) -> None:
        self._members = Registry(self._eventlog, self._pace)
        self._recent = RecentEvents(self._eventlog, 0)
        self._parking = ParkedStreams(self._members, self._recent, self._parking_budget)
        self._chain = SerialWakeup()
        self._wake = Doorbell()
        self._closing = False  # set once, by any thread or a signal handler
        self._thread: threading.Thread | None = None  # set once, with the members' lock held
        self._rests = False  # for a fork
        # Subscribers of streams that nobody holds any more; appended to by any thread, without a lock.
        self._dropped: deque[Callable[[], None]] = deque()
        # The pump's thread's own.
        self._next_read = 0.0
        self._rested = 0.0  # until when it rests (monotonic)
        self._collects_again = 0.0  # not before (monotonic)
        self._failures = 0
        self._behind = False  # events are gone that it has not handed out
        self._announced = False  # every stream has been told of the end

    # Called by clients' threads.

    def require_open(self) -> None:
        """Return unless the end has begun.

        :raises HubClosed: it has.
        """
        if self._closing:
            raise HubClosed("the hub is closed")

    def admit(self, subscriber: ThreadSubscriber, *, is_reserved: bool = False, of_few: bool = False) -> None:
        """Take ``subscriber`` in: it counts, gets heartbeats and will be ended, but no events yet.

        :param is_reserved: whether it takes the place that :meth:`reserve` took; default ``False``, as it holds
            a thread.
        :param of_few: whether that is a thread of a server whose other streams hold none, so that it has few;
            default ``False``.
        :raises Overloaded: there are as many as may be, or the system has nothing for the pump to begin with.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read, so nothing could be delivered.
        """
        subscriber.budget = self._parking_budget if is_reserved else self._budget
        if not is_reserved:
            subscriber.budget.take()
        try:
            if of_few:
                self._take_thread(subscriber)
            with self._members.lock:
                self._require_running()
                subscriber.link = Link(self._chain)
                self._members.take_in(subscriber)
        except BaseException:
            subscriber.give_back()
            raise
        self._wake.ring()  # a nearer timer

    @staticmethod
    def _take_thread(subscriber: ThreadSubscriber) -> None:
        # Beside the hub's own limit, which is on open pages.
        if subscriber.budget is not process_budget:
            process_budget.take()
            subscriber.thread_budget = process_budget

    def attach(self, subscriber: Subscriber, after: int) -> int:
        """Let ``subscriber`` have all events from here on, but not those up to ``after``, which it has.

        Returns the pump's position: what lies between ``after`` and it is the caller's to replay, what comes
        after it arrives in the queue; so nothing is missed and nothing comes twice.
        """
        with self._members.lock:
            return self._members.attach(subscriber, after)

    def leave(self, subscriber: ThreadSubscriber) -> None:
        """Let ``subscriber`` go; called by its thread before the server closes its socket; idempotent."""
        with self._members.lock:
            if subscriber not in self._members.all:
                return
            if not subscriber.held:
                self._members.let_go(subscriber)
            elif not subscriber.retired:
                self._members.retire(subscriber)
        if subscriber.link.leave():
            subscriber.link.wake()
        if not subscriber.closed:
            return
        subscriber.give_back()
        if self._closing:
            self._wake.ring()

    def drop(self, let_go: Callable[[], None]) -> None:
        """Have this thread let a subscriber go; takes no lock, so that the garbage collector may call it."""
        self._dropped.append(let_go)
        self._wake.ring()

    def keep_thread(self, subscriber: WrappedSubscriber) -> None:
        """Let the thread of ``subscriber`` stay, if there may be one more; else its stream ends."""
        try:
            self._take_thread(subscriber)
        except Overloaded:
            with self._members.lock:
                if not subscriber.closed:
                    self._members.end(subscriber, "overload")
        else:
            subscriber.keep_thread()

    def look_after(self, subscriber: Subscriber) -> None:
        """See soon whether ``subscriber`` waits for its socket; any thread."""
        self._members.touched.append(subscriber)
        self._wake.ring()

    def reserve(self) -> object:
        """Take a place for a stream that is about to be parked; :meth:`adopt` or :meth:`release` it.

        Returns what names the place.

        :raises Overloaded: there are as many as may be, or the system has nothing for the pump to begin with.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read, so nothing could be delivered.
        """
        if self._thread is None or self._closing:
            with self._members.lock:
                self._require_running()
        self._parking_budget.take()
        return self._members

    def release(self, place: object) -> None:
        """Give back the place of a stream that is not parked after all."""
        if place is self._members:  # else it is the parent's, and this a fork's child
            self._parking_budget.give_back()

    def adopt(self, parked: SocketSubscriber, head: bytes) -> None:
        """Take over a stream and its socket; the pump calls ``parked.finished`` when it is done with both.

        :param head: what is to be sent before anything else.
        """
        if self._parking.arrive(parked, head) or self._closing:
            self._wake.ring()

    # Called from anywhere.

    @property
    def members(self) -> int:
        """How many subscribers there are."""
        return len(self._members.all)

    @property
    def position(self) -> int:
        """The newest event that has been handed out."""
        return self._members.position

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
        self._rests = self._members.lock.acquire()

    def after_fork(self, in_child: bool) -> None:
        """Go on; the child begins with neither thread nor subscribers."""
        if in_child:
            # The descriptors are the child's own copies: closing them leaves the parent's alone. The
            # selector's is shared with the parent, so nothing is unregistered, only closed.
            self._members.selector.close()
            self._begin()
        elif self._rests:
            self._rests = False
            self._members.lock.release()

    # With the members' lock held.

    def _require_running(self) -> None:
        self.require_open()
        if self._thread is not None:
            return
        # The position before the bell: what is appended in between is read by the first look.
        self._members.position = self._eventlog.last_sequence()
        self._recent.fill(self._members.position)
        try:
            # A new one: a signal handler that raised in an earlier try may have left half of something in the old.
            self._members.selector.close()
            selector = self._members.selector = selectors.DefaultSelector()
            doorbell = self._eventlog.open_doorbell()
        except OSError as error:
            raise Overloaded(f"the system gives no more: {error}") from error
        for bell in (doorbell, self._wake):
            selector.register(bell, selectors.EVENT_READ)
        thread = threading.Thread(target=self._run, args=(doorbell,), name="sse_threaded pump", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the next stream tries again
            doorbell.close()
            raise Overloaded("the system gives no more threads") from error
        self._thread = thread

    # The pump's thread.

    def _is_the_one(self) -> bool:
        # Where a signal handler raised in whoever started this thread, it is not noted yet, and another may have
        # been started since.
        with self._members.lock:
            self._thread = self._thread or threading.current_thread()
            return self._thread is threading.current_thread()

    def _run(self, doorbell: Doorbell) -> None:
        if not self._is_the_one():
            doorbell.close()
            return
        over = failed = False
        try:
            while not over:
                closing = self._closing
                try:
                    if failed:
                        self._end_all("behind")
                        failed = False
                    self._turn(doorbell)
                    if closing:
                        self._announced = True
                        over = self._close()
                except Exception:
                    # A defect. No stream may hang: all end, and their clients come back to replay. The end of one
                    # may fail, too; it is not tried again, but that of the others.
                    _log.exception("the pump failed; all streams end and begin anew")
                    failed = True
                    self._next_read = time.monotonic() + TICK
                    time.sleep(_FIRST_RETRY)  # whatever fails, not all the time
        finally:
            doorbell.close()

    def _turn(self, doorbell: Doorbell) -> None:
        for key, events in self._members.selector.select(self._wait()):
            if key.data is not None:
                if events & selectors.EVENT_WRITE:
                    self._parking.writable(key.data)
                if events & selectors.EVENT_READ:
                    self._heard_from(key.data)
            elif key.fileobj is self._wake:
                self._wake.clear()
            else:
                doorbell.clear()
                self._next_read = self._rested
        while self._dropped:
            self._dropped.popleft()()
        self._run_timers()
        if time.monotonic() >= self._next_read or self._closing:
            # Before an end too: what was appended before it goes out with the farewell.
            self._next_read = self._read_log()
        self._chain.tend()
        self._parking.replay()
        self._parking.tend()
        if self._ending():
            self.request_close()

    def _wait(self) -> float:
        """Seconds to the next thing to do."""
        if self._parking.is_replaying or (self._closing and not self._announced):
            return 0.0
        with self._members.lock:
            next_timer = self._members.timers.next()
        return max(min(min(next_timer, self._next_read, self._chain.due) - time.monotonic(), TICK), 0.0)

    def _close(self) -> bool:
        """End every stream; returns whether none is left, nor on its way."""
        self._end_all("shutdown")
        self._chain.tend()
        self._parking.tend()
        return self._parking.shut()

    def _end_all(self, reason: str) -> None:
        with self._members.lock:
            self._members.end_all(reason)

    def _read_log(self) -> float:
        """Hand out one page of what is new; returns when to look again if nobody rings (monotonic)."""
        members = self._members
        try:
            try:
                if self._behind:  # and the log was away when it was to be told where to go on
                    raise HistoryGone("expired")
                page = self._eventlog.read(members.position)
            except HistoryGone:
                # So far behind that events are trimmed: clients resume from the log, each by its own id. In one
                # step, or a stream that attaches in between would have the old position and miss them.
                self._behind = True
                newest = self._eventlog.last_sequence()
                with members.lock:
                    members.end_all("behind")
                    members.position = newest
                    self._recent.begin(newest)
                self._behind = False
                return 0.0
            if page:
                begun = time.monotonic()
                self._hand_out(page)
                now = time.monotonic()
                self._rested = now + _rest(now - begun)
            if self._failures:
                _log.warning("the log can be read again: %s", self._eventlog.url)
            self._failures = 0
        except LogError as error:
            if not self._failures:
                _log.error("cannot read events, streams stay open and wait: %s", error)
            self._failures += 1
            return time.monotonic() + min(_FIRST_RETRY * (1 << min(self._failures, 6)), _LAST_RETRY)
        if page.full:
            return 0.0  # timers and hang-ups have their turn in between
        interval = self._eventlog.poll_interval
        return NEVER if interval is None else time.monotonic() + interval

    def _hand_out(self, page: Page) -> None:
        members = self._members
        with members.lock:
            # All are encoded before any is put: one that cannot be must not leave the page half handed out.
            deliveries = members.fanout.deliveries(page)
            members.position = page[-1].sequence
            self._recent.add(page)
        # Without the lock: to parked ones this is the send. Who leaves meanwhile gets some for nothing.
        slow: list[Subscriber] = []
        touched = members.touched
        for frame, volley, others in deliveries:
            if volley is not None:
                touched.extend(volley.send(frame))
            for subscriber in others:
                try:
                    if subscriber.put(frame):
                        touched.append(subscriber)
                except queue.Full:
                    slow.append(subscriber)
        if slow:
            with members.lock:
                for subscriber in slow:
                    members.end(subscriber, "slow")
            _log.info("cut off as too slow, to resume by replay: %d client(s)", len(slow))

    def _run_timers(self) -> None:
        now = time.monotonic()
        members = self._members
        stuck: list[Subscriber] = []
        left: list[ThreadSubscriber] = []
        in_doubt = False
        with members.lock:
            for subscriber in members.timers.due(now):
                if isinstance(subscriber, ThreadSubscriber):
                    looks = subscriber.idle_looks()
                    in_doubt = in_doubt or looks >= _DOUBTFUL_LOOKS
                    if subscriber.is_left or looks >= (_LAST_LOOKS_AT_END if subscriber.ended else _LAST_LOOKS):
                        left.append(subscriber)
                        continue
                if subscriber.ended is not None:
                    if now >= subscriber.deadline:
                        if not subscriber.cut:
                            stuck.append(subscriber)
                        members.cut(subscriber)
                elif now >= subscriber.deadline:
                    members.end(subscriber, "lease")
                else:
                    if subscriber.put_heartbeat(HEARTBEAT):
                        members.touched.append(subscriber)
                    members.set_timer(subscriber, now + (self._pace.heartbeat or 0.0))
        for abandoned in left:
            self.leave(abandoned)
        if in_doubt and now >= self._collects_again:
            # A circle of references may hold its stream, such as that of an exception and its traceback.
            self._collects_again = now + _COLLECTS_APART * (self._pace.heartbeat or TICK)
            gc.collect()
        for subscriber in stuck:
            _log.info("cut the connection of a client that does not read (%s)", subscriber.ended)

    def _heard_from(self, subscriber: Subscriber) -> None:
        """A client's socket is readable: it hung up, or it talks; from here on its socket tells no more."""
        members = self._members
        with members.lock:
            if subscriber.closed or subscriber.connection is None:
                return
            try:
                # Looked at, not taken. The base class's method, as an SSLSocket refuses flags.
                gone = SystemSocket.recv(subscriber.connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return
            except OSError:
                gone = True
            subscriber.heard = True
            self._parking.listen(subscriber)
            if gone and subscriber.ended is None:
                members.end(subscriber, "gone")
