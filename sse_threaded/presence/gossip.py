"""Presence in one process: a thread that tells the other processes its people, and knows those of all processes.

The thread starts when presence is used for the first time, and ends a while after its last use. It appends
messages to the log, which may take long; so it is not the pump's thread. The pump hands it the messages of all
processes, and gets from it the events for clients.

Any thread may call the methods of :class:`Presence`, except those that say otherwise.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import HistoryGone, HubClosed, LogError, LogUnavailable
from ..fanout.budget import Overloaded
from ..fanout.control_events import CONTROL, disconnection_in
from ..fanout.presence_notices import PresenceNotices
from ..fanout.presence_port import PresencePort
from ..fanout.pump import Pump
from ..log import EventLog, Record
from ..log.retention import MESSAGES
from ..throttled_log import ThrottledLog
from .blocks import Blocks
from .directory import Directory
from .member import Member, Removal
from .messages import Body, Bye, Hello, Message, UnknownMessage, decode, encode, moves
from .times import PresenceTimes

_log = logging.getLogger(__name__)
_throttled = ThrottledLog(_log)  # while the log cannot be written, each try would write a line

# Seconds between two tries to append a message, doubling from the first to the last.
_FIRST_RETRY, _LAST_RETRY = 0.25, 4.0

# How often the messages before the start are read, if some of them are trimmed during that.
_HISTORY_TRIES = 3

# Seconds after a defect, before presence begins again.
_AFTER_DEFECT = 1.0

# Seconds that people() waits at most for the list, besides the time that a process needs to begin.
_PATIENCE = 5.0

# Seconds that the end of the hub waits for the last messages at least, even if its own time is over.
_LEAST_FAREWELL = 0.25


def _fields_of(error: LogError) -> dict[str, str]:
    return {"event": "presence_log", "url": error.url, "error": type(error).__name__}


class Presence:
    """The people of each channel, over all processes that share a log.

    :param log: the log.
    :param pump: reads the log, and sends to clients.
    :param times: the times; the thread takes them when it starts.

    :ivar times: as given.
    """

    def __init__(self, log: EventLog, pump: Pump, times: PresenceTimes) -> None:
        self._eventlog = log
        self._pump = pump
        self.times = times
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # guards the three below
        self._session: _Session | None = None
        self._used = 0.0  # monotonic
        self._is_closed = False

    def start(self) -> None:
        """Start the thread, if it does not run.

        :raises Overloaded: the system refuses a thread.
        :raises HubClosed: the hub is closed.
        :raises LogError: the log cannot be read.
        """
        self._running()

    def _running(self) -> _Session:
        with self._lock:
            self._used = time.monotonic()  # in one step with the look at the session, which may be about to end
            if self._session is not None:
                return self._session
        self._pump.start()
        with self._lock:
            if self._is_closed:
                raise HubClosed("the hub is closed")
            if self._session is None:
                session = _Session(self._eventlog, self._pump, self.times, self._may_end)
                session.start()
                self._session = session
            return self._session

    def _may_end(self) -> bool:
        """Whether presence was not used for long, and no stream shows it. The next use then begins a session."""
        with self._lock:
            if time.monotonic() - self._used < self.times.idle or self._pump.presence.is_shown:
                return False
            self._session = None
            return True

    def people(self, channel: str) -> list[str]:
        """Return the people of a channel, sorted. It waits until this process knows all.

        :raises Overloaded: the system refuses a thread.
        :raises HubClosed: the hub is closed.
        :raises LogError: the log cannot be read, or not be written.
        """
        return self._running().people(channel)

    def count(self, channel: str) -> int:
        """Return how many people a channel has; as :meth:`people`."""
        return self._running().count(channel)

    def close(self, timeout: float) -> None:
        """Tell the other processes that this one ends; idempotent. The pump has ended before.

        :param timeout: seconds to wait for that. If the log takes no message in this time, the others find out.
        """
        with self._lock:
            self._is_closed = True
            session = self._session
        if session is not None:
            session.close(max(timeout, _LEAST_FAREWELL))

    def after_fork_in_child(self) -> None:
        """Begin without a thread: it stayed with the parent."""
        is_closed = self._is_closed
        self._begin()
        self._is_closed = is_closed


class _Session:
    """The thread, from its start to its end.

    :param log: the log.
    :param pump: the pump, which has started.
    :param times: the times.
    :param may_end: whether it may end, as presence is not used; asked while this process has no people. If so, it
        ends.
    """

    def __init__(self, log: EventLog, pump: Pump, times: PresenceTimes, may_end: Callable[[], bool]) -> None:
        self._eventlog = log
        self._pump = pump
        self._port: PresencePort = pump.presence
        self._attendance = self._port.attendance
        self._times = times
        self._may_end = may_end
        self._wake = threading.Event()
        self._is_closing = False
        # The pump hands over records in the log's order, None for a gap, and the channels of new streams.
        self._inbox: deque[Sequence[Record] | None] = deque()
        self._wishes: deque[set[tuple[str, ...]]] = deque()
        # Guards the member and its directory: other threads read them.
        self._lock = threading.Lock()
        self._synced = threading.Event()
        self._failure: LogError | None = None  # of the newest try to append
        # Only its thread uses all below.
        self._blocks = Blocks()
        self._wanted: set[tuple[str, ...]] = set()  # the channels of streams that have no list
        self._has_warned = False
        self._outbox: deque[Message] = deque()  # to append
        # After a defect: whether to begin as another member, and whether the pages need whole lists again.
        self._must_join = self._shows_all = False
        self._failures = 0
        # When to do these things next (monotonic).
        self._next_try = self._next_batch = self._next_show = self._next_count = 0.0
        self._join(None)

    def _join(self, directory: Directory | None) -> None:
        """Begin as a new member, with people to begin with."""
        self._synced.clear()
        self._member = Member(secrets.token_hex(6), self._times, directory)
        self._number = 0
        self._put(Hello())
        # The others do not know the people of this process yet.
        for body in moves((), self._attendance.take_all()):
            self._put(body)

    # Any thread.

    def start(self) -> None:
        """Start the thread.

        :raises Overloaded: the system refuses it.
        """
        self._attendance.on_change = self._wake.set
        self._port.listener = self  # from here on the pump hands over all messages
        thread = threading.Thread(target=self._run, name="sse_threaded presence", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._port.listener = None
            raise Overloaded("the system gives no more threads") from error
        self._thread = thread

    def people(self, channel: str) -> list[str]:
        """See :class:`Presence`."""
        self._wait_until_synced()
        with self._lock:
            return self._member.directory.people(channel)

    def count(self, channel: str) -> int:
        """See :class:`Presence`."""
        self._wait_until_synced()
        with self._lock:
            return self._member.directory.count(channel)

    def _wait_until_synced(self) -> None:
        # While messages cannot be written, no thread of the server waits for long.
        is_synced = self._synced.wait(_LEAST_FAREWELL if self._failures else self._times.sync + _PATIENCE)
        if self._is_closing:
            raise HubClosed("the hub is closed")
        if is_synced:
            return
        reason = "the people are not known here: the log cannot be written, or not be read"
        raise LogUnavailable(self._eventlog.url, reason) from self._failure

    def close(self, timeout: float) -> None:
        """End the thread, which says farewell first; wait so many seconds at most."""
        self._is_closing = True
        self._synced.set()  # no thread waits any longer
        self._wake.set()
        self._thread.join(timeout)

    # The pump's thread; see PresenceListener.

    def hear(self, records: Sequence[Record]) -> None:
        """See :class:`.fanout.presence_port.PresenceListener`."""
        self._inbox.append(records)
        self._wake.set()

    def note_gap(self) -> None:
        """See :class:`.fanout.presence_port.PresenceListener`."""
        self._inbox.append(None)
        self._wake.set()

    def want(self, channels: set[tuple[str, ...]]) -> None:
        """See :class:`.fanout.presence_port.PresenceListener`."""
        self._wishes.append(channels)
        self._wake.set()

    # The thread itself.

    def _run(self) -> None:
        is_over = False
        while not is_over:
            try:
                is_over = self._turn()
            except Exception:
                _log.exception("presence failed, and begins again", extra={"event": "presence_failed"})
                if self._is_closing:
                    return
                time.sleep(_AFTER_DEFECT)
                self._must_join = True

    def _turn(self) -> bool:
        """Do the work that is due, then wait; returns whether this was the end."""
        now = time.monotonic()
        if self._must_join:
            self._join_again(now)
            self._must_join, self._shows_all = False, True
        self._read_inbox(now)
        is_end = self._is_closing or (self._pump.is_closing and not self._attendance.has_streams)
        if not self._outbox and (is_end or now >= self._next_batch):
            self._write(now, is_end)
        if not is_end and self._attendance.is_empty and not self._wanted:
            is_end = self._may_end()
        if is_end:
            self._put(Bye())
        self._append_all(is_end)
        if is_end:
            if self._port.listener is self:  # else another session has begun
                self._port.listener = None
            return True
        self._show(time.monotonic())
        if not (self._inbox or self._wishes):
            self._wake.wait(max(self._next_turn() - time.monotonic(), 0.0))
        self._wake.clear()
        return False

    def _next_turn(self) -> float:
        """When to look again, unless something happens."""
        now = time.monotonic()
        times = [now + (self._times.batch if self._pump.is_closing else self._times.idle)]
        if self._outbox:
            times.append(self._next_try)
        else:
            due = min(self._attendance.next_change(), self._member.next_due(now))
            times.append(max(due, self._next_batch))
        if self._member.is_synced:
            if self._wanted or self._member.directory.has_changes:
                times.append(self._next_show)
            if self._blocks.has_counts:
                times.append(max(self._next_count, self._next_show))
        return min(times)

    # Reading.

    def _read_inbox(self, now: float) -> None:
        while self._wishes:
            self._wanted |= self._wishes.popleft()
        while self._inbox:
            records = self._inbox.popleft()
            if records is None:
                self._join_again(now)
                continue
            for record in records:
                self._take(record, now)

    def _join_again(self, now: float) -> None:
        """Begin as another member, as messages may be missing. The people whom the last one knew are listed on."""
        with self._lock:
            member = self._member
            for name in member.processes:
                member.directory.drop(name, now, now + self._times.grace)
            self._outbox.clear()
            self._put(Bye())  # of the last one
            self._join(member.directory)

    def _take(self, record: Record, now: float) -> None:
        message = self._message_in(record)
        if message is None:
            return
        if self._member.has_begun:
            with self._lock:
                self._member.receive(record.sequence, message, now)
        elif isinstance(message, Message) and message.sender == self._member.name:
            history = self._history(record.sequence - 1)
            with self._lock:
                self._member.begin(record.sequence, history, time.monotonic(), time.time())

    def _message_in(self, record: Record) -> Message | Removal | None:
        if record.channel == CONTROL:
            found = disconnection_in(record)
            return None if found is None else Removal(found.user, found.channel)
        try:
            return decode(record.data)
        except UnknownMessage as error:
            if not self._has_warned:
                self._has_warned = True
                fields = {"event": "message_unknown", "error": str(error)}
                _log.warning("a message about presence is not known here, and ignored: %s", error, extra=fields)
            return None

    def _history(self, upto: int) -> list[tuple[int, Message]]:
        """Read the messages up to a number that the log still has."""
        tries = _HISTORY_TRIES
        while tries and not self._is_closing:
            found: list[tuple[int, Message]] = []
            try:
                after = self._eventlog.trimmed((MESSAGES,))
                while page := self._eventlog.read(after, channels=(MESSAGES,), upto=upto):
                    after = page[-1].sequence
                    for record in page:
                        message = self._message_in(record)
                        if isinstance(message, Message):
                            found.append((record.sequence, message))
                return found
            except HistoryGone:
                tries -= 1  # some were trimmed just now, or the log was created again
            except LogError as error:
                _throttled.warning("history", "presence cannot read the log: %s", error, extra=_fields_of(error))
                time.sleep(_LAST_RETRY)
        return []

    # Writing.

    def _put(self, body: Body) -> None:
        self._number += 1
        self._outbox.append(Message(self._member.name, self._number, time.time(), body))

    def _write(self, now: float, is_end: bool) -> None:
        """Make the messages that are due."""
        if not is_end:
            with self._lock:
                due = self._member.due(now, self._attendance.take_all)
            for body in due:
                self._put(body)
        moved = self._attendance.take(at_end=is_end)
        for body in moves(moved.went, moved.came):
            self._put(body)
        if self._outbox:
            self._next_batch = now + self._times.batch

    def _append_all(self, is_end: bool) -> None:
        """Append the messages. If the log does not take one, it is tried again later."""
        if time.monotonic() < self._next_try and not is_end:
            return
        while self._outbox:
            try:
                self._eventlog.append(MESSAGES, encode(self._outbox[0]))
            except LogError as error:
                self._failure = error
                if not is_end:
                    text = "presence cannot write the log: %s"
                    _throttled.warning("append", text, error, extra=_fields_of(error))
                self._next_try = time.monotonic() + min(_FIRST_RETRY * (1 << self._failures), _LAST_RETRY)
                self._failures = min(self._failures + 1, 10)
                return
            self._outbox.popleft()
        self._failures, self._failure = 0, None

    # Showing.

    def _show(self, now: float) -> None:
        """Hand the changes to the pump, and the lists for new streams."""
        if not self._member.is_synced:
            return
        self._synced.set()
        if now < self._next_show:
            return
        with self._lock:
            notices = self._notices(now)
        if notices.changes or notices.lists:
            self._next_show = now + self._times.batch
            self._port.send(notices)

    def _notices(self, now: float) -> PresenceNotices:
        directory, blocks = self._member.directory, self._blocks
        changes: list[tuple[str, bytes]] = []
        for change in directory.take_changes():
            if not self._port.shows(change.channel):
                blocks.forget(change.channel)
                continue
            wire = blocks.change(change, directory)
            if wire is not None and not self._shows_all:
                changes.append((change.channel, wire))
        if self._shows_all:  # the pages may have missed a change
            self._shows_all = False
            shown = filter(self._port.shows, directory.channels())
            changes += [(channel, blocks.list(channel, directory)) for channel in shown]
        if blocks.has_counts and now >= self._next_count:
            self._next_count = now + self._times.between_counts
            changes += blocks.counts(directory)
        wanted, self._wanted = self._wanted, set()
        wires = {channel: blocks.list(channel, directory) for channels in wanted for channel in channels}
        return PresenceNotices(changes, [(channels, [wires[each] for each in channels]) for channels in wanted])
