"""The pump of a hub, as other threads call it: it admits streams, and takes part in forks and in the end.

One thread does the pump's work for the streams; see :mod:`.pump_thread`. It starts with the first stream. A
client's thread never waits for the pump's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import HubClosed
from ..log import EventLog
from ..log.doorbell import Doorbell
from ..observer import Kind, Queues
from .abandoned_streams import AbandonedStreams
from .attendance import Attendance
from .budget import Budget, Overloaded
from .cursor import Cursor
from .delivery_times import DeliveryTimes
from .extras import NO_EXTRAS, Extras
from .finished_channels import FinishedChannels
from .lifecycle import process_budget
from .log_reader import FIRST_RETRY, NO_LISTENERS, Listeners, LogReader
from .observers import NO_OBSERVERS, Observers
from .owner import Owner
from .owners import DECISION, OwnerLimits
from .pace import Pace
from .presence_port import PresencePort
from .pump_thread import PumpThread
from .registry import GRACE, NO_LIMITS, SHUTDOWN_GRACE, TICK, Registry
from .replay import Replay
from .sent_counts import SentCounts
from .serial_wakeup import SerialWakeup, Sleeper
from .socket_subscriber import SocketSubscriber
from .stream_facts import note_end, stream_of
from .stream_state import EndReason, Step
from .subscriber import Subscriber
from .thread_subscriber import ThreadSubscriber
from .wrapped_subscriber import WrappedSubscriber


class Pump:
    """Fan-out from a log to the subscribers of one process.

    :param log: the log that events come from.
    :param pace: the times of its streams.
    :param budget: how many streams may hold a thread.
    :param parking_budget: how many streams may be open without a thread.
    :param is_ending: whether the process is about to end; asked once a second at least.
    :param limits: how many streams one owner may have; default: any number.
    :param listeners: see :class:`.log_reader.LogReader`; default: none.
    :param grace: see :class:`.registry.Registry`.
    :param shutdown_grace: see :class:`.registry.Registry`.
    :param first_retry: see :class:`.log_reader.LogReader`.
    :param observers: the hub's observers; default: none.

    :ivar pace: as given.
    :ivar presence: where its thread and that of presence meet. A fork's child has another one.
    :ivar observers: as given.
    :ivar sent: counts the events that are handed on.
    :ivar times: measures the events that this process publishes.
    """

    def __init__(
        self,
        log: EventLog,
        pace: Pace,
        budget: Budget,
        parking_budget: Budget,
        is_ending: Callable[[], bool],
        *,
        limits: OwnerLimits = NO_LIMITS,
        listeners: Listeners = NO_LISTENERS,
        grace: float = GRACE,
        shutdown_grace: float = SHUTDOWN_GRACE,
        first_retry: float = FIRST_RETRY,
        observers: Observers = NO_OBSERVERS,
    ) -> None:
        self._eventlog = log
        self.pace = pace
        self.observers = observers
        self._budget = budget
        self._parking_budget = parking_budget
        self._is_ending = is_ending
        self._limits = limits
        self._listeners = listeners
        self._grace = grace
        self._shutdown_grace = shutdown_grace
        self._first_retry = first_retry
        self._begin()

    def _begin(self) -> None:
        attendance = Attendance()
        self._registry = Registry(
            self._eventlog,
            self.pace,
            limits=self._limits,
            attendance=attendance,
            grace=self._grace,
            shutdown_grace=self._shutdown_grace,
        )
        self.sent = SentCounts(self.observers)
        self.times = DeliveryTimes(self.observers)
        bell = Doorbell()
        self.presence = presence = PresencePort(self._registry, attendance, bell, self.sent)
        self._finished = FinishedChannels(self._eventlog, self._registry)
        self._replay = Replay(self._registry, self._finished, observers=self.observers, sent=self.sent)
        self._wakeup = SerialWakeup()
        self._abandoned = AbandonedStreams(self.pace.heartbeat or TICK)
        self._thread = PumpThread(
            self._eventlog,
            self._registry,
            reader=LogReader(
                self._eventlog,
                self._registry,
                self._finished,
                presence=presence,
                listeners=self._listeners,
                first_retry=self._first_retry,
                observers=self.observers,
                sent=self.sent,
                times=self.times,
            ),
            replay=self._replay,
            wakeup=self._wakeup,
            abandoned=self._abandoned,
            is_ending=self._is_ending,
            close_abandoned=self.end_stream,
            presence=presence,
            bell=bell,
            observers=self.observers,
            sent=self.sent,
            times=self.times,
        )

    # Streams with a thread; called by that thread.

    def require_open(self) -> None:
        """Return unless the end has begun.

        :raises HubClosed: the end has begun.
        """
        if self._thread.is_closing:
            raise HubClosed("the hub is closed")

    def open_cursor(
        self,
        channels: tuple[str, ...],
        last_event_id: str | None,
        *,
        from_start: bool = False,
        user: str | None = None,
        address: str | None = None,
        is_present: bool = False,
        extras: Extras = NO_EXTRAS,
    ) -> Cursor:
        """Return a new client's position in the log.

        :param last_event_id: the id of the last event that the client has; ``None`` to begin at the log's end.
        :param from_start: whether to begin at the log's beginning instead; default ``False``.
        :param user: see :meth:`owner`; default ``None``.
        :param address: see :meth:`owner`; default ``None``.
        :param is_present: see :meth:`owner`; default ``False``.
        :param extras: the client's extras; default :data:`.extras.NO_EXTRAS`.
        :raises Overloaded: the user, or the address, has as many streams as allowed.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read.
        """
        if self._thread.is_closing:
            raise HubClosed("the hub is closed")
        if last_event_id is None and from_start:
            last_event_id = self._eventlog.event_id(self._eventlog.trimmed(channels))
        place = None
        is_current = self._eventlog.rings_first and self._thread.is_current
        if last_event_id is None and is_current:
            place = self._registry.place  # the log's end, without a look at the log
        cursor = Cursor(self._eventlog, channels, last_event_id, self._registry.position, place)
        cursor.allowed_at = time.monotonic() - DECISION
        cursor.extras = extras
        cursor.address = address
        if user is not None or self._limits.per_address is not None:
            cursor.owner = self.owner(user, address, is_present=is_present)
        number = self._finished.look(channels, pump_reads=self._thread.is_started)
        if number is not None:
            cursor.finishes = True
            cursor.is_over = cursor.reset is None and cursor.after >= number
        return cursor

    def is_over(self, cursor: Cursor) -> bool:
        """Whether all channels of a cursor are finished, and it has read all their events.

        :raises LogError: the log cannot be read.
        """
        number = self._finished.look(cursor.channels, pump_reads=False)
        return number is not None and cursor.reset is None and cursor.after >= number

    def end_if_over(self, subscriber: Subscriber) -> None:
        """End a stream whose replay has just ended, if all its channels are finished."""
        self._finished.end_if_over(subscriber)

    def owner(self, user: str | None, address: str | None, *, is_present: bool = False) -> Owner | None:
        """Return whose stream is about to begin; ``None`` if that does not matter.

        :param user: the app's name for the user; ``None`` for none.
        :param address: the client's address; ``None`` if it is not known.
        :param is_present: whether presence shows the user, who is not ``None`` then; default ``False``.
        :raises Overloaded: this owner has as many streams as allowed.
        """
        if self._limits.per_address is None:
            address = None
        if user is None and address is None:
            return None
        owner = Owner(user, address, is_present)
        self._registry.require_room(owner)
        return owner

    def admit(
        self, subscriber: ThreadSubscriber, *, is_reserved: bool = False, is_thread_scarce: bool = False
    ) -> None:
        """Admit ``subscriber``: it counts, gets heartbeats and can be ended. It gets no events yet.

        :param is_reserved: whether its place is the one that :meth:`reserve` took; default ``False``, as it holds
            a thread.
        :param is_thread_scarce: whether its server has few threads, as its other streams hold none; default
            ``False``.
        :raises Overloaded: no place is left, or the system refuses what the pump needs to begin.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read, so nothing could be delivered.
        """
        subscriber.budget = self._parking_budget if is_reserved else self._budget
        if not is_reserved:
            subscriber.budget.take()
        try:
            if is_thread_scarce:
                _take_thread(subscriber)
            self.require_open()
            if not self._thread.is_started:
                self._thread.start()
            subscriber.sleeper = Sleeper(self._wakeup)
            self._registry.add(subscriber)
        except BaseException:
            subscriber.give_back()
            raise
        if self.observers.are_any and subscriber.kind is not Kind.POLL:  # a poll's own code tells that
            self.observers.stream_opened(stream_of(subscriber))
        self._thread.bell.ring()  # its timer may be the earliest

    def attach(self, subscriber: Subscriber, after: int) -> int:
        """Give ``subscriber`` all events from now on, except those up to ``after``, which it has.

        Returns the pump's position. The caller replays the events between ``after`` and the position. Later events
        arrive in the queue. So no event is missing and none comes twice.
        """
        position = self._registry.attach(subscriber, after)
        if subscriber.extras.presence:
            self._thread.bell.ring()  # it needs a list
        return position

    def end_stream(self, subscriber: Subscriber) -> None:
        """End the stream of ``subscriber``, before the server closes its socket; idempotent.

        If its response goes on, it still counts until :meth:`end_response`. Another thread may call this. Then its
        own thread is woken, if it waits in the stream.
        """
        if self._registry.end_stream(subscriber):
            subscriber.free_thread()
            if subscriber.state.is_closed:
                self._give_back(subscriber)

    def end_response(self, subscriber: Subscriber) -> None:
        """Forget ``subscriber``, as its response is over; idempotent."""
        if self._registry.end_response(subscriber):
            subscriber.free_thread()
            self._give_back(subscriber)

    def _give_back(self, subscriber: Subscriber) -> None:
        subscriber.give_back()
        if subscriber.kind is not Kind.POLL:
            note_end(subscriber, self.observers)
        if self._thread.is_closing:
            self._thread.bell.ring()

    def close_later(self, closer: Callable[[], None]) -> None:
        """Have the pump's thread close a stream. This takes no lock, so the garbage collector may call it."""
        self._abandoned.add(closer)
        self._thread.bell.ring()

    def keep_thread(self, subscriber: WrappedSubscriber) -> None:
        """Let the thread of ``subscriber`` stay, if one more thread may be held; else end its stream."""
        try:
            _take_thread(subscriber)
        except Overloaded:
            self._registry.tell_to_end(EndReason.OVERLOAD, (subscriber,))
        else:
            subscriber.keep_thread()

    # Streams without a thread; called by the server's threads.

    def reserve(self) -> Registry:
        """Take a place for a stream that is about to be parked. Then call :meth:`park` or :meth:`release`.

        Returns the registry that has the place. A fork's child has another registry, and none of the places.

        :raises Overloaded: no place is left, or the system refuses what the pump needs to begin.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read, so nothing could be delivered.
        """
        if self._thread.is_closing:
            raise HubClosed("the hub is closed")
        if not self._thread.is_started:
            self._thread.start()
        self._parking_budget.take()
        return self._registry

    def release(self, registry: Registry) -> None:
        """Give back the place of a stream that is not parked after all.

        :param registry: the result of :meth:`reserve`.
        """
        if registry is self._registry:  # else it is the parent's, and this a fork's child
            self._parking_budget.give_back()

    def park(self, parked: SocketSubscriber, head: bytes) -> None:
        """Take over a stream and its socket, whose place is reserved. The pump gives the socket back at the end.

        It sends ``head`` and the events that the client missed at once. Bytes that the socket does not take wait.

        :param head: the bytes to send first.
        """
        parked.budget = self._parking_budget
        cursor = parked.cursor
        batch = self._registry.missed(parked)
        if self.observers.are_any:
            self.observers.stream_opened(stream_of(parked))
        is_sent = parked.begin(head, batch)
        if batch is not None and cursor is not None:
            cursor.replayed += batch.count
            if is_sent and self.observers.are_any:
                self.sent.add(parked.kind, batch.count, len(batch.body))
        finishes = cursor is not None and cursor.finishes  # then the replay ends the stream
        attaches = is_sent and batch is not None and not finishes
        try:
            has_earliest_timer = self._registry.add(parked, attaches=attaches)
        except (HubClosed, Overloaded) as error:
            # No other thread has this subscriber: the pump's thread has ended, or does not know it.
            reason = EndReason.SHUTDOWN if isinstance(error, HubClosed) else EndReason.OVERLOAD
            parked.end(reason, self.pace.farewell(reason))
            parked.step(Step.CLOSE)
            parked.give_back()
            note_end(parked, self.observers)
            parked.finish()
            return
        has_caught_up = attaches and parked.cursor is None and parked.end_reason is None
        if has_caught_up and cursor is not None and self.observers.are_any:
            self.observers.stream_caught_up(parked.kind, cursor.replayed)
        # From here on the pump's thread may end the stream. An ended stream has no cursor, and gets no events.
        if not is_sent or parked.state.is_lost:
            self.check_soon(parked)
        elif parked.cursor is not None:  # it lacks events
            self._replay.add(parked)
            self._thread.bell.ring()
        elif has_earliest_timer or parked.extras.presence or self._thread.is_closing:
            self._thread.bell.ring()

    # Any thread.

    def hear(self, parked: SocketSubscriber) -> bool:
        """See why the socket of a parked stream is readable: its client has hung up, or has sent something.

        A server whose :attr:`.handover.Handover.hears_hang_ups` is true calls this. Returns whether to watch the
        socket further. ``False``: it can tell nothing new until the server gets it back, or the stream has ended.
        """
        if self._registry.hear_from_server(parked):
            return True
        self._thread.bell.ring()
        return False

    def check_soon(self, subscriber: Subscriber) -> None:
        """Have the pump check soon whether ``subscriber`` waits for its socket."""
        self._registry.check_soon(subscriber)
        self._thread.bell.ring()

    def subscribers(self) -> tuple[Subscriber, ...]:
        """All subscribers now."""
        return self._registry.subscribers()

    @property
    def stream_count(self) -> int:
        """How many subscribers there are."""
        return len(self._registry)

    def queues(self) -> Queues:
        """How many events wait for the streams."""
        return self._registry.queues()

    @property
    def position(self) -> int:
        """The newest event that has been handed out."""
        return self._registry.position

    def request_close(self) -> None:
        """Begin the end: every stream gets its farewell. This takes no lock, so a signal handler may call it."""
        self._thread.is_closing = True
        self._thread.bell.ring()

    @property
    def is_closing(self) -> bool:
        """Whether the end has begun."""
        return self._thread.is_closing

    def start(self) -> None:
        """Start the pump's thread, if it was not started.

        :raises Overloaded: the system refuses what it needs.
        :raises HubClosed: the end has begun.
        :raises LogError: the log cannot be read.
        """
        self.require_open()
        if not self._thread.is_started:
            self._thread.start()

    def look_at_clock(self) -> None:
        """Have the pump's thread look at its timers."""
        self._thread.bell.ring()

    def join(self, timeout: float) -> None:
        """Wait until the pump's thread has ended, ``timeout`` seconds at most."""
        self._thread.join(timeout)

    def before_fork(self) -> None:
        """Wait until no thread is in the middle of a step, and let none begin one."""
        # In the order in which the pump's start takes the two locks.
        self._thread.before_fork()
        self._registry.before_fork()

    def after_fork(self, in_child: bool) -> None:
        """Continue after a fork. The child begins with no thread and no subscribers."""
        if in_child:
            self._registry.watcher.close()
            self._begin()
        else:
            self._registry.after_fork_in_parent()
            self._thread.after_fork_in_parent()


def _take_thread(subscriber: ThreadSubscriber) -> None:
    # In addition to the hub's own limit, which is on open pages.
    if subscriber.budget is not process_budget:
        process_budget.take()
        subscriber.thread_budget = process_budget
