"""The subscribers of this process, and each step in the life of a subscriber.

Threads of clients and the pump's thread call it. Each public method does a whole step under the registry's lock,
unless it says otherwise. No thread waits while it holds the lock: sends do not block, and the log is not read.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import HistoryGone, HubClosed, LogError
from ..log import EventLog, Page
from ..observer import Queues
from ..protocol.batch import Batch
from ..protocol.event import comment
from .abandoned_streams import Abandonment, abandonment
from .attendance import Attendance
from .audience import Audiences, Delivery
from .control_events import CONTROL, recent_disconnection_in
from .owner import Owner
from .owners import Disconnection, OwnerLimits, Owners
from .pace import Pace
from .presence_notices import PresenceNotices
from .recent_events import RecentEvents
from .socket_subscriber import SocketSubscriber
from .socket_watcher import SocketWatcher, is_watched_for_reading, is_watched_for_writing
from .stream_state import EndReason, State, Step
from .subscriber import Subscriber
from .timers import NEVER, Timers

HEARTBEAT = Batch(comment("heartbeat"), 0)
NOTHING = Batch(b"", 0)
NO_LIMITS = OwnerLimits()

# Seconds that an ending stream may take before its connection is cut, as its thread is stuck in a send. The second
# is for a shutdown, when the process waits for the stream.
GRACE = 5.0
SHUTDOWN_GRACE = 0.5

# Seconds between two looks of the pump at changes that ring no bell. The process may have to end, or a timer may
# have been set during the wait.
TICK = 1.0

# The pump may look at a subscriber later than planned, so that it looks at many together. The delay is bounded in
# seconds, and as a part of the time between two heartbeats.
_LONGEST_GRAIN = 0.25
_GRAINS_IN_A_HEARTBEAT = 50


class DueTimers(NamedTuple):
    """The findings about subscribers whose timers were due.

    :ivar abandoned: the subscribers for which no thread will come.
    :ivar is_one_doubtful: whether there is a subscriber for which perhaps no thread will come.
    :ivar stuck: the subscribers whose connections were cut just now.
    """

    abandoned: list[Subscriber]
    is_one_doubtful: bool
    stuck: list[Subscriber]


class Registry:
    """The subscribers of one process.

    :param log: the log that events come from.
    :param pace: the times of a stream.
    :param limits: how many streams one owner may have; default: any number.
    :param attendance: counts the people whom presence shows; default: one of its own.
    :param grace: seconds that an ended stream has before its connection is cut; default :data:`GRACE`.
    :param shutdown_grace: the same at a shutdown; default :data:`SHUTDOWN_GRACE`.

    :ivar position: the number of the newest event that was handed out; written with the lock held.
    :ivar watcher: the sockets that the pump waits for.
    """

    def __init__(
        self,
        log: EventLog,
        pace: Pace,
        *,
        limits: OwnerLimits = NO_LIMITS,
        attendance: Attendance | None = None,
        grace: float = GRACE,
        shutdown_grace: float = SHUTDOWN_GRACE,
    ) -> None:
        self._log = log
        self._pace = pace
        self._grace = grace
        self._shutdown_grace = shutdown_grace
        self._grain = min((pace.heartbeat or NEVER) / _GRAINS_IN_A_HEARTBEAT, _LONGEST_GRAIN)
        # Guards all attributes below, except _to_check. Of each subscriber it guards the deadline, the end reason,
        # the watched events, and the state (but see WrappedSubscriber).
        self._lock = threading.Lock()
        self.position = 0
        self.watcher = SocketWatcher()
        self._subscribers: dict[Subscriber, None] = {}  # a set of them would take twice the memory
        self._audiences = Audiences(log)
        self._owners = Owners(limits)
        self._attendance = Attendance() if attendance is None else attendance
        self._timers = Timers()
        self._recent = RecentEvents(log, 0)
        self._is_shut = False
        # Subscribers that have bytes left to send, or have nothing more to do. Any thread appends, without the
        # lock. The pump's thread takes them.
        self._to_check: deque[Subscriber] = deque()
        self._is_locked_for_fork = False

    def __len__(self) -> int:
        return len(self._subscribers)

    def subscribers(self) -> tuple[Subscriber, ...]:
        """All subscribers now."""
        with self._lock:
            return tuple(self._subscribers)

    def queues(self) -> Queues:
        """How many events wait for the subscribers."""
        counts = [count for each in self.subscribers() if (count := each.waiting) > 0]
        return Queues(sum(counts), max(counts, default=0))

    def begin(self, position: int) -> None:
        """Begin at the log's end, before the pump's thread starts.

        It reads the newest events, as all clients reconnect at once after a deploy. It does so without the lock.

        :raises LogError: the log cannot be read.
        """
        recent = RecentEvents(self._log, 0)
        recent.fill(position)
        # A view may have allowed a stream before this, which is added later.
        disconnections = filter(None, map(recent_disconnection_in, recent.of(CONTROL)))
        with self._lock:
            self.position, self._recent = position, recent
            self._owners.begin(0.0, disconnections)

    @property
    def place(self) -> tuple[str | None, int]:
        """The position, after the epoch that it belongs to."""
        with self._lock:
            return self._recent.epoch, self.position

    # A subscriber comes.

    def add(self, subscriber: Subscriber, *, attaches: bool = False) -> bool:
        """Add ``subscriber``: it counts, gets heartbeats and can be ended. It gets no events yet.

        Returns whether its timer is the earliest, so that the pump must wake up earlier.

        :param attaches: whether to call :meth:`attach_if_caught_up` in the same step; default ``False``.
        :raises HubClosed: the pump has ended.
        :raises Overloaded: its owner has as many streams as allowed.
        """
        now = time.monotonic()
        # Random, so that neither leases nor heartbeats of many streams come together. One draw serves both.
        chance = random.random()
        with self._lock:
            if self._is_shut:
                raise HubClosed("the hub is closed")
            if subscriber.owner is not None:
                self._owners.add(subscriber, subscriber.owner)
                if subscriber.owner.is_present:
                    self._attendance.enter(subscriber.owner.user or "", subscriber.channels)
            if self._pace.lease is not None:
                subscriber.deadline = now + self._pace.lease * (1.0 - 0.2 * chance)
            beat = NEVER if self._pace.heartbeat is None else self._pace.heartbeat
            first = min(now + beat * (1.0 - 0.5 * chance), subscriber.deadline)
            is_earliest = self._timers.add(first, subscriber, self._grain)
            self._subscribers[subscriber] = None
            if not (
                subscriber.server_hears_hang_ups or self.watcher.watch(subscriber, reading=True, writing=False)
            ):
                self._lose(subscriber)
            elif self._owners.is_disconnected(subscriber):
                self._end(subscriber, EndReason.DISCONNECTED, now)
            elif attaches:
                self._attach_if_caught_up(subscriber)
            return is_earliest and first < now + TICK  # after TICK seconds the pump looks in any case

    def attach(self, subscriber: Subscriber, after: int) -> int:
        """Give ``subscriber`` all events from now on, except those up to ``after``; returns the position."""
        with self._lock:
            subscriber.after = after
            if subscriber.end_reason is None:
                self._audiences.add(subscriber, self.position)
            return self.position

    def attach_if_caught_up(self, subscriber: Subscriber) -> bool:
        """End the replay to ``subscriber`` if it has all events, and give it new events as they come."""
        with self._lock:
            return self._attach_if_caught_up(subscriber)

    def _attach_if_caught_up(self, subscriber: Subscriber) -> bool:
        cursor = subscriber.cursor
        if cursor is None or cursor.epoch != self._log.epoch or cursor.after < self.position:
            return False  # with another epoch the log was recreated, and the replay finds out
        subscriber.cursor = None
        subscriber.after = max(self.position, cursor.after)  # of two equal numbers, the one that all share
        self._audiences.add(subscriber, self.position)  # it had a cursor, so it has not ended
        return True

    def missed(self, subscriber: Subscriber) -> Batch | None:
        """The next events of a replay, from memory; ``None`` if they must be read from the log."""
        cursor = subscriber.cursor
        if cursor is None or cursor.reset is not None:
            return None
        if cursor.after == self.position and cursor.epoch == self._recent.epoch == self._log.epoch:
            return NOTHING  # without the lock, as attach_if_caught_up() compares them again
        with self._lock:
            recent = self._recent
            if not cursor.epoch == recent.epoch == self._log.epoch:
                return None
            if not recent.floor <= cursor.after <= self.position:
                return None
            try:
                batch, cursor.after = recent.batch_after(subscriber.channels, cursor.after, subscriber.extras)
                cursor.finishes = cursor.finishes or batch.finishes
            except LogError:
                return None  # the replay from the log reports it
            return batch

    # A subscriber ends.

    def tell_to_end(self, reason: EndReason, subscribers: Iterable[Subscriber]) -> None:
        """Tell these subscribers to end, except those that end already."""
        with self._lock:
            now = time.monotonic()
            for subscriber in subscribers:
                self._end(subscriber, reason, now)

    def require_room(self, owner: Owner) -> None:
        """Return if the owner may have one more stream.

        :raises Overloaded: it has as many as allowed.
        """
        with self._lock:
            self._owners.require_room(owner)

    def disconnect(self, disconnection: Disconnection) -> None:
        """End the streams that were allowed before a disconnection."""
        with self._lock:
            now = time.monotonic()
            self._owners.note(disconnection)
            self._attendance.forget(disconnection.user, disconnection.channel)
            user = disconnection.user
            for subscriber in tuple(self._subscribers) if user is None else self._owners.of_user(user):
                if disconnection.ends(subscriber):
                    self._end(subscriber, EndReason.DISCONNECTED, now)

    def audiences_of(self, channels: Iterable[str]) -> list[tuple[str, ...]]:
        """The channels of each audience that subscribes to one of these channels, each once."""
        with self._lock:
            return self._audiences.of(channels)

    def tell_audience_to_end(self, reason: EndReason, channels: tuple[str, ...]) -> None:
        """Tell the subscribers to these channels to end, except those that are still replayed to."""
        with self._lock:
            now = time.monotonic()
            for subscriber in self._audiences.subscribers(channels):
                self._end(subscriber, reason, now)

    def tell_all_to_end(self, reason: EndReason) -> None:
        """Tell all subscribers to end, except those that end already."""
        with self._lock:
            now = time.monotonic()
            for subscriber in tuple(self._subscribers):
                self._end(subscriber, reason, now)

    def _end(self, subscriber: Subscriber, reason: EndReason, now: float) -> None:
        if subscriber.end_reason is not None:
            return
        self._leave(subscriber, reason)
        self._audiences.remove(subscriber)
        grace = self._shutdown_grace if reason is EndReason.SHUTDOWN else self._grace
        subscriber.deadline = now + grace
        self._timers.add(subscriber.deadline, subscriber)
        self._to_check.append(subscriber)
        subscriber.end(reason, self._pace.farewell(reason))  # last, as it may fail

    def _leave(self, subscriber: Subscriber, reason: EndReason = EndReason.GONE) -> None:
        """Count its user no more, if presence shows the user, and unless that was done at its end."""
        owner = subscriber.owner
        if owner is not None and owner.is_present and subscriber.end_reason is None:
            was_removed = reason is EndReason.DISCONNECTED
            self._attendance.leave(owner.user or "", subscriber.channels, was_removed=was_removed)

    def _cut(self, subscriber: Subscriber, now: float) -> None:
        subscriber.deadline = now + self._grace  # the next look, whether it is closed
        self._timers.add(subscriber.deadline, subscriber)
        self._to_check.append(subscriber)
        subscriber.cut()

    def end_stream(self, subscriber: Subscriber) -> bool:
        """Close ``subscriber``. If its response may go on, only send it nothing more.

        Returns whether it was still registered.
        """
        with self._lock:
            if subscriber not in self._subscribers:
                return False
            if not subscriber.outlives_stream:
                self._close(subscriber)
            elif not subscriber.state.is_retired:
                self._leave(subscriber)
                self._audiences.remove(subscriber)
                subscriber.step(Step.RETIRE)
                subscriber.end_reason = subscriber.end_reason or EndReason.GONE
                subscriber.deadline = NEVER
            return True

    def end_response(self, subscriber: Subscriber) -> bool:
        """Forget ``subscriber``; returns whether it was still registered."""
        with self._lock:
            if subscriber not in self._subscribers:
                return False
            self._close(subscriber)
            return True

    def _close(self, subscriber: Subscriber) -> None:
        self._leave(subscriber)
        subscriber.step(Step.CLOSE)
        subscriber.end_reason = subscriber.end_reason or EndReason.GONE
        del self._subscribers[subscriber]
        if subscriber.owner is not None:
            self._owners.remove(subscriber, subscriber.owner)
        self._audiences.remove(subscriber)
        self.watcher.unwatch(subscriber)
        self._timers.shrink(len(self._subscribers))

    def shut_if_empty(self) -> bool:
        """Take no more subscribers if none is left; returns whether none is left."""
        with self._lock:
            self._is_shut = not self._subscribers
            return self._is_shut

    # A subscriber's socket.

    def check_soon(self, subscriber: Subscriber) -> None:
        """Have the pump check ``subscriber``. Without the lock."""
        self._to_check.append(subscriber)

    def check_all_soon(self, subscribers: Iterable[Subscriber]) -> None:
        """Have the pump check these subscribers. Without the lock."""
        self._to_check.extend(subscribers)

    def next_to_check(self) -> Subscriber | None:
        """Take the next subscriber to check, ``None`` if there is no such. The pump's thread, without the lock."""
        return self._to_check.popleft() if self._to_check else None

    def watch(self, subscriber: Subscriber) -> None:
        """Wait for a subscriber's socket to become writable if it is blocked; else stop waiting for that."""
        with self._lock:
            if subscriber.state.is_closed:
                return
            is_blocked = subscriber.is_blocked
            if not self.watcher.watch(subscriber, reading=is_watched_for_reading(subscriber), writing=is_blocked):
                self._lose(subscriber)
            if subscriber.state.is_retired:
                # Its stream has no deadline any more. A connection that takes nothing for long is cut.
                subscriber.deadline = time.monotonic() + self._grace if is_blocked else NEVER
                self._timers.add(subscriber.deadline, subscriber)

    def hear(self, subscriber: Subscriber) -> None:
        """See why a socket is readable: its client has hung up, or has sent something after its request."""
        with self._lock:
            if subscriber.state.is_closed:
                return
            hung_up = subscriber.has_hung_up()
            if hung_up is None:
                return
            # The socket stays readable from now on, so it can tell nothing new.
            if not self.watcher.watch(subscriber, reading=False, writing=is_watched_for_writing(subscriber)):
                self._lose(subscriber)
            if hung_up:
                self._end(subscriber, EndReason.GONE, time.monotonic())

    def hear_from_server(self, subscriber: SocketSubscriber) -> bool:
        """See why the server found a parked socket readable; returns whether it may tell something new later."""
        with self._lock:
            if subscriber not in self._subscribers:
                return not subscriber.state.is_closed  # the thread of its request is about to add it
            hung_up = subscriber.has_hung_up()
            if hung_up and subscriber.end_reason is None:  # else its last bytes are on their way
                self._lose(subscriber)  # only the pump's thread may end it
            return hung_up is None

    def _lose(self, subscriber: Subscriber) -> None:
        subscriber.lose_connection()  # as its socket cannot be watched, or its client has hung up
        self._to_check.append(subscriber)

    # Events arrive, and timers are due. The pump's thread.

    def deliveries(self, page: Page) -> list[Delivery]:
        """Move the position to a page's last event; returns the deliveries of its events.

        :raises HistoryGone: the log was recreated, and its events would get ids of the old epoch.
        """
        with self._lock:
            if self._recent.epoch != self._log.epoch:
                raise HistoryGone("epoch")
            # All events are encoded before the position moves. If one cannot be encoded, half a page must not be
            # handed out.
            deliveries = self._audiences.deliveries(page, self._recent.epoch)
            self.position = page[-1].sequence
            self._recent.add(page)
        return deliveries

    def skip_to(self, position: int, missed: Sequence[Disconnection] | None = None) -> None:
        """Continue after a gap: all streams end, and their clients resume from the log, each by its own id.

        :param missed: the disconnections in the gap; ``None``, the default, if they are not known.

        This is one step. Otherwise a stream that attaches in between would have the old position and miss events.
        """
        with self._lock:
            now = time.monotonic()
            for subscriber in tuple(self._subscribers):
                self._end(subscriber, EndReason.BEHIND, now)
            self.position = position
            self._recent.restart(position)
            if missed is None:
                self._owners.begin(now, ())
            else:
                for each in missed:
                    self._owners.note(each)

    def next_timer(self) -> float:
        """When to call :meth:`run_timers` next (monotonic)."""
        with self._lock:
            return self._timers.next()

    def run_timers(self, now: float) -> DueTimers:
        """Send heartbeats, end leases, and cut connections that take too long to end."""
        abandoned: list[Subscriber] = []
        stuck: list[Subscriber] = []
        is_one_doubtful = False
        with self._lock:
            for subscriber in self._timers.due(now):
                if subscriber.can_be_abandoned:
                    verdict = abandonment(subscriber)
                    is_one_doubtful = is_one_doubtful or verdict is not Abandonment.NO
                    if verdict is Abandonment.CERTAIN:
                        abandoned.append(subscriber)
                        continue
                if subscriber.end_reason is not None:
                    if now >= subscriber.deadline:
                        if subscriber.state is not State.CUT:
                            stuck.append(subscriber)
                        self._cut(subscriber, now)
                elif now >= subscriber.deadline:
                    self._end(subscriber, EndReason.LEASE, now)
                else:
                    if subscriber.deliver_heartbeat(HEARTBEAT):
                        self._to_check.append(subscriber)
                    next_time = min(now + (self._pace.heartbeat or 0.0), subscriber.deadline)
                    self._timers.add(next_time, subscriber, self._grain)
        return DueTimers(abandoned, is_one_doubtful, stuck)

    # Presence.

    @property
    def has_unlisted(self) -> bool:
        """Whether :meth:`take_unlisted` has something. Without the lock."""
        return self._audiences.has_unasked

    def take_unlisted(self) -> set[tuple[str, ...]]:
        """The channels of new subscribers that get presence, each set of channels once. The pump's thread."""
        with self._lock:
            return self._audiences.take_unasked()

    @property
    def has_presence(self) -> bool:
        """Whether a subscriber gets presence."""
        with self._lock:
            return self._audiences.has_presence

    def shows_presence(self, channel: str) -> bool:
        """Whether a subscriber to this channel gets presence."""
        with self._lock:
            return self._audiences.shows_presence(channel)

    def presence_deliveries(self, notices: PresenceNotices) -> list[Delivery]:
        """The deliveries of events about presence. The pump's thread."""
        with self._lock:
            return self._audiences.presence_deliveries(notices)

    # Forks.

    def before_fork(self) -> None:
        """Hold the lock, so that no step is half done in the child."""
        self._is_locked_for_fork = self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Release the lock, if this fork took it: a signal handler may have raised before."""
        if self._is_locked_for_fork:
            self._is_locked_for_fork = False
            self._lock.release()
