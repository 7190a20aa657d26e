"""A log: events in one order, each with an id, kept for a while, and a doorbell.

``publish`` returns once the event is in the log, and fan-out reads only the log. So all processes and all clients
see one order. Any thread may call every method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..errors import HistoryGone, LogError, LogUnusable
from ..protocol.event import JSONDefault
from .event_id import parse_event_id

if TYPE_CHECKING:
    from .doorbell import Doorbell
    from .record import Page, Record

_LUA = "Lua needs a log in Redis (redis://host:6379/0); other logs have transaction() and snapshot()"


class NestedTransaction(LogError):
    """This thread has a transaction or snapshot of the log open, and would wait for itself.

    :ivar url: the log's URL, without a password.
    :ivar reason: the cause and the remedy, in one sentence.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, "this thread has a transaction or snapshot open; use that, or end it first")


class TransactionOver(LogError):
    """The transaction's block was left, or the caller has ended the transaction; nothing more can be appended.

    :ivar url: the log's URL, without a password.
    :ivar reason: the cause and the remedy, in one sentence.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, "this transaction is over; append inside its block, or begin another one")


def needs_database(url: str, what: str) -> LogUnusable:
    """Return the error for a feature that only a log in SQLite or PostgreSQL has.

    :param url: the log's, without a password.
    :param what: the feature, as the beginning of a sentence.
    """
    others = "write hub.log.run() for a log in Redis" if url.startswith("redis") else "this log has no database"
    return LogUnusable(url, f"{what} needs a log in SQLite or PostgreSQL; {others}")


class Snapshot(ABC):
    """The log at one moment. The log makes it, and one thread uses it.

    :param url: the log's, without a password.
    :ivar has_connection: whether :attr:`connection` can be used: ``True`` for a log in SQLite or PostgreSQL, else
        ``False``.
    """

    has_connection = False

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def connection(self) -> Any:
        """The connection, inside the open transaction, for the caller's own rows.

        It is a :class:`sqlite3.Connection`, or psycopg's. Do not commit on it.

        :raises LogUnusable: the log is in neither SQLite nor PostgreSQL.
        """
        raise needs_database(self._url, "the connection of a transaction or snapshot")

    @abstractmethod
    def last_event_id(self) -> str:
        """Return the id of the newest event that it sees.

        :raises LogError: the log cannot be read.
        """


class Transaction(Snapshot):
    """Several steps on the log that take effect together. One thread uses it.

    :ivar over: whether its block was left; then nothing more can be appended.
    :ivar json_default: that of its log.
    """

    over = False
    json_default: JSONDefault | None = None

    @abstractmethod
    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """Append an event if, and only if, the transaction commits; returns its id.

        :param channel: its channel, 1 to 255 characters.
        :param data: text, or anything JSON can write.
        :param event: its type; ``None``, the default, for ``message``.
        :raises InvalidEvent: the values cannot be an event.
        :raises TransactionOver: the block was left, or the caller has committed.
        :raises LogError: the event could not be written; leave the block by this error.
        """

    @abstractmethod
    def newest(self, channel: str) -> Record | None:
        """Return the newest event of a channel; ``None`` if it has none.

        After the first :meth:`append` of this transaction, no other can append until this one ends. So an answer
        after that holds until the commit.

        :param channel: the name of a channel to which this transaction has not appended.
        :raises LogError: the log cannot be read; leave the block by this error.
        """


class EventLog(ABC):
    """The interface of all engines; :func:`sse_threaded.open_log` makes one from a URL.

    Each engine promises:

    - Numbers follow the order in which events become visible. A reader that has seen a number never finds a new
      event with a smaller one. A number may be unused.
    - An event is visible to all processes as soon as ``append`` returns its id. If ``append`` raises
      :exc:`LogError`, the event is not in the log, unless only the answer was lost.
    - Doorbells ring after an event became visible, and never before. A ring may be lost if a process dies, so
      readers also look once in ``poll_interval`` seconds.
    - If events of the wanted channels are no longer there, ``read`` raises :exc:`HistoryGone`, and does not leave
      them out. An id of another epoch is never taken for one of this log.

    :ivar url: where it is, without a password.
    :ivar poll_interval: seconds after which a reader looks at the log even if no doorbell has rung; ``None``:
        never.
    :ivar json_default: returns a value that JSON can write in place of one that it cannot, as ``default`` of
        :func:`json.dumps` does; ``None``, the default: such an event is refused. Set it before the first append.
    :ivar rings_first: whether ``append`` has rung the doorbells of this process when it returns; default ``True``.
    """

    url: str
    json_default: JSONDefault | None = None
    poll_interval: float | None = None
    rings_first = True

    @property
    @abstractmethod
    def epoch(self) -> str:
        """The random letters that all ids of this log begin with.

        :raises LogError: the log could not be opened until now, and cannot be opened now either.
        """

    # Writing.

    @abstractmethod
    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """Append one event and ring; returns its id once the event is in the log.

        :param channel: its channel, 1 to 255 characters.
        :param data: text, or anything JSON can write.
        :param event: its type; ``None``, the default, for ``message``.
        :param connection: the app's own connection to the log's database: for SQLite a
            :class:`sqlite3.Connection` to the log's file. The event is then a part of the transaction that is open
            there, and does not ring: call :meth:`ring` after the commit. In PostgreSQL it has no id before the
            commit, and ``""`` is returned. ``None``, the default: a transaction of its own.
        :raises InvalidEvent: the values cannot be an event.
        :raises NestedTransaction: this thread has a transaction open.
        :raises LogUnusable: the log is in neither SQLite nor PostgreSQL, or the connection is to another database.
        :raises LogError: the event is not in the log.
        """

    def run(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua inside Redis, in one step with the events that it appends, if the log is in Redis.

        :param body: see :meth:`sse_threaded.log.redis.log.RedisLog.run`.
        :param args: the body's arguments.
        :raises LogUnusable: the log is not in Redis.
        """
        raise LogUnusable(self.url, _LUA)

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin a write transaction: it commits and rings at the end of the block; an exception rolls all back.

        A process can have one open at a time. Do in it only the steps that must happen together.

        :raises NestedTransaction: this thread has a transaction open.
        :raises LogError: it could not begin, or could not commit; then nothing of it happened.
        """

    # Reading.

    def look(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua that changes nothing inside Redis, if the log is in Redis.

        :param body: see :meth:`sse_threaded.log.redis.log.RedisLog.look`.
        :param args: the body's arguments.
        :raises LogUnusable: the log is not in Redis.
        """
        raise LogUnusable(self.url, _LUA)

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Begin a read transaction: the caller's rows, and the last event ID that belongs to them.

        Nothing can be changed in it. Be quick: every other reader of this process waits for the end of the block.

        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def last_sequence(self) -> int:
        """Return the newest event's number, 0 before the first.

        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """Return one page of events, oldest first; an empty page means that there are no more events.

        :param after: the number after which to read.
        :param channels: only these channels; ``None``, the default, for all.
        :param upto: the last number that is wanted; ``None``, the default, for no bound.
        :raises HistoryGone: some of the wanted events have been trimmed, or are lost.
        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def newest(self, channel: str) -> Record | None:
        """Return the channel's newest event, ``None`` if it has none now.

        :raises LogError: the log cannot be read, or was recreated just now.
        """

    @abstractmethod
    def trimmed(self, channels: Collection[str]) -> int:
        """Return the newest number that was trimmed from one of these channels, 0 for none.

        After it, the log has all their events.

        :raises LogError: the log cannot be read, or was recreated just now.
        """

    def own_events(self, after: int) -> Page | None:
        """Return events without a look at the log: those that :meth:`append` of this process has just appended.

        Events of others may follow them, and these will ring. So call it only if all rings since the last reading
        were for events of this process (see :meth:`Doorbell.clear`).

        :param after: the number after which to read.

        It returns ``None``, also by default, if the log must be read.
        """
        return None

    def event_id(self, sequence: int) -> str:
        """Return the id of the event with this number."""
        return f"{self.epoch}-{sequence}"

    def last_event_id(self) -> str:
        """Return the id of the newest event; ``<epoch>-0`` before the first.

        :raises LogError: the log cannot be read.
        """
        while True:
            epoch = self.epoch
            last = self.last_sequence()
            if epoch == self.epoch:  # otherwise they do not belong together
                return f"{epoch}-{last}"

    def sequence_of(self, last_event_id: str, *, known: int = 0) -> int:
        """Return the number in a last event ID that a client has sent.

        :param last_event_id: any text.
        :param known: the log is known to have given the numbers up to this one, so they need no look. Default 0.
        :raises HistoryGone: it is ``malformed``, of another ``epoch``, or ``beyond`` the log's end.
        :raises LogError: the log cannot be read.
        """
        epoch, sequence = parse_event_id(last_event_id)
        if epoch != self.epoch:
            raise HistoryGone("epoch")
        if sequence > known and sequence > self.last_sequence():
            raise HistoryGone("beyond")
        return sequence

    def check(self) -> str:
        """Try what publishing needs, without a change; returns the id of the newest event. For health checks.

        :raises LogError: an event could not be published now, or the log cannot be read.
        """
        return self.last_event_id()

    # Doorbells, trimming and the end.

    @abstractmethod
    def open_doorbell(self) -> Doorbell:
        """Return a new doorbell that every append of every process rings; the caller closes it.

        :raises LogError: the log cannot be opened now.
        """

    @abstractmethod
    def ring(self) -> None:
        """Ring all doorbells. Call it after a commit on a connection of your own."""

    @abstractmethod
    def trim(self) -> int:
        """Trim all channels now; returns how many events were deleted. The log also trims by itself, in steps.

        :raises LogError: the log cannot be written now.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files, connections and threads; idempotent."""

    @abstractmethod
    def before_fork(self) -> None:
        """Wait until no thread of this process uses the log, and keep all out until :meth:`after_fork`."""

    @abstractmethod
    def after_fork(self, in_child: bool) -> None:
        """Let the threads use the log again.

        :param in_child: in the child process; it drops what belongs to its parent.
        """
